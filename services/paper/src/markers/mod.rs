//! Finds `{{type:label:name:option=value}}` in the text of a paper, and where it stands.
//!
//! It must never drop a marker silently: what looks like one is found or at fault, with its page and its text.

mod grammar;
mod lines;

use std::collections::HashSet;

use hayro::hayro_interpret::hayro_syntax::Pdf;
use serde::{Deserialize, Serialize};

pub use self::grammar::{FieldKind, MarkerFlaw, OPTIONS};
use self::grammar::{Parsed, parse};
use self::lines::Line;
use crate::inspect::{self, Unreadable};
use crate::limits::{Limits, MARKER_CHARS_MAX, MARKERS_MAX};

/// A box on a page, in percent of the page as displayed, from its top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PercentBox {
    /// Left edge.
    pub x_pct: f64,
    /// Top edge.
    pub y_pct: f64,
    /// Width.
    pub width_pct: f64,
    /// Height.
    pub height_pct: f64,
}

/// A marker that can be understood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    /// The page, counted from 1.
    pub page: u32,
    /// Where its text stands: what has to be painted over, and where the field goes.
    pub place: PercentBox,
    /// As it is written, braces included.
    pub text: String,
    /// What kind of field it asks for.
    pub kind: FieldKind,
    /// Whose field: the label of a recipient.
    pub label: String,
    /// What programs call the field.
    pub name: Option<String>,
    /// The rest, each key once, in the order written; keys are of [`OPTIONS`], values as written.
    pub options: Vec<(String, String)>,
}

/// What looks like a marker and is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MarkerFault {
    /// The page, counted from 1.
    pub page: u32,
    /// Where it begins and ends.
    pub place: PercentBox,
    /// As it is written.
    pub text: String,
    /// What is wrong with it.
    pub flaw: MarkerFlaw,
}

/// All markers of a paper, page by page and from top to bottom.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Markings {
    /// Those that can be understood.
    pub markers: Vec<Marker>,
    /// Those that cannot.
    pub faults: Vec<MarkerFault>,
}

/// Reads all markers of a paper.
///
/// # Errors
///
/// [`Unreadable`] if it is no paper, or one page has more text than a page can show.
pub fn markers(bytes: &[u8], limits: &Limits) -> Result<Markings, Unreadable> {
    let opened = inspect::open(bytes, limits)?;
    crate::ingest::limit_content(&opened.document, &opened.pages, limits)?;
    let pages = opened.pages.len();
    // Only the other reader's copy is needed from here on.
    drop(opened);
    let pdf = Pdf::new(bytes.to_vec()).map_err(|_| Unreadable::broken("its text cannot be read"))?;
    if pdf.pages().len() != pages {
        return Err(Unreadable::broken("readers do not agree on its pages"));
    }
    let mut markings = Markings::default();
    let mut names = HashSet::new();
    for (index, page) in pdf.pages().iter().enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let mut found: Vec<Found> = lines::of(page)?.iter().flat_map(|line| search(line, number)).collect();
        found.sort_by(|one, other| {
            (one.place.y_pct, one.place.x_pct)
                .partial_cmp(&(other.place.y_pct, other.place.x_pct))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        for found in found {
            if markings.markers.len() + markings.faults.len() == MARKERS_MAX {
                return Err(Unreadable::TooManyMarkers { max: MARKERS_MAX });
            }
            found.add_to(&mut markings, &mut names);
        }
    }
    Ok(markings)
}

/// A stretch of a line between braces, or one brace too many.
struct Found {
    page: u32,
    place: PercentBox,
    text: String,
    parsed: Result<Parsed, MarkerFlaw>,
}

impl Found {
    fn add_to(self, markings: &mut Markings, names: &mut HashSet<String>) {
        let Self { page, place, text, parsed } = self;
        let parsed = parsed.and_then(|parsed| match &parsed.name {
            Some(name) if !names.insert(name.clone()) => Err(MarkerFlaw::DuplicateName),
            _ => Ok(parsed),
        });
        match parsed {
            Ok(Parsed { kind, label, name, options }) => {
                markings.markers.push(Marker { page, place, text, kind, label, name, options });
            }
            Err(flaw) => markings.faults.push(MarkerFault { page, place, text, flaw }),
        }
    }
}

/// What a line holds between double braces.
fn search(line: &Line, page: u32) -> Vec<Found> {
    let characters: Vec<char> = line.characters().collect();
    // Where the second of two equal braces stands, if only spaces are between.
    let pair = |at: usize, brace: char| {
        let next = characters[at + 1..].iter().position(|next| *next != ' ')? + at + 1;
        (characters[at] == brace && characters[next] == brace).then_some(next)
    };
    let mut found = Vec::new();
    let mut add = |from: usize, to: usize, parsed| {
        let text: String = characters[from..=to].iter().take(MARKER_CHARS_MAX).collect();
        found.push(Found { page, place: line.place(from, to), text, parsed });
    };
    let mut opened: Option<(usize, usize)> = None;
    let mut at = 0;
    while at < characters.len() {
        if let (Some(_), '\\') = (opened, characters[at]) {
            at += 2;
        } else if let Some(second) = pair(at, '{') {
            if let Some((from, _)) = opened.replace((at, second)) {
                add(from, at - 1, Err(MarkerFlaw::Unbalanced));
            }
            at = second + 1;
        } else if let Some(second) = pair(at, '}') {
            match opened.take() {
                Some((from, inner)) => add(from, second, parse(&characters[inner + 1..at])),
                None => add(at, second, Err(MarkerFlaw::Unbalanced)),
            }
            at = second + 1;
        } else {
            at += 1;
        }
    }
    if let Some((from, _)) = opened {
        add(from, characters.len() - 1, Err(MarkerFlaw::Unbalanced));
    }
    found
}
