//! Whether what was answered is what the rules give when the commands come one after another.
//!
//! Each accepted change has a revision of its own, so the order is known; it must agree with real time. What changed
//! nothing must be what the rules give in a state that the envelope had between the call and its answer.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Instant;

use countersign::v1::{ActorType, EventType};
use countersign_envelope::domain::apply::apply;
use countersign_envelope::domain::command::{Command, NewArtifact};
use countersign_envelope::domain::decide::{Decision, Verdict, decide};
use countersign_envelope::domain::envelope::{Envelope, SealLevel, Version};
use countersign_envelope::domain::refusal::{Refusal, Transition, Why};

use super::history::{Entry, Person};
use super::plan::What;
use super::run::{Record, Refused, Trace};
use super::world::{address, command, envelope};

/// What the checks hold together.
pub struct Model<'a> {
    trace: &'a Trace,
    first: u64,
    /// Who made which revision.
    doers: BTreeMap<u64, &'a Record>,
    /// As the envelope was at `first` and at each revision since.
    states: Vec<Envelope>,
    /// Which revisions were told when.
    told: Vec<(Instant, u64)>,
}

/// Checks everything that the model says about a sequence.
pub fn check(trace: &Trace) -> Result<Vec<Envelope>, String> {
    let doers = doers(trace)?;
    let told = trace.records.iter().filter_map(|record| {
        let told = match &record.answer {
            Ok(done) => done.revision,
            Err(refused) => refused.revision,
        };
        told.map(|revision| (record.end, revision))
    });
    let mut told: Vec<_> = told.collect();
    told.extend(doers.iter().map(|(revision, record)| (record.end, *revision)));
    let first = trace.start.revision;
    let mut model = Model { trace, first, doers, states: Vec::new(), told };
    model.real_time()?;
    model.replay()?;
    for record in &trace.records {
        model.answer(record).map_err(|why| format!("{} {:?}: {why}", record.tag, record.what))?;
    }
    model.end()?;
    Ok(model.states)
}

/// Who made which revision; none for what the service did by itself.
fn doers(trace: &Trace) -> Result<BTreeMap<u64, &Record>, String> {
    let mut claims: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    for record in &trace.records {
        if let Some(revision) = claimed(record, trace)? {
            claims.entry(revision).or_default().push(record);
        }
    }
    let mut doers = BTreeMap::new();
    let last = trace.history.last().unwrap().revision;
    for revision in trace.start.revision..=last {
        let mut claiming = claims.remove(&revision).unwrap_or_default();
        let entries = at(trace, revision);
        let by_itself = entries.iter().all(|entry| entry.actor == i32::from(ActorType::System));
        if revision > trace.start.revision && !by_itself {
            claiming.sort_by_key(|record| record.start);
            let made = claiming.iter().position(|record| made(record, trace, entries[0]));
            let made = made.ok_or_else(|| format!("nobody was told of revision {revision}: {entries:?}"))?;
            doers.insert(revision, claiming.remove(made));
        }
        // What may have been done before tells the revision too.
        if let Some(other) = claiming.iter().find(|it| !may_be_repeated(&it.what)) {
            return Err(format!("{} {:?} was told revision {revision}, which is not its", other.tag, other.what));
        }
    }
    if let Some((revision, _)) = claims.first_key_value() {
        return Err(format!("somebody was told revision {revision}, which there is not"));
    }
    Ok(doers)
}

/// What tells the revision also where it had been done before.
pub(super) fn may_be_repeated(what: &What) -> bool {
    matches!(what, What::View(..) | What::Extend(_) | What::Reassign(..) | What::Mute(..))
}

fn at(trace: &Trace, revision: u64) -> Vec<&Entry> {
    trace.history.iter().filter(|entry| entry.revision == revision).collect()
}

