//! What was appended to a sealed file so that it looks like nothing, or like a signature, is found.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use std::collections::BTreeMap;

use countersign_paper::{Later, Limits, Roots, SealKind, SealOptions, SignatureFacts, seal, verify};
use lopdf::xref::XrefEntry;
use lopdf::{Dictionary, Document, IncrementalDocument, Object, ObjectId, Stream, dictionary};
use odd::pki::Pki;
use odd::{Odd, Packing, judges};

/// More than the files have objects.
const SIZE: u32 = 2_000;

fn first(file: &[u8]) -> SignatureFacts {
    let found = verify(file, &Limits::default(), &Roots::default(), 0).unwrap();
    found.signatures.into_iter().find(|facts| facts.fault.is_none()).expect("a signature that holds")
}

fn sealed(base: &[u8]) -> Vec<u8> {
    let sealer = Pki::get().sealer("p256");
    let file = sealer.finish(seal(base, &sealer.identity, &SealOptions::default()).unwrap()).whole(base);
    assert_eq!(first(&file).later, Later::Nothing);
    file
}

/// A file of a document that is made for it.
fn made(change: impl FnOnce(&mut Document, ObjectId)) -> Vec<u8> {
    let mut document = Document::load_mem(&Odd::plain().pdf()).unwrap();
    let page = *document.get_pages().get(&1).unwrap();
    change(&mut document, page);
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    sealed(&bytes)
}

