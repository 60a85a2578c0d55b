//! Breaks a text into lines that fit, where its script lets it break.
//!
//! It must never make a line wider than asked, nor lose a letter without an ellipsis in its place.

use std::ops::Range;

use unicode_linebreak::{BreakOpportunity, linebreaks};

use crate::faces::{FaceName, Faces};
use crate::line::Line;
use crate::runs::{Words, clean, joins_the_letter_before};

/// Lines of one text.
pub(crate) struct Block {
    pub(crate) lines: Vec<Line>,
    /// Whether the text reads from right to left, and so stands at the right.
    pub(crate) is_right_to_left: bool,
    /// Whether all of it is there.
    pub(crate) is_whole: bool,
}

/// How much of a text is laid out, and in how many lines of which width at size 1.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) width_em: f32,
    pub(crate) lines_max: usize,
    pub(crate) chars_max: usize,
}

/// Lays a text out in lines, at its own breaks and where it has to; what has no room is cut with an ellipsis.
pub(crate) fn wrap(faces: &Faces, wanted: FaceName, text: &str, room: Room) -> Block {
    let mut block = Block { lines: Vec::new(), is_right_to_left: false, is_whole: true };
    let shortened = shortened(text, room.chars_max);
    let mut rest = shortened.as_deref().unwrap_or(text);
    while !rest.is_empty() || block.lines.is_empty() {
        let (own, after) = first_line(rest);
        let clean = clean(own, usize::MAX);
        let words = Words::of(&clean);
        block.is_right_to_left |= block.lines.is_empty() && words.is_right_to_left();
        // Most texts fit, and then they are shaped once.
        let end = clean.trim_end().len();
        let whole = Line::of(faces, wanted, &words, 0..end);
        if whole.width_em <= room.width_em && (block.lines.len() + 1 < room.lines_max || after.is_empty()) {
            block.lines.push(whole);
            rest = after;
            continue;
        }
        let ranges = ranges(faces, wanted, &words, room.width_em);
        for (index, range) in ranges.iter().enumerate() {
            let has_more = index + 1 < ranges.len() || !after.is_empty();
            if block.lines.len() + 1 >= room.lines_max && has_more {
                let remaining = clean.get(range.start..).unwrap_or_default();
                block.lines.push(Line::cut(faces, wanted, remaining, room.width_em));
                block.is_whole = false;
                return block;
            }
            block.lines.push(Line::of(faces, wanted, &words, range.clone()));
        }
        rest = after;
    }
    block.is_whole = shortened.is_none();
    block
}

/// A text that is too long, cut and with an ellipsis.
fn shortened(text: &str, chars_max: usize) -> Option<String> {
    let (end, _) = text.char_indices().nth(chars_max)?;
    Some(format!("{}…", text.get(..end).unwrap_or_default()))
}

/// A text up to its first line break, and what comes after.
fn first_line(text: &str) -> (&str, &str) {
    let breaks = |letter: char| matches!(letter, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    match text.find(breaks) {
        Some(at) => {
            let (own, after) = text.split_at(at);
            let after = after.strip_prefix("\r\n").unwrap_or_else(|| {
                let mut letters = after.chars();
                letters.next();
                letters.as_str()
            });
            (own, after)
        }
        None => (text, ""),
    }
}

/// The parts of a text that stand on one line each, without the spaces between them.
fn ranges(faces: &Faces, wanted: FaceName, words: &Words<'_>, width_em: f32) -> Vec<Range<usize>> {
    let text = words.text();
    let trimmed = |range: Range<usize>| {
        let part = text.get(range.clone()).unwrap_or_default();
        range.start..range.start + part.trim_end().len()
    };
    let width = |range: Range<usize>| Line::of(faces, wanted, words, range).width_em;
    let mut found = Vec::new();
    let (mut line, mut line_em, mut start) = (0..0, 0.0, 0);
    let stops =
        linebreaks(text).filter(|(at, kind)| *at > 0 && (*kind == BreakOpportunity::Allowed || *at == text.len()));
    for (stop, _) in stops {
        let (own_em, with_space_em) = (width(trimmed(start..stop)), width(start..stop));
        if line_em + own_em > width_em && !line.is_empty() {
            found.push(trimmed(line.clone()));
            (line, line_em) = (start..start, 0.0);
        }
        line.end = stop;
        line_em += with_space_em;
        // A word that is wider than a line is cut where it must be.
        if line.start == start && own_em > width_em {
            loop {
                let part = trimmed(line.clone());
                let fits = longest(faces, wanted, words, part.clone(), width_em);
                if fits >= part.end {
                    break;
                }
                found.push(line.start..fits);
                line.start = fits;
            }
            line_em = width(line.clone());
        }
        start = stop;
    }
    found.push(trimmed(line));
    found
}

/// Where the longest beginning of a part ends that fits, a letter at least.
fn longest(faces: &Faces, wanted: FaceName, words: &Words<'_>, part: Range<usize>, width_em: f32) -> usize {
    let text = words.text().get(part.clone()).unwrap_or_default();
    let ends = || {
        let starts = text.char_indices().skip(1).filter(|(_, letter)| !joins_the_letter_before(*letter));
        starts.map(|(at, _)| part.start + at).chain([part.end])
    };
    let fits = |end: usize| Line::of(faces, wanted, words, part.start..end).width_em <= width_em;
    // Twice as far each time, so that a long word is not measured as a whole for each of its lines.
    let mut near: Vec<usize> = ends().take(LINE_LETTERS).collect();
    while near.last().is_some_and(|end| *end < part.end && fits(*end)) {
        near = ends().take(near.len() * 2).collect();
    }
    let count = near.partition_point(|end| fits(*end));
    near.get(count.saturating_sub(1)).copied().unwrap_or(part.end)
}

/// As many letters as an ordinary line may have.
const LINE_LETTERS: usize = 64;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wrapped(text: &str, width_em: f32, lines_max: usize) -> (Vec<String>, bool) {
        let faces = Faces::get().unwrap();
        let block = wrap(faces, FaceName::Sans, text, Room { width_em, lines_max, chars_max: 1_000 });
        for line in &block.lines {
            assert!(line.width_em <= width_em + 0.01 || line.text().chars().count() == 1, "{}", line.text());
        }
        (block.lines.iter().map(Line::text).collect(), block.is_whole)
    }

    #[test]
    fn lines_break_between_words_and_where_the_text_says() {
        assert_eq!(wrapped("one two three", 4.0, 9), (vec!["one two".into(), "three".into()], true));
        assert_eq!(wrapped("one\ntwo\r\n\nthree", 9.0, 9).0, ["one", "two", "", "three"]);
        assert_eq!(wrapped("", 9.0, 9), (vec![String::new()], true));
    }

    #[test]
    fn words_without_spaces_break_too() {
        assert_eq!(wrapped("山田太郎様", 2.1, 9).0, ["山田", "太郎", "様"]);
        let (lines, whole) = wrapped("incomprehensibilities", 3.0, 99);
        assert!(whole && lines.len() > 2 && lines.concat() == "incomprehensibilities");
        assert_eq!(wrapped("abc", 0.01, 9).0, ["a", "b", "c"]);
    }

    #[test]
    fn what_has_no_room_ends_with_an_ellipsis() {
        let (lines, whole) = wrapped("one two three four five six", 4.0, 2);
        assert_eq!((lines[0].as_str(), whole), ("one two", false));
        assert!(lines[1].ends_with('…') && lines.len() == 2);
        let (lines, whole) = wrapped("one\ntwo", 9.0, 1);
        assert!(!whole && lines.len() == 1);
    }
}