/// The revision that a call says it made.
fn claimed(record: &Record, trace: &Trace) -> Result<Option<u64>, String> {
    let Ok(done) = &record.answer else { return Ok(None) };
    if done.already == Some(true) {
        return Ok(None);
    }
    let find = |kind: EventType, own: &dyn Fn(&&Entry) -> bool| {
        let entry = trace.history.iter().filter(|entry| entry.kind == i32::from(kind)).find(own);
        let missing = || format!("{} {:?} succeeded, but there is no such event", record.tag, record.what);
        entry.map(|entry| Some(entry.revision)).ok_or_else(missing)
    };
    match record.what {
        What::Delegate(..) => {
            find(EventType::RecipientDelegated, &|entry| entry.after.split(' ').nth(1) == Some(&record.tag))
        }
        What::Discard => find(EventType::EnvelopeDiscarded, &|_| true),
        What::Replace => find(EventType::EnvelopeReplaced, &|_| true),
        _ => done.revision.map(Some).ok_or_else(|| format!("{} {:?}: no revision", record.tag, record.what)),
    }
}

/// True if that event is the first of what the call asks for, as far as its own condition goes: of two that ask for the same,
/// the later finds it done.
fn made(record: &Record, trace: &Trace, entry: &Entry) -> bool {
    use EventType as E;
    if record.if_revision != 0 && record.if_revision + 1 != entry.revision {
        return false;
    }
    let id = |index: usize| trace.start.recipients[index].id.as_str();
    let (kinds, recipient): (&[E], Option<&str>) = match record.what {
        What::Send => (&[E::EnvelopeSent, E::EnvelopeDispatched], None),
        What::Subject | What::Policies(_) | What::RemoveField(_) => (&[E::EnvelopeUpdated], None),
        What::Discard => (&[E::EnvelopeDiscarded], None),
        What::View(it, _) => (&[E::RecipientViewed], Some(id(it))),
        What::Fill(it, ..) => (&[E::RecipientFilled], Some(&trace.start.recipients[it].assists_recipient_id)),
        What::Sign(it, ..) => (&[E::RecipientSigned], Some(id(it))),
        What::Approve(it, ..) => (&[E::RecipientApproved], Some(id(it))),
        What::Decline(it, ..) | What::DeclineFor(it, _) | What::DeclineAsUser(it, ..) => {
            (&[E::RecipientDeclined], Some(id(it)))
        }
        What::Delegate(it, ..) => (&[E::RecipientDelegated], Some(id(it))),
        What::Reassign(it, _) => (&[E::RecipientReassigned], Some(id(it))),
        What::Resend(it, _) => (&[E::RecipientResent], it.map(id)),
        What::Remind(it) => (&[E::RecipientReminderDue], it.map(id)),
        What::Mute(it, _) => (&[E::RecipientMuted], Some(id(it))),
        What::Extend(_) => (&[E::EnvelopeDeadlineChanged], None),
        What::Void(_) => (&[E::EnvelopeVoided], None),
        What::Replace => (&[E::EnvelopeReplaced], None),
    };
    kinds.iter().any(|kind| i32::from(*kind) == entry.kind) && recipient.is_none_or(|id| id == entry.recipient)
}

/// What the rules may have given.
enum Expected {
    NotFound,
    Mismatch,
    Decided(Box<Decision>),
}

