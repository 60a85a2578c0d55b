//! The certificate: pages that say what was signed or refused, by whom, when and from where, and how to check it.
//!
//! It must never know where its words come from: they are laid out as they are, in any script, on as many pages as needed.

mod flow;
mod sections;
mod slab;

use krilla::metadata::Metadata;

use crate::apply::StampError;
use crate::faces::Faces;
use crate::overlay::{self, Sheet};
use crate::stamp::MarkContent;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// In whose name it is given: a brand or an account.
    pub issuer: String,
    /// Such as "Certificate of completion".
    pub title: String,
    /// What the envelope is about.
    pub subject: String,
    /// One word on how it ended.
    pub outcome: Mood,
    /// The envelope's id; it stands on every page.
    pub reference: String,
    /// What there is to know about the envelope.
    pub facts: Vec<Fact>,
    /// Why it was refused, or ended otherwise.
    pub reason: Option<Reason>,
    /// Its documents.
    pub documents: Vec<Listed>,
    /// Its people.
    pub people: Vec<Party>,
    /// What happened, in order.
    pub history: Vec<Step>,
    /// What the history comes to: its length and its last hash.
    pub chain: Vec<Fact>,
    /// How to check it, a paragraph each.
    pub checks: Vec<String>,
    /// A word in the top margin of every page, such as "TEST".
    pub note: Option<String>,
}

/// A short word in the colour of what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mood {
    /// The word.
    pub word: String,
    /// What it means.
    pub tone: Tone,
}

/// What a word means for who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is done.
    Good,
    /// It was refused.
    Bad,
    /// Neither.
    Plain,
}

/// A word and what it is for this envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub label: String,
    /// Its value, in as many lines as it takes.
    pub value: String,
}

/// Somebody's words, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Whose and when, such as "Refused by … on …".
    pub by: String,
    /// The words; none were given if empty.
    pub words: String,
}

/// A document with what proves that it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its file name.
    pub name: String,
    /// Such as its number of pages.
    pub summary: String,
    /// Its hashes.
    pub facts: Vec<Fact>,
}

/// Somebody who had a part in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Party {
    /// Their name.
    pub name: String,
    /// What they had to do.
    pub role: String,
    /// What became of it.
    pub state: Mood,
    /// When they did what, and from where.
    pub facts: Vec<Fact>,
    /// Their signature as it stands in the documents.
    pub signature: Option<MarkContent>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its place in the history; 0 for a row that stands for several.
    pub number: u64,
    /// When.
    pub at: String,
    /// What.
    pub what: String,
    /// Who did it.
    pub who: String,
    /// The beginning of its hash.
    pub hash: String,
}

/// The certificate as a file of its own.
///
/// # Errors
///
/// [`StampError::Compose`] if it cannot be written; never because of its words.
pub fn certificate(certificate: &Certificate) -> Result<Vec<u8>, StampError> {
    let faces = Faces::get().ok_or_else(|| StampError::compose("the shipped fonts are damaged"))?;
    let pages = flow::pages(faces, certificate);
    let sheets: Vec<Sheet<'_>> = pages.iter().map(|page| page.sheet(faces)).collect();
    let metadata = Metadata::new().title(certificate.title.clone());
    overlay::compose(&sheets, metadata)
}

pub(crate) use flow::pages;
