//! Writes changed objects of a document: behind the base, which stays as it is byte for byte, or as a new file when the
//! base cannot be continued.
//!
//! It must never touch a base that can be continued, and never continue one that other readers would have to repair.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use lopdf::xref::XrefType;
use lopdf::{Dictionary, Document, Object, ObjectId, Stream, StringFormat, Writer};
use sha2::{Digest, Sha256};

const FILE_ID_BYTES: usize = 16;
/// Trailer entries that belong to one cross-reference section and must not be carried into the next.
const SECTION_KEYS: [&[u8]; 10] =
    [b"Prev", b"XRefStm", b"Size", b"Type", b"W", b"Index", b"Length", b"Filter", b"DecodeParms", b"DL"];

/// Objects to add to a document or to replace in it.
pub(crate) struct Update {
    objects: BTreeMap<ObjectId, Object>,
    next_number: u32,
}

impl Update {
    /// An empty update of `document`, with object numbers that the document does not use.
    pub(crate) fn of(document: &Document) -> Self {
        let size = document.trailer.get(b"Size").and_then(Object::as_i64).unwrap_or(0);
        let size = u32::try_from(size).unwrap_or(0).min(document.max_id.saturating_add(1_000_000));
        Self { objects: BTreeMap::new(), next_number: size.max(document.max_id.saturating_add(1)) }
    }

    /// Reserves an object number.
    pub(crate) fn reserve(&mut self) -> ObjectId {
        let id = (self.next_number, 0);
        self.next_number = self.next_number.saturating_add(1);
        id
    }

    /// Adds a new object.
    pub(crate) fn add(&mut self, object: impl Into<Object>) -> ObjectId {
        let id = self.reserve();
        self.set(id, object);
        id
    }

    /// Sets the object of a reserved or an existing number.
    pub(crate) fn set(&mut self, id: ObjectId, object: impl Into<Object>) {
        self.objects.insert(id, object.into());
    }
}

/// The file that results from `update`.
pub(crate) fn write(base: &[u8], document: Document, update: Update) -> io::Result<Vec<u8>> {
    if can_be_continued(base, &document) { append(base, &document, update) } else { rewrite(base, document, update) }
}

fn can_be_continued(base: &[u8], document: &Document) -> bool {
    let starts_at_zero = base.starts_with(b"%PDF-");
    let is_hybrid = base.windows(8).any(|window| window == b"/XRefStm");
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

fn append(base: &[u8], document: &Document, mut update: Update) -> io::Result<Vec<u8>> {
    let mut file = base.to_vec();
    if !file.ends_with(b"\n") {
        file.push(b'\n');
    }
    let mut offsets = BTreeMap::new();
    for (id, object) in &update.objects {
        offsets.insert(*id, file.len());
        write_object(&mut file, *id, object)?;
    }
    let mut trailer = carried_trailer(document);
    set_file_id(&mut trailer, &file[base.len()..]);
    trailer.set("Prev", document.xref_start as i64);
    let section_start = file.len();
    match document.reference_table.cross_reference_type {
        XrefType::CrossReferenceTable => {
            trailer.set("Size", i64::from(update.next_number));
            write_table(&mut file, &offsets, trailer)?;
        }
        XrefType::CrossReferenceStream => {
            let id = update.reserve();
            offsets.insert(id, section_start);
            trailer.set("Size", i64::from(update.next_number));
            write_object(&mut file, id, &Object::Stream(table_stream(&offsets, trailer)?))?;
        }
    }
    write!(file, "startxref\n{section_start}\n%%EOF\n")?;
    Ok(file)
}

fn write_object(file: &mut Vec<u8>, (number, generation): ObjectId, object: &Object) -> io::Result<()> {
    writeln!(file, "{number} {generation} obj")?;
    Writer::write_object(file, object)?;
    file.write_all(b"\nendobj\n")
}

/// Runs of consecutive object numbers: the first number and the entries.
fn sections(offsets: &BTreeMap<ObjectId, usize>) -> Vec<(u32, Vec<(u16, usize)>)> {
    let mut sections: Vec<(u32, Vec<(u16, usize)>)> = Vec::new();
    for (&(number, generation), &offset) in offsets {
        match sections.last_mut() {
            Some((first, entries)) if *first as usize + entries.len() == number as usize => {
                entries.push((generation, offset));
            }
            _ => sections.push((number, vec![(generation, offset)])),
        }
    }
    sections
}

fn write_table(file: &mut Vec<u8>, offsets: &BTreeMap<ObjectId, usize>, trailer: Dictionary) -> io::Result<()> {
    file.write_all(b"xref\n")?;
    for (first, entries) in sections(offsets) {
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
    for (first, entries) in sections(offsets) {
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
fn set_file_id(trailer: &mut Dictionary, changed: &[u8]) {
    let renewed = Sha256::digest(changed)[..FILE_ID_BYTES].to_vec();
    let renewed = Object::String(renewed, StringFormat::Hexadecimal);
    let first = trailer.get(b"ID").and_then(Object::as_array).ok().and_then(|id| id.first().cloned());
    let first = first.filter(|half| half.as_str().is_ok()).unwrap_or_else(|| renewed.clone());
    trailer.set("ID", vec![first, renewed]);
}

fn rewrite(base: &[u8], mut document: Document, update: Update) -> io::Result<Vec<u8>> {
    document.objects.extend(update.objects);
    document.trailer = carried_trailer(&document);
    set_file_id(&mut document.trailer, base);
    document.prune_objects();
    drop_generations(&mut document, update.next_number);
    document.reference_table.cross_reference_type = XrefType::CrossReferenceTable;
    let mut file = Vec::with_capacity(base.len());
    document.save_to(&mut file)?;
    file.push(b'\n');
    Ok(file)
}

/// Gives every object generation 0 and an own number, every stream its true length, and makes dangling references null.
fn drop_generations(document: &mut Document, next_number: u32) {
    let mut renamed: HashMap<ObjectId, ObjectId> = HashMap::new();
    let (mut last, mut free) = (0, next_number);
    for &(number, generation) in document.objects.keys() {
        let is_taken = number == last;
        let fresh = if is_taken { free } else { number };
        free += u32::from(is_taken);
        last = number;
        renamed.insert((number, generation), (fresh, 0));
    }
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
        assert_eq!(sections(&offsets), [(3, vec![(0, 10), (0, 20)]), (9, vec![(1, 30)])]);
    }

    #[test]
    fn generations_go_and_dangling_references_become_null() {
        let mut document = Document::new();
        document.objects.insert((1, 0), Object::Integer(1));
        document.objects.insert((1, 3), dictionary! { "A" => (1, 0), "B" => (1, 3), "C" => (7, 0) }.into());
        drop_generations(&mut document, 2);
        let moved = document.objects.get(&(2, 0)).unwrap().as_dict().unwrap();
        assert_eq!(moved.get(b"A").unwrap().as_reference().unwrap(), (1, 0));
        assert_eq!(moved.get(b"B").unwrap().as_reference().unwrap(), (2, 0));
        assert!(moved.get(b"C").unwrap().is_null());
        assert_eq!(document.max_id, 2);
    }
}
