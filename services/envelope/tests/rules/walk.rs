//! Walks through everything that can happen to small envelopes, checks what must hold everywhere, and prints what was
//! found as `docs/state-machine.md`.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};
use countersign_envelope::domain::command::By;
use countersign_envelope::domain::decide::{Verdict, decide};
use countersign_envelope::domain::envelope::Envelope;
use countersign_envelope::domain::event::{Event, EventType};
use countersign_envelope::domain::field::Value;
use countersign_envelope::domain::recipient::RecipientState;
use countersign_envelope::domain::record::{Recorded, seal};
use countersign_envelope::domain::refusal::{Refusal, Transition, Why, allowed, allowed_to};
use countersign_envelope::domain::status::{Facts, Status};

use crate::check;
use crate::commands::{Try, added, commands, extended};
use crate::shape::{Count, deadline, start};
use crate::small::{schedule, small, warning};

/// The instants at which everything is tried.
fn times() -> [DateTime<Utc>; 7] {
    let hour = TimeDelta::hours(1);
    let (warned, later) = (deadline() - warning(), extended() - warning());
    [start(), schedule(), schedule() + hour, warned, deadline(), later, extended()]
}

/// What was found on the way.
#[derive(Default)]
struct Found {
    states: usize,
    decisions: usize,
    events: BTreeSet<EventType>,
    whys: BTreeSet<&'static str>,
    moves: BTreeMap<(Status, Transition), BTreeSet<&'static str>>,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.states += other.states;
        self.decisions += other.decisions;
        self.events.extend(other.events);
        self.whys.extend(other.whys);
        for (from, to) in other.moves {
            self.moves.entry(from).or_default().extend(to);
        }
    }

    fn moved(&mut self, before: &Envelope, transition: Transition, after: &Envelope) {
        let gone = after.facts.discarded_at.is_some();
        let to = if gone { "(gone)" } else { after.status().name() };
        self.moves.entry((before.status(), transition)).or_default().insert(to);
    }
}

/// True where time changes nothing any more.
fn is_settled(envelope: &Envelope) -> bool {
    !envelope.facts.is_open() && !envelope.is_draft()
}

/// A name for the state: the envelope without what decides nothing. Revision, sequence, chain, credentials, persons and
/// texts do not; of instants it matters only whether they have come.
fn key(envelope: &Envelope, phase: usize) -> Vec<u8> {
    let settled = is_settled(envelope);
    let now = times()[phase];
    let facts = &envelope.facts;
    let Facts { dispatched_at, sent_at, first_signed_at, all_acted_at, completed_at, .. } = facts;
    let Facts { declined_at, voided_at, expired_at, discarded_at, .. } = facts;
    let mut key = vec![if settled { u8::MAX } else { u8::try_from(phase).unwrap() }];
    let starts = [dispatched_at, sent_at, first_signed_at, all_acted_at, completed_at];
    key.extend(starts.map(|at| u8::from(at.is_some())));
    key.extend([declined_at, voided_at, expired_at, discarded_at].map(|at| u8::from(at.is_some())));
    key.push(envelope.end.map_or(0, |end| end.cause as u8));
    key.extend([envelope.requires_replacement, envelope.replaced_by.is_some()].map(u8::from));
    key.extend([envelope.warned_at.is_some(), envelope.warning_at().is_some()].map(|it| u8::from(it && !settled)));
    key.push(u8::from(envelope.expires_at == deadline() && !settled));
    let keeping = &envelope.keeping;
    key.extend([keeping.warned_at, keeping.held_at, keeping.purged_at].map(|at| u8::from(at.is_some())));
    for document in &envelope.documents {
        key.extend([document.ingest as u8, u8::from(!document.artifacts.is_empty())]);
    }
    key.push(u8::try_from(envelope.fields.len()).unwrap());
    key.extend(envelope.fields.iter().map(|field| match &field.value {
        None => 0,
        Some(Value::Text(_)) => 1,
        Some(Value::Checked(checked)) => 2 + u8::from(*checked),
        Some(Value::Drawn(_)) => 4,
    }));
    for own in &envelope.recipients {
        let told = own.invited_at.max(own.notices.last_reminder_at);
        let due = told.is_some_and(|at| at + TimeDelta::hours(1) <= now);
        let acted = matches!(own.state, RecipientState::Acted { effective: true, .. });
        let flags = [acted, own.viewed_at.is_some(), due && !settled, own.filled_revision > 0 && !settled];
        let delegations = if settled { 0 } else { u8::try_from(own.delegations).unwrap() };
        key.extend([own.status(), delegations]);
        key.extend(flags.map(u8::from));
        let reminded = envelope.reminder_of(own).map(|at| times().partition_point(|time| *time < at));
        let counted = if envelope.terms.reminders.enabled { own.notices.reminders } else { 0 };
        let muted = own.notices.muted_at.is_some() && own.is_open();
        if !settled {
            key.extend([u8::from(muted), reminded.map_or(u8::MAX, |phase| u8::try_from(phase).unwrap())]);
            key.push(u8::try_from(counted).unwrap());
        }
    }
    key
}

