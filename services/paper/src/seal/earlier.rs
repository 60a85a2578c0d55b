//! The signatures that a paper bears before it is sealed.
//!
//! It must never take one out unless it was asked to.

use std::collections::HashSet;

use lopdf::{Dictionary, Document, Object, ObjectId};

use crate::delta::Update;
use crate::limits::REFERENCE_HOPS_MAX;
use crate::pages::follow;

/// How many fields are looked at, and how deep.
const FIELDS_MAX: usize = 20_000;
const DEPTH_MAX: usize = 32;
const NO_CHANGES: i64 = 1;

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether a field holds a signature.
    pub(crate) is_signed: bool,
    /// Whether one of them certifies the paper and allows no change.
    pub(crate) allows_nothing: bool,
}

/// A field for signatures.
pub(crate) struct SignatureField {
    /// Its object, if it is one of its own.
    pub(crate) id: Option<ObjectId>,
    pub(crate) name: String,
    /// The signature's dictionary with what it says, if the field is signed.
    pub(crate) value: Option<Object>,
}

/// What earlier signatures there are.
pub(crate) fn standing(document: &Document) -> Standing {
    Standing {
        is_signed: fields(document).iter().any(|field| field.value.is_some()),
        allows_nothing: permissions(document) == Some(NO_CHANGES),
    }
}

/// What the certification of the paper allows, if it has one.
pub(crate) fn permissions(document: &Document) -> Option<i64> {
    let catalog = document.catalog().ok()?;
    let perms = follow(document, catalog.get(b"Perms").ok())?.as_dict().ok()?;
    let signature = follow(document, perms.get(b"DocMDP").ok())?.as_dict().ok()?;
    allowed_by(document, signature)
}

/// What a signature's own reference says of changes, if it certifies.
pub(crate) fn allowed_by(document: &Document, signature: &Dictionary) -> Option<i64> {
    const DEFAULT: i64 = 2;
    let references = follow(document, signature.get(b"Reference").ok())?.as_array().ok()?;
    references.iter().find_map(|reference| {
        let reference = follow(document, Some(reference))?.as_dict().ok()?;
        let method = reference.get(b"TransformMethod").and_then(Object::as_name).ok()?;
        if method != b"DocMDP" {
            return None;
        }
        let parameters =
            follow(document, reference.get(b"TransformParams").ok()).and_then(|found| found.as_dict().ok());
        let level = parameters.and_then(|parameters| follow(document, parameters.get(b"P").ok())?.as_i64().ok());
        Some(level.unwrap_or(DEFAULT))
    })
}

struct Visit<'a> {
    object: &'a Object,
    depth: usize,
    prefix: String,
    is_signature: bool,
}

/// All signature fields in the order of the form.
pub(crate) fn fields(document: &Document) -> Vec<SignatureField> {
    let mut found = Vec::new();
    let Some(roots) = form(document).and_then(|form| follow(document, form.get(b"Fields").ok())?.as_array().ok())
    else {
        return found;
    };
    let mut seen = HashSet::new();
    let visit = |object| Visit { object, depth: 0, prefix: String::new(), is_signature: false };
    let mut todo: Vec<Visit<'_>> = roots.iter().rev().take(FIELDS_MAX).map(visit).collect();
    while let Some(Visit { object, depth, prefix, is_signature }) = todo.pop() {
        let id = last_reference(document, object);
        let Some(field) = follow(document, Some(object)).and_then(|field| field.as_dict().ok()) else { continue };
        if depth > DEPTH_MAX || seen.len() >= FIELDS_MAX || id.is_some_and(|id| !seen.insert(id)) {
            continue;
        }
        let own = follow(document, field.get(b"T").ok()).and_then(|name| lopdf::decode_text_string(name).ok());
        let name = match own {
            Some(own) if prefix.is_empty() => own,
            Some(own) => format!("{prefix}.{own}"),
            None => prefix,
        };
        let kind = follow(document, field.get(b"FT").ok()).and_then(|kind| kind.as_name().ok());
        let is_signature = kind.map_or(is_signature, |kind| kind == b"Sig");
        if is_signature {
            let value = follow(document, field.get(b"V").ok()).filter(|value| value.as_dict().is_ok());
            if value.is_some() || field.get(b"Kids").is_err() {
                found.push(SignatureField { id, name, value: value.cloned() });
                continue;
            }
        }
        let kids = follow(document, field.get(b"Kids").ok()).and_then(|kids| kids.as_array().ok());
        for kid in kids.into_iter().flatten().rev().take(FIELDS_MAX) {
            todo.push(Visit { object: kid, depth: depth + 1, prefix: name.clone(), is_signature });
        }
    }
    found
}

