//! What may be put into fields.

use countersign_envelope::domain::command::Command;
use countersign_envelope::domain::decide::{Verdict, decide};
use countersign_envelope::domain::envelope::{Envelope, RecipientState, Routing};
use countersign_envelope::domain::field::{Field, FieldType, Value};
use countersign_envelope::domain::id::FieldId;
use countersign_envelope::domain::personal::Personal;
use countersign_envelope::domain::refusal::{Place, Why};

use crate::shape::{draft, sign, start, uuid};

fn text(text: &str) -> Value {
    Value::Text(Personal::new(text))
}

/// A field of the first recipient of an envelope.
fn field(kind: FieldType, required: bool) -> (Envelope, Field) {
    let envelope = draft(1, Routing::Parallel, false);
    let field = Field { kind, required, ..envelope.fields[0].clone() };
    (envelope, field)
}

/// Type, required, what is given, what comes of it.
type Case = (FieldType, bool, Option<Value>, Result<Option<Value>, ()>);

#[test]
fn s3_21_each_type_takes_what_it_is_for() {
    let cases: [Case; 17] = [
        (FieldType::Signature, true, None, Ok(Some(text("Signer 1")))),
        (FieldType::Signature, true, Some(text(" Ada ")), Ok(Some(text("Ada")))),
        (FieldType::Signature, true, Some(Value::Checked(true)), Err(())),
        (FieldType::Initials, true, None, Ok(Some(text("S1")))),
        (FieldType::Name, true, None, Ok(Some(text("Signer 1")))),
        (FieldType::Name, true, Some(text("Somebody else")), Err(())),
        (FieldType::Email, true, None, Ok(Some(text("signer1@example.com")))),
        (FieldType::Date, true, None, Ok(Some(text("2027-01-15")))),
        (FieldType::Text, true, None, Err(())),
        (FieldType::Text, true, Some(text("  ")), Err(())),
        (FieldType::Text, false, None, Ok(None)),
        (FieldType::Text, false, Some(text("a\u{0}b")), Err(())),
        (FieldType::Text, false, Some(text(&"é".repeat(501))), Err(())),
        (FieldType::Checkbox, true, Some(Value::Checked(false)), Err(())),
        (FieldType::Checkbox, true, Some(Value::Checked(true)), Ok(Some(Value::Checked(true)))),
        (FieldType::Checkbox, false, None, Ok(Some(Value::Checked(false)))),
        (FieldType::Checkbox, false, Some(text("yes")), Err(())),
    ];
    for (kind, required, given, expected) in cases {
        let (envelope, field) = field(kind, required);
        let filled = field.fill(given.as_ref(), &envelope.recipients[0], start());
        match expected {
            Ok(expected) => assert_eq!(filled, Ok(expected), "{kind:?}"),
            Err(()) => assert!(filled.is_err(), "{kind:?} took {given:?}"),
        }
    }
}

#[test]
fn s3_23_all_that_is_wrong_is_told_at_once() {
    let mut envelope = draft(2, Routing::Parallel, false);
    envelope.recipients[0].state = RecipientState::Released { at: start() };
    envelope.facts.dispatched_at = Some(start());
    envelope.facts.sent_at = Some(start());
    let required = FieldId::from_uuid(uuid(700));
    let mut extra = envelope.fields[0].clone();
    (extra.id, extra.kind) = (required, FieldType::Text);
    envelope.fields.push(extra);
    let (own, foreign) = (envelope.fields[0].id, envelope.fields[1].id);
    let mut wrong = sign(&envelope, envelope.recipients[0].id);
    wrong.consent = false;
    wrong.seen.clear();
    wrong.values = vec![(foreign, text("x")), (own, Value::Checked(true)), (own, text("x"))];
    let decision = decide(&envelope, &Command::Sign(wrong), start());
    let Verdict::Refused(refusal) = decision.verdict else { panic!("accepted") };
    let Why::Invalid(places) = refusal.why else { panic!("{:?}", refusal.why) };
    let places: Vec<_> = places.into_iter().map(|(place, _)| place).collect();
    let expected = [
        Place::Consent,
        Place::SeenDocuments,
        Place::Value(0),
        Place::Value(2),
        Place::Value(1),
        Place::Missing(required),
    ];
    assert_eq!(places, expected);
}
