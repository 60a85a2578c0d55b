//! Fields: where a recipient puts something in, and what may be put in.

use chrono::{DateTime, Utc};

use super::envelope::Recipient;
use super::id::{DocumentId, FieldId, RecipientId};
use super::limits::TEXT_CHARS_MAX;
use super::personal::Personal;

/// What a field takes. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// The name as signed.
    Signature = 1,
    /// Initials.
    Initials = 2,
    /// The recipient's name.
    Name = 3,
    /// The recipient's address.
    Email = 4,
    /// The day of signing.
    Date = 5,
    /// Free text.
    Text = 6,
    /// Ticked or not.
    Checkbox = 7,
}

/// A place on a page, in percent of the page as displayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// From 1.
    pub page: u32,
    /// Left edge.
    pub x_percent: f64,
    /// Top edge.
    pub y_percent: f64,
    /// Width.
    pub width_percent: f64,
    /// Height.
    pub height_percent: f64,
}

/// What stands in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text of any kind.
    Text(Personal),
    /// A tick or none.
    Checked(bool),
}

/// A place that one recipient fills.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its id.
    pub id: FieldId,
    /// What it takes.
    pub kind: FieldType,
    /// Who fills it.
    pub recipient: RecipientId,
    /// On which document.
    pub document: DocumentId,
    /// Where.
    pub placement: Placement,
    /// Whether it must be filled.
    pub required: bool,
    /// A name for programs.
    pub name: String,
    /// What was put in.
    pub value: Option<Value>,
}

impl Field {
    /// What the field holds once `given` is put in by `recipient` at `at`, or what is wrong with it.
    pub fn fill(
        &self,
        given: Option<&Value>,
        recipient: &Recipient,
        at: DateTime<Utc>,
    ) -> Result<Option<Value>, &'static str> {
        let own = |text: String| Ok(Some(Value::Text(Personal::new(text))));
        match (self.kind, given) {
            (FieldType::Name | FieldType::Email | FieldType::Date, Some(_)) => {
                Err("is filled by the service; it takes no value")
            }
            (FieldType::Name, None) => own(recipient.name.reveal().to_owned()),
            (FieldType::Email, None) => own(recipient.email.reveal().to_owned()),
            (FieldType::Date, None) => own(at.format("%Y-%m-%d").to_string()),
            (FieldType::Checkbox, Some(Value::Text(_))) => Err("takes `checked`, not `text`"),
            (_, Some(Value::Checked(_))) if self.kind != FieldType::Checkbox => Err("takes `text`, not `checked`"),
            (FieldType::Checkbox, given) => match given {
                Some(Value::Checked(true)) => Ok(Some(Value::Checked(true))),
                _ if self.required => Err("must be ticked"),
                _ => Ok(Some(Value::Checked(false))),
            },
            (FieldType::Signature | FieldType::Initials | FieldType::Text, given) => self.fill_text(given, recipient),
        }
    }

    fn fill_text(&self, given: Option<&Value>, recipient: &Recipient) -> Result<Option<Value>, &'static str> {
        let text = match given {
            Some(Value::Text(text)) => text.reveal().trim(),
            _ => "",
        };
        if text.chars().count() > TEXT_CHARS_MAX {
            return Err("is longer than 500 characters");
        }
        if text.chars().any(char::is_control) {
            return Err("holds control characters");
        }
        let name = recipient.name.reveal();
        let text = match (self.kind, text) {
            (FieldType::Signature, "") => name.to_owned(),
            (FieldType::Initials, "") => name.split_whitespace().filter_map(|word| word.chars().next()).collect(),
            (_, "") if self.required => return Err("must be filled"),
            (_, "") => return Ok(None),
            (_, text) => text.to_owned(),
        };
        Ok(Some(Value::Text(Personal::new(text))))
    }
}
