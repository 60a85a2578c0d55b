//! How values look in their boxes: ink, sizes, the signature's line and caption.
//!
//! It must never know pages or documents: a box on a surface is all it sees.

use krilla::color::rgb;
use krilla::geom::{Path, PathBuilder, Rect};
use krilla::num::NormalizedF32;
use krilla::paint::{Fill, LineCap, LineJoin, Stroke};
use krilla::surface::Surface;

use crate::faces::{FaceName, Faces};
use crate::hand::{self, Drawing};
use crate::limits::TEXT_CHARS_MAX;
use crate::line::Line;
use crate::runs::{Words, clean};
use crate::wrap::{Room, wrap};

/// The colour of a pen: a deep blue that is seen at once on a black and white paper.
pub(crate) const INK: (u8, u8, u8) = (23, 43, 119);
const PAPER: (u8, u8, u8) = (255, 255, 255);
const CAPTION_INK: (u8, u8, u8) = (92, 99, 120);
const NOTE_INK: (u8, u8, u8) = (190, 38, 38);

const TEXT_SIZE_PT_MAX: f32 = 11.0;
const TEXT_SIZE_PT_MIN: f32 = 5.0;
/// By how much text gets smaller at a time until it fits.
const TEXT_SIZE_STEP_PT: f32 = 0.5;
/// From one line to the next.
const LEADING_EM: f32 = 1.25;
/// A box with room for so many lines is written from its top, a lower one around its middle.
const SHEET_LINES: f32 = 3.0;
const SIGNATURE_SIZE_PT_MAX: f32 = 34.0;
const SIGNATURE_SIZE_PT_MIN: f32 = 7.0;
const CAPTION_SIZE_PT_MAX: f32 = 6.0;
const CAPTION_SIZE_PT_MIN: f32 = 3.5;
const NOTE_SIZE_PT_MAX: f32 = 7.0;
const NOTE_SIZE_PT_MIN: f32 = 3.0;
/// The least that a note keeps from both sides of its page together.
const NOTE_MARGINS_PT: f32 = 16.0;
/// How much wider a cover is on each side, against the height of the text.
const COVER_SHARE_BESIDE: f32 = 0.12;
/// Where the word of the stamp options stands.
pub(crate) const NOTE_BASELINE_PT: f32 = 15.0;
/// Where a refusal stands, below it.
pub(crate) const REFUSAL_BASELINE_PT: f32 = 25.0;

/// A box on a surface: origin top left, in points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) width: f32,
    pub(crate) height: f32,
}

pub(crate) fn fill((red, green, blue): (u8, u8, u8)) -> Option<Fill> {
    Some(Fill { paint: rgb::Color::new(red, green, blue).into(), ..Fill::default() })
}

fn stroke((red, green, blue): (u8, u8, u8), width: f32) -> Option<Stroke> {
    Some(Stroke {
        paint: rgb::Color::new(red, green, blue).into(),
        width,
        line_cap: LineCap::Round,
        line_join: LineJoin::Round,
        opacity: NormalizedF32::ONE,
        ..Stroke::default()
    })
}

/// A typed value on one line: at most as tall as its box, shrunk to its width, cut with an ellipsis if it cannot shrink
/// further.
pub(crate) fn text(faces: &Faces, surface: &mut Surface<'_>, field: Field, text: &str) {
    let padding = (field.height * 0.12).min(2.0);
    let room = field.width - 2.0 * padding;
    let line = Line::shape(faces, FaceName::Sans, text);
    let tallest = (field.height * 0.72).min(TEXT_SIZE_PT_MAX);
    let size = fitting_size(line.width_em, room, tallest, TEXT_SIZE_PT_MIN);
    let line = Line::shape_cut(faces, FaceName::Sans, text, room / size);
    let baseline = field.y + (field.height + faces.face(FaceName::Sans).capital_em * size) / 2.0;
    begin_fill(surface, INK);
    let spare = if reads_from_the_right(text) { (room - line.width_em * size).max(0.0) } else { 0.0 };
    line.draw(faces, surface, field.x + padding + spare, baseline, size);
}

