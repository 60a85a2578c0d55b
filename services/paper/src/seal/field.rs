//! Adds the invisible field that holds the seal, by rewriting as few and as small objects as possible.
//!
//! It must never change what a page shows or another field.

use std::collections::HashSet;

use lopdf::{Dictionary, Document, Object, ObjectId, dictionary, text_string};

use super::{SealError, SealKind};
use crate::delta::Update;
use crate::limits::REFERENCE_HOPS_MAX;

const HIDDEN_PRINTED_LOCKED: i64 = 132;
const SIGNATURES_EXIST_AND_APPEND_ONLY: i64 = 3;
const NAME: &str = "Countersign seal";
/// Fields whose names are looked at to find one that is free.
const FIELDS_MAX: usize = 20_000;

pub(super) fn add(
    document: &Document,
    update: &mut Update,
    page: ObjectId,
    signature: ObjectId,
    kind: SealKind,
) -> Result<(), SealError> {
    let catalog_id = document.trailer.get(b"Root").and_then(Object::as_reference).map_err(SealError::compose)?;
    let mut catalog = dictionary_at(document, update, catalog_id)?;
    let (form_id, mut form) = match resolved(document, update, catalog.get(b"AcroForm").ok()) {
        Some((id, Object::Dictionary(form))) => (id, form.clone()),
        _ => (None, Dictionary::new()),
    };
    let (fields_id, mut fields) = array(document, update, form.get(b"Fields").ok());
    let field = update.add(dictionary! {
        "FT" => "Sig",
        "Type" => "Annot",
        "Subtype" => "Widget",
        "T" => text_string(&free_name(document, update, &fields)),
        "V" => signature,
        "P" => page,
        "Rect" => vec![0.into(), 0.into(), 0.into(), 0.into()],
        "F" => HIDDEN_PRINTED_LOCKED,
    });
    annotate(document, update, page, field)?;
    fields.push(Object::Reference(field));
    let has_flags = form
        .get(b"SigFlags")
        .and_then(Object::as_i64)
        .is_ok_and(|flags| flags & SIGNATURES_EXIST_AND_APPEND_ONLY == SIGNATURES_EXIST_AND_APPEND_ONLY);
    let mut catalog_changes = false;
    match fields_id {
        Some(id) => update.set(id, fields),
        None => form.set("Fields", fields),
    }
    if fields_id.is_none() || !has_flags {
        form.set("SigFlags", SIGNATURES_EXIST_AND_APPEND_ONLY);
        match form_id {
            Some(id) => update.set(id, form),
            None => {
                catalog.set("AcroForm", form);
                catalog_changes = true;
            }
        }
    }
    if kind == SealKind::Certification {
        catalog.set("Perms", dictionary! { "DocMDP" => signature });
        catalog_changes = true;
    }
    if catalog_changes {
        update.set(catalog_id, catalog);
    }
    Ok(())
}

/// Puts the field among the page's annotations: into their list if that is an object of its own, else into the page.
fn annotate(document: &Document, update: &mut Update, page: ObjectId, field: ObjectId) -> Result<(), SealError> {
    let mut node = dictionary_at(document, update, page)?;
    let (id, mut annotations) = array(document, update, node.get(b"Annots").ok());
    annotations.push(Object::Reference(field));
    match id {
        Some(id) => update.set(id, annotations),
        None => {
            node.set("Annots", annotations);
            update.set(page, node);
        }
    }
    Ok(())
}

fn free_name(document: &Document, update: &Update, fields: &[Object]) -> String {
    let taken: HashSet<Vec<u8>> = fields
        .iter()
        .take(FIELDS_MAX)
        .filter_map(|field| resolved(document, update, Some(field))?.1.as_dict().ok())
        .filter_map(|field| resolved(document, update, field.get(b"T").ok())?.1.as_str().ok())
        .map(<[u8]>::to_vec)
        .collect();
    let mut number = 1;
    let mut name = NAME.to_owned();
    while taken.contains(name.as_bytes()) {
        number += 1;
        name = format!("{NAME} {number}");
    }
    name
}

pub(super) fn dictionary_at(document: &Document, update: &Update, id: ObjectId) -> Result<Dictionary, SealError> {
    let object = resolved(document, update, update.current(document, id)).and_then(|(_, object)| object.as_dict().ok());
    object.cloned().ok_or_else(|| SealError::compose("the catalog or a page is not where it is said to be"))
}

/// A list and, if it is an object of its own, its number.
pub(super) fn array(document: &Document, update: &Update, object: Option<&Object>) -> (Option<ObjectId>, Vec<Object>) {
    match resolved(document, update, object) {
        Some((id, Object::Array(items))) => (id, items.clone()),
        _ => (None, Vec::new()),
    }
}

/// The value behind a few references as it will be, with the number of the last of them.
pub(super) fn resolved<'a>(
    document: &'a Document,
    update: &'a Update,
    object: Option<&'a Object>,
) -> Option<(Option<ObjectId>, &'a Object)> {
    let (mut id, mut object) = (None, object?);
    for _ in 0..REFERENCE_HOPS_MAX {
        match object {
            Object::Reference(next) => {
                id = Some(*next);
                object = update.current(document, *next)?;
            }
            Object::Null => return None,
            _ => return Some((id, object)),
        }
    }
    None
}
