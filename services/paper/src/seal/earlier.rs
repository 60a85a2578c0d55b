//! The signatures that a paper bears before it is sealed.
//!
//! It must never take one out unless it was asked to, nor do more work than the file is long: lists and names can be shared by
//! thousands of fields.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use lopdf::{Dictionary, Document, Object, ObjectId};

use crate::delta::Update;
use crate::pages::{follow, last_id};

/// How many fields are looked at, each as often as it is named, and how deep.
const VISITS_MAX: usize = 20_000;
const DEPTH_MAX: usize = 32;
/// How much of one field's own name is read, and where the name with all that stand above it ends.
const OWN_NAME_BYTES_MAX: usize = 200;
const NAME_BYTES_MAX: usize = 1_000;
/// The level of a certification that allows nothing to follow.
pub(crate) const NO_CHANGES: i64 = 1;
/// References of one signature that are looked at: thousands of fields can share a list of thousands.
const REFERENCES_MAX: usize = 32;

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether a field holds a signature.
    pub(crate) is_signed: bool,
    /// Whether one of them, or the paper as its author certified it, allows nothing to follow.
    pub(crate) allows_nothing: bool,
}

/// A field for signatures.
pub(crate) struct SignatureField<'a> {
    /// Its object, if it is one of its own.
    pub(crate) id: Option<ObjectId>,
    pub(crate) name: Rc<str>,
    /// The signature's dictionary with what it says, if the field is signed.
    pub(crate) value: Option<&'a Dictionary>,
    /// What its signature locks.
    lock: Option<&'a Dictionary>,
}

/// What earlier signatures there are.
pub(crate) fn standing(document: &Document) -> Standing {
    let (certification, fields) = (certification(document), fields(document));
    let mut signatures = certification.into_iter().chain(fields.iter().filter_map(|field| field.value));
    // What a field would lock is locked once it is signed.
    let mut locks = fields.iter().filter(|field| field.value.is_some()).filter_map(|field| field.lock);
    Standing {
        is_signed: fields.iter().any(|field| field.value.is_some()),
        allows_nothing: signatures.any(|signature| is_final(document, signature))
            || locks.any(|lock| level(document, lock) == Some(NO_CHANGES)),
    }
}

/// The signature by which the author certified the paper.
fn certification(document: &Document) -> Option<&Dictionary> {
    let perms = follow(document, document.catalog().ok()?.get(b"Perms").ok())?.as_dict().ok()?;
    follow(document, perms.get(b"DocMDP").ok())?.as_dict().ok()
}

/// Whether a signature allows nothing to follow, by whatever it refers to: to the whole paper or to fields. One that refers
/// to more than is looked at may.
fn is_final(document: &Document, signature: &Dictionary) -> bool {
    let references = follow(document, signature.get(b"Reference").ok()).and_then(|found| found.as_array().ok());
    let references = references.map_or(&[][..], Vec::as_slice);
    let says_so = |reference: &Object| {
        let reference = follow(document, Some(reference))?.as_dict().ok()?;
        level(document, follow(document, reference.get(b"TransformParams").ok())?.as_dict().ok()?)
    };
    references.len() > REFERENCES_MAX || references.iter().any(|reference| says_so(reference) == Some(NO_CHANGES))
}

/// What may follow, where that is said.
fn level(document: &Document, of: &Dictionary) -> Option<i64> {
    follow(document, of.get(b"P").ok())?.as_i64().ok()
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
        Some(parameters.and_then(|parameters| level(document, parameters)).unwrap_or(DEFAULT))
    })
}

/// What a field has from those above it.
#[derive(Clone)]
struct Above {
    depth: usize,
    name: Rc<str>,
    is_signature: bool,
}

/// The fields that are still to be looked at, the next one last.
struct Visits<'a> {
    todo: Vec<(&'a Object, Above)>,
    left: usize,
}

impl<'a> Visits<'a> {
    fn add(&mut self, fields: &'a [Object], above: &Above) {
        let fields = &fields[..fields.len().min(self.left)];
        self.left -= fields.len();
        self.todo.extend(fields.iter().rev().map(|field| (field, above.clone())));
    }
}

/// All signature fields in the order of the form.
pub(crate) fn fields(document: &Document) -> Vec<SignatureField<'_>> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut visits = Visits { todo: Vec::new(), left: VISITS_MAX };
    let roots = form(document).and_then(|form| follow(document, form.get(b"Fields").ok())?.as_array().ok());
    visits.add(roots.map_or(&[], Vec::as_slice), &Above { depth: 0, name: "".into(), is_signature: false });
    while let Some((object, above)) = visits.todo.pop() {
        let id = last_id(document, object);
        let Some(field) = follow(document, Some(object)).and_then(|field| field.as_dict().ok()) else { continue };
        if above.depth > DEPTH_MAX || id.is_some_and(|id| !seen.insert(id)) {
            continue;
        }
        let name = name(document, field, &above.name);
        let kind = follow(document, field.get(b"FT").ok()).and_then(|kind| kind.as_name().ok());
        let is_signature = kind.map_or(above.is_signature, |kind| kind == b"Sig");
        if is_signature {
            let value = follow(document, field.get(b"V").ok()).and_then(|value| value.as_dict().ok());
            if value.is_some() || field.get(b"Kids").is_err() {
                let lock = follow(document, field.get(b"Lock").ok()).and_then(|lock| lock.as_dict().ok());
                found.push(SignatureField { id, name, value, lock });
                continue;
            }
        }
        if let Some(Object::Array(kids)) = follow(document, field.get(b"Kids").ok()) {
            visits.add(kids, &Above { depth: above.depth + 1, name, is_signature });
        }
    }
    found
}

