//! All fields of a recipient together: required, read-only, prefilled, sets of buttons, and what assistants put in.

use countersign_envelope::domain::command::{Act, Command};
use countersign_envelope::domain::decide::{Verdict, decide};
use countersign_envelope::domain::envelope::Envelope;
use countersign_envelope::domain::field::{Field, FieldType, Value};
use countersign_envelope::domain::fill::{Filled, assist, finish};
use countersign_envelope::domain::id::FieldId;
use countersign_envelope::domain::recipient::Role::{Assistant, Signer};
use countersign_envelope::domain::refusal::{Place, Why};

use crate::field::{sound, text};
use crate::play::Play;
use crate::shape::{act, draft, rcp, start, uuid};

const NONE: Option<Value> = None;
const CHECKED: Option<Value> = Some(Value::Checked(true));
const UNCHECKED: Option<Value> = Some(Value::Checked(false));

fn id(number: u128) -> FieldId {
    FieldId::from_uuid(uuid(800 + number))
}

/// A signer, another, an assistant of the first, and these fields for the first.
fn with(fields: Vec<Field>) -> Envelope {
    let mut envelope = draft(&[(Signer, 1), (Signer, 1), (Assistant, 1)]);
    envelope.fields.retain(|field| field.recipient != rcp(0));
    envelope.fields.extend((0..).zip(fields).map(|(number, field)| Field { id: id(number), ..field }));
    envelope
}

/// Buttons of one set.
fn buttons(prefilled: [Option<Value>; 3], required: bool) -> Vec<Field> {
    prefilled.map(|value| Field { value, required, ..sound(FieldType::Radio) }).into()
}

/// What the first signer's fields hold after they have acted with these values, or the places that are wrong.
fn finished(envelope: &Envelope, given: &[(FieldId, Value)]) -> Result<Vec<Option<Value>>, Vec<Place>> {
    held(finish(envelope, &envelope.recipients[0], given, start()))
}

fn assisted(envelope: &Envelope, given: &[(FieldId, Value)]) -> Result<Vec<Option<Value>>, Vec<Place>> {
    held(assist(envelope, &envelope.recipients[0], given))
}

fn held<T>(done: Result<Filled, Vec<(Place, T)>>) -> Result<Vec<Option<Value>>, Vec<Place>> {
    done.map(|filled| filled.into_iter().map(|(_, value)| value).collect())
        .map_err(|wrong| wrong.into_iter().map(|(place, _)| place).collect())
}

/// Type, required, prefilled by the sender, given by the signer, what comes of it.
type Case = (FieldType, bool, Option<Value>, Option<Value>, Option<Option<Value>>);

#[test]
fn s3_23_required_prefilled_and_changed() {
    let (textual, number, tick) = (FieldType::Text, FieldType::Number, FieldType::Checkbox);
    let cases: Vec<Case> = vec![
        (FieldType::Signature, true, None, None, Some(Some(text("Person 0")))),
        (FieldType::Signature, true, None, Some(text(" Ada ")), Some(Some(text("Ada")))),
        (FieldType::Signature, true, None, Some(text("  ")), Some(Some(text("Person 0")))),
        (FieldType::Initials, true, None, None, Some(Some(text("P0")))),
        (FieldType::Initials, true, None, Some(text("A.L.")), Some(Some(text("A.L.")))),
        (FieldType::Name, true, None, None, Some(Some(text("Person 0")))),
        (FieldType::Name, false, None, Some(text("Somebody else")), None),
        (FieldType::Email, true, None, None, Some(Some(text("person0@example.com")))),
        (FieldType::Date, true, None, None, Some(Some(text("2027-01-15")))),
        (FieldType::Date, true, None, Some(text("2027-01-14")), None),
        (textual, true, None, None, None),
        (textual, true, None, Some(text("  ")), None),
        (textual, false, None, None, Some(None)),
        (textual, true, Some(text("before")), None, Some(Some(text("before")))),
        (textual, true, Some(text("before")), Some(text("after")), Some(Some(text("after")))),
        (textual, true, Some(text("before")), Some(text("")), None),
        (textual, false, Some(text("before")), Some(text("")), Some(None)),
        (textual, false, None, Some(Value::Checked(true)), None),
        (number, true, None, Some(text("x")), None),
        (number, true, Some(text("1")), Some(text("2")), Some(Some(text("2")))),
        (number, true, None, None, None),
        (tick, true, None, None, None),
        (tick, true, None, UNCHECKED, None),
        (tick, true, None, CHECKED, Some(CHECKED)),
        (tick, true, CHECKED, None, Some(CHECKED)),
        (tick, true, CHECKED, UNCHECKED, None),
        (tick, false, CHECKED, UNCHECKED, Some(UNCHECKED)),
        (tick, false, None, None, Some(UNCHECKED)),
        (tick, false, None, Some(text("yes")), None),
        (FieldType::Dropdown, true, None, None, None),
        (FieldType::Dropdown, true, None, Some(text("red")), Some(Some(text("red")))),
        (FieldType::Dropdown, true, Some(text("red")), Some(text("green")), Some(Some(text("green")))),
        (FieldType::Dropdown, false, None, Some(text("blue")), None),
    ];
    for (kind, required, value, given, expected) in cases {
        let envelope = with(vec![Field { required, value: value.clone(), ..sound(kind) }]);
        let values: Vec<_> = given.clone().map(|given| (id(0), given)).into_iter().collect();
        let place = if given.is_some() { Place::Value(0) } else { Place::Missing(id(0)) };
        let expected = expected.map(|value| vec![value]).ok_or(vec![place]);
        assert_eq!(finished(&envelope, &values), expected, "{kind:?} {required} {value:?} {given:?}");
    }
}

