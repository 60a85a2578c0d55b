//! Splits a text into runs that are shaped alike: one face, one script, one direction, in the order in which they stand.
//!
//! It must never let a text turn the direction of what stands beside it: overrides and embeddings in it count for nothing,
//! so that a name reads as it was written.

use std::ops::Range;

use rustybuzz::{Direction, Script};
use unicode_bidi::{Level, ParagraphBidiInfo};
use unicode_script::{Script as Writing, UnicodeScript};

use crate::faces::{FaceName, Faces};

/// Letters that are shaped together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) face: FaceName,
    pub(crate) text: String,
    pub(crate) writing: Writing,
    pub(crate) is_right_to_left: bool,
}

impl Piece {
    pub(crate) fn direction(&self) -> Direction {
        if self.is_right_to_left { Direction::RightToLeft } else { Direction::LeftToRight }
    }

    /// The script as the shaper names it; none where the letters belong to all.
    pub(crate) fn script(&self) -> Option<Script> {
        let tag = rustybuzz::ttf_parser::Tag::from_bytes(self.writing.short_name().as_bytes().try_into().ok()?);
        let is_known = !matches!(self.writing, Writing::Common | Writing::Inherited | Writing::Unknown);
        Script::from_iso15924_tag(tag).filter(|_| is_known)
    }
}

/// At most so many characters of a text. Line breaks and control characters become spaces, and what only orders letters
/// anew is left out.
pub(crate) fn clean(text: &str, chars_max: usize) -> String {
    let kept = text.chars().filter(|letter| !orders_anew(*letter)).take(chars_max);
    kept.map(|letter| if breaks_a_line(letter) { ' ' } else { letter }).collect()
}

/// A clean text, with the direction in which each part of it is read.
pub(crate) struct Words<'a> {
    text: &'a str,
    /// None where all of it reads from left to right, because it is plain English.
    bidi: Option<ParagraphBidiInfo<'a>>,
}

impl<'a> Words<'a> {
    /// Looks at a text from [`clean`].
    pub(crate) fn of(text: &'a str) -> Self {
        let level = is_address(text).then(Level::ltr);
        Self { text, bidi: (!text.is_ascii()).then(|| ParagraphBidiInfo::new(text, level)) }
    }

