//! Writes changed objects of a document: behind the base, which stays as it is byte for byte, or as a new file when the
//! base cannot be continued.
//!
//! It must never touch a base that can be continued, and never continue one that other readers would have to repair.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::ops::Range;

use lopdf::xref::XrefType;
use lopdf::{Dictionary, Document, Object, ObjectId, Stream, StringFormat, Writer};
use sha2::{Digest, Sha256};

use crate::pages;

mod sections;

pub(crate) use sections::each_names_once;

const FILE_ID_BYTES: usize = 16;
/// Trailer entries that belong to one cross-reference section and must not be carried into the next.
const SECTION_KEYS: [&[u8]; 10] =
    [b"Prev", b"XRefStm", b"Size", b"Type", b"W", b"Index", b"Length", b"Filter", b"DecodeParms", b"DL"];

/// Objects to add to a document or to replace in it.
pub(crate) struct Update {
    objects: BTreeMap<ObjectId, Object>,
    /// Objects that are written as these bytes, because something has to be put into them afterwards.
    verbatim: BTreeMap<ObjectId, Verbatim>,
    next_number: u32,
}

struct Verbatim {
    bytes: Vec<u8>,
    /// Where something will be put that depends on all the rest.
    hole: Range<usize>,
}

impl Update {
    /// An empty update of `document`, with object numbers that the document does not use.
    pub(crate) fn of(document: &Document) -> Self {
        let size = document.trailer.get(b"Size").and_then(Object::as_i64).unwrap_or(0);
        let size = u32::try_from(size).unwrap_or(0).min(document.max_id.saturating_add(1_000_000));
        let next_number = size.max(document.max_id.saturating_add(1));
        Self { objects: BTreeMap::new(), verbatim: BTreeMap::new(), next_number }
    }

    /// Whether it would change nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.verbatim.is_empty()
    }

    /// The object of this number as it will be.
    pub(crate) fn current<'a>(&'a self, document: &'a Document, id: ObjectId) -> Option<&'a Object> {
        self.objects.get(&id).or_else(|| document.objects.get(&id))
    }

    /// Reserves an object number.
    pub(crate) fn reserve(&mut self) -> ObjectId {
        let id = (self.next_number, 0);
        // There is always another: papers whose numbers reach half as far are not opened.
        self.next_number += 1;
        id
    }

    /// Adds a new object.
    pub(crate) fn add(&mut self, object: impl Into<Object>) -> ObjectId {
        let id = self.reserve();
        self.set(id, object);
        id
    }

    /// What this update makes of an object; none if it leaves it as it was.
    pub(crate) fn get(&self, id: ObjectId) -> Option<&Object> {
        self.objects.get(&id)
    }

    /// Sets the object of a reserved or an existing number.
    pub(crate) fn set(&mut self, id: ObjectId, object: impl Into<Object>) {
        self.objects.insert(id, object.into());
    }

    /// Changes the dictionary of an existing number, if it is one.
    pub(crate) fn edit(&mut self, document: &Document, id: ObjectId, change: impl FnOnce(&mut Dictionary)) {
        if let Some(Object::Dictionary(current)) = self.current(document, id) {
            let mut changed = current.clone();
            change(&mut changed);
            self.set(id, changed);
        }
    }

    /// Changes the list of an existing number, if it is one.
    pub(crate) fn edit_array(&mut self, document: &Document, id: ObjectId, change: impl FnOnce(&mut Vec<Object>)) {
        if let Some(Object::Array(current)) = self.current(document, id) {
            let mut changed = current.clone();
            change(&mut changed);
            self.set(id, changed);
        }
    }

    /// Makes the document what this update makes of it.
    pub(crate) fn apply_to(self, document: &mut Document) {
        document.objects.extend(self.objects);
    }

    /// About how many bytes it takes: a buffer that grows is copied again and again.
    fn weight(&self) -> usize {
        const WORDS_BYTES: usize = 256;
        let verbatim: usize = self.verbatim.values().map(|verbatim| verbatim.bytes.len()).sum();
        let streams = self.objects.values().filter_map(|object| object.as_stream().ok());
        let content: usize = streams.map(|stream| stream.content.len()).sum();
        // An object and its entry in the table; and the trailer.
        verbatim + content + (self.objects.len() + self.verbatim.len() + 4) * WORDS_BYTES
    }

    /// Sets the bytes of a reserved number's object, which have a hole. Only a continued base takes them.
    pub(crate) fn set_verbatim(&mut self, id: ObjectId, bytes: Vec<u8>, hole: Range<usize>) {
        self.verbatim.insert(id, Verbatim { bytes, hole });
    }
}

