//! Sets the sample contracts: headings, numbered clauses, tables and signature blocks on A4 pages.
//!
//! It must never become a general layout engine: it knows only what the samples need.

use krilla::metadata::Metadata;
use krilla::surface::Surface;

use super::{Area, SignatureBlock};
use crate::apply::StampError;
use crate::draw::{begin_fill, begin_stroke, polyline};
use crate::faces::{FaceName, Faces};
use crate::line::Line;
use crate::overlay::{self, Sheet};

pub(super) const A4_PT: (f32, f32) = (595.28, 841.89);
const LEFT: f32 = 74.0;
const RIGHT: f32 = A4_PT.0 - 74.0;
const TOP: f32 = 78.0;
const BOTTOM: f32 = A4_PT.1 - 84.0;
const FOOTER_BASELINE: f32 = A4_PT.1 - 44.0;
const BODY_SIZE: f32 = 10.2;
const BODY_LEADING: f32 = 14.2;
const LABEL_WIDTH: f32 = 30.0;
const SMALL_SIZE: f32 = 8.0;
const SIGNATURE_HEIGHT: f32 = 40.0;
const DATE_HEIGHT: f32 = 16.0;
const SIGNATURE_BLOCK_HEIGHT: f32 = 150.0;
const COLUMN_GAP: f32 = 40.0;
const BLACK: (u8, u8, u8) = (24, 24, 27);
const GREY: (u8, u8, u8) = (100, 100, 108);
const RULE_GREY: (u8, u8, u8) = (170, 170, 178);

enum Item {
    Text { line: Line, x: f32, baseline: f32, size: f32, ink: (u8, u8, u8), width: Option<f32> },
    Rule { from: (f32, f32), to: (f32, f32), weight: f32, ink: (u8, u8, u8) },
}

/// A person who signs for a company.
pub(super) struct Signer {
    pub(super) company: &'static str,
    pub(super) name: &'static str,
    pub(super) role: &'static str,
}

/// A contract while it is being set, from its top to its bottom.
pub(super) struct Contract {
    faces: &'static Faces,
    title: &'static str,
    pages: Vec<Vec<Item>>,
    /// The top of what comes next.
    y: f32,
    blocks: Vec<SignatureBlock>,
}

impl Contract {
    /// Begins with the title and a line under it, such as the number and date of the contract.
    pub(super) fn begin(title: &'static str, below: &str) -> Result<Self, StampError> {
        let faces = Faces::get().ok_or_else(|| StampError::compose("the shipped fonts are damaged"))?;
        let mut contract = Self { faces, title, pages: vec![Vec::new()], y: TOP, blocks: Vec::new() };
        contract.y += 8.0;
        contract.centred(FaceName::SerifBold, &title.to_uppercase(), 15.0, BLACK);
        contract.y += 19.0;
        contract.centred(FaceName::Serif, below, 9.5, GREY);
        contract.y += 12.0;
        let middle = (LEFT + RIGHT) / 2.0;
        contract.rule((middle - 40.0, contract.y), (middle + 40.0, contract.y), 0.8, RULE_GREY);
        contract.y += 20.0;
        Ok(contract)
    }

    /// A numbered heading that stays with what follows.
    pub(super) fn heading(&mut self, number: &str, text: &str) {
        self.y += 7.0;
        self.keep(BODY_LEADING * 3.0);
        let baseline = self.y + BODY_SIZE;
        self.text(FaceName::SerifBold, number, LEFT, baseline, 10.8, BLACK);
        self.text(FaceName::SerifBold, text, LEFT + LABEL_WIDTH, baseline, 10.8, BLACK);
        self.y += BODY_LEADING + 2.5;
    }

    /// Body text over the full width.
    pub(super) fn paragraph(&mut self, text: &str) {
        self.flow("", LEFT, 0.0, text);
    }

    /// Body text with a label to its left, such as `2.1`.
    pub(super) fn clause(&mut self, label: &str, text: &str) {
        self.flow(label, LEFT, LABEL_WIDTH, text);
    }

    /// A point of a clause, such as `(a)`.
    pub(super) fn point(&mut self, label: &str, text: &str) {
        self.flow(label, LEFT + LABEL_WIDTH, 22.0, text);
    }

    /// Starts a new page with a title of its own, such as a schedule.
    pub(super) fn schedule(&mut self, name: &str, subject: &str) {
        self.new_page();
        self.y += 6.0;
        self.centred(FaceName::SerifBold, &name.to_uppercase(), 12.5, BLACK);
        self.y += 17.0;
        self.centred(FaceName::Serif, subject, 10.5, GREY);
        self.y += 20.0;
    }

