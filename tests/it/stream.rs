//! The status stream: everything that is committed, once for each position, in order for each envelope.

mod crowd;
mod filters;
mod follower;
mod guide;
mod keeping;
mod outbox;
mod pages;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{Event, EventType, ListStatusChangesRequest, Routing, WatchStart, WatchStatusChangesRequest};
use countersign_chassis::clock::Clock;
use countersign_envelope::domain::id::EnvelopeId;
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Database, Errors as _, Service};
use tokio_stream::StreamExt as _;
use tonic::Status;

/// Reads from a token until `enough`; returns the events and the last token.
async fn read(
    caller: &Caller,
    resume_token: &str,
    start: WatchStart,
    enough: impl FnMut(&[Event]) -> bool,
) -> Result<(Vec<Event>, String), Status> {
    let request =
        WatchStatusChangesRequest { resume_token: resume_token.to_owned(), start: start.into(), ..Default::default() };
    read_as(caller, request, enough).await
}

/// The same of what a request asks for.
async fn read_as(
    caller: &Caller,
    request: WatchStatusChangesRequest,
    mut enough: impl FnMut(&[Event]) -> bool,
) -> Result<(Vec<Event>, String), Status> {
    let (mut events, mut token) = (Vec::new(), request.resume_token.clone());
    let mut stream = caller.envelopes().watch_status_changes(request).await?.into_inner();
    while let Some(message) = stream.next().await {
        let message = message?;
        token = message.resume_token;
        if let Some(Item::Event(event)) = message.item {
            events.push(event);
        }
        if enough(&events) {
            break;
        }
    }
    Ok((events, token))
}

/// Everything that a list gives from where it says, page by page, and the last token.
async fn list(caller: &Caller, mut request: ListStatusChangesRequest) -> Result<(Vec<Event>, String), Status> {
    let mut events = Vec::new();
    loop {
        let page = caller.envelopes().list_status_changes(request.clone()).await?.into_inner();
        events.extend(page.events);
        request.resume_token = page.resume_token;
        if page.caught_up {
            return Ok((events, request.resume_token));
        }
    }
}

/// Waits until the feed holds everything that was committed, and this service has seen it.
async fn settle(service: &Service) {
    while service.database.number("SELECT count(*) FROM outbox").await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Gives an envelope so many events more at once: its first again, renumbered.
async fn flood(database: &Database, envelope_id: &str, events: i64) {
    let id = envelope_id.parse::<EnvelopeId>().unwrap().uuid();
    let flood = "WITH place AS (
            SELECT envelope.*, envelope.sequence + n AS next FROM envelope, generate_series(1, $2::bigint) AS n WHERE id = $1
        ), told AS (
            INSERT INTO event (account_id, envelope_id, sequence, id, kind, occurred_at, record, prev_hash, hash)
            SELECT event.account_id, envelope_id, next, gen_random_uuid(), kind, occurred_at, convert_to(replace(
                convert_from(record, 'UTF8'), '\"sequence\":1,', '\"sequence\":' || next || ','), 'UTF8'), prev_hash, hash
            FROM event JOIN place ON event.account_id = place.account_id AND event.envelope_id = place.id
            WHERE event.sequence = 1
        ), waiting AS (
            INSERT INTO outbox (part, account_id, livemode, envelope_id, sequence)
            SELECT get_byte(uuid_send(id), 15) % 16, account_id, livemode, id, next FROM place ORDER BY next
        )
        UPDATE envelope SET sequence = sequence + $2 WHERE id = $1";
    let mut client = database.connect().await;
    let transaction = client.transaction().await.unwrap();
    transaction.execute("SELECT FROM envelope WHERE id = $1 FOR NO KEY UPDATE", &[&id]).await.unwrap();
    assert_eq!(transaction.execute(flood, &[&id, &events]).await.unwrap(), 1);
    transaction.commit().await.unwrap();
}

