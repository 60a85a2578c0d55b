//! Follows the chain of cross-reference sections of a file as it is written.
//!
//! It must never follow a chain that loops, nor take text of a page for a section.

use std::collections::HashSet;

/// How many sections a chain may have; a longer one is taken for hybrid, so that the file is written anew.
const SECTIONS_MAX: usize = 1_024;
/// How long the dictionary of a section may be.
const DICTIONARY_BYTES_MAX: usize = 64 * 1024;
const ENTRY_BYTES: usize = 20;

/// Whether a section of the chain that begins at `start` also names a cross-reference stream. Some readers follow it and
/// others do not, so nobody can say what such a file shows after an update. A chain that cannot be followed is one, too.
pub(super) fn any_is_hybrid(file: &[u8], start: usize) -> bool {
    chain(file, start).is_none_or(|sections| sections.iter().any(|section| section.is_hybrid))
}

/// Whether the chain has that many sections, and none of them says of one object twice where it is. Some readers take the
/// first word for it and others the last.
pub(crate) fn each_names_once(file: &[u8], start: usize, sections: usize) -> bool {
    chain(file, start).is_some_and(|found| found.len() == sections && found.iter().all(|section| section.names_once))
}

/// The sections from the last to the first, or none if they cannot be followed.
fn chain(file: &[u8], start: usize) -> Option<Vec<Section>> {
    let (mut sections, mut seen) = (Vec::new(), HashSet::new());
    let mut next = Some(start);
    while let Some(start) = next {
        if seen.len() == SECTIONS_MAX || !seen.insert(start) {
            return None;
        }
        let section = section(file, start)?;
        next = section.previous;
        sections.push(section);
    }
    Some(sections)
}

struct Section {
    is_hybrid: bool,
    names_once: bool,
    previous: Option<usize>,
}

/// The first of some numbers in a row, and how many they are.
type Row = (usize, usize);

fn section(file: &[u8], start: usize) -> Option<Section> {
    let section = file.get(start..)?;
    let (dictionary, end, rows): (&[u8], &[u8], _) = match section.strip_prefix(b"xref") {
        Some(table) => {
            let (dictionary, rows) = behind_entries(table)?;
            (dictionary, b"startxref", Some(rows))
        }
        None => (section, b"stream", None),
    };
    let reach = &dictionary[..dictionary.len().min(DICTIONARY_BYTES_MAX)];
    let dictionary = &reach[..find(reach, end)?];
    let previous = match find(dictionary, b"/Prev") {
        Some(at) => Some(number(trimmed(&dictionary[at + b"/Prev".len()..]))?.0),
        None => None,
    };
    let rows = rows.or_else(|| indexed(dictionary));
    let names_once = count(dictionary, b"/Prev") <= 1 && rows.is_some_and(are_apart);
    Some(Section { is_hybrid: find(dictionary, b"/XRefStm").is_some(), names_once, previous })
}

/// What follows the entries of a table, and the rows of entries.
fn behind_entries(table: &[u8]) -> Option<(&[u8], Vec<Row>)> {
    let (mut rest, mut rows) = (trimmed(table), Vec::new());
    while !rest.starts_with(b"trailer") {
        let (first, after) = number(rest)?;
        let (entries, after) = number(trimmed(after))?;
        rows.push((first, entries));
        rest = trimmed(trimmed(after).get(entries.checked_mul(ENTRY_BYTES)?.saturating_sub(1)..)?);
    }
    Some((rest, rows))
}

/// The rows that the dictionary of a stream lists; none where they could be written in a way that is not understood here.
fn indexed(dictionary: &[u8]) -> Option<Vec<Row>> {
    const INDEX: &[u8] = b"/Index";
    let could_be_text = dictionary.iter().any(|byte| matches!(byte, b'(' | b'%' | b'#'));
    if could_be_text || !dictionary.trim_ascii_end().ends_with(b">>") || count(dictionary, INDEX) > 1 {
        return None;
    }
    let Some(at) = find(dictionary, INDEX) else { return Some(Vec::new()) };
    let mut rest = trimmed(trimmed(&dictionary[at + INDEX.len()..]).strip_prefix(b"[")?);
    let mut rows = Vec::new();
    while !rest.starts_with(b"]") {
        let (first, after) = number(rest)?;
        let (entries, after) = number(trimmed(after))?;
        rows.push((first, entries));
        rest = trimmed(after);
    }
    Some(rows)
}

