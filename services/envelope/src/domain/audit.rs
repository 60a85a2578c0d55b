//! Whether an envelope is what its history says. Pure: it is given the rows and says what is wrong with them.
//!
//! Must never quote anything personal: it names fields, numbers and times.

use chrono::{DateTime, Utc};

use super::credit::{Amount, owed};
use super::envelope::{Envelope, Version};
use super::event::EventType;
use super::id::{DocumentId, EnvelopeId};
use super::record::{Record, State, state};
use super::status::{Facts, Status};
use super::verify::{Entry, Verifier};

/// What is wrong: the invariant, and how it does not hold.
pub type Fault = (&'static str, String);

/// What stands beside an event's record in its row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns")]
pub struct Columns {
    pub id: uuid::Uuid,
    pub kind: i16,
    pub recipient: Option<uuid::Uuid>,
    pub occurred_at: DateTime<Utc>,
}

/// What stands beside an envelope in other rows and columns, which follow from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// The column that the database derives.
    pub status: i16,
    /// When those who owe an act are looked for to be warned.
    pub warning_at: Option<DateTime<Utc>>,
    /// When they are looked for to be reminded.
    pub reminder_at: Option<DateTime<Utc>>,
    /// When the next step of its keeping is looked for.
    pub keeping_at: Option<DateTime<Utc>>,
    /// Artefacts that are to be made.
    pub artifact_jobs: Vec<i16>,
    /// Documents that are to be read.
    pub readings: Vec<DocumentId>,
    /// Entries of the ledger: charges, and refunds.
    pub charges: Vec<Amount>,
    /// What came back.
    pub refunds: Vec<Amount>,
}

/// Follows a history and then looks at the envelope.
#[derive(Debug)]
pub struct Audit {
    verifier: Verifier,
    facts: Facts,
    last: Option<Record>,
    ends: u32,
    faults: Vec<Fault>,
    is_broken: bool,
}

impl Audit {
    /// Before the first event.
    #[must_use]
    pub fn new(id: EnvelopeId) -> Self {
        let facts = Facts::created(DateTime::UNIX_EPOCH);
        Self { verifier: Verifier::new(id), facts, last: None, ends: 0, faults: Vec::new(), is_broken: false }
    }

    /// Takes the next event. Behind the first that is not right no other is looked at: nobody knows what they follow.
    pub fn follow(&mut self, entry: &Entry, columns: &Columns) {
        if self.is_broken {
            return;
        }
        let sequence = entry.sequence;
        if let Err(flaw) = self.verifier.follow(entry) {
            self.is_broken = true;
            return self.faults.push(("history.chain", format!("event {sequence}: {flaw:?}")));
        }
        // The verifier has read it already.
        let Ok(record) = serde_json::from_slice::<Record>(&entry.record) else { return };
        let beside = Columns {
            id: record.id.uuid(),
            kind: record.kind as i16,
            recipient: record.recipient.map(|id| id.uuid()),
            occurred_at: record.occurred_at,
        };
        if beside != *columns {
            self.faults.push(("history.columns", format!("event {sequence}: its columns are not its record")));
        }
        let (revision, at) = self.last.as_ref().map_or((0, DateTime::UNIX_EPOCH), |it| (it.revision, it.occurred_at));
        let follows = record.revision == revision + 1 || (revision > 0 && record.revision == revision);
        if !follows || record.occurred_at < at {
            self.faults
                .push(("history.order", format!("event {sequence}: revision {} behind {revision}", record.revision)));
        }
        self.replay(&record);
        self.last = Some(record);
    }

    fn replay(&mut self, record: &Record) {
        let (facts, at) = (&mut self.facts, record.occurred_at);
        let fact = match record.kind {
            EventType::EnvelopeCreated => {
                facts.created_at = at;
                return;
            }
            EventType::EnvelopeSent => {
                facts.dispatched_at.get_or_insert(at);
                &mut facts.sent_at
            }
            EventType::RecipientSigned => {
                facts.first_signed_at.get_or_insert(at);
                return;
            }
            EventType::EnvelopeDispatched => &mut facts.dispatched_at,
            EventType::EnvelopeAllActed => &mut facts.all_acted_at,
            EventType::EnvelopeCompleted => &mut facts.completed_at,
            EventType::EnvelopeDeclined => &mut facts.declined_at,
            EventType::EnvelopeVoided => &mut facts.voided_at,
            EventType::EnvelopeExpired => &mut facts.expired_at,
            EventType::EnvelopeDiscarded => &mut facts.discarded_at,
            _ => return,
        };
        *fact = Some(at);
        let ends = [&facts.completed_at, &facts.declined_at, &facts.voided_at, &facts.expired_at, &facts.discarded_at];
        let ended = ends.iter().filter(|end| end.is_some()).count();
        let is_end = record.state.status.is_terminal() || record.kind == EventType::EnvelopeDiscarded;
        self.ends += u32::from(is_end);
        if ended > 1 || self.ends > 1 {
            self.faults.push(("history.end", format!("event {}: it ends a second time", record.sequence)));
        }
    }

    /// Behind the last event: what is wrong with the envelope.
    #[must_use]
    pub fn finish(mut self, envelope: &Envelope, beside: &Beside) -> Vec<Fault> {
        if !self.is_broken {
            if let Err(flaw) = self.verifier.finish(envelope.sequence, &envelope.chain) {
                self.faults.push(("history.chain", format!("behind event {}: {flaw:?}", self.verifier.sequence())));
            } else if let Some(last) = self.last.take() {
                self.present(envelope, &last);
            }
        }
        self.money(envelope, beside);
        self.work(envelope, beside);
        self.faults
    }