    /// Whether the text as a whole reads from right to left, and so stands at the right.
    pub(crate) fn is_right_to_left(&self) -> bool {
        self.bidi.as_ref().is_some_and(|bidi| bidi.paragraph_level.is_rtl())
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// The runs of a part of the text that stands on one line, from left to right.
    pub(crate) fn pieces(&self, faces: &Faces, wanted: FaceName, line: Range<usize>) -> Vec<Piece> {
        if line.is_empty() || self.text.get(line.clone()).is_none() {
            return Vec::new();
        }
        let Some(bidi) = &self.bidi else {
            return split(faces, wanted, self.text.get(line).unwrap_or_default(), false);
        };
        let (levels, runs) = bidi.visual_runs(line);
        let mut pieces = Vec::new();
        for run in runs {
            let is_right_to_left = levels.get(run.start).is_some_and(|level| level.is_rtl());
            let mut split = split(faces, wanted, self.text.get(run).unwrap_or_default(), is_right_to_left);
            if is_right_to_left {
                split.reverse();
            }
            pieces.append(&mut split);
        }
        pieces
    }
}

/// An e-mail address reads from left to right in every script, or its domain would come to stand first.
fn is_address(text: &str) -> bool {
    text.contains('@') && !text.contains(char::is_whitespace)
}

/// True for what would end a line or is no letter at all.
fn breaks_a_line(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// Embeddings, overrides and isolates.
fn orders_anew(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Neighbouring letters of one direction that share a face and a script, in the order of the text.
fn split(faces: &Faces, wanted: FaceName, text: &str, is_right_to_left: bool) -> Vec<Piece> {
    if text.is_ascii() && faces.face(wanted).covers_ascii {
        let has_letters = text.bytes().any(|byte| byte.is_ascii_alphabetic());
        let writing = if has_letters { Writing::Latin } else { Writing::Common };
        return vec![Piece { face: wanted, text: text.to_owned(), writing, is_right_to_left }];
    }
    split_by_letter(faces, wanted, text, is_right_to_left)
}

fn split_by_letter(faces: &Faces, wanted: FaceName, text: &str, is_right_to_left: bool) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for letter in text.chars() {
        let writing = letter.script();
        let is_shared = matches!(writing, Writing::Common | Writing::Inherited);
        match pieces.last_mut() {
            Some(piece) if stays_with_neighbour(letter) => piece.text.push(letter),
            Some(piece)
                if piece.face == faces.for_letter(wanted, letter)
                    && (is_shared || piece.writing == writing || piece.writing == Writing::Common) =>
            {
                piece.text.push(letter);
                if !is_shared {
                    piece.writing = writing;
                }
            }
            _ => pieces.push(Piece {
                face: faces.for_letter(wanted, letter),
                text: letter.to_string(),
                writing: if writing == Writing::Inherited { Writing::Common } else { writing },
                is_right_to_left,
            }),
        }
    }
    pieces
}

/// Spaces, accents that follow their letter, joiners, marks of direction and variation selectors.
pub(crate) fn stays_with_neighbour(letter: char) -> bool {
    matches!(letter, ' ' | '\u{a0}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || joins_the_letter_before(letter)
}

/// What no line may begin with, because it belongs to the letter before.
pub(crate) fn joins_the_letter_before(letter: char) -> bool {
    letter.script() == Writing::Inherited || matches!(letter, '\u{591}'..='\u{5bd}' | '\u{1f3fb}'..='\u{1f3ff}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pieces(wanted: FaceName, text: &str) -> Vec<(FaceName, String)> {
        let clean = clean(text, 1_000);
        let words = Words::of(&clean);
        let pieces = words.pieces(Faces::get().unwrap(), wanted, 0..words.text().len());
        pieces.into_iter().map(|piece| (piece.face, piece.text)).collect()
    }

    fn visual(text: &str) -> Vec<String> {
        pieces(FaceName::Sans, text).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn letters_that_a_face_lacks_come_from_another() {
        use FaceName::{Asian, Sans, Script};
        assert_eq!(pieces(Script, "Anna Шевченко"), [(Script, "Anna ".into()), (Script, "Шевченко".into())]);
        assert_eq!(pieces(Script, "Γιώργος Π"), [(Sans, "Γιώργος Π".into())]);
        assert_eq!(
            pieces(Script, "A\u{301}\n山 B"),
            [(Script, "A\u{301} ".into()), (Asian, "山 ".into()), (Script, "B".into())]
        );
        assert_eq!(pieces(Sans, "홍길동 やまだ"), [(Asian, "홍길동 ".into()), (Asian, "やまだ".into())]);
    }

    #[test]
    fn runs_stand_in_the_order_in_which_they_are_read() {
        assert_eq!(visual("by عمر خيام, x"), ["by ", "عمر خيام", ", x"]);
        // In a text that begins with Hebrew the first word stands at the right, and the number still reads forwards.
        assert_eq!(visual("שלום 123 abc"), ["abc", " ", "123", "שלום "].map(str::to_owned).to_vec());
        assert!(Words::of("שלום abc").is_right_to_left() && !Words::of("abc שלום").is_right_to_left());
    }

    #[test]
    fn plain_text_is_split_as_any_other() {
        let faces = Faces::get().unwrap();
        let texts = ["Ann", " Ann ", "2026-01-01 00:00:00 UTC", "-", "a@b.example (1)", " ", "[Ann] 7x", "~|\\^{"];
        for wanted in [FaceName::Sans, FaceName::Serif, FaceName::SerifBold, FaceName::Script] {
            assert!(faces.face(wanted).covers_ascii);
            for text in texts {
                for is_right_to_left in [false, true] {
                    let by_letter = split_by_letter(faces, wanted, text, is_right_to_left);
                    assert_eq!(split(faces, wanted, text, is_right_to_left), by_letter, "{text}");
                }
            }
        }
    }

    #[test]
    fn an_address_begins_with_its_person() {
        assert_eq!(visual("عمر@example.com"), ["عمر", "@example.com"]);
    }

    #[test]
    fn two_scripts_of_one_direction_are_shaped_apart() {
        assert_eq!(visual("עמר عمر"), ["عمر", "עמר "]);
    }

    #[test]
    fn overrides_do_not_turn_a_name() {
        assert_eq!(visual("\u{202e}evil\u{202c} \u{2066}x\u{2069}"), ["evil x"]);
        assert_eq!(clean("a\r\n\u{2029}b\u{0}", 99), "a   b ");
        assert_eq!(clean("abcdef", 3), "abc");
    }
}
