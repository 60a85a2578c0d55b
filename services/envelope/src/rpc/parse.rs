//! Reading requests. What is wrong is collected, so that the caller hears of everything at once.

use countersign::v1::{FieldValue, field_value};
use countersign_chassis::faults;
use tonic::Status;
use type_safe_id::{StaticType, TypeSafeId};
use unicode_normalization::UnicodeNormalization as _;

use super::drawn::drawn;
use crate::domain::envelope::Digest;
use crate::domain::field::Value;
use crate::domain::id::EnvelopeId;
use crate::domain::limits::Limits;
use crate::domain::personal::Personal;

/// What is wrong with a request so far.
pub(super) struct Faults {
    found: faults::Faults,
    note_chars_max: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self::within(&Limits::default())
    }
}

impl Faults {
    /// None yet, by the limits of an account.
    pub fn within(limits: &Limits) -> Self {
        Self { found: faults::Faults::default(), note_chars_max: limits.note_chars_max }
    }

    /// Names a field and what is wrong with it.
    pub fn add(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.found.add(path, why);
    }

    /// Refuses the request if anything was wrong.
    pub fn finish(self) -> Result<(), Status> {
        self.found.finish()
    }

    /// A line of text of bounded length, without control characters, trimmed.
    pub fn line(&mut self, path: impl Into<String>, text: &str, required: bool, chars_max: usize) -> String {
        let text: String = text.nfc().collect();
        let text = text.trim();
        if text.chars().any(char::is_control) {
            self.add(path, "must not hold control characters");
        } else if required && text.is_empty() {
            self.add(path, "must not be empty");
        } else if text.chars().count() > chars_max {
            self.add(path, format!("must not be longer than {chars_max} characters"));
        }
        text.to_owned()
    }

    /// Text of several lines: normalised, control characters but line ends and tabs removed.
    pub fn note(&mut self, path: &str, text: &str) -> String {
        let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
        let text: String = text.nfc().filter(kept).collect();
        let text = text.trim();
        let most = self.note_chars_max;
        if text.chars().count() > most {
            self.add(path, format!("must not be longer than {most} characters"));
        }
        text.to_owned()
    }

    /// A personal note; none if it is empty.
    pub fn personal(&mut self, path: &str, text: &str) -> Option<Personal> {
        let text = self.note(path, text);
        (!text.is_empty()).then(|| Personal::new(text))
    }

    /// A SHA-256 in hexadecimal digits.
    pub fn digest(&mut self, path: impl Into<String>, text: &str) -> Digest {
        let mut digest = Digest::default();
        if hex::decode_to_slice(text, &mut digest).is_err() {
            self.add(path, "must be 64 hexadecimal digits (SHA-256)");
        }
        digest
    }

    /// An id whose form is part of the request; whether it exists is another question.
    pub fn id<T: StaticType>(&mut self, path: impl Into<String>, text: &str) -> TypeSafeId<T> {
        text.parse().unwrap_or_else(|_| {
            self.add(path, format!("must be an id of the form {}_…", T::TYPE));
            TypeSafeId::default_nil()
        })
    }
}

/// An id that stands for nothing, where a request is going to be refused anyway.
trait DefaultNil {
    fn default_nil() -> Self;
}

impl<T: StaticType> DefaultNil for TypeSafeId<T> {
    fn default_nil() -> Self {
        Self::from_uuid(uuid::Uuid::nil())
    }
}

/// The envelope that a request is about.
pub(super) fn envelope_id(text: &str) -> Result<EnvelopeId, Status> {
    let mut faults = Faults::default();
    let id = faults.id("envelope_id", text);
    faults.finish()?;
    Ok(id)
}

/// The revision that a caller takes the envelope to have; 0: any.
pub(super) fn expected(if_revision: u64) -> Option<u64> {
    (if_revision != 0).then_some(if_revision)
}

/// A value for a field.
pub(super) fn value(faults: &mut Faults, path: &str, value: Option<FieldValue>) -> Value {
    match value.and_then(|value| value.value) {
        Some(field_value::Value::Text(text)) => Value::Text(Personal::new(text.nfc().collect::<String>())),
        Some(field_value::Value::Checked(checked)) => Value::Checked(checked),
        Some(field_value::Value::Drawn(given)) => Value::Drawn(drawn(faults, path, given)),
        None => {
            faults.add(path, "must hold `text`, `checked` or `drawn`");
            Value::Checked(false)
        }
    }
}

/// How many to list: 0 means the default, more than the most means the most.
pub(super) fn page_size(faults: &mut Faults, asked: i32, default: i64, most: i64) -> i64 {
    match asked {
        0 => default,
        asked if asked < 0 => {
            faults.add("page_size", "must not be negative");
            default
        }
        asked => i64::from(asked).min(most),
    }
}
