//! A sheet of paper under a scanner: letters and lines become grey pixels, a little crooked and speckled.
//!
//! It must never use chance that cannot be repeated: the same sheet always gives the same pixels.

use rustybuzz::ttf_parser::{GlyphId, OutlineBuilder};

use crate::faces::Faces;
use crate::line::Line;

/// Straight pieces that stand for one curve.
const CURVE_PIECES: u8 = 6;
/// Grey values a pixel can have; few, so that the picture stays small.
const GREYS: u32 = 16;

/// A sheet on which ink is gathered before it is scanned.
pub(super) struct Scan {
    width: usize,
    height: usize,
    /// Pixels in a point.
    scale: f32,
    /// The sine of the angle at which the sheet lies on the glass.
    skew: f32,
    /// What each pixel adds to the ink of the pixels to its right.
    ink: Vec<f32>,
}

impl Scan {
    pub(super) fn new((width_pt, height_pt): (f32, f32), scale: f32, skew: f32) -> Self {
        let (width, height) = ((width_pt * scale).ceil() as usize, (height_pt * scale).ceil() as usize);
        Self { width, height, scale, skew, ink: vec![0.0; width * height + 1] }
    }

    pub(super) fn size_px(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    pub(super) fn text(&mut self, faces: &Faces, line: &Line, x: f32, baseline: f32, size: f32) {
        for (face, glyph, glyph_x) in line.glyph_positions() {
            let shaper = &faces.face(face).shaper;
            let em = size / shaper.units_per_em() as f32;
            let origin = (x + glyph_x * size, baseline);
            let mut pen = Pen { scan: self, origin, em, start: (0.0, 0.0), at: (0.0, 0.0) };
            shaper.outline_glyph(GlyphId(glyph), &mut pen);
        }
    }

    pub(super) fn rule(&mut self, x: f32, y: f32, width: f32, weight: f32) {
        let corners = [(x, y), (x + width, y), (x + width, y + weight), (x, y + weight)];
        for index in 0..corners.len() {
            self.edge(corners[index], corners[(index + 1) % corners.len()]);
        }
    }

    /// One edge of a filled outline, in points.
    fn edge(&mut self, from: (f32, f32), to: (f32, f32)) {
        let (from, to) = (self.on_glass(from), self.on_glass(to));
        let (direction, upper, lower) = if from.1 < to.1 { (1.0, from, to) } else { (-1.0, to, from) };
        if lower.1 - upper.1 < 1e-6 {
            return;
        }
        let slope = (lower.0 - upper.0) / (lower.1 - upper.1);
        let last_row = (lower.1.ceil() as usize).min(self.height);
        for row in upper.1.max(0.0) as usize..last_row {
            let top = upper.1.max(row as f32);
            let bottom = lower.1.min(row as f32 + 1.0);
            let middle = upper.0 + slope * ((top + bottom) / 2.0 - upper.1);
            self.cover(row, middle.clamp(0.0, self.width as f32 - 2.0), direction * (bottom - top));
        }
    }

    /// Everything to the right of `x` in a row gets `amount` of ink.
    fn cover(&mut self, row: usize, x: f32, amount: f32) {
        let column = x as usize;
        let part = x - column as f32;
        let at = row * self.width + column;
        self.ink[at] += amount * (1.0 - part);
        self.ink[at + 1] += amount * part;
    }

    fn on_glass(&self, (x, y): (f32, f32)) -> (f32, f32) {
        ((x + y * self.skew) * self.scale, (y - x * self.skew) * self.scale)
    }

    /// The picture, one value from 0 to 15 for each pixel, rows from the top.
    pub(super) fn greys(&self) -> Vec<u8> {
        let mut noise = Noise(0x2545_f491_4f6c_dd1d);
        let mut greys = Vec::with_capacity(self.width * self.height);
        for row in 0..self.height {
            let mut ink = 0.0;
            for column in 0..self.width {
                ink += self.ink[row * self.width + column];
                let paper = 14.3 - 1.4 * self.shadow(column, row);
                let drawn = paper - 12.0 * ink.abs().min(1.0);
                let speckle = if noise.next().is_multiple_of(40) { 1.0 } else { 0.0 };
                greys.push((drawn - speckle).round().clamp(0.0, (GREYS - 1) as f32) as u8);
            }
        }
        greys
    }

    /// How dark the lid of the scanner leaves the paper: only along the left and the lower edge.
    fn shadow(&self, column: usize, row: usize) -> f32 {
        let left = 1.0 - (column as f32 / (self.width as f32 * 0.02)).min(1.0);
        let below = 1.0 - ((self.height - row) as f32 / (self.height as f32 * 0.012)).min(1.0);
        left.max(below) * 3.0
    }
}

/// Repeatable noise (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }
}

/// Takes a glyph's outline to the sheet.
struct Pen<'a> {
    scan: &'a mut Scan,
    origin: (f32, f32),
    em: f32,
    start: (f32, f32),
    at: (f32, f32),
}

impl Pen<'_> {
    fn on_sheet(&self, x: f32, y: f32) -> (f32, f32) {
        (self.origin.0 + x * self.em, self.origin.1 - y * self.em)
    }

    fn line(&mut self, to: (f32, f32)) {
        self.scan.edge(self.at, to);
        self.at = to;
    }
}

impl OutlineBuilder for Pen<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        self.start = self.on_sheet(x, y);
        self.at = self.start;
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.line(self.on_sheet(x, y));
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let (a, b, c) = (self.at, self.on_sheet(x1, y1), self.on_sheet(x, y));
        for piece in 1..=CURVE_PIECES {
            let t = f32::from(piece) / f32::from(CURVE_PIECES);
            let mix = |a: f32, b: f32, c: f32| (1.0 - t) * (1.0 - t) * a + 2.0 * t * (1.0 - t) * b + t * t * c;
            self.line((mix(a.0, b.0, c.0), mix(a.1, b.1, c.1)));
        }
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let (a, b, c, d) = (self.at, self.on_sheet(x1, y1), self.on_sheet(x2, y2), self.on_sheet(x, y));
        for piece in 1..=CURVE_PIECES {
            let t = f32::from(piece) / f32::from(CURVE_PIECES);
            let s = 1.0 - t;
            let mix = |a: f32, b: f32, c: f32, d: f32| {
                s * s * s * a + 3.0 * s * s * t * b + 3.0 * s * t * t * c + t * t * t * d
            };
            self.line((mix(a.0, b.0, c.0, d.0), mix(a.1, b.1, c.1, d.1)));
        }
    }

    fn close(&mut self) {
        self.line(self.start);
    }
}