/// S2.20, S2.21, D3, T-31: each change is told, with the state as it was.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_stream_tells_what_happened_and_resumes_anywhere() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let stranger = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    stranger.story(1, Routing::Parallel).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.signer(1).decline("no").await.unwrap();
    let is_over = |events: &[Event]| events.iter().any(|event| event.r#type() == EventType::EnvelopeArtifactReady);
    let (all, _) = read(&sender, "", WatchStart::Oldest, is_over).await.unwrap();
    let history = sender.history(&story.envelope.id).await.unwrap();
    let told: Vec<_> = history.into_iter().map(|entry| entry.event.unwrap()).collect();
    assert_eq!(all, told, "the account's own events, all of them, in order");
    let signed = all.iter().find(|event| event.r#type() == EventType::RecipientSigned).unwrap();
    assert!(!signed.state.as_ref().unwrap().terminal, "the state as it was then, not as it is now");
    // One by one, each time from the token of the last message.
    let (mut one_by_one, mut token) = (Vec::new(), String::new());
    while one_by_one.len() < all.len() {
        let (some, next) = read(&sender, &token, WatchStart::Oldest, |events| !events.is_empty()).await.unwrap();
        one_by_one.extend(some);
        token = next;
    }
    assert_eq!(one_by_one, all);
    // From now on: nothing old.
    let (none, token) = read(&sender, "", WatchStart::Now, |_| true).await.unwrap();
    assert!(none.is_empty());
    sender.story(1, Routing::Parallel).await;
    let (new, _) = read(&sender, &token, WatchStart::Oldest, |events| events.len() == 3).await.unwrap();
    assert_eq!(new[0].r#type(), EventType::EnvelopeCreated);
    // The token is the account's own.
    let stolen = read(&stranger, &token, WatchStart::Now, |_| true).await.unwrap_err();
    assert_eq!(stolen.fields(), ["resume_token"]);
}

/// A heartbeat moves the token of somebody for whom nothing happens; a stream ends cleanly when the service stops.
#[tokio::test(flavor = "multi_thread")]
async fn t36_heartbeats_move_the_token_and_a_drain_ends_the_stream() {
    let service = Service::start().await;
    let (quiet, busy) = (service.account(false).await, service.account(false).await);
    let request = WatchStatusChangesRequest::default();
    let mut stream = quiet.envelopes().watch_status_changes(request).await.unwrap().into_inner();
    let first = stream.next().await.unwrap().unwrap();
    assert!(matches!(first.item, Some(Item::Heartbeat(_))));
    for _ in 0..20 {
        busy.story(1, Routing::Parallel).await;
    }
    let second = stream.next().await.unwrap().unwrap();
    assert!(matches!(second.item, Some(Item::Heartbeat(_))));
    assert_ne!(first.resume_token, second.resume_token);
    let drained = tokio::spawn(async move {
        let mut last = None;
        while let Some(message) = stream.next().await {
            last = Some(message.expect("a clean end"));
        }
        last.unwrap()
    });
    let stopping = std::time::Instant::now();
    let (database, documents) = service.stop().await;
    let last = drained.await.unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(4), "the drain does not wait for streams");
    let service = Service::start_on(database, Clock::database(), documents).await;
    let quiet = Caller { channel: service.channel.clone(), ..quiet };
    read(&quiet, &last.resume_token, WatchStart::Now, |_| true).await.expect("the last token resumes");
}

/// C-24: after a restore positions mean something else, and what is purged cannot be read: both are said.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_token_of_another_feed_or_before_the_floor_is_refused() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (_, start) = read(&sender, "", WatchStart::Oldest, |_| true).await.unwrap();
    sender.story(1, Routing::Parallel).await;
    let (_, now) = read(&sender, "", WatchStart::Oldest, |events| events.len() == 3).await.unwrap();
    let client = service.database.connect().await;
    client.execute("UPDATE feed_head SET floor_position = (SELECT coalesce(max(position), 0) FROM feed WHERE feed.part = feed_head.part)", &[]).await.unwrap();
    let old = until_refused(&sender, &start).await;
    assert_eq!((old.code(), old.reason().as_str()), (tonic::Code::OutOfRange, "RESUME_TOKEN_TOO_OLD"));
    read(&sender, &now, WatchStart::Now, |_| true).await.expect("the present is kept");
    client.execute("UPDATE feed_incarnation SET id = gen_random_uuid()", &[]).await.unwrap();
    assert_eq!(until_refused(&sender, &now).await.reason(), "FEED_INCARNATION");
}

