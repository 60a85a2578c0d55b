//! What the sender does after the sending, and what recipients pass on.

use chrono::TimeDelta;
use countersign_envelope::domain::command::{Assign, Command};
use countersign_envelope::domain::decide::{Verdict, decide};
use countersign_envelope::domain::envelope::Cause;
use countersign_envelope::domain::event::EventType;
use countersign_envelope::domain::limits::EXPIRY_DAYS_MAX;
use countersign_envelope::domain::recipient::Channel;
use countersign_envelope::domain::recipient::Role::{Approver, Assistant, Cc, Signer, Viewer};
use countersign_envelope::domain::refusal::{Place, Why};
use countersign_envelope::domain::reminder::Notices;
use countersign_envelope::domain::status::Status;

use crate::play::Play;
use crate::shape::{act, assign, deadline, decline, draft, env, person, rcp, start};
use crate::small::{schedule, warning};

fn resend(recipients: &[u128], rotate: bool) -> Command {
    Command::Resend { recipients: recipients.iter().map(|index| rcp(*index)).collect(), rotate }
}

/// T-40: neither state nor deadline nor, unless asked for, the link changes; once an hour.
#[test]
fn t40_resend_is_hourly_and_changes_no_state() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Signer, 1), (Signer, 2), (Cc, 1)]));
    let hour = start() + TimeDelta::hours(1);
    assert_eq!(play.refused(&resend(&[], false)), Why::TooSoon(hour));
    play.now = hour - TimeDelta::milliseconds(1);
    assert_eq!(play.refused(&resend(&[0], false)), Why::TooSoon(hour));
    play.now = hour;
    let before = play.envelope.clone();
    assert_eq!(play.done(&resend(&[0], false)), [EventType::RecipientResent]);
    let mut same = before.recipients[0].clone();
    same.invited_at = Some(hour);
    // T-39: it counts as a reminder.
    same.notices = Notices { reminders: 1, last_reminder_at: Some(hour), ..Notices::default() };
    assert_eq!(play.envelope.recipients[0], same);
    assert_eq!(play.envelope.facts, before.facts);
    assert_eq!(play.envelope.expires_at, before.expires_at);
    // Who was asked by name is asked or the whole is refused; all means all who are due.
    assert_eq!(play.refused(&resend(&[0, 1], false)), Why::TooSoon(hour + TimeDelta::hours(1)));
    assert_eq!(play.done(&resend(&[], true)), [EventType::RecipientResent]);
    let generations: Vec<_> = play.envelope.recipients.iter().map(|other| other.credential.generation).collect();
    assert_eq!(generations, [1, 2, 1, 1]);
}

/// S3.59: only to those of whom something is still wanted.
#[test]
fn s3_59_resend_goes_to_those_who_have_not_acted() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Signer, 1), (Signer, 2), (Cc, 1), (Viewer, 1)]));
    play.signs(rcp(0));
    play.done(&Command::View { recipient: rcp(4) });
    play.wait(TimeDelta::hours(2));
    assert_eq!(play.refused(&resend(&[0], false)), Why::AlreadyActed);
    assert_eq!(play.refused(&resend(&[2], false)), Why::NotYourTurn);
    assert_eq!(play.refused(&resend(&[3], false)), Why::Role);
    assert_eq!(play.refused(&resend(&[4], false)), Why::AlreadyActed);
    assert_eq!(play.refused(&resend(&[42], false)), Why::NoSuchRecipient);
    play.done(&resend(&[], false));
    let invited: Vec<_> = play.envelope.recipients.iter().map(|other| other.invited_at == Some(play.now)).collect();
    assert_eq!(invited, [false, true, false, false, false]);
    play.done(&Command::Void { cause: Cause::Sender, reason: None });
    assert_eq!(play.refused(&resend(&[1], false)), Why::State);
}

/// T-39: an assistant whose signer has signed has nothing left to do, and gets no invitation.
#[test]
fn t39_an_idle_assistant_is_not_invited_again() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Assistant, 1), (Signer, 1)]));
    play.signs(rcp(0));
    play.wait(TimeDelta::hours(2));
    assert!(!matches!(play.tries(&resend(&[1], false)).0, Verdict::Done));
}

/// T-45: before the deadline it is a change like others, after it there is nothing to extend, swept or not.
#[test]
fn t45_extension_only_before_the_deadline() {
    let later = Command::Extend { expires_at: deadline() + TimeDelta::days(1) };
    let mut play = Play::sent(draft(&[(Signer, 1)]));
    play.now = deadline() - TimeDelta::milliseconds(1);
    let mut late = Play::sent(draft(&[(Signer, 1)]));
    assert_eq!(play.done(&later), [EventType::EnvelopeDeadlineChanged]);
    play.again(&later);
    late.now = deadline();
    let (verdict, events) = late.tries(&later);
    let Verdict::Refused(refusal) = verdict else { panic!() };
    assert_eq!((refusal.why, refusal.current, refusal.allowed), (Why::State, Status::Expired, Vec::new()));
    assert_eq!(events, [EventType::EnvelopeExpired]);
    play.now = deadline();
    play.signs(rcp(0));
}

