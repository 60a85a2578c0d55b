//! Walks through everything that can happen to small envelopes, checks what must hold everywhere, and prints what was
//! found as `docs/state-machine.md`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use countersign_envelope::domain::command::{Actor, Command};
use countersign_envelope::domain::decide::{Verdict, decide};
use countersign_envelope::domain::envelope::{Channel, Envelope, RecipientState, Routing, Version};
use countersign_envelope::domain::event::EventType;
use countersign_envelope::domain::id::RecipientId;
use countersign_envelope::domain::record::seal;
use countersign_envelope::domain::refusal::{Transition, Why, allowed};
use countersign_envelope::domain::routing::whose_turn;
use countersign_envelope::domain::status::Status;

use crate::shape::{deadline, decline, draft, reason, sign, start, store, uuid};

/// What was found on the way.
#[derive(Default)]
struct Found {
    states: usize,
    decisions: usize,
    events: BTreeSet<EventType>,
    whys: BTreeSet<&'static str>,
    moves: BTreeMap<(Status, Transition), BTreeSet<Status>>,
}

fn commands(envelope: &Envelope) -> Vec<(Transition, Command)> {
    let mut commands = vec![
        (Transition::Send, Command::Send),
        (Transition::Void, Command::Void { reason: reason("Sent by mistake") }),
        (Transition::Expire, Command::Expire),
        (Transition::Complete, store(envelope, Version::Signed)),
    ];
    let stranger = RecipientId::from_uuid(uuid(999));
    for recipient in envelope.recipients.iter().map(|recipient| recipient.id).chain([stranger]) {
        let good = sign(envelope, recipient);
        let mut without_consent = good.clone();
        without_consent.consent = false;
        let mut of_another = good.clone();
        of_another.seen[0].1 = [0; 32];
        for sign in [good, without_consent, of_another] {
            commands.push((Transition::Sign, Command::Sign(sign)));
        }
        for channel in [Channel::SigningToken, Channel::OnBehalf] {
            commands.push((Transition::Decline, decline(recipient, channel)));
        }
    }
    commands
}

/// The envelope without what grows with every change, as a name for the state.
fn key(envelope: &Envelope) -> String {
    let mut bare = envelope.clone();
    (bare.revision, bare.sequence, bare.chain) = (0, 0, [0; 32]);
    format!("{bare:?}")
}

/// Must hold in every reachable state.
fn check(envelope: &Envelope) {
    let facts = &envelope.facts;
    let ends = [facts.completed_at, facts.declined_at, facts.voided_at, facts.expired_at];
    let terminal = ends.iter().flatten().count();
    assert!(terminal <= 1, "two terminal facts: {envelope:?}");
    assert_eq!(terminal == 1, envelope.status().is_terminal());
    let count = |test: fn(&RecipientState) -> bool| envelope.recipients.iter().filter(|r| test(&r.state)).count();
    let signed = count(|state| matches!(state, RecipientState::Signed { .. }));
    let declined = count(|state| matches!(state, RecipientState::Declined { .. }));
    let bound = count(|state| matches!(state, RecipientState::Signed { effective: true, .. }));
    let everybody = envelope.recipients.len();
    assert_eq!(facts.first_signed_at.is_some(), signed > 0);
    assert_eq!(facts.declined_at.is_some(), declined == 1, "one refusal ends it, and nothing else declines it");
    assert_eq!(signed == everybody, facts.all_acted_at.is_some(), "a fully signed envelope is never left open");
    let released: Vec<_> = envelope
        .recipients
        .iter()
        .filter(|recipient| matches!(recipient.state, RecipientState::Released { .. }))
        .map(|recipient| recipient.id)
        .collect();
    match envelope.status() {
        Status::Draft => assert!(released.is_empty()),
        Status::Pending | Status::Sent | Status::PartiallySigned => {
            assert_eq!(released, whose_turn(&envelope.recipients), "released are exactly those whose turn it is");
        }
        Status::Completed => assert_eq!(bound, everybody),
        Status::Declined | Status::Voided | Status::Expired => {
            assert_eq!(bound, 0, "no signature binds in an envelope that fell through");
            assert!(whose_turn(&envelope.recipients).is_empty(), "nobody owes anything");
        }
    }
    assert_eq!(envelope.requires_replacement, facts.declined_at.is_some());
}

fn why(why: &Why) -> &'static str {
    match why {
        Why::State => "State",
        Why::NotYourTurn => "NotYourTurn",
        Why::AlreadyActed => "AlreadyActed",
        Why::Incomplete(_) => "Incomplete",
        Why::DocumentChanged(_) => "DocumentChanged",
        Why::Invalid(_) => "Invalid",
        Why::NoSuchRecipient => "NoSuchRecipient",
    }
}

