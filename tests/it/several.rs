//! Several notifiers as real processes, paused and killed while they share the work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::http::StatusCode;
use countersign::v1::Routing;
use countersign_test_support::binary::Process;
use countersign_test_support::notifier::{database, register};
use countersign_test_support::{Receiver, Service};
use tonic::transport::Endpoint;

use crate::restarts::{happened, notifier};

/// Processes that share the work.
const PROCESSES: usize = 3;
/// Rounds; in each one process is paused for longer than its leases, and another is killed. `COUNTERSIGN_SOAK_ROUNDS` sets
/// another number.
const ROUNDS: usize = 3;

fn rounds() -> usize {
    std::env::var("COUNTERSIGN_SOAK_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"))
}

/// As `kill` names it.
pub fn signal(process: &Process, name: &str) {
    let pid = process.child.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(sent.success(), "{name} {pid}");
}

/// T-37: partitions go from one process to the next; each event is planned once, reaches the receiver, and is told the same
/// however often. Events of one envelope arrive in their order.
#[tokio::test(flavor = "multi_thread")]
async fn t37_paused_and_killed_notifiers_neither_lose_nor_reorder() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (database, folder) = (database().await, tempfile::tempdir().unwrap());
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        processes.push(notifier(&database, &service.address, &folder).await);
    }
    let channel = Endpoint::from_shared(format!("http://{}", processes[0].address)).unwrap().connect_lazy();
    register(&channel, &sender, &receiver.url).await.unwrap();

    let mut stories = Vec::new();
    for round in 0..rounds() {
        let (paused, killed) = (round % PROCESSES, (round + 1) % PROCESSES);
        signal(&processes[paused], "-STOP");
        for _ in 0..40 {
            let story = sender.story(2, Routing::Parallel).await;
            story.signer(0).sign(&story.envelope).await.unwrap();
            story.signer(1).decline("no").await.unwrap();
            stories.push(story);
        }
        processes.remove(killed).kill().await;
        processes.insert(killed, notifier(&database, &service.address, &folder).await);
        // Longer than a lease: its partitions are others' when it wakes up.
        tokio::time::sleep(Duration::from_secs(4)).await;
        signal(&processes[paused], "-CONT");
    }
    for story in &stories {
        story.until_artifact().await;
    }
    let expected = happened(&sender, &stories).await;
    let client = database.connect().await;
    let arrived = || receiver.received().iter().map(|one| one.header("webhook-id").to_owned()).collect::<BTreeSet<_>>();
    for _ in 0..600 {
        if arrived().is_superset(&expected) {
            break;
        }
        // Claims of the dead run out, here at once.
        let age = "UPDATE delivery SET next_at = now(), lease_until = NULL \
                   WHERE state = 1 AND lease_until < clock_timestamp() + interval '10 s'";
        client.execute(age, &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(arrived(), expected, "every event, and nothing that did not happen");
    let planned = database.number("SELECT count(*) FROM delivery").await;
    assert_eq!(usize::try_from(planned).unwrap(), expected.len(), "each once");
    let owners = database.number("SELECT count(*) FROM feed_partition WHERE epoch > 1").await;
    assert!(owners > 0, "no partition has changed hands");

    let mut order: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut seen, mut bodies) = (BTreeSet::new(), BTreeMap::<String, BTreeSet<Vec<u8>>>::new());
    for one in receiver.received() {
        let (id, json) = (one.header("webhook-id").to_owned(), one.json());
        bodies.entry(id.clone()).or_default().insert(one.body);
        if seen.insert(id) {
            let (envelope, sequence) = (&json["data"]["envelopeId"], &json["data"]["sequence"]);
            let sequence = sequence.as_str().unwrap().parse().unwrap();
            order.entry(envelope.as_str().unwrap().to_owned()).or_default().push(sequence);
        }
    }
    assert!(bodies.values().all(|bodies| bodies.len() == 1), "a repeat has the same bytes");
    for (envelope, sequences) in order {
        assert!(sequences.is_sorted(), "{envelope}: {sequences:?}");
    }
}
