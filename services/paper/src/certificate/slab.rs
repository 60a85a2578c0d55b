//! A slab: a strip of a certificate's page with what is drawn on it, which is never torn.
//!
//! It must never know the page on which it comes to lie.

use krilla::geom::{Path, PathBuilder, Rect};
use krilla::paint::{Fill, FillRule};
use krilla::surface::Surface;

use crate::draw::{self, Field};
use crate::faces::{FaceName, Faces};
use crate::line::Line;
use crate::stamp::{MarkContent, draw_mark};
use crate::wrap::{Room, wrap};

/// A colour.
pub(super) type Ink = (u8, u8, u8);

pub(super) const TEXT: Ink = (27, 31, 42);
pub(super) const SOFT: Ink = (98, 105, 122);
pub(super) const HAIRLINE: Ink = (217, 221, 229);
pub(super) const PANEL: Ink = (246, 247, 250);

/// How a text is set.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) face: FaceName,
    pub(super) size_pt: f32,
    pub(super) ink: Ink,
    pub(super) leading_em: f32,
}

impl Style {
    pub(super) const fn sans(size_pt: f32, ink: Ink) -> Self {
        Self { face: FaceName::Sans, size_pt, ink, leading_em: 1.34 }
    }

    pub(super) const fn title(size_pt: f32, ink: Ink) -> Self {
        Self { face: FaceName::SerifBold, size_pt, ink, leading_em: 1.24 }
    }

    pub(super) fn leading_pt(self) -> f32 {
        self.size_pt * self.leading_em
    }
}

/// Something on a slab, placed from its top left.
pub(super) enum Item {
    /// A line of text; its left end and baseline.
    Line { line: Line, x: f32, baseline: f32, size_pt: f32, ink: Ink },
    /// A filled box.
    Filled { place: Field, ink: Ink, radius: f32 },
    /// A signature.
    Mark { place: Field, content: MarkContent },
}

/// A strip of a page.
#[derive(Default)]
pub(super) struct Slab {
    pub(super) height: f32,
    pub(super) items: Vec<Item>,
    /// It stands on the same page as the next one.
    pub(super) keeps_next: bool,
    /// It is the head of a table, and stands again where the table goes on.
    pub(super) is_head: bool,
    /// It is space, which no page begins with.
    pub(super) is_space: bool,
}

impl Slab {
    pub(super) fn space(height: f32) -> Self {
        Self { height, is_space: true, ..Self::default() }
    }

    pub(super) fn of(height: f32) -> Self {
        Self { height, ..Self::default() }
    }

    pub(super) fn keeping(mut self) -> Self {
        self.keeps_next = true;
        self
    }

    pub(super) fn filled(mut self, (x, y, width, height): (f32, f32, f32, f32), ink: Ink, radius: f32) -> Self {
        self.items.push(Item::Filled { place: Field { x, y, width, height }, ink, radius });
        self
    }

    pub(super) fn mark(mut self, place: Field, content: MarkContent) -> Self {
        self.items.push(Item::Mark { place, content });
        self
    }

    /// A line with its left end there, cut where it is wider than the room.
    pub(super) fn line(
        mut self,
        faces: &Faces,
        style: Style,
        (x, baseline): (f32, f32),
        room: f32,
        text: &str,
    ) -> Self {
        let line = Line::shape_cut(faces, style.face, text, room / style.size_pt);
        self.items.push(Item::Line { line, x, baseline, size_pt: style.size_pt, ink: style.ink });
        self
    }

    /// A line with its right end there, cut where it is wider than the room.
    pub(super) fn line_to(
        mut self,
        faces: &Faces,
        style: Style,
        (right, baseline): (f32, f32),
        room: f32,
        text: &str,
    ) -> Self {
        let line = Line::shape_cut(faces, style.face, text, room / style.size_pt);
        let x = right - line.width_em * style.size_pt;
        self.items.push(Item::Line { line, x, baseline, size_pt: style.size_pt, ink: style.ink });
        self
    }

    /// Draws it with its top left there, without its signatures.
    pub(super) fn draw(&self, faces: &Faces, surface: &mut Surface<'_>, left: f32, top: f32) {
        for item in &self.items {
            match item {
                Item::Line { line, x, baseline, size_pt, ink } => {
                    draw::begin_fill(surface, *ink);
                    line.draw(faces, surface, left + x, top + baseline, *size_pt);
                }
                Item::Filled { place, ink, radius } => {
                    let at = moved(*place, left, top);
                    surface.set_stroke(None);
                    surface.set_fill(draw::fill(*ink).map(|fill| Fill { rule: FillRule::NonZero, ..fill }));
                    if let Some(path) = rounded(at, *radius) {
                        surface.draw_path(&path);
                    }
                }
                Item::Mark { .. } => {}
            }
        }
    }

    /// Draws its signatures, which reach over the slabs below.
    pub(super) fn draw_marks(&self, faces: &Faces, surface: &mut Surface<'_>, left: f32, top: f32) {
        for item in &self.items {
            if let Item::Mark { place, content } = item {
                draw_mark(faces, surface, moved(*place, left, top), content);
            }
        }
    }
}

fn moved(place: Field, left: f32, top: f32) -> Field {
    Field { x: place.x + left, y: place.y + top, ..place }
}

/// A box with round corners.
fn rounded(place: Field, radius: f32) -> Option<Path> {
    let mut builder = PathBuilder::new();
    let Field { x, y, width, height } = place;
    let radius = radius.min(width / 2.0).min(height / 2.0);
    if radius <= 0.0 {
        builder.push_rect(Rect::from_xywh(x, y, width, height)?);
        return builder.finish();
    }
    let (right, bottom) = (x + width, y + height);
    builder.move_to(x + radius, y);
    builder.line_to(right - radius, y);
    builder.quad_to(right, y, right, y + radius);
    builder.line_to(right, bottom - radius);
    builder.quad_to(right, bottom, right - radius, bottom);
    builder.line_to(x + radius, bottom);
    builder.quad_to(x, bottom, x, bottom - radius);
    builder.line_to(x, y + radius);
    builder.quad_to(x, y, x + radius, y);
    builder.close();
    builder.finish()
}

/// How many characters of one text a certificate shows; the rest is in the history that it names.
const TEXT_CHARS_MAX: usize = 10_000;
/// And in how many lines.
const LINES_MAX: usize = 400;

/// A text in lines of that width.
pub(super) fn lines(faces: &Faces, style: Style, width: f32, text: &str) -> Vec<Line> {
    lines_within(faces, style, width, text, LINES_MAX)
}

/// A text in at most so many lines of that width.
pub(super) fn lines_within(faces: &Faces, style: Style, width: f32, text: &str, lines_max: usize) -> Vec<Line> {
    let room = Room { width_em: width / style.size_pt, lines_max, chars_max: TEXT_CHARS_MAX };
    wrap(faces, style.face, text, room).lines
}

/// A text in slabs of a line each, from `x` on.
pub(super) fn paragraph(faces: &Faces, style: Style, x: f32, width: f32, text: &str) -> Vec<Slab> {
    lines(faces, style, width, text).into_iter().map(|line| single(line, style, x)).collect()
}

/// A slab with one line.
pub(super) fn single(line: Line, style: Style, x: f32) -> Slab {
    let mut slab = Slab::of(style.leading_pt());
    let baseline = style.leading_pt() * 0.5 + style.size_pt * 0.36;
    slab.items.push(Item::Line { line, x, baseline, size_pt: style.size_pt, ink: style.ink });
    slab
}
