//! Judges what was appended behind a signed revision by comparing its objects with those of the whole file.
//!
//! It must never call a change harmless that it does not know: the list of what may differ is here, all else is a change.

use std::collections::{BTreeSet, HashMap, HashSet};

use lopdf::xref::XrefEntry;
use lopdf::{Dictionary, Document, Object, ObjectId};

use super::declared;
use crate::limits::Limits;
use crate::pages::{self, follow};

/// What came behind a signed revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Later {
    /// Nothing.
    Nothing,
    /// Only certificates, revocation data and timestamps, by which signatures are checked later, and what of PDF they need.
    ValidationData,
    /// Further signatures, and nothing that changes what the pages say.
    FurtherSignatures,
    /// Something else: what the file shows now is not what was signed.
    Changes,
}

/// What a new signature may have and stay invisible: nothing that is drawn, acts, or makes it another kind of annotation.
const INVISIBLE_FIELD_KEYS: [&[u8]; 14] =
    [b"Type", b"Subtype", b"FT", b"T", b"TU", b"V", b"F", b"P", b"Rect", b"M", b"Ff", b"Lock", b"SV", b"DA"];

/// What an object of the signed revision is, as far as it may change.
#[derive(Clone, Copy)]
enum Part {
    Catalog,
    Form,
    Fields,
    Page,
    Annotations,
    ValidationData,
    Extensions,
    Information,
    EmptySignatureField,
}

/// What `now` has that `signed`, which is of its first `end` bytes, had not. Others have to read both as they were read here.
pub(super) fn between(signed: &Document, end: usize, now: &Document) -> Later {
    if signed.trailer.get(b"Root").ok() != now.trailer.get(b"Root").ok() || now.xref_recovery.is_some() {
        return Later::Changes;
    }
    if signed.xref_recovery.is_some() || fills_a_gap(signed, now) {
        return Later::Changes;
    }
    let parts = parts(signed);
    if now.xref_start < end || !is_moved_rightly(signed, end, now, &parts) {
        return Later::Changes;
    }
    let comparison = Comparison { signed, now };
    let mut later = Later::Nothing;
    for (id, before) in &signed.objects {
        let Some(after) = now.objects.get(id) else { return Later::Changes };
        if before != after {
            let found = parts.get(id).map_or(Later::Changes, |part| comparison.judge(*part, before, after));
            later = later.max(found);
        }
    }
    later
}

/// Whether all that the table says otherwise now stands behind the first `end` bytes, and is new or something that may change.
fn is_moved_rightly(signed: &Document, end: usize, now: &Document, parts: &HashMap<ObjectId, Part>) -> bool {
    let is_behind = |entry: Option<&XrefEntry>| match entry {
        Some(XrefEntry::Normal { offset, .. }) => *offset as usize >= end,
        _ => false,
    };
    now.reference_table.entries.iter().all(|(number, entry)| {
        let is_rightly_behind = match (signed.reference_table.get(*number), entry) {
            (
                Some(XrefEntry::Normal { offset: before, generation: once }),
                XrefEntry::Normal { offset, generation },
            ) if (before, once) == (offset, generation) => {
                return true;
            }
            (
                Some(XrefEntry::Compressed { container: before, index: once }),
                XrefEntry::Compressed { container, index },
            ) if (before, once) == (container, index) => {
                return true;
            }
            (_, XrefEntry::Normal { .. }) => is_behind(Some(entry)),
            (_, XrefEntry::Compressed { container, .. }) => is_behind(now.reference_table.get(*container)),
            // What is gone is found missing.
            (_, XrefEntry::Free | XrefEntry::UnusableFree) => return true,
        };
        let mut before = signed.objects.range((*number, 0)..=(*number, u16::MAX)).map(|(id, _)| id);
        is_rightly_behind && before.all(|id| parts.contains_key(id))
    })
}

/// Whether something is there now that the signed revision already named: it would appear without any of its objects changing.
fn fills_a_gap(signed: &Document, now: &Document) -> bool {
    let mut named = HashSet::new();
    signed.objects.values().for_each(|object| collect(object, &mut named));
    named.iter().any(|id| !signed.objects.contains_key(id) && now.objects.contains_key(id))
}

