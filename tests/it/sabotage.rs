//! Guards that are taken out one after the other: that nothing goes wrong proves little until something does without them.
//!
//! Constraints and triggers go by SQL. What the code itself does is left out by `sabotaged!`, which builds with debug assertions
//! alone have. Each is first seen to hold, and then to be missed, by callers or by the check.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use countersign::v1::{CreateEnvelopeRequest, Routing};
use countersign_chassis::clock::Clock;
use countersign_test_support::binary::Process;
use countersign_test_support::client::request;
use countersign_test_support::notifier::{self, register};
use countersign_test_support::{Caller, Database, Notifier, Receiver, Service, check};
use futures_util::future::join_all;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::ledger::upload;
use crate::restarts::notifier_with;
use crate::several::signal;

/// Rounds within which a race has to show.
const ROUNDS: usize = 60;

async fn found(database: &Database) -> BTreeSet<&'static str> {
    check::envelope(database).await.iter().map(|finding| finding.invariant).collect()
}

/// Two replicas without those guards, on the database of another.
async fn two(seed: &Service, out: &str) -> [Process; 2] {
    let more = [("COUNTERSIGN_SABOTAGE", out)];
    [
        Process::beside(seed, seed.documents.path(), &more).await,
        Process::beside(seed, seed.documents.path(), &more).await,
    ]
}

/// The last two signers at once, each at another replica, until one of the calls is refused.
async fn race(sender: &Caller, replicas: &[Process; 2]) -> Option<Status> {
    let documents = vec![upload(sender).await];
    for _ in 0..ROUNDS {
        let form = CreateEnvelopeRequest { documents: documents.clone(), ..request(2, Routing::Parallel, true) };
        let story = sender.story_of(form).await;
        let signers = [replicas[0].caller(story.signer(0)), replicas[1].caller(story.signer(1))];
        let (one, other) = tokio::join!(signers[0].sign(&story.envelope), signers[1].sign(&story.envelope));
        if let Some(status) = one.err().or(other.err()) {
            return Some(status);
        }
    }
    None
}

/// T-2: the row lock lets the second signer see the first. Without it the revision in the WHERE refuses whoever is second; without
/// that the key of the history does; without all three the history is not one any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t2_without_its_locks_an_envelope_breaks_in_two() {
    let seed = Service::start().await;
    let sender = seed.account(false).await;
    let replicas = two(&seed, "").await;
    assert!(race(&sender, &replicas).await.is_none(), "with all guards both may sign");
    for out in ["envelope.lock", "envelope.lock,envelope.revision"] {
        let replicas = two(&seed, out).await;
        let refused = race(&sender, &replicas).await.unwrap_or_else(|| panic!("nobody misses {out}"));
        assert_eq!(refused.code(), Code::Internal, "{out}: {refused:?}");
        assert_eq!(found(&seed.database).await, BTreeSet::new(), "{out}: the next guard has held");
    }
    let sql = "ALTER TABLE event DROP CONSTRAINT event_pkey CASCADE; \
               ALTER TABLE event_particulars DROP CONSTRAINT event_particulars_pkey";
    seed.database.connect().await.batch_execute(sql).await.unwrap();
    let replicas = two(&seed, "envelope.lock,envelope.revision").await;
    let refused = race(&sender, &replicas).await;
    let found = found(&seed.database).await;
    assert!(found.contains("history.chain"), "{found:?} {refused:?}");
}

