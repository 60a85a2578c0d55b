//! Lays drawn sheets over the pages of a paper, and adds pages behind them.
//!
//! It must never change what a page shows underneath, nor objects that other pages share.

use std::collections::BTreeMap;

use lopdf::content::{Content, Operation};
use lopdf::{Dictionary, Document, Object, ObjectId, Stream, dictionary};

use crate::balance::balance;
use crate::delta::Update;
use crate::inspect::Unreadable;
use crate::limits::PAGE_CONTENT_BYTES_MAX;
use crate::pages::{self, Page, ResourcesAt, follow, node};

/// Why a paper could not be drawn on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StampError {
    /// The bytes are no paper; those that [`ingest()`](crate::ingest()) kept or made are.
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

/// Draws `forms[i]` over every page for which `form_of_page` says `i`.
pub(crate) fn lay_over(
    document: &Document,
    pages: &[Page],
    forms: &[ObjectId],
    form_of_page: &[Option<usize>],
    update: &mut Update,
) -> Result<(), StampError> {
    let overlaid: Vec<(&Page, ObjectId)> =
        pages.iter().zip(form_of_page).filter_map(|(page, form)| Some((page, *forms.get((*form)?)?))).collect();
    let resources = extended_resources(document, &overlaid, update);
    for (page, form) in overlaid {
        let mut node = node(document, page.id).cloned().ok_or_else(|| StampError::compose("a page vanished"))?;
        if let Some(extended) = resources.get(&page.resources)
            && let Some(name) = extended.names.get(&form)
        {
            node.set("Resources", extended.id);
            node.set("Contents", contents_with(document, page, name, update)?);
            update.set(page.id, node);
        }
    }
    Ok(())
}

/// A page of its own for each form, after all pages of the document.
pub(crate) fn append_pages(
    document: &Document,
    pages: &[Page],
    forms: &[(ObjectId, (f64, f64))],
    update: &mut Update,
) -> Result<(), StampError> {
    let lost = || StampError::compose("the page tree vanished");
    let catalog_id = document.trailer.get(b"Root").and_then(Object::as_reference).map_err(StampError::compose)?;
    let catalog = latest(document, update, catalog_id).ok_or_else(lost)?;
    let old_root = catalog.get(b"Pages").and_then(Object::as_reference).map_err(StampError::compose)?;
    let old = latest(document, update, old_root).ok_or_else(lost)?;
    let kids = follow(document, old.get(b"Kids").ok()).and_then(|kids| kids.as_array().ok()).cloned();
    let is_tree = kids.is_some();
    let root = if is_tree { old_root } else { update.reserve() };
    let mut kids = kids.unwrap_or_else(|| vec![old_root.into()]);
    for (form, (width_pt, height_pt)) in forms {
        kids.push(page_of(*form, (*width_pt, *height_pt), root, update)?.into());
    }
    let count = (pages.len() + forms.len()) as i64;
    if is_tree {
        let mut tree = old;
        tree.set("Kids", kids);
        tree.set("Count", count);
        update.set(root, tree);
    } else {
        // The one page of the document stood in the tree's place.
        update.set(root, dictionary! { "Type" => "Pages", "Kids" => kids, "Count" => count });
        let (mut page, mut catalog) = (old, catalog);
        page.set("Parent", root);
        update.set(old_root, page);
        catalog.set("Pages", root);
        update.set(catalog_id, catalog);
    }
    Ok(())
}

/// What an object is after the update so far.
fn latest(document: &Document, update: &Update, id: ObjectId) -> Option<Dictionary> {
    let updated = update.get(id).and_then(|object| object.as_dict().ok());
    updated.or_else(|| node(document, id)).cloned()
}

/// A page that shows a form, and inherits nothing from the document's other pages.
fn page_of(form: ObjectId, size_pt: (f64, f64), root: ObjectId, update: &mut Update) -> Result<ObjectId, StampError> {
    let content = add_content(b"/Paper Do".to_vec(), update);
    let sheet = vec![0.into(), 0.into(), Object::Real(size_pt.0 as f32), Object::Real(size_pt.1 as f32)];
    Ok(update.add(dictionary! {
        "Type" => "Page",
        "Parent" => root,
        "MediaBox" => sheet.clone(),
        "CropBox" => sheet,
        "Rotate" => 0,
        "Resources" => dictionary! { "XObject" => dictionary! { "Paper" => form } },
        "Contents" => content,
    }))
}

/// A copy of resources that also has the forms of all pages that share them.
struct Extended {
    id: ObjectId,
    resources: Dictionary,
    xobjects: Dictionary,
    /// What the added forms are called in it.
    names: BTreeMap<ObjectId, String>,
}

impl Extended {
    fn add(&mut self, form: ObjectId) {
        let mut number = form.0;
        let mut name = format!("Paper{number}");
        while self.xobjects.has(name.as_bytes()) {
            number = number.wrapping_add(1);
            name = format!("Paper{number}");
        }
        self.xobjects.set(name.as_str(), form);
        self.names.insert(form, name);
    }
}

/// The copies by what they are copies of: one for many pages, as before, or files would swell.
fn extended_resources(
    document: &Document,
    overlaid: &[(&Page, ObjectId)],
    update: &mut Update,
) -> BTreeMap<Option<ResourcesAt>, Extended> {
    let mut copies: BTreeMap<Option<ResourcesAt>, Extended> = BTreeMap::new();
    for (page, form) in overlaid {
        let copy = copies.entry(page.resources).or_insert_with(|| {
            let resources = page.resources.and_then(|at| at.get(document)).cloned().unwrap_or_default();
            let xobjects = follow(document, resources.get(b"XObject").ok()).and_then(|found| found.as_dict().ok());
            let xobjects = xobjects.cloned().unwrap_or_default();
            Extended { id: update.reserve(), xobjects, resources, names: BTreeMap::new() }
        });
        if !copy.names.contains_key(form) {
            copy.add(*form);
        }
    }
    for copy in copies.values_mut() {
        copy.resources.set("XObject", std::mem::take(&mut copy.xobjects));
        update.set(copy.id, std::mem::take(&mut copy.resources));
    }
    copies
}

/// The old content between a save and a restore, then the form.
fn contents_with(document: &Document, page: &Page, name: &str, update: &mut Update) -> Result<Object, StampError> {
    let around = balance(&pages::content(document, page.id, PAGE_CONTENT_BYTES_MAX)?)?;
    let matrix = page.geometry.displayed_to_user().map(|number| Object::Real(number as f32));
    let drawing = vec![
        Operation::new("q", vec![]),
        Operation::new("cm", matrix.to_vec()),
        Operation::new("Do", vec![Object::from(name)]),
        Operation::new("Q", vec![]),
    ];
    let mut after = around.after();
    after.extend(Content { operations: drawing }.encode().map_err(StampError::compose)?);
    let mut contents = vec![add_content(around.before(), update)];
    let old = pages::content_parts(document, page.id);
    contents.extend(old.iter().filter_map(|part| pages::stream_id(document, part)).map(Object::Reference));
    contents.push(add_content(after, update));
    Ok(contents.into())
}

fn add_content(content: Vec<u8>, update: &mut Update) -> Object {
    Object::Reference(update.add(Stream::new(Dictionary::new(), content)))
}
