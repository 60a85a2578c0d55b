//! Who acts in the soak: writers, sequencers, a service that is killed, consumers that die.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use countersign::follow::Follower;
use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{Event, Routing, WatchStart, WatchStatusChangesRequest};
use countersign_envelope::domain::id::EnvelopeId;
use countersign_envelope::store::Store;
use countersign_test_support::Caller;
use countersign_test_support::binary::Process;
use countersign_test_support::service::SERVICE_TOKEN;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Endpoint;

use super::{Field, KILLS_MIN};

fn below(bound: u64) -> u64 {
    rand::random::<u64>() % bound
}

fn milliseconds(from: u64, to: u64) -> Duration {
    Duration::from_millis(from + below(to - from))
}

impl Field {
    /// A caller at wherever the service is just now.
    fn at(&self, token: &str) -> Caller {
        let channel = Endpoint::from_shared(format!("http://{}", *self.address.borrow())).unwrap().connect_lazy();
        Caller { channel, token: token.to_owned(), account: self.sender.account.clone() }
    }
}

/// An envelope's first event again as its next ones, under the envelope's lock as the service does it.
const WRITE: &str = "WITH place AS (
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
    UPDATE envelope SET sequence = sequence + $2 WHERE id = $1 RETURNING sequence";

async fn lock(transaction: &tokio_postgres::Transaction<'_>, envelope: uuid::Uuid) {
    transaction.execute("SELECT FROM envelope WHERE id = $1 FOR NO KEY UPDATE", &[&envelope]).await.unwrap();
}

/// Writes as transactions do that take their time: before the lock, between the rows and the end; one in twenty comes to
/// nothing.
pub async fn sql_writer(field: Field) {
    let mut client = field.database.connect().await;
    while !field.is_written() {
        let envelope = field.envelopes[usize::try_from(below(field.envelopes.len() as u64)).unwrap()];
        let events = i64::try_from(1 + below(8)).unwrap();
        let transaction = client.transaction().await.unwrap();
        lock(&transaction, envelope).await;
        transaction.query_one(WRITE, &[&envelope, &events]).await.unwrap();
        sleep(Duration::from_millis(below(21))).await;
        if below(20) == 0 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
            field.committed.fetch_add(events.unsigned_abs(), Ordering::Relaxed);
        }
    }
}

/// Creates, sends and voids by the calls that everybody uses. What fails may have happened or not.
pub async fn rpc_writer(field: Field) {
    while !field.is_written() {
        let sender = field.at(&field.sender.token);
        while let Ok(made) = sender.create(countersign_test_support::client::request(1, Routing::Parallel, true)).await
        {
            field.committed.fetch_add(3, Ordering::Relaxed);
            if sender.void(&made.id, "soak").await.is_ok() {
                field.committed.fetch_add(1, Ordering::Relaxed);
            }
            if field.is_written() {
                return;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Three sequencers besides the service's own, of which one is cut wherever it stands every now and then. Says how often.
pub async fn sequencers(store: Store, mut stopped: watch::Receiver<bool>) -> u64 {
    let start = || {
        let store = store.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                if !store.sequence().await.is_ok_and(|moved| moved > 0) {
                    sleep(milliseconds(1, 10)).await;
                }
            }
        }))
    };
    let mut running = [start(), start(), start()];
    let mut cuts = 0;
    while tokio::time::timeout(milliseconds(20, 200), stopped.wait_for(|stopped| *stopped)).await.is_err() {
        running[usize::try_from(below(3)).unwrap()] = start();
        cuts += 1;
    }
    cuts
}

/// The service as operators start it, killed with -9 again and again until it is told to live; says how often.
pub async fn service(field: Field, documents: tempfile::TempDir, mut stopped: watch::Receiver<bool>) -> (Process, u64) {
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", field.database.url.as_str()),
        ("COUNTERSIGN_MASTER_KEY", &"5c".repeat(32)),
        ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
        ("COUNTERSIGN_DOCUMENTS", documents.path().to_str().unwrap()),
        ("COUNTERSIGN_UNSEALED", "true"),
    ];
    let mut kills = 0;
    loop {
        let process = Process::start("countersign-envelope", &settings).await;
        field.address.send_replace(process.address.clone());
        let life = milliseconds(700, 2_500);
        if kills < KILLS_MIN {
            sleep(life).await;
        } else if tokio::time::timeout(life, stopped.wait_for(|stopped| *stopped)).await.is_ok() {
            return (process, kills);
        }
        process.kill().await;
        kills += 1;
    }
}

