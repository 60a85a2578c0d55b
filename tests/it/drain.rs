//! The way down under load: SIGTERM with two hundred open streams and callers who do not stop.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{CreateEnvelopeRequest, Routing, WatchStart, WatchStatusChangesRequest};
use countersign_test_support::binary::Process;
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Database, Service};
use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

const STREAMS: usize = 200;
const STREAMS_PER_CONNECTION: usize = 50;
const CALLERS: usize = 12;
/// All that SIGTERM may take.
const LONGEST: Duration = Duration::from_secs(25);
/// How long a stream may take to tell what it has not told yet.
const REST_MAX: Duration = Duration::from_secs(60);

/// What a stream has told, and where it goes on.
#[derive(Clone, Default)]
struct Heard {
    events: Vec<(String, u64)>,
    token: String,
}

impl Heard {
    /// Listens until the stream ends, or has told of so many events in all. How the stream ended, if it did.
    async fn listen(&mut self, caller: &Caller, events_max: usize) -> Option<Code> {
        let (resume_token, start) = (self.token.clone(), WatchStart::Oldest.into());
        let request = WatchStatusChangesRequest { resume_token, start, ..Default::default() };
        let mut stream = match caller.envelopes().watch_status_changes(request).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return Some(status.code()),
        };
        while self.events.len() < events_max {
            match stream.next().await {
                Some(Ok(message)) => {
                    if let Some(Item::Event(event)) = message.item {
                        self.events.push((event.envelope_id, event.sequence));
                    }
                    self.token = message.resume_token;
                }
                Some(Err(status)) => return Some(status.code()),
                None => return Some(Code::Ok),
            }
        }
        None
    }
}

/// A request that was sent, or was to be: by its key, which its envelope bears too; the envelope, or what it was refused with.
struct Asked {
    key: String,
    answer: Result<String, Status>,
}

fn creation(key: &str) -> CreateEnvelopeRequest {
    let (idempotency_key, external_reference) = (key.to_owned(), key.to_owned());
    CreateEnvelopeRequest { idempotency_key, external_reference, ..request(1, Routing::Parallel, true) }
}

/// Creates envelopes until one is refused.
async fn create(caller: Caller, lane: usize, over: Arc<AtomicBool>) -> Vec<Asked> {
    let mut asked = Vec::new();
    while !over.load(Ordering::Relaxed) && asked.last().is_none_or(|last: &Asked| last.answer.is_ok()) {
        let key = format!("{lane}-{}", asked.len());
        let answer = caller.create(creation(&key)).await.map(|envelope| envelope.id);
        asked.push(Asked { key, answer });
    }
    asked
}

/// Whether a request is known never to have been taken up: its connection was closed before it left, or GOAWAY told that it
/// came too late. tonic has no code of its own for that, so it is as hyper and h2 word it.
fn is_unsent(refused: &Status) -> bool {
    let why = format!("{:?}", refused.source());
    ["Canceled", "GoAway"].iter().any(|kind| why.contains(kind))
}

/// Asserts that a refusal may be answered by the same request again, and that one which was never taken up has done nothing.
async fn assert_retriable(database: &Database, asked: &Asked) {
    let Err(refused) = &asked.answer else { return };
    if refused.code() == Code::Unavailable {
        return;
    }
    assert!(is_unsent(refused), "{}: {refused:?}", asked.key);
    assert_eq!(made(database, &asked.key).await, 0, "{}: {refused:?}", asked.key);
}

/// Envelopes of that key.
async fn made(database: &Database, key: &str) -> i64 {
    database.number(&format!("SELECT count(*) FROM envelope WHERE external_reference = '{key}'")).await
}

/// Asks for everything again by the same keys: what was acknowledged is answered as it was, what was not is done, each once.
async fn repeat(service: &Service, sender: &Caller, asked: &[Asked]) {
    let caller = Caller { channel: service.channel.clone(), ..sender.clone() };
    for Asked { key, answer } in asked {
        let id = caller.create(creation(key)).await.unwrap().id;
        assert!(answer.as_ref().is_ok_and(|acknowledged| *acknowledged == id) || answer.is_err(), "{key}");
        assert_eq!(made(&service.database, key).await, 1, "{key}");
    }
    let all = service.database.number("SELECT count(*) FROM envelope").await;
    assert_eq!(usize::try_from(all).unwrap(), asked.len(), "nothing but that was made");
}