impl Model<'_> {
    fn last(&self) -> u64 {
        self.trace.history.last().unwrap().revision
    }

    fn state(&self, revision: u64) -> &Envelope {
        &self.states[usize::try_from(revision - self.first).unwrap()]
    }

    /// A call that began after another had ended comes after it.
    fn real_time(&self) -> Result<(), String> {
        for (earlier, one) in &self.doers {
            for (later, other) in self.doers.range(earlier + 1..) {
                hold!(one.start <= other.end, "revision {later} was there before revision {earlier} was asked for");
            }
        }
        Ok(())
    }

    /// The commands one after another, in the order of their revisions.
    fn replay(&mut self) -> Result<(), String> {
        let before: Vec<_> = self.trace.history.iter().filter(|entry| entry.revision <= self.first).collect();
        let last = before.last().unwrap();
        self.states.push(envelope(&self.trace.start, last.sequence, last.at));
        same(self.state(self.first), last)?;
        for revision in self.first + 1..=self.last() {
            let (entries, state) = (at(self.trace, revision), self.state(revision - 1));
            let (command, expected) = match self.doers.get(&revision) {
                Some(record) => {
                    let expected = (record.if_revision != 0).then_some(record.if_revision);
                    (command(record, &self.trace.start), expected)
                }
                None => (duty(entries[0], state)?, None),
            };
            let now = entries[0].at;
            let Decision { events, verdict } = decide(state, &command, expected, now);
            let context = format!("revision {revision}, {command:?}");
            hold!(verdict == Verdict::Done, "{context}: the model says {verdict:?}");
            let kind = |kind: i32, recipient: String| {
                format!("{}:{recipient}", EventType::try_from(kind).unwrap().as_str_name())
            };
            let theirs: Vec<_> = entries.iter().map(|entry| kind(entry.kind, entry.recipient.clone())).collect();
            let ours = events
                .iter()
                .map(|event| kind(event.kind() as i32, event.recipient().map(|id| id.to_string()).unwrap_or_default()));
            let ours: Vec<_> = ours.collect();
            hold!(ours == theirs, "{context}: the model has {ours:?}, the history {theirs:?}");
            let mut next = state.clone();
            next.revision += 1;
            next.last_event_at = now;
            for (event, entry) in events.iter().zip(&entries) {
                apply(&mut next, event, now);
                next.sequence += 1;
                hold!(next.sequence == entry.sequence, "{context}: sequence {}", entry.sequence);
                same(&next, entry).map_err(|why| format!("{context}: {why}"))?;
            }
            self.states.push(next);
        }
        Ok(())
    }

    /// The revisions that the envelope may have had between two instants.
    fn window(&self, from: Instant, till: Instant) -> RangeInclusive<u64> {
        let known = self.told.iter().filter(|(at, _)| *at < from).map(|(_, revision)| *revision);
        let later = self.doers.iter().filter(|(_, record)| record.start > till).map(|(revision, _)| revision - 1);
        known.max().unwrap_or(self.first).max(self.first)..=later.min().unwrap_or(self.last())
    }

    /// Which links the caller may have had in hand.
    fn generations(&self, record: &Record) -> Option<(usize, RangeInclusive<u32>)> {
        let (recipient, _) = record.what.link()?;
        let Some((from, till)) = record.link else { return Some((recipient, 1..=1)) };
        let generation = |revision: u64| self.state(revision).recipients[recipient].credential.generation;
        let window = self.window(from, till);
        Some((recipient, generation(*window.start())..=generation(*window.end())))
    }

    /// What the rules may give in that state.
    fn expected(&self, record: &Record, state: &Envelope) -> Vec<Expected> {
        let mut expected = Vec::new();
        if state.facts.discarded_at.is_some() {
            return vec![Expected::NotFound];
        }
        if let Some((recipient, generations)) = self.generations(record) {
            let own = &state.recipients[recipient];
            let good = own.credential.generation;
            if generations != (good..=good) {
                expected.push(Expected::NotFound);
            }
            if !generations.contains(&good) {
                return expected;
            }
            let user = format!("r{}@example.com", address(&self.trace.start, recipient));
            if matches!(record.what, What::DeclineAsUser(..)) && own.person.email.reveal() != user {
                expected.push(Expected::Mismatch);
                return expected;
            }
        }
        let if_revision = (record.if_revision != 0).then_some(record.if_revision);
        let command = command(record, &self.trace.start);
        expected.push(Expected::Decided(Box::new(decide(state, &command, if_revision, state.last_event_at))));
        expected
    }

    /// Whether an answer is right.
    fn answer(&self, record: &Record) -> Result<(), String> {
        let window = self.window(record.start, record.end);
        hold!(!window.is_empty(), "no state that it can have met: {window:?}");
        let doer = self.doers.iter().find(|(_, doer)| std::ptr::eq(**doer, record)).map(|(revision, _)| *revision);
        let (exact, told) = match &record.answer {
            Ok(done) => (doer.map(|revision| revision - 1).or(done.revision), done.revision),
            Err(refused) => (refused.revision, refused.revision),
        };
        match doer {
            Some(revision) => hold!(*window.start() < revision, "made {revision}, out of {window:?}"),
            None => hold!(told.is_none_or(|it| window.contains(&it)), "told {told:?}, out of {window:?}"),
        }
        let met = exact.map_or(window.clone(), |revision| revision..=revision);
        let mut possible = met.clone().flat_map(|revision| self.expected(record, self.state(revision)));
        let fits = possible.any(|expected| match (&record.answer, expected) {
            (Ok(_), Expected::Decided(decision)) => match decision.verdict {
                Verdict::Done => doer.is_some(),
                Verdict::AlreadyDone => doer.is_none(),
                Verdict::Refused(_) => false,
            },
            (Err(refused), Expected::Decided(decision)) => match &decision.verdict {
                Verdict::Refused(refusal) => fits(refused, refusal),
                Verdict::Done | Verdict::AlreadyDone => false,
            },
            (Err(refused), Expected::NotFound) => refused.reason == "NOT_FOUND",
            (Err(refused), Expected::Mismatch) => refused.reason == "ACTOR_SUBJECT_MISMATCH",
            (Ok(_), Expected::NotFound | Expected::Mismatch) => false,
        });
        hold!(fits, "{:?} is not what the rules give in {met:?} (window {window:?})", record.answer);
        if let (Some(revision), Ok(done), What::Resend(..) | What::Remind(_)) = (doer, &record.answer, &record.what) {
            let sent: Vec<_> = at(self.trace, revision).iter().map(|entry| entry.recipient.clone()).collect();
            hold!(done.resent == sent, "told {:?}, sent to {sent:?}", done.resent);
        }
        Ok(())
    }

    /// The envelope as it is read at the end is that of the model.
    fn end(&self) -> Result<(), String> {
        let model = self.states.last().unwrap();
        let Some(last) = &self.trace.last else {
            hold!(model.facts.discarded_at.is_some(), "it is gone, but nobody threw it away");
            return Ok(());
        };
        hold!(model.facts.discarded_at.is_none(), "it was thrown away, but it is there");
        let replaced = model.replaced_by.is_some();
        hold!(last.revision == model.revision, "revision {}", last.revision);
        hold!(last.status == model.status() as i32, "{:?}, in the model {:?}", last.status(), model.status());
        hold!(last.subject == model.terms.subject, "subject {}", last.subject);
        hold!(last.requires_replacement == model.requires_replacement, "requires_replacement");
        hold!(replaced != last.replaced_by_envelope_id.is_empty(), "replaced_by {}", last.replaced_by_envelope_id);
        hold!(last.cause == model.end.map_or(0, |end| end.cause as i32), "cause {:?}", last.cause());
        for (theirs, ours) in last.recipients.iter().zip(&model.recipients) {
            hold!(theirs.email == ours.person.email.reveal(), "{}: {}", theirs.id, theirs.email);
            hold!(theirs.status == i32::from(ours.status()), "{}: {:?}", theirs.id, theirs.status());
            hold!(theirs.link_generation == ours.credential.generation, "{}: generation", theirs.id);
            hold!(theirs.delegations == u32::from(ours.delegations), "{}: delegations", theirs.id);
            hold!(theirs.viewed_at.is_some() == ours.viewed_at.is_some(), "{}: viewed", theirs.id);
        }
        for record in &self.trace.records {
            if let (What::Replace, Ok(done)) = (&record.what, &record.answer) {
                hold!(done.replacement == last.replaced_by_envelope_id, "another replacement {}", done.replacement);
            }
        }
        Ok(())
    }
}