/// The name of a field below that one.
fn name(document: &Document, field: &Dictionary, above: &Rc<str>) -> Rc<str> {
    let own = match follow(document, field.get(b"T").ok()) {
        Some(Object::String(own, format)) if above.len() < NAME_BYTES_MAX => {
            let start = own[..own.len().min(OWN_NAME_BYTES_MAX)].to_vec();
            lopdf::decode_text_string(&Object::String(start, *format)).ok()
        }
        _ => None,
    };
    match own {
        Some(own) if above.is_empty() => own.into(),
        Some(own) => format!("{above}.{own}").into(),
        None => Rc::clone(above),
    }
}

fn form(document: &Document) -> Option<&Dictionary> {
    follow(document, document.catalog().ok()?.get(b"AcroForm").ok())?.as_dict().ok()
}

/// Takes all signatures out of the document and of what an update says of it. What is seen of them stays as plain stamps.
pub(crate) fn take_out(document: &Document, update: &mut Update) {
    let signed: BTreeSet<ObjectId> = fields(document).into_iter().filter_map(|field| field.id).collect();
    let field = |id: &ObjectId| document.objects.get(id)?.as_dict().ok();
    // Each is edited once, whoever names it: an edit copies it.
    let parents: BTreeSet<ObjectId> =
        signed.iter().filter_map(|id| field(id)?.get(b"Parent").ok()?.as_reference().ok()).collect();
    let widgets: BTreeSet<ObjectId> =
        signed.iter().flat_map(|id| widgets(document, *id, field(id))).take(VISITS_MAX).collect();
    let catalog_id = document.trailer.get(b"Root").and_then(Object::as_reference);
    let without =
        |items: &mut Vec<Object>| items.retain(|item| !item.as_reference().is_ok_and(|id| signed.contains(&id)));
    for parent in parents {
        update.edit(document, parent, |parent| {
            if let Ok(kids) = parent.get_mut(b"Kids").and_then(Object::as_array_mut) {
                without(kids);
            }
        });
    }
    for widget in widgets {
        update.edit(document, widget, |widget| {
            for key in [&b"FT"[..], b"T", b"V", b"Parent", b"Lock", b"SV", b"Ff", b"AA", b"A", b"MK"] {
                widget.remove(key);
            }
            widget.set("Subtype", "Stamp");
        });
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
fn widgets<'a>(
    document: &'a Document,
    id: ObjectId,
    field: Option<&'a Dictionary>,
) -> impl Iterator<Item = ObjectId> + 'a {
    let kids = field.and_then(|field| follow(document, field.get(b"Kids").ok())?.as_array().ok());
    let itself = kids.is_none().then_some(id);
    kids.into_iter().flatten().filter_map(|kid| kid.as_reference().ok()).chain(itself)
}

#[cfg(test)]
mod tests {
    use lopdf::dictionary;

    use super::*;

    fn with_fields(mut document: Document, roots: Vec<Object>) -> Document {
        let catalog = document.add_object(dictionary! { "AcroForm" => dictionary! { "Fields" => roots } });
        document.trailer.set("Root", catalog);
        document
    }

    /// Each field counts as often as it is named: many may share one list.
    #[test]
    fn fields_are_visited_as_often_as_agreed() {
        let mut document = Document::new();
        let kids = document.add_object(vec![Object::Dictionary(dictionary! { "FT" => "Sig" }); 1_000]);
        let roots = (0..1_000).map(|_| document.add_object(dictionary! { "Kids" => kids }).into()).collect();
        assert!(fields(&with_fields(document, roots)).len() <= VISITS_MAX);
    }

    /// However long the names are and however many fields hang below them.
    #[test]
    fn names_are_cut_before_they_are_handed_down() {
        let mut document = Document::new();
        let mut below = document.add_object(dictionary! { "FT" => "Sig", "T" => Object::string_literal("last") });
        for _ in 0..20 {
            let name = Object::string_literal(vec![b'x'; 100_000]);
            below = document.add_object(dictionary! { "T" => name, "Kids" => vec![below.into()] });
        }
        let document = with_fields(document, vec![below.into()]);
        let found = fields(&document);
        let [field] = found.as_slice() else { panic!("{} fields", found.len()) };
        assert!(field.name.starts_with("xxx") && field.name.len() <= NAME_BYTES_MAX + OWN_NAME_BYTES_MAX + 1);
    }

    /// Done for each field anew, this takes an hour.
    #[test]
    fn what_many_fields_share_is_taken_out_once() {
        let mut document = Document::new();
        let widget = document.add_object(dictionary! { "Subtype" => "Widget", "FT" => "Sig" });
        let kids = document.add_object(vec![Object::Reference(widget); VISITS_MAX]);
        let value = document.add_object(dictionary! { "Type" => "Sig" });
        let field = || dictionary! { "FT" => "Sig", "V" => value, "Kids" => kids };
        let roots = (0..VISITS_MAX).map(|_| document.add_object(field()).into()).collect();
        let document = with_fields(document, roots);
        let mut update = Update::of(&document);
        take_out(&document, &mut update);
        let Some(Object::Dictionary(widget)) = update.get(widget) else { panic!("it is left") };
        assert!(!widget.has(b"FT"));
        let form = document.trailer.get(b"Root").and_then(Object::as_reference).ok().and_then(|id| update.get(id));
        assert!(form.is_some_and(|catalog| !format!("{catalog:?}").contains("0 R")), "{form:?}");
    }
}