/// T-46: never shorter, never too far; and those who were warned are warned anew.
#[test]
fn t46_extension_replans_the_warning() {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.terms.expiry_warning = Some(warning());
    let mut play = Play::sent(envelope);
    let most = start() + TimeDelta::days(EXPIRY_DAYS_MAX);
    for expires_at in [start(), deadline() - TimeDelta::seconds(1), most + TimeDelta::seconds(1)] {
        let Why::Invalid(wrong) = play.refused(&Command::Extend { expires_at }) else { panic!() };
        assert_eq!(wrong[0].0, Place::ExpiresAt);
    }
    play.again(&Command::Warn);
    play.now = deadline() - warning();
    assert_eq!(play.done(&Command::Warn), [EventType::EnvelopeExpiring]);
    play.again(&Command::Warn);
    play.done(&Command::Extend { expires_at: deadline() + TimeDelta::days(30) });
    play.again(&Command::Warn);
    assert_eq!(play.envelope.warning_at(), Some(deadline() + TimeDelta::days(30) - warning()));
    play.wait(TimeDelta::days(30));
    play.done(&Command::Warn);
}

/// T-44: who is asked only after the time of the warning is not warned.
#[test]
fn t46_no_warning_before_the_invitation() {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.terms.expiry_warning = Some(TimeDelta::days(30));
    envelope.expires_at = start() + TimeDelta::days(30);
    envelope.terms.scheduled_send_at = Some(schedule());
    let mut play = Play::sent(envelope);
    assert_eq!(play.envelope.warning_at(), None);
    play.now = schedule();
    play.done(&Command::Release);
    play.again(&Command::Warn);
}

/// T-4: the deadline is the first instant at which nobody can act, and whoever comes first after it expires it.
#[test]
fn t4_the_deadline_decides() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Signer, 2)]));
    play.again(&Command::Expire);
    play.now = deadline() - TimeDelta::milliseconds(1);
    play.signs(rcp(0));
    play.now = deadline();
    let (verdict, events) = play.tries(&Command::Sign(act(&play.envelope, rcp(1))));
    let Verdict::Refused(refusal) = verdict else { panic!() };
    assert_eq!((refusal.current, refusal.cause), (Status::Expired, Some(Cause::Deadline)));
    assert_eq!(events, [EventType::EnvelopeExpired]);
    assert_eq!((play.state(rcp(0)), play.state(rcp(1))), (3, 7));
}

/// T-24: passed on as often as the sender allows and to nobody who is in the envelope; the old link is dead at once.
#[test]
fn t24_delegation_has_a_limit() {
    let mut envelope = draft(&[(Signer, 1), (Approver, 1), (Signer, 2), (Viewer, 1)]);
    envelope.terms.delegations_max = 2;
    let mut play = Play::sent(envelope);
    let to = |index, email: &str| {
        Command::Delegate(Assign { recipient: rcp(index), person: person("Deputy", email), reason: None })
    };
    for taken in ["person0@example.com", "Person1@EXAMPLE.com ", "person3@example.com"] {
        let Why::Invalid(wrong) = play.refused(&to(0, taken)) else { panic!() };
        assert_eq!(wrong[0].0, Place::Email, "{taken}");
    }
    assert_eq!(play.refused(&to(2, "d@example.org")), Why::NotYourTurn);
    assert_eq!(play.refused(&to(3, "d@example.org")), Why::Role);
    play.done(&Command::View { recipient: rcp(0) });
    for (email, generation) in [("d@example.org", 2), ("e@example.org", 3)] {
        play.wait(TimeDelta::minutes(5));
        assert_eq!(play.done(&to(0, email)), [EventType::RecipientDelegated]);
        let own = &play.envelope.recipients[0];
        assert_eq!((own.person.email.reveal(), own.credential.generation), (email, generation));
        assert_eq!((own.viewed_at, own.released_at(), own.invited_at), (None, Some(play.now), Some(play.now)));
    }
    assert_eq!(play.refused(&to(0, "f@example.org")), Why::DelegationNotAllowed);
    // The sender's own change of person does not count.
    play.done(&Command::Reassign(assign(rcp(1), "successor")));
    play.done(&to(1, "f@example.org"));
}

#[test]
fn t24_delegation_is_off_unless_the_sender_allows_it() {
    let mut play = Play::sent(draft(&[(Signer, 1)]));
    assert_eq!(play.refused(&Command::Delegate(assign(rcp(0), "deputy"))), Why::DelegationNotAllowed);
}

