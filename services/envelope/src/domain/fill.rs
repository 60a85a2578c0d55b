//! Values for the fields of one recipient: all is right, or all that is wrong is told.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::envelope::Envelope;
use super::field::{Field, FieldType, Value, Wrong};
use super::id::FieldId;
use super::recipient::Recipient;
use super::refusal::Place;

/// What fields hold.
pub type Filled = Vec<(FieldId, Option<Value>)>;
/// Where something is wrong, and why.
pub type Faults = Vec<(Place, Wrong)>;

fn fields_of<'a>(envelope: &'a Envelope, recipient: &Recipient) -> impl Iterator<Item = &'a Field> {
    let id = recipient.id;
    envelope.fields.iter().filter(move |field| field.recipient == id)
}

/// Values for fields that are not the recipient's, or for one field twice.
fn strangers(envelope: &Envelope, recipient: &Recipient, given: &[(FieldId, Value)]) -> Faults {
    let mut wrong = Faults::new();
    for (index, (id, _)) in given.iter().enumerate() {
        if !fields_of(envelope, recipient).any(|field| field.id == *id) {
            wrong.push((Place::Value(index), "is not a field of this recipient".into()));
        } else if given.iter().take(index).any(|(earlier, _)| earlier == id) {
            wrong.push((Place::Value(index), "names a field twice".into()));
        }
    }
    wrong
}

/// What all fields of a recipient hold once they act.
pub fn finish(
    envelope: &Envelope,
    recipient: &Recipient,
    given: &[(FieldId, Value)],
    at: DateTime<Utc>,
) -> Result<Filled, Faults> {
    let mut wrong = strangers(envelope, recipient, given);
    let mut filled = Filled::new();
    for field in fields_of(envelope, recipient) {
        let index = given.iter().position(|(id, _)| *id == field.id);
        let place = index.map_or(Place::Missing(field.id), Place::Value);
        let value = match index.and_then(|index| given.get(index)) {
            Some(_) if field.read_only => Err("is read-only".into()),
            Some((_, value)) => field.fits(value),
            None if chosen_elsewhere(envelope, field, given) => Ok(None),
            // The service's own values are not the sender's to give.
            None if field.kind.is_automatic() => Ok(None),
            None => field.value.as_ref().map_or(Ok(None), |value| field.fits(value)),
        };
        let value = value.map(|value| value.or_else(|| field.unasked(&recipient.person, at)));
        let empty = match (&value, field.kind) {
            (Ok(None), _) => Some("must be filled"),
            (Ok(Some(Value::Checked(false))), FieldType::Checkbox) => Some("must be ticked"),
            _ => None,
        };
        match (value, empty) {
            (Err(why), _) => wrong.push((place, why)),
            (Ok(_), Some(why)) if field.required => wrong.push((place, why.into())),
            (Ok(value), _) => filled.push((field.id, value)),
        }
    }
    wrong.extend(radio(envelope, recipient, |field| {
        filled.iter().any(|(id, value)| *id == field.id && *value == Some(Value::Checked(true)))
    }));
    if wrong.is_empty() { Ok(filled) } else { Err(wrong) }
}

/// True for a button that springs back because another of its set is pressed.
fn chosen_elsewhere(envelope: &Envelope, field: &Field, given: &[(FieldId, Value)]) -> bool {
    field.kind == FieldType::Radio
        && !field.read_only
        && given.iter().filter(|(_, value)| *value == Value::Checked(true)).any(|(id, _)| {
            envelope.fields.iter().any(|other| {
                other.id == *id && other.recipient == field.recipient && other.rules.group == field.rules.group
            })
        })
}

/// Of each set of buttons at most one is pressed, and one must be if any of them is required.
fn radio(envelope: &Envelope, recipient: &Recipient, pressed: impl Fn(&Field) -> bool) -> Faults {
    let mut sets: BTreeMap<&str, (FieldId, bool, usize)> = BTreeMap::new();
    for field in fields_of(envelope, recipient).filter(|field| field.kind == FieldType::Radio) {
        let set = sets.entry(field.rules.group.as_str()).or_insert((field.id, false, 0));
        set.1 |= field.required;
        set.2 += usize::from(pressed(field));
    }
    let mut wrong = Faults::new();
    for (first, required, pressed) in sets.into_values() {
        match (required, pressed) {
            (true, 0) => wrong.push((Place::Missing(first), "or another button of its set must be chosen".into())),
            (_, 0 | 1) => {}
            _ => wrong.push((Place::Missing(first), "and another button of its set are both chosen".into())),
        }
    }
    wrong
}

/// What an assistant puts into fields of a signer, who may change it and alone signs.
pub fn assist(envelope: &Envelope, signer: &Recipient, given: &[(FieldId, Value)]) -> Result<Filled, Faults> {
    let mut wrong = strangers(envelope, signer, given);
    let mut filled = Filled::new();
    if given.is_empty() {
        wrong.push((Place::Values, "must hold at least one".into()));
    }
    for (index, (id, value)) in given.iter().enumerate() {
        let Some(field) = fields_of(envelope, signer).find(|field| field.id == *id) else { continue };
        let fits = if field.kind.is_mark() {
            Err("is for the signer's own hand".into())
        } else if field.read_only {
            Err("is read-only".into())
        } else {
            field.fits(value)
        };
        match fits {
            Ok(value) => filled.push((field.id, value)),
            Err(why) => wrong.push((Place::Value(index), why)),
        }
    }
    for field in fields_of(envelope, signer) {
        if chosen_elsewhere(envelope, field, given) && !given.iter().any(|(id, _)| *id == field.id) {
            filled.push((field.id, Some(Value::Checked(false))));
        }
    }
    let both = radio(envelope, signer, |field| {
        let new = filled.iter().find(|(id, _)| *id == field.id).map(|(_, value)| value);
        *new.unwrap_or(&field.value) == Some(Value::Checked(true))
    });
    wrong.extend(both.into_iter().filter(|(_, why)| why.starts_with("and")));
    if wrong.is_empty() { Ok(filled) } else { Err(wrong) }
}