/// Tries everything in one state at one time; returns the states behind it.
fn explore(envelope: &Envelope, now: DateTime<Utc>, found: &mut Found) -> Vec<Envelope> {
    let mut next = Vec::new();
    let mut accepted = BTreeSet::new();
    let mut claims = Vec::new();
    for (transition, command) in commands(envelope) {
        let decision = decide(envelope, &command, now);
        found.decisions += 1;
        let mut after = envelope.clone();
        let recorded = seal(&mut after, &decision.events, Actor::System, now, || uuid(5));
        found.events.extend(recorded.iter().map(|event| event.kind));
        assert_eq!(after.revision, envelope.revision + u64::from(!recorded.is_empty()));
        assert!(recorded.iter().map(|event| event.sequence).eq(envelope.sequence + 1..=after.sequence), "a gap");
        check(&after);
        if envelope.status().is_terminal() {
            assert_eq!(after.facts, envelope.facts, "{command:?} changed a terminal envelope");
        }
        match &decision.verdict {
            Verdict::Done => {
                assert!(!decision.events.is_empty());
                accepted.insert(transition);
                found.moves.entry((envelope.status(), transition)).or_default().insert(after.status());
            }
            Verdict::AlreadyDone => assert!(decision.events.is_empty()),
            Verdict::Refused(refusal) => {
                found.whys.insert(why(&refusal.why));
                assert_eq!(refusal.attempted, transition);
                assert_eq!(refusal.current, after.status(), "the loser is told the winner's state");
                let expired = now >= after.expires_at;
                if matches!(recorded.as_slice(), [only] if only.kind == EventType::EnvelopeExpired) {
                    let expired = (envelope.status(), Transition::Expire);
                    found.moves.entry(expired).or_default().insert(after.status());
                } else {
                    assert!(recorded.is_empty(), "a refusal changes nothing");
                }
                claims.push((after.clone(), expired, refusal.allowed.clone()));
            }
        }
        next.push(after);
    }
    // What a refusal says is allowed is exactly what would be accepted.
    let by_people = [Transition::Send, Transition::Sign, Transition::Decline, Transition::Void];
    let possible: Vec<_> = by_people.into_iter().filter(|transition| accepted.contains(transition)).collect();
    assert_eq!(possible, allowed(envelope, now >= envelope.expires_at), "{envelope:?}");
    for (after, expired, claim) in claims {
        assert_eq!(claim, allowed(&after, expired));
    }
    next
}

fn walk() -> Found {
    let mut found = Found::default();
    for signers in 1..=3 {
        for (routing, bare) in [(Routing::Parallel, false), (Routing::Sequential, false), (Routing::Parallel, true)] {
            let first = draft(signers, routing, bare);
            let mut seen = HashMap::from([(key(&first), ())]);
            let mut queue = VecDeque::from([first]);
            while let Some(envelope) = queue.pop_front() {
                check(&envelope);
                found.states += 1;
                for now in [start(), deadline()] {
                    for after in explore(&envelope, now, &mut found) {
                        if seen.insert(key(&after), ()).is_none() {
                            queue.push_back(after);
                        }
                    }
                }
            }
        }
    }
    found
}

fn page(found: &Found) -> String {
    let mut page = String::from(
        "# The life of an envelope\n\n\
         Printed by the test that walks through everything that can happen to envelopes of up to three signers, parallel\n\
         and sequential, before and at the deadline. A row is a status, a column is what is tried, a cell is where it may\n\
         lead; an empty cell is always refused. `UPDATE=1 cargo test -p countersign-envelope --test rules` prints it anew.\n\n",
    );
    let columns = [
        Transition::Send,
        Transition::Sign,
        Transition::Decline,
        Transition::Void,
        Transition::Expire,
        Transition::Complete,
    ];
    let names: Vec<_> = columns.iter().map(|transition| transition.name()).collect();
    writeln!(page, "| status | {} |\n|---|{}", names.join(" | "), "---|".repeat(columns.len())).unwrap();
    for status in Status::ALL {
        let cell = |transition: &Transition| {
            let to: Vec<_> =
                found.moves.get(&(status, *transition)).into_iter().flatten().map(|status| status.name()).collect();
            to.join(", ")
        };
        let cells: Vec<_> = columns.iter().map(cell).collect();
        writeln!(page, "| {} | {} |", status.name(), cells.join(" | ")).unwrap();
    }
    let (states, decisions) = (found.states, found.decisions);
    writeln!(
        page,
        "\nSIGN leads to PARTIALLY_SIGNED also for the last signer: while the signed documents are being made nothing but\n\
         COMPLETE can happen, and when they are stored the envelope is COMPLETED. COMPLETE in DECLINED stores the\n\
         watermarked documents. PENDING is for envelopes that wait for their documents or their hour; none does yet.\n\n\
         {states} states, {decisions} decisions."
    )
    .unwrap();
    page
}

/// T-1 to T-16 in so far as they are rules: see the assertions in `check` and `explore`.
#[test]
fn s3_34_everything_that_can_happen_keeps_the_invariants() {
    let found = walk();
    let all: BTreeSet<_> = [
        EventType::EnvelopeSent,
        EventType::RecipientReleased,
        EventType::RecipientSigned,
        EventType::EnvelopeAllActed,
        EventType::EnvelopeCompleted,
        EventType::RecipientDeclined,
        EventType::EnvelopeDeclined,
        EventType::RecipientReleasedByDecline,
        EventType::EnvelopeVoided,
        EventType::EnvelopeExpired,
        EventType::EnvelopeArtifactReady,
    ]
    .into();
    assert_eq!(found.events, all, "every event is reached (but created, which is before the first state)");
    let whys: BTreeSet<_> =
        ["State", "NotYourTurn", "AlreadyActed", "Incomplete", "DocumentChanged", "Invalid", "NoSuchRecipient"].into();
    assert_eq!(found.whys, whys, "every refusal is reached");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/state-machine.md");
    let printed = page(&found);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == printed, "docs/state-machine.md is not what the rules are; UPDATE=1 prints it anew:\n{printed}");
}
