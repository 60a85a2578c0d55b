//! How long contents are kept.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_envelope::domain::command::{By, Command, Edit};
use countersign_envelope::domain::decide::{Verdict, decide};
use countersign_envelope::domain::envelope::{Cause, Envelope, Version};
use countersign_envelope::domain::event::EventType;
use countersign_envelope::domain::keeping::Step;
use countersign_envelope::domain::recipient::{Channel, Role};
use countersign_envelope::domain::record::seal;
use countersign_envelope::domain::refusal::Why;

use crate::shape::{Count, decline, document, draft, env, rcp, start, store, text};

const DAY: TimeDelta = TimeDelta::days(1);

fn run(envelope: &mut Envelope, command: &Command, now: DateTime<Utc>) -> (Verdict, Vec<EventType>) {
    let decision = decide(envelope, command, None, now);
    let recorded = seal(envelope, &decision.events, &By::system(), now, &mut Count(7_000));
    (decision.verdict, recorded.into_iter().map(|event| event.kind).collect())
}

fn done(envelope: &mut Envelope, command: &Command, now: DateTime<Utc>) -> Vec<EventType> {
    let (verdict, events) = run(envelope, command, now);
    assert_eq!(verdict, Verdict::Done, "{command:?}");
    events
}

fn why(envelope: &mut Envelope, command: &Command, now: DateTime<Utc>) -> (Why, Vec<EventType>) {
    match run(envelope, command, now) {
        (Verdict::Refused(refusal), events) => (refusal.why, events),
        (verdict, _) => panic!("{command:?}: {verdict:?}"),
    }
}

fn sent() -> Envelope {
    let mut envelope = draft(&[(Role::Signer, 1)]);
    done(&mut envelope, &Command::Send, start());
    envelope
}

fn voided() -> Envelope {
    let mut envelope = sent();
    done(&mut envelope, &Command::Void { cause: Cause::Sender, reason: Some(text("why")) }, start());
    envelope
}

fn hold(hold: bool) -> Command {
    Command::Hold { hold, reason: Some(text("Lawsuit")) }
}

fn erase() -> Command {
    Command::Erase { reason: Some(text("Request 4711")) }
}

/// S3.8, S3.9, T-62: from the end, whatever it was; announced once before.
#[test]
fn s3_9_the_warning_comes_once_and_then_the_purge() {
    let mut envelope = voided();
    assert_eq!(envelope.purge_at(), Some(start() + DAY * 2));
    assert_eq!(run(&mut envelope, &Command::Keep, start() + DAY - TimeDelta::seconds(1)).1, []);
    assert_eq!(done(&mut envelope, &Command::Keep, start() + DAY), [EventType::EnvelopePurgeDue]);
    assert_eq!(run(&mut envelope, &Command::Keep, start() + DAY * 2 - TimeDelta::seconds(1)).1, []);
    assert_eq!(done(&mut envelope, &Command::Keep, start() + DAY * 2), [EventType::EnvelopePurged]);
    assert_eq!(run(&mut envelope, &Command::Keep, start() + DAY * 9).1, []);
    assert_eq!(envelope.purge_at(), None);
}

/// T-62: a draft that nobody touches is discarded, one that is held is not; nothing that is open is purged.
#[test]
fn t62_drafts_have_a_lifetime_from_their_last_change() {
    let mut left = draft(&[(Role::Signer, 1)]);
    assert_eq!(left.next_step(), Some((start() + DAY * 60, Step::Discard)));
    let mut held = left.clone();
    done(&mut held, &hold(true), start());
    assert_eq!(run(&mut held, &Command::Keep, start() + DAY * 99).1, []);
    assert_eq!(why(&mut held, &Command::Discard, start()), (Why::Held, Vec::new()));
    done(&mut held, &hold(false), start() + DAY * 99);
    assert_eq!(held.next_step(), Some((start() + DAY * 159, Step::Discard)), "it was touched");
    assert_eq!(done(&mut left, &Command::Keep, start() + DAY * 60), [EventType::EnvelopeDiscarded]);
    let mut open = sent();
    assert_eq!(open.next_step(), None);
    assert_eq!(why(&mut open, &erase(), start()), (Why::State, Vec::new()));
}

/// T-61: a held draft can go on, but none of its documents is taken out of it.
#[test]
fn t61_documents_of_a_held_draft_are_not_replaced() {
    let mut held = draft(&[(Role::Signer, 1)]);
    let replace = |number| {
        Command::Update(Edit::ReplaceDocument { document: Box::new(document(number)), fields: None, fields_max: 200 })
    };
    done(&mut held, &hold(true), start());
    assert_eq!(why(&mut held, &replace(0), start()), (Why::Held, Vec::new()));
    assert_eq!(why(&mut held, &replace(7), start()), (Why::NoSuchDocument, Vec::new()));
    let mut freed = held.clone();
    done(&mut freed, &hold(false), start());
    assert_eq!(done(&mut freed, &replace(0), start()), [EventType::EnvelopeUpdated]);
    done(&mut held, &Command::Send, start());
    assert_eq!(why(&mut held, &replace(0), start()).0, Why::State);
}

