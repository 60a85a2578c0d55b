//! What is wrong with the file, though it can be read: other readers would stumble over it, or read something else.
//!
//! It must never look at what the document shows.

use lopdf::{Document, LoadOptions, Object};

use super::{Note, pictured};
use crate::alike::read_alike;
use crate::limits::OBJECT_NUMBER_MAX;

/// What would have to be mended by writing the file anew.
pub(super) fn find(bytes: &[u8], document: &Document, is_signed: bool) -> Vec<Note> {
    let mut notes = Vec::new();
    if !bytes.starts_with(b"%PDF-") {
        notes.push(Note::JunkBeforeHeader);
    }
    if document.xref_recovery.is_some() || !section_is_there(bytes, document) {
        notes.push(Note::TableRepaired);
    }
    const HYBRID: &[u8] = b"/XRefStm";
    if bytes.windows(HYBRID.len()).any(|window| window == HYBRID) {
        notes.push(Note::HybridTable);
    }
    let size = document.trailer.get(b"Size").and_then(Object::as_i64).unwrap_or(0);
    if size <= i64::from(document.max_id) || document.max_id > OBJECT_NUMBER_MAX {
        notes.push(Note::WrongSize);
    }
    // What was encrypted is written anew in any case, and its streams of objects are no longer what they were.
    let is_alike = || read_alike(bytes, document) && pictured::is_alike(bytes, document);
    if notes.is_empty() && !document.was_encrypted() && !is_alike() {
        notes.push(Note::TableRepaired);
    }
    // Readers that verify signatures have accepted a signed file as it is.
    if notes.is_empty() && !is_signed && is_irregular(bytes) {
        notes.push(Note::Irregular);
    }
    notes
}

fn section_is_there(bytes: &[u8], document: &Document) -> bool {
    let section = bytes.get(document.xref_start..).unwrap_or_default();
    document.xref_start > 0 && (section.starts_with(b"xref") || section.first().is_some_and(u8::is_ascii_digit))
}

fn is_irregular(bytes: &[u8]) -> bool {
    let options = LoadOptions { strict: true, ..LoadOptions::default() };
    Document::load_mem_with_options(bytes, options).is_err()
}