/// What the service did by itself.
fn duty(entry: &Entry, state: &Envelope) -> Result<Command, String> {
    let artifact = |version: Version| {
        let new = |it: &countersign_envelope::domain::envelope::Document| NewArtifact {
            document: it.id,
            version,
            sha256: [0; 32],
            size_bytes: 1,
            seal: SealLevel::None,
            is_bare: false,
        };
        Command::Store { artifacts: state.documents.iter().map(new).collect() }
    };
    match EventType::try_from(entry.kind).unwrap() {
        EventType::EnvelopeSent => Ok(Command::Release),
        EventType::EnvelopeCompleted => Ok(artifact(Version::Signed)),
        EventType::EnvelopeArtifactReady => Ok(artifact(Version::Declined)),
        other => Err(format!("the service did {other:?}")),
    }
}

/// Whether the model is what an event says about the envelope right after it.
fn same(model: &Envelope, entry: &Entry) -> Result<(), String> {
    let person = |it: &countersign_envelope::domain::recipient::Recipient| Person {
        id: it.id.to_string(),
        role: it.role as i32,
        group: it.group.into(),
        status: it.status().into(),
        not_effective: it.has_acted() && model.status().is_terminal() && model.status() as i32 != 5,
    };
    let people: Vec<_> = model.recipients.iter().map(person).collect();
    hold!(entry.status == model.status() as i32, "status {}, in the model {:?}", entry.status, model.status());
    hold!(entry.expires_at == model.expires_at, "deadline {}", entry.expires_at);
    hold!(entry.people == people, "{:?}, in the model {people:?}", entry.people);
    Ok(())
}