/// A later update of a file by another program.
fn updated(file: &[u8], change: impl FnOnce(&mut IncrementalDocument)) -> Vec<u8> {
    let previous = Document::load_mem(file).unwrap();
    let mut document = IncrementalDocument::create_from(file.to_vec(), previous);
    change(&mut document);
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

fn edit(document: &mut IncrementalDocument, id: ObjectId, change: impl FnOnce(&mut Dictionary)) {
    document.opt_clone_object_to_new_document(id).unwrap();
    change(document.new_document.get_object_mut(id).unwrap().as_dict_mut().unwrap());
}

/// Adds a field to the annotations of the first page.
fn with_field(file: &[u8], change: &[(&str, Object)]) -> Vec<u8> {
    updated(file, |document| {
        let value = document.new_document.add_object(dictionary! { "Type" => "Sig" });
        let mut field = dictionary! {
            "FT" => "Sig", "Type" => "Annot", "Subtype" => "Widget", "V" => value, "F" => 132,
            "T" => Object::string_literal("another"), "Rect" => vec![Object::from(0); 4],
        };
        change.iter().for_each(|(key, value)| field.set(*key, value.clone()));
        field = field.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let field = document.new_document.add_object(field);
        let page = *document.get_prev_documents().get_pages().get(&1).unwrap();
        edit(document, page, |page| {
            let annotations = page.get_mut(b"Annots").and_then(Object::as_array_mut).unwrap();
            annotations.push(field.into());
        });
    })
}

#[test]
fn what_is_certified_as_final_takes_no_further_signature() {
    if !judges::can_make_keys() {
        return;
    }
    let (sealer, base) = (Pki::get().sealer("p256"), Odd::plain().pdf());
    // What others put into its place is longer.
    let options = SealOptions { kind: SealKind::Certification, timestamped: true, ..SealOptions::default() };
    let mut file = sealer.finish(seal(&base, &sealer.identity, &options).unwrap()).whole(&base);
    let level = file.windows(4).rposition(|window| window == b"/P 2").unwrap();
    for (digit, is_intact) in [(b'2', true), (b'1', false)] {
        file[level + 3] = digit;
        let file = judges::signed_by_openssl(&file, "p256", &["-cades"]);
        assert!(first(&file).is_intact());
        let facts = first(&with_field(&file, &[]));
        assert_eq!((facts.later, facts.is_intact()), (Later::FurtherSignatures, is_intact), "{:?}", facts.role);
    }
}

#[test]
fn annotations_that_call_themselves_signatures_are_changes() {
    if !judges::can_make_keys() {
        return;
    }
    let file = sealed(&Odd::plain().pdf());
    let with = |change: &[(&str, Object)]| first(&with_field(&file, change)).later;
    assert_eq!(with(&[]), Later::FurtherSignatures);
    assert_eq!(with(&[("Type", Object::Null), ("Rect", Object::Null)]), Later::FurtherSignatures);
    let numbers = |numbers: [i64; 4]| Object::from(numbers.map(Object::from).to_vec());
    let disguised: [(&str, Object); 8] = [
        ("Subtype", "Line".into()),
        ("Subtype", Object::Null),
        ("Type", "Page".into()),
        ("L", numbers([50, 400, 550, 400])),
        ("AP", dictionary! { "N" => Object::Reference((4, 0)) }.into()),
        ("MK", dictionary! { "CA" => Object::string_literal("Paid") }.into()),
        ("Rect", Object::Reference((1_900, 0))),
        ("Rect", numbers([0, 0, 9, 9])),
    ];
    for (key, value) in disguised {
        assert_eq!(with(&[(key, value.clone())]), Later::Changes, "{key} {value:?}");
    }
}

/// A file that was made for it: its page draws what is also what files are made of.
#[test]
fn what_is_drawn_may_not_change_whatever_it_calls_itself() {
    if !judges::can_make_keys() {
        return;
    }
    let plain = Odd::plain().pdf();
    let page = Document::load_mem(&plain).unwrap().get_pages()[&1].0;
    for kind in ["XRef", "ObjStm/N 0/First 0"] {
        let drawing = |color: u8| {
            let entries = format!("/Type/{kind}/Subtype/Form/BBox[0 0 300 300]/Length 22");
            (100, format!("<<{entries}>>stream\n{color} g 0 0 300 300 re f \nendstream"))
        };
        let drawn =
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Resources<</XObject<</X 100 0 R>>>>/Contents 101 0 R>>";
        let content = (101, "<</Length 5>>stream\n/X Do\nendstream".to_owned());
        let parent = Document::load_mem(&plain).unwrap().get_object((page, 0)).unwrap().as_dict().unwrap().clone();
        let parent = parent.get(b"Parent").and_then(Object::as_reference).unwrap().0;
        let drawn = (page, drawn.replace("Parent 2", &format!("Parent {parent}")));
        let file = sealed(&by_hand(&plain, &[drawing(0), content, drawn], &[], at_its_end));
        assert_eq!(first(&by_hand(&file, &[drawing(1)], &[], at_its_end)).later, Later::Changes, "{kind}");
    }
}

/// A file that was made for it: its page draws what is also a field that is still to be signed.
#[test]
fn a_field_that_is_drawn_may_not_be_signed() {
    if !judges::can_make_keys() {
        return;
    }
    for (is_drawn, key, expected) in [
        (false, "V", Later::FurtherSignatures),
        (false, "M", Later::FurtherSignatures),
        (false, "AP", Later::Changes),
        (true, "V", Later::Changes),
        (true, "M", Later::Changes),
    ] {
        let mut field = (0, 0);
        let file = made(|document, page| {
            field = document.add_object(dictionary! { "FT" => "Sig", "T" => Object::string_literal("empty") });
            if is_drawn {
                let page = document.get_object_mut(page).unwrap().as_dict_mut().unwrap();
                page.set("Resources", dictionary! { "XObject" => field });
            }
            document.catalog_mut().unwrap().set("AcroForm", dictionary! { "Fields" => vec![field.into()] });
        });
        let found = updated(&file, |document| {
            let value = document.new_document.add_object(dictionary! { "Type" => "Sig" });
            let other = document.new_document.add_object(Stream::new(Dictionary::new(), b"0 0 9 9 re f".to_vec()));
            edit(document, field, |field| {
                field.set("V", value);
                if key != "V" {
                    field.set(key, other);
                }
            });
        });
        assert_eq!(first(&found).later, expected, "{key}, drawn: {is_drawn}");
    }
}

/// A file with an update that is written by hand: these objects, what else its table says, and its end.
fn by_hand(file: &[u8], objects: &[(u32, String)], aliases: &[(u32, usize)], end: impl Fn(usize) -> String) -> Vec<u8> {
    let document = Document::load_mem(file).unwrap();
    let mut bytes = [file, b"\n"].concat();
    let mut entries: BTreeMap<u32, usize> = aliases.iter().copied().collect();
    for (number, object) in objects {
        entries.insert(*number, bytes.len());
        bytes.extend(format!("{number} 0 obj\n{object}\nendobj\n").bytes());
    }
    let table = bytes.len();
    let sections: String =
        entries.iter().map(|(number, offset)| format!("{number} 1\n{offset:010} 00000 n \n")).collect();
    let root = document.trailer.get(b"Root").and_then(Object::as_reference).unwrap().0;
    let trailer = format!("<</Size {SIZE}/Root {root} 0 R/Prev {}>>", document.xref_start);
    bytes.extend(format!("xref\n{sections}trailer\n{trailer}\n{}", end(table)).bytes());
    bytes
}

fn at_its_end(table: usize) -> String {
    format!("startxref\n{table}\n%%EOF\n")
}

/// The content of the first page, and another that would be seen in its place.
fn other_content(file: &[u8]) -> (u32, String) {
    let document = Document::load_mem(file).unwrap();
    let page = *document.get_pages().get(&1).unwrap();
    let content = b"0 g 0 0 300 300 re f";
    let stream = format!("<</Length {}>>stream\n{}\nendstream", content.len(), String::from_utf8_lossy(content));
    (document.get_page_contents(page)[0].0, stream)
}

#[test]
fn what_other_readers_would_find_is_not_overlooked() {
    if !judges::can_make_keys() {
        return;
    }
    let file = sealed(&Odd::plain().pdf());
    let old = Document::load_mem(&file).unwrap();
    let (number, stream) = other_content(&file);
    let other = [(number, stream)];
    assert_eq!(first(&by_hand(&file, &other, &[], at_its_end)).later, Later::Changes);
    let honest = [(SIZE - 1, "<</Type/Sig>>".to_owned())];
    assert_eq!(first(&by_hand(&file, &honest, &[], at_its_end)).later, Later::Nothing);
    // One end for us, another for others.
    let start = old.xref_start;
    let two_ends = by_hand(&file, &other, &[], |table| format!("startxref\n{start}\n%%EOF\nstartxref\n{table}\n"));
    assert_eq!(first(&two_ends).later, Later::Changes);
    let no_end = by_hand(&file, &other, &[], |_| at_its_end(start));
    assert_eq!(first(&no_end).later, Later::Changes);
    // Two places of one object, of which we take the last.
    let Some(XrefEntry::Normal { offset, .. }) = old.reference_table.get(number) else { panic!("no entry") };
    let two_places = by_hand(&file, &other, &[(SIZE - 1, *offset as usize)], at_its_end);
    assert_eq!(first(&two_places).later, Later::Changes);
    // The same bytes in another place, where the next reader may see something else.
    let same = String::from_utf8_lossy(&file[*offset as usize..]).into_owned();
    let same = same.split_once("obj\n").unwrap().1.split_once("\nendobj").unwrap().0.to_owned();
    assert_eq!(first(&by_hand(&file, &[(number, same)], &[], at_its_end)).later, Later::Changes);
}

/// The old page stands in a stream of objects, from where our reader takes what it cannot read where it should be.
#[test]
fn what_only_other_readers_can_read_is_a_change() {
    if !judges::can_make_keys() {
        return;
    }
    let base = Odd { packing: Packing::ObjectStreams, ..Odd::plain() }.pdf();
    let in_table = Document::load_mem(&base).unwrap();
    let (page, _) = *in_table.get_pages().get(&1).unwrap();
    assert!(matches!(in_table.reference_table.get(page), Some(XrefEntry::Compressed { .. })));
    // The seal writes the page anew, unless its annotations are an object of their own.
    let mut document = Document::load_mem(&base).unwrap();
    let annotations = document.add_object(Object::Array(Vec::new()));
    document.get_object_mut((page, 0)).unwrap().as_dict_mut().unwrap().set("Annots", annotations);
    let options = lopdf::SaveOptions { use_object_streams: true, use_xref_streams: true, ..Default::default() };
    let mut base = Vec::new();
    document.save_with_options(&mut base, options).unwrap();
    let file = sealed(&base);
    let broken = [(page, "<</Type/Page/Contents 4 0 R/Junk[1 2>>".to_owned())];
    assert_eq!(first(&by_hand(&file, &broken, &[], at_its_end)).later, Later::Changes);
    // Two members of one number: by its index it is the first, we take the last.
    let old = Document::load_mem(&file).unwrap();
    let mut text = Vec::new();
    lopdf::Writer::write_object(&mut text, old.objects.get(&(page, 0)).unwrap()).unwrap();
    let (new, text) = ("<</Type/Page>>", String::from_utf8(text).unwrap());
    let head = format!("{page} 0 {page} {} ", new.len() + 1);
    let content = format!("{head}{new} {text}");
    let dictionary = format!("<</Type/ObjStm/N 2/First {}/Length {}>>", head.len(), content.len());
    let mut bytes = [&file[..], b"\n"].concat();
    let (container, table) = (SIZE - 2, SIZE - 1);
    let container_at = bytes.len();
    bytes.extend(format!("{container} 0 obj\n{dictionary}stream\n{content}\nendstream\nendobj\n").bytes());
    let table_at = bytes.len();
    let entry =
        |kind: u8, number: usize| [&[kind][..], &u32::try_from(number).unwrap().to_be_bytes(), &[0, 0]].concat();
    let entries = [entry(2, container as usize), entry(1, container_at), entry(1, table_at)].concat();
    let root = old.trailer.get(b"Root").and_then(Object::as_reference).unwrap().0;
    let dictionary = format!(
        "<</Type/XRef/Size {SIZE}/W[1 4 2]/Index[{page} 1 {container} 2]/Root {root} 0 R/Prev {}/Length {}>>",
        old.xref_start,
        entries.len()
    );
    bytes.extend(format!("{table} 0 obj\n{dictionary}stream\n").bytes());
    bytes.extend(entries);
    bytes.extend(format!("\nendstream\nendobj\n{}", at_its_end(table_at)).bytes());
    assert_eq!(first(&bytes).later, Later::Changes);
}
