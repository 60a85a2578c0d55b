//! The written history: chained, without personal data.

use chrono::TimeDelta;
use countersign_envelope::domain::command::{Actor, Command};
use countersign_envelope::domain::decide::decide;
use countersign_envelope::domain::envelope::{Channel, Envelope, Routing};
use countersign_envelope::domain::event::Event;
use countersign_envelope::domain::record::{Record, Recorded, commit, link, seal};

use crate::shape::{decline, draft, reason, sign, start, uuid};

/// A story from creation to a refusal.
fn story() -> (Envelope, Vec<Recorded>) {
    let mut envelope = draft(3, Routing::Parallel, false);
    (envelope.revision, envelope.sequence) = (0, 0);
    let mut history = seal(&mut envelope, &[Event::Created], Actor::System, start(), || uuid(5));
    let (first, second) = (envelope.recipients[0].id, envelope.recipients[1].id);
    let commands = [Command::Send, Command::Sign(sign(&envelope, first)), decline(second, Channel::SigningToken)];
    for command in commands {
        let decision = decide(&envelope, &command, start());
        history.extend(seal(&mut envelope, &decision.events, Actor::Recipient(first), start(), || uuid(6)));
    }
    (envelope, history)
}

#[test]
fn d4_records_are_chained_without_a_gap() {
    let (envelope, history) = story();
    let mut before = [0; 32];
    for (event, sequence) in history.iter().zip(1..) {
        assert_eq!((event.sequence, event.prev_hash), (sequence, before));
        assert_eq!(event.hash, link(sequence, &before, &event.record));
        before = event.hash;
    }
    assert_eq!(envelope.chain, before);
    // A flipped bit anywhere breaks its link.
    for event in &history {
        for index in 0..event.record.len() {
            let mut flipped = event.record.clone();
            flipped[index] ^= 1;
            assert_ne!(link(event.sequence, &event.prev_hash, &flipped), event.hash);
        }
    }
}

/// T-57: what is personal is committed to, not written.
#[test]
fn t57_records_hold_no_personal_data() {
    let (_, history) = story();
    for event in &history {
        let text = String::from_utf8(event.record.clone()).unwrap();
        for personal in ["Signer", "signer1", "example.com", "Terms", "acceptable"] {
            assert!(!text.contains(personal), "{text}");
        }
    }
    let refusal = history.iter().find_map(|event| {
        let record: Record = serde_json::from_slice(&event.record).unwrap();
        record.evidence.and_then(|evidence| evidence.reason)
    });
    assert_eq!(refusal, reason("Terms not acceptable").as_ref().map(commit));
}

/// T-73: a clock that is set back does not reorder the history.
#[test]
fn t73_an_event_never_precedes_its_predecessor() {
    let mut envelope = draft(1, Routing::Parallel, false);
    let earlier = start() - TimeDelta::hours(1);
    let decision = decide(&envelope, &Command::Send, earlier);
    let events = seal(&mut envelope, &decision.events, Actor::System, earlier, || uuid(5));
    assert!(events.iter().all(|event| event.occurred_at == start()));
    assert_eq!(envelope.facts.sent_at, Some(start()));
}
