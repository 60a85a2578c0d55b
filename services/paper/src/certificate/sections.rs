//! The parts of a certificate, as slabs: what it is about, documents, people, history, and how to check it.
//!
//! It must never leave something out for want of room: what is long gets more lines.

use super::flow::WIDTH_PT;
use super::slab::{HAIRLINE, PANEL, SOFT, Slab, Style, TEXT, lines, lines_within, paragraph, single};
use super::{Certificate, Fact, Listed, Mood, Party, Step, Tone};
use crate::draw::Field;
use crate::faces::Faces;
use crate::line::Line;

const TITLE: Style = Style::title(23.0, TEXT);
const SUBJECT: Style = Style::sans(11.5, SOFT);
const HEADING: Style = Style::title(12.5, TEXT);
const NAME: Style = Style::title(10.5, TEXT);
const BODY: Style = Style::sans(8.2, TEXT);
const LABEL: Style = Style::sans(7.6, SOFT);
const SMALL: Style = Style::sans(7.4, TEXT);
const LABEL_PT: f32 = 104.0;
const CARD_PAD_PT: f32 = 12.0;
const SIGNATURE_PT: (f32, f32) = (132.0, 40.0);

/// All parts in order; the head of a table is repeated only in its own.
pub(super) fn parts(faces: &Faces, certificate: &Certificate) -> Vec<Vec<Slab>> {
    vec![
        opening(faces, certificate),
        documents(faces, &certificate.documents),
        people(faces, &certificate.people),
        history(faces, &certificate.history),
        certificate.chain.iter().flat_map(|fact| row(faces, fact, 0.0, WIDTH_PT)).collect(),
        checks(faces, &certificate.checks),
    ]
}

fn ink(tone: Tone) -> (u8, u8, u8) {
    match tone {
        Tone::Good => (20, 116, 78),
        Tone::Bad => (178, 36, 36),
        Tone::Plain => (88, 96, 114),
    }
}

fn tint(tone: Tone) -> (u8, u8, u8) {
    match tone {
        Tone::Good => (226, 243, 235),
        Tone::Bad => (251, 231, 231),
        Tone::Plain => (236, 238, 243),
    }
}

/// Adds a word on its colour with its right end there, and a plain one to the left of it.
fn badge(slab: Slab, faces: &Faces, beside: &str, mood: &Mood, (right, middle): (f32, f32)) -> Slab {
    let style = Style::sans(7.6, ink(mood.tone));
    let word = Line::shape_cut(faces, style.face, &mood.word, BADGE_WORD_PT / style.size_pt);
    let width = word.width_em * style.size_pt + 14.0;
    let baseline = middle + 2.8;
    slab.filled((right - width, middle - 7.5, width, 15.0), tint(mood.tone), 7.5)
        .line_to(faces, style, (right - 7.0, baseline), BADGE_WORD_PT, &mood.word)
        .line_to(faces, LABEL, (right - width - 8.0, baseline), BADGE_WORD_PT / 2.0, beside)
}

/// The widest word on a badge.
const BADGE_WORD_PT: f32 = 100.0;

fn opening(faces: &Faces, certificate: &Certificate) -> Vec<Slab> {
    let mut slabs = vec![Slab::of(8.0)];
    let outcome = &certificate.outcome;
    for (index, line) in lines(faces, TITLE, WIDTH_PT - 130.0, &certificate.title).into_iter().enumerate() {
        let slab = single(line, TITLE, 0.0);
        let middle = slab.height / 2.0;
        slabs.push(match index {
            0 => badge(slab, faces, "", outcome, (WIDTH_PT, middle)),
            _ => slab,
        });
    }
    slabs.push(Slab::space(3.0));
    slabs.extend(paragraph(faces, SUBJECT, 0.0, WIDTH_PT, &certificate.subject));
    slabs.push(Slab::space(12.0));
    if let Some(reason) = &certificate.reason {
        let tone = outcome.tone;
        let strip = |slab: Slab| {
            let height = slab.height;
            let mut under = Slab::of(height).filled((0.0, 0.0, WIDTH_PT, height), tint(tone), 0.0);
            under = under.filled((0.0, 0.0, 3.0, height), ink(tone), 0.0);
            under.items.extend(slab.items);
            under
        };
        slabs.push(strip(Slab::of(7.0)).keeping());
        let by = Style { ink: ink(tone), ..BODY };
        let room = WIDTH_PT - 2.0 * CARD_PAD_PT;
        slabs.extend(paragraph(faces, by, CARD_PAD_PT, room, &reason.by).into_iter().map(|it| strip(it).keeping()));
        if !reason.words.is_empty() {
            slabs.extend(paragraph(faces, BODY, CARD_PAD_PT, room, &reason.words).into_iter().map(strip));
        }
        slabs.push(strip(Slab::of(7.0)));
        slabs.push(Slab::space(12.0));
    }
    slabs.extend(certificate.facts.iter().flat_map(|fact| row(faces, fact, 0.0, WIDTH_PT)));
    slabs
}