    /// A table with ruled rows; the last column is set flush right. `shares` of the width are given to the columns.
    pub(super) fn table(&mut self, shares: &[f32], rows: &[&[&str]]) {
        const CELL_SIZE: f32 = 9.2;
        const CELL_LEADING: f32 = 12.4;
        const CELL_PADDING: f32 = 5.0;
        let total: f32 = shares.iter().sum();
        for (number, row) in rows.iter().enumerate() {
            let face = if number == 0 { FaceName::SerifBold } else { FaceName::Serif };
            let width = |column: usize| shares.get(column).map_or(0.0, |share| (RIGHT - LEFT) * share / total);
            let cells: Vec<Vec<String>> = (0..row.len())
                .map(|column| break_lines(self.faces, face, row[column], (width(column) - 10.0) / CELL_SIZE))
                .collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(1) as f32 * CELL_LEADING + 2.0 * CELL_PADDING;
            self.keep(height);
            let mut x = LEFT;
            for (column, lines) in cells.iter().enumerate() {
                for (index, text) in lines.iter().enumerate() {
                    let baseline = self.y + CELL_PADDING + CELL_SIZE + index as f32 * CELL_LEADING;
                    let line = Line::shape(self.faces, face, text);
                    let flush_right = column + 1 == shares.len();
                    let spare = width(column) - 5.0 - line.width_em * CELL_SIZE;
                    let at = if flush_right { x + spare } else { x + 5.0 };
                    self.place(line, at, baseline, CELL_SIZE, BLACK, None);
                }
                x += width(column);
            }
            let weight = if number == 0 { 1.0 } else { 0.4 };
            if number == 0 {
                self.rule((LEFT, self.y), (RIGHT, self.y), 1.0, BLACK);
            }
            self.y += height;
            let ink = if number == 0 || number + 1 == rows.len() { BLACK } else { RULE_GREY };
            self.rule((LEFT, self.y), (RIGHT, self.y), weight, ink);
        }
        self.y += 14.0;
    }

    /// Signature blocks, two beside each other.
    pub(super) fn signatures(&mut self, signers: &[Signer]) {
        self.y += 6.0;
        let width = (RIGHT - LEFT - COLUMN_GAP) / 2.0;
        for pair in signers.chunks(2) {
            self.keep(SIGNATURE_BLOCK_HEIGHT);
            for (column, signer) in pair.iter().enumerate() {
                self.signature(signer, LEFT + column as f32 * (width + COLUMN_GAP), width);
            }
            self.y += SIGNATURE_BLOCK_HEIGHT;
        }
    }

    fn signature(&mut self, signer: &Signer, x: f32, width: f32) {
        let mut y = self.y + 12.0;
        self.text(FaceName::SerifBold, signer.company, x, y, BODY_SIZE, BLACK);
        y += 12.0 + SIGNATURE_HEIGHT;
        let signature = area(x, y - SIGNATURE_HEIGHT, width, SIGNATURE_HEIGHT - 1.0);
        self.rule((x, y), (x + width, y), 0.6, BLACK);
        self.text(FaceName::Serif, "Signature", x, y + 10.0, SMALL_SIZE, GREY);
        y += 24.0;
        self.text(FaceName::Serif, &format!("Name: {}", signer.name), x, y, BODY_SIZE, BLACK);
        y += BODY_LEADING;
        self.text(FaceName::Serif, &format!("Title: {}", signer.role), x, y, BODY_SIZE, BLACK);
        y += BODY_LEADING + 6.0;
        self.text(FaceName::Serif, "Date:", x, y - 2.0, BODY_SIZE, BLACK);
        let (date_x, date_width) = (x + 30.0, width - 70.0);
        self.rule((date_x, y), (date_x + date_width, y), 0.6, BLACK);
        let page = self.pages.len() as u32;
        let date = area(date_x, y - DATE_HEIGHT, date_width, DATE_HEIGHT - 1.0);
        let Area { x_pct, y_pct, width_pct, height_pct } = signature;
        self.blocks.push(SignatureBlock { signer: signer.name, page, x_pct, y_pct, width_pct, height_pct, date });
    }

