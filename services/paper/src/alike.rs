//! Whether other readers find in a file the objects that ours found: what is seen has to be what is stamped and sealed.
//!
//! It must never repair anything, and takes for unlike what it cannot judge.

use std::collections::BTreeMap;

use lopdf::xref::XrefEntry;
use lopdf::{Document, Object, ObjectId};

use crate::delta::each_names_once;
use crate::limits::Limits;

/// How far behind its offset an object's header may end: some white space, a number, a generation and a word.
const HEADER_BYTES_MAX: usize = 64;

/// Whether the file says of each object once where it is, and each is there.
///
/// Readers differ in all else: which of two ends of a file counts, which of two objects with one number, and whether an
/// object counts that no table names.
pub(crate) fn read_alike(file: &[u8], document: &Document) -> bool {
    let mut members = Members { document, of_container: BTreeMap::new() };
    let table = &document.reference_table;
    let is_named =
        |number: u32| matches!(table.get(number), Some(XrefEntry::Normal { .. } | XrefEntry::Compressed { .. }));
    last_start(file) == Some(document.xref_start)
        && each_names_once(file, document.xref_start, document.xref_section_count)
        && document.objects.keys().all(|(number, _)| is_named(*number))
        && table.entries.iter().all(|(number, entry)| match *entry {
            XrefEntry::Normal { offset, generation } => header_at(file, offset as usize) == Some((*number, generation)),
            XrefEntry::Compressed { container, index } => members.has(container, index, *number),
            XrefEntry::Free | XrefEntry::UnusableFree => true,
        })
}

/// Where the last table is, by the last word on it in the file.
fn last_start(file: &[u8]) -> Option<usize> {
    const WORD: &[u8] = b"startxref";
    let at = file.windows(WORD.len()).rposition(|window| window == WORD)?;
    let digits = file[at + WORD.len()..].trim_ascii_start();
    number(&mut &digits[..digits.len().min(HEADER_BYTES_MAX)])
}

/// The number and the generation of the object that begins there.
fn header_at(file: &[u8], offset: usize) -> Option<ObjectId> {
    let text = file.get(offset..)?;
    let mut text = &text[..text.len().min(HEADER_BYTES_MAX)];
    let id = (number(&mut text)?, number(&mut text)?);
    text.trim_ascii_start().starts_with(b"obj").then_some(id)
}

/// The next number, which is taken from the text.
fn number<N: std::str::FromStr>(text: &mut &[u8]) -> Option<N> {
    let begun = text.trim_ascii_start();
    let digits = begun.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = begun.split_at(digits);
    *text = rest;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The objects inside streams of objects.
struct Members<'a> {
    document: &'a Document,
    /// The places of the numbers that stand in each only once; none if it cannot be read.
    of_container: BTreeMap<u32, Option<BTreeMap<u32, usize>>>,
}

impl Members<'_> {
    fn has(&mut self, container: u32, index: u16, number: u32) -> bool {
        let places = self.of_container.entry(container).or_insert_with(|| places(self.document, container));
        places.as_ref().is_some_and(|places| places.get(&number) == Some(&usize::from(index)))
    }
}

/// The place of each number in a stream of objects; none if one has two.
fn places(document: &Document, container: u32) -> Option<BTreeMap<u32, usize>> {
    let stream = document.objects.get(&(container, 0))?.as_stream().ok()?;
    let entry = |key: &[u8]| stream.dict.get(key).and_then(Object::as_i64).ok().and_then(|it| usize::try_from(it).ok());
    let (count, first) = (entry(b"N")?, entry(b"First")?);
    let content = stream.get_plain_content_with_limit(Limits::CEILING.stream_bytes_max).ok()?;
    let mut header = content.get(..first)?;
    let mut places = BTreeMap::new();
    while !header.trim_ascii_start().is_empty() {
        let (member, _offset): (u32, u32) = (number(&mut header)?, number(&mut header)?);
        if places.insert(member, places.len()).is_some() {
            return None;
        }
    }
    (places.len() == count).then_some(places)
}