/// Longer text: in as many lines as its box has room for, smaller where that is not enough, and only then cut.
pub(crate) fn paragraph(faces: &Faces, surface: &mut Surface<'_>, field: Field, text: &str) {
    let padding = (field.height * 0.12).min(2.0);
    let (width, height) = (field.width - 2.0 * padding, field.height - padding);
    let mut size = TEXT_SIZE_PT_MAX;
    let block = loop {
        let lines_max = (height / (size * LEADING_EM)).floor().max(1.0) as usize;
        let room = Room { width_em: width / size, lines_max, chars_max: TEXT_CHARS_MAX };
        let block = wrap(faces, FaceName::Sans, text, room);
        let fits = block.is_whole && (block.lines.len() > 1 || size <= field.height * 0.72);
        if fits || size <= TEXT_SIZE_PT_MIN {
            break block;
        }
        size = (size - TEXT_SIZE_STEP_PT).max(TEXT_SIZE_PT_MIN);
    };
    if block.lines.len() < 2 && field.height < SHEET_LINES * TEXT_SIZE_PT_MAX * LEADING_EM {
        return self::text(faces, surface, field, text);
    }
    let capital = faces.face(FaceName::Sans).capital_em * size;
    let spare = height - block.lines.len() as f32 * size * LEADING_EM;
    let is_sheet = field.height >= SHEET_LINES * TEXT_SIZE_PT_MAX * LEADING_EM;
    let above = if is_sheet { padding } else { (spare + padding).max(0.0) / 2.0 };
    begin_fill(surface, INK);
    for (index, line) in block.lines.iter().enumerate() {
        let middle = field.y + above + (index as f32 + 0.5) * size * LEADING_EM;
        let spare = if block.is_right_to_left { (width - line.width_em * size).max(0.0) } else { 0.0 };
        line.draw(faces, surface, field.x + padding + spare, middle + capital / 2.0, size);
    }
}

fn reads_from_the_right(text: &str) -> bool {
    let clean = clean(text, TEXT_CHARS_MAX);
    Words::of(&clean).is_right_to_left()
}

/// A signature: the name as if written by hand beside a thin upright line, under a small caption.
pub(crate) fn signature(faces: &Faces, surface: &mut Surface<'_>, field: Field, name: &str) {
    let below = captioned(faces, surface, field, name);
    written(faces, surface, below, name, 0.0);
}

/// A signature that somebody drew, beside the same line and under the same caption.
pub(crate) fn drawn_signature(faces: &Faces, surface: &mut Surface<'_>, field: Field, name: &str, drawing: &Drawing) {
    let below = captioned(faces, surface, field, name);
    if !hand::draw(surface, below, drawing, 0.0) {
        written(faces, surface, below, name, 0.0);
    }
}

/// Draws what is around a signature, and says where it goes itself.
fn captioned(faces: &Faces, surface: &mut Surface<'_>, field: Field, name: &str) -> Field {
    let caption_size = (field.height * 0.15).clamp(CAPTION_SIZE_PT_MIN, CAPTION_SIZE_PT_MAX);
    let gap = caption_size * 0.8;
    let left = field.x + gap + 1.0;
    let room = field.width - gap - 2.0;

    begin_stroke(surface, INK, 0.7);
    if let Some(path) = polyline(&[(field.x + 0.6, field.y + 0.6), (field.x + 0.6, field.y + field.height - 0.6)]) {
        surface.draw_path(&path);
    }
    let caption = Line::shape_cut(faces, FaceName::Sans, &format!("Signed by {name}"), room / caption_size);
    begin_fill(surface, CAPTION_INK);
    caption.draw(faces, surface, left, field.y + caption_size, caption_size);
    // The name keeps clear of letters that reach below the caption's line.
    Field { x: left, y: field.y + caption_size * 1.3, width: room, height: field.height - caption_size * 1.3 }
}

/// Initials that somebody drew, in the middle of their box.
pub(crate) fn drawn_initials(faces: &Faces, surface: &mut Surface<'_>, field: Field, typed: &str, drawing: &Drawing) {
    if !hand::draw(surface, field, drawing, 0.5) {
        written(faces, surface, field, typed, 0.5);
    }
}

/// Initials: written by hand in the middle of their box.
pub(crate) fn initials(faces: &Faces, surface: &mut Surface<'_>, field: Field, initials: &str) {
    written(faces, surface, field, initials, 0.5);
}

/// Handwriting in a box; `align` says how much of the room to spare goes to its left.
fn written(faces: &Faces, surface: &mut Surface<'_>, field: Field, name: &str, align: f32) {
    let line = Line::shape(faces, FaceName::Script, name);
    let tallest = (field.height * 0.8).min(SIGNATURE_SIZE_PT_MAX);
    // Half a letter to spare: the last stroke of a script reaches beyond its advance.
    let size = fitting_size(line.width_em + 0.3, field.width, tallest, SIGNATURE_SIZE_PT_MIN);
    let line = Line::shape_cut(faces, FaceName::Script, name, field.width / size);
    let spare = (field.width - line.width_em * size).max(0.0);
    let baseline = field.y + (field.height + faces.face(FaceName::Script).capital_em * size) / 2.0;
    begin_fill(surface, INK);
    line.draw(faces, surface, field.x + spare * align, baseline, size);
}

