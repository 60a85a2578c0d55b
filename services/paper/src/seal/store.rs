//! Puts what shows that certificates were good into the catalog of a paper that is about to be sealed.
//!
//! It must never drop what earlier signatures are checked by, nor write into an object that was there before: it may be named
//! as something else, too.

use std::collections::BTreeMap;
use std::ops::Range;

use lopdf::{Dictionary, Document, Object, ObjectId, Stream, dictionary};

use super::SealError;
use super::field::{array, dictionary_at, resolved};
use crate::delta::Update;
use crate::revocation::{Proof, Validation};

/// The extension of PDF 1.7 that knows such data, and its level.
const EXTENSION: &str = "ESIC";
const EXTENSION_LEVEL: i64 = 5;
/// What stands between the dictionary of a stream and its content.
const STREAM: &[u8] = b"stream\n";

/// Where the data is in an update: its objects, and how long each is.
#[derive(Debug, Default)]
pub(super) struct Stored {
    certificates: Vec<(ObjectId, usize)>,
    ocsps: Vec<(ObjectId, usize)>,
    crls: Vec<(ObjectId, usize)>,
}

/// Where it is in the bytes of one.
#[derive(Debug, Default)]
pub(super) struct Places {
    certificates: Vec<Range<usize>>,
    ocsps: Vec<Range<usize>>,
    crls: Vec<Range<usize>>,
}

pub(super) fn add(document: &Document, update: &mut Update, validation: &Validation) -> Result<Stored, SealError> {
    if *validation == Validation::default() {
        return Ok(Stored::default());
    }
    let catalog_id = document.trailer.get(b"Root").and_then(Object::as_reference).map_err(SealError::compose)?;
    let mut catalog = dictionary_at(document, update, catalog_id)?;
    let earlier = dictionary_of(document, update, catalog.get(b"DSS").ok());
    let mut store = dictionary! { "Type" => "DSS" };
    if let Some((_, Object::Dictionary(_))) = resolved(document, update, earlier.get(b"VRI").ok()) {
        store.set("VRI", earlier.get(b"VRI").cloned().unwrap_or(Object::Null));
    }
    let mut add = |key: &str, parts: &[Vec<u8>]| {
        let mut items = streams(document, update, earlier.get(key.as_bytes()).ok());
        let added = once(parts).map(|part| (update.add(Stream::new(Dictionary::new(), part.clone())), part.len()));
        let added: Vec<(ObjectId, usize)> = added.collect();
        items.extend(added.iter().map(|(id, _)| Object::Reference(*id)));
        if !items.is_empty() {
            store.set(key, items);
        }
        added
    };
    let stored = Stored {
        certificates: add("Certs", &validation.certificates),
        ocsps: add("OCSPs", &validation.ocsps),
        crls: add("CRLs", &validation.crls),
    };
    catalog.set("DSS", update.add(store));
    let extensions = extended(dictionary_of(document, update, catalog.get(b"Extensions").ok()), document, update);
    catalog.set("Extensions", extensions);
    update.set(catalog_id, catalog);
    Ok(stored)
}

/// What a list names that can be what it is said to be; others leave the whole store aside for anything else.
fn streams(document: &Document, update: &Update, list: Option<&Object>) -> Vec<Object> {
    let (_, mut items) = array(document, update, list);
    items.retain(|item| matches!(resolved(document, update, Some(item)), Some((Some(_), Object::Stream(_)))));
    items
}

/// Each of them once.
fn once(parts: &[Vec<u8>]) -> impl Iterator<Item = &Vec<u8>> {
    parts.iter().enumerate().filter(|(index, part)| !parts[..*index].contains(part)).map(|(_, part)| part)
}

/// The extensions of the catalog with the one that is needed, all of them written where they are named.
fn extended(mut extensions: Dictionary, document: &Document, update: &Update) -> Dictionary {
    let own = dictionary_of(document, update, extensions.get(EXTENSION.as_bytes()).ok());
    let level = own.get(b"ExtensionLevel").and_then(Object::as_i64).unwrap_or(0);
    if level < EXTENSION_LEVEL {
        let needed = dictionary! { "BaseVersion" => "1.7", "ExtensionLevel" => EXTENSION_LEVEL };
        extensions.set(EXTENSION, needed);
    }
    extensions
}

fn dictionary_of(document: &Document, update: &Update, object: Option<&Object>) -> Dictionary {
    let found = resolved(document, update, object).and_then(|(_, object)| object.as_dict().ok());
    found.cloned().unwrap_or_default()
}

impl Stored {
    /// Where it was written; what is not found there is missing.
    pub(super) fn places(&self, starts: &BTreeMap<ObjectId, usize>, delta: &[u8]) -> Places {
        let place = |(id, length): &(ObjectId, usize)| {
            let start = *starts.get(id)?;
            let at = delta.get(start..)?.windows(STREAM.len()).position(|window| window == STREAM)?;
            let content = start + at + STREAM.len();
            Some(content..content + length)
        };
        let places = |parts: &[(ObjectId, usize)]| parts.iter().filter_map(place).collect();
        Places { certificates: places(&self.certificates), ocsps: places(&self.ocsps), crls: places(&self.crls) }
    }
}

impl Places {
    /// What is there.
    pub(super) fn read<'a>(&self, delta: &'a [u8]) -> Proof<'a> {
        let read = |places: &[Range<usize>]| places.iter().filter_map(|place| delta.get(place.clone())).collect();
        Proof { certificates: read(&self.certificates), ocsps: read(&self.ocsps), crls: read(&self.crls) }
    }
}