/// The file that results from `update`.
pub(crate) fn write(base: &[u8], document: Document, update: Update) -> io::Result<Vec<u8>> {
    if !can_be_continued(base, &document) {
        return rewrite(base, document, update);
    }
    let delta = append(BaseEnd::of(base), &document, update)?;
    let mut file = Vec::with_capacity(base.len() + delta.bytes.len());
    file.extend_from_slice(base);
    file.extend_from_slice(&delta.bytes);
    Ok(file)
}

/// Where an update begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BaseEnd {
    pub(crate) base_bytes: usize,
    pub(crate) ends_line: bool,
}

impl BaseEnd {
    pub(crate) fn of(base: &[u8]) -> Self {
        Self { base_bytes: base.len(), ends_line: base.ends_with(b"\n") }
    }
}

/// What stands behind a base.
pub(crate) struct Delta {
    pub(crate) bytes: Vec<u8>,
    /// Where its objects are, counted from its own start.
    pub(crate) starts: BTreeMap<ObjectId, usize>,
}

/// Whether other readers take an update behind this base for what it is.
pub(crate) fn can_be_continued(base: &[u8], document: &Document) -> bool {
    let starts_at_zero = base.starts_with(b"%PDF-");
    let is_hybrid = sections::any_is_hybrid(base, document.xref_start);
    let size = document.trailer.get(b"Size").and_then(Object::as_i64).unwrap_or(0);
    let section = base.get(document.xref_start..).unwrap_or_default();
    let section_is_there = section.starts_with(b"xref") || section.first().is_some_and(u8::is_ascii_digit);
    document.xref_recovery.is_none()
        && starts_at_zero
        && !is_hybrid
        && size > i64::from(document.max_id)
        && document.xref_start > 0
        && section_is_there
}

/// The update as bytes that follow the base.
pub(crate) fn append(base: BaseEnd, document: &Document, mut update: Update) -> io::Result<Delta> {
    let mut bytes = Vec::with_capacity(update.weight());
    if !base.ends_line {
        bytes.push(b'\n');
    }
    let mut starts = BTreeMap::new();
    for (id, object) in &update.objects {
        starts.insert(*id, bytes.len());
        write_object(&mut bytes, *id, object)?;
    }
    let (mut changed, mut hashed) = (Sha256::new(), 0);
    for (id, Verbatim { bytes: verbatim, hole }) in &update.verbatim {
        starts.insert(*id, bytes.len());
        write_header(&mut bytes, *id)?;
        let start = bytes.len();
        bytes.extend_from_slice(verbatim);
        bytes.extend_from_slice(OBJECT_END);
        changed.update(&bytes[hashed..start + hole.start]);
        hashed = start + hole.end;
    }
    changed.update(&bytes[hashed..]);
    let mut offsets: BTreeMap<_, _> = starts.iter().map(|(id, start)| (*id, base.base_bytes + start)).collect();
    let mut trailer = carried_trailer(document);
    set_file_id(&mut trailer, changed);
    trailer.set("Prev", document.xref_start as i64);
    let section_start = base.base_bytes + bytes.len();
    match document.reference_table.cross_reference_type {
        XrefType::CrossReferenceTable => {
            trailer.set("Size", i64::from(update.next_number));
            write_table(&mut bytes, &offsets, trailer)?;
        }
        XrefType::CrossReferenceStream => {
            let id = update.reserve();
            offsets.insert(id, section_start);
            trailer.set("Size", i64::from(update.next_number));
            write_object(&mut bytes, id, &Object::Stream(table_stream(&offsets, trailer)?))?;
        }
    }
    write!(bytes, "startxref\n{section_start}\n%%EOF\n")?;
    Ok(Delta { bytes, starts })
}

