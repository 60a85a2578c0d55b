//! What must hold in every state and with every step.

use countersign_envelope::domain::command::Command;
use countersign_envelope::domain::decide::{Decision, Verdict};
use countersign_envelope::domain::envelope::Envelope;
use countersign_envelope::domain::recipient::{Ending, Recipient, RecipientState, Role};
use countersign_envelope::domain::record::Recorded;
use countersign_envelope::domain::routing::{current, not_needed, to_release, whose_turn};
use countersign_envelope::domain::status::{Facts, Status};

use crate::commands::Try;

/// The status, once more: the latest of what has happened.
fn derived(facts: &Facts) -> Status {
    let ends = [
        (facts.completed_at, Status::Completed),
        (facts.declined_at, Status::Declined),
        (facts.voided_at, Status::Voided),
        (facts.expired_at, Status::Expired),
        (facts.first_signed_at, Status::PartiallySigned),
        (facts.sent_at, Status::Sent),
        (facts.dispatched_at, Status::Pending),
    ];
    ends.into_iter().find(|(at, _)| at.is_some()).map_or(Status::Draft, |(_, status)| status)
}

/// Must hold in every reachable state.
pub fn state(envelope: &Envelope) {
    let facts = &envelope.facts;
    let ends = [facts.completed_at, facts.declined_at, facts.voided_at, facts.expired_at];
    let terminal = ends.iter().flatten().count();
    assert!(terminal <= 1, "two terminal facts: {envelope:?}");
    assert_eq!(terminal == 1, envelope.status().is_terminal());
    assert_eq!(envelope.status(), derived(facts), "{facts:?}");
    assert!(facts.discarded_at.is_none() || envelope.status() == Status::Draft, "only drafts are thrown away");
    assert!(facts.sent_at.is_none() || facts.dispatched_at.is_some());
    assert_eq!(envelope.end.is_some(), terminal == 1 && facts.completed_at.is_none(), "an end has a cause");
    let signed = |other: &Recipient| other.role == Role::Signer && other.has_acted();
    assert_eq!(facts.first_signed_at.is_some(), envelope.recipients.iter().any(signed));
    let cause = envelope.end.and_then(|end| end.by).and_then(|by| envelope.recipient(by));
    let refused = cause.is_some_and(|by| matches!(by.state, RecipientState::Declined { .. }));
    assert_eq!(facts.declined_at.is_some(), refused, "one refusal ends it, and nothing else declines it");
    let owed = facts.declined_at.is_some() && envelope.replaced_by.is_none();
    assert_eq!(envelope.requires_replacement, owed, "a refusal asks for a replacement until there is one");
    assert_eq!(facts.all_acted_at.is_some(), current(envelope).is_none() && facts.dispatched_at.is_some(), "all acted");
    let keeping = &envelope.keeping;
    assert!(keeping.held_at.is_none() || keeping.purged_at.is_none(), "purged under a hold");
    assert!(keeping.purged_at.is_none() || terminal == 1, "purged before its end");
    if keeping.is_purged() {
        let said =
            envelope.recipients.iter().flat_map(|it| [it.person.name.reveal(), it.person.email.reveal(), &it.label]);
        assert!(said.chain([envelope.terms.subject.as_str()]).all(str::is_empty), "something is left: {envelope:?}");
        assert!(envelope.fields.iter().all(|field| field.value.is_none() && field.name.is_empty()));
        assert_eq!(envelope.next_step(), None);
    }
    turns(envelope);
    for recipient in &envelope.recipients {
        person(envelope, recipient);
    }
}

/// Who is asked, and that somebody is while anything is owed.
fn turns(envelope: &Envelope) {
    let released = || envelope.recipients.iter().filter(|other| other.is_released());
    let open = || envelope.recipients.iter().any(Recipient::is_open);
    match envelope.status() {
        Status::Draft => assert_eq!(released().count(), 0, "a draft asks nobody"),
        Status::Pending => {
            assert_eq!(released().count(), 0, "nobody is asked before the sending: {envelope:?}");
            assert!(!whose_turn(envelope).is_empty(), "stuck: {envelope:?}");
        }
        Status::Sent | Status::PartiallySigned if envelope.facts.is_open() => {
            let due = whose_turn(envelope);
            assert!(!due.is_empty(), "stuck: {envelope:?}");
            let asked: Vec<_> = released().filter(|other| other.role.gates()).map(|other| other.id).collect();
            assert_eq!(asked, due, "those who are asked to act are exactly those whose turn it is");
            assert!(to_release(envelope).is_empty(), "somebody was forgotten: {envelope:?}");
            assert!(not_needed(envelope).is_empty(), "somebody is kept for nothing: {envelope:?}");
        }
        Status::Sent | Status::PartiallySigned | Status::Completed => {
            assert!(!envelope.recipients.iter().any(Recipient::owes), "all is done, and somebody owes an act");
        }
        Status::Declined | Status::Voided | Status::Expired => {
            assert!(!open(), "nobody owes anything: {envelope:?}");
        }
    }
}