/// A check mark in the middle of its box.
pub(crate) fn check(surface: &mut Surface<'_>, field: Field) {
    let side = field.width.min(field.height);
    let (left, top) = (field.x + (field.width - side) / 2.0, field.y + (field.height - side) / 2.0);
    let at = |x: f32, y: f32| (left + side * x, top + side * y);
    begin_stroke(surface, INK, (side * 0.13).clamp(0.6, 3.0));
    if let Some(path) = polyline(&[at(0.2, 0.54), at(0.42, 0.78), at(0.82, 0.22)]) {
        surface.draw_path(&path);
    }
}

/// White paper over the whole box and a little more: some letters reach beyond the height that is given for a line.
pub(crate) fn cover(surface: &mut Surface<'_>, field: Field) {
    let more = field.width.min(field.height) * COVER_SHARE_BESIDE;
    let (width, height) = (field.width + 2.0 * more, field.height + 2.0 * more);
    let mut path = PathBuilder::new();
    if let Some(whole) = Rect::from_xywh(field.x - more, field.y - more, width, height) {
        path.push_rect(whole);
    }
    begin_fill(surface, PAPER);
    if let Some(path) = path.finish() {
        surface.draw_path(&path);
    }
}

/// The dot of a chosen button in the middle of its box.
pub(crate) fn dot(surface: &mut Surface<'_>, field: Field) {
    let radius = field.width.min(field.height) * 0.28;
    let (x, y) = (field.x + field.width / 2.0, field.y + field.height / 2.0);
    begin_fill(surface, INK);
    if let Some(path) = disc(x, y, radius) {
        surface.draw_path(&path);
    }
}

/// A filled circle, from four curves.
fn disc(x: f32, y: f32, radius: f32) -> Option<Path> {
    /// How far the handles of a quarter circle reach.
    const HANDLE: f32 = 0.552_284_8;
    let mut builder = PathBuilder::new();
    builder.move_to(x + radius, y);
    for (across, down) in [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)] {
        // A quarter turn from (across, down) goes to (-down, across).
        let at = |a: f32, d: f32| (x + radius * a, y + radius * d);
        let (first, second) =
            (at(across - down * HANDLE, down + across * HANDLE), at(-down + across * HANDLE, across + down * HANDLE));
        let end = at(-down, across);
        builder.cubic_to(first.0, first.1, second.0, second.1, end.0, end.1);
    }
    builder.close();
    builder.finish()
}

/// A line in the middle of the top margin of a page of this width.
pub(crate) fn note(faces: &Faces, surface: &mut Surface<'_>, page_width: f32, baseline: f32, note: &str) {
    let room = (page_width - NOTE_MARGINS_PT).max(NOTE_SIZE_PT_MAX);
    let whole = Line::shape(faces, FaceName::Sans, note);
    let size = fitting_size(whole.width_em, room, NOTE_SIZE_PT_MAX, NOTE_SIZE_PT_MIN);
    let line = Line::shape_cut(faces, FaceName::Sans, note, room / size);
    begin_fill(surface, NOTE_INK);
    line.draw(faces, surface, (page_width - line.width_em * size) / 2.0, baseline, size);
}

/// The largest size up to `tallest` at which `width_em` fits `room`, but never below `smallest`, unless the box is
/// too low for that.
fn fitting_size(width_em: f32, room: f32, tallest: f32, smallest: f32) -> f32 {
    let widest = if width_em > 0.0 { room / width_em } else { tallest };
    widest.max(smallest).min(tallest)
}

pub(crate) fn begin_fill(surface: &mut Surface<'_>, ink: (u8, u8, u8)) {
    surface.set_stroke(None);
    surface.set_fill(fill(ink));
}

pub(crate) fn begin_stroke(surface: &mut Surface<'_>, ink: (u8, u8, u8), width: f32) {
    surface.set_fill(None);
    surface.set_stroke(stroke(ink, width));
}

pub(crate) fn polyline(points: &[(f32, f32)]) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (index, &(x, y)) in points.iter().enumerate() {
        if index == 0 { builder.move_to(x, y) } else { builder.line_to(x, y) }
    }
    builder.finish()
}