/// T-24: the sender may put somebody else in the place of whoever has not acted; before and after stay in the history.
#[test]
fn t24_reassigned_until_they_act() {
    let mut play = Play::new(draft(&[(Signer, 1), (Signer, 2), (Viewer, 1)]));
    let reassign = |index| Command::Reassign(assign(rcp(index), "successor"));
    play.done(&reassign(0));
    assert!(!play.envelope.recipients[0].is_released(), "a draft asks nobody");
    play.done(&Command::Send);
    play.again(&reassign(0));
    for index in 0..3 {
        play.done(&Command::Reassign(assign(rcp(index), "heir")));
    }
    let (generation, before) = (play.envelope.recipients[0].credential.generation, play.history.len());
    assert_eq!(generation, 3);
    play.signs(rcp(0));
    assert_eq!(play.refused(&reassign(0)), Why::AlreadyActed);
    assert_eq!(play.refused(&reassign(42)), Why::NoSuchRecipient);
    let kept = play.history[before - 3].kept.as_ref().unwrap();
    let text = String::from_utf8(kept.1.clone()).unwrap();
    assert!(text.contains(r#""before":{"name":"successor""#) && text.contains(r#""after""#), "{text}");
    play.done(&Command::Void { cause: Cause::Operator, reason: None });
    assert_eq!(play.refused(&reassign(1)), Why::State);
}

/// T-24: a link that was dead stays dead, however often the person changes.
#[test]
fn t24_generations_never_come_back() {
    let mut play = Play::new(draft(&[(Signer, 1)]));
    play.envelope.recipients[0].credential.generation = u32::from(u16::MAX);
    let decision = decide(&play.envelope, &Command::Reassign(assign(rcp(0), "successor")), None, start());
    if decision.verdict == Verdict::Done {
        play.events(&decision.events);
        assert_eq!(play.envelope.recipients[0].credential.generation, u32::from(u16::MAX) + 1);
    }
}

/// S3.40: the sender or the operator takes it back, from any open state; a draft is discarded instead.
#[test]
fn s3_40_void_is_for_open_envelopes() {
    let void = Command::Void { cause: Cause::Operator, reason: None };
    let mut play = Play::new(draft(&[(Signer, 1), (Signer, 1)]));
    assert_eq!(play.refused(&void), Why::State);
    let mut pending = draft(&[(Signer, 1)]);
    pending.terms.scheduled_send_at = Some(schedule());
    assert_eq!(Play::sent(pending).done(&void), [EventType::EnvelopeVoided]);
    play.done(&Command::Send);
    play.signs(rcp(0));
    play.done(&void);
    assert_eq!(play.envelope.end.map(|end| (end.cause, end.by)), Some((Cause::Operator, None)));
    assert!(!play.envelope.requires_replacement);
    assert_eq!((play.state(rcp(0)), play.state(rcp(1))), (3, 6));
    assert_eq!(play.refused(&void), Why::State);
    assert_eq!(play.refused(&decline(rcp(1), Channel::SigningToken, None)), Why::State);
}

/// T-15: what has ended stays so; a replacement is another envelope, made once unless it was thrown away.
#[test]
fn t15_a_replacement_leaves_the_end_as_it_is() {
    let replace = |by, lost: Option<u128>| Command::Replace { by: env(by), lost: lost.map(env) };
    let mut play = Play::sent(draft(&[(Signer, 1)]));
    assert_eq!(play.refused(&replace(5, None)), Why::State);
    play.declines(rcp(0));
    let facts = play.envelope.facts.clone();
    assert_eq!(play.done(&replace(5, None)), [EventType::EnvelopeReplaced]);
    assert!(!play.envelope.requires_replacement);
    play.again(&replace(6, None));
    play.again(&replace(6, Some(7)));
    play.done(&replace(6, Some(5)));
    assert_eq!((play.envelope.replaced_by, &play.envelope.facts), (Some(env(6)), &facts));
}

/// D9: who knows an older revision is told so, and nothing happens.
#[test]
fn d9_a_stale_revision_is_refused() {
    let play = Play::sent(draft(&[(Signer, 1)]));
    let sign = Command::Sign(act(&play.envelope, rcp(0)));
    let revision = play.envelope.revision;
    for expected in [revision - 1, revision + 1] {
        let decision = decide(&play.envelope, &sign, Some(expected), start());
        let Verdict::Refused(refusal) = decision.verdict else { panic!() };
        assert_eq!((refusal.why, refusal.revision, decision.events.len()), (Why::Revision, revision, 0));
    }
    assert_eq!(decide(&play.envelope, &sign, Some(revision), start()).verdict, Verdict::Done);
}