/// D2: the claim of a key and the key of the table: without them two replicas make the same thing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d2_without_its_claim_a_key_is_used_twice() {
    let one = Service::start().await;
    let sender = one.account(false).await;
    let other = Service::start_on(one.database.clone(), Clock::database(), tempfile::tempdir().unwrap()).await;
    let there = Caller { channel: other.channel.clone(), ..sender.clone() };
    let documents = vec![upload(&sender).await];
    let twice = async |rounds: std::ops::Range<usize>| {
        for round in rounds {
            let idempotency_key = format!("the {round}th");
            let form = CreateEnvelopeRequest {
                documents: documents.clone(),
                idempotency_key,
                ..request(1, Routing::Parallel, true)
            };
            let (one, other) = tokio::join!(sender.create(form.clone()), there.create(form));
            // Who comes second is told to wait, or gets the first answer.
            assert!(one.is_ok() || other.is_ok());
            if let (Ok(one), Ok(other)) = (one, other)
                && one.id != other.id
            {
                return true;
            }
        }
        false
    };
    assert!(!twice(0..ROUNDS).await, "with the guards it is made once");
    let sql = "ALTER TABLE idempotency DROP CONSTRAINT idempotency_pkey; \
               CREATE OR REPLACE FUNCTION claim_idempotency_key(account uuid, key bytea, now timestamptz) RETURNS void \
               LANGUAGE sql AS 'SELECT'";
    one.database.connect().await.batch_execute(sql).await.unwrap();
    assert!(twice(ROUNDS..2 * ROUNDS).await, "nobody misses the claim");
    assert_eq!(found(&one.database).await, BTreeSet::from(["idempotency.once"]));
    other.stop().await;
}

/// What the tables refuse, whoever asks, and what is found once they do not any more.
#[tokio::test(flavor = "multi_thread")]
async fn constraints_that_are_dropped_are_missed() {
    let service = Service::start().await;
    let live = service.account(true).await;
    let made = live.create(request(1, Routing::Parallel, true)).await.unwrap();
    live.void(&made.id, "wrong").await.unwrap();
    let (database, _documents) = service.stop().await;
    let cases: [(&str, &str, &[&str]); 4] = [
        (
            "UPDATE envelope SET voided_at = voided_at - interval '1 hour'",
            "DROP TRIGGER terminal_facts ON envelope",
            &["envelope.facts", "envelope.state", "timer.keeping"],
        ),
        ("UPDATE event SET record = set_byte(record, 20, 88)", "DROP TRIGGER append_only ON event", &["history.chain"]),
        (
            "INSERT INTO ledger_entry SELECT account_id, gen_random_uuid(), sequence + 1, kind, debit, credit, unit, amount, balance_after + 1, \
             occurred_at, envelope_id, reference, charged FROM ledger_entry WHERE kind = 3",
            "ALTER TABLE ledger_entry DROP CONSTRAINT once_for_each_envelope, DROP CONSTRAINT \
             ledger_entry_account_id_envelope_id_kind_unit_amount_key CASCADE",
            &["ledger.balance", "ledger.refund"],
        ),
        (
            "INSERT INTO upload SELECT account_id, gen_random_uuid(), false, 'a', sha256('condemned'), 1, 1, NULL, NULL, 1, now() \
             FROM account AS a (account_id) LIMIT 1",
            "DROP TRIGGER claimed_bytes ON upload",
            &["bytes.condemned"],
        ),
    ];
    for (misdeed, out, expected) in cases {
        let copy = database.copy().await;
        let client = copy.connect().await;
        let condemned = "INSERT INTO blob_removal VALUES (sha256('condemned'), now(), now())";
        client.batch_execute(condemned).await.unwrap();
        assert!(client.batch_execute(misdeed).await.is_err(), "the table refuses: {misdeed}");
        assert_eq!(found(&copy).await, BTreeSet::new());
        client.batch_execute(out).await.unwrap();
        client.batch_execute(misdeed).await.unwrap_or_else(|why| panic!("{misdeed}: {why:?}"));
        assert_eq!(found(&copy).await, expected.iter().copied().collect(), "{misdeed}");
    }
}