/// True where loops are cut: a deadline is moved once, a field added once, the retention never; where reminders are
/// counted one of the people mutes theirs, and nobody is reminded by hand for ever. What people do to an envelope on its way
/// that is held is what they do to any.
fn is_beyond(envelope: &Envelope) -> bool {
    let (keeping, held) = (&envelope.keeping, envelope.keeping.held_at.is_some());
    envelope.expires_at > extended() || keeping.retention.days != 2 || held && envelope.facts.is_open() || {
        let people = || envelope.recipients.iter();
        let counted = envelope.terms.reminders.enabled && people().any(|own| own.notices.reminders > 4);
        let muted = people().filter(|own| own.notices.muted_at.is_some()).count();
        let muted = muted > usize::from(envelope.terms.reminders.enabled);
        counted || muted || envelope.fields.iter().filter(|field| field.id == added().id).count() > 1
    }
}

/// Every refusal has a name here.
fn why(why: &Why) -> &'static str {
    match why {
        Why::State => "State",
        Why::Revision => "Revision",
        Why::Purged => "Purged",
        Why::Held => "Held",
        Why::NotYourTurn => "NotYourTurn",
        Why::AlreadyActed => "AlreadyActed",
        Why::NotNeeded => "NotNeeded",
        Why::Role => "Role",
        Why::DeclineNotAllowed => "DeclineNotAllowed",
        Why::DelegationNotAllowed => "DelegationNotAllowed",
        Why::Muted => "Muted",
        Why::TooSoon(_) => "TooSoon",
        Why::Incomplete(_) => "Incomplete",
        Why::DocumentChanged(_) => "DocumentChanged",
        Why::FieldsChanged => "FieldsChanged",
        Why::Invalid(_) => "Invalid",
        Why::TooManyFields { .. } => "TooManyFields",
        Why::NoSuchRecipient => "NoSuchRecipient",
        Why::NoSuchField => "NoSuchField",
        Why::NoSuchDocument => "NoSuchDocument",
    }
}

/// All refusals that there are; `why` breaks the build when one is added.
const WHYS: [&str; 20] = [
    "State",
    "Revision",
    "Purged",
    "Held",
    "NotYourTurn",
    "AlreadyActed",
    "NotNeeded",
    "Role",
    "DeclineNotAllowed",
    "DelegationNotAllowed",
    "Muted",
    "TooSoon",
    "Incomplete",
    "DocumentChanged",
    "FieldsChanged",
    "Invalid",
    "TooManyFields",
    "NoSuchRecipient",
    "NoSuchField",
    "NoSuchDocument",
];

/// What a refusal tells, and nothing else comes of it unless the deadline has passed.
fn refused(before: &Envelope, after: &Envelope, refusal: &Refusal, now: DateTime<Utc>, listed: &[Transition]) {
    let late = before.facts.is_open() && now >= before.expires_at;
    if late {
        assert_eq!(after.status(), Status::Expired);
        assert_eq!(refusal.why, Why::State);
        assert_eq!(refusal.allowed, []);
    } else {
        assert_eq!(refusal.allowed, listed);
    }
}

/// What comes of events, worked out once for as many commands in a row as come to the same.
struct Outcome {
    events: Vec<Event>,
    after: Envelope,
    recorded: Vec<Recorded>,
}

impl Outcome {
    fn of(before: &Envelope, events: Vec<Event>, now: DateTime<Utc>) -> Self {
        let mut after = before.clone();
        let recorded = seal(&mut after, &events, &By::system(), now, &mut Count(1_000));
        check::state(&after);
        Self { events, after, recorded }
    }
}

/// Tries everything in one state at one time; returns the states behind it.
fn explore(envelope: &Envelope, now: DateTime<Utc>, found: &mut Found) -> Vec<Envelope> {
    let mut accepted = BTreeSet::new();
    let mut by_token = BTreeSet::new();
    let listed = allowed(envelope, now);
    let nothing = Outcome::of(envelope, Vec::new(), now);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for tried in commands(envelope, now) {
        let Try { command, expected, own } = &tried;
        let decision = decide(envelope, command, *expected, now);
        found.decisions += 1;
        if !decision.events.is_empty() && outcomes.last().is_none_or(|last| last.events != decision.events) {
            outcomes.push(Outcome::of(envelope, decision.events.clone(), now));
        }
        let outcome = outcomes.last().filter(|_| !decision.events.is_empty()).unwrap_or(&nothing);
        let Outcome { after, recorded, .. } = outcome;
        found.events.extend(recorded.iter().map(|event| event.kind));
        check::step(envelope, &tried, &decision, after, recorded);
        let transition = command.transition();
        match &decision.verdict {
            Verdict::Done => {
                accepted.insert(transition);
                by_token.extend(own.map(|own| (own, transition)));
                found.moved(envelope, transition, after);
            }
            Verdict::AlreadyDone => {}
            Verdict::Refused(refusal) => {
                found.whys.insert(why(&refusal.why));
                refused(envelope, after, refusal, now, &listed);
                if !recorded.is_empty() {
                    assert_eq!(decision.events.len(), 1, "a refusal changes nothing, but the deadline may pass");
                    if refusal.why != Why::Held {
                        found.moved(envelope, Transition::Expire, after);
                    }
                }
            }
        }
    }
    // What is said to be allowed is exactly what is accepted: of all, and of each with their own token.
    let possible: Vec<_> = accepted.into_iter().filter(|transition| !transition.is_unlisted()).collect();
    assert_eq!(possible, listed, "{envelope:?} at {now}");
    let mut promised = BTreeSet::new();
    for own in &envelope.recipients {
        promised.extend(allowed_to(envelope, own, now).into_iter().map(|transition| (own.id, transition)));
    }
    assert_eq!(by_token, promised, "{envelope:?} at {now}");
    outcomes.into_iter().map(|outcome| outcome.after).collect()
}

