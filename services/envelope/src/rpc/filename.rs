//! Names of files for people: what a sender called a document, made safe for any file system and any header.
//!
//! Must never let through what names another folder, ends a header or turns the reading direction.

use std::collections::BTreeSet;

/// Bytes of a name: file systems take 255, and people put something before or behind it.
const NAME_BYTES_MAX: usize = 200;
/// What a document's own name may end with.
const KNOWN: [&str; 3] = [".pdf", ".docx", ".doc"];
/// What Windows takes for devices, whatever follows after a dot.
const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];

/// The name of a file made of a document of that name.
pub(super) fn file_name(document: &str, mark: &str, extension: &str) -> String {
    let ending = format!("{mark}.{extension}");
    let stem = without_extension(document.trim());
    let safe: String = stem.chars().filter(|c| !is_invisible(*c)).map(|c| if is_odd(c) { '_' } else { c }).collect();
    let safe = safe.trim().trim_matches('.').trim();
    let room = NAME_BYTES_MAX - ending.len().min(NAME_BYTES_MAX / 2);
    let cut: String = safe.char_indices().take_while(|(at, c)| at + c.len_utf8() <= room).map(|(_, c)| c).collect();
    let cut = cut.trim_end_matches(['.', ' ']);
    match cut {
        "" => format!("document{ending}"),
        device if is_device(device) => format!("_{device}{ending}"),
        name => format!("{name}{ending}"),
    }
}

/// The names of files that come together: those that a file system could take for one another are numbered.
pub(super) fn distinct(names: Vec<String>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let numbered = |name: String| {
        if taken.insert(name.to_lowercase()) {
            return name;
        }
        let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
        let mut free = (2_u32..).map(|number| format!("{stem} ({number}).{extension}"));
        free.find(|other| taken.insert(other.to_lowercase())).unwrap_or_default()
    };
    names.into_iter().map(numbered).collect()
}

fn without_extension(name: &str) -> &str {
    let ending = |known: &&str| {
        name.len() > known.len()
            && name.is_char_boundary(name.len() - known.len())
            && name.get(name.len() - known.len()..).is_some_and(|end| end.eq_ignore_ascii_case(known))
    };
    KNOWN.iter().find(|known| ending(known)).and_then(|known| name.get(..name.len() - known.len())).unwrap_or(name)
}

fn is_odd(c: char) -> bool {
    c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '%' | ';')
}

/// What is not seen, and what turns the reading direction: with it, `fdp.exe` reads as something else.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

fn is_device(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default().trim().to_ascii_uppercase();
    let numbered = |device: &str| {
        first.strip_prefix(device).is_some_and(|number| number.len() == 1 && number.bytes().all(|b| b.is_ascii_digit()))
    };
    DEVICES.contains(&first.as_str()) || numbered("COM") || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_what_people_called_them() {
        for (document, mark, name) in [
            ("nda.pdf", "", "nda.pdf"),
            ("NDA.PDF", "-signed", "NDA-signed.pdf"),
            ("Vertrag Müller & Söhne.docx", "-signed", "Vertrag Müller & Söhne-signed.pdf"),
            ("契約書", "-declined", "契約書-declined.pdf"),
            ("v1.2 final", "", "v1.2 final.pdf"),
            (".pdf", "", "pdf.pdf"),
            ("..", "", "document.pdf"),
            ("../../etc/passwd", "", "_.._etc_passwd.pdf"),
            ("a\"b\r\nSet-Cookie: x;y", "", "a_b__Set-Cookie_ x_y.pdf"),
            ("con", "", "_con.pdf"),
            ("LPT1.pdf", "", "_LPT1.pdf"),
            ("cont", "", "cont.pdf"),
            ("exe.\u{202e}fdp", "", "exe.fdp.pdf"),
        ] {
            assert_eq!(file_name(document, mark, "pdf"), name, "{document:?}");
        }
    }

    #[test]
    fn the_same_name_comes_once() {
        let names = ["a.pdf", "A.pdf", "a (2).pdf", "a.pdf", "b.pdf"].map(str::to_owned).to_vec();
        assert_eq!(distinct(names), ["a.pdf", "A (2).pdf", "a (2) (2).pdf", "a (3).pdf", "b.pdf"]);
    }

    proptest! {
        #[test]
        fn no_name_is_unsafe(document in "\\PC{0,300}|[\\x00-\\x7f]{0,300}", mark in prop::sample::select(vec!["", "-signed"])) {
            let name = file_name(&document, mark, "pdf");
            prop_assert!(name.len() <= NAME_BYTES_MAX && name.ends_with(&format!("{mark}.pdf")), "{name:?}");
            prop_assert!(!name.starts_with('.') && !name.starts_with(' '), "{name:?}");
            prop_assert!(!name.chars().any(|c| is_odd(c) || is_invisible(c)), "{name:?}");
        }
    }
}
