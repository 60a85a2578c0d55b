//! Watermarks every page of a paper that was refused.
//!
//! It must never hide what the paper says: the large words are translucent. Text extraction reads no slanted line, so
//! the same words also stand small and level in the top margin.

use krilla::color::rgb;
use krilla::geom::Transform;
use krilla::num::NormalizedF32;
use krilla::paint::{Fill, Stroke};
use krilla::surface::Surface;

use crate::apply::StampError;
use crate::complete::{Completion, complete};
use crate::draw;
use crate::faces::{FaceName, Faces};
use crate::line::Line;

const INK: (u8, u8, u8) = (200, 30, 30);
const OPACITY: f32 = 0.26;
/// How much of the page's diagonal the headline takes.
const DIAGONAL_SHARE: f32 = 0.68;
const HEADLINE_SIZE_PT_MAX: f32 = 400.0;
/// How large the second line may get, against the headline.
const LINE_SHARE: f32 = 0.34;

/// What the watermark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The large words across the page.
    pub headline: String,
    /// A smaller line under them, such as who refused and when.
    pub line: Option<String>,
}

impl Default for Refusal {
    fn default() -> Self {
        Self { headline: "Document refused".to_owned(), line: None }
    }
}

/// Writes the refusal across every page of the paper and into its top margin, upright as displayed.
///
/// The result begins with `bytes` as they are if the file can be continued, as with [`stamp()`](crate::stamp()).
///
/// # Errors
///
/// [`StampError`] if the paper is unreadable; never because of the text of the refusal.
pub fn refuse(bytes: &[u8], refusal: &Refusal) -> Result<Vec<u8>, StampError> {
    complete(bytes, &Completion { refusal: Some(refusal.clone()), ..Completion::default() })
}

pub(crate) fn watermark(
    faces: &Faces,
    surface: &mut Surface<'_>,
    (width_pt, height_pt): (f64, f64),
    refusal: &Refusal,
) {
    let (width, height) = (width_pt as f32, height_pt as f32);
    let note = match &refusal.line {
        Some(line) => format!("{} · {line}", refusal.headline),
        None => refusal.headline.clone(),
    };
    draw::note(faces, surface, width, draw::REFUSAL_BASELINE_PT, &note);
    let room = width.hypot(height) * DIAGONAL_SHARE;
    let headline = Line::shape(faces, FaceName::Sans, &refusal.headline);
    let size = (room / headline.width_em.max(1.0)).min(HEADLINE_SIZE_PT_MAX);
    let capital = faces.face(FaceName::Sans).capital_em * size;

    // From here on the origin is the middle of the page and the x axis rises along its diagonal.
    surface.push_transform(&Transform::from_translate(width / 2.0, height / 2.0));
    surface.push_transform(&Transform::from_rotate(-height.atan2(width).to_degrees()));
    // As one group, so that fill and outline do not add up where they overlap.
    surface.push_opacity(NormalizedF32::new(OPACITY).unwrap_or(NormalizedF32::ONE));
    set_ink(surface, size * 0.025);
    headline.draw(faces, surface, -headline.width_em * size / 2.0, capital / 2.0, size);
    if let Some(line) = &refusal.line {
        let whole = Line::shape(faces, FaceName::Sans, line);
        let line_size = (room / whole.width_em.max(1.0)).clamp(size * 0.12, size * LINE_SHARE);
        let line = Line::shape_cut(faces, FaceName::Sans, line, room / line_size);
        set_ink(surface, line_size * 0.02);
        line.draw(faces, surface, -line.width_em * line_size / 2.0, capital / 2.0 + line_size * 1.7, line_size);
    }
    surface.pop();
    surface.pop();
    surface.pop();
}

/// Fills and outlines the letters, so that they are bold.
fn set_ink(surface: &mut Surface<'_>, outline: f32) {
    let (red, green, blue) = INK;
    let color = rgb::Color::new(red, green, blue);
    surface.set_fill(Some(Fill { paint: color.into(), ..Fill::default() }));
    surface.set_stroke(Some(Stroke { paint: color.into(), width: outline, ..Stroke::default() }));
}
