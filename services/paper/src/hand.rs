//! Draws what somebody drew: the picture of a signature, or the strokes of a pen.
//!
//! It must never stretch it, leave its box, or cover what is printed under it: white paper around a signature is clear.

use krilla::blend::BlendMode;
use krilla::geom::{Path, PathBuilder, Size, Transform};
use krilla::image::Image;
use krilla::surface::Surface;

use crate::draw::{Field, INK, begin_stroke};
use crate::picture;

/// What somebody drew by hand.
#[derive(Debug, Clone, PartialEq)]
pub enum Drawing {
    /// The bytes of a PNG or JPEG that passes [`check_picture()`](crate::check_picture()).
    Picture(Vec<u8>),
    /// Where the pen went.
    Strokes(Strokes),
}

/// Where a pen went over a surface.
#[derive(Debug, Clone, PartialEq)]
pub struct Strokes {
    /// The surface's width divided by its height; 0 takes the box as the surface.
    pub aspect: f32,
    /// Width of the pen in parts of the surface's height.
    pub pen: f32,
    /// Each stroke's points, from 0 to 1 of the surface's width and height, from the top left.
    pub strokes: Vec<Vec<(f32, f32)>>,
}

const ASPECT_MIN: f32 = 0.05;
const ASPECT_MAX: f32 = 50.0;
const PEN_PT_MIN: f32 = 0.4;
const PEN_PT_MAX: f32 = 4.0;

/// Draws it as large as fits; `align` says how much of the room to spare goes to its left. False if there is nothing to draw.
pub(crate) fn draw(surface: &mut Surface<'_>, field: Field, drawing: &Drawing, align: f32) -> bool {
    match drawing {
        Drawing::Picture(bytes) => picture(surface, field, bytes, align),
        Drawing::Strokes(strokes) => pen(surface, field, strokes, align),
    }
}

/// The largest box of this aspect in the field.
fn fitted(field: Field, aspect: f32, align: f32) -> Field {
    let aspect = aspect.clamp(ASPECT_MIN, ASPECT_MAX);
    let width = field.width.min(field.height * aspect);
    let height = width / aspect;
    let (x, y) = (field.x + (field.width - width) * align, field.y + (field.height - height) / 2.0);
    Field { x, y, width, height }
}

fn picture(surface: &mut Surface<'_>, field: Field, bytes: &[u8], align: f32) -> bool {
    let Ok(picture) = picture::read(bytes) else { return false };
    let place = fitted(field, picture.width as f32 / picture.height as f32, align);
    let Some(size) = Size::from_wh(place.width, place.height) else { return false };
    // As ink on paper: what is white in it leaves the paper as it is.
    surface.push_blend_mode(BlendMode::Multiply);
    surface.push_transform(&Transform::from_translate(place.x, place.y));
    surface.draw_image(Image::from_rgba8(picture.rgba, picture.width, picture.height), size);
    surface.pop();
    surface.pop();
    true
}

fn pen(surface: &mut Surface<'_>, field: Field, strokes: &Strokes, align: f32) -> bool {
    let aspect = if strokes.aspect > 0.0 { strokes.aspect } else { field.width / field.height.max(0.01) };
    let place = fitted(field, aspect, align);
    let width = (strokes.pen * place.height).clamp(PEN_PT_MIN, PEN_PT_MAX);
    // The pen is round, and its edge stays in the box.
    let (across, down) = ((place.width - width).max(0.0), (place.height - width).max(0.0));
    let at = |(x, y): (f32, f32)| {
        let inside = |part: f32| if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        (place.x + width / 2.0 + inside(x) * across, place.y + width / 2.0 + inside(y) * down)
    };
    begin_stroke(surface, INK, width);
    let mut drawn = false;
    for stroke in &strokes.strokes {
        let points: Vec<(f32, f32)> = stroke.iter().map(|point| at(*point)).collect();
        if let Some(path) = smooth(&points) {
            surface.draw_path(&path);
            drawn = true;
        }
    }
    drawn
}

/// A line through the middles between points, bent towards each, as a hand moves; a single point is a dot.
fn smooth(points: &[(f32, f32)]) -> Option<Path> {
    let (first, last) = (*points.first()?, *points.last()?);
    let mut builder = PathBuilder::new();
    builder.move_to(first.0, first.1);
    for pair in points.get(1..).unwrap_or_default().windows(2) {
        let ((x, y), (next_x, next_y)) = (pair[0], pair[1]);
        builder.quad_to(x, y, (x + next_x) / 2.0, (y + next_y) / 2.0);
    }
    // A line of no length would not be drawn by every reader.
    let nudge = if first == last { 0.05 } else { 0.0 };
    builder.line_to(last.0 + nudge, last.1);
    builder.finish()
}