fn collect(object: &Object, named: &mut HashSet<ObjectId>) {
    match object {
        Object::Reference(id) => drop(named.insert(*id)),
        Object::Array(items) => items.iter().for_each(|item| collect(item, named)),
        Object::Dictionary(entries) => entries.iter().for_each(|(_, value)| collect(value, named)),
        Object::Stream(stream) => stream.dict.iter().for_each(|(_, value)| collect(value, named)),
        _ => {}
    }
}

fn parts(signed: &Document) -> HashMap<ObjectId, Part> {
    let mut parts = HashMap::new();
    let mut name = |object: Option<&Object>, part: Part| {
        if let Some(id) = object.and_then(|object| object.as_reference().ok()) {
            parts.insert(id, part);
        }
    };
    name(signed.trailer.get(b"Info").ok(), Part::Information);
    if let Ok(walked) = pages::walk(signed, Limits::CEILING.pages_max) {
        for page in walked.pages {
            name(Some(&Object::Reference(page.id)), Part::Page);
            let annotations = pages::node(signed, page.id).and_then(|page| page.get(b"Annots").ok());
            name(annotations, Part::Annotations);
        }
    }
    for field in crate::seal::earlier::fields(signed).into_iter().filter(|field| field.value.is_none()) {
        name(field.id.map(Object::Reference).as_ref(), Part::EmptySignatureField);
    }
    if let Ok(catalog) = signed.catalog() {
        name(catalog.get(b"Metadata").ok(), Part::Information);
        name(catalog.get(b"Extensions").ok(), Part::Extensions);
        let form = catalog.get(b"AcroForm").ok();
        name(form, Part::Form);
        let form = follow(signed, form).and_then(|form| form.as_dict().ok());
        name(form.and_then(|form| form.get(b"Fields").ok()), Part::Fields);
        let mut from = HashSet::new();
        catalog.get(b"DSS").iter().for_each(|store| collect(store, &mut from));
        for id in reachable(signed, from) {
            parts.entry(id).or_insert(Part::ValidationData);
        }
    }
    // A file may be made so that what its pages show is named as something harmless, too.
    let (shown, drawn) = (shown(signed), drawn(signed));
    parts.retain(|id, part| match part {
        Part::ValidationData | Part::Extensions | Part::Information => !shown.contains(id),
        Part::Form | Part::Fields | Part::Annotations | Part::EmptySignatureField => !drawn.contains(id),
        Part::Page | Part::Catalog => true,
    });
    if let Ok(id) = signed.trailer.get(b"Root").and_then(Object::as_reference) {
        parts.insert(id, Part::Catalog);
    }
    parts
}

/// What is reached from the catalog and the trailer other than as validation data, extensions or information.
fn shown(document: &Document) -> HashSet<ObjectId> {
    let mut shown = HashSet::from_iter(document.trailer.get(b"Root").and_then(Object::as_reference).ok());
    let from = named_at_the_top(document, &[b"DSS", b"Extensions", b"Metadata", b"Info", b"Root"]);
    follow_all(document, from, &mut shown);
    shown
}

/// What is reached other than as a field of the form or as an annotation, and what annotations and fields look like.
fn drawn(document: &Document) -> HashSet<ObjectId> {
    let mut drawn = HashSet::from_iter(document.trailer.get(b"Root").and_then(Object::as_reference).ok());
    let mut from = named_at_the_top(document, &[b"DSS", b"Metadata", b"Info", b"Root", b"AcroForm", b"StructTreeRoot"]);
    let form = document.catalog().ok().and_then(|catalog| follow(document, catalog.get(b"AcroForm").ok()));
    collect_but(b"Fields", form.and_then(|form| form.as_dict().ok()), &mut from);
    let pages = pages::walk(document, Limits::CEILING.pages_max).map(|walked| walked.pages).unwrap_or_default();
    for page in pages {
        drawn.insert(page.id);
        let page = pages::node(document, page.id);
        collect_but(b"Annots", page, &mut from);
        let annotations = page.and_then(|page| follow(document, page.get(b"Annots").ok())?.as_array().ok());
        for annotation in annotations.into_iter().flatten() {
            let annotation = follow(document, Some(annotation)).and_then(|annotation| annotation.as_dict().ok());
            let look = annotation.and_then(|annotation| annotation.get(b"AP").ok());
            look.iter().for_each(|look| collect(look, &mut from));
        }
    }
    follow_all(document, from, &mut drawn);
    drawn
}

