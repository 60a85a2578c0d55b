//! Finds out in which state the content of a page leaves a reader, and what takes it back to where it began.
//!
//! It must never interpret more than that: strings, comments and image data are skipped, unknown operators are fine. Where
//! readers could differ on what is an operator it says so, because what is drawn behind such content might not be seen.

use crate::inspect::Unreadable;
use crate::limits::{CONTENT_DEPTH_MAX, UNBALANCED_MAX};

/// What has to be put around content so that the state after it is the state before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Balance {
    /// Restores in the content that have no save before them: so many saves are needed in front.
    saves_missing: usize,
    /// Saves in the content that are never restored: so many restores are needed behind.
    restores_missing: usize,
    /// What ends the string, the lists, the path, the text and the marked parts in which the content ends.
    ends: Vec<u8>,
}

impl Balance {
    /// What goes in front: one save more than is missing.
    pub(crate) fn before(&self) -> Vec<u8> {
        b"q\n".repeat(self.saves_missing + 1)
    }

    /// What goes behind: the ends of what is open, and one restore more than is missing.
    pub(crate) fn after(&self) -> Vec<u8> {
        [self.ends.as_slice(), &b"Q\n".repeat(self.restores_missing + 1)].concat()
    }
}

/// Follows decoded content to its end.
///
/// # Errors
///
/// [`Unreadable::Broken`] if readers could differ on where it ends, or if it leaves too much open.
pub(crate) fn balance(content: &[u8]) -> Result<Balance, Unreadable> {
    let mut scanner = Scanner { content, at: 0, open: Vec::new(), open_string: Vec::new() };
    let mut state = State::default();
    while let Some(token) = scanner.next_token()? {
        if is_structural(token) && !scanner.open.is_empty() {
            return Err(doubtful());
        }
        if token == b"BI" {
            scanner.skip_image()?;
        } else {
            state.follow(token);
        }
    }
    let State { saves_missing, restores_missing, parts, .. } = state;
    if [saves_missing, restores_missing, parts, scanner.open_string.len()].iter().any(|open| *open > UNBALANCED_MAX) {
        return Err(Unreadable::broken("a page leaves too much of what it draws open"));
    }
    // A comment ends with its line.
    let mut ends = b"\n".to_vec();
    ends.append(&mut scanner.open_string);
    ends.extend(scanner.open.iter().rev().flat_map(|open| open.end()));
    ends.extend_from_slice(&state.ends());
    Ok(Balance { saves_missing, restores_missing, ends })
}

fn doubtful() -> Unreadable {
    Unreadable::broken("readers could differ on what a page draws")
}

/// What operators leave behind them.
#[derive(Default)]
struct State {
    saves_missing: usize,
    restores_missing: usize,
    /// Parts with a mark, which may be the mark of a hidden layer.
    parts: usize,
    is_text: bool,
    /// A path that is not painted yet; to clip by it may be pending, too.
    is_path: bool,
}

impl State {
    fn follow(&mut self, operator: &[u8]) {
        match operator {
            b"q" => self.restores_missing += 1,
            b"Q" if self.restores_missing > 0 => self.restores_missing -= 1,
            b"Q" => self.saves_missing += 1,
            b"BMC" | b"BDC" => self.parts += 1,
            b"EMC" => self.parts = self.parts.saturating_sub(1),
            b"BT" => self.is_text = true,
            b"ET" => self.is_text = false,
            b"m" | b"l" | b"c" | b"v" | b"y" | b"h" | b"re" | b"W" | b"W*" => self.is_path = true,
            b"S" | b"s" | b"f" | b"F" | b"f*" | b"B" | b"B*" | b"b" | b"b*" | b"n" => self.is_path = false,
            _ => {}
        }
    }

    fn ends(&self) -> Vec<u8> {
        let (path, text): (&[u8], &[u8]) =
            (if self.is_path { b"\nn\n" } else { b"" }, if self.is_text { b"\nET\n" } else { b"" });
        [path, text, &b"\nEMC\n".repeat(self.parts)].concat()
    }
}

/// Operators that change in what others stand.
fn is_structural(token: &[u8]) -> bool {
    matches!(token, b"q" | b"Q" | b"BT" | b"ET" | b"BMC" | b"BDC" | b"EMC" | b"BI" | b"ID" | b"EI" | b"Do")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    List,
    Dictionary,
}

impl Open {
    fn end(self) -> &'static [u8] {
        match self {
            Self::List => b"]",
            Self::Dictionary => b">>",
        }
    }
}

