//! Many streams, and one that takes nothing.

use std::time::{Duration, Instant};

use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{Routing, WatchStart, WatchStatusChangesRequest, WatchStatusChangesResponse};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::DatabaseConfig;
use countersign_envelope::config::Config;
use countersign_envelope::domain::id::AccountId;
use countersign_envelope::store::{DatabaseError, Sieve, Store, Wanted};
use countersign_test_support::client::request;
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Errors as _, Service};
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::{flood, read, settle};

type Told = Streaming<WatchStatusChangesResponse>;

async fn watch(caller: &Caller, request: WatchStatusChangesRequest) -> Result<Told, Status> {
    Ok(caller.envelopes().watch_status_changes(request).await?.into_inner())
}

/// Reads so many events of a stream.
async fn take(stream: &mut Told, events: usize) -> Vec<(String, u64)> {
    let mut taken = Vec::new();
    while taken.len() < events {
        if let Some(Item::Event(event)) = stream.next().await.unwrap().unwrap().item {
            taken.push((event.envelope_id, event.sequence));
        }
    }
    taken
}

/// How often the feed's rows and the events have been looked up so far: the feed also to see how far it reaches, an event
/// also when it is flooded, once for each flood.
async fn looks(service: &Service) -> [i64; 2] {
    // Backends tell of what they did after a second.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    // A look across accounts goes through each slice of a table that is cut.
    let scans = |table| {
        format!("SELECT max(seq_scan + idx_scan) FROM pg_stat_user_tables WHERE relname ~ '^{table}(_[0-9]+)?$'")
    };
    [service.database.number(&scans("feed")).await, service.database.number(&scans("event")).await]
}

/// D3, T-36: however many streams stand at the end of the feed, the database is asked for one.
#[tokio::test(flavor = "multi_thread")]
async fn d3_fifty_streams_ask_the_database_as_much_as_one() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let id = sender.story(1, Routing::Parallel).await.envelope.id;
    settle(&service).await;
    let mut asked = Vec::new();
    for crowd in [1_u32, 50] {
        let mut streams = Vec::new();
        for number in 0..crowd {
            // Notifiers take a partition each; others look at all of them.
            let partitions = if number % 2 == 1 { vec![number % 16] } else { Vec::new() };
            let request = WatchStatusChangesRequest { partitions, ..Default::default() };
            let mut stream = watch(&service.notifier(""), request).await.unwrap();
            stream.next().await.unwrap().unwrap();
            streams.push(stream);
        }
        settle(&service).await;
        let before = looks(&service).await;
        for _ in 0..20 {
            flood(&service.database, &id, 5).await;
            settle(&service).await;
        }
        for stream in streams.iter_mut().step_by(2) {
            assert_eq!(take(stream, 100).await.len(), 100);
        }
        let after = looks(&service).await;
        asked.push([after[0] - before[0], after[1] - before[1]]);
    }
    let (one, fifty) = (asked[0], asked[1]);
    for (one, fifty) in one.into_iter().zip(fifty) {
        assert!(one > 0 && fifty <= one * 2, "{one} looks for one stream, {fifty} for fifty");
    }
    let before = looks(&service).await;
    flood(&service.database, &id, 5).await;
    settle(&service).await;
    let looked = looks(&service).await[1] - before[1];
    assert!(looked <= 1, "{looked} looks while nobody follows");
}

/// T-36, D3: who takes nothing is cut after the time of the settings, others hear nothing of it; what was on its way still
/// comes, then UNAVAILABLE with a delay, and the last token resumes with nothing lost.
#[tokio::test(flavor = "multi_thread")]
async fn t36_who_takes_nothing_is_cut_and_resumes() {
    const EVENTS: usize = 9_000;
    let (database, folder) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let settings = Config { stream_stall_seconds: 1, ..config(&database, &folder) };
    let service = Service::start_with(database, Clock::database(), folder, settings).await;
    let sender = service.account(false).await;
    let id = sender.story(1, Routing::Parallel).await.envelope.id;
    settle(&service).await;
    // The transport buffers as well; this one little.
    let endpoint = Endpoint::from_shared(format!("http://{}", service.address)).unwrap();
    let narrow = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535).connect_lazy();
    let idle = Caller { channel: narrow, ..sender.clone() };
    let mut stalled = watch(&idle, WatchStatusChangesRequest::default()).await.unwrap();
    let mut token = stalled.next().await.unwrap().unwrap().resume_token;
    let mut live = watch(&sender, WatchStatusChangesRequest::default()).await.unwrap();
    let reading = tokio::spawn(async move { take(&mut live, EVENTS).await });
    // More at once than memory keeps, and then more again.
    flood(&service.database, &id, 6_000).await;
    settle(&service).await;
    flood(&service.database, &id, 3_000).await;
    let expected: Vec<_> = (4..).take(EVENTS).map(|sequence| (id.clone(), sequence)).collect();
    assert!(reading.await.unwrap() == expected, "the others hear everything in time");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut seen = Vec::new();
    let refused = loop {
        match stalled.next().await.expect("not a clean end") {
            Ok(message) => {
                token = message.resume_token;
                if let Some(Item::Event(event)) = message.item {
                    seen.push((event.envelope_id, event.sequence));
                }
                assert!(seen.len() < EVENTS, "it was never cut");
            }
            Err(status) => break status,
        }
    };
    assert!(!seen.is_empty() && seen.len() < EVENTS / 2, "{} were on their way", seen.len());
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    let (rest, _) = read(&sender, &token, WatchStart::Now, |rest| rest.len() + seen.len() == EVENTS).await.unwrap();
    seen.extend(rest.into_iter().map(|event| (event.envelope_id, event.sequence)));
    assert!(seen == expected, "nothing lost, nothing twice");
}

