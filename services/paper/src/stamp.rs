//! Draws field values on the pages of a paper.
//!
//! It must never fail for what a value contains: any text is drawn as well as the shipped fonts can.

use krilla::surface::Surface;

use crate::apply::{StampError, apply};
use crate::draw::{self, Field};
use crate::faces::Faces;
use crate::inspect;
use crate::limits::Limits;
use crate::overlay::Sheet;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkContent {
    /// A typed value on one line; it shrinks to fit and is cut with an ellipsis if it cannot.
    Text(String),
    /// The name of the signer as if written by hand, with the caption "Signed by NAME".
    Signature {
        /// The signer's name.
        name: String,
    },
    /// Initials as if written by hand.
    Initials(String),
    /// A check mark if true, nothing if false.
    Check(bool),
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
    let opened = inspect::open(bytes, &Limits::CEILING)?;
    let faces = Faces::get().ok_or_else(|| StampError::compose("the shipped fonts are damaged"))?;
    let mut marks_of_page: Vec<Vec<&Mark>> = vec![Vec::new(); opened.pages.len()];
    for (index, mark) in marks.iter().enumerate() {
        if !is_on_page(mark) {
            return Err(StampError::BadBox { mark: index + 1 });
        }
        let page = (mark.page as usize).checked_sub(1).and_then(|page| marks_of_page.get_mut(page));
        let missing = StampError::NoSuchPage { mark: index + 1, page: mark.page, pages: opened.pages.len() };
        page.ok_or(missing)?.push(mark);
    }
    let note = options.note.as_deref();
    let (mut sheets, mut sheet_of_page) = (Vec::new(), Vec::new());
    for (page, marks) in opened.pages.iter().zip(marks_of_page) {
        if marks.is_empty() && note.is_none() {
            sheet_of_page.push(None);
            continue;
        }
        sheet_of_page.push(Some(sheets.len()));
        let size_pt = page.geometry.size_pt();
        sheets
            .push(Sheet { size_pt, draw: Box::new(move |surface| draw_sheet(faces, surface, size_pt, &marks, note)) });
    }
    apply(bytes, opened, &sheets, &sheet_of_page)
}

fn is_on_page(mark: &Mark) -> bool {
    let percent = 0.0..=100.0;
    let has_area = mark.width_pct > 0.0 && mark.height_pct > 0.0;
    let numbers = [mark.x_pct, mark.y_pct, mark.width_pct, mark.height_pct];
    has_area && numbers.iter().all(|number| percent.contains(number))
}

fn draw_sheet(
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
        match &mark.content {
            MarkContent::Text(value) => draw::text(faces, surface, field, value),
            MarkContent::Signature { name } => draw::signature(faces, surface, field, name),
            MarkContent::Initials(value) => draw::initials(faces, surface, field, value),
            MarkContent::Check(true) => draw::check(surface, field),
            MarkContent::Check(false) => {}
        }
    }
    if let Some(note) = note {
        draw::note(faces, surface, width_pt as f32, draw::NOTE_BASELINE_PT, note);
    }
}
