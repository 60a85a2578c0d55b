//! From the draft to the last act: what is needed to send, whose turn it is, and when it is complete.

use chrono::TimeDelta;
use countersign_envelope::domain::command::{Act, Command, Edit};
use countersign_envelope::domain::envelope::{Cause, Envelope, Ingest};
use countersign_envelope::domain::event::EventType;
use countersign_envelope::domain::field::{FieldType, Value};
use countersign_envelope::domain::recipient::Role::{Approver, Assistant, Cc, Signer, Viewer};
use countersign_envelope::domain::recipient::{Channel, RecipientState};
use countersign_envelope::domain::refusal::{Place, Why};
use countersign_envelope::domain::routing::whose_turn;
use countersign_envelope::domain::status::Status;
use countersign_envelope::domain::terms::DeclineEffect::Continue;

use crate::play::Play;
use crate::shape::{
    act, decline, document, draft, field, place_of, rcp, read, start, text, text_of, unread, with_effect, with_quorum,
};
use crate::small::schedule;

fn sign(play: &Play, index: u128) -> Command {
    Command::Sign(act(&play.envelope, rcp(index)))
}

/// What a draft lacks, in words.
fn lacks(envelope: Envelope) -> Vec<&'static str> {
    match Play::new(envelope).refused(&Command::Send) {
        Why::Incomplete(lacks) => lacks,
        other => panic!("{other:?}"),
    }
}

#[test]
fn t12_nobody_who_acts_is_refused_at_send() {
    let nobody = "The envelope has neither a signer nor an approver.";
    for people in [&[][..], &[(Cc, 1)], &[(Viewer, 1), (Cc, 2)]] {
        assert!(lacks(draft(people)).contains(&nobody), "{people:?}");
    }
}

/// What is taken from a draft that is ready, and what it lacks then.
type Lack = (fn(&mut Envelope), &'static str);

#[test]
fn s3_47_a_draft_that_lacks_something_is_not_sent() {
    let changed = |change: fn(&mut Envelope)| {
        let mut envelope = draft(&[(Signer, 1), (Approver, 2), (Assistant, 1)]);
        change(&mut envelope);
        lacks(envelope).join(" ")
    };
    let cases: [Lack; 11] = [
        (|it| it.expires_at = start(), "The deadline has passed."),
        (|it| it.terms.scheduled_send_at = Some(it.expires_at), "The envelope is to be sent after its deadline."),
        (|it| it.documents.clear(), "The envelope has no document."),
        (|it| it.documents[0].ingest = Ingest::Failed, "A document cannot be read."),
        (|it| it.fields.clear(), "Every signer needs a SIGNATURE field."),
        (|it| it.fields[1].recipient = rcp(2), "A field is bound to a recipient whose role cannot fill it."),
        (
            |it| (it.fields[1].required, it.fields[1].read_only) = (true, true),
            "A required field is read-only and empty, or two buttons of one set are chosen.",
        ),
        (
            |it| it.recipients.push(draft(&[(Viewer, 3)]).recipients.remove(0)),
            "A viewer's group comes after all who act.",
        ),
        (|it| it.recipients[2].assists = None, "Every assistant needs a signer to assist."),
        (|it| it.recipients[2].assists = Some(rcp(1)), "Every assistant needs a signer to assist."),
        (
            |it| *it = with_quorum(it.clone(), 1, 2),
            "A quorum must be 1 to as many as its group has signers and approvers.",
        ),
    ];
    for (change, lack) in cases {
        assert_eq!(changed(change), lack);
    }
    for (group, needed) in [(1, 0), (3, 1)] {
        assert_eq!(lacks(with_quorum(draft(&[(Signer, 1)]), group, needed)).len(), 1, "{needed} of group {group}");
    }
    let everything = draft(&[]);
    let lacking = Envelope { documents: Vec::new(), expires_at: start(), ..everything };
    assert_eq!(lacks(lacking).len(), 3, "all is told at once");
}

#[test]
fn s3_15_an_approver_gates_the_signers() {
    let mut play = Play::sent(draft(&[(Signer, 2), (Approver, 1), (Signer, 2)]));
    assert_eq!(whose_turn(&play.envelope), [rcp(1)]);
    assert_eq!(play.refused(&sign(&play, 0)), Why::NotYourTurn);
    assert_eq!(play.refused(&Command::View { recipient: rcp(0) }), Why::NotYourTurn);
    let released = EventType::RecipientReleased;
    assert_eq!(play.approves(rcp(1)), [EventType::RecipientApproved, released, released]);
    assert_eq!(play.envelope.status(), Status::Sent, "an approval is no signature");
    play.signs(rcp(2));
    assert_eq!(play.envelope.status(), Status::PartiallySigned);
    assert_eq!(play.signs(rcp(0)), [EventType::RecipientSigned, EventType::EnvelopeAllActed]);
}

/// T-13: approvers alone complete an envelope.
#[test]
fn t13_an_envelope_of_approvers_completes() {
    let mut play = Play::sent(draft(&[(Approver, 1), (Approver, 1)]));
    play.approves(rcp(0));
    assert_eq!(play.approves(rcp(1)), [EventType::RecipientApproved, EventType::EnvelopeAllActed]);
    assert_eq!((play.envelope.status(), play.state(rcp(1))), (Status::Sent, 8));
    play.stored();
    assert_eq!(play.envelope.status(), Status::Completed);
    assert_eq!(play.envelope.facts.first_signed_at, None);
}

/// T-3: between the last act and completion nothing can win any more, not even the deadline.
#[test]
fn t3_after_the_last_act_only_completion() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Viewer, 1)]));
    play.signs(rcp(0));
    let late = play.envelope.expires_at;
    for now in [start(), late] {
        play.now = now;
        assert_eq!(play.refused(&Command::Void { cause: Cause::Sender, reason: None }), Why::State);
        assert_eq!(play.refused(&decline(rcp(0), Channel::OnBehalf, None)), Why::AlreadyActed);
        assert_eq!(play.refused(&Command::Extend { expires_at: late + TimeDelta::days(1) }), Why::State);
        play.again(&Command::Expire);
    }
    play.stored();
    assert_eq!(play.envelope.status(), Status::Completed);
    assert_eq!(play.refused(&Command::Void { cause: Cause::Sender, reason: None }), Why::State);
}