/// T-36: a key has so many streams at a time and no more; one that ends makes room.
#[tokio::test(flavor = "multi_thread")]
async fn t36_streams_of_a_key_are_bounded() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(watch(&sender, WatchStatusChangesRequest::default()).await.unwrap());
    }
    let refused = watch(&sender, WatchStatusChangesRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED"));
    let facts = refused.get_details_error_info().unwrap().metadata;
    assert_eq!((facts["limit"].as_str(), facts["allowed"].as_str()), ("streams_per_key", "20"));
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    let other = service.key_of(&sender, false).await;
    watch(&other, WatchStatusChangesRequest::default()).await.expect("another key has its own");
    for _ in 0..25 {
        streams.push(
            watch(&service.notifier(""), WatchStatusChangesRequest::default()).await.expect("services have more"),
        );
    }
    streams.remove(0);
    let since = Instant::now();
    while let Err(status) = watch(&sender, WatchStatusChangesRequest::default()).await {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(since.elapsed() < Duration::from_secs(5), "a stream that was left gives its place back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// T-36: consumers of accounts who are behind keep neither services waiting nor the loops, and nobody waits for long.
#[tokio::test(flavor = "multi_thread")]
async fn t36_pages_of_accounts_keep_nobody_else_waiting() {
    let database = Database::envelope().await;
    // Three connections of these are for the loops and for services.
    let settings = DatabaseConfig { database_pool_max: 12, ..database.config() };
    let store = Store::open(&settings, Clock::database()).await.unwrap();
    let holder = database.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE feed IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let read = |wall: Option<AccountId>| {
        let store = store.clone();
        let wanted = [Wanted { part: 0, after: 0, upto: 1 }];
        tokio::spawn(async move { store.feed(wall, &Sieve::default(), &wanted, 1).await })
    };
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'feed'::regclass AND NOT granted";
    let mut reads = Vec::new();
    for (wall, number, expected) in [(Some(AccountId::new()), 12, 3), (None, 8, 3 + 2)] {
        reads.extend((0..number).map(|_| read(wall)));
        let (mut most, since) = (0, Instant::now());
        while since.elapsed() < Duration::from_millis(600) {
            most = database.number(waiting).await.max(most);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(most, expected, "pages at a time, of accounts and then of services too");
    }
    let mut busy = 0;
    for read in reads {
        busy += usize::from(matches!(read.await.unwrap(), Err(DatabaseError::Busy)));
    }
    // A lock is waited for two seconds: by the fifth second the others have had their turns.
    assert_eq!(busy, 3 + 2, "who waits too long for a turn is told so");
    holder.batch_execute("ROLLBACK").await.unwrap();
}

/// As slow as can be: the transport takes little on its way.
fn narrow(service: &Service, caller: &Caller) -> Caller {
    let endpoint = Endpoint::from_shared(format!("http://{}", service.address)).unwrap();
    let channel = endpoint.initial_stream_window_size(1_024).initial_connection_window_size(65_535).connect_lazy();
    Caller { channel, ..caller.clone() }
}

/// T-36: a key that is revoked while its consumer is in the middle of a page hears it there, and not behind the page.
#[tokio::test(flavor = "multi_thread")]
async fn t36_a_slow_consumer_does_not_outlive_its_key() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let id = sender.create(request(10, Routing::Parallel, false)).await.unwrap().id;
    flood(&service.database, &id, 1_000).await;
    settle(&service).await;
    let oldest = WatchStatusChangesRequest { start: WatchStart::Oldest.into(), ..Default::default() };
    let mut stream = watch(&narrow(&service, &sender), oldest).await.unwrap();
    take(&mut stream, 1).await;
    let revoked = "UPDATE api_key SET revoked_at = now()";
    service.database.connect().await.execute(revoked, &[]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut seen = 1;
    let ended = loop {
        match stream.next().await.expect("not a clean end") {
            Ok(message) => seen += usize::from(matches!(message.item, Some(Item::Event(_)))),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert!(seen < 200, "{seen} of a page of 256");
}

/// T-36: what a stream that was given up still has on its way is memory: it counts until it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn t36_what_is_on_its_way_keeps_its_place() {
    let (database, folder) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let settings = Config { stream_stall_seconds: 1, ..config(&database, &folder) };
    let service = Service::start_with(database, Clock::database(), folder, settings).await;
    let sender = service.account(false).await;
    let id = sender.story(1, Routing::Parallel).await.envelope.id;
    flood(&service.database, &id, 2_000).await;
    settle(&service).await;
    let oldest = WatchStatusChangesRequest { start: WatchStart::Oldest.into(), ..Default::default() };
    let mut stalled = watch(&narrow(&service, &sender), oldest).await.unwrap();
    take(&mut stalled, 1).await;
    let mut others = Vec::new();
    for _ in 0..19 {
        others.push(watch(&sender, WatchStatusChangesRequest::default()).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    watch(&sender, WatchStatusChangesRequest::default()).await.expect_err("it still holds what it did not take");
    drop(stalled);
    let since = Instant::now();
    while watch(&sender, WatchStatusChangesRequest::default()).await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(5), "it is gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
