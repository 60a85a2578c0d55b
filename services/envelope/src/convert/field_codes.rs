//! Fields in a text of Word: instructions such as PAGE, some of which fetch files. Those that are not known to be harmless lose
//! their instruction; what they last showed stays.
//!
//! An instruction may be split into any number of runs, so a text is read once for them before it is written.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::docx::Flaw;
use super::xml::{local, unescaped};

/// Length of an instruction that is looked at, in bytes; longer ones are not harmless.
const CODE_BYTES_MAX: usize = 64 * 1024;
/// How deep fields may stand in one another.
const NESTED_MAX: usize = 100;
/// Fields that take nothing from outside.
const HARMLESS: [&str; 52] = [
    "=",
    "ADDIN",
    "ADVANCE",
    "AUTHOR",
    "AUTONUM",
    "AUTONUMLGL",
    "AUTONUMOUT",
    "BIBLIOGRAPHY",
    "BOOKMARK",
    "CITATION",
    "COMMENTS",
    "COMPARE",
    "CREATEDATE",
    "DATE",
    "DOCPROPERTY",
    "DOCVARIABLE",
    "EDITTIME",
    "EQ",
    "FORMCHECKBOX",
    "FORMDROPDOWN",
    "FORMTEXT",
    "HYPERLINK",
    "IF",
    "INDEX",
    "KEYWORDS",
    "LASTSAVEDBY",
    "LISTNUM",
    "MERGEFIELD",
    "NOTEREF",
    "NUMCHARS",
    "NUMPAGES",
    "NUMWORDS",
    "PAGE",
    "PAGEREF",
    "PRINTDATE",
    "QUOTE",
    "REF",
    "REVNUM",
    "SAVEDATE",
    "SECTION",
    "SECTIONPAGES",
    "SEQ",
    "SET",
    "STYLEREF",
    "SUBJECT",
    "SYMBOL",
    "TA",
    "TC",
    "TIME",
    "TITLE",
    "TOC",
    "XE",
];

/// True for instructions that take nothing from outside.
pub(super) fn is_harmless(code: &str) -> bool {
    let word: String =
        code.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '=').collect();
    let word = if word.starts_with('=') { "=".to_owned() } else { word.to_ascii_uppercase() };
    code.len() <= CODE_BYTES_MAX && HARMLESS.contains(&word.as_str())
}

/// The fields of one part, in the order in which they begin.
pub(super) struct Fields {
    /// By number: whether it is harmless.
    harmless: Vec<bool>,
    begun: usize,
    /// Those that are open, innermost last: number, and whether the instruction is over.
    open: Vec<(usize, bool)>,
    in_code: bool,
}

impl Fields {
    /// Of which that is known.
    pub(super) fn of(harmless: Vec<bool>) -> Self {
        Self { harmless, begun: 0, open: Vec::new(), in_code: false }
    }

    /// Reads which are harmless.
    pub(super) fn read(text: &str) -> Result<Vec<bool>, Flaw> {
        let (mut fields, mut codes) = (Self::of(Vec::new()), Vec::<String>::new());
        let mut reader = Reader::from_str(text);
        loop {
            let event = reader.read_event().map_err(|_| Flaw::Damaged)?;
            fields.see(&event)?;
            codes.resize_with(fields.begun, String::new);
            let said: &str = match &event {
                Event::Eof => return Ok(codes.iter().map(|code| is_harmless(code)).collect()),
                Event::Text(said) => said,
                Event::CData(said) => said,
                // A character by its number: no instruction that is harmless needs that.
                Event::GeneralRef(_) => "\u{fffd}",
                _ => continue,
            };
            if let Some((number, false)) = fields.open.last()
                && fields.in_code
                && let Some(code) = codes.get_mut(*number)
                && code.len() <= CODE_BYTES_MAX
            {
                code.push_str(said);
            }
        }
    }

    /// Goes on by one event.
    pub(super) fn see(&mut self, event: &Event<'_>) -> Result<(), Flaw> {
        match event {
            Event::Start(element) | Event::Empty(element) if local(element) == "fldChar" => self.mark(element)?,
            Event::Start(element) if is_code(local(element)) => self.in_code = true,
            Event::End(element) => {
                let name: &str = element.name().into_inner();
                if is_code(name.rsplit(':').next().unwrap_or_default()) {
                    self.in_code = false;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn mark(&mut self, element: &BytesStart<'_>) -> Result<(), Flaw> {
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|_| Flaw::Damaged)?;
            if !attribute.key.as_ref().ends_with("fldCharType") {
                continue;
            }
            match unescaped(&attribute)?.as_str() {
                "begin" => {
                    self.open.push((self.begun, false));
                    self.begun += 1;
                }
                "separate" => {
                    if let Some((_, over)) = self.open.last_mut() {
                        *over = true;
                    }
                }
                _ => drop(self.open.pop()),
            }
        }
        if self.open.len() > NESTED_MAX { Err(Flaw::Nested) } else { Ok(()) }
    }

    /// True for an instruction that is to be left out: not of a harmless field, or of none.
    pub(super) fn hides(&self) -> bool {
        let harmless = |number: &usize| self.harmless.get(*number).copied().unwrap_or_default();
        self.in_code && !self.open.last().is_some_and(|(number, _)| harmless(number))
    }
}

fn is_code(name: &str) -> bool {
    matches!(name, "instrText" | "delInstrText")
}