/// The service looks at the feed every few milliseconds.
async fn until_refused(caller: &Caller, token: &str) -> Status {
    for _ in 0..100 {
        match read(caller, token, WatchStart::Now, |_| true).await {
            Err(status) => return status,
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("never refused");
}

/// A transaction as the service makes them: the envelope's row is locked, its events are numbered, and between the two it
/// sleeps; one in twenty is rolled back.
async fn write(database: &Database, writer: u64, envelopes: &[uuid::Uuid], rounds: u64) -> u64 {
    let mut client = database.connect().await;
    let mut committed = 0;
    for round in 0..rounds {
        let envelope = envelopes[usize::try_from(rand::random::<u32>()).unwrap() % envelopes.len()];
        let transaction = client.transaction().await.unwrap();
        let lock = "SELECT sequence FROM envelope WHERE id = $1 FOR NO KEY UPDATE";
        let sequence: i64 = transaction.query_one(lock, &[&envelope]).await.unwrap().get(0);
        let next = sequence + 1;
        // A real record of the first event, renumbered: the stream has to read it.
        let event = "INSERT INTO event (account_id, envelope_id, sequence, id, kind, occurred_at, record, prev_hash, hash) \
                     SELECT account_id, envelope_id, $2, gen_random_uuid(), kind, occurred_at, \
                     convert_to(replace(convert_from(record, 'UTF8'), '\"sequence\":1,', '\"sequence\":' || $2::bigint || ','), \
                     'UTF8'), prev_hash, hash FROM event WHERE envelope_id = $1 AND sequence = 1";
        transaction.execute(event, &[&envelope, &next]).await.unwrap();
        let outbox = "INSERT INTO outbox (part, account_id, livemode, envelope_id, sequence) \
                      SELECT get_byte(uuid_send(id), 15) % 16, account_id, livemode, id, $2 FROM envelope WHERE id = $1";
        transaction.execute(outbox, &[&envelope, &next]).await.unwrap();
        tokio::time::sleep(Duration::from_millis((writer * 7 + round * 3) % 11)).await;
        transaction.execute("UPDATE envelope SET sequence = $2 WHERE id = $1", &[&envelope, &next]).await.unwrap();
        if rand::random::<u32>().is_multiple_of(20) {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
            committed += 1;
        }
    }
    committed
}

/// D3, T-27: sixteen writers that sleep inside their transactions and roll back, a foreign transaction that stays open all
/// along, sequencer and consumer cut again and again: every committed event once for each resume position, no gap.
#[tokio::test(flavor = "multi_thread")]
async fn t27_nothing_that_commits_late_is_skipped() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut envelopes = Vec::new();
    for _ in 0..12 {
        let id = sender.create(request(1, Routing::Parallel, false)).await.unwrap().id;
        envelopes.push(id.parse::<EnvelopeId>().unwrap().uuid());
    }
    let (database, documents) = service.stop().await;
    // A write transaction in another database that never ends would stall feeds that wait for it.
    let elsewhere = Database::empty("elsewhere").await;
    let idle = elsewhere.connect().await;
    idle.batch_execute("CREATE TABLE t (n int); BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let (database, envelopes) = (database.clone(), envelopes.clone());
            tokio::spawn(async move { write(&database, writer, &envelopes, 60).await })
        })
        .collect();
    let (mut seen, mut token) = (Vec::new(), String::new());
    let (mut documents, mut cuts, mut in_vain, mut expected) = (Some(documents), 0, 0, None);
    while expected.is_none_or(|expected| seen.len() < expected) {
        // Two replicas that live for a moment. Their sequencers compete, and are cut wherever they stand.
        let other = Service::start_on(database.clone(), Clock::database(), tempfile::tempdir().unwrap()).await;
        let service = Service::start_on(database.clone(), Clock::database(), documents.take().unwrap()).await;
        let sender = Caller { channel: service.channel.clone(), ..sender.clone() };
        // Longer each time in which nothing came: a busy machine needs more.
        let moment = Duration::from_millis(80 + u64::from(rand::random::<u8>())) * (1 + in_vain);
        let seen_before = seen.len();
        let cut = tokio::time::timeout(moment, async {
            let request = WatchStatusChangesRequest {
                resume_token: token.clone(),
                start: WatchStart::Oldest.into(),
                ..Default::default()
            };
            let mut stream = sender.envelopes().watch_status_changes(request).await.unwrap().into_inner();
            while let Some(Ok(message)) = stream.next().await {
                // What a consumer does: keep the event and the token together.
                if let Some(Item::Event(event)) = message.item {
                    seen.push(event);
                }
                token = message.resume_token;
            }
        });
        let _ = cut.await;
        in_vain = if seen.len() > seen_before { 0 } else { in_vain + 1 };
        documents = Some(service.cut().await);
        other.cut().await;
        cuts += 1;
        if expected.is_none() && writers.iter().all(tokio::task::JoinHandle::is_finished) {
            expected = Some(usize::try_from(database.number("SELECT count(*) FROM event").await).unwrap());
        }
        assert!(cuts < 500, "{} of {expected:?} after {cuts} cuts", seen.len());
    }
    let mut committed = 12;
    for writer in writers {
        committed += writer.await.unwrap();
    }
    assert!(cuts > 3, "the writers outlived some services");
    assert_eq!(seen.len() as u64, committed, "each committed event, once");
    let mut places = HashSet::new();
    let mut last: HashMap<String, u64> = HashMap::new();
    for event in &seen {
        assert!(places.insert((event.envelope_id.clone(), event.sequence)), "twice: {event:?}");
        let before = last.insert(event.envelope_id.clone(), event.sequence).unwrap_or_default();
        assert_eq!(event.sequence, before + 1, "out of order in {}", event.envelope_id);
    }
    let gaps = "SELECT count(*) FROM (SELECT FROM feed GROUP BY part HAVING max(position) <> count(*)) AS gaps";
    assert_eq!(database.number(gaps).await, 0, "a gap in the positions");
}
