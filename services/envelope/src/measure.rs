//! What the service counts of its own business: envelopes and what becomes of them, documents that wait, seals, timers. The
//! chassis counts the calls.
//!
//! Never an id, an account or an address as an attribute. Looks at the database are few and bounded: they cost the same however
//! many envelopes there are, or stop counting.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use countersign_chassis::metrics::{counter, gauge, seconds};
use countersign_chassis::ticker::Progress;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};

use crate::domain::envelope::{Envelope, SealLevel};
use crate::domain::event::EventType;
use crate::domain::record::Recorded;
use crate::domain::status::Status;
use crate::store::{Due, Duty, Store};

/// How long people take, in seconds: from a minute to a quarter.
const COMPLETION_SECONDS: [f64; 12] = [
    60.0,
    300.0,
    900.0,
    3_600.0,
    14_400.0,
    43_200.0,
    86_400.0,
    259_200.0,
    604_800.0,
    1_209_600.0,
    2_592_000.0,
    7_776_000.0,
];
/// How long documents take, in seconds.
const WORK_SECONDS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 100.0];
/// The statuses of envelopes for which something may still happen.
const OPEN: [Status; 3] = [Status::Pending, Status::Sent, Status::PartiallySigned];

struct Instruments {
    events: Counter<u64>,
    transitions: Counter<u64>,
    completion: Histogram<f64>,
    open: Gauge<f64>,
    waiting: Gauge<f64>,
    waiting_age: Gauge<f64>,
    timers: Gauge<f64>,
    jobs: Gauge<f64>,
    jobs_age: Gauge<f64>,
    work: Histogram<f64>,
    seals: Counter<u64>,
    replica_reads: Counter<u64>,
    replica_age: Gauge<f64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| Instruments {
    events: counter("countersign.events", "{event}", "What happened, by type."),
    transitions: counter("countersign.envelope.transitions", "{envelope}", "Envelopes that came into a status."),
    completion: seconds("countersign.envelope.completion.duration", "From create to completed.", &COMPLETION_SECONDS),
    open: gauge("countersign.envelopes.open", "{envelope}", "Dispatched envelopes on which people still act."),
    waiting: gauge("countersign.outbox.events", "{event}", "What happened and has no place in the feed yet."),
    waiting_age: gauge("countersign.outbox.age", "s", "How long the oldest of these has waited."),
    timers: gauge("countersign.timer.lag", "s", "How long the oldest is late of what time asks for."),
    jobs: gauge("countersign.jobs", "{job}", "Documents that are to be made or read."),
    jobs_age: gauge("countersign.jobs.age", "s", "How long the oldest of these has waited."),
    work: seconds("countersign.job.duration", "How long making or reading documents took, at each try.", &WORK_SECONDS),
    seals: counter("countersign.seals", "{document}", "Documents that were made, by the level of their seal."),
    replica_reads: counter(
        "countersign.replica.reads",
        "{read}",
        "CACHED reads that a replica was asked for, by what came of it.",
    ),
    replica_age: gauge("countersign.replica.age", "s", "How old what the replica shows is at most."),
});

/// What came of asking the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaRead {
    /// It showed what was asked for, or that it is not there.
    Shown,
    /// What it shows is too old.
    Behind,
    /// It did not answer.
    Away,
}

impl ReplicaRead {
    const ALL: [Self; 3] = [Self::Shown, Self::Behind, Self::Away];

    fn attribute(self) -> KeyValue {
        let name = match self {
            Self::Shown => "shown",
            Self::Behind => "behind",
            Self::Away => "away",
        };
        KeyValue::new("countersign.replica.outcome", name)
    }
}

/// The replica was asked.
pub fn read_from_replica(outcome: ReplicaRead) {
    INSTRUMENTS.replica_reads.add(1, &[outcome.attribute()]);
}

/// What is made or read, as attributes say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The documents of an ended envelope: drawn, sealed, stored.
    Seal,
    /// A document that came in.
    Ingest,
}

impl Work {
    fn attribute(self) -> KeyValue {
        KeyValue::new("countersign.job", if self == Self::Seal { "seal" } else { "ingest" })
    }
}

/// Lets what is counted be there before it first happens.
pub fn declare() {
    let it = &*INSTRUMENTS;
    EventType::ALL.iter().for_each(|kind| it.events.add(0, &[event(*kind)]));
    Status::ALL.into_iter().for_each(|into| it.transitions.add(0, &[status(into)]));
    SealLevel::ALL.into_iter().for_each(|level| it.seals.add(0, &[seal(level)]));
    due(DateTime::UNIX_EPOCH, &[]);
}