/// T-21: who is not needed any more is told nothing but that, and cannot act.
#[test]
fn t21_surplus_members_are_not_needed() {
    let people = [(Signer, 1), (Signer, 1), (Approver, 1), (Assistant, 1), (Signer, 2)];
    let mut play = Play::sent(with_quorum(draft(&people), 1, 1));
    let (signed, idle, released) =
        (EventType::RecipientSigned, EventType::RecipientNotNeeded, EventType::RecipientReleased);
    assert_eq!(play.signs(rcp(1)), [signed, idle, idle, idle, released]);
    for (index, not_needed) in [(0, true), (1, false), (2, true), (3, true), (4, false)] {
        let state = &play.envelope.recipients[index].state;
        assert_eq!(matches!(state, RecipientState::NotNeeded { .. }), not_needed, "{index}");
    }
    assert_eq!(play.refused(&sign(&play, 0)), Why::NotNeeded);
    assert_eq!(play.refused(&Command::Approve(act(&play.envelope, rcp(2)))), Why::NotNeeded);
    assert_eq!(play.refused(&decline(rcp(0), Channel::OnBehalf, None)), Why::NotNeeded);
    assert_eq!(play.refused(&Command::Fill { recipient: rcp(3), values: Vec::new() }), Why::NotNeeded);
    assert_eq!(play.signs(rcp(4)), [signed, EventType::EnvelopeAllActed]);
    play.stored();
    assert_eq!((play.envelope.status(), play.state(rcp(0))), (Status::Completed, 9));
}

/// T-20: an assistant fills; the signer sees and changes it, and alone signs.
#[test]
fn t20_an_assistant_fills_and_no_more() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Assistant, 1), (Signer, 1)]));
    let seen_before = act(&play.envelope, rcp(0));
    let words = |words: &str| Value::Text(text(words));
    let fill = |values| Command::Fill { recipient: rcp(1), values };
    assert_eq!(play.done(&fill(vec![(text_of(0), words("theirs"))])), [EventType::RecipientFilled]);
    assert_eq!(play.envelope.fields[1].value, Some(words("theirs")));
    let Why::Invalid(wrong) = play.refused(&fill(vec![(place_of(0), words("x")), (text_of(2), words("x"))])) else {
        panic!()
    };
    let places: Vec<_> = wrong.into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, [Place::Value(1), Place::Value(0)], "neither a signature nor another's field");
    for command in [
        Command::Sign(act(&play.envelope, rcp(1))),
        Command::Approve(act(&play.envelope, rcp(1))),
        decline(rcp(1), Channel::SigningToken, None),
    ] {
        assert_eq!(play.refused(&command), Why::Role);
    }
    assert_eq!(play.refused(&Command::Fill { recipient: rcp(0), values: Vec::new() }), Why::Role);
    assert_eq!(play.refused(&Command::Sign(seen_before)), Why::FieldsChanged);
    let values = vec![(text_of(0), words("mine"))];
    play.done(&Command::Sign(Act { values, ..act(&play.envelope, rcp(0)) }));
    assert_eq!(play.envelope.fields[1].value, Some(words("mine")));
    assert_eq!(play.refused(&fill(vec![(text_of(0), words("late"))])), Why::AlreadyActed);
}

/// T-20: an assistant of somebody who refused or is not needed has nothing to do.
#[test]
fn t20_an_assistant_goes_with_the_signer() {
    let people = draft(&[(Signer, 1), (Signer, 1), (Assistant, 1)]);
    let mut play = Play::sent(with_effect(with_quorum(people, 1, 1), Continue));
    assert_eq!(play.declines(rcp(0)), [EventType::RecipientDeclined, EventType::RecipientNotNeeded]);
    assert_eq!(play.state(rcp(2)), 9);
}