/// Walks from one draft.
fn walk(first: Envelope) -> Found {
    let mut found = Found::default();
    let mut seen = HashSet::from([key(&first, 0)]);
    let mut queue = VecDeque::from([(first, 0)]);
    let last = times().len() - 1;
    while let Some((envelope, phase)) = queue.pop_front() {
        found.states += 1;
        // Of what is settled every other one is seen only long after.
        let late = is_settled(&envelope) && found.states % 2 == 0;
        let mut next = explore(&envelope, times()[if late { last } else { phase }], &mut found);
        next.retain(|after| !is_beyond(after));
        let mut reach = |after: Envelope, phase| {
            if seen.insert(key(&after, phase)) {
                queue.push_back((after, phase));
            }
        };
        next.into_iter().for_each(|after| reach(after, phase));
        if !is_settled(&envelope) && phase < last {
            reach(envelope, phase + 1);
        }
    }
    found
}

/// Walks from all of them, on as many threads as there are processors.
fn walk_all() -> Found {
    let (todo, found) = (Mutex::new(small()), Mutex::new(Found::default()));
    let work = || {
        loop {
            let Some(first) = todo.lock().unwrap().pop() else { return };
            let one = walk(first);
            found.lock().unwrap().add(one);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    found.into_inner().unwrap()
}

fn page(found: &Found) -> String {
    let mut page = String::from(
        "# The life of an envelope\n\n\
         Printed by the test that walks through everything that can happen to envelopes of up to three recipients in\n\
         two groups, of all roles, with quorums, policies of refusal, delegation, a time to be sent, a document that is\n\
         still being read, reminders and a warning, from before the sending until after the deadline. A row is a status, a column\n\
         is what is tried, a cell is where it may lead; an empty cell is always refused or does nothing. The columns\n\
         from EXPIRE on are never in a list of what is allowed.\n\
         `UPDATE=1 cargo test -p countersign-envelope --test rules` prints it anew.\n\n",
    );
    let (unlisted, listed): (Vec<Transition>, Vec<_>) = Transition::ALL.iter().partition(|it| it.is_unlisted());
    let columns: Vec<_> = listed.into_iter().chain(unlisted).collect();
    let names: Vec<_> = columns.iter().map(|transition| transition.name()).collect();
    writeln!(page, "| status | {} |\n|---|{}", names.join(" | "), "---|".repeat(columns.len())).unwrap();
    for status in Status::ALL {
        let cell = |transition: &Transition| {
            let to = found.moves.get(&(status, *transition)).into_iter().flatten();
            to.copied().collect::<Vec<_>>().join(", ")
        };
        let cells: Vec<_> = columns.iter().map(cell).collect();
        writeln!(page, "| {} | {} |", status.name(), cells.join(" | ")).unwrap();
    }
    let (states, decisions) = (found.states, found.decisions);
    writeln!(
        page,
        "\nSIGN leads to PARTIALLY_SIGNED also for the last signer: while the signed documents are being made nothing\n\
         but COMPLETE can happen, and when they are stored the envelope is COMPLETED. COMPLETE in DECLINED stores the\n\
         watermarked documents. DECLINE leads to where it started if the sender lets the others go on. INGEST of the\n\
         last document and RELEASE send a PENDING envelope; INGEST of one that cannot be signed ends it. Any attempt\n\
         after the deadline expires an open envelope and is refused.\n\n\
         {states} states, {decisions} decisions."
    )
    .unwrap();
    page
}

/// T-1 to T-16 in so far as they are rules: see the assertions in `check` and `explore`.
#[test]
fn s3_34_everything_that_can_happen_keeps_the_invariants() {
    let found = walk_all();
    let all: BTreeSet<_> =
        EventType::ALL.iter().copied().filter(|event| *event != EventType::EnvelopeCreated).collect();
    assert_eq!(found.events, all, "every event is reached (but created, which is before the first state)");
    assert_eq!(found.whys, WHYS.into(), "every refusal is reached");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/state-machine.md");
    let printed = page(&found);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == printed, "docs/state-machine.md is not what the rules are; UPDATE=1 prints it anew:\n{printed}");
}