/// A label beside its value.
fn row(faces: &Faces, fact: &Fact, x: f32, width: f32) -> Vec<Slab> {
    let mut slabs = paragraph(faces, BODY, x + LABEL_PT, width - LABEL_PT, &fact.value);
    if let Some(first) = slabs.first_mut() {
        let line = std::mem::take(first);
        *first = line.line(faces, LABEL, (x, 8.4), LABEL_PT - 6.0, &fact.label);
    }
    for slab in &mut slabs {
        slab.height += 0.4;
    }
    slabs
}

fn heading(faces: &Faces, text: &str) -> Vec<Slab> {
    let line = Line::shape(faces, HEADING.face, text);
    vec![Slab::space(20.0), single(line, HEADING, 0.0).keeping(), Slab::of(5.0).keeping()]
}

fn rule() -> Slab {
    Slab::of(0.6).filled((0.0, 0.0, WIDTH_PT, 0.6), HAIRLINE, 0.0)
}

fn documents(faces: &Faces, documents: &[Listed]) -> Vec<Slab> {
    let mut slabs = heading(faces, if documents.len() == 1 { "Document" } else { "Documents" });
    for document in documents {
        slabs.push(rule().keeping());
        slabs.push(Slab::of(5.0).keeping());
        let style = Style { size_pt: 9.4, ..NAME };
        for (index, line) in lines(faces, style, WIDTH_PT - 120.0, &document.name).into_iter().enumerate() {
            let slab = single(line, style, 0.0).keeping();
            slabs.push(match index {
                0 => slab.line_to(faces, LABEL, (WIDTH_PT, 9.0), 110.0, &document.summary),
                _ => slab,
            });
        }
        slabs.push(Slab::of(2.0).keeping());
        slabs.extend(document.facts.iter().flat_map(|fact| row(faces, fact, 0.0, WIDTH_PT)));
        slabs.push(Slab::of(6.0));
    }
    slabs
}

fn people(faces: &Faces, people: &[Party]) -> Vec<Slab> {
    let mut slabs = heading(faces, "Recipients");
    for party in people {
        slabs.extend(card(faces, party));
        slabs.push(Slab::space(8.0));
    }
    slabs
}

/// Somebody's card: who they are, what they did, and their signature.
fn card(faces: &Faces, party: &Party) -> Vec<Slab> {
    let (left, room) = (CARD_PAD_PT, WIDTH_PT - 2.0 * CARD_PAD_PT);
    let mut slabs = vec![Slab::of(9.0)];
    for (index, line) in lines(faces, NAME, room - 190.0, &party.name).into_iter().enumerate() {
        let slab = single(line, NAME, left);
        let middle = slab.height / 2.0;
        slabs.push(match index {
            0 => badge(slab, faces, &party.role, &party.state, (left + room, middle)),
            _ => slab,
        });
    }
    slabs.push(Slab::of(4.0));
    let beside = if party.signature.is_some() { SIGNATURE_PT.0 + 14.0 } else { 0.0 };
    let (mut from_top, mut facts) = (0.0, Vec::new());
    for fact in &party.facts {
        // Beside the signature there is less room than below it.
        let width = if from_top < SIGNATURE_PT.1 + 4.0 { room - beside } else { room };
        let rows = row(faces, fact, left, width);
        from_top += rows.iter().map(|slab| slab.height).sum::<f32>();
        facts.extend(rows);
    }
    if let Some(signature) = &party.signature {
        let (width, height) = SIGNATURE_PT;
        if from_top < height {
            facts.push(Slab::of(height - from_top));
        }
        if let Some(first) = facts.first_mut() {
            let place = Field { x: left + room - width, y: 2.0, width, height };
            *first = std::mem::take(first).mark(place, signature.clone());
        }
    }
    slabs.extend(facts);
    slabs.push(Slab::of(8.0));
    let tone = party.state.tone;
    let mut carded: Vec<Slab> = slabs.into_iter().map(|slab| on_card(slab, tone)).collect();
    // The name stands with what follows, and the end with what comes before.
    let last = carded.len().saturating_sub(2);
    let short = carded.len() <= CARD_SLABS_KEPT;
    for (index, slab) in carded.iter_mut().enumerate() {
        slab.keeps_next = index <= last && (short || index < CARD_HEAD_SLABS || index == last);
    }
    carded
}