/// Goes on with each stream from where it stood, until it has told all events, each once.
async fn resume(service: &Service, notifier: &Caller, all_heard: Vec<Heard>) {
    let events = usize::try_from(service.database.number("SELECT count(*) FROM event").await).unwrap();
    let resumed = all_heard.chunks(STREAMS_PER_CONNECTION).flat_map(|of_one| {
        let channel = Endpoint::from_shared(format!("http://{}", service.address)).unwrap().connect_lazy();
        let caller = Caller { channel, ..notifier.clone() };
        of_one.iter().map(move |heard| (caller.clone(), heard.clone()))
    });
    let rest = resumed.map(|(caller, mut heard)| async move {
        let rest = async {
            // Who is told to come again does, from where they stand.
            while let Some(ended) = heard.listen(&caller, events).await {
                assert!(matches!(ended, Code::Ok | Code::Unavailable), "{ended:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(REST_MAX, rest).await.expect("all events come");
        heard.events.into_iter().collect::<BTreeSet<_>>().len()
    });
    for told in join_all(rest).await {
        assert_eq!(told, events, "each event once");
    }
}

/// Streams, so many on a connection, that listen until they end.
fn listening(process: &Process, notifier: &Caller) -> Vec<JoinHandle<(Heard, Option<Code>)>> {
    (0..STREAMS / STREAMS_PER_CONNECTION)
        .map(|_| process.caller(notifier))
        .flat_map(|caller| vec![caller; STREAMS_PER_CONNECTION])
        .map(|caller| {
            tokio::spawn(async move {
                let mut heard = Heard::default();
                let ended = heard.listen(&caller, usize::MAX).await;
                (heard, ended)
            })
        })
        .collect()
}

/// T-36: the process ends in time, calls are answered or can be repeated, streams end where they can be resumed, nothing that was
/// acknowledged is lost, and nothing is done twice.
#[tokio::test(flavor = "multi_thread")]
async fn t36_sigterm_under_load_loses_nothing() {
    let (seed, documents) = (Service::start().await, tempfile::tempdir().unwrap());
    let (sender, notifier) = (seed.account(false).await, seed.notifier(""));
    let mut process = Process::beside(&seed, documents.path(), &[]).await;
    let (database, _seed) = seed.stop().await;
    let over = Arc::new(AtomicBool::new(false));
    let listening = listening(&process, &notifier);
    let creating: Vec<_> =
        (0..CALLERS).map(|lane| tokio::spawn(create(process.caller(&sender), lane, Arc::clone(&over)))).collect();
    while database.number("SELECT count(*) FROM envelope").await < 30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let began = Instant::now();
    let pid = process.child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let exit = tokio::time::timeout(LONGEST, process.child.wait()).await.expect("it ends in time").unwrap();
    assert!(exit.success(), "{exit}, after {:?}", began.elapsed());
    over.store(true, Ordering::Relaxed);
    let asked: Vec<_> = join_all(creating).await.into_iter().flat_map(Result::unwrap).collect();
    for asked in &asked {
        assert_retriable(&database, asked).await;
    }
    let mut all_heard = Vec::new();
    for (heard, ended) in join_all(listening).await.into_iter().map(Result::unwrap) {
        assert!(matches!(ended, Some(Code::Ok | Code::Unavailable)), "{ended:?}");
        assert!(!heard.token.is_empty(), "a stream that was open has a place to go on");
        all_heard.push(heard);
    }

    // Another goes on where that one stood.
    let service = Service::start_on(database, countersign_chassis::clock::Clock::database(), documents).await;
    repeat(&service, &sender, &asked).await;
    resume(&service, &notifier, all_heard).await;
}