fn are_apart(mut rows: Vec<Row>) -> bool {
    rows.sort_unstable();
    rows.windows(2).all(|pair| matches!(pair, [(first, entries), (next, _)] if first.saturating_add(*entries) <= *next))
}

fn count(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|window| *window == word).count()
}

fn number(text: &[u8]) -> Option<(usize, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    Some((number, &text[digits..]))
}

fn trimmed(text: &[u8]) -> &[u8] {
    text.trim_ascii_start()
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "xref\n0 2\n0000000000 65535 f \n0000000009 00000 n \ntrailer\n<</Size 2";

    fn linked(first: &str, second: &str) -> (Vec<u8>, usize) {
        let first = format!("%PDF-1.4\n{TABLE}{first}>>\nstartxref\n9\n%%EOF\n");
        let start = first.len();
        (format!("{first}{TABLE}{second}>>\nstartxref\n{start}\n%%EOF\n").into_bytes(), start)
    }

    #[test]
    fn a_hybrid_section_is_found_wherever_it_is_in_the_chain() {
        for (first, second, hybrid) in [
            ("", "/Prev 9", false),
            ("/XRefStm 3", "/Prev 9", true),
            ("", "/Prev 9/XRefStm 3", true),
            ("/XRefStm 3", "", false),
        ] {
            let (file, start) = linked(first, second);
            assert_eq!(any_is_hybrid(&file, start), hybrid, "{first} {second}");
        }
    }

    #[test]
    fn a_chain_that_loops_or_breaks_is_not_continued() {
        let (file, start) = linked("/Prev 9", "/Prev 9");
        assert!(any_is_hybrid(&file, start));
        let (file, start) = linked("", "/Prev 11");
        assert!(any_is_hybrid(&file, start));
        assert!(any_is_hybrid(&file, file.len() + 7));
    }

    #[test]
    fn a_section_that_names_a_number_twice_is_found() {
        let table = |rows: &str| {
            let entry = "0000000009 00000 n \n";
            let rows: String = rows.split(' ').map(|first| format!("{first} 1\n{entry}")).collect();
            format!("%PDF-1.4\nxref\n{rows}trailer\n<</Size 9>>\nstartxref\n9\n%%EOF\n").into_bytes()
        };
        let stream = |entries: &str| format!("%PDF-1.4\n1 0 obj\n<</Type/XRef{entries}>>\nstream\n").into_bytes();
        for (file, names_once) in [
            (table("0 1 2"), true),
            (table("2 0 1"), true),
            (table("1 2 1"), false),
            (stream(""), true),
            (stream("/Index[0 3 3 1]"), true),
            (stream("/Index[0 3 2 1]"), false),
            (stream("/Index[0 3]/Index[4 1]"), false),
            (stream("/Index 7 0 R"), false),
            (stream("/Inde#78[0 3 2 1]"), false),
            (stream("/X(>>stream)/Index[0 3 2 1]"), false),
        ] {
            assert_eq!(each_names_once(&file, 9, 1), names_once, "{}", String::from_utf8_lossy(&file));
        }
        let (file, start) = linked("", "/Prev 9");
        assert!(each_names_once(&file, start, 2) && !each_names_once(&file, start, 1));
        let (file, start) = linked("", "/Prev 9/Prev 9");
        assert!(!each_names_once(&file, start, 2));
    }

    #[test]
    fn the_name_in_a_page_makes_no_hybrid() {
        let (mut file, start) = linked("", "/Prev 9");
        file.extend_from_slice(b"(see /XRefStm)");
        assert!(!any_is_hybrid(&file, start));
    }
}