/// T-60: what is evidence of a refusal is not purged by time before it is there, but by request; then it is not taken any more.
#[test]
fn t60_a_purge_waits_for_the_evidence_and_an_erasure_does_not() {
    let mut envelope = sent();
    done(&mut envelope, &decline(rcp(0), Channel::SigningToken, Some("no")), start());
    assert_eq!(envelope.next_step(), None);
    assert_eq!(run(&mut envelope, &Command::Keep, start() + DAY * 99).1, []);
    let mut made = envelope.clone();
    let evidence = store(&made, Version::Declined);
    done(&mut made, &evidence, start());
    assert_eq!(made.next_step(), Some((start() + DAY, Step::Warn)));
    assert_eq!(done(&mut envelope, &erase(), start()), [EventType::EnvelopePurged]);
    assert_eq!(why(&mut envelope, &evidence, start()), (Why::Purged, Vec::new()));
}

/// T-61: a hold wins over time and request, and the attempt is in the history.
#[test]
fn t61_a_hold_wins_and_the_attempt_is_recorded() {
    let mut envelope = voided();
    assert_eq!(done(&mut envelope, &hold(true), start()), [EventType::EnvelopeRetentionChanged]);
    assert_eq!(run(&mut envelope, &hold(true), start()), (Verdict::AlreadyDone, Vec::new()));
    assert_eq!(run(&mut envelope, &Command::Keep, start() + DAY * 99).1, []);
    let refused = why(&mut envelope, &erase(), start() + DAY * 99);
    assert_eq!(refused, (Why::Held, vec![EventType::EnvelopeErasureRefused]));
    assert_eq!(done(&mut envelope, &hold(false), start() + DAY * 99), [EventType::EnvelopeRetentionChanged]);
    assert_eq!(done(&mut envelope, &Command::Keep, start() + DAY * 99), [EventType::EnvelopePurgeDue]);
    assert_eq!(done(&mut envelope, &Command::Keep, start() + DAY * 99), [EventType::EnvelopePurged]);
    assert_eq!(why(&mut envelope, &hold(true), start() + DAY * 99), (Why::Purged, Vec::new()));
    assert_eq!(run(&mut envelope, &erase(), start() + DAY * 99), (Verdict::AlreadyDone, Vec::new()));
    let replace = Command::Replace { by: env(5), lost: None };
    assert_eq!(why(&mut envelope, &replace, start() + DAY * 99), (Why::Purged, Vec::new()));
}

/// T-61: a hold that comes after the warning wins as well, also one that was set before the end.
#[test]
fn t61_a_hold_at_any_time_before_the_purge_wins() {
    let mut warned = voided();
    done(&mut warned, &Command::Keep, start() + DAY);
    done(&mut warned, &hold(true), start() + DAY * 2);
    let mut open = sent();
    done(&mut open, &hold(true), start());
    done(&mut open, &Command::Void { cause: Cause::Sender, reason: None }, start());
    for mut held in [warned, open] {
        assert_eq!(held.next_step(), None);
        assert_eq!(run(&mut held, &Command::Keep, start() + DAY * 99).1, []);
        assert_eq!(why(&mut held, &erase(), start() + DAY * 99).0, Why::Held);
    }
}

/// C-26: longer at any time, shorter only where the warning can still come; another time is announced anew.
#[test]
fn c26_retention_is_changed_with_time_for_the_warning() {
    let mut envelope = voided();
    done(&mut envelope, &Command::Keep, start() + DAY);
    done(&mut envelope, &Command::Retain { days: 30 }, start() + DAY);
    assert_eq!(envelope.next_step(), Some((start() + DAY * 29, Step::Warn)));
    let (refused, _) = why(&mut envelope, &Command::Retain { days: 5 }, start() + DAY * 5);
    assert!(matches!(refused, Why::Invalid(_)), "{refused:?}");
    done(&mut envelope, &Command::Retain { days: 6 }, start() + DAY * 5);
    assert_eq!(envelope.purge_at(), Some(start() + DAY * 6));
    assert_eq!(run(&mut envelope, &Command::Retain { days: 6 }, start() + DAY * 6), (Verdict::AlreadyDone, Vec::new()));
    done(&mut envelope, &erase(), start() + DAY * 6);
    assert_eq!(why(&mut envelope, &Command::Retain { days: 9 }, start() + DAY * 6), (Why::Purged, Vec::new()));
}
