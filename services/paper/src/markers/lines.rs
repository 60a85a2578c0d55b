//! The text of a page as lines of letters, each with its place on the page as displayed.
//!
//! It must never trust the order in which letters are drawn: a word may come in pieces, kerned, or turned.

use hayro::hayro_interpret::font::{Glyph, GlyphRun};
use hayro::hayro_interpret::hayro_cmap::BfString;
use hayro::hayro_interpret::hayro_syntax::page::Page;
use hayro::hayro_interpret::util::TransformExt as _;
use hayro::hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps, InterpreterCache,
    InterpreterSettings, SoftMask, interpret_page,
};
use hayro::kurbo::{Affine, BezPath, Point, Rect, Vec2};

use super::PercentBox;
use crate::inspect::Unreadable;
use crate::limits::LETTERS_PER_PAGE_MAX;

/// Glyphs are drawn in thousandths of an em.
const UNITS_PER_EM: f64 = 1000.0;
/// How far letters reach below their line, and above it: together one em, as other programs measure.
const BELOW_EM: f64 = 0.212;
const ABOVE_EM: f64 = 1.0 - BELOW_EM;
/// How far apart letters of one line may stand, up and down.
const SAME_LINE_EM: f64 = 0.2;
/// From which gap on there is a space between two letters.
const SPACE_EM: f64 = 0.15;
/// From which gap on what follows is another column.
const COLUMN_EM: f64 = 3.0;
/// Up to which distance the same letter again is the same letter, drawn twice to look bold.
const SAME_LETTER_EM: f64 = 0.1;

/// A letter, seen along the line on which it stands.
#[derive(Debug, Clone)]
struct Letter {
    text: String,
    start: f64,
    end: f64,
    /// Where the line is, across it.
    across: f64,
    em: f64,
}

/// Letters on one line, from its start to its end.
pub(super) struct Line {
    letters: Vec<Letter>,
    /// The characters, each with the letter to which it belongs.
    characters: Vec<(char, usize)>,
    direction: Vec2,
    page: (f64, f64),
}

impl Line {
    pub(super) fn characters(&self) -> impl Iterator<Item = char> {
        self.characters.iter().map(|(character, _)| *character)
    }

    /// The box around two characters of the line and all between.
    pub(super) fn place(&self, from: usize, to: usize) -> PercentBox {
        let letter = |at: usize| self.characters.get(at).map_or(0, |(_, letter)| *letter);
        let (first, last) = (letter(from), letter(to));
        let mut around: Option<Rect> = None;
        for letter in self.letters.get(first..=last).unwrap_or_default() {
            for along in [letter.start, letter.end] {
                for across in [letter.across - ABOVE_EM * letter.em, letter.across + BELOW_EM * letter.em] {
                    let corner = (self.direction * along + turned(self.direction) * across).to_point();
                    let corner = Rect::from_points(corner, corner);
                    around = Some(around.map_or(corner, |around| around.union(corner)));
                }
            }
        }
        let (width, height) = self.page;
        let around = around.unwrap_or_default().intersect(Rect::new(0.0, 0.0, width, height));
        PercentBox {
            x_pct: around.x0 / width * 100.0,
            y_pct: around.y0 / height * 100.0,
            width_pct: around.width().max(0.0) / width * 100.0,
            height_pct: around.height().max(0.0) / height * 100.0,
        }
    }
}

/// A quarter turn clockwise on the screen: from along a line to down from it.
fn turned(direction: Vec2) -> Vec2 {
    Vec2::new(-direction.y, direction.x)
}

/// The lines of a page, without those that hold no brace.
pub(super) fn of(page: &Page<'_>) -> Result<Vec<Line>, Unreadable> {
    let (width, height) = page.render_dimensions();
    let size = (f64::from(width), f64::from(height));
    let cache = InterpreterCache::new();
    let whole = Rect::new(0.0, 0.0, size.0, size.1);
    let start = page.initial_transform(true).to_kurbo();
    let mut context = Context::new(start, whole, &cache, page.xref(), InterpreterSettings::default());
    let mut reader = Reader::default();
    interpret_page(page, &mut context, &mut reader);
    if reader.is_full {
        return Err(Unreadable::TooMuchText { max: LETTERS_PER_PAGE_MAX });
    }
    Ok(reader.lines(size))
}