/// T-70: an act names the documents that were seen, and the revision.
#[test]
fn t70_an_act_is_bound_to_what_was_seen() {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.documents.push(document(1));
    let mut play = Play::sent(envelope);
    let right = act(&play.envelope, rcp(0));
    let both = right.seen.clone();
    let changed = |seen: Vec<_>| Command::Sign(Act { seen, ..right.clone() });
    let other = vec![both[0], (both[1].0, [0; 32])];
    assert_eq!(play.refused(&changed(other)), Why::DocumentChanged(both[1].0));
    let foreign = vec![both[0], both[1], (document(2).id, [7; 32])];
    assert_eq!(play.refused(&changed(foreign)), Why::DocumentChanged(document(2).id));
    for seen in [vec![], vec![both[0]], vec![both[0], both[0]], vec![both[0], both[1], both[0]]] {
        let Why::Invalid(wrong) = play.refused(&changed(seen)) else { panic!() };
        assert_eq!(wrong[0].0, Place::SeenDocuments);
    }
    for seen_revision in [0, play.envelope.revision + 1] {
        let Why::Invalid(wrong) = play.refused(&Command::Sign(Act { seen_revision, ..right.clone() })) else {
            panic!()
        };
        assert_eq!(wrong[0].0, Place::SeenRevision);
    }
    play.done(&Command::Sign(Act { seen: vec![both[1], both[0]], ..right }));
}

/// T-19: only what is sent is told; a copy at the beginning only if asked for, a reader with the group or before it.
#[test]
fn s3_17_copies_and_readers_are_told_in_time() {
    let mut envelope = draft(&[(Signer, 1), (Signer, 2), (Viewer, 1), (Viewer, 2), (Cc, 1), (Cc, 9)]);
    envelope.recipients[5].copy_on_send = true;
    let mut play = Play::sent(envelope);
    let told = |play: &Play| -> Vec<bool> {
        play.envelope.recipients.iter().map(|recipient| recipient.released_at().is_some()).collect()
    };
    assert_eq!(told(&play), [true, false, true, false, false, true]);
    assert_eq!(play.refused(&Command::View { recipient: rcp(4) }), Why::Role);
    assert_eq!(play.refused(&Command::View { recipient: rcp(3) }), Why::NotYourTurn);
    assert_eq!(play.done(&Command::View { recipient: rcp(2) }), [EventType::RecipientViewed]);
    play.again(&Command::View { recipient: rcp(2) });
    play.signs(rcp(0));
    assert_eq!(told(&play), [true, true, true, true, false, true]);
    play.signs(rcp(1));
    assert!(play.envelope.facts.all_acted_at.is_some(), "readers and copies do not gate");
}

/// S3.30: a dispatched envelope waits for its documents and its time, whichever is later.
#[test]
fn s3_30_pending_waits_for_documents_and_time() {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.documents[0] = unread(0);
    envelope.terms.scheduled_send_at = Some(schedule());
    let sent = [EventType::EnvelopeSent, EventType::RecipientReleased];
    let mut early = Play::sent(envelope.clone());
    assert_eq!(early.envelope.status(), Status::Pending);
    assert_eq!(early.done(&read(0, true)), [EventType::EnvelopeDocumentReady]);
    early.again(&read(0, false));
    early.again(&Command::Release);
    early.now = schedule();
    assert_eq!(early.done(&Command::Release), sent);
    early.again(&Command::Release);
    let mut late = Play::sent(envelope.clone());
    late.now = schedule();
    late.again(&Command::Release);
    assert_eq!(late.done(&read(0, true))[1..], sent);
    let mut failed = Play::sent(envelope);
    let events = failed.done(&read(0, false));
    assert_eq!(events, [EventType::EnvelopeDocumentFailed, EventType::EnvelopeVoided]);
    assert_eq!(failed.envelope.end.map(|end| end.cause), Some(Cause::IngestFailed));
}

/// S3.48: after the sending nothing of the draft can be changed.
#[test]
fn s3_48_fields_change_in_a_draft_only() {
    let mut play = Play::new(draft(&[(Signer, 1)]));
    let extra = field(text_of(7), FieldType::Checkbox, rcp(0));
    let (add, remove) =
        (Edit::AddFields { fields: vec![extra.clone()], fields_max: 200 }, Edit::RemoveFields(vec![extra.id]));
    play.done(&Command::Update(add.clone()));
    assert_eq!(play.envelope.fields.len(), 3);
    play.done(&Command::Update(remove.clone()));
    assert_eq!(play.refused(&Command::Update(remove)), Why::NoSuchField);
    play.done(&Command::Send);
    assert_eq!(play.refused(&Command::Update(add)), Why::State);
}