/// T-29: one delivery for an endpoint and event, also if the feed is read again from its beginning; without the key there are two.
#[tokio::test(flavor = "multi_thread")]
async fn t29_without_its_key_an_event_is_delivered_twice() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let notifier = Notifier::start(&service).await;
    let receiver = Receiver::start(|_| axum::http::StatusCode::OK).await;
    register(&notifier.channel, &sender, &receiver.url).await.unwrap();
    let story = sender.story(1, Routing::Parallel).await;
    story.sender.void(&story.envelope.id, "").await.unwrap();
    let events = service.database.number("SELECT count(*) FROM event").await;
    let database = &notifier.database;
    let reads_again = async || {
        let began: DateTime<Utc> = Utc::now();
        // A token says up to where: what was read before has been read again once they are the same.
        let places = "SELECT string_agg(resume_token, ',' ORDER BY partition) FROM feed_partition";
        let client = database.connect().await;
        let now = async || client.query_one(places, &[]).await.unwrap().get::<_, String>(0);
        let mut before = String::new();
        while before.is_empty() || before.split(',').any(str::is_empty) || before != now().await {
            before = now().await;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        let again = "UPDATE feed_partition SET resume_token = '', owner = NULL, lease_until = NULL";
        database.connect().await.batch_execute(again).await.unwrap();
        while now().await != before {
            assert!(Utc::now() - began < chrono::TimeDelta::seconds(120), "the feed is not read again");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        database.number("SELECT count(*) FROM delivery").await
    };
    assert_eq!(reads_again().await, events, "the key is enough");
    let sql = "ALTER TABLE delivery DROP CONSTRAINT delivery_pkey";
    database.connect().await.batch_execute(sql).await.unwrap();
    assert_eq!(reads_again().await, 2 * events);
    assert!(found_by_notifier(database).await.contains("delivery.once"));
}

async fn found_by_notifier(database: &Database) -> BTreeSet<&'static str> {
    check::notifier(database).await.iter().map(|finding| finding.invariant).collect()
}

/// D3: one sequencer at a time gives a partition's positions. Without its lock two give the same ones, which the key refuses; and
/// without that a position is two events'.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_without_its_lock_a_position_of_the_feed_is_two_events() {
    let seed = Service::start().await;
    let sender = seed.account(false).await;
    let documents = vec![upload(&sender).await];
    // Whoever has given positions takes a while before that is seen.
    let linger = "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END'; \
                  CREATE TRIGGER linger AFTER INSERT ON feed FOR EACH STATEMENT EXECUTE FUNCTION linger()";
    seed.database.connect().await.batch_execute(linger).await.unwrap();
    let happens = async || {
        let form = CreateEnvelopeRequest { documents: documents.clone(), ..request(1, Routing::Parallel, true) };
        for made in join_all((0..4).map(|_| sender.create(form.clone()))).await {
            made.unwrap();
        }
    };
    // Until one of the two is refused by the key.
    let is_refused = async |out: &str| {
        let replicas = two(&seed, out).await;
        for _ in 0..ROUNDS {
            happens().await;
            if replicas.iter().any(|it| it.said().iter().any(|line| line.contains("feed_pkey"))) {
                return true;
            }
        }
        false
    };
    assert!(!is_refused("").await, "with the lock nobody meets another");
    assert!(is_refused("feed.lock").await, "nobody misses the lock");
    assert_eq!(found(&seed.database).await, BTreeSet::new(), "the key has held");
    let sql = "ALTER TABLE feed DROP CONSTRAINT feed_pkey";
    seed.database.connect().await.batch_execute(sql).await.unwrap();
    let _replicas = two(&seed, "feed.lock").await;
    for _ in 0..ROUNDS {
        happens().await;
        if found(&seed.database).await.contains("feed.positions") {
            return;
        }
    }
    panic!("nobody misses the key");
}

/// A notifier as a process without those guards, which stands still where it is told to.
struct Loose {
    service: Service,
    sender: Caller,
    database: Database,
    receiver: Receiver,
    process: Process,
    folder: TempDir,
}

impl Loose {
    /// Whose endpoint answers so.
    async fn start(out: &str, answer: fn(usize) -> StatusCode) -> Self {
        let (service, folder) = (Service::start().await, tempfile::tempdir().unwrap());
        let (sender, database) = (service.account(false).await, notifier::database().await);
        let receiver = Receiver::start(answer).await;
        let armed = folder.path().join("armed");
        let more = [("COUNTERSIGN_SABOTAGE", out), ("COUNTERSIGN_FAILPOINTS", armed.to_str().unwrap())];
        let process = notifier_with(&database, &service.address, &folder, &more).await;
        register(&channel(&process), &sender, &receiver.url).await.unwrap();
        Self { service, sender, database, receiver, process, folder }
    }

