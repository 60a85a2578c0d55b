//! The follower of the contract crate, against real services that come and go and lines that break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use countersign::follow::{Ended, Follower};
use countersign::v1::{Routing, WatchStart, WatchStatusChangesRequest};
use countersign_chassis::clock::Clock;
use countersign_test_support::{Caller, Errors as _, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use tonic::transport::Endpoint;

use super::{flood, settle};

/// A line to a service that can be cut, silenced and led elsewhere.
struct Wire {
    address: String,
    to: watch::Sender<String>,
    cut: watch::Sender<CancellationToken>,
    mute: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl Wire {
    async fn new(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (to, cut) = (watch::Sender::new(to.to_owned()), watch::Sender::new(CancellationToken::new()));
        let mute = Arc::new(AtomicBool::new(false));
        let (leads, cuts, silent) = (to.subscribe(), cut.subscribe(), Arc::clone(&mute));
        let task = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let (to, cut) = (leads.borrow().clone(), cuts.borrow().clone());
                let silent = Arc::clone(&silent);
                tokio::spawn(async move { cut.run_until_cancelled(line(near, to, silent)).await });
            }
        });
        Self { address, to, cut, mute, _task: AbortOnDropHandle::new(task) }
    }

    /// Cuts all lines wherever they are in a message.
    fn cut(&self) {
        self.cut.send_replace(CancellationToken::new()).cancel();
    }
}

async fn line(near: TcpStream, to: String, silent: Arc<AtomicBool>) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
    let up = async { tokio::io::copy(&mut near_in, &mut far_out).await.map(drop) };
    let down = async {
        // Small pieces, so that a cut falls into the middle of messages.
        let mut piece = [0; 700];
        loop {
            let bytes = far_in.read(&mut piece).await?;
            if bytes == 0 {
                return Ok(());
            }
            while silent.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            near_out.write_all(&piece[..bytes]).await?;
        }
    };
    let _: Result<_, std::io::Error> = tokio::try_join!(up, down);
}

fn through(wire: &Wire, caller: &Caller) -> Caller {
    let channel = Endpoint::from_shared(format!("http://{}", wire.address)).unwrap().connect_lazy();
    Caller { channel, ..caller.clone() }
}

fn oldest() -> WatchStatusChangesRequest {
    WatchStatusChangesRequest { start: WatchStart::Oldest.into(), ..Default::default() }
}

/// D3, T-36, S2.20: restarts, cut lines and a silent one: the follower's caller sees every event once and in order, and the
/// follower never says a word of it.
#[tokio::test(flavor = "multi_thread")]
async fn t36_a_follower_goes_on_through_restarts_cuts_and_silence() {
    let mut service = Service::start().await;
    let sender = service.account(false).await;
    let id = sender.story(1, Routing::Parallel).await.envelope.id;
    let wire = Wire::new(&service.address).await;
    let mut follower = Follower::new(through(&wire, &sender).envelopes(), oldest());
    let following = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 3 + 8 * 400 {
            // A caller who is impatient loses nothing by it.
            let Ok(step) = tokio::time::timeout(Duration::from_millis(7), follower.next()).await else { continue };
            let step = step.expect("it goes on");
            seen.extend(step.event.map(|event| event.sequence));
            assert!(!step.resume_token.is_empty());
        }
        seen
    });
    for round in 0..8 {
        flood(&service.database, &id, 200).await;
        // Before the events have come, amid them, or after.
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..120))).await;
        match round % 4 {
            0 | 2 => wire.cut(),
            1 => {
                let (database, documents) = service.stop().await;
                service = Service::start_on(database, Clock::database(), documents).await;
            }
            _ => {
                let database = service.database.clone();
                let documents = service.cut().await;
                // With a process its lines are gone as well.
                wire.cut();
                service = Service::start_on(database, Clock::database(), documents).await;
            }
        }
        wire.to.send_replace(service.address.clone());
        flood(&service.database, &id, 200).await;
        if round == 6 {
            // Three heartbeats pass without a word: the line counts as dead, and is left for another.
            wire.mute.store(true, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(4_500)).await;
            wire.mute.store(false, Ordering::Relaxed);
        }
    }
    let seen = tokio::time::timeout(Duration::from_secs(60), following).await.expect("in time").unwrap();
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>(), "each once, in order");
}

