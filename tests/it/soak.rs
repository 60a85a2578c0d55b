//! The feed under everything that goes wrong at once: writers that sleep in their transactions and roll back, sequencers and
//! services killed in mid-flight, consumers that die, and a stranger's transaction that never ends.
//!
//! `COUNTERSIGN_SOAK_EVENTS` says how many events: usually 5,000, of an optimised build 100,000, by hand 1,000,000.

mod actors;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_chassis::clock::Clock;
use countersign_envelope::domain::id::EnvelopeId;
use countersign_envelope::store::Store;
use countersign_test_support::{Caller, Database, Service};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::AbortOnDropHandle;

use self::actors::{Consumer, latencies, rpc_writer, sequencers, service, sql_writer};

/// Those who write, by SQL and by calls.
const WRITERS: (u64, u64) = (24, 2);
/// Those who read, each some of the partitions.
const CONSUMERS: u32 = 4;
/// Envelopes that the writers share.
const ENVELOPES: usize = 40;
/// The service dies at least so often.
const KILLS_MIN: u64 = 2;
/// How long after the last kill everything may take to arrive.
const CALM: Duration = Duration::from_secs(120);

fn size() -> u64 {
    let usual = if cfg!(debug_assertions) { 5_000 } else { 100_000 };
    std::env::var("COUNTERSIGN_SOAK_EVENTS").map_or(usual, |asked| asked.parse().expect("a number of events"))
}

/// What all of them share.
#[derive(Clone)]
struct Field {
    database: Database,
    /// Where the service is just now.
    address: watch::Sender<String>,
    sender: Caller,
    envelopes: Arc<Vec<uuid::Uuid>>,
    /// Events that are committed for sure.
    committed: Arc<AtomicU64>,
    size: u64,
}

impl Field {
    async fn new() -> (Self, tempfile::TempDir) {
        let seed = Service::start().await;
        let sender = seed.account(false).await;
        let mut envelopes = Vec::new();
        for _ in 0..ENVELOPES {
            let story = sender.story(1, countersign::v1::Routing::Parallel).await;
            envelopes.push(story.envelope.id.parse::<EnvelopeId>().unwrap().uuid());
        }
        let (database, documents) = seed.stop().await;
        let (envelopes, committed) = (Arc::new(envelopes), Arc::default());
        // Nobody is there yet.
        let address = watch::Sender::new("127.0.0.1:9".to_owned());
        let field = Self { database, address, sender, envelopes, committed, size: size() };
        (field, documents)
    }

    fn is_written(&self) -> bool {
        self.committed.load(Ordering::Relaxed) >= self.size
    }
}

/// The last sequence of each envelope, as the database has it.
async fn written(database: &Database) -> HashMap<String, u64> {
    let rows = database.connect().await.query("SELECT envelope_id, max(sequence) FROM event GROUP BY 1", &[]).await;
    let row = |row: tokio_postgres::Row| {
        let last: i64 = row.get(1);
        (EnvelopeId::from_uuid(row.get(0)).to_string(), last.unsigned_abs())
    };
    rows.unwrap().into_iter().map(row).collect()
}

/// What must hold of the feed's rows themselves.
async fn check_rows(database: &Database) {
    let holds = [
        (
            "a gap in the positions",
            "SELECT count(*) FROM (SELECT FROM feed GROUP BY part HAVING max(position) <> count(*)) AS gaps",
        ),
        (
            "an inversion",
            "SELECT count(*) FROM (SELECT sequence - lag(sequence, 1, 0::bigint) OVER (PARTITION BY envelope_id ORDER BY position) AS step FROM feed) AS steps WHERE step <> 1",
        ),
        (
            "an event that is not in the feed",
            "SELECT count(*) FROM event LEFT JOIN feed USING (envelope_id, sequence) WHERE feed.part IS NULL",
        ),
        (
            "a place without its event",
            "SELECT count(*) FROM feed LEFT JOIN event USING (envelope_id, sequence) WHERE event.id IS NULL",
        ),
        ("left in the outbox", "SELECT count(*) FROM outbox"),
    ];
    for (what, query) in holds {
        assert_eq!(database.number(query).await, 0, "{what}");
    }
}

/// Until everybody has written, as long as there is a service.
async fn all_written<T>(mut writers: JoinSet<()>, served: &mut JoinHandle<T>) {
    loop {
        tokio::select! {
            done = writers.join_next() => match done {
                Some(done) => done.unwrap(),
                None => return,
            },
            gone = &mut *served => panic!("no service to write to: {}", gone.map_or_else(|why| why.to_string(), |_| "ended".into())),
        }
    }
}

/// D3, T-27, T-28, T-36: every committed event arrives, once, in order, without a gap; nobody waits for a stranger.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_the_feed_loses_nothing_whatever_dies() {
    let began = Instant::now();
    let (field, documents) = Field::new().await;
    // A write transaction in another database that never ends would stall feeds that wait for it.
    let elsewhere = Database::empty("elsewhere").await;
    let idle = elsewhere.connect().await;
    idle.batch_execute("CREATE TABLE t (n int); BEGIN; INSERT INTO t VALUES (1)").await.unwrap();

    let store = Store::open(&field.database.config(), Clock::database()).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let mut served = tokio::spawn(service(field.clone(), documents, stopped.clone()));
    let cuts = AbortOnDropHandle::new(tokio::spawn(sequencers(store, stopped)));
    let share = 16 / CONSUMERS;
    let consumers: Vec<_> =
        (0..CONSUMERS).map(|n| Consumer::start(&field, (n * share..(n + 1) * share).collect())).collect();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS.0 {
        writers.spawn(sql_writer(field.clone()));
    }
    for _ in 0..WRITERS.1 {
        writers.spawn(rpc_writer(field.clone()));
    }
    all_written(writers, &mut served).await;
    let wrote = began.elapsed();
    // The kills end; what lives on has to bring everything.
    stop.send_replace(true);
    let cuts = cuts.await.unwrap();
    let (process, kills) = served.await.unwrap();
    let expected = written(&field.database).await;
    let total: u64 = expected.values().sum();
    assert!(total >= field.size && total >= field.committed.load(Ordering::Relaxed));
    let calm = Instant::now();
    let told = || consumers.iter().map(|consumer| consumer.kept().events).sum::<u64>();
    while told() < total {
        assert!(calm.elapsed() < CALM, "{} of {total} events arrived", told());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let arrived = calm.elapsed();
    let mut seen = HashMap::new();
    let (mut deaths, mut events) = (0, 0);
    for consumer in &consumers {
        let kept = consumer.kept();
        (deaths, events) = (deaths + kept.deaths, events + kept.events);
        assert_eq!(kept.wrong, Vec::<String>::new(), "each event once and in order");
        for (envelope, last) in &kept.last {
            assert_eq!(seen.insert(envelope.clone(), *last), None, "an envelope is one consumer's");
        }
    }
    assert_eq!((events, &seen), (total, &expected));
    check_rows(&field.database).await;
    assert!(
        cuts > 3 && kills >= KILLS_MIN && deaths > 3,
        "{cuts} sequencers, {kills} services and {deaths} consumers died"
    );
    drop(consumers);
    let (p50, p99, worst) = latencies(&field).await;
    eprintln!(
        "soak: {total} events written in {wrote:.1?}, the last {arrived:.1?} after the last kill; {cuts} sequencers, {kills} \
         services, {deaths} consumers killed; commit to delivery p50 {p50:.0?} p99 {p99:.0?} worst {worst:.0?} (aim: p99 < 250 ms)"
    );
    process.kill().await;
    drop(idle);
}