    fn fault(&mut self, is_one: bool, invariant: &'static str, what: &str) {
        if is_one {
            self.faults.push((invariant, what.to_owned()));
        }
    }

    /// The envelope is what its last record says, and its facts are when the records say.
    fn present(&mut self, envelope: &Envelope, last: &Record) {
        let moved = (envelope.revision, envelope.last_event_at) != (last.revision, last.occurred_at);
        self.fault(moved, "envelope.revision", "it is not that of the last event");
        let owner = (envelope.account, envelope.livemode) != (last.account, last.livemode);
        self.fault(owner, "envelope.owner", "account or mode are not those of the last event");
        self.fault(self.facts != envelope.facts, "envelope.facts", "they are not what the history says");
        let (mut now, mut then) = (state(envelope), last.state.clone());
        if envelope.facts.discarded_at.is_some() && envelope.keeping.is_purged() {
            // Nobody is told of the purge of what is nobody's.
            (now, then) = (bare(now), bare(then));
        }
        self.fault(
            now != then,
            "envelope.state",
            &format!("it differs from the last event in {}", difference(&now, &then)),
        );
    }

    /// What was charged and what came back.
    fn money(&mut self, envelope: &Envelope, beside: &Beside) {
        let Some(charge) = &envelope.charge else {
            let entered = !beside.charges.is_empty() || !beside.refunds.is_empty();
            self.fault(entered, "ledger.envelope", "entries without a charge");
            let free = envelope.livemode && envelope.facts.dispatched_at.is_some();
            return self.fault(free, "ledger.envelope", "dispatched without a charge");
        };
        let once = |value: u64| Some(Amount { value, ..charge.amount }).filter(|it| it.value > 0).into_iter();
        let charged = once(charge.amount.value).eq(beside.charges.iter().copied());
        self.fault(!charged, "ledger.charge", "not charged once, as the envelope says");
        let refunded = once(charge.refunded.unwrap_or_default()).eq(beside.refunds.iter().copied());
        self.fault(!refunded, "ledger.refund", "not refunded once, as the envelope says");
        let owes = owed(envelope, charge) == charge.refunded;
        self.fault(!owes, "ledger.refund", "what came back is not what the policy says");
        self.fault(!envelope.livemode, "ledger.envelope", "a test was charged");
    }

    /// What the loops look for is what there is to be done.
    fn work(&mut self, envelope: &Envelope, beside: &Beside) {
        let (status, facts) = (envelope.status(), &envelope.facts);
        self.fault(beside.status != status as i16, "envelope.status", "the column is not what follows from the facts");
        self.fault(beside.warning_at != envelope.warning_at(), "timer.warning", "it is not when the warning is due");
        let next = envelope.next_step().map(|(at, _)| at);
        self.fault(beside.keeping_at != next, "timer.keeping", "it is not when the next step is due");
        // One that is looked for may be put off, by quiet hours and other calendars; none is forgotten.
        let forgotten = envelope.reminder_at().is_some_and(|at| beside.reminder_at.is_none_or(|looks| looks < at));
        self.fault(forgotten, "timer.reminder", "a reminder is not looked for when it is due");
        let purged = envelope.keeping.is_purged();
        let has = |version: Version| envelope.documents.iter().all(|document| document.artifact(version).is_some());
        let owed: &[i16] = match status {
            Status::Sent | Status::PartiallySigned if facts.all_acted_at.is_some() => &[Version::Signed as i16],
            Status::Declined if !purged && !has_artifact(envelope) => &[Version::Declined as i16],
            _ => &[],
        };
        self.fault(beside.artifact_jobs != owed, "job.artifact", "what is to be made is not what is owed");
        let sealed = status != Status::Completed || has(Version::Signed);
        self.fault(!sealed, "envelope.artifacts", "completed without its documents");
        if !status.is_terminal() && facts.discarded_at.is_none() {
            let awaited = envelope.documents.iter().filter(|it| it.awaits.is_some()).map(|document| document.id);
            let awaited: std::collections::BTreeSet<DocumentId> = awaited.collect();
            let looked = beside.readings.iter().copied().collect();
            self.fault(awaited != looked, "job.reading", "what is to be read is not what is awaited");
        }
        let mut forgotten = envelope.clone();
        forgotten.forget_content();
        self.fault(purged && forgotten != *envelope, "purge.content", "what was purged is still there");
    }
}

fn has_artifact(envelope: &Envelope) -> bool {
    envelope.documents.iter().any(|document| !document.artifacts.is_empty())
}

/// Without what goes when content goes.
fn bare(mut state: State) -> State {
    state.has_webhook = false;
    state.documents.iter_mut().for_each(|document| document.fault = None);
    state
}

fn difference(now: &State, then: &State) -> String {
    let parts = [
        ("status", now.status != then.status),
        ("deadline", now.expires_at != then.expires_at),
        ("cause", now.cause != then.cause),
        ("recipients", now.recipients != then.recipients),
        ("documents", now.documents != then.documents),
        ("watchers", now.watchers != then.watchers || now.has_webhook != then.has_webhook),
        ("keeping", now.purge_at != then.purge_at || now.legal_hold != then.legal_hold),
    ];
    parts.iter().filter(|(_, differs)| *differs).map(|(part, _)| *part).collect::<Vec<_>>().join(", ")
}