const OBJECT_END: &[u8] = b"\nendobj\n";

fn write_object(file: &mut Vec<u8>, id: ObjectId, object: &Object) -> io::Result<()> {
    write_header(file, id)?;
    Writer::write_object(file, object)?;
    file.write_all(OBJECT_END)
}

fn write_header(file: &mut Vec<u8>, (number, generation): ObjectId) -> io::Result<()> {
    writeln!(file, "{number} {generation} obj")
}

/// How many bytes stand before an object's own.
pub(crate) fn header_bytes((number, generation): ObjectId) -> usize {
    format!("{number} {generation} obj\n").len()
}

/// Runs of consecutive object numbers: the first number and the entries.
fn runs(offsets: &BTreeMap<ObjectId, usize>) -> Vec<(u32, Vec<(u16, usize)>)> {
    let mut runs: Vec<(u32, Vec<(u16, usize)>)> = Vec::new();
    for (&(number, generation), &offset) in offsets {
        match runs.last_mut() {
            Some((first, entries)) if *first as usize + entries.len() == number as usize => {
                entries.push((generation, offset));
            }
            _ => runs.push((number, vec![(generation, offset)])),
        }
    }
    runs
}

fn write_table(file: &mut Vec<u8>, offsets: &BTreeMap<ObjectId, usize>, trailer: Dictionary) -> io::Result<()> {
    file.write_all(b"xref\n")?;
    for (first, entries) in runs(offsets) {
        writeln!(file, "{first} {}", entries.len())?;
        for (generation, offset) in entries {
            // Exactly 20 bytes an entry, or strict readers refuse the table.
            writeln!(file, "{offset:010} {generation:05} n ")?;
        }
    }
    file.write_all(b"trailer\n")?;
    Writer::write_object(file, &Object::Dictionary(trailer))?;
    file.write_all(b"\n")
}

fn table_stream(offsets: &BTreeMap<ObjectId, usize>, trailer: Dictionary) -> io::Result<Stream> {
    const IN_USE: u8 = 1;
    let (mut index, mut content) = (Vec::new(), Vec::new());
    for (first, entries) in runs(offsets) {
        index.push(Object::from(i64::from(first)));
        index.push(Object::from(entries.len() as i64));
        for (generation, offset) in entries {
            let offset = u32::try_from(offset).map_err(|_| io::Error::other("the file is larger than 4 GiB"))?;
            content.push(IN_USE);
            content.extend(offset.to_be_bytes());
            content.extend(generation.to_be_bytes());
        }
    }
    let mut dictionary = trailer;
    dictionary.set("Type", "XRef");
    dictionary.set("W", vec![Object::from(1), Object::from(4), Object::from(2)]);
    dictionary.set("Index", index);
    Ok(Stream::new(dictionary, content))
}

