//! What files are by their content, whatever they are called.

use countersign_envelope::domain::ingest::ContentType;
use countersign_envelope::ingest::sniff::{Unsupported, sniff};
use countersign_test_support::docx::{docx, zipped};

#[test]
fn types_are_told_by_content() {
    assert_eq!(sniff(&docx(&["a"])), Ok(ContentType::Docx));
    assert_eq!(sniff(b"%PDF-1.7 ..."), Ok(ContentType::Pdf));
    assert_eq!(sniff(b"junk before %PDF-1.4"), Ok(ContentType::Pdf));
    // Nothing known: whoever reads PDFs says what is wrong.
    assert_eq!(sniff(b"words"), Ok(ContentType::Pdf));
    assert_eq!(sniff(b""), Ok(ContentType::Pdf));
    // Cut off: whoever looks through DOCX says so.
    assert_eq!(sniff(&docx(&["a"])[..200]), Ok(ContentType::Docx));
}

#[test]
fn other_types_are_refused_by_name() {
    let compound = [&b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"[..], &[0; 600]].concat();
    let mark: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (zipped(&[("[Content_Types].xml", b"<x/>"), ("xl/workbook.xml", b"<x/>")]), "xlsx"),
        (zipped(&[("ppt/presentation.xml", b"<x/>")]), "pptx"),
        (zipped(&[("mimetype", b"application/vnd.oasis.opendocument.text"), ("content.xml", b"<x/>")]), "odt"),
        (zipped(&[("a.pdf", b"%PDF-1.7")]), "zip"),
        (compound.clone(), "doc"),
        ([compound, mark].concat(), "encrypted"),
        (b"  {\\rtf1 hello}".to_vec(), "rtf"),
        (b"<!DOCTYPE html><p>".to_vec(), "html"),
        (b"\x89PNG\r\n\x1a\n".to_vec(), "image"),
    ];
    for (bytes, kind) in cases {
        assert_eq!(sniff(&bytes), Err(Unsupported(kind)));
        assert!(Unsupported(kind).message().starts_with("the file is "));
    }
}
