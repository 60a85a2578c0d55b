//! The way down under load: SIGTERM with two hundred open streams and callers who do not stop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{Routing, WatchStart, WatchStatusChangesRequest};
use countersign_test_support::binary::Process;
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Service};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const STREAMS: usize = 200;
const STREAMS_PER_CONNECTION: usize = 50;
const CALLERS: usize = 6;
/// All that SIGTERM may take.
const LONGEST: Duration = Duration::from_secs(25);

/// What a stream has told, and where it goes on.
#[derive(Default)]
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

/// Creates envelopes until the process is gone; which were acknowledged, and with what the first refused one was refused.
async fn create(caller: Caller, over: Arc<AtomicBool>) -> (Vec<String>, Option<Status>) {
    let mut made = Vec::new();
    while !over.load(Ordering::Relaxed) {
        match caller.create(request(1, Routing::Parallel, true)).await {
            Ok(envelope) => made.push(envelope.id),
            Err(status) => return (made, Some(status)),
        }
    }
    (made, None)
}

/// T-36: the process ends in time, calls are answered or told UNAVAILABLE, streams end where they can be resumed, and nothing that
/// was acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn t36_sigterm_under_load_loses_nothing() {
    let (seed, documents) = (Service::start().await, tempfile::tempdir().unwrap());
    let (sender, notifier) = (seed.account(false).await, seed.notifier(""));
    let process = Process::beside(&seed, documents.path(), &[]).await;
    let (database, _seed) = seed.stop().await;
    let over = Arc::new(AtomicBool::new(false));
    let listening: Vec<_> = (0..STREAMS / STREAMS_PER_CONNECTION)
        .map(|_| process.caller(&notifier))
        .flat_map(|caller| vec![caller; STREAMS_PER_CONNECTION])
        .map(|caller| {
            tokio::spawn(async move {
                let mut heard = Heard::default();
                let ended = heard.listen(&caller, usize::MAX).await;
                (heard, ended)
            })
        })
        .collect();
    let creating: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(create(process.caller(&sender), Arc::clone(&over)))).collect();
    let created = "SELECT count(*) FROM envelope";
    while database.number(created).await < 30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let began = Instant::now();
    let mut process = process;
    let pid = process.child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let exit = tokio::time::timeout(LONGEST, process.child.wait()).await.expect("it ends in time").unwrap();
    assert!(exit.success(), "{exit}, after {:?}", began.elapsed());
    over.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeSet::new();
    for creating in creating {
        let (made, refused) = creating.await.unwrap();
        if let Some(refused) = refused {
            // What finds its connection closed before it is sent has other codes in tonic's client, and nothing that the service said.
            let is_unsent = refused.get_details_error_info().is_none();
            assert!(is_unsent || refused.code() == Code::Unavailable, "{refused:?}");
        }
        acknowledged.extend(made);
    }
    let mut all_heard = Vec::new();
    for listening in listening {
        let (heard, ended) = listening.await.unwrap();
        assert!(matches!(ended, Some(Code::Ok | Code::Unavailable)), "{ended:?}");
        assert!(!heard.token.is_empty(), "a stream that was open has a place to go on");
        all_heard.push(heard);
    }

    // Another goes on where that one stood.
    let service = Service::start_on(database, countersign_chassis::clock::Clock::database(), documents).await;
    let events = usize::try_from(service.database.number("SELECT count(*) FROM event").await).unwrap();
    let caller = Caller { channel: service.channel.clone(), ..notifier.clone() };
    for mut heard in all_heard.into_iter().step_by(10) {
        let rest = tokio::time::timeout(Duration::from_secs(30), heard.listen(&caller, events)).await;
        assert_eq!(rest.expect("all events come"), None);
        let once: BTreeSet<_> = heard.events.iter().cloned().collect();
        assert_eq!(once.len(), events, "each event once");
        assert!(acknowledged.iter().all(|id| once.iter().any(|(envelope, _)| envelope == id)));
    }
}