    fn armed(&self) -> PathBuf {
        self.folder.path().join("armed")
    }

    /// Sends an envelope, and waits until the process stands still on its way there.
    async fn stands_at(&self, place: &str) {
        std::fs::write(self.armed(), place).unwrap();
        self.sender.create(request(1, Routing::Parallel, true)).await.unwrap();
        until(place, async || std::fs::read_to_string(self.armed()).unwrap().is_empty()).await;
    }
}

fn channel(process: &Process) -> Channel {
    Endpoint::from_shared(format!("http://{}", process.address)).unwrap().connect_lazy()
}

/// Waits for something that comes soon.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1_500 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain: {what}");
}

/// A process plans what follows from events and then stands still for longer than its lease; when it goes on, another one has
/// planned that long ago. Whether it goes ahead all the same.
async fn goes_ahead(out: &str) -> bool {
    let loose = Loose::start(out, |_| StatusCode::OK).await;
    // Without which each of the two has its own.
    let sql = "ALTER TABLE delivery DROP CONSTRAINT delivery_pkey";
    loose.database.connect().await.batch_execute(sql).await.unwrap();
    loose.stands_at("feed.planned=sleep:2000").await;
    signal(&loose.process, "-STOP");
    let other = notifier_with(&loose.database, &loose.service.address, &loose.folder, &[]).await;
    let events = async || loose.service.database.number("SELECT count(*) FROM event").await;
    let told = async || loose.database.number("SELECT count(*) FROM delivery WHERE state = 2").await;
    until("the other tells of everything", async || told().await >= events().await).await;
    signal(&loose.process, "-CONT");
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if found_by_notifier(&loose.database).await.contains("delivery.once") {
            return true;
        }
    }
    drop(other);
    false
}

/// T-37: the epoch of a partition's lease, and the place from which its owner read: without them one who was paused plans once
/// more what another one has planned.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t37_without_its_epoch_two_follow_a_partition() {
    assert!(!goes_ahead("").await, "with the guards it writes nothing");
    assert!(!goes_ahead("feed.epoch").await, "the place has held");
    assert!(goes_ahead("feed.epoch,feed.token").await, "nobody misses them");
}

/// An attempt whose claim ran out while it was made: the endpoint said that it is gone, and something else to whoever tried next.
/// Whether the first answer still has the say.
async fn has_the_say(out: &str) -> bool {
    let answer = |number| if number == 0 { StatusCode::GONE } else { StatusCode::SERVICE_UNAVAILABLE };
    let loose = Loose::start(out, answer).await;
    loose.stands_at("webhook.answered=sleep:3000").await;
    assert_eq!(loose.receiver.received().len(), 1);
    let client = loose.database.connect().await;
    // The claim runs out, here at once, and somebody else makes the next attempt.
    let age =
        "UPDATE delivery SET next_at = now(), lease_until = NULL WHERE state = 1 AND lease_epoch = 1 AND tries = 0";
    until("the next attempt", async || {
        client.batch_execute(age).await.unwrap();
        loose.database.number("SELECT count(*) FROM attempt").await > 0
    })
    .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(found_by_notifier(&loose.database).await, BTreeSet::new());
    loose.database.number("SELECT count(*) FROM endpoint WHERE disabled_at IS NOT NULL").await > 0
}

/// T-29: the epoch of a delivery's claim: without it an answer that was given to an earlier claim switches the endpoint off.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t29_without_its_epoch_an_earlier_claim_has_the_say() {
    assert!(!has_the_say("").await, "with the guard a claim that ran out says nothing");
    assert!(has_the_say("delivery.epoch").await, "nobody misses it");
}
