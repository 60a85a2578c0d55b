//! Duplicates that come at once, at two replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::v1::{CreateEnvelopeRequest, Routing};
use countersign_chassis::clock::Clock;
use countersign_test_support::client::request;
use countersign_test_support::service::{config, config_for_bursts};
use countersign_test_support::{Caller, Database, Errors as _, Service};
use futures_util::future::join_all;
use rand::seq::SliceRandom as _;
use tokio_postgres::Client;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::wire::{Call, Key, Reply, call};
use crate::ledger::audit::audit;
use crate::ledger::upload;

/// Keys of a usual run.
const KEYS: usize = 200;
/// Requests with each of them, at once.
const DUPLICATES: usize = 20;
/// Keys that are tried at a time.
const WINDOW: usize = 8;
/// Calls at a time at each of two replicas.
const BURST: usize = WINDOW * DUPLICATES / 2;
/// Connections to each replica.
const CONNECTIONS: usize = 4;

/// A second replica on the first one's database and documents.
async fn replica(service: &Service) -> Service {
    let folder = tempfile::tempdir().unwrap();
    let documents = service.documents.path().to_owned();
    let own = config_for_bursts(BURST, &service.database, &folder);
    let config = countersign_envelope::config::Config { documents: documents.into(), ..own };
    Service::start_with(service.database.clone(), Clock::database(), folder, config).await
}

/// The same sender on several connections to each replica.
fn connections(sender: &Caller, replicas: &[&Service]) -> Vec<Caller> {
    let to = |service: &Service| Endpoint::from_shared(format!("http://{}", service.address)).unwrap().connect_lazy();
    let all = replicas.iter().flat_map(|service| (0..CONNECTIONS).map(move |_| to(service)));
    all.map(|channel| Caller { channel, ..sender.clone() }).collect()
}

/// Told to come again, and when.
fn is_in_progress(status: &Status) -> bool {
    let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
    (status.code(), status.reason().as_str()) == (Code::Aborted, "IDEMPOTENCY_IN_PROGRESS")
        && status.fact("http_status") == "409"
        && told == Some(Duration::from_millis(200))
        && status.metadata().get("retry-after").is_some_and(|value| value == "1")
}

/// D2, T-52: keys with many duplicates each, at once at two replicas: as many envelopes as keys, each charged once, and every
/// answer the first of its key, or that it is being dealt with. A usual run tries 200 keys;
/// `COUNTERSIGN_ONCE_KEYS=1000 cargo test --test it -- d2_duplicates` tries more.
#[tokio::test(flavor = "multi_thread")]
async fn d2_duplicates_at_once_are_made_once() {
    let keys = std::env::var("COUNTERSIGN_ONCE_KEYS").ok().map_or(KEYS, |text| text.parse().expect("a number"));
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let config = config_for_bursts(BURST, &database, &documents);
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let second = replica(&service).await;
    let sender = service.account(true).await;
    let callers = connections(&sender, &[&service, &second]);
    let form = CreateEnvelopeRequest { documents: vec![upload(&sender).await], ..request(1, Routing::Parallel, true) };
    let mut answers: BTreeMap<usize, Vec<Result<Reply, Status>>> = BTreeMap::new();
    let all: Vec<usize> = (0..keys).collect();
    for window in all.chunks(WINDOW) {
        let mut calls: Vec<_> = window.iter().flat_map(|key| (0..DUPLICATES).map(move |copy| (*key, copy))).collect();
        calls.shuffle(&mut rand::rng());
        let made = calls.into_iter().map(|(key, copy)| {
            let form = CreateEnvelopeRequest { external_reference: format!("order {key}"), ..form.clone() };
            let create = call!(callers[copy % callers.len()], CreateEnvelopeRequest form);
            tokio::spawn(async move { (key, create.send(Key::Field(&format!("order-{key}"))).await) })
        });
        for answer in join_all(made.collect::<Vec<_>>()).await {
            let (key, answer) = answer.unwrap();
            answers.entry(key).or_default().push(answer);
        }
    }
    let (mut told_to_wait, mut replayed) = (0, 0);
    for (key, answers) in &answers {
        let replies: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        assert_eq!(replies.iter().filter(|reply| !reply.replayed).count(), 1, "order {key} was made once");
        assert!(replies.iter().all(|reply| reply.bytes == replies[0].bytes), "order {key} has two answers");
        for status in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert!(is_in_progress(status), "order {key}: {status:?}");
            told_to_wait += 1;
        }
        replayed += replies.len() - 1;
    }
    eprintln!("{keys} keys: {replayed} replayed, {told_to_wait} told to wait");
    let made = i64::try_from(keys).unwrap();
    let number = async |query| service.database.number(query).await;
    assert_eq!(number("SELECT count(*) FROM envelope").await, made);
    assert_eq!(number("SELECT count(DISTINCT external_reference) FROM envelope").await, made);
    assert_eq!(number("SELECT count(*) FROM ledger_entry WHERE kind = 2").await, made);
    audit(&service.database).await;
    second.stop().await;
    service.stop().await;
}