#[test]
fn s3_23_read_only_stays_as_the_sender_filled_it() {
    for (kind, value) in [
        (FieldType::Text, Some(text("fixed"))),
        (FieldType::Text, None),
        (FieldType::Number, Some(text("1"))),
        (FieldType::Dropdown, Some(text("red"))),
        (FieldType::Checkbox, CHECKED),
        (FieldType::Radio, CHECKED),
    ] {
        let envelope = with(vec![Field { read_only: true, value: value.clone(), ..sound(kind) }]);
        assert_eq!(finished(&envelope, &[]), Ok(vec![value.clone()]), "{kind:?}");
        let other = if value.as_ref() == CHECKED.as_ref() { Value::Checked(false) } else { text("2") };
        for fill in [finished, assisted] {
            assert_eq!(fill(&envelope, &[(id(0), other.clone())]), Err(vec![Place::Value(0)]), "{kind:?}");
        }
    }
}

#[test]
fn s3_21_of_a_set_of_buttons_one_is_pressed() {
    let second = [None, CHECKED, None];
    let (press, lift) = (Value::Checked(true), Value::Checked(false));
    let required = with(buttons([NONE; 3], true));
    assert_eq!(finished(&required, &[]), Err(vec![Place::Missing(id(0))]));
    assert_eq!(finished(&required, &[(id(0), lift.clone())]), Err(vec![Place::Missing(id(0))]));
    assert_eq!(finished(&required, &[(id(2), press.clone())]), Ok(vec![UNCHECKED, UNCHECKED, CHECKED]));
    let two = [(id(0), press.clone()), (id(2), press.clone())];
    assert_eq!(finished(&required, &two), Err(vec![Place::Missing(id(0))]));
    let optional = with(buttons([NONE; 3], false));
    assert_eq!(finished(&optional, &[]), Ok(vec![UNCHECKED; 3]));
    assert!(finished(&optional, &two).is_err());
    // Prefilled: pressing another lifts it, lifting it leaves none.
    let prefilled = with(buttons(second.clone(), true));
    assert_eq!(
        finished(&prefilled, &[]),
        Ok(vec![None, CHECKED, None].into_iter().map(|it| it.or(UNCHECKED)).collect())
    );
    assert_eq!(finished(&prefilled, &[(id(0), press.clone())]), Ok(vec![CHECKED, UNCHECKED, UNCHECKED]));
    assert!(finished(&prefilled, &[(id(1), lift.clone())]).is_err());
    assert_eq!(finished(&with(buttons(second, false)), &[(id(1), lift)]), Ok(vec![UNCHECKED; 3]));
    // Another set is another matter.
    let mut sets = with(buttons([NONE; 3], true));
    sets.fields.last_mut().unwrap().rules.group = "size".into();
    assert_eq!(finished(&sets, &two), Ok(vec![CHECKED, UNCHECKED, CHECKED]));
    assert_eq!(finished(&sets, &two[..1]), Err(vec![Place::Missing(id(2))]));
}

/// S3.23: a button that the sender has fixed does not spring back because another of its set is pressed.
#[test]
fn s3_23_a_read_only_button_stays_pressed() {
    let mut envelope = with(buttons([CHECKED, None, None], false));
    envelope.fields.iter_mut().find(|field| field.id == id(0)).unwrap().read_only = true;
    for fill in [finished, assisted] {
        assert!(fill(&envelope, &[(id(1), Value::Checked(true))]).is_err());
    }
}

#[test]
fn s3_18_an_assistant_fills_for_the_signer() {
    let mut fields = buttons([CHECKED, None, None], true);
    fields.push(Field { required: true, ..sound(FieldType::Text) });
    fields.push(sound(FieldType::Signature));
    fields.push(sound(FieldType::Name));
    let envelope = with(fields);
    assert_eq!(assisted(&envelope, &[]), Err(vec![Place::Values]));
    assert_eq!(assisted(&envelope, &[(id(3), text(" words "))]), Ok(vec![Some(text("words"))]), "one is enough");
    assert_eq!(assisted(&envelope, &[(id(3), text(""))]), Ok(vec![None]), "nothing is required of them");
    let pressed = assist(&envelope, &envelope.recipients[0], &[(id(1), Value::Checked(true))]).unwrap();
    assert_eq!(pressed, [(id(1), CHECKED), (id(0), UNCHECKED), (id(2), UNCHECKED)]);
    let wrong = [
        (id(4), text("Ada")),
        (id(5), text("Ada")),
        (id(3), Value::Checked(true)),
        (id(3), text("twice")),
        (id(9), text("nobody's")),
    ];
    let places = assisted(&envelope, &wrong).unwrap_err();
    let expected = [3, 4, 0, 1, 2].map(Place::Value);
    assert_eq!(places, expected, "all that is wrong is told at once");
    let both = [(id(0), Value::Checked(true)), (id(1), Value::Checked(true))];
    assert!(assisted(&envelope, &both).is_err());
}

