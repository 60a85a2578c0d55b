//! The grammar of what stands between the braces; `docs/markers.md` is its description for people.
//!
//! It must never guess: what is not understood is at fault.

use serde::{Deserialize, Serialize};

use crate::limits::{MARKER_CHARS_MAX, MARKER_LABEL_CHARS_MAX, MARKER_NAME_CHARS_MAX};

/// The options that a marker may have.
pub const OPTIONS: [&str; 12] = [
    "required",
    "read_only",
    "value",
    "width",
    "height",
    "pattern",
    "min_length",
    "max_length",
    "min",
    "max",
    "options",
    "group",
];

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the ten types of fields")]
pub enum FieldKind {
    Signature,
    Initials,
    Name,
    Email,
    Date,
    Text,
    Number,
    Checkbox,
    Radio,
    Dropdown,
}

impl FieldKind {
    fn of(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "signature" => Self::Signature,
            "initials" => Self::Initials,
            "name" => Self::Name,
            "email" => Self::Email,
            "date" => Self::Date,
            "text" => Self::Text,
            "number" => Self::Number,
            "checkbox" => Self::Checkbox,
            "radio" => Self::Radio,
            "dropdown" => Self::Dropdown,
            _ => return None,
        })
    }
}

/// What is wrong with a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MarkerFlaw {
    /// Braces are opened and not closed on the line, or closed and not opened.
    #[error("its braces do not match on its line")]
    Unbalanced,
    /// The first word names no type of field.
    #[error("its first word is no type of field")]
    UnknownType,
    /// It names no recipient.
    #[error("it names no recipient")]
    NoLabel,
    /// The whole, the label or the name is longer than allowed.
    #[error("it is too long")]
    TooLong,
    /// An option is none that there is.
    #[error("it has an option that does not exist")]
    UnknownOption,
    /// An option stands twice or has no value, or something is neither a name nor an option.
    #[error("its options cannot be understood")]
    BadOption,
    /// Another marker has the same name.
    #[error("another marker has the same name")]
    DuplicateName,
}

impl MarkerFlaw {
    /// The same for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unbalanced => "UNBALANCED",
            Self::UnknownType => "UNKNOWN_TYPE",
            Self::NoLabel => "NO_LABEL",
            Self::TooLong => "TOO_LONG",
            Self::UnknownOption => "UNKNOWN_OPTION",
            Self::BadOption => "BAD_OPTION",
            Self::DuplicateName => "DUPLICATE_NAME",
        }
    }
}

/// What a marker says.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    pub(super) kind: FieldKind,
    pub(super) label: String,
    pub(super) name: Option<String>,
    pub(super) options: Vec<(String, String)>,
}

/// One part between colons: what stands before the first `=`, and after it.
#[derive(Default)]
struct Piece {
    before: String,
    after: Option<String>,
}

/// Splits at `:` and at the first `=` of each part; a backslash takes what follows as it is.
fn split(inner: &[char]) -> Vec<Piece> {
    let mut pieces = vec![Piece::default()];
    let mut characters = inner.iter().copied();
    while let Some(character) = characters.next() {
        let is_first = pieces.len() == 1;
        let Some(last) = pieces.last_mut() else { break };
        match (character, &mut last.after) {
            (':', _) => pieces.push(Piece::default()),
            ('=', after @ None) if !is_first => *after = Some(String::new()),
            ('\\', after) => after.as_mut().unwrap_or(&mut last.before).extend(characters.next()),
            (other, after) => after.as_mut().unwrap_or(&mut last.before).push(other),
        }
    }
    pieces
}