/// Backends of this database that wait for a lock.
async fn waiting(watch: &Client) -> i64 {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    watch.query_one(query, &[]).await.unwrap().get(0)
}

/// D2: whoever comes while the first request is stuck is told so at once, at either replica, and holds no connection.
#[tokio::test(flavor = "multi_thread")]
async fn d2_a_duplicate_does_not_wait_for_the_first() {
    let service = Service::start().await;
    let second = replica(&service).await;
    let sender = service.account(false).await;
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let send = call!(sender, SendEnvelopeRequest { envelope_id: draft.id, ..Default::default() });
    let elsewhere = send.by(&Caller { channel: second.channel.clone(), ..sender.clone() });
    // Both replicas know the key and have their connections.
    elsewhere.caller.get(&sender.create(request(1, Routing::Parallel, false)).await.unwrap().id).await.unwrap();
    let (sql, watch) = (service.database.connect().await, service.database.connect().await);
    sql.batch_execute("BEGIN; SELECT FROM envelope FOR UPDATE").await.unwrap();
    let first = tokio::spawn({
        let send = send.clone();
        async move { send.send(Key::Field("k")).await }
    });
    while waiting(&watch).await == 0 {
        assert!(!first.is_finished(), "it did not wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for duplicate in [&elsewhere, &send, &elsewhere] {
        let answer = tokio::time::timeout(Duration::from_secs(1), duplicate.send(Key::Field("k"))).await;
        let status = answer.expect("told at once").expect_err("it is not done yet");
        assert!(is_in_progress(&status), "{status:?}");
        assert!(!first.is_finished(), "the first still hangs");
        assert_eq!(waiting(&watch).await, 1, "only the first waits");
    }
    sql.batch_execute("COMMIT").await.unwrap();
    let first = first.await.unwrap().unwrap();
    for duplicate in [&elsewhere, &send] {
        let again: Reply = duplicate.send(Key::Field("k")).await.unwrap();
        assert!(!first.replayed && again.replayed && again.bytes == first.bytes);
    }
    second.stop().await;
    service.stop().await;
}

/// D2: where the first request is dealt with, a duplicate is told so without a connection: here there is only one.
#[tokio::test(flavor = "multi_thread")]
async fn d2_a_duplicate_at_the_same_replica_needs_no_connection() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut config = config(&database, &documents);
    config.database.database_pool_max = 1;
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let sender = service.account(false).await;
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let send = call!(sender, SendEnvelopeRequest { envelope_id: draft.id, ..Default::default() });
    let (sql, watch) = (service.database.connect().await, service.database.connect().await);
    sql.batch_execute("BEGIN; SELECT FROM envelope FOR UPDATE").await.unwrap();
    let first = tokio::spawn({
        let send = send.clone();
        async move { send.send(Key::Field("k")).await }
    });
    while waiting(&watch).await == 0 {
        assert!(!first.is_finished(), "it did not wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = tokio::time::timeout(Duration::from_secs(1), send.send(Key::Field("k"))).await;
    let status = answer.expect("told at once").expect_err("it is not done yet");
    assert!(is_in_progress(&status) && !first.is_finished(), "{status:?}");
    sql.batch_execute("COMMIT").await.unwrap();
    assert!(!first.await.unwrap().unwrap().replayed && send.send(Key::Field("k")).await.unwrap().replayed);
    service.stop().await;
}

/// D2: a duplicate of a request that is refused is dealt with once the refusal is told: nothing sticks to the key.
#[tokio::test(flavor = "multi_thread")]
async fn d2_refusals_at_once_leave_the_key_free() {
    let service = Service::start().await;
    let second = replica(&service).await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    let callers = connections(&sender, &[&service, &second]);
    let again: Call =
        call!(sender, SendEnvelopeRequest { envelope_id: story.envelope.id.clone(), ..Default::default() });
    for round in 0..10 {
        let key = format!("round {round}");
        let calls = callers.iter().map(|caller| again.by(caller));
        let answers = calls.map(|call| {
            let key = key.clone();
            tokio::spawn(async move { call.send(Key::Field(&key)).await })
        });
        for answer in join_all(answers.collect::<Vec<_>>()).await {
            let status = answer.unwrap().expect_err("it is sent already");
            assert!(is_in_progress(&status) || status.reason() == "INVALID_STATE_TRANSITION", "{status:?}");
        }
        let status = again.send(Key::Field(&key)).await.expect_err("it is sent already");
        assert_eq!(status.reason(), "INVALID_STATE_TRANSITION");
    }
    assert_eq!(service.database.number("SELECT count(*) FROM idempotency").await, 0);
    second.stop().await;
    service.stop().await;
}
