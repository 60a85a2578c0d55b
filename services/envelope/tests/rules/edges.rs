//! The last value that is taken beside the first that is not, and who is meant where several could be.

use chrono::TimeDelta;
use countersign_envelope::domain::command::{Command, Edit};
use countersign_envelope::domain::envelope::{Envelope, Version};
use countersign_envelope::domain::event::EventType;
use countersign_envelope::domain::field::{Field, FieldType, Rules, Value, decimal};
use countersign_envelope::domain::fill::finish;
use countersign_envelope::domain::id::FieldId;
use countersign_envelope::domain::limits::{
    EXPIRY_DAYS_MAX, Limits, OPTION_CHARS_MAX, OPTIONS_MAX, PATTERN_CHARS_MAX, TEXT_CHARS_MAX,
};
use countersign_envelope::domain::recipient::Channel;
use countersign_envelope::domain::recipient::Role::{Assistant, Signer, Viewer};
use countersign_envelope::domain::refusal::{Transition, Why, allowed, allowed_to};
use countersign_envelope::domain::status::Status;

use crate::field::{sound, text};
use crate::play::Play;
use crate::shape::{
    artifacts, deadline, decline, document, draft, place_of, rcp, read, start, store, text_of, unread, uuid,
    with_quorum,
};
use crate::small::schedule;

const PRESSED: Option<Value> = Some(Value::Checked(true));

fn added(number: u128, field: Field) -> Field {
    Field { id: FieldId::from_uuid(uuid(900 + number)), ..field }
}

/// A button of that signer in that set, pressed by the sender.
fn button(number: u128, signer: u128, group: &str) -> Field {
    let rules = Rules { group: group.into(), ..Rules::default() };
    added(number, Field { rules, recipient: rcp(signer), value: PRESSED, ..sound(FieldType::Radio) })
}

/// A draft of two signers with these fields besides their own.
fn with(fields: impl IntoIterator<Item = Field>) -> Envelope {
    let mut envelope = draft(&[(Signer, 1), (Signer, 1)]);
    envelope.fields.extend(fields);
    envelope
}

#[test]
fn rules_may_go_to_their_limits() {
    let most = u32::try_from(TEXT_CHARS_MAX).unwrap();
    let lengths = |min, max| Rules { min_length: Some(min), max_length: Some(max), ..Rules::default() };
    let patterns = ["a".repeat(PATTERN_CHARS_MAX), "[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}".into()];
    for pattern in patterns {
        let rules = Rules { pattern: Some(pattern), ..Rules::default() };
        assert_eq!(Field { rules, ..sound(FieldType::Text) }.defects(), []);
    }
    for rules in [lengths(3, 3), lengths(most, most)] {
        assert_eq!(Field { rules, ..sound(FieldType::Text) }.defects(), []);
    }
    let rules = Rules { min: decimal("2"), max: decimal("2.0"), ..Rules::default() };
    assert_eq!(Field { rules, ..sound(FieldType::Number) }.defects(), [], "one number is left");
    let mut options: Vec<_> = (1..OPTIONS_MAX).map(|it| it.to_string()).collect();
    options.push("é".repeat(OPTION_CHARS_MAX));
    let rules = Rules { options, ..Rules::default() };
    assert_eq!(Field { rules, ..sound(FieldType::Dropdown) }.defects(), []);
}

#[test]
fn who_is_asked_at_the_time_of_the_warning_is_not_warned() {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.terms.expiry_warning = Some(deadline() - start());
    assert_eq!(Play::sent(envelope.clone()).envelope.warning_at(), None);
    let later = start() + TimeDelta::microseconds(1);
    envelope.expires_at += TimeDelta::microseconds(1);
    assert_eq!(Play::sent(envelope).envelope.warning_at(), Some(later));
}

#[test]
fn a_deadline_may_be_moved_to_the_farthest_and_no_farther() {
    let mut play = Play::sent(draft(&[(Signer, 1)]));
    assert!(allowed(&play.envelope, play.now).contains(&Transition::Extend));
    play.done(&Command::Extend { expires_at: start() + TimeDelta::days(EXPIRY_DAYS_MAX) });
    assert!(!allowed(&play.envelope, play.now).contains(&Transition::Extend), "there is no later one");
}

#[test]
fn the_senders_value_is_not_taken_for_what_the_service_fills_in() {
    let name = added(0, Field { value: Some(text("Somebody")), ..sound(FieldType::Name) });
    let envelope = with([name.clone()]);
    let filled = finish(&envelope, &envelope.recipients[0], &[], start()).unwrap();
    assert!(filled.contains(&(name.id, Some(text("Person 0")))), "{filled:?}");
}

#[test]
fn a_ticked_box_lifts_no_button() {
    let tick = added(1, sound(FieldType::Checkbox));
    let envelope = with([button(0, 0, "colour"), tick.clone()]);
    let given = [(tick.id, Value::Checked(true))];
    let filled = finish(&envelope, &envelope.recipients[0], &given, start()).unwrap();
    assert!(filled.contains(&(button(0, 0, "colour").id, PRESSED)), "{filled:?}");
}

