//! Text from outside, made harmless: it stays on its line, shows all that it holds and turns nothing around. What remains is
//! still text: whoever writes HTML escapes it.

/// Longest name or subject in a mail, in characters.
const LINE_CHARS_MAX: usize = 200;
/// Longest note in a mail, in characters.
const BLOCK_CHARS_MAX: usize = 10_000;

/// True for what shows nothing and can make text look like another: controls of direction, invisible separators, tags.
/// Joiners stay: scripts and emoji need them.
fn deceives(c: char) -> bool {
    matches!(c,
        '\u{061C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
}

/// True for what ends a line somewhere.
fn breaks(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// As one line, without white space at its ends or twice.
#[must_use]
pub fn line(text: &str) -> String {
    let mut line = String::new();
    let shown = text.chars().filter(|c| !deceives(*c)).map(|c| if breaks(c) { ' ' } else { c });
    for c in shown.skip_while(|c| c.is_whitespace()).take(LINE_CHARS_MAX) {
        if !(c.is_whitespace() && line.ends_with(char::is_whitespace)) {
            line.push(c);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// As lines, which end in `\n` alone.
#[must_use]
pub fn block(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}'], "\n");
    let shown = text.chars().filter(|c| !deceives(*c)).map(|c| if c.is_control() && c != '\n' { ' ' } else { c });
    shown.take(BLOCK_CHARS_MAX).collect::<String>().trim().to_owned()
}

/// Within other words: text written from right to left is kept from turning its neighbours around.
#[must_use]
pub fn isolated(text: &str) -> String {
    let turns = |c: char| {
        matches!(c, '\u{0590}'..='\u{08FF}' | '\u{FB1D}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFF}'
            | '\u{10800}'..='\u{10FFF}' | '\u{1E800}'..='\u{1EFFF}')
    };
    if text.contains(turns) { format!("\u{2068}{text}\u{2069}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t57_what_breaks_lines_or_deceives_does_not_remain() {
        assert_eq!(line("a\r\nBcc: b\0c\u{85}d\u{2028}e\tf"), "a Bcc: b c d e f");
        assert_eq!(line("pay \u{202E}fdp.exe\u{202C}\u{200B}\u{FEFF} now \u{2066}x\u{2069}"), "pay fdp.exe now x");
        assert_eq!(line("  \u{E0041}  "), "");
        assert_eq!(line(&"x".repeat(5_000)).chars().count(), LINE_CHARS_MAX);
        assert_eq!(block(" a\r\nb\rc\u{2029}d\u{202E}\u{7}e "), "a\nb\nc\nd e");
        assert_eq!(block(&"x".repeat(50_000)).chars().count(), BLOCK_CHARS_MAX);
        assert_eq!(line("می\u{200C}خواهم 👩\u{200D}🔬"), "می\u{200C}خواهم 👩\u{200D}🔬", "joiners stay");
    }

    #[test]
    fn only_text_from_right_to_left_is_isolated() {
        assert_eq!(isolated("Zoë & 日本"), "Zoë & 日本");
        assert_eq!(isolated("שלום"), "\u{2068}שלום\u{2069}");
    }
}
