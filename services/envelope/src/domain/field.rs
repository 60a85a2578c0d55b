//! Fields: where a recipient puts something in, and what may be put in.

use std::borrow::Cow;
use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use regex::{Regex, RegexBuilder};
use rust_decimal::Decimal;

use super::drawn::Drawn;
use super::id::{DocumentId, FieldId, RecipientId};
use super::limits::{OPTION_CHARS_MAX, OPTIONS_MAX, PATTERN_CHARS_MAX, TEXT_CHARS_MAX};
use super::personal::Personal;
use super::recipient::Person;

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
    /// A decimal number.
    Number = 8,
    /// One of a set of buttons.
    Radio = 9,
    /// One of a list of options.
    Dropdown = 10,
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
    /// What somebody drew.
    Drawn(Drawn),
}

/// What a value has to be like, beyond the field's type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// For TEXT: a regular expression that matches it as a whole.
    pub pattern: Option<String>,
    /// For TEXT: characters at least.
    pub min_length: Option<u32>,
    /// For TEXT: characters at most.
    pub max_length: Option<u32>,
    /// For NUMBER: the least.
    pub min: Option<Decimal>,
    /// For NUMBER: the most.
    pub max: Option<Decimal>,
    /// For DROPDOWN: what there is to choose from.
    pub options: Vec<String>,
    /// For RADIO: the set of buttons of which one is chosen.
    pub group: String,
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
    /// Whether it stays as the sender filled it.
    pub read_only: bool,
    /// A name for programs.
    pub name: String,
    /// What a value has to be like.
    pub rules: Rules,
    /// What the sender put in.
    pub preset: Option<Value>,
    /// What it holds.
    pub value: Option<Value>,
}

/// What is wrong with something that was put in.
pub type Wrong = Cow<'static, str>;

/// Memory that the automaton of a pattern may take.
const PATTERN_BYTES_MAX: usize = 128 * 1024;

impl FieldType {
    /// All, in order.
    pub const ALL: [Self; 10] = [
        Self::Signature,
        Self::Initials,
        Self::Name,
        Self::Email,
        Self::Date,
        Self::Text,
        Self::Checkbox,
        Self::Number,
        Self::Radio,
        Self::Dropdown,
    ];

    /// True for what the service fills in itself.
    #[must_use]
    pub fn is_automatic(self) -> bool {
        matches!(self, Self::Name | Self::Email | Self::Date)
    }

    /// True for what only the signer's own hand puts in.
    #[must_use]
    pub fn is_mark(self) -> bool {
        matches!(self, Self::Signature | Self::Initials)
    }
}

impl Field {
    /// What is wrong with the field itself: which part of it, and why.
    #[must_use]
    pub fn defects(&self) -> Vec<(&'static str, Wrong)> {
        let (rules, mut found) = (&self.rules, Vec::new());
        let mut only = |given: bool, kind: FieldType, part: &'static str, why: &'static str| {
            if given && self.kind != kind {
                found.push((part, why.into()));
            }
        };
        only(rules.pattern.is_some(), FieldType::Text, "validation.pattern", "is for TEXT only");
        only(rules.min_length.is_some(), FieldType::Text, "validation.min_length", "is for TEXT only");
        only(rules.max_length.is_some(), FieldType::Text, "validation.max_length", "is for TEXT only");
        only(rules.min.is_some(), FieldType::Number, "validation.min", "is for NUMBER only");
        only(rules.max.is_some(), FieldType::Number, "validation.max", "is for NUMBER only");
        only(!rules.options.is_empty(), FieldType::Dropdown, "validation.options", "is for DROPDOWN only");
        only(!rules.group.is_empty(), FieldType::Radio, "validation.group", "is for RADIO only");
        if let Some(pattern) = &rules.pattern {
            if pattern.chars().count() > PATTERN_CHARS_MAX {
                found.push(("validation.pattern", "is too long".into()));
            } else if pattern.chars().any(char::is_control) || build(pattern).is_none() || whole(pattern).is_none() {
                found.push(("validation.pattern", "is not a regular expression that the service takes".into()));
            }
        }
        if rules.min_length.zip(rules.max_length).is_some_and(|(min, max)| min > max) {
            found.push(("validation.min_length", "must not be more than `max_length`".into()));
        }
        if rules.min_length.is_some_and(|min| min as usize > TEXT_CHARS_MAX) {
            found.push(("validation.min_length", format!("must be at most {TEXT_CHARS_MAX}").into()));
        }
        if rules.max_length.is_some_and(|max| max == 0 || max as usize > TEXT_CHARS_MAX) {
            found.push(("validation.max_length", format!("must be 1 to {TEXT_CHARS_MAX}").into()));
        }
        if rules.min.zip(rules.max).is_some_and(|(min, max)| min > max) {
            found.push(("validation.min", "must not be more than `max`".into()));
        }
        if self.kind == FieldType::Radio && rules.group.is_empty() {
            found.push(("validation.group", "must name the set of buttons".into()));
        }
        if self.kind == FieldType::Dropdown {
            found.extend(options(&rules.options).map(|why| ("validation.options", why)));
        }
        if self.read_only && (self.kind.is_automatic() || self.kind.is_mark()) {
            found.push(("read_only", "is not for what the signer or the service puts in".into()));
        }
        if let Some(value) = &self.value {
            let fits =
                if self.kind.is_mark() { Err("takes no value from the sender".into()) } else { self.fits(value) };
            found.extend(fits.err().map(|why| ("value", why)));
        }
        found
    }

