//! Makes of an upload the paper that people see and sign: the upload itself if it can stay as it is, else a copy without
//! what stood in the way.
//!
//! It must never change what a page shows, never rewrite what was signed before, and never give a copy that has not passed
//! the same reading again.

mod active;
mod faults;
mod form;
mod layers;
mod pictured;

use lopdf::Document;
use serde::{Deserialize, Serialize};

use crate::balance::balance;
use crate::delta::{self, Update};
use crate::inspect::{self, Opened, PageSize, Unreadable};
use crate::limits::{Limits, PAGE_CONTENT_BYTES_MAX};
use crate::pages::{self, Page, follow};
use crate::seal::earlier;

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Policy {
    /// Takes documents whose author forbids changes, if they open without a password.
    pub overrule_restrictions: bool,
    /// Leaves the files that a document carries inside; nobody who signs sees them.
    pub keep_attachments: bool,
}

/// What was found and, unless the document was signed before, mended in the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Note {
    /// Other bytes stood before the header.
    JunkBeforeHeader,
    /// The cross-reference table was damaged and had to be found again, or readers could find other objects by it.
    TableRepaired,
    /// The document had two cross-reference tables that can differ.
    HybridTable,
    /// The table said a wrong number of objects, or numbered them higher than readers count.
    WrongSize,
    /// Strict readers would refuse the file.
    Irregular,
    /// The document was encrypted, and opened without a password.
    Decrypted,
    /// Scripts and actions that start programs, send or fetch data or hide parts were taken out.
    ActionsRemoved,
    /// Films, sounds and models were taken out; their pictures stay.
    MediaRemoved,
    /// Files inside the document were taken out.
    AttachmentsRemoved,
    /// The document carries files inside; they stay.
    AttachmentsKept,
    /// The fields of a form became part of the pages, as they looked.
    FormFlattened,
    /// A form's field had a value and no look; the value is gone.
    FormValueWithoutLook,
    /// Layers can no longer be switched.
    LayersFixed,
}

/// A paper to be kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ingested {
    /// The copy to keep and show; none if the upload can stay as it is.
    #[serde(skip)]
    pub base: Option<Vec<u8>>,
    /// Its pages in order.
    pub pages: Vec<PageSize>,
    /// Whether somebody signed it digitally before.
    pub is_signed: bool,
    /// Whether the upload was a form to be filled in.
    pub has_form: bool,
    /// Whether the upload had layers.
    pub has_layers: bool,
    /// What was found, each once.
    pub notes: Vec<Note>,
}

/// Reads an upload and makes of it what is kept.
///
/// # Errors
///
/// [`Unreadable`] names the first thing that is wrong.
///
/// ```
/// let sample = countersign_paper::samples::nda().unwrap();
/// let ingested = countersign_paper::ingest(&sample.bytes, &Default::default(), &Default::default()).unwrap();
/// assert_eq!((ingested.base, ingested.pages.len()), (None, 2));
/// ```
pub fn ingest(bytes: &[u8], limits: &Limits, policy: &Policy) -> Result<Ingested, Unreadable> {
    let (opened, is_decrypted) = inspect::open_decrypted(bytes, limits)?;
    let Opened { mut document, pages } = opened;
    if is_decrypted && !policy.overrule_restrictions && !may_be_changed(&document) {
        return Err(Unreadable::ChangesForbidden);
    }
    if earlier::standing(&document).allows_nothing {
        return Err(Unreadable::CertifiedFinal);
    }
    follow_content(&document, &pages, limits)?;
    let is_signed = is_signed(&document);
    let mut notes = faults::find(bytes, &document, is_signed);
    if is_decrypted {
        notes.push(Note::Decrypted);
    }
    let (has_form, has_layers) = (form::is_there(&document), layers::are_there(&document));
    if is_signed {
        active::remove_actions(&mut document, &mut notes);
        // What stays is covered by the signature; what was seen so far would void it.
        refuse_mending(&notes)?;
        if active::has_attachments(&document) {
            notes.push(Note::AttachmentsKept);
        }
    } else {
        active::remove_attachments(&mut document, policy.keep_attachments, &mut notes);
        settle(&mut document, &pages, &mut notes)?;
    }
    notes.sort_unstable();
    notes.dedup();
    let sizes = inspect::sizes(&pages);
    let base = if notes.iter().all(|note| *note == Note::AttachmentsKept) {
        None
    } else {
        Some(rewritten(bytes, document, limits, &sizes)?)
    };
    Ok(Ingested { base, pages: sizes, is_signed, has_form, has_layers, notes })
}

/// Takes out of a document all that could make it show something else once it is sealed.
pub(crate) fn settle(document: &mut Document, pages: &[Page], notes: &mut Vec<Note>) -> Result<(), Unreadable> {
    active::remove_actions(document, notes);
    active::remove_media(document, notes);
    form::flatten(document, pages, notes)?;
    layers::fix(document, notes);
    Ok(())
}

/// A new file of the document, read again as if it had been uploaded.
fn rewritten(bytes: &[u8], document: Document, limits: &Limits, sizes: &[PageSize]) -> Result<Vec<u8>, Unreadable> {
    let update = Update::of(&document);
    let file = delta::rewrite(bytes, document, update).map_err(Unreadable::broken)?;
    // Unpacking objects may have made it larger than the upload was.
    let bytes_max = limits.bytes_max.max(file.len());
    let again = inspect::open(&file, &Limits { bytes_max, ..*limits })?;
    let left = faults::find(&file, &again.document, false);
    if inspect::sizes(&again.pages) != sizes || !left.is_empty() || !delta::can_be_continued(&file, &again.document) {
        return Err(Unreadable::broken("it could not be repaired"));
    }
    Ok(file)
}

fn refuse_mending(notes: &[Note]) -> Result<(), Unreadable> {
    match notes.first() {
        None => Ok(()),
        Some(note) => Err(Unreadable::SignedAndFlawed { why: format!("{note:?}") }),
    }
}

/// Refuses pages that hold too much, before anybody unpacks them without a limit.
pub(crate) fn limit_content(document: &Document, pages: &[Page], limits: &Limits) -> Result<(), Unreadable> {
    each_content(document, pages, limits, |_| Ok(()))
}

/// Refuses pages behind which nothing could be drawn that is sure to be seen.
fn follow_content(document: &Document, pages: &[Page], limits: &Limits) -> Result<(), Unreadable> {
    each_content(document, pages, limits, |content| balance(content).map(|_| ()))
}

fn each_content(
    document: &Document,
    pages: &[Page],
    limits: &Limits,
    look: impl Fn(&[u8]) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut left = limits.content_bytes_max;
    for page in pages {
        let content = pages::content(document, page.id, left.min(PAGE_CONTENT_BYTES_MAX))?;
        look(&content)?;
        left = left.saturating_sub(content.len());
    }
    Ok(())
}

fn may_be_changed(document: &Document) -> bool {
    let state = document.encryption_state.as_ref();
    state.is_none_or(|state| state.permissions().contains(lopdf::Permissions::MODIFIABLE))
}

/// Whether a field of the form holds a signature. Flags and empty fields prove nothing, nor does what nobody refers to.
fn is_signed(document: &Document) -> bool {
    earlier::fields(document).iter().filter_map(|field| field.value).any(|value| {
        let is_there = |key: &[u8]| follow(document, value.get(key).ok()).is_some();
        is_there(b"ByteRange") && is_there(b"Contents")
    })
}