/// A card of so many slabs stays in one piece.
const CARD_SLABS_KEPT: usize = 30;
/// The beginning of a longer one that does.
const CARD_HEAD_SLABS: usize = 7;

/// Puts a panel and a coloured edge under a slab.
fn on_card(slab: Slab, tone: Tone) -> Slab {
    // A little more than its height, so that no seam shows between two.
    let height = slab.height + 0.2;
    let mut card = Slab::of(slab.height).filled((0.0, 0.0, WIDTH_PT, height), PANEL, 0.0);
    card = card.filled((0.0, 0.0, 2.5, height), ink(tone), 0.0);
    card.items.extend(slab.items);
    card
}

/// Where the columns of the history begin: number, time, what, who, hash.
const COLUMNS_PT: [f32; 5] = [0.0, 24.0, 128.0, 268.0, 436.0];
const COLUMN_GAP_PT: f32 = 8.0;
/// How high a row of the history gets at most.
const CELL_LINES_MAX: usize = 6;

fn columns(cells: [&str; 5]) -> [(f32, f32, &str); 5] {
    let ends = [COLUMNS_PT[1], COLUMNS_PT[2], COLUMNS_PT[3], COLUMNS_PT[4], WIDTH_PT + COLUMN_GAP_PT];
    std::array::from_fn(|index| (COLUMNS_PT[index], ends[index] - COLUMNS_PT[index] - COLUMN_GAP_PT, cells[index]))
}

fn table_head(faces: &Faces) -> Slab {
    let slab = Slab { is_head: true, ..Slab::of(17.0) }.filled((0.0, 16.0, WIDTH_PT, 0.8), SOFT, 0.0);
    columns(["#", "Time (UTC)", "Event", "By", "Hash"])
        .into_iter()
        .fold(slab, |slab, (x, room, text)| slab.line(faces, LABEL, (x, 11.0), room, text))
        .keeping()
}

fn history(faces: &Faces, history: &[Step]) -> Vec<Slab> {
    let mut slabs = heading(faces, "History");
    slabs.push(table_head(faces));
    for step in history {
        let number = if step.number == 0 { "…".to_owned() } else { step.number.to_string() };
        let cells = columns([&number, &step.at, &step.what, &step.who, &step.hash]);
        let cells = cells.map(|(x, room, text)| (x, lines_within(faces, SMALL, room, text, CELL_LINES_MAX)));
        let rows = cells.iter().map(|(_, lines)| lines.len()).max().unwrap_or(1);
        let mut slab = Slab::of(rows as f32 * SMALL.leading_pt() + 5.0);
        for (x, lines) in cells {
            for (index, line) in lines.into_iter().enumerate() {
                let down = 2.5 + index as f32 * SMALL.leading_pt();
                let mut own = single(line, SMALL, x);
                for item in &mut own.items {
                    if let super::slab::Item::Line { baseline, .. } = item {
                        *baseline += down;
                    }
                }
                slab.items.append(&mut own.items);
            }
        }
        let bottom = slab.height - 0.5;
        slabs.push(slab.filled((0.0, bottom, WIDTH_PT, 0.5), HAIRLINE, 0.0));
    }
    slabs.push(Slab::space(8.0));
    slabs
}

fn checks(faces: &Faces, checks: &[String]) -> Vec<Slab> {
    if checks.is_empty() {
        return Vec::new();
    }
    let mut slabs = heading(faces, "How to check this");
    let style = Style { ink: SOFT, ..BODY };
    for check in checks {
        slabs.extend(paragraph(faces, style, 0.0, WIDTH_PT, check));
        slabs.push(Slab::space(4.0));
    }
    slabs
}