/// Where one recipient may stand in such an envelope.
fn person(envelope: &Envelope, own: &Recipient) {
    let ended = envelope.end.is_some();
    match &own.state {
        RecipientState::Waiting => assert_eq!(own.invited_at, None),
        RecipientState::Released { .. } => assert!(own.invited_at.is_some()),
        RecipientState::Acted { effective, .. } => {
            assert!(own.role.gates());
            assert_eq!(*effective, !ended, "acts bind nobody in an envelope that fell through, and only there");
        }
        RecipientState::Declined { .. } => assert!(own.role.gates(), "{:?} has refused", own.role),
        RecipientState::ReleasedBy { end, .. } => {
            let status = match end {
                Ending::Declined => Status::Declined,
                Ending::Voided => Status::Voided,
                Ending::Expired => Status::Expired,
            };
            assert_eq!(envelope.status(), status);
        }
        RecipientState::NotNeeded { .. } => assert!(own.role.gates() || own.role == Role::Assistant),
    }
    assert!(own.delegations <= envelope.terms.delegations_max);
}

/// Must hold for every command.
pub fn step(before: &Envelope, tried: &Try, decision: &Decision, after: &Envelope, recorded: &[Recorded]) {
    let command = &tried.command;
    assert_eq!(recorded.len(), decision.events.len());
    assert_eq!(after.revision, before.revision + u64::from(!recorded.is_empty()), "{command:?}");
    assert!(recorded.iter().map(|event| event.sequence).eq(before.sequence + 1..=after.sequence), "a gap");
    match &decision.verdict {
        Verdict::Done => assert!(!recorded.is_empty(), "{command:?} did nothing"),
        Verdict::AlreadyDone => assert!(recorded.is_empty(), "{command:?} had been done, and does something"),
        Verdict::Refused(refusal) => {
            assert_eq!(refusal.attempted, command.transition());
            assert_eq!(refusal.current, after.status(), "the loser is told the winner's state");
            assert_eq!(refusal.revision, after.revision);
            assert_eq!(refusal.cause, after.end.map(|end| end.cause));
        }
    }
    if recorded.is_empty() {
        return;
    }
    kept(before, after, command);
    let own = tried.own.filter(|_| decision.verdict == Verdict::Done).and_then(|own| before.recipient(own));
    assert!(own.is_none_or(Recipient::is_released), "{command:?} by somebody whose turn it is not: {own:?}");
}

/// What happened stays as it happened.
fn kept(before: &Envelope, after: &Envelope, command: &Command) {
    let over = before.status().is_terminal() || before.facts.discarded_at.is_some();
    if over {
        assert_eq!(after.facts, before.facts, "{command:?} changed what is over");
        assert_eq!(after.end, before.end);
        let keeps = matches!(command, Command::Keep | Command::Erase { .. }) || is_about_keeping(command);
        assert!(keeps || matches!(command, Command::Store { .. } | Command::Replace { .. }), "{command:?}");
    }
    if before.facts.all_acted_at.is_some() && !over {
        let stores = matches!(command, Command::Store { .. }) || is_about_keeping(command);
        assert!(stores, "{command:?} came between the last act and completion");
    }
    let (kept, keeps) = (&before.keeping, &after.keeping);
    assert!(!kept.is_purged(), "{command:?} changed what is purged");
    if keeps.is_purged() {
        assert!(kept.held_at.is_none(), "a hold wins: {command:?}");
        assert!(over, "{command:?} purged what goes on");
        assert_eq!(after.documents.len(), before.documents.len(), "hashes stay");
        return;
    }
    for (was, is) in facts(&before.facts).into_iter().zip(facts(&after.facts)) {
        assert!(was.is_none() || is == was, "{command:?} changed a fact");
    }
    for (was, is) in before.recipients.iter().zip(&after.recipients) {
        match (&was.state, &is.state) {
            (RecipientState::Waiting | RecipientState::Released { .. }, _) => {}
            (
                RecipientState::Acted { released_at, at, .. },
                RecipientState::Acted { released_at: still_released_at, at: still_at, .. },
            ) => assert_eq!((released_at, at), (still_released_at, still_at)),
            (was, is) => assert_eq!(was, is, "{command:?}: what somebody is done with stays"),
        }
    }
}

fn is_about_keeping(command: &Command) -> bool {
    matches!(command, Command::Hold { .. } | Command::Retain { .. })
}

fn facts(facts: &Facts) -> [Option<chrono::DateTime<chrono::Utc>>; 9] {
    [
        facts.dispatched_at,
        facts.sent_at,
        facts.first_signed_at,
        facts.all_acted_at,
        facts.completed_at,
        facts.declined_at,
        facts.voided_at,
        facts.expired_at,
        facts.discarded_at,
    ]
}
