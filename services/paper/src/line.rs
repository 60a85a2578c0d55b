//! One line of text: its runs shaped, measured, and drawn.
//!
//! It must never fail for a letter that no font has: such a letter is drawn as an empty box and keeps its text.

use std::ops::Range;

use krilla::geom::{Point, Transform};
use krilla::surface::Surface;
use krilla::text::{GlyphId, KrillaGlyph};
use rustybuzz::UnicodeBuffer;

use crate::faces::{FaceName, Faces};
use crate::limits::TEXT_CHARS_MAX;
use crate::runs::{Piece, Words, clean};

/// How far letters lean when an upright font stands in for the script.
const STAND_IN_SLANT: f32 = 0.22;
/// How large an upright stand-in is, against the script.
const STAND_IN_SCALE: f32 = 0.72;
const ELLIPSIS: char = '…';

/// A shaped line, independent of its size.
pub(crate) struct Line {
    runs: Vec<Run>,
    /// Width at size 1.
    pub(crate) width_em: f32,
}

/// Neighbouring letters in one font and direction.
struct Run {
    face: FaceName,
    text: String,
    glyphs: Vec<KrillaGlyph>,
    width_em: f32,
    is_stand_in: bool,
}

impl Line {
    /// Shapes `text` in the direction of its first letter; line breaks and control characters become spaces.
    pub(crate) fn shape(faces: &Faces, wanted: FaceName, text: &str) -> Self {
        let clean = clean(text, TEXT_CHARS_MAX);
        Self::of(faces, wanted, &Words::of(&clean), 0..clean.len())
    }

    /// Shapes a part of a text that stands on one line.
    pub(crate) fn of(faces: &Faces, wanted: FaceName, words: &Words<'_>, part: Range<usize>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for piece in words.pieces(faces, wanted, part) {
            let is_stand_in = wanted == FaceName::Script && piece.face != FaceName::Script;
            let scale = if is_stand_in { STAND_IN_SCALE } else { 1.0 };
            let glyphs = shape_run(faces, &piece);
            let width_em = glyphs.iter().map(|glyph| glyph.x_advance).sum::<f32>() * scale;
            runs.push(Run { face: piece.face, text: piece.text, glyphs, width_em, is_stand_in });
        }
        let width_em = runs.iter().map(|run| run.width_em).sum();
        Self { runs, width_em }
    }

    /// The longest beginning of `text` that fits `width_em`, ended by an ellipsis if anything is missing.
    pub(crate) fn shape_cut(faces: &Faces, wanted: FaceName, text: &str, width_em: f32) -> Self {
        let whole = Self::shape(faces, wanted, text);
        if whole.width_em <= width_em { whole } else { Self::cut(faces, wanted, text, width_em) }
    }

    /// The longest beginning of `text` that fits `width_em` with an ellipsis behind it.
    pub(crate) fn cut(faces: &Faces, wanted: FaceName, text: &str, width_em: f32) -> Self {
        let letters: Vec<char> = text.chars().take(TEXT_CHARS_MAX).collect();
        let cut = |kept: usize| {
            let mut short: String = letters[..kept].iter().collect();
            short.truncate(short.trim_end().len());
            short.push(ELLIPSIS);
            Self::shape(faces, wanted, &short)
        };
        let (mut fits, mut too_long) = (0, letters.len() + 1);
        while too_long - fits > 1 {
            let middle = fits + (too_long - fits) / 2;
            match cut(middle).width_em <= width_em {
                true => fits = middle,
                false => too_long = middle,
            }
        }
        cut(fits)
    }

    /// What it says, run by run from left to right.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        self.runs.iter().map(|run| run.text.as_str()).collect()
    }

    /// Draws the line with its left end on `(x, baseline)`, using the surface's fill.
    pub(crate) fn draw(&self, faces: &Faces, surface: &mut Surface<'_>, x: f32, baseline: f32, size: f32) {
        self.draw_with_wider_spaces(faces, surface, (x, baseline), size, 0.0);
    }

    /// Draws the line so that it is exactly `width` wide, by wider (or a little narrower) spaces.
    pub(crate) fn draw_justified(
        &self,
        faces: &Faces,
        surface: &mut Surface<'_>,
        at: (f32, f32),
        size: f32,
        width: f32,
    ) {
        let spaces = self.runs.iter().flat_map(|run| run.glyphs.iter().filter(|glyph| is_space(run, glyph))).count();
        let missing = width - self.width_em * size;
        let extra_em = if spaces == 0 { 0.0 } else { missing / size / spaces as f32 };
        self.draw_with_wider_spaces(faces, surface, at, size, extra_em);
    }

    /// Face, glyph and left end of every glyph at size 1.
    pub(crate) fn glyph_positions(&self) -> impl Iterator<Item = (FaceName, u16, f32)> {
        let mut x = 0.0;
        self.runs.iter().flat_map(|run| run.glyphs.iter().map(|glyph| (run.face, glyph))).map(move |(face, glyph)| {
            let at = x + glyph.x_offset;
            x += glyph.x_advance;
            (face, glyph.glyph_id.to_u32() as u16, at)
        })
    }

    fn draw_with_wider_spaces(
        &self,
        faces: &Faces,
        surface: &mut Surface<'_>,
        (mut x, baseline): (f32, f32),
        size: f32,
        extra_em: f32,
    ) {
        for run in &self.runs {
            let mut glyphs = run.glyphs.clone();
            let mut widened_em = 0.0;
            for glyph in glyphs.iter_mut().filter(|glyph| is_space(run, glyph)) {
                glyph.x_advance += extra_em;
                widened_em += extra_em;
            }
            let font = faces.face(run.face).font.clone();
            if run.is_stand_in {
                let lean = Transform::from_row(1.0, 0.0, -STAND_IN_SLANT, 1.0, STAND_IN_SLANT * baseline, 0.0);
                surface.push_transform(&lean);
                let start = Point::from_xy(x, baseline);
                surface.draw_glyphs(start, &glyphs, font, &run.text, size * STAND_IN_SCALE, false);
                surface.pop();
            } else {
                surface.draw_glyphs(Point::from_xy(x, baseline), &glyphs, font, &run.text, size, false);
            }
            x += (run.width_em + widened_em) * size;
        }
    }
}