#[test]
fn sets_of_buttons_are_told_apart_by_name_and_signer() {
    let apart = with([button(0, 0, "colour"), button(1, 0, "size"), button(2, 1, "colour")]);
    assert_eq!(Play::sent(apart).envelope.status(), Status::Sent);
    for required in [false, true] {
        let both = [button(0, 0, "colour"), button(1, 0, "colour")].map(|field| Field { required, ..field });
        assert!(matches!(Play::new(with(both)).refused(&Command::Send), Why::Incomplete(lacks) if lacks.len() == 1));
    }
}

#[test]
fn a_required_set_of_buttons_can_be_chosen_from() {
    let set = |read_only: bool, fixed| {
        let unpressed = Field { value: None, required: true, read_only, ..button(0, 0, "colour") };
        let other = Field { value: fixed, read_only: true, ..button(1, 0, "colour") };
        Play::new(with([unpressed, other])).tries(&Command::Send).1.is_empty()
    };
    assert!(set(true, None), "nobody can press one");
    assert!(!set(true, PRESSED), "the sender has pressed one");
    assert!(!set(false, None), "the signer can press one");
}

#[test]
fn every_signer_needs_a_place_of_their_own() {
    let mut envelope = with([]);
    envelope.fields.retain(|field| field.id != place_of(1));
    let lacks = Why::Incomplete(vec!["Every signer needs a SIGNATURE field."]);
    assert_eq!(Play::new(envelope).refused(&Command::Send), lacks);
}

#[test]
fn each_artefact_is_kept_with_its_own_document() {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.documents.push(document(1));
    let mut play = Play::sent(envelope);
    play.signs(rcp(0));
    let mut made = artifacts(&play.envelope, Version::Signed);
    (made[0].sha256, made[1].sha256) = ([20; 32], [21; 32]);
    play.done(&Command::Store { artifacts: made });
    let kept: Vec<_> = play.envelope.documents.iter().map(|document| document.artifacts[0].sha256).collect();
    assert_eq!(kept, [[20; 32], [21; 32]]);
}

#[test]
fn the_documents_of_a_declined_envelope_are_kept_once() {
    let mut play = Play::sent(draft(&[(Signer, 1)]));
    assert_eq!(play.refused(&store(&play.envelope, Version::Signed)), Why::State, "an act is missing");
    play.declines(rcp(0));
    let declined = store(&play.envelope, Version::Declined);
    assert_eq!(play.done(&declined), [EventType::EnvelopeArtifactReady]);
    play.again(&declined);
}

#[test]
fn what_is_read_after_the_end_changes_nothing() {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.documents[0] = unread(0);
    let read = read(0, true);
    let mut thrown_away = Play::new(envelope.clone());
    thrown_away.done(&Command::Discard);
    thrown_away.again(&read);
    let mut declined = Play::sent(envelope);
    declined.done(&decline(rcp(0), Channel::OnBehalf, None));
    declined.again(&read);
}

#[test]
fn an_invitation_that_cannot_go_out_is_refused_with_its_reason() {
    let mut envelope = draft(&[(Signer, 1), (Viewer, 1)]);
    envelope.terms.scheduled_send_at = Some(schedule());
    let all = Command::Resend { recipients: Vec::new(), rotate: false };
    assert_eq!(Play::sent(envelope).refused(&all), Why::State, "nobody has been invited at all");
    let mut play = Play::sent(with_quorum(draft(&[(Signer, 1), (Signer, 1), (Signer, 2)]), 1, 1));
    play.signs(rcp(0));
    let one = |index| Command::Resend { recipients: vec![rcp(index)], rotate: false };
    assert_eq!(play.refused(&one(1)), Why::NotNeeded);
    assert_eq!(play.refused(&one(0)), Why::AlreadyActed);
}

#[test]
fn an_assistant_is_asked_to_fill_what_they_can() {
    let fills = |field: Option<Field>| {
        let mut envelope = draft(&[(Signer, 1), (Assistant, 1), (Signer, 1)]);
        envelope.fields.retain(|field| field.id != text_of(0));
        envelope.fields.extend(field.map(|field| added(0, field)));
        let play = Play::sent(envelope);
        allowed_to(&play.envelope, &play.envelope.recipients[1], play.now).contains(&Transition::Fill)
    };
    assert!(fills(Some(sound(FieldType::Text))));
    assert!(!fills(None), "neither the signature nor another's field");
    assert!(!fills(Some(sound(FieldType::Initials))), "the signer's own hand");
    assert!(!fills(Some(sound(FieldType::Name))), "what the service fills in");
    assert!(!fills(Some(Field { read_only: true, ..sound(FieldType::Text) })), "what nobody changes");
}

#[test]
fn a_draft_may_have_as_many_fields_as_are_allowed() {
    let mut play = Play::new(draft(&[(Signer, 1)]));
    let own = play.envelope.fields.len();
    let add = |count| {
        let fields = (0..count).map(|number| added(number, sound(FieldType::Text))).collect();
        Command::Update(Edit::AddFields { fields, fields_max: own + 10 })
    };
    assert!(matches!(play.refused(&add(11)), Why::TooManyFields { .. }));
    play.done(&add(10));
    assert!(matches!(play.refused(&add(1)), Why::TooManyFields { .. }));
}

#[test]
fn documents_are_limited_in_mebibytes() {
    assert_eq!(Limits::default().document_bytes_max, 26_214_400);
    assert_eq!(Limits::ceiling().document_bytes_max, 104_857_600);
}
