//! Refusals: who may, through which door, and what comes of it.

use countersign_envelope::domain::command::{Command, Decline};
use countersign_envelope::domain::envelope::{Cause, End};
use countersign_envelope::domain::event::EventType;
use countersign_envelope::domain::recipient::Role::{Approver, Assistant, Cc, Signer, Viewer};
use countersign_envelope::domain::recipient::{Channel, Ending, RecipientState};
use countersign_envelope::domain::refusal::{Place, Why};
use countersign_envelope::domain::routing::whose_turn;
use countersign_envelope::domain::status::Status;
use countersign_envelope::domain::terms::DeclineEffect::{Abort, Continue, ReturnForCorrection};
use countersign_envelope::domain::terms::ReasonRule::{Disabled, Optional, Required};

use crate::play::Play;
use crate::shape::{act, decline, draft, env, policy, rcp, read, start, text, unread, with_effect, with_quorum};
use crate::small::schedule;

fn with_token(index: u128) -> Command {
    decline(rcp(index), Channel::SigningToken, None)
}

#[test]
fn s2_6_decline_propagates() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Signer, 1), (Viewer, 1)]));
    let events = play.declines(rcp(1));
    let released = EventType::RecipientReleasedByDecline;
    assert_eq!(events, [EventType::RecipientDeclined, EventType::EnvelopeDeclined, released, released]);
    assert_eq!(play.envelope.status(), Status::Declined);
    assert_eq!(play.envelope.end, Some(End { cause: Cause::SignatureRefused, by: Some(rcp(1)) }));
    assert!(play.envelope.requires_replacement);
    let ended = RecipientState::ReleasedBy { end: Ending::Declined, released_at: Some(start()), at: start() };
    assert_eq!(play.envelope.recipients[0].state, ended);
}

/// T-6: the same recipient again is told that it is done; the first reason stays.
#[test]
fn t6_a_repeated_decline_changes_nothing() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Signer, 1)]));
    play.done(&decline(rcp(0), Channel::SigningToken, Some("First")));
    play.again(&decline(rcp(0), Channel::OnBehalf, Some("Second")));
    play.again(&with_token(0));
    let RecipientState::Declined { reason, channel, .. } = &play.envelope.recipients[0].state else { panic!() };
    assert_eq!((reason.as_ref().map(|it| it.reveal()), *channel), (Some("First"), Channel::SigningToken));
}

/// T-5: another recipient comes too late, and is told how it ended.
#[test]
fn t5_the_second_refusal_is_told_of_the_first() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Approver, 1)]));
    play.declines(rcp(1));
    assert_eq!(play.refused(&with_token(0)), Why::State);
    assert_eq!(play.envelope.end, Some(End { cause: Cause::ApprovalRefused, by: Some(rcp(1)) }));
}

/// T-9: who has signed has signed, for ever; it only binds nobody.
#[test]
fn t9_signatures_are_kept() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Signer, 2)]));
    play.signs(rcp(0));
    play.declines(rcp(1));
    let at = start();
    let kept = RecipientState::Acted { released_at: at, at, effective: false };
    assert_eq!(play.envelope.recipients[0].state, kept);
    assert_eq!(play.envelope.facts.first_signed_at, Some(at));
}

/// T-10: decline works in PENDING already, through the sender's door.
#[test]
fn t10_on_behalf_in_pending() {
    let mut envelope = draft(&[(Signer, 1), (Signer, 2)]);
    envelope.terms.scheduled_send_at = Some(schedule());
    let mut play = Play::sent(envelope);
    assert_eq!(play.envelope.status(), Status::Pending);
    assert_eq!(play.refused(&with_token(0)), Why::NotYourTurn);
    play.done(&decline(rcp(1), Channel::OnBehalf, None));
    assert_eq!(play.envelope.status(), Status::Declined);
}

/// S3.30: while it is PENDING nobody is asked, though a refusal that is not the end would bring others their turn.
#[test]
fn t10_a_refusal_in_pending_releases_nobody() {
    let mut envelope = with_effect(with_quorum(draft(&[(Signer, 1), (Signer, 1)]), 1, 1), Continue);
    envelope.documents[0] = unread(0);
    let mut play = Play::sent(envelope);
    let events = play.done(&decline(rcp(0), Channel::OnBehalf, None));
    assert_eq!(events, [EventType::RecipientDeclined]);
    assert_eq!(play.refused(&Command::Sign(act(&play.envelope, rcp(1)))), Why::NotYourTurn);
    let ready = play.done(&read(0, true));
    assert_eq!(ready, [EventType::EnvelopeDocumentReady, EventType::EnvelopeSent, EventType::RecipientReleased]);
}

/// T-14: a draft has not been shown to anybody who could refuse it.
#[test]
fn t14_a_draft_cannot_be_declined_but_discarded() {
    let mut play = Play::new(draft(&[(Signer, 1)]));
    for channel in [Channel::SigningToken, Channel::OnBehalf, Channel::User] {
        assert_eq!(play.refused(&decline(rcp(0), channel, None)), Why::State);
    }
    assert_eq!(play.done(&Command::Discard), [EventType::EnvelopeDiscarded]);
    assert_eq!(play.envelope.status(), Status::Draft);
    assert_eq!(play.refused(&Command::Discard), Why::State);
    assert_eq!(play.refused(&Command::Send), Why::State);
}

