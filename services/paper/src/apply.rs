//! Lays drawn sheets over the pages of a paper.
//!
//! It must never change what a page shows underneath, nor objects that other pages share.

use krilla::metadata::Metadata;
use lopdf::content::{Content, Operation};
use lopdf::{Dictionary, Document, Object, ObjectId, Stream};

use crate::balance::balance;
use crate::delta::{self, Update};
use crate::inspect::{Opened, Unreadable};
use crate::limits::{BALANCED_CONTENT_BYTES_MAX, CONTENT_STREAMS_MAX, REFERENCE_HOPS_MAX};
use crate::overlay::{self, Sheet};
use crate::pages::{Page, follow};

/// Why a paper could not be drawn on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StampError {
    /// The bytes are no paper; those that passed [`inspect()`](crate::inspect()) are.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A mark names a page that the document does not have.
    #[error("mark {mark} is for page {page}, the document has {pages}")]
    NoSuchPage {
        /// Which mark, counted from 1.
        mark: usize,
        /// The page it names.
        page: u32,
        /// The pages there are.
        pages: usize,
    },
    /// A mark's box is no box on the page.
    #[error("mark {mark} has a box that is not within 0 to 100 percent of its page or has no area")]
    BadBox {
        /// Which mark, counted from 1.
        mark: usize,
    },
    /// The drawing could not be made or written.
    #[error("the drawing could not be made: {detail}")]
    Compose {
        /// What went wrong.
        detail: String,
    },
}

impl StampError {
    pub(crate) fn compose(detail: impl ToString) -> Self {
        Self::Compose { detail: detail.to_string() }
    }
}

/// Draws `sheets[i]` over every page for which `sheet_of_page` says `i`.
pub(crate) fn apply(
    base: &[u8],
    opened: Opened,
    sheets: &[Sheet<'_>],
    sheet_of_page: &[Option<usize>],
) -> Result<Vec<u8>, StampError> {
    if sheets.is_empty() {
        return Ok(base.to_vec());
    }
    let Opened { document, pages } = opened;
    let mut update = Update::of(&document);
    let forms = overlay::import(&overlay::compose(sheets, Metadata::new())?, &mut update)?;
    for (page, sheet) in pages.iter().zip(sheet_of_page) {
        if let Some(form) = sheet.and_then(|sheet| forms.get(sheet)) {
            lay_over(&document, page, *form, &mut update)?;
        }
    }
    delta::write(base, document, update).map_err(StampError::compose)
}

fn lay_over(document: &Document, page: &Page, form: ObjectId, update: &mut Update) -> Result<(), StampError> {
    let dictionary = follow(document, document.objects.get(&page.id)).and_then(|page| page.as_dict().ok());
    let mut dictionary = dictionary.cloned().ok_or_else(|| StampError::compose("a page vanished"))?;
    let (resources, name) = resources_with(document, page, form);
    dictionary.set("Resources", resources);
    dictionary.set("Contents", contents_with(document, page, &name, update)?);
    update.set(page.id, dictionary);
    Ok(())
}

/// A copy of the page's resources that also has the form, and the form's name in it.
fn resources_with(document: &Document, page: &Page, form: ObjectId) -> (Dictionary, String) {
    let mut resources = page.resources.clone();
    let xobjects = resources.get(b"XObject").ok().and_then(|objects| follow(document, Some(objects)));
    let mut xobjects = xobjects.and_then(|objects| objects.as_dict().ok()).cloned().unwrap_or_default();
    let mut number = xobjects.len();
    let mut name = format!("Paper{number}");
    while xobjects.has(name.as_bytes()) {
        number += 1;
        name = format!("Paper{number}");
    }
    xobjects.set(name.as_str(), form);
    resources.set("XObject", xobjects);
    (resources, name)
}

/// The old content between a save and a restore, then the form.
fn contents_with(document: &Document, page: &Page, name: &str, update: &mut Update) -> Result<Object, StampError> {
    let around = document
        .get_page_content_with_limit(page.id, BALANCED_CONTENT_BYTES_MAX)
        .map(|content| balance(&content))
        .unwrap_or_default();
    let save = || Operation::new("q", vec![]);
    let restore = || Operation::new("Q", vec![]);
    let before = std::iter::repeat_with(save).take(around.saves_missing + 1).collect();
    let mut after: Vec<Operation> = std::iter::repeat_with(restore).take(around.restores_missing + 1).collect();
    let matrix = page.geometry.displayed_to_user().map(|number| Object::Real(number as f32));
    after.extend([
        save(),
        Operation::new("cm", matrix.to_vec()),
        Operation::new("Do", vec![Object::from(name)]),
        restore(),
    ]);
    let mut contents = vec![add_content(before, update)?];
    contents.extend(content_streams(document, page.id).into_iter().map(Object::Reference));
    contents.push(add_content(after, update)?);
    Ok(contents.into())
}

fn add_content(operations: Vec<Operation>, update: &mut Update) -> Result<Object, StampError> {
    let content = Content { operations }.encode().map_err(StampError::compose)?;
    Ok(Object::Reference(update.add(Stream::new(Dictionary::new(), content))))
}

/// The page's content streams in order, however its `/Contents` refers to them.
fn content_streams(document: &Document, page: ObjectId) -> Vec<ObjectId> {
    let page = follow(document, document.objects.get(&page)).and_then(|page| page.as_dict().ok());
    let Some(contents) = page.and_then(|page| page.get(b"Contents").ok()) else { return Vec::new() };
    let parts = match follow(document, Some(contents)) {
        Some(Object::Array(parts)) => parts.as_slice(),
        _ => std::slice::from_ref(contents),
    };
    parts.iter().take(CONTENT_STREAMS_MAX).filter_map(|part| stream_id(document, part)).collect()
}

/// The object that is the stream itself, behind a few references.
fn stream_id(document: &Document, part: &Object) -> Option<ObjectId> {
    let mut id = part.as_reference().ok()?;
    for _ in 0..REFERENCE_HOPS_MAX {
        match document.objects.get(&id)? {
            Object::Reference(next) => id = *next,
            Object::Stream(_) => return Some(id),
            _ => return None,
        }
    }
    None
}