/// Takes down letters and draws nothing.
#[derive(Default)]
struct Reader {
    /// By direction of the line, in degrees.
    letters: std::collections::BTreeMap<i32, Vec<Letter>>,
    count: usize,
    is_full: bool,
}

impl Reader {
    fn add(&mut self, glyph: &Glyph<'_>, place: Affine) {
        let text = match glyph.as_unicode() {
            Some(BfString::Char(character)) => character.to_string(),
            Some(BfString::String(text)) => text,
            None => return,
        };
        let [a, b, c, d, e, f] = place.as_coeffs();
        let (right, up) = (Vec2::new(a, b), Vec2::new(c, d));
        let em = up.hypot() * UNITS_PER_EM;
        if !(em.is_finite() && em > 0.0 && right.hypot() > 0.0 && e.is_finite() && f.is_finite()) {
            return;
        }
        self.count += 1;
        if self.count > LETTERS_PER_PAGE_MAX {
            self.is_full = true;
            return;
        }
        let degrees = right.atan2().to_degrees().round() as i32;
        let direction = Vec2::from_angle(f64::from(degrees).to_radians());
        let advance = match glyph {
            Glyph::Outline(outline) => outline.advance_width(),
            Glyph::Type3(drawn) => drawn.advance_width(),
        };
        let advance = f64::from(advance.unwrap_or(500.0)) / UNITS_PER_EM * em;
        let origin = Point::new(e, f).to_vec2();
        let (start, across) = (origin.dot(direction), origin.dot(turned(direction)));
        let letter = Letter { text, start, end: start + advance, across, em };
        self.letters.entry(degrees.rem_euclid(360)).or_default().push(letter);
    }

    fn lines(self, page: (f64, f64)) -> Vec<Line> {
        let mut lines = Vec::new();
        for (degrees, mut letters) in self.letters {
            let direction = Vec2::from_angle(f64::from(degrees).to_radians());
            letters.sort_by(|one, other| one.across.total_cmp(&other.across));
            let same_line =
                |one: &Letter, other: &Letter| (other.across - one.across).abs() <= SAME_LINE_EM * one.em.min(other.em);
            for letters in letters.chunk_by(same_line) {
                let mut letters = letters.to_vec();
                letters.sort_by(|one, other| one.start.total_cmp(&other.start));
                letters.dedup_by(|again, first| {
                    again.text == first.text && again.start - first.start < SAME_LETTER_EM * first.em
                });
                let same_column =
                    |one: &Letter, other: &Letter| other.start - one.end <= COLUMN_EM * one.em.max(other.em);
                for letters in letters.chunk_by(same_column) {
                    if letters.iter().any(|letter| letter.text.contains(['{', '}'])) {
                        lines.push(line(letters.to_vec(), direction, page));
                    }
                }
            }
        }
        lines
    }
}

fn line(letters: Vec<Letter>, direction: Vec2, page: (f64, f64)) -> Line {
    let mut characters: Vec<(char, usize)> = Vec::new();
    let mut end = f64::INFINITY;
    for (index, letter) in letters.iter().enumerate() {
        if letter.start - end > SPACE_EM * letter.em {
            characters.push((' ', index.saturating_sub(1)));
        }
        end = letter.end;
        // Ligatures come as several; all spaces are one kind here.
        let drawn = letter.text.chars().filter(|character| !character.is_control());
        characters.extend(drawn.map(|character| (if character.is_whitespace() { ' ' } else { character }, index)));
    }
    Line { letters, characters, direction, page }
}

impl<'a> Device<'a> for Reader {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, _: &DrawMode) {
        for glyph in run.glyphs() {
            self.add(glyph, props.transform * glyph.transform());
        }
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn draw_image(&mut self, _: Image<'a, '_>, _: ImageDrawProps<'a>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}
