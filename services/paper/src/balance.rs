//! Counts how page content saves and restores the graphics state.
//!
//! It must never interpret more than that: strings, comments and image data are skipped, unknown operators are fine.

/// What has to be put around content so that the state after it is the state before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Balance {
    /// Restores in the content that have no save before them: so many saves are needed in front.
    pub(crate) saves_missing: usize,
    /// Saves in the content that are never restored: so many restores are needed behind.
    pub(crate) restores_missing: usize,
}

/// Counts the `q` and `Q` operators of decoded content.
pub(crate) fn balance(content: &[u8]) -> Balance {
    let mut found = Balance::default();
    let mut scanner = Scanner { content, at: 0 };
    while let Some(token) = scanner.next_token() {
        match token {
            b"q" => found.restores_missing += 1,
            b"Q" if found.restores_missing > 0 => found.restores_missing -= 1,
            b"Q" => found.saves_missing += 1,
            b"ID" => scanner.skip_image_data(),
            _ => {}
        }
    }
    found
}

struct Scanner<'a> {
    content: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.content.get(self.at).copied()
    }

    /// The next run of regular characters: a number, a name or an operator.
    fn next_token(&mut self) -> Option<&'a [u8]> {
        loop {
            match self.peek()? {
                b'(' => self.skip_string(),
                b'%' => self.skip_while(|byte| byte != b'\n' && byte != b'\r'),
                // A name, whose letters must not be taken for an operator.
                b'/' => {
                    self.at += 1;
                    self.skip_while(is_regular);
                }
                byte if is_regular(byte) => break,
                _ => self.at += 1,
            }
        }
        let start = self.at;
        self.skip_while(is_regular);
        Some(&self.content[start..self.at])
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
    }

    /// Skips to behind the `EI` that stands alone between white space.
    fn skip_image_data(&mut self) {
        while self.at < self.content.len() {
            let rest = &self.content[self.at..];
            let ends_here = rest.len() >= 3 && is_space(rest[0]) && rest[1..].starts_with(b"EI");
            if ends_here && rest.get(3).is_none_or(|byte| !is_regular(*byte)) {
                self.at += 3;
                return;
            }
            self.at += 1;
        }
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
    use super::*;

    fn counted(content: &[u8]) -> (usize, usize) {
        let found = balance(content);
        (found.saves_missing, found.restores_missing)
    }

    #[test]
    fn saves_and_restores_are_counted() {
        assert_eq!(counted(b""), (0, 0));
        assert_eq!(counted(b"q 1 0 0 1 0 0 cm Q"), (0, 0));
        assert_eq!(counted(b"q q[1]0 d Q"), (0, 1));
        assert_eq!(counted(b"Q Q q"), (2, 1));
    }

    #[test]
    fn what_only_looks_like_an_operator_is_skipped() {
        assert_eq!(counted(b"(q \\) q (q) q) Tj /q gs % q q\n<71> Tj qQ"), (0, 0));
        assert_eq!(counted(b"BI /W 1 ID q q EIq q\nEI Q"), (1, 0));
        assert_eq!(counted(b"(never closed q"), (0, 0));
        assert_eq!(counted(b"BI ID q q q"), (0, 0));
    }
}