fn form(document: &Document) -> Option<&Dictionary> {
    follow(document, document.catalog().ok()?.get(b"AcroForm").ok())?.as_dict().ok()
}

fn last_reference(document: &Document, object: &Object) -> Option<ObjectId> {
    let mut last = object.as_reference().ok()?;
    for _ in 0..REFERENCE_HOPS_MAX {
        match document.objects.get(&last) {
            Some(Object::Reference(next)) => last = *next,
            _ => break,
        }
    }
    Some(last)
}

/// Takes all signatures out of the document and of what an update says of it. What is seen of them stays as plain stamps.
pub(crate) fn take_out(document: &Document, update: &mut Update) {
    let signed: HashSet<ObjectId> = fields(document).into_iter().filter_map(|field| field.id).collect();
    let catalog_id = document.trailer.get(b"Root").and_then(Object::as_reference);
    let without =
        |items: &mut Vec<Object>| items.retain(|item| !item.as_reference().is_ok_and(|id| signed.contains(&id)));
    for id in &signed {
        let parent = document.objects.get(id).and_then(|field| field.as_dict().ok()?.get(b"Parent").ok());
        if let Some(Object::Reference(parent)) = parent {
            update.edit(document, *parent, |parent| {
                if let Ok(kids) = parent.get_mut(b"Kids").and_then(Object::as_array_mut) {
                    without(kids);
                }
            });
        }
        let widgets = document.objects.get(id).map(|field| widgets(document, *id, field)).unwrap_or_default();
        for widget in widgets {
            update.edit(document, widget, |widget| {
                for key in [&b"FT"[..], b"T", b"V", b"Parent", b"Lock", b"SV", b"Ff", b"AA", b"A", b"MK"] {
                    widget.remove(key);
                }
                widget.set("Subtype", "Stamp");
            });
        }
    }
    let form_id = document.catalog().ok().and_then(|catalog| catalog.get(b"AcroForm").ok()?.as_reference().ok());
    let fields_id = form(document).and_then(|form| form.get(b"Fields").ok()?.as_reference().ok());
    let unsign = |form: &mut Dictionary| {
        form.remove(b"SigFlags");
        if let Ok(fields) = form.get_mut(b"Fields").and_then(Object::as_array_mut) {
            without(fields);
        }
    };
    if let Some(id) = form_id {
        update.edit(document, id, unsign);
    }
    if let Some(id) = fields_id {
        update.edit_array(document, id, without);
    }
    if let Ok(id) = catalog_id {
        update.edit(document, id, |catalog| {
            for key in [&b"Perms"[..], b"DSS"] {
                catalog.remove(key);
            }
            if let Ok(form) = catalog.get_mut(b"AcroForm").and_then(Object::as_dict_mut) {
                unsign(form);
            }
        });
    }
}

/// The objects by which a field is seen: itself, or its kids.
fn widgets(document: &Document, id: ObjectId, field: &Object) -> Vec<ObjectId> {
    let kids = field.as_dict().ok().and_then(|field| follow(document, field.get(b"Kids").ok())?.as_array().ok());
    match kids {
        Some(kids) => kids.iter().filter_map(|kid| kid.as_reference().ok()).take(FIELDS_MAX).collect(),
        None => vec![id],
    }
}