    /// What a value comes to, by the field's type and rules; none if it is empty.
    pub fn fits(&self, value: &Value) -> Result<Option<Value>, Wrong> {
        match (self.kind, value) {
            (FieldType::Name | FieldType::Email | FieldType::Date, _) => {
                Err("is filled by the service; it takes no value".into())
            }
            (FieldType::Checkbox | FieldType::Radio, Value::Checked(checked)) => Ok(Some(Value::Checked(*checked))),
            (FieldType::Checkbox | FieldType::Radio, _) => Err("takes `checked` alone".into()),
            (FieldType::Signature | FieldType::Initials, Value::Drawn(drawn)) => Ok(Some(Value::Drawn(drawn.clone()))),
            (_, Value::Drawn(_)) => Err("takes `text`, not `drawn`".into()),
            (_, Value::Checked(_)) => Err("takes `text`, not `checked`".into()),
            (_, Value::Text(text)) => {
                let text = text.reveal().trim();
                if text.is_empty() {
                    return Ok(None);
                }
                self.fits_text(text)?;
                Ok(Some(Value::Text(Personal::new(text))))
            }
        }
    }

    fn fits_text(&self, text: &str) -> Result<(), Wrong> {
        let (rules, count) = (&self.rules, text.chars().count());
        let most = rules.max_length.map_or(TEXT_CHARS_MAX, |most| most as usize);
        if count > most {
            return Err(format!("is longer than {most} characters").into());
        }
        if text.chars().any(char::is_control) {
            return Err("holds control characters".into());
        }
        match self.kind {
            FieldType::Number => {
                let number: Decimal = decimal(text).ok_or("is not a decimal number such as -12.50")?;
                if let Some(min) = rules.min.filter(|min| number < *min) {
                    return Err(format!("must be at least {min}").into());
                }
                if let Some(max) = rules.max.filter(|max| number > *max) {
                    return Err(format!("must be at most {max}").into());
                }
            }
            FieldType::Dropdown if !rules.options.iter().any(|option| option == text) => {
                return Err("is not one of the options".into());
            }
            _ => {}
        }
        if let Some(least) = rules.min_length.filter(|least| count < *least as usize) {
            return Err(format!("is shorter than {least} characters").into());
        }
        // A pattern that does not compile is refused before it is kept.
        if rules.pattern.as_deref().is_some_and(|pattern| !whole(pattern).is_some_and(|regex| regex.is_match(text))) {
            return Err("does not have the form that is asked for".into());
        }
        Ok(())
    }

    /// What the field holds if nobody puts anything in.
    #[must_use]
    pub fn unasked(&self, person: &Person, at: DateTime<Utc>) -> Option<Value> {
        let name = person.name.reveal();
        let text = match self.kind {
            FieldType::Signature | FieldType::Name => name.to_owned(),
            FieldType::Initials => name.split_whitespace().filter_map(|word| word.chars().next()).collect(),
            FieldType::Email => person.email.reveal().to_owned(),
            FieldType::Date => at.format("%Y-%m-%d").to_string(),
            FieldType::Checkbox | FieldType::Radio => return Some(Value::Checked(false)),
            FieldType::Text | FieldType::Number | FieldType::Dropdown => return None,
        };
        Some(Value::Text(Personal::new(text)))
    }
}

/// Digits with at most one point and a sign, no exponent: what people write into a form.
#[must_use]
pub fn decimal(text: &str) -> Option<Decimal> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'));
    plain.then(|| Decimal::from_str_exact(text).ok()).flatten()
}

fn build(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().ok()
}

/// The pattern for a whole text. What could close the group early does not build alone, and is refused before it is kept.
fn whole(pattern: &str) -> Option<Regex> {
    build(&format!("^(?:{pattern})$"))
}

fn options(options: &[String]) -> Option<Wrong> {
    let distinct: BTreeSet<&str> = options.iter().map(String::as_str).collect();
    let odd = |option: &String| {
        option.trim() != option
            || option.is_empty()
            || option.chars().count() > OPTION_CHARS_MAX
            || option.chars().any(char::is_control)
    };
    if options.is_empty() || options.len() > OPTIONS_MAX {
        Some(format!("must be 1 to {OPTIONS_MAX}").into())
    } else if distinct.len() < options.len() {
        Some("must not hold one twice".into())
    } else if options.iter().any(odd) {
        Some(format!("must each be a trimmed line of 1 to {OPTION_CHARS_MAX} characters").into())
    } else {
        None
    }
}