/// What a consumer keeps, as in one transaction: the place, and what followed from the events before it.
#[derive(Default)]
pub struct Kept {
    token: String,
    /// The last event of each envelope.
    pub last: HashMap<String, u64>,
    pub events: u64,
    /// What came twice, too early or too late.
    pub wrong: Vec<String>,
    pub deaths: u64,
}

impl Kept {
    fn take(&mut self, event: Option<Event>, token: String) {
        self.token = token;
        let Some(event) = event else { return };
        let last = self.last.entry(event.envelope_id.clone()).or_default();
        if event.sequence != *last + 1 && self.wrong.len() < 10 {
            self.wrong.push(format!("{} behind {last} of {}", event.sequence, event.envelope_id));
        }
        *last = event.sequence;
        self.events += 1;
    }
}

/// Somebody who follows some of the partitions, and dies of it every now and then.
pub struct Consumer {
    kept: Arc<Mutex<Kept>>,
    _task: AbortOnDropHandle<()>,
}

impl Consumer {
    pub fn start(field: &Field, partitions: Vec<u32>) -> Self {
        let (kept, field) = (Arc::<Mutex<Kept>>::default(), field.clone());
        let task = tokio::spawn({
            let kept = Arc::clone(&kept);
            async move {
                loop {
                    let resume_token = kept.lock().unwrap().token.clone();
                    let (partitions, start) = (partitions.clone(), WatchStart::Oldest.into());
                    let request = WatchStatusChangesRequest { resume_token, partitions, start, ..Default::default() };
                    let life = milliseconds(100, 1_500);
                    let _ = tokio::time::timeout(life, follow(&field, request, &kept)).await;
                    kept.lock().unwrap().deaths += 1;
                }
            }
        });
        Self { kept, _task: AbortOnDropHandle::new(task) }
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }
}

async fn follow(field: &Field, request: WatchStatusChangesRequest, kept: &Mutex<Kept>) {
    let here = field.clone();
    let mut follower = Follower::with(request, move |request| {
        let mut client = here.at(SERVICE_TOKEN).envelopes();
        async move { Ok(client.watch_status_changes(request).await?.into_inner()) }
    });
    loop {
        let step = follower.next().await.expect("it goes on");
        kept.lock().unwrap().take(step.event, step.resume_token);
    }
}

/// From commit to delivery, one event at a time while nothing dies: median, 99th percentile, worst.
pub async fn latencies(field: &Field) -> (Duration, Duration, Duration) {
    const EVENTS: usize = 400;
    let client = field.at(SERVICE_TOKEN);
    let request = WatchStatusChangesRequest::default();
    let mut stream = client.envelopes().watch_status_changes(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    let reading = tokio::spawn(async move {
        let mut told = HashMap::new();
        while told.len() < EVENTS {
            if let Some(Item::Event(event)) = stream.message().await.unwrap().unwrap().item {
                told.insert((event.envelope_id, event.sequence), Instant::now());
            }
        }
        told
    });
    let mut database = field.database.connect().await;
    let mut committed = HashMap::new();
    for round in 0..EVENTS {
        let envelope = field.envelopes[round % field.envelopes.len()];
        let transaction = database.transaction().await.unwrap();
        lock(&transaction, envelope).await;
        let sequence: i64 = transaction.query_one(WRITE, &[&envelope, &1_i64]).await.unwrap().get(0);
        transaction.commit().await.unwrap();
        committed.insert((EnvelopeId::from_uuid(envelope).to_string(), sequence.unsigned_abs()), Instant::now());
        sleep(milliseconds(1, 12)).await;
    }
    let told = reading.await.unwrap();
    let mut taken: Vec<_> = committed.iter().map(|(event, at)| told[event].saturating_duration_since(*at)).collect();
    taken.sort();
    (taken[EVENTS / 2], taken[EVENTS * 99 / 100], taken[EVENTS - 1])
}