/// S3.18: what the assistant put in is the signer's to leave or to change.
#[test]
fn s3_18_the_signer_has_the_last_word() {
    let mut fields = vec![sound(FieldType::Signature)];
    fields.extend(buttons([NONE; 3], true));
    fields.push(Field { required: true, ..sound(FieldType::Text) });
    let mut play = Play::sent(with(fields));
    let values = vec![(id(1), Value::Checked(true)), (id(4), text("theirs"))];
    play.done(&Command::Fill { recipient: rcp(2), values });
    let mut left = Play::new(play.envelope.clone());
    left.signs(rcp(0));
    let value = |play: &Play, number| play.envelope.fields.iter().find(|it| it.id == id(number)).unwrap().value.clone();
    assert_eq!([1, 2, 4].map(|it| value(&left, it)), [CHECKED, UNCHECKED, Some(text("theirs"))]);
    let values = vec![(id(2), Value::Checked(true)), (id(4), text("mine"))];
    play.done(&Command::Sign(Act { values, ..act(&play.envelope, rcp(0)) }));
    assert_eq!([1, 2, 4].map(|it| value(&play, it)), [UNCHECKED, CHECKED, Some(text("mine"))]);
}

#[test]
fn s3_23_all_that_is_wrong_is_told_at_once() {
    let required = Field { required: true, ..sound(FieldType::Text) };
    let play = Play::sent(with(vec![sound(FieldType::Signature), required]));
    let foreign = play.envelope.fields[0].id;
    let mut wrong = act(&play.envelope, rcp(0));
    (wrong.consent, wrong.seen_revision) = (false, 0);
    wrong.seen.clear();
    wrong.values = vec![(foreign, text("x")), (id(0), Value::Checked(true)), (id(0), text("x"))];
    let decision = decide(&play.envelope, &Command::Sign(wrong), None, start());
    let Verdict::Refused(refusal) = decision.verdict else { panic!("accepted") };
    let Why::Invalid(places) = refusal.why else { panic!("{:?}", refusal.why) };
    let places: Vec<_> = places.into_iter().map(|(place, _)| place).collect();
    let expected = [
        Place::Consent,
        Place::SeenDocuments,
        Place::SeenRevision,
        Place::Value(0),
        Place::Value(2),
        Place::Value(1),
        Place::Missing(id(1)),
    ];
    assert_eq!(places, expected);
}

/// Blank is empty whoever put it in: the sender's own blank does not fill a required field.
#[test]
fn s3_23_blank_is_empty_for_the_sender_too() {
    let blank = Field { required: true, value: Some(text("  ")), ..sound(FieldType::Text) };
    assert!(!blank.defects().is_empty() || finished(&with(vec![blank]), &[]).is_err());
}

/// What the signer cannot change must be as it is required to be, or nobody could ever sign.
#[test]
fn s3_47_a_draft_that_nobody_could_sign_is_not_sent() {
    let read_only = |field: Field| Field { read_only: true, ..field };
    let tick = Field { required: true, value: UNCHECKED, ..sound(FieldType::Checkbox) };
    let none = buttons([UNCHECKED; 3], true);
    let both = buttons([CHECKED, CHECKED, UNCHECKED], false);
    for fields in [vec![tick], none, both] {
        let fields: Vec<_> =
            [sound(FieldType::Signature)].into_iter().chain(fields.into_iter().map(read_only)).collect();
        let mut play = Play::new(with(fields));
        if play.tries(&Command::Send).0 == Verdict::Done {
            play.signs(rcp(0));
        }
    }
}

/// An assistant who fills another field is not stopped by two buttons that the sender has chosen: the signer lifts one.
#[test]
fn s3_18_buttons_are_no_obstacle_to_another_field() {
    let mut fields = vec![sound(FieldType::Signature), sound(FieldType::Text)];
    fields.extend(buttons([CHECKED, CHECKED, NONE], false));
    let mut play = Play::new(with(fields));
    if play.tries(&Command::Send).0 == Verdict::Done {
        play.done(&Command::Fill { recipient: rcp(2), values: vec![(id(1), text("words"))] });
        let values = vec![(id(2), Value::Checked(false))];
        play.done(&Command::Sign(Act { values, ..act(&play.envelope, rcp(0)) }));
    }
}
