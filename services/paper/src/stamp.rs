//! Draws field values on the pages of a paper.
//!
//! It must never fail for what a value contains: any text is drawn as well as the shipped fonts can.

use krilla::surface::Surface;

use crate::apply::StampError;
use crate::complete::{Completion, complete};
use crate::draw::{self, Field};
use crate::faces::Faces;
use crate::hand::Drawing;

/// One value in its box on a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// The page, counted from 1.
    pub page: u32,
    /// Left edge in percent of the width of the page as displayed.
    pub x_pct: f64,
    /// Top edge in percent of the height of the page as displayed, from the top.
    pub y_pct: f64,
    /// Width in percent of the page's width.
    pub width_pct: f64,
    /// Height in percent of the page's height.
    pub height_pct: f64,
    /// What is drawn.
    pub content: MarkContent,
}

/// What is drawn in a box.
#[derive(Debug, Clone, PartialEq)]
pub enum MarkContent {
    /// A typed value on one line; it shrinks to fit and is cut with an ellipsis if it cannot.
    Text(String),
    /// Longer text; it takes several lines where the box is high enough, then shrinks, and only then is cut.
    Paragraph(String),
    /// The name of the signer as if written by hand, with the caption "Signed by NAME".
    Signature {
        /// The signer's name.
        name: String,
    },
    /// A signature that the signer drew, with the same caption.
    DrawnSignature {
        /// The signer's name.
        name: String,
        /// What they drew.
        drawing: Drawing,
    },
    /// Initials as if written by hand.
    Initials(String),
    /// Initials that the signer drew.
    DrawnInitials {
        /// What is written instead if there is nothing to see in the drawing.
        typed: String,
        /// What they drew.
        drawing: Drawing,
    },
    /// A check mark if true, nothing if false.
    Check(bool),
    /// The dot of a chosen button if true, nothing if false.
    Radio(bool),
    /// White paper over what is there, such as the text of a marker; to be listed before what is drawn on it.
    Cover,
}

/// What is stamped beside the marks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StampOptions {
    /// A word drawn small in the top margin of every page, such as "TEST".
    pub note: Option<String>,
}

/// Draws `marks` on the paper.
///
/// The result begins with `bytes` as they are, followed by one incremental update, if the file can be continued;
/// otherwise the document is written anew. Without marks and note the result is `bytes`.
///
/// # Errors
///
/// [`StampError`] if the paper is unreadable or a mark lies outside it; never because of the text of a mark.
pub fn stamp(bytes: &[u8], marks: &[Mark], options: &StampOptions) -> Result<Vec<u8>, StampError> {
    complete(bytes, &Completion { marks: marks.to_vec(), note: options.note.clone(), ..Completion::default() })
}

pub(crate) fn is_on_page(mark: &Mark) -> bool {
    let percent = 0.0..=100.0;
    let has_area = mark.width_pct > 0.0 && mark.height_pct > 0.0;
    let numbers = [mark.x_pct, mark.y_pct, mark.width_pct, mark.height_pct];
    has_area && numbers.iter().all(|number| percent.contains(number))
}

pub(crate) fn draw_sheet(
    faces: &Faces,
    surface: &mut Surface<'_>,
    (width_pt, height_pt): (f64, f64),
    marks: &[&Mark],
    note: Option<&str>,
) {
    for mark in marks {
        let field = Field {
            x: (mark.x_pct / 100.0 * width_pt) as f32,
            y: (mark.y_pct / 100.0 * height_pt) as f32,
            width: (mark.width_pct / 100.0 * width_pt) as f32,
            height: (mark.height_pct / 100.0 * height_pt) as f32,
        };
        draw_mark(faces, surface, field, &mark.content);
    }
    if let Some(note) = note {
        draw::note(faces, surface, width_pt as f32, draw::NOTE_BASELINE_PT, note);
    }
}

pub(crate) fn draw_mark(faces: &Faces, surface: &mut Surface<'_>, field: Field, content: &MarkContent) {
    match content {
        MarkContent::Text(value) => draw::text(faces, surface, field, value),
        MarkContent::Paragraph(value) => draw::paragraph(faces, surface, field, value),
        MarkContent::Signature { name } => draw::signature(faces, surface, field, name),
        MarkContent::DrawnSignature { name, drawing } => draw::drawn_signature(faces, surface, field, name, drawing),
        MarkContent::Initials(value) => draw::initials(faces, surface, field, value),
        MarkContent::DrawnInitials { typed, drawing } => draw::drawn_initials(faces, surface, field, typed, drawing),
        MarkContent::Check(true) => draw::check(surface, field),
        MarkContent::Radio(true) => draw::dot(surface, field),
        MarkContent::Cover => draw::cover(surface, field),
        MarkContent::Check(false) | MarkContent::Radio(false) => {}
    }
}