/// What the trailer and the catalog name under other keys than these.
fn named_at_the_top(document: &Document, aside: &[&[u8]]) -> HashSet<ObjectId> {
    let mut named = HashSet::new();
    let catalog = document.catalog().ok();
    for (key, value) in document.trailer.iter().chain(catalog.into_iter().flat_map(Dictionary::iter)) {
        if !aside.contains(&key.as_slice()) {
            collect(value, &mut named);
        }
    }
    named
}

/// What a dictionary names under other keys than that.
fn collect_but(aside: &[u8], entries: Option<&Dictionary>, named: &mut HashSet<ObjectId>) {
    for (key, value) in entries.into_iter().flat_map(Dictionary::iter) {
        if key != aside {
            collect(value, named);
        }
    }
}

fn reachable(document: &Document, from: HashSet<ObjectId>) -> HashSet<ObjectId> {
    let mut found = HashSet::new();
    follow_all(document, from, &mut found);
    found
}

fn follow_all(document: &Document, from: HashSet<ObjectId>, found: &mut HashSet<ObjectId>) {
    let mut todo: Vec<ObjectId> = from.into_iter().collect();
    while let Some(id) = todo.pop() {
        if found.insert(id)
            && let Some(object) = document.objects.get(&id)
        {
            let mut named = HashSet::new();
            collect(object, &mut named);
            todo.extend(named.into_iter().filter(|id| !found.contains(id)));
        }
    }
}

struct Comparison<'a> {
    signed: &'a Document,
    now: &'a Document,
}