/// Whether a refusal is told as the contract says.
fn fits(told: &Refused, refusal: &Refusal) -> bool {
    let bare = match &refusal.why {
        Why::Invalid(_) => Some("INVALID_FIELD"),
        Why::NoSuchRecipient | Why::NoSuchField | Why::NoSuchDocument => Some("NOT_FOUND"),
        _ => None,
    };
    if let Some(reason) = bare {
        return told.reason == reason;
    }
    let allowed: Vec<_> = refusal.allowed.iter().copied().map(Transition::name).collect();
    told.reason == reason(&refusal.why)
        && told.revision == Some(refusal.revision)
        && told.current == refusal.current.name()
        && told.attempted == refusal.attempted.name()
        && told.allowed == allowed.join(",")
        && told.cause == refusal.cause.map(|cause| cause.name()).unwrap_or_default()
}

fn reason(why: &Why) -> &'static str {
    match why {
        Why::State => "INVALID_STATE_TRANSITION",
        Why::Revision => "REVISION_MISMATCH",
        Why::Purged => "CONTENT_PURGED",
        Why::Held => "LEGAL_HOLD",
        Why::NotYourTurn => "NOT_YOUR_TURN",
        Why::AlreadyActed => "ALREADY_ACTED",
        Why::NotNeeded => "NOT_NEEDED",
        Why::Role => "ROLE_NOT_ALLOWED",
        Why::DeclineNotAllowed => "DECLINE_NOT_ALLOWED",
        Why::DelegationNotAllowed => "DELEGATION_NOT_ALLOWED",
        Why::Muted => "REMINDERS_MUTED",
        Why::TooSoon(_) => "RESEND_TOO_SOON",
        Why::Incomplete(_) => "ENVELOPE_INCOMPLETE",
        Why::TooManyFields { .. } => "OUT_OF_SCOPE_V1",
        Why::DocumentChanged(_) => "DOCUMENT_CHANGED",
        Why::FieldsChanged => "FIELDS_CHANGED",
        Why::Invalid(_) => "INVALID_FIELD",
        Why::NoSuchRecipient | Why::NoSuchField | Why::NoSuchDocument => "NOT_FOUND",
    }
}
