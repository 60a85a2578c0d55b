//! Markers in the text of a document, `{{type:label:name:option=value}}`, and the fields that they ask for.
//!
//! Must never drop a marker silently: each becomes a field or is told of, with its page and its text.

use unicode_normalization::UnicodeNormalization as _;

use super::field::{Field, FieldType, Placement, Rules, Value, decimal};
use super::id::{DocumentId, FieldId, RecipientId};
use super::ingest::{MARKER_CHARS_MAX, MarkerFault};
use super::limits::LABEL_CHARS_MAX;
use super::personal::Personal;
use super::recipient::Recipient;

/// The smallest side of a field, in percent of the page.
const SIDE_PERCENT_MIN: f64 = 0.5;

/// A marker as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Marker {
    /// Where its text stands.
    pub place: Placement,
    /// As it is written, braces included.
    pub text: Personal,
    /// What kind of field it asks for.
    pub kind: FieldType,
    /// Whose field: the label of a recipient.
    pub label: String,
    /// A name for programs.
    pub name: String,
    /// The rest: each key once.
    pub options: Vec<(String, String)>,
}

/// The fields for these markers, or what is wrong with some.
pub fn fields(
    markers: &[Marker],
    document: DocumentId,
    recipients: &[Recipient],
    mut id: impl FnMut() -> FieldId,
) -> Result<Vec<Field>, Vec<MarkerFault>> {
    let (mut fields, mut faults) = (Vec::new(), Vec::new());
    for marker in markers {
        match field(marker, document, recipients, id()) {
            Ok(field) => fields.push(field),
            Err(why) => faults.push(fault(marker.place.page, marker.text.reveal(), why)),
        }
    }
    if faults.is_empty() { Ok(fields) } else { Err(faults) }
}

/// What is wrong with something that stands there.
#[must_use]
pub fn fault(page: u32, text: &str, message: impl Into<String>) -> MarkerFault {
    let shown: String = text.chars().filter(|letter| !letter.is_control()).take(MARKER_CHARS_MAX).collect();
    MarkerFault { page, text: Personal::new(shown), message: message.into() }
}

fn field(marker: &Marker, document: DocumentId, recipients: &[Recipient], id: FieldId) -> Result<Field, String> {
    let recipient = named(&marker.label, recipients)?;
    let (rules, width, height) = (rules(marker)?, side(marker, "width")?, side(marker, "height")?);
    let name: String = marker.name.nfc().collect();
    if name.chars().count() > LABEL_CHARS_MAX {
        return Err(format!("its name is longer than {LABEL_CHARS_MAX} characters"));
    }
    let always = marker.kind.is_automatic() || marker.kind.is_mark();
    let mut field = Field {
        id,
        kind: marker.kind,
        recipient,
        document,
        placement: placed(marker.place, width, height)?,
        required: flag(marker, "required")?.unwrap_or(false) || always,
        read_only: flag(marker, "read_only")?.unwrap_or(false),
        name,
        rules,
        preset: None,
        value: value(marker)?,
    };
    if let Some((part, why)) = field.defects().into_iter().next() {
        return Err(format!("{}: {why}", part.trim_start_matches("validation.")));
    }
    // As it would be if the recipient had put it in.
    field.preset = field.value.as_ref().and_then(|given| field.fits(given).ok().flatten());
    field.value.clone_from(&field.preset);
    Ok(field)
}

/// Whose label it is: one recipient's, in upper or lower case, however it is spaced.
fn named(label: &str, recipients: &[Recipient]) -> Result<RecipientId, String> {
    let plain = |text: &str| {
        let text: String = text.nfc().collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
    };
    let wanted = plain(label);
    let mut found = recipients.iter().filter(|other| !wanted.is_empty() && plain(&other.label) == wanted);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.id),
        (None, _) => Err("no recipient has this label".to_owned()),
        (Some(_), Some(_)) => Err("several recipients have this label".to_owned()),
    }
}

fn option<'a>(marker: &'a Marker, key: &str) -> Option<&'a str> {
    marker.options.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

fn flag(marker: &Marker, key: &str) -> Result<Option<bool>, String> {
    match option(marker, key).map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("true" | "yes" | "1") => Ok(Some(true)),
        Some("false" | "no" | "0") => Ok(Some(false)),
        Some(_) => Err(format!("{key}: must be true or false")),
    }
}

/// A side in percent of the page.
fn side(marker: &Marker, key: &str) -> Result<Option<f64>, String> {
    let Some(given) = option(marker, key) else { return Ok(None) };
    let percent: Option<f64> = given.trim_end_matches('%').trim().parse().ok();
    let percent = percent.filter(|percent| (SIDE_PERCENT_MIN..=100.0).contains(percent));
    percent.map(Some).ok_or_else(|| format!("{key}: must be 0.5 to 100, in percent of the page"))
}

/// Where the marker begins, as large as it is or asks for, and never beyond the page.
fn placed(place: Placement, width: Option<f64>, height: Option<f64>) -> Result<Placement, String> {
    let fit = |start: f64, size: f64, asked: Option<f64>| {
        let start = start.clamp(0.0, 100.0 - SIDE_PERCENT_MIN);
        let size = asked.unwrap_or_else(|| size.clamp(SIDE_PERCENT_MIN, 100.0 - start));
        (start + size <= 100.0).then_some((start, size))
    };
    let (x, y) = (fit(place.x_percent, place.width_percent, width), fit(place.y_percent, place.height_percent, height));
    let Some(((x_percent, width_percent), (y_percent, height_percent))) = x.zip(y) else {
        return Err("the field would not end on the page".to_owned());
    };
    Ok(Placement { page: place.page, x_percent, y_percent, width_percent, height_percent })
}

fn rules(marker: &Marker) -> Result<Rules, String> {
    let number = |key: &str| match option(marker, key) {
        None => Ok(None),
        Some(given) => decimal(given).map(Some).ok_or_else(|| format!("{key}: is not a decimal number such as -12.50")),
    };
    let count = |key: &str| match option(marker, key) {
        None => Ok(None),
        Some(given) => given.parse::<u32>().map(Some).map_err(|_| format!("{key}: is not a number")),
    };
    let options = option(marker, "options").unwrap_or_default();
    Ok(Rules {
        pattern: option(marker, "pattern").map(|given| given.nfc().collect()),
        min_length: count("min_length")?,
        max_length: count("max_length")?,
        min: number("min")?,
        max: number("max")?,
        options: options
            .split('|')
            .map(|each| each.trim().nfc().collect())
            .filter(|each: &String| !each.is_empty())
            .collect(),
        group: option(marker, "group").unwrap_or_default().nfc().collect(),
    })
}

fn value(marker: &Marker) -> Result<Option<Value>, String> {
    match marker.kind {
        FieldType::Checkbox | FieldType::Radio => Ok(flag(marker, "value")?.map(Value::Checked)),
        _ => Ok(option(marker, "value").map(|given| Value::Text(Personal::new(given.nfc().collect::<String>())))),
    }
}