impl Comparison<'_> {
    fn judge(&self, part: Part, before: &Object, after: &Object) -> Later {
        match (part, before, after) {
            (Part::Catalog, Object::Dictionary(before), Object::Dictionary(after)) => self.catalog(before, after),
            (Part::Form, Object::Dictionary(before), Object::Dictionary(after)) => self.form(before, after),
            (Part::Page, Object::Dictionary(before), Object::Dictionary(after)) => {
                if differing(before, after).iter().all(|key| key == b"Annots") {
                    self.list(before.get(b"Annots").ok(), after.get(b"Annots").ok())
                } else {
                    Later::Changes
                }
            }
            (Part::Fields | Part::Annotations, Object::Array(before), Object::Array(after)) => {
                self.appended(before, after)
            }
            (Part::EmptySignatureField, Object::Dictionary(before), Object::Dictionary(after)) => {
                let only_signed = differing(before, after).iter().all(|key| [&b"V"[..], b"M"].contains(&&key[..]));
                if only_signed && !self.is_seen(after) { self.kind_of_signature(after) } else { Later::Changes }
            }
            (Part::ValidationData, ..) => Later::ValidationData,
            (Part::Extensions, ..) => self.extensions(Some(before), Some(after)),
            (Part::Information, ..) => Later::Nothing,
            _ => Later::Changes,
        }
    }

    fn catalog(&self, before: &Dictionary, after: &Dictionary) -> Later {
        let (signed, now) = (self.signed, self.now);
        let judge = |key: &Vec<u8>| match (key.as_slice(), before.get(key).ok(), after.get(key).ok()) {
            (b"DSS", ..) => Later::ValidationData,
            (b"Extensions", before, after) => self.extensions(before, after),
            (b"Version", before, after) if declared::is_raised(signed, before, after) => Later::ValidationData,
            (b"Metadata", before, Some(after)) if declared::is_new_metadata(signed, now, before, after) => {
                Later::Nothing
            }
            (b"AcroForm", Some(Object::Dictionary(before)), Some(Object::Dictionary(after))) => {
                self.form(before, after)
            }
            (b"AcroForm", None, Some(form)) => match follow(now, Some(form)) {
                Some(Object::Dictionary(form)) => self.form(&Dictionary::new(), form),
                _ => Later::Changes,
            },
            _ => Later::Changes,
        };
        differing(before, after).iter().map(judge).max().unwrap_or(Later::Nothing)
    }

    /// Extensions that stand in the catalog, or are an object of their own.
    fn extensions(&self, before: Option<&Object>, after: Option<&Object>) -> Later {
        let none = Dictionary::new();
        let before = match follow(self.signed, before) {
            Some(Object::Dictionary(extensions)) => extensions,
            Some(_) => return Later::Changes,
            None => &none,
        };
        match follow(self.now, after) {
            Some(Object::Dictionary(after)) if declared::is_extended(before, after) => Later::ValidationData,
            _ => Later::Changes,
        }
    }

    fn form(&self, before: &Dictionary, after: &Dictionary) -> Later {
        let judge = |key: &Vec<u8>| match key.as_slice() {
            b"SigFlags" => Later::Nothing,
            b"Fields" => self.list(before.get(key).ok(), after.get(key).ok()),
            _ => Later::Changes,
        };
        differing(before, after).iter().map(judge).max().unwrap_or(Later::Nothing)
    }

    /// Lists that stand in a dictionary, or are objects of their own.
    fn list(&self, before: Option<&Object>, after: Option<&Object>) -> Later {
        const NONE: &[Object] = &[];
        let before = match follow(self.signed, before) {
            Some(Object::Array(items)) => items,
            Some(_) => return Later::Changes,
            None => NONE,
        };
        match follow(self.now, after) {
            Some(Object::Array(after)) => self.appended(before, after),
            _ => Later::Changes,
        }
    }

    /// Whether all that a list has more is new signature fields.
    fn appended(&self, before: &[Object], after: &[Object]) -> Later {
        let Some(more) = after.strip_prefix(before) else { return Later::Changes };
        let judge = |item: &Object| match item {
            Object::Reference(id) if !self.signed.objects.contains_key(id) => self.new_field(*id),
            _ => Later::Changes,
        };
        more.iter().map(judge).max().unwrap_or(Later::Nothing)
    }

    fn new_field(&self, id: ObjectId) -> Later {
        let Some(Object::Dictionary(field)) = self.now.objects.get(&id) else { return Later::Changes };
        let is_named = |key: &[u8], name: &[u8]| field.get(key).and_then(Object::as_name).is_ok_and(|it| it == name);
        let is_widget = is_named(b"Subtype", b"Widget") && (is_named(b"Type", b"Annot") || !field.has(b"Type"));
        let is_plain = field.iter().all(|(key, _)| INVISIBLE_FIELD_KEYS.contains(&key.as_slice()));
        if is_named(b"FT", b"Sig") && is_widget && is_plain && !self.is_seen(field) {
            self.kind_of_signature(field)
        } else {
            Later::Changes
        }
    }

    /// Whether it has a place on its page, or one that cannot be read: what it shows there would lie over what was signed.
    fn is_seen(&self, field: &Dictionary) -> bool {
        let Ok(place) = field.get(b"Rect") else { return false };
        let corners = follow(self.now, Some(place)).and_then(|corners| corners.as_array().ok());
        let corner = |index: usize| follow(self.now, corners?.get(index)).and_then(pages::number);
        match [corner(0), corner(1), corner(2), corner(3)] {
            [Some(left), Some(bottom), Some(right), Some(top)] => left != right && bottom != top,
            _ => true,
        }
    }

    fn kind_of_signature(&self, field: &Dictionary) -> Later {
        let value = follow(self.now, field.get(b"V").ok()).and_then(|value| value.as_dict().ok());
        let kind = value.and_then(|value| value.get(b"Type").and_then(Object::as_name).ok());
        match kind {
            Some(b"DocTimeStamp") => Later::ValidationData,
            Some(b"Sig") => Later::FurtherSignatures,
            _ => Later::Changes,
        }
    }
}

/// The keys whose values differ.
fn differing(before: &Dictionary, after: &Dictionary) -> BTreeSet<Vec<u8>> {
    let keys = before.iter().chain(after.iter()).map(|(key, _)| key);
    keys.filter(|key| before.get(key).ok() != after.get(key).ok()).cloned().collect()
}
