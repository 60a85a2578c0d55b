//! Files in which two readers find two documents: none of them is kept as it is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{Ingested, Limits, Note, Policy, Refusal, Unreadable, ingest, refuse};
use lopdf::Document;
use odd::{Odd, Packing};

const CONTENT: u32 = 4;
const LEFT: &str = "0 g 0 0 100 200 re f";
const RIGHT: &str = "0 g 100 0 100 200 re f";

/// A file that is written piece by piece.
struct Raw {
    bytes: Vec<u8>,
    entries: Vec<(u32, usize)>,
    sections: Vec<usize>,
    size: u32,
}

impl Raw {
    /// A page whose content is not there yet.
    fn page(more: &str) -> Self {
        let mut raw = Self { bytes: b"%PDF-1.7\n".to_vec(), entries: Vec::new(), sections: Vec::new(), size: 1_000 };
        raw.object(1, &format!("<</Type/Catalog/Pages 2 0 R{more}>>"));
        raw.object(2, "<</Type/Pages/Kids[3 0 R]/Count 1>>");
        raw.object(3, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Resources<<>>/Contents 4 0 R>>");
        raw
    }

    /// The same, signed by somebody.
    fn signed_page() -> Self {
        let mut raw = Self::page("/AcroForm<</Fields[5 0 R]/SigFlags 3>>");
        raw.object(5, "<</FT/Sig/T(a)/V 6 0 R>>");
        raw.object(6, "<</Type/Sig/ByteRange[0 1 2 3]/Contents<00>>>");
        raw
    }

    /// An object that the next table names.
    fn object(&mut self, number: u32, body: &str) {
        let at = self.unnamed(number, body);
        self.entries.push((number, at));
    }

    /// An object that no table names; where it is.
    fn unnamed(&mut self, number: u32, body: &str) -> usize {
        let at = self.bytes.len();
        self.write(&format!("{number} 0 obj\n{body}\nendobj\n"));
        at
    }

    fn content(&mut self, drawing: &str) {
        self.object(CONTENT, &stream("", drawing));
    }

    fn write(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn trailer(&self) -> String {
        let previous = self.sections.last().map(|at| format!("/Prev {at}")).unwrap_or_default();
        format!("<</Size {}/Root 1 0 R{previous}>>", self.size)
    }

    fn table(&mut self) -> usize {
        let at = self.bytes.len();
        self.write("xref\n");
        for (number, offset) in std::mem::take(&mut self.entries) {
            self.write(&format!("{number} 1\n{offset:010} 00000 n \n"));
        }
        self.write(&format!("trailer\n{}\n", self.trailer()));
        self.sections.push(at);
        at
    }

    fn end(mut self) -> Vec<u8> {
        let at = self.table();
        self.write(&format!("startxref\n{at}\n%%EOF\n"));
        self.bytes
    }

    /// A stream of objects, and a stream in place of a table that says in which place of it each object is.
    fn end_with_members(mut self, members: &str, bodies: &str, places: &[(u32, u8)]) -> Vec<u8> {
        const CONTAINER: u32 = 20;
        let entries = format!("/Type/ObjStm/N {}/First {}", members.split(' ').count() / 2, members.len() + 1);
        self.object(CONTAINER, &stream(&entries, &format!("{members} {bodies}")));
        let at = self.bytes.len();
        self.entries.push((21, at));
        let (mut index, mut rows) = (String::new(), String::new());
        for (number, offset) in &self.entries {
            index += &format!("{number} 1 ");
            rows += &format!("01{offset:08x}0000");
        }
        for (number, place) in places {
            index += &format!("{number} 1 ");
            rows += &format!("02{CONTAINER:08x}{place:04x}");
        }
        let entries = format!("/Type/XRef/Size {}/Root 1 0 R/W[1 4 2]/Index[{index}]/Filter/ASCIIHexDecode", self.size);
        self.write(&format!("21 0 obj\n{}\nendobj\nstartxref\n{at}\n%%EOF\n", stream(&entries, &rows)));
        self.bytes
    }
}

fn stream(entries: &str, content: &str) -> String {
    format!("<<{entries}/Length {}>>\nstream\n{content}\nendstream", content.len())
}

fn ingested(bytes: &[u8]) -> Result<Ingested, Unreadable> {
    ingest(bytes, &Limits::default(), &Policy::default())
}

/// Builds the file on a page that nobody signed, which is written anew, and on one that somebody signed, which is refused.
fn is_not_kept(what: &str, build: impl Fn(Raw) -> Vec<u8>) {
    let found = ingested(&build(Raw::page(""))).unwrap();
    assert_eq!(found.notes, [Note::TableRepaired], "{what}");
    let base = found.base.expect("a copy");
    assert_eq!(ingested(&base).unwrap().base, None, "{what}: a copy needs no copy");
    let refused = ingested(&build(Raw::signed_page())).unwrap_err();
    assert_eq!(refused, Unreadable::SignedAndFlawed { why: "TableRepaired".into() }, "{what}");
}

/// The same, where there is nothing to object to.
fn is_kept(what: &str, build: impl Fn(Raw) -> Vec<u8>) {
    for (page, is_signed) in [(Raw::page(""), false), (Raw::signed_page(), true)] {
        let found = ingested(&build(page)).unwrap();
        assert_eq!((found.base, found.notes, found.is_signed), (None, vec![], is_signed), "{what}");
    }
}

#[test]
fn what_says_of_each_object_once_where_it_is_is_kept() {
    is_kept("one revision", |mut raw| {
        raw.content(LEFT);
        raw.end()
    });
    is_kept("two revisions", |mut raw| {
        raw.content(LEFT);
        let at = raw.table();
        raw.write(&format!("startxref\n{at}\n%%EOF\n"));
        raw.content(RIGHT);
        raw.end()
    });
    is_kept("a stream of objects", |mut raw| {
        raw.content(LEFT);
        raw.end_with_members("10 0 11 3", "(a)(b)", &[(10, 0), (11, 1)])
    });
    is_kept("white space before objects", |mut raw| {
        let at = raw.bytes.len();
        raw.write(" \n");
        raw.unnamed(CONTENT, &stream("", LEFT));
        raw.entries.push((CONTENT, at));
        raw.end()
    });
}

#[test]
fn what_we_wrote_ourselves_is_kept() {
    for packing in [Packing::Table, Packing::XrefStream, Packing::ObjectStreams] {
        let mut paper = Odd { packing, ..Odd::plain() }.pdf();
        for _ in 0..3 {
            paper = refuse(&paper, &Refusal::default()).unwrap();
        }
        assert_eq!(ingested(&paper).unwrap().notes, [], "{packing:?}");
    }
}

#[test]
fn objects_are_numbered_anew_where_readers_do_not_count_so_far() {
    const HIGHEST: u32 = 8_388_607;
    let numbered = |mut raw: Raw, number: u32| {
        raw.content(LEFT);
        raw.object(number, "(far away)");
        raw.size = number + 1;
        raw.end()
    };
    assert_eq!(ingested(&numbered(Raw::page(""), HIGHEST)).unwrap().notes, []);
    let found = ingested(&numbered(Raw::page("/X 8388608 0 R"), HIGHEST + 1)).unwrap();
    assert_eq!(found.notes, [Note::WrongSize]);
    let numbers: Vec<u32> =
        Document::load_mem(&found.base.unwrap()).unwrap().objects.keys().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    let refused = ingested(&numbered(Raw::signed_page(), HIGHEST + 1)).unwrap_err();
    assert_eq!(refused, Unreadable::SignedAndFlawed { why: "WrongSize".into() });
    // Behind such a number nothing could be drawn any more.
    let far = numbered(Raw::page(""), u32::MAX - 1);
    assert!(matches!(ingested(&far), Err(Unreadable::Broken { .. })));
    assert!(refuse(&far, &Refusal::default()).is_err());
}

#[test]
fn two_ends_make_two_documents() {
    is_not_kept("an end without its mark", |mut raw| {
        raw.content(LEFT);
        let first = raw.table();
        raw.content(RIGHT);
        let second = raw.table();
        raw.write(&format!("startxref\n{first}\n%%EOF\nstartxref\n{second}\n"));
        raw.bytes
    });
}

#[test]
fn two_objects_of_one_number_make_two_documents() {
    is_not_kept("an entry for another object", |mut raw| {
        raw.content(LEFT);
        let other = raw.unnamed(CONTENT, &stream("", RIGHT));
        raw.entries.push((998, other));
        raw.end()
    });
    is_not_kept("twice in a table", |mut raw| {
        let other = raw.unnamed(CONTENT, &stream("", RIGHT));
        raw.entries.push((CONTENT, other));
        raw.content(LEFT);
        raw.end()
    });
    is_not_kept("twice in a stream of objects", |mut raw| {
        raw.content(LEFT);
        raw.end_with_members("10 0 10 3", "(a)(b)", &[(10, 0)])
    });
}

#[test]
fn what_only_the_reader_of_the_pictures_finds_is_seen_by_nobody() {
    is_not_kept("a deleted object", |mut raw| {
        raw.content(LEFT);
        let at = raw.table();
        raw.write(&format!("startxref\n{at}\n%%EOF\n"));
        let second = raw.bytes.len();
        let trailer = raw.trailer();
        raw.write(&format!("xref\n{CONTENT} 1\n0000000000 00001 f \ntrailer\n{trailer}\n"));
        raw.write(&format!("startxref\n{second}\n%%EOF\n"));
        raw.bytes
    });
    // Its tables have fields of up to four bytes, else it takes the last object of each number.
    is_not_kept("a table that it cannot read", |mut raw| {
        raw.content(LEFT);
        raw.unnamed(CONTENT, &stream("", RIGHT));
        let at = raw.bytes.len();
        raw.entries.push((21, at));
        let (mut index, mut rows) = (String::new(), String::new());
        for (number, offset) in &raw.entries {
            index += &format!("{number} 1 ");
            rows += &format!("01{offset:010x}0000");
        }
        let entries = format!("/Type/XRef/Size {}/Root 1 0 R/W[1 5 2]/Index[{index}]/Filter/ASCIIHexDecode", raw.size);
        raw.write(&format!("21 0 obj\n{}\nendobj\nstartxref\n{at}\n%%EOF\n", stream(&entries, &rows)));
        raw.bytes
    });
}

#[test]
fn what_no_table_names_is_no_object() {
    is_not_kept("an object more in a stream of objects", |mut raw| {
        raw.content(LEFT);
        raw.end_with_members("10 0 11 3", "(a)(b)", &[(10, 0)])
    });
    is_not_kept("a wrong place in a stream of objects", |mut raw| {
        raw.content(LEFT);
        raw.end_with_members("10 0 11 3", "(a)(b)", &[(10, 1), (11, 0)])
    });
}