    /// Writes the footers and the file.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Vec<SignatureBlock>), StampError> {
        let count = self.pages.len();
        for index in 0..count {
            let line = Line::shape(self.faces, FaceName::Serif, &format!("Page {} of {count}", index + 1));
            let title = Line::shape(self.faces, FaceName::Serif, self.title);
            let x = RIGHT - line.width_em * SMALL_SIZE;
            let text =
                |line, x| Item::Text { line, x, baseline: FOOTER_BASELINE, size: SMALL_SIZE, ink: GREY, width: None };
            let y = FOOTER_BASELINE - 14.0;
            self.pages[index].extend([
                Item::Rule { from: (LEFT, y), to: (RIGHT, y), weight: 0.4, ink: RULE_GREY },
                text(title, LEFT),
                text(line, x),
            ]);
        }
        let faces = self.faces;
        let size_pt = (f64::from(A4_PT.0), f64::from(A4_PT.1));
        let draw =
            |items: &Vec<Item>, surface: &mut Surface<'_>| items.iter().for_each(|item| item.draw(faces, surface));
        let sheets: Vec<Sheet<'_>> = self
            .pages
            .iter()
            .map(|items| Sheet { size_pt, draw: Box::new(move |surface| draw(items, surface)) })
            .collect();
        let metadata = Metadata::new().title(self.title.to_owned()).language("en".to_owned());
        Ok((overlay::compose(&sheets, metadata)?, self.blocks))
    }

    fn flow(&mut self, label: &str, x: f32, indent: f32, text: &str) {
        let left = x + indent;
        let lines = break_lines(self.faces, FaceName::Serif, text, (RIGHT - left) / BODY_SIZE);
        let count = lines.len();
        for (index, line) in lines.iter().enumerate() {
            // The first two lines stay together, and so do the last two.
            let together = if index == 0 || index + 2 == count { 2.0_f32.min((count - index) as f32) } else { 1.0 };
            self.keep(BODY_LEADING * together);
            let baseline = self.y + BODY_SIZE;
            if index == 0 && !label.is_empty() {
                self.text(FaceName::Serif, label, x, baseline, BODY_SIZE, BLACK);
            }
            let is_last = index + 1 == count;
            let line = Line::shape(self.faces, FaceName::Serif, line);
            self.place(line, left, baseline, BODY_SIZE, BLACK, (!is_last).then_some(RIGHT - left));
            self.y += BODY_LEADING;
        }
        self.y += 5.0;
    }

    fn keep(&mut self, height: f32) {
        if self.y + height > BOTTOM {
            self.new_page();
        }
    }

    fn new_page(&mut self) {
        self.pages.push(Vec::new());
        self.y = TOP;
    }

    fn centred(&mut self, face: FaceName, text: &str, size: f32, ink: (u8, u8, u8)) {
        let line = Line::shape(self.faces, face, text);
        let x = (LEFT + RIGHT - line.width_em * size) / 2.0;
        let baseline = self.y;
        self.place(line, x, baseline, size, ink, None);
    }

    fn text(&mut self, face: FaceName, text: &str, x: f32, baseline: f32, size: f32, ink: (u8, u8, u8)) {
        let line = Line::shape(self.faces, face, text);
        self.place(line, x, baseline, size, ink, None);
    }

    fn place(&mut self, line: Line, x: f32, baseline: f32, size: f32, ink: (u8, u8, u8), width: Option<f32>) {
        self.add(Item::Text { line, x, baseline, size, ink, width });
    }

    fn rule(&mut self, from: (f32, f32), to: (f32, f32), weight: f32, ink: (u8, u8, u8)) {
        self.add(Item::Rule { from, to, weight, ink });
    }

    fn add(&mut self, item: Item) {
        if let Some(page) = self.pages.last_mut() {
            page.push(item);
        }
    }
}

impl Item {
    fn draw(&self, faces: &Faces, surface: &mut Surface<'_>) {
        match self {
            Self::Text { line, x, baseline, size, ink, width } => {
                begin_fill(surface, *ink);
                match width {
                    Some(width) => line.draw_justified(faces, surface, (*x, *baseline), *size, *width),
                    None => line.draw(faces, surface, *x, *baseline, *size),
                }
            }
            Self::Rule { from, to, weight, ink } => {
                begin_stroke(surface, *ink, *weight);
                if let Some(path) = polyline(&[*from, *to]) {
                    surface.draw_path(&path);
                }
            }
        }
    }
}

/// The box in percent of an A4 page.
pub(super) fn area(x: f32, y: f32, width: f32, height: f32) -> Area {
    let percent = |part: f32, whole: f32| f64::from(part) * 100.0 / f64::from(whole);
    Area {
        x_pct: percent(x, A4_PT.0),
        y_pct: percent(y, A4_PT.1),
        width_pct: percent(width, A4_PT.0),
        height_pct: percent(height, A4_PT.1),
    }
}

/// Breaks text into lines of at most `width_em`, at spaces.
pub(super) fn break_lines(faces: &Faces, face: FaceName, text: &str, width_em: f32) -> Vec<String> {
    let space_em = Line::shape(faces, face, " ").width_em;
    let mut lines: Vec<String> = Vec::new();
    let mut used_em = f32::INFINITY;
    for word in text.split_whitespace() {
        let word_em = Line::shape(faces, face, word).width_em;
        match lines.last_mut() {
            Some(line) if used_em + space_em + word_em <= width_em => {
                line.push(' ');
                line.push_str(word);
                used_em += space_em + word_em;
            }
            _ => {
                lines.push(word.to_owned());
                used_em = word_em;
            }
        }
    }
    lines
}