fn is_space(run: &Run, glyph: &KrillaGlyph) -> bool {
    run.text.get(glyph.text_range.clone()) == Some(" ")
}

fn shape_run(faces: &Faces, piece: &Piece) -> Vec<KrillaGlyph> {
    let (shaper, text) = (&faces.face(piece.face).shaper, piece.text.as_str());
    let mut buffer = UnicodeBuffer::new();
    buffer.push_str(text);
    buffer.guess_segment_properties();
    buffer.set_direction(piece.direction());
    if let Some(script) = piece.script() {
        buffer.set_script(script);
    }
    let shaped = faces.face(piece.face).shape(buffer);
    let mut starts: Vec<usize> = shaped.glyph_infos().iter().map(|info| info.cluster as usize).collect();
    starts.sort_unstable();
    let units = shaper.units_per_em() as f32;
    let pairs = shaped.glyph_infos().iter().zip(shaped.glyph_positions());
    let glyphs = pairs.map(|(info, position)| {
        let start = info.cluster as usize;
        let end = starts.get(starts.partition_point(|other| *other <= start)).copied().unwrap_or(text.len());
        KrillaGlyph::new(
            GlyphId::new(info.glyph_id),
            position.x_advance as f32 / units,
            position.x_offset as f32 / units,
            position.y_offset as f32 / units,
            position.y_advance as f32 / units,
            start..end,
            None,
        )
    });
    glyphs.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_that_is_too_long_ends_with_an_ellipsis_and_fits() {
        let faces = Faces::get().unwrap();
        let whole = Line::shape(faces, FaceName::Sans, "A reasonably long value for a short field");
        let cut = Line::shape_cut(faces, FaceName::Sans, "A reasonably long value for a short field", 8.0);
        assert!(cut.width_em <= 8.0 && cut.width_em > 6.0 && whole.width_em > 8.0);
        assert!(cut.runs[0].text.ends_with(ELLIPSIS));
        assert_eq!(Line::shape_cut(faces, FaceName::Sans, "no room", 0.1).runs[0].text, "…");
        assert!(Line::shape(faces, FaceName::Sans, "").runs.is_empty());
    }

    #[test]
    fn every_glyph_names_the_text_it_stands_for() {
        let line = Line::shape(Faces::get().unwrap(), FaceName::Sans, "عمر Ω שלום 山");
        assert_eq!(line.runs.len(), 4);
        assert!(line.runs.iter().flat_map(|run| &run.glyphs).all(|glyph| !glyph.text_range.is_empty()));
    }

    #[test]
    fn arabic_letters_join() {
        let faces = Faces::get().unwrap();
        let glyphs = |text: &str| -> Vec<u16> {
            Line::shape(faces, FaceName::Sans, text).glyph_positions().map(|(_, glyph, _)| glyph).collect()
        };
        let alone: Vec<u16> = ["ر", "م", "ع"].iter().flat_map(|letter| glyphs(letter)).collect();
        let joined = glyphs("عمر");
        assert!(joined.len() == 3 && joined.iter().zip(&alone).all(|(joined, alone)| joined != alone));
        // Also behind Hebrew, whose letters stand in the same direction.
        assert_eq!(glyphs("אعمر")[..3], joined[..]);
    }
}