struct Scanner<'a> {
    content: &'a [u8],
    at: usize,
    /// The lists that are open where it stands, the innermost last.
    open: Vec<Open>,
    /// What would end the string in which the content ends.
    open_string: Vec<u8>,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.content.get(self.at).copied()
    }

    fn is_twice(&self, byte: u8) -> bool {
        self.content.get(self.at + 1) == Some(&byte)
    }

    /// The next run of regular characters: a number or an operator.
    fn next_token(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        while let Some(byte) = self.peek() {
            match byte {
                b'(' => self.skip_string(),
                b'%' => self.skip_while(|byte| byte != b'\n' && byte != b'\r'),
                // A name, whose letters must not be taken for an operator.
                b'/' => {
                    self.at += 1;
                    self.skip_while(is_regular);
                }
                b'[' => self.opened(Open::List)?,
                b']' => self.closed(Open::List)?,
                b'<' if self.is_twice(b'<') => self.opened(Open::Dictionary)?,
                b'>' if self.is_twice(b'>') => self.closed(Open::Dictionary)?,
                b'<' => self.skip_digits(),
                byte if is_regular(byte) => {
                    let start = self.at;
                    self.skip_while(is_regular);
                    return Ok(Some(&self.content[start..self.at]));
                }
                _ => self.at += 1,
            }
        }
        Ok(None)
    }

    fn opened(&mut self, what: Open) -> Result<(), Unreadable> {
        self.at += what.end().len();
        self.open.push(what);
        if self.open.len() > CONTENT_DEPTH_MAX { Err(doubtful()) } else { Ok(()) }
    }

    /// What closes nothing is skipped; what closes another thing than is open is doubtful.
    fn closed(&mut self, what: Open) -> Result<(), Unreadable> {
        self.at += what.end().len();
        if self.open.pop().is_some_and(|open| open != what) { Err(doubtful()) } else { Ok(()) }
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn skip_string(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'\\' => self.at += 1,
                b'(' => depth += 1,
                b')' if depth <= 1 => return,
                b')' => depth -= 1,
                _ => {}
            }
        }
        self.open_string = b")".repeat(depth);
    }

    /// Skips a string of hexadecimal digits.
    fn skip_digits(&mut self) {
        self.skip_while(|byte| byte != b'>');
        match self.peek() {
            Some(_) => self.at += 1,
            None => self.open_string = b">".to_vec(),
        }
    }

    /// Skips an image in the content: what it is, `ID`, its data, `EI`.
    fn skip_image(&mut self) -> Result<(), Unreadable> {
        while let Some(token) = self.next_token()? {
            match token {
                b"ID" if self.open.is_empty() => return self.skip_image_data(),
                _ if is_structural(token) => break,
                _ => {}
            }
        }
        Err(doubtful())
    }

    /// Skips to behind the `EI` that stands alone between white space.
    fn skip_image_data(&mut self) -> Result<(), Unreadable> {
        let data = &self.content[self.at..];
        let is_end = |at: usize| {
            is_space(data[at])
                && data[at + 1..].starts_with(b"EI")
                && data.get(at + 3).is_none_or(|byte| !is_regular(*byte))
        };
        let end = (0..data.len()).find(|at| is_end(*at)).ok_or_else(doubtful)?;
        self.at += end + 3;
        // Readers that go by other signs may end the image earlier: then a part would begin in it.
        let begins_part = |word: &[u8]| word == b"BDC" || word == b"BMC";
        if data[..end].split(|byte| is_space(*byte)).any(begins_part) { Err(doubtful()) } else { Ok(()) }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b'\0' | b'\t' | b'\n' | b'\x0c' | b'\r' | b' ')
}

fn is_regular(byte: u8) -> bool {
    !is_space(byte) && !matches!(byte, b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn counted(content: &[u8]) -> (usize, usize) {
        let found = balance(content).unwrap();
        (found.saves_missing, found.restores_missing)
    }

    fn ends(content: &str) -> String {
        let found = String::from_utf8(balance(content.as_bytes()).unwrap().ends).unwrap();
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn saves_and_restores_are_counted() {
        assert_eq!(counted(b""), (0, 0));
        assert_eq!(counted(b"q 1 0 0 1 0 0 cm Q"), (0, 0));
        assert_eq!(counted(b"q q[1]0 d Q"), (0, 1));
        assert_eq!(counted(b"Q Q q"), (2, 1));
        let around = balance(b"Q q q").unwrap();
        assert_eq!((around.before(), around.after()), (b"q\nq\n".to_vec(), b"\nQ\nQ\nQ\n".to_vec()));
    }

    #[test]
    fn what_only_looks_like_an_operator_is_skipped() {
        assert_eq!(counted(b"(q \\) q (q) q) Tj /q gs % q q\n<71> Tj qQ"), (0, 0));
        assert_eq!(counted(b"BI /W 1 /D[1 0] ID q q EIq q\nEI Q"), (1, 0));
        assert_eq!(counted(b"(never closed q"), (0, 0));
        assert_eq!(counted(b"ID q EI"), (0, 1), "no image has begun");
    }

    #[test]
    fn what_is_open_is_ended() {
        for (content, expected) in [
            ("0 g 0 0 9 9 re f", ""),
            ("(a (b) c", ")"),
            ("((a\\)", "))"),
            ("<41", ">"),
            ("[(a) << /A [1", "]>>]"),
            ("[(a", ")]"),
            ("BT (a) Tj", "ET"),
            ("BT (a) Tj ET 0 0 m 9 9 l W", "n"),
            ("/OC /Off BDC /A BMC /B <</C 1>> BDC EMC", "EMC EMC"),
            ("EMC EMC /A BMC", "EMC"),
            ("] >> ) }", ""),
        ] {
            assert_eq!(ends(content), expected, "{content}");
        }
        assert!(balance(b"0 g % no end").unwrap().after().starts_with(b"\n"));
    }

    #[test]
    fn what_readers_could_take_for_different_things_is_refused() {
        for content in [
            "[1 2 Q",
            "[ >> (a) ]",
            "<</A [ >>",
            "/A <</B /C EMC >> BDC",
            "BI /W 1",
            "BI /W 1 Q ID x EI",
            "BI ID q q q",
            "BI ID x /OC /Off BDC y\nEI",
        ] {
            assert!(balance(content.as_bytes()).is_err(), "{content}");
        }
        for deep in ["[", "<<", "q ", "Q ", "/A BMC ", "("] {
            assert!(balance(deep.repeat(UNBALANCED_MAX + 1).as_bytes()).is_err(), "{deep}");
            assert!(balance(deep.repeat(CONTENT_DEPTH_MAX).as_bytes()).is_ok(), "{deep}");
        }
    }
}