fn carried_trailer(document: &Document) -> Dictionary {
    let carried = document.trailer.iter().filter(|(key, _)| !SECTION_KEYS.contains(&key.as_slice()));
    carried.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Keeps the first half of the file identifier and renews the second, as an update has to.
fn set_file_id(trailer: &mut Dictionary, changed: Sha256) {
    let renewed = changed.finalize()[..FILE_ID_BYTES].to_vec();
    let renewed = Object::String(renewed, StringFormat::Hexadecimal);
    let first = trailer.get(b"ID").and_then(Object::as_array).ok().and_then(|id| id.first().cloned());
    let first = first.filter(|half| half.as_str().is_ok()).unwrap_or_else(|| renewed.clone());
    trailer.set("ID", vec![first, renewed]);
}

/// The document with the update, written anew. What is set verbatim is left out.
pub(crate) fn rewrite(base: &[u8], mut document: Document, update: Update) -> io::Result<Vec<u8>> {
    document.objects.extend(update.objects);
    document.trailer = carried_trailer(&document);
    set_file_id(&mut document.trailer, Sha256::new_with_prefix(base));
    document.prune_objects();
    renumber(&mut document);
    document.reference_table.cross_reference_type = XrefType::CrossReferenceTable;
    let mut file = Vec::with_capacity(base.len());
    document.save_to(&mut file)?;
    file.push(b'\n');
    Ok(file)
}

/// Numbers the objects from 1 without gaps or generations, gives every stream its true length, makes dangling references null,
/// and leaves out objects that only lead to others: not all readers follow them.
fn renumber(document: &mut Document) {
    let (detours, kept): (Vec<ObjectId>, Vec<ObjectId>) =
        document.objects.keys().partition(|id| matches!(document.objects.get(id), Some(Object::Reference(_))));
    let fresh = (1..).map(|number| (number, 0));
    let mut renamed: HashMap<ObjectId, ObjectId> = kept.into_iter().zip(fresh).collect();
    for detour in &detours {
        let end = pages::last_id(document, &Object::Reference(*detour)).and_then(|id| renamed.get(&id).copied());
        renamed.extend(end.map(|end| (*detour, end)));
    }
    document.objects.retain(|_, object| !matches!(object, Object::Reference(_)));
    let objects = std::mem::take(&mut document.objects);
    document.objects = objects
        .into_iter()
        .filter_map(|(id, mut object)| {
            rename_references(&mut object, &renamed);
            if let Object::Stream(stream) = &mut object {
                stream.dict.set("Length", stream.content.len() as i64);
            }
            renamed.get(&id).map(|id| (*id, object))
        })
        .collect();
    let mut trailer = Object::Dictionary(std::mem::take(&mut document.trailer));
    rename_references(&mut trailer, &renamed);
    if let Object::Dictionary(trailer) = trailer {
        document.trailer = trailer;
    }
    document.max_id = document.objects.keys().next_back().map_or(0, |(number, _)| *number);
}

fn rename_references(object: &mut Object, renamed: &HashMap<ObjectId, ObjectId>) {
    match object {
        Object::Reference(id) => match renamed.get(id) {
            Some(renamed) => *id = *renamed,
            None => *object = Object::Null,
        },
        Object::Array(items) => items.iter_mut().for_each(|item| rename_references(item, renamed)),
        Object::Dictionary(entries) => entries.iter_mut().for_each(|(_, value)| rename_references(value, renamed)),
        Object::Stream(stream) => stream.dict.iter_mut().for_each(|(_, value)| rename_references(value, renamed)),
        Object::Null
        | Object::Boolean(_)
        | Object::Integer(_)
        | Object::Real(_)
        | Object::Name(_)
        | Object::String(..) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use lopdf::dictionary;

    use super::*;

    #[test]
    fn neighbouring_numbers_share_a_section() {
        let offsets = BTreeMap::from([((3, 0), 10), ((4, 0), 20), ((9, 1), 30)]);
        assert_eq!(runs(&offsets), [(3, vec![(0, 10), (0, 20)]), (9, vec![(1, 30)])]);
    }

    #[test]
    fn generations_go_and_dangling_references_become_null() {
        let mut document = Document::new();
        document.objects.insert((1, 0), Object::Integer(1));
        document.objects.insert((1, 3), dictionary! { "A" => (1, 0), "B" => (1, 3), "C" => (7, 0) }.into());
        document.objects.insert((2, 0), Object::Reference((1, 3)));
        document.trailer.set("Root", Object::Reference((2, 0)));
        renumber(&mut document);
        assert_eq!(document.trailer.get(b"Root").unwrap().as_reference().unwrap(), (2, 0));
        let moved = document.objects.get(&(2, 0)).unwrap().as_dict().unwrap();
        assert_eq!(moved.get(b"A").unwrap().as_reference().unwrap(), (1, 0));
        assert_eq!(moved.get(b"B").unwrap().as_reference().unwrap(), (2, 0));
        assert!(moved.get(b"C").unwrap().is_null());
        assert_eq!(document.max_id, 2);
    }
}
