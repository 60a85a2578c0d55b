//! Fields in a text of Word: instructions such as PAGE, some of which fetch files. Those that are not known to be harmless lose
//! their instruction; what they last showed stays.
//!
//! Must never see another instruction than the program that reads the file afterwards: whatever that might pass over, or take
//! for a part of an instruction, is left out where one stands.

use super::docx::Flaw;
use super::xml::{is_link, leads_out};

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

/// Elements in which runs stand, and what stands in them. All else shows nothing within an instruction.
const STRUCTURE: [&str; 23] = [
    "bookmarkEnd",
    "bookmarkStart",
    "del",
    "fldChar",
    "hyperlink",
    "ins",
    "instrText",
    "moveFrom",
    "moveTo",
    "p",
    "permEnd",
    "permStart",
    "proofErr",
    "r",
    "sdt",
    "sdtContent",
    "sdtEndPr",
    "smartTag",
    "sectPr",
    "tbl",
    "tblGrid",
    "tc",
    "tr",
];
/// Elements that say how something looks, or what a form field offers.
const PROPERTIES: [&str; 9] = ["ffData", "pPr", "rPr", "sdtPr", "smartTagPr", "tblPr", "tblPrEx", "tcPr", "trPr"];

/// True for instructions that take nothing from outside.
pub(super) fn is_harmless(code: &str) -> bool {
    let word: String =
        code.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '=').collect();
    let word = if word.starts_with('=') { "=".to_owned() } else { word.to_ascii_uppercase() };
    let leads_well = word != "HYPERLINK" || links_well(code);
    code.len() <= CODE_BYTES_MAX && HARMLESS.contains(&word.as_str()) && leads_well
}

/// True for a link that leads within the text, or to where links may lead.
fn links_well(code: &str) -> bool {
    let quote = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\u{201c}' | '\u{201d}');
    let mut words = code.split(quote).filter(|word| !word.is_empty()).skip(1);
    let begins = words.clone().next().is_some_and(|word| is_link(word) || word.len() == 2 && word.starts_with('\\'));
    begins && words.all(|word| is_link(word) || !leads_out(word))
}

/// What marks the parts of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Begin,
    Separate,
    End,
}

/// An element, as far as fields have to do with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// Without its prefix.
    pub name: &'a str,
    /// Whether it is one of Word's own.
    pub is_word: bool,
    /// Of a `fldChar`.
    pub mark: Option<Mark>,
}

/// Where in its fields a reader of a text is.
#[derive(Debug, Default)]
pub(super) struct Place {
    begun: usize,
    /// Those that are open, innermost last: number, and whether the instruction is over.
    open: Vec<(usize, bool)>,
    /// Elements that are open from an `instrText` on.
    text: usize,
    /// Elements that are open from one of the properties on, within an instruction.
    aside: usize,
}

impl Place {
    fn is_in_instruction(&self) -> bool {
        self.open.iter().any(|(_, over)| !over)
    }

    /// Whether an element may stand here.
    pub(super) fn takes(&self, seen: Seen<'_>) -> bool {
        let of_field = matches!(seen.name, "fldChar" | "instrText");
        if !self.is_in_instruction() {
            return seen.is_word || !of_field;
        }
        let known = STRUCTURE.contains(&seen.name) || PROPERTIES.contains(&seen.name);
        seen.is_word && if self.aside > 0 { !of_field } else { known }
    }

    /// Goes on by an element that begins.
    pub(super) fn begin(&mut self, seen: Seen<'_>, is_empty: bool) -> Result<(), Flaw> {
        let is_aside = self.aside > 0 || self.is_in_instruction() && PROPERTIES.contains(&seen.name);
        let is_text = self.text > 0 || seen.name == "instrText";
        match seen.mark {
            Some(Mark::Begin) => {
                self.open.push((self.begun, false));
                self.begun += 1;
            }
            Some(Mark::Separate) => self.open.last_mut().into_iter().for_each(|(_, over)| *over = true),
            Some(Mark::End) => drop(self.open.pop()),
            None => {}
        }
        if !is_empty {
            self.aside += usize::from(is_aside);
            self.text += usize::from(is_text);
        }
        if self.open.len() > NESTED_MAX { Err(Flaw::Nested) } else { Ok(()) }
    }

    /// Goes on by an element that ends.
    pub(super) fn end(&mut self) {
        self.aside = self.aside.saturating_sub(1);
        self.text = self.text.saturating_sub(1);
    }

    /// Whether text may stand here: in an instruction as its words alone.
    pub(super) fn takes_text(&self) -> bool {
        if self.text > 0 { self.instruction().is_some() } else { self.aside > 0 || !self.is_in_instruction() }
    }

    /// The number of the field whose instruction's words stand here.
    pub(super) fn instruction(&self) -> Option<usize> {
        self.open.last().filter(|(_, over)| self.text > 0 && !over).map(|(number, _)| *number)
    }
}

/// The instructions of one part, in the order in which their fields begin.
#[derive(Debug, Default)]
pub(super) struct Codes(Vec<String>);

impl Codes {
    /// Adds words.
    pub(super) fn add(&mut self, number: usize, said: &str) {
        if self.0.len() <= number {
            self.0.resize_with(number + 1, String::new);
        }
        if let Some(code) = self.0.get_mut(number)
            && code.len() <= CODE_BYTES_MAX
        {
            code.push_str(said);
        }
    }

    /// By number: whether it is harmless.
    pub(super) fn harmless(&self) -> Vec<bool> {
        self.0.iter().map(|code| is_harmless(code)).collect()
    }
}
