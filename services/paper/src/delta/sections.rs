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
    let mut seen = HashSet::new();
    let mut next = Some(start);
    while let Some(start) = next {
        if seen.len() == SECTIONS_MAX || !seen.insert(start) {
            return true;
        }
        match section(file, start) {
            Some(section) if !section.is_hybrid => next = section.previous,
            _ => return true,
        }
    }
    false
}

struct Section {
    is_hybrid: bool,
    previous: Option<usize>,
}

fn section(file: &[u8], start: usize) -> Option<Section> {
    let section = file.get(start..)?;
    let (dictionary, end): (&[u8], &[u8]) = match section.strip_prefix(b"xref") {
        Some(table) => (behind_entries(table)?, b"startxref"),
        None => (section, b"stream"),
    };
    let reach = &dictionary[..dictionary.len().min(DICTIONARY_BYTES_MAX)];
    let dictionary = &reach[..find(reach, end)?];
    let previous = match find(dictionary, b"/Prev") {
        Some(at) => Some(number(trimmed(&dictionary[at + b"/Prev".len()..]))?.0),
        None => None,
    };
    Some(Section { is_hybrid: find(dictionary, b"/XRefStm").is_some(), previous })
}

/// What follows the entries of a table.
fn behind_entries(table: &[u8]) -> Option<&[u8]> {
    let mut rest = trimmed(table);
    while !rest.starts_with(b"trailer") {
        let (_, after) = number(rest)?;
        let (entries, after) = number(trimmed(after))?;
        rest = trimmed(trimmed(after).get(entries.checked_mul(ENTRY_BYTES)?.saturating_sub(1)..)?);
    }
    Some(rest)
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

    fn chain(first: &str, second: &str) -> (Vec<u8>, usize) {
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
            let (file, start) = chain(first, second);
            assert_eq!(any_is_hybrid(&file, start), hybrid, "{first} {second}");
        }
    }

    #[test]
    fn a_chain_that_loops_or_breaks_is_not_continued() {
        let (file, start) = chain("/Prev 9", "/Prev 9");
        assert!(any_is_hybrid(&file, start));
        let (file, start) = chain("", "/Prev 11");
        assert!(any_is_hybrid(&file, start));
        assert!(any_is_hybrid(&file, file.len() + 7));
    }

    #[test]
    fn the_name_in_a_page_makes_no_hybrid() {
        let (mut file, start) = chain("", "/Prev 9");
        file.extend_from_slice(b"(see /XRefStm)");
        assert!(!any_is_hybrid(&file, start));
    }
}