/// D3, T-36: a line over which nothing comes any more, not even the end, is left after three heartbeats; how long that is, the
/// service tells.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_follower_leaves_a_line_that_is_silent() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let opened = Arc::new(AtomicU32::new(0));
    let (count, direct) = (Arc::clone(&opened), Wire::new(&service.address).await);
    let first = through(&direct, &sender);
    let there = sender.clone();
    let mut follower = Follower::with(oldest(), move |request| {
        // The first stream goes over a line that falls silent, all others straight there.
        let caller = if count.fetch_add(1, Ordering::Relaxed) == 0 { &first } else { &there };
        let mut client = caller.envelopes();
        async move { Ok(client.watch_status_changes(request).await?.into_inner()) }
    });
    follower.next().await.unwrap();
    direct.mute.store(true, Ordering::Relaxed);
    let id = sender.story(1, Routing::Parallel).await.envelope.id;
    let since = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(follower.next().await.unwrap().event.map(|event| event.envelope_id));
    }
    assert_eq!(seen, [id.as_str(); 3]);
    assert_eq!(opened.load(Ordering::Relaxed), 2);
    let waited = since.elapsed();
    assert!(waited > Duration::from_secs(2) && waited < Duration::from_secs(9), "{waited:?}: three beats of a second");
}

/// T-36: a service that has not seen the feed for a while says so and ends its streams: another may see it.
#[tokio::test(flavor = "multi_thread")]
async fn t36_a_service_that_does_not_see_the_feed_ends_its_streams() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut stream = sender.envelopes().watch_status_changes(oldest()).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let database = service.database.connect().await;
    database.batch_execute("ALTER TABLE feed_head RENAME TO away").await.unwrap();
    let mut beats = 0;
    let ended = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some() && beats < 10, "heartbeats go on"),
            Err(status) => break status,
        }
        beats += 1;
    };
    assert_eq!((ended.code(), ended.reason().as_str()), (Code::Unavailable, "UNAVAILABLE"));
    let again = sender.envelopes().watch_status_changes(oldest()).await.unwrap_err();
    assert_eq!(again.code(), Code::Unavailable);
    database.batch_execute("ALTER TABLE away RENAME TO feed_head").await.unwrap();
    let mut follower = Follower::new(sender.envelopes(), oldest());
    tokio::time::timeout(Duration::from_secs(30), follower.next()).await.expect("it sees again").unwrap();
}

/// D3: a step counts as dealt with once the next is asked for, and not before: after a break it is what comes again.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_follower_resumes_behind_what_was_dealt_with() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    sender.story(1, Routing::Parallel).await;
    settle(&service).await;
    let mut follower = Follower::new(sender.envelopes(), oldest());
    assert_eq!(follower.resume_token(), "");
    let mut steps = Vec::new();
    while steps.len() < 3 {
        let step = follower.next().await.unwrap();
        steps.extend(step.event.map(|event| (event.sequence, step.resume_token)));
    }
    assert_eq!(follower.resume_token(), steps[1].1, "the last is in the caller's hands");
    // The caller dies with it, having stored the token of the second: the third comes again.
    let request = WatchStatusChangesRequest { resume_token: steps[1].1.clone(), ..Default::default() };
    let mut follower = Follower::new(sender.envelopes(), request);
    let again = loop {
        if let Some(event) = follower.next().await.unwrap().event {
            break event.sequence;
        }
    };
    assert_eq!(again, steps[2].0);
}

/// D3: what will never succeed is told to the caller instead of being tried for ever.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_follower_ends_where_it_is_refused_for_good() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let refused = async |caller: &Caller, request| {
        let next = Follower::new(caller.envelopes(), request).next().await;
        let Err(Ended::Refused(status)) = next else { panic!("{next:?}") };
        status.code()
    };
    let unknown = sender.with_token("cs_test_unknown");
    assert_eq!(refused(&unknown, oldest()).await, Code::Unauthenticated);
    assert_eq!(refused(&service.operator(&sender.account), oldest()).await, Code::PermissionDenied);
    let malformed = WatchStatusChangesRequest { resume_token: "x".into(), ..Default::default() };
    assert_eq!(refused(&sender, malformed).await, Code::InvalidArgument);
    // Who only asks again is refused again, ever slower.
    let (mut again, since) = (Follower::new(unknown.envelopes(), oldest()), Instant::now());
    for _ in 0..5 {
        let Err(Ended::Refused(_)) = again.next().await else { panic!("refused") };
    }
    assert!(since.elapsed() > Duration::from_millis(700), "{:?} for five", since.elapsed());
    // Nobody there: it waits.
    let nowhere = Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
    let mut waiting = Follower::new(Caller { channel: nowhere, ..sender }.envelopes(), oldest());
    tokio::time::timeout(Duration::from_millis(700), waiting.next()).await.expect_err("it goes on trying");
}