/// T-16: a token works in one's turn only, the sender's door before it too.
#[test]
fn t16_out_of_turn_only_on_behalf() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Signer, 2)]));
    assert_eq!(play.refused(&with_token(1)), Why::NotYourTurn);
    assert_eq!(play.refused(&decline(rcp(1), Channel::User, None)), Why::NotYourTurn);
    play.done(&Command::Decline(Decline {
        recipient: rcp(1),
        channel: Channel::OnBehalf,
        reason: None,
        note: Some(text("Told us on the phone")),
        correction: env(3),
    }));
    let declined = &play.envelope.recipients[1];
    assert_eq!((play.envelope.status(), declined.released_at()), (Status::Declined, None));
}

#[test]
fn t17_a_copy_a_reader_and_an_assistant_cannot_decline() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Cc, 1), (Viewer, 1), (Assistant, 1)]));
    for index in 1..=3 {
        for channel in [Channel::SigningToken, Channel::OnBehalf, Channel::User] {
            assert_eq!(play.refused(&decline(rcp(index), channel, None)), Why::Role);
        }
    }
}

/// T-18: an approver's refusal has a cause of its own, and signers who were never asked were never released.
#[test]
fn t18_an_approvers_refusal_has_its_own_cause() {
    let mut play = Play::sent(draft(&[(Approver, 1), (Signer, 2)]));
    play.declines(rcp(0));
    assert_eq!(play.envelope.end, Some(End { cause: Cause::ApprovalRefused, by: Some(rcp(0)) }));
    assert_eq!(play.envelope.recipients[1].released_at(), None);
}

#[test]
fn s4_10_refusing_may_be_switched_off() {
    let mut envelope = draft(&[(Signer, 1), (Signer, 1)]);
    envelope.terms.decline.enabled = false;
    envelope.recipients[1].decline = Some(policy(true, Optional, Abort));
    let mut play = Play::sent(envelope);
    for channel in [Channel::SigningToken, Channel::OnBehalf, Channel::User] {
        assert_eq!(play.refused(&decline(rcp(0), channel, None)), Why::DeclineNotAllowed);
    }
    play.declines(rcp(1));
}

#[test]
fn s2_14_a_reason_is_optional_unless_the_sender_says() {
    let wrong = |why: Why| match why {
        Why::Invalid(places) => places.into_iter().map(|(place, _)| place).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    for (rule, given, taken) in [
        (Disabled, None, true),
        (Disabled, Some("No"), false),
        (Optional, None, true),
        (Optional, Some("No"), true),
        (Required, None, false),
        (Required, Some("No"), true),
    ] {
        let mut envelope = draft(&[(Signer, 1)]);
        envelope.terms.decline = policy(true, rule, Abort);
        let mut play = Play::sent(envelope);
        let command = decline(rcp(0), Channel::SigningToken, given);
        if taken {
            play.done(&command);
        } else {
            assert_eq!(wrong(play.refused(&command)), [Place::Reason], "{rule:?}");
        }
    }
}

/// D6: with 2 of 3 needed one may refuse; the second refusal ends it, since 2 cannot be had any more.
#[test]
fn d6_a_refusal_ends_a_quorum_only_when_it_is_out_of_reach() {
    let three = draft(&[(Signer, 1), (Signer, 1), (Signer, 1), (Signer, 2)]);
    let mut play = Play::sent(with_effect(with_quorum(three, 1, 2), Continue));
    assert_eq!(play.declines(rcp(0)), [EventType::RecipientDeclined]);
    assert_eq!(play.envelope.status(), Status::Sent);
    assert!(!play.envelope.requires_replacement);
    assert_eq!(whose_turn(&play.envelope), [rcp(1), rcp(2)]);
    let mut ends = Play::new(play.envelope.clone());
    ends.declines(rcp(1));
    assert_eq!(ends.envelope.end, Some(End { cause: Cause::SignatureRefused, by: Some(rcp(1)) }));
    play.signs(rcp(1));
    play.signs(rcp(2));
    assert_eq!(whose_turn(&play.envelope), [rcp(3)]);
    // All of the last group are needed.
    play.declines(rcp(3));
    assert_eq!(play.envelope.status(), Status::Declined);
}

/// D6: in a group of which all are needed CONTINUE is ABORT.
#[test]
fn d6_without_a_quorum_each_refusal_ends_it() {
    let mut play = Play::sent(with_effect(draft(&[(Signer, 1), (Signer, 1)]), Continue));
    play.declines(rcp(0));
    assert_eq!(play.envelope.status(), Status::Declined);
}

/// D6: the recipient's own rule wins over the envelope's.
#[test]
fn d6_a_recipient_may_have_a_rule_of_their_own() {
    let mut envelope = with_effect(with_quorum(draft(&[(Signer, 1), (Signer, 1)]), 1, 1), Continue);
    envelope.recipients[0].decline = Some(policy(true, Optional, Abort));
    let mut play = Play::sent(envelope);
    play.declines(rcp(0));
    assert_eq!(play.envelope.status(), Status::Declined);
}

/// D6: returned to the sender with a draft in its place, so that none is owed.
#[test]
fn d6_return_for_correction_prepares_a_draft() {
    let mut play = Play::sent(with_effect(draft(&[(Signer, 1), (Signer, 1)]), ReturnForCorrection));
    let events = play.declines(rcp(0));
    assert_eq!(events.last(), Some(&EventType::EnvelopeReplaced));
    assert_eq!((play.envelope.status(), play.envelope.replaced_by), (Status::Declined, Some(env(3))));
    assert!(!play.envelope.requires_replacement);
    play.again(&Command::Replace { by: env(5), lost: None });
}