/// Spaces at the ends go, others count as one: they come from the layout.
fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Understands what stands between the braces.
pub(super) fn parse(inner: &[char]) -> Result<Parsed, MarkerFlaw> {
    if inner.len() > MARKER_CHARS_MAX {
        return Err(MarkerFlaw::TooLong);
    }
    let mut pieces = split(inner).into_iter();
    let kind = pieces.next().and_then(|piece| FieldKind::of(&tidy(&piece.before))).ok_or(MarkerFlaw::UnknownType)?;
    let label = pieces.next().filter(|piece| piece.after.is_none()).map(|piece| tidy(&piece.before));
    let label = label.filter(|label| !label.is_empty()).ok_or(MarkerFlaw::NoLabel)?;
    let (mut name, mut options) = (None, Vec::<(String, String)>::new());
    for (index, piece) in pieces.enumerate() {
        let Some(value) = piece.after else {
            let given = tidy(&piece.before);
            if index > 0 || given.is_empty() {
                return Err(MarkerFlaw::BadOption);
            }
            name = Some(given);
            continue;
        };
        let (key, value) = (tidy(&piece.before).to_ascii_lowercase(), tidy(&value));
        if !OPTIONS.contains(&key.as_str()) {
            return Err(MarkerFlaw::UnknownOption);
        }
        if value.is_empty() || options.iter().any(|(known, _)| *known == key) {
            return Err(MarkerFlaw::BadOption);
        }
        options.push((key, value));
    }
    let is_long = |text: &str, max| text.chars().count() > max;
    if is_long(&label, MARKER_LABEL_CHARS_MAX) || name.as_deref().is_some_and(|it| is_long(it, MARKER_NAME_CHARS_MAX)) {
        return Err(MarkerFlaw::TooLong);
    }
    Ok(Parsed { kind, label, name, options })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(inner: &str) -> Result<Parsed, MarkerFlaw> {
        parse(&inner.chars().collect::<Vec<_>>())
    }

    #[test]
    fn t67_whole_markers_are_understood() {
        let full = parsed(r"Dropdown : The  Customer:colour:options=red\, or so|b\:lue:required=yes").unwrap();
        assert_eq!(
            (full.kind, full.label.as_str(), full.name.as_deref()),
            (FieldKind::Dropdown, "The Customer", Some("colour"))
        );
        let options = [("options", "red, or so|b:lue"), ("required", "yes")];
        assert_eq!(full.options, options.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let short = parsed("SIGNATURE:a=b").unwrap_err();
        assert_eq!(short, MarkerFlaw::NoLabel);
        assert_eq!(parsed(r"signature:a\=b").unwrap().label, "a=b");
        assert_eq!(parsed("text:A:pattern=a=b").unwrap().options[0].1, "a=b");
    }

    #[test]
    fn t67_each_flaw_is_told() {
        let flaw = |inner: &str| parsed(inner).unwrap_err();
        for unknown in ["", "sign:A", ":A", "signature\\:A"] {
            assert_eq!(flaw(unknown), MarkerFlaw::UnknownType, "{unknown}");
        }
        for nobody in ["signature", "signature:", "signature: :name"] {
            assert_eq!(flaw(nobody), MarkerFlaw::NoLabel, "{nobody}");
        }
        assert_eq!(flaw("text:A:n:colour=red"), MarkerFlaw::UnknownOption);
        for bad in ["text:A:", "text:A:n:m", "text:A:min=1:n", "text:A:min=", "text:A:min=1:MIN=2"] {
            assert_eq!(flaw(bad), MarkerFlaw::BadOption, "{bad}");
        }
        let long = |count| "x".repeat(count);
        assert_eq!(flaw(&format!("text:{}", long(MARKER_LABEL_CHARS_MAX + 1))), MarkerFlaw::TooLong);
        assert_eq!(flaw(&format!("text:A:{}", long(MARKER_NAME_CHARS_MAX + 1))), MarkerFlaw::TooLong);
        assert_eq!(flaw(&format!("text:A:value={}", long(MARKER_CHARS_MAX))), MarkerFlaw::TooLong);
        assert!(parsed(&format!("text:{}", long(MARKER_LABEL_CHARS_MAX))).is_ok());
    }
}