/// The same of what there is with a replica only.
pub fn declare_replica() {
    ReplicaRead::ALL.into_iter().for_each(|outcome| INSTRUMENTS.replica_reads.add(0, &[outcome.attribute()]));
}

/// Looks how old the replica is.
pub async fn look_at_replica(store: &Store) -> anyhow::Result<Progress> {
    // A replica that says nothing is as old as can be told.
    let age = store.replica_age().await;
    let seconds = age.as_ref().ok().copied().flatten().map_or(f64::INFINITY, long);
    INSTRUMENTS.replica_age.record(seconds, &[]);
    age?;
    Ok(Progress::Idle)
}

fn event(kind: EventType) -> KeyValue {
    KeyValue::new("countersign.event.type", kind.name())
}

fn status(status: Status) -> KeyValue {
    KeyValue::new("countersign.envelope.status", status.name())
}

fn seal(level: SealLevel) -> KeyValue {
    let name = match level {
        SealLevel::None => "none",
        SealLevel::Basic => "basic",
        SealLevel::Timestamped => "timestamped",
        SealLevel::LongTerm => "long_term",
    };
    KeyValue::new("countersign.seal.level", name)
}

/// A change is committed, and with it perhaps an envelope that came to be.
pub fn changed(before: &Envelope, after: &Envelope, events: &[Recorded], also: Option<&(Envelope, Vec<Recorded>)>) {
    happened(Some(before.status()), after, events);
    if let Some((new, first)) = also {
        happened(None, new, first);
    }
}

/// These events are committed; `before` is the status from which they came, if there was one.
pub fn happened(before: Option<Status>, after: &Envelope, events: &[Recorded]) {
    let it = &*INSTRUMENTS;
    events.iter().for_each(|one| it.events.add(1, &[event(one.kind)]));
    let now = after.status();
    if before == Some(now) {
        return;
    }
    it.transitions.add(1, &[status(now)]);
    if let (Status::Completed, Some(at)) = (now, after.facts.completed_at) {
        it.completion.record(long(at - after.facts.created_at), &[]);
    }
}

/// A try at documents took so long.
pub fn worked(work: Work, took: std::time::Duration, outcome: &'static str) {
    let of = [work.attribute(), KeyValue::new("countersign.outcome", outcome)];
    INSTRUMENTS.work.record(took.as_secs_f64(), &of);
}

/// A document was made.
pub fn made(level: SealLevel) {
    INSTRUMENTS.seals.add(1, &[seal(level)]);
}

/// This is what time asks for now.
pub fn due(now: DateTime<Utc>, found: &[Due]) {
    for duty in Duty::ALL {
        let name = match duty {
            Duty::Expire => "expire",
            Duty::Release => "release",
            Duty::Warn => "warn",
            Duty::Remind => "remind",
        };
        let first = found.iter().find(|due| due.duty == duty).map(|due| due.first);
        INSTRUMENTS.timers.record(age(now, first), &[KeyValue::new("countersign.duty", name)]);
    }
}

/// Looks at what waits.
pub async fn look(store: &Store) -> anyhow::Result<Progress> {
    let (it, waiting) = (&*INSTRUMENTS, store.waiting().await?);
    it.waiting.record(many(waiting.outbox.count), &[]);
    it.waiting_age.record(age(waiting.now, waiting.outbox.since), &[]);
    for (work, queue) in [(Work::Seal, waiting.seal), (Work::Ingest, waiting.ingest)] {
        it.jobs.record(many(queue.count), &[work.attribute()]);
        it.jobs_age.record(age(waiting.now, queue.since), &[work.attribute()]);
    }
    Ok(Progress::Idle)
}

/// Counts the open envelopes.
pub async fn count(store: &Store) -> anyhow::Result<Progress> {
    let counted = store.open_by_status().await?;
    for open in OPEN {
        let count = counted.iter().find(|(status, _)| *status == open as i16).map_or(0, |(_, count)| *count);
        INSTRUMENTS.open.record(many(count), &[status(open)]);
    }
    Ok(Progress::Idle)
}

fn age(now: DateTime<Utc>, since: Option<DateTime<Utc>>) -> f64 {
    since.map_or(0.0, |since| long(now - since))
}

fn long(time: chrono::TimeDelta) -> f64 {
    time.to_std().unwrap_or_default().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts stop far below")]
fn many(count: i64) -> f64 {
    count as f64
}
