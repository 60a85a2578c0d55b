//! What is left of a DOCX after it was looked through, and which are refused.

use std::io::{Cursor, Read as _};

use countersign_envelope::convert::Flaw;
use countersign_envelope::convert::docx::{ENTRIES_MAX, check, rewrite};
use countersign_test_support::docx::{body, docx, docx_of, paragraph, relations, relationship, zipped};
use zip::ZipArchive;

/// The rewritten file's parts.
pub fn parts(bytes: &[u8]) -> Vec<(String, String)> {
    let out = rewrite(bytes, Cursor::new(Vec::new())).expect("rewritten").into_inner();
    let mut archive = ZipArchive::new(Cursor::new(out)).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut file = archive.by_index(index).unwrap();
            let (name, mut content) = (file.name().unwrap().into_owned(), Vec::new());
            file.read_to_end(&mut content).unwrap();
            (name, String::from_utf8_lossy(&content).into_owned())
        })
        .collect()
}

fn part(bytes: &[u8], name: &str) -> String {
    parts(bytes).into_iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("no {name}")).1
}

fn document(paragraphs: &str) -> String {
    part(&docx_of(&body(paragraphs), &[]), "word/document.xml")
}

/// A field whose instruction is split into these runs.
fn field(codes: &[&str], shown: &str) -> String {
    let mark = |kind: &str| format!("<w:r><w:fldChar w:fldCharType=\"{kind}\"/></w:r>");
    let runs: String = codes.iter().map(|code| format!("<w:r><w:instrText>{code}</w:instrText></w:r>")).collect();
    let shown = format!("<w:r><w:t>{shown}</w:t></w:r>");
    format!("<w:p>{}{runs}{}{shown}{}</w:p>", mark("begin"), mark("separate"), mark("end"))
}

#[test]
fn a_plain_text_stays_as_it_is() {
    let text = document(&paragraph("Lease of the flat at Kirkegata 5 &amp; 7, «andre etasje»"));
    assert!(text.contains("Lease of the flat at Kirkegata 5 &amp; 7, «andre etasje»"), "{text}");
    assert_eq!(check(&docx(&["a", "b"])), Ok(()));
    let names: Vec<_> = parts(&docx(&["a"])).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["[Content_Types].xml", "_rels/.rels", "word/document.xml"]);
}

/// Whatever is not needed for its looks stays behind: macros, embedded files, other formats.
#[test]
fn macros_and_embedded_files_are_left_out() {
    let files: Vec<(&str, &[u8])> = vec![
        ("word/vbaProject.bin", b"macro"),
        ("word/embeddings/oleObject1.bin", b"ole"),
        ("word/embeddings/sheet.xlsx", b"PK"),
        ("word/afchunk.mht", b"<img src='http://x/'>"),
        ("word/media/logo.svg", b"<svg><image href='http://x/'/></svg>"),
        ("word/media/image1.png", b"\x89PNG"),
    ];
    let names: Vec<_> = parts(&docx_of(&body(""), &files)).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["[Content_Types].xml", "_rels/.rels", "word/document.xml", "word/media/image1.png"]);
}

#[test]
fn only_relationships_for_the_looks_stay() {
    let kept = [
        relationship("rId1", "styles", "styles.xml", ""),
        relationship("rId2", "image", "media/image1.png", ""),
        relationship("rId3", "hyperlink", "https://example.com/a?b=c&amp;d", "External"),
        relationship("rId4", "hyperlink", "mailto:ada@example.com", "External"),
    ];
    let dropped = [
        relationship("rId10", "image", "file:///etc/passwd", "External"),
        relationship("rId11", "image", "http://127.0.0.1/x.png", "External"),
        relationship("rId12", "attachedTemplate", "http://127.0.0.1/t.dotm", "External"),
        relationship("rId13", "oleObject", "embeddings/oleObject1.bin", ""),
        relationship("rId14", "aFChunk", "afchunk.mht", ""),
        relationship("rId15", "hyperlink", "file:///etc/passwd", "External"),
        relationship("rId16", "hyperlink", "javascript:alert(1)", "External"),
        relationship("rId17", "image", "http://127.0.0.1/y.png", ""),
        relationship("rId18", "image", "\\\\server\\share\\y.png", ""),
        relationship("rId19", "subDocument", "other.docx", ""),
        relationship("rId20", "image", "//127.0.0.1/y.png", ""),
        relationship("rId21", "image", "FILE:///etc/passwd", "eXternal"),
    ];
    let list = relations(&[kept.concat(), dropped.concat()].concat());
    let bytes = docx_of(&body(""), &[("word/_rels/document.xml.rels", list.as_bytes())]);
    let left = part(&bytes, "word/_rels/document.xml.rels");
    for id in 1..=4 {
        assert!(left.contains(&format!("\"rId{id}\"")), "rId{id}: {left}");
    }
    for id in 10..=21 {
        assert!(!left.contains(&format!("\"rId{id}\"")), "rId{id}: {left}");
    }
}

/// Instructions that fetch lose their words, however they are split; what they showed stays, and so do harmless ones.
#[test]
fn fields_that_fetch_lose_their_instruction() {
    let harmless = document(&field(&[" PA", "GE \\* MERGEFORMAT "], "3"));
    assert!(harmless.contains(" PA") && harmless.contains("GE \\* MERGEFORMAT"), "{harmless}");
    for code in [
        &[" INCLUDEPICTURE \"http://127.0.0.1/x.png\" "][..],
        &["IN", "CLUDE", "TEXT c:\\secret.txt"],
        &[" ddeauto excel x y "],
        &["&#73;NCLUDEPICTURE x"],
        &["LINK Word.Document.8 x"],
        &["DATABASE \\d x"],
        &["RD x"],
        &[""],
    ] {
        let left = document(&field(code, "as it was shown"));
        assert!(left.contains("as it was shown"), "{left}");
        for piece in code.iter().filter(|piece| !piece.is_empty()) {
            assert!(!left.contains(piece), "{piece}: {left}");
        }
        assert!(!left.contains("&#73;"), "{left}");
    }
    // One inside another: each by itself.
    let inner = field(&["INCLUDETEXT x"], "inner").replace("<w:p>", "").replace("</w:p>", "");
    let outer = field(&["IF 1 = 1 "], "outer").replacen("</w:p>", &format!("{inner}</w:p>"), 1);
    let left = document(&outer);
    assert!(left.contains("IF 1 = 1 ") && !left.contains("INCLUDETEXT"), "{left}");
    let stray = document("<w:p><w:r><w:instrText>INCLUDETEXT x</w:instrText></w:r></w:p>");
    assert!(!stray.contains("INCLUDETEXT"), "{stray}");
    let simple = document("<w:p><w:fldSimple w:instr=\"INCLUDETEXT x\"/><w:fldSimple w:instr=\"PAGE\"/></w:p>");
    assert!(!simple.contains("INCLUDETEXT") && simple.contains("PAGE"), "{simple}");
}

/// Nothing that LibreOffice might pass over makes an instruction look like another one.
#[test]
fn instructions_cannot_be_hidden() {
    let mark = |kind: &str| format!("<w:r><w:fldChar w:fldCharType=\"{kind}\"/></w:r>");
    let code = |text: &str| format!("<w:r><w:instrText>{text}</w:instrText></w:r>");
    let alternative = |inside: &str| {
        format!(
            "<mc:AlternateContent xmlns:mc=\"http://schemas.openxmlformats.org/markup-compatibility/2006\">\
         <mc:Choice Requires=\"w99\">{inside}</mc:Choice></mc:AlternateContent>"
        )
    };
    let foreign = |inside: &str| format!("<x:any xmlns:x=\"urn:x\">{inside}</x:any>");
    let include = code("INCLUDETEXT x");
    let harmless = code("PAGE ");
    for (begun, hidden) in [
        ("words beside", "<w:r><w:t>INCLUDETEXT x</w:t></w:r>".to_owned()),
        ("no run", "INCLUDETEXT x".to_owned()),
        ("an alternative first", alternative(&harmless) + &include),
        ("an unknown element first", foreign(&harmless) + &include),
        ("deleted words first", harmless.replace("instrText", "delInstrText") + &include),
        (
            "words of another kind first",
            "<w:r><x:instrText xmlns:x=\"urn:x\">PAGE </x:instrText></w:r>".to_owned() + &include,
        ),
        ("an end that is none", alternative(&mark("end")) + "<w:r><w:t>INCLUDETEXT x</w:t></w:r>"),
        ("a separator that is none", foreign(&mark("separate")) + "<w:r><w:t>INCLUDETEXT x</w:t></w:r>"),
        (
            "an empty part in it",
            "<w:r><w:instrText><x:instrText xmlns:x=\"urn:x\"></x:instrText>INCLUDETEXT x</w:instrText></w:r>"
                .to_owned(),
        ),
        (
            "a part of its own kind in it",
            "<w:r><w:instrText><w:instrText></w:instrText>INCLUDETEXT x</w:instrText></w:r>".to_owned(),
        ),
        ("a property", "<w:r><w:rPr><w:instrText>PAGE</w:instrText></w:rPr></w:r>".to_owned() + &include),
        (
            "an embedded object",
            format!("<o:OLEObject>{}</o:OLEObject>", mark("separate")) + "<w:r><w:t>INCLUDETEXT x</w:t></w:r>",
        ),
    ] {
        let text = format!(
            "<w:p>{}{hidden}{}<w:r><w:t>shown</w:t></w:r>{}</w:p>",
            mark("begin"),
            mark("separate"),
            mark("end")
        );
        let left = document(&text);
        assert!(!left.contains("INCLUDETEXT") && left.contains("shown"), "{begun}: {left}");
    }
    // A field without separator, with a form field, and one within another: as they are.
    let form = "<w:r><w:fldChar w:fldCharType=\"begin\"><w:ffData><w:name w:val=\"c\"/><w:checkBox><w:default w:val=\"1\"/></w:checkBox></w:ffData></w:fldChar></w:r>";
    let nested = format!(
        "<w:p>{form}{}{}{}{}{}{}{}</w:p>",
        code("IF "),
        mark("begin"),
        code("PAGE"),
        mark("separate"),
        mark("end"),
        code(" = 1 a"),
        mark("end")
    );
    let left = document(&nested);
    for kept in ["IF ", "PAGE", " = 1 a", "w:checkBox", "w:default"] {
        assert!(left.contains(kept), "{kept}: {left}");
    }
    let odd = |kind: &str| check(&docx_of(&body(&format!("<w:p><w:r><w:fldChar {kind}/></w:r></w:p>")), &[]));
    assert_eq!(odd("w:fldCharType=\"ended\""), Err(Flaw::Damaged));
    assert_eq!(odd("w:fldCharType=\"begin\" o:fldCharType=\"end\""), Err(Flaw::Damaged));
    assert_eq!(odd("xmlns:x=\"&#117;rn:x\""), Err(Flaw::Damaged));
}

/// Links of fields lead to where links may lead.
#[test]
fn links_of_fields_lead_where_links_may() {
    for kept in [
        "HYPERLINK \"https://example.com/a\" \\o \"tip\"",
        " hyperlink mailto:ada@example.com ",
        "HYPERLINK \\l \"clause\"",
    ] {
        let left = document(&field(&[&kept.replace('"', "&quot;")], "shown"));
        assert!(left.contains("&quot;") || left.contains("mailto:"), "{kept}: {left}");
    }
    for gone in ["file:///etc/passwd", "smb://server/x", "\\\\server\\x", "C:\\x", "other.docx", "javascript:x"] {
        let left = document(&field(&[&format!("HYPERLINK &quot;{gone}&quot;")], "shown"));
        assert!(!left.contains("HYPERLINK") && left.contains("shown"), "{gone}: {left}");
    }
    let second = document(&field(&["HYPERLINK &quot;https://example.com&quot; file:///etc/passwd"], "shown"));
    assert!(!second.contains("passwd"), "{second}");
}

/// Nothing is left that another program than Word would open, and no list of relations by another spelling.
#[test]
fn other_formats_inside_are_left_out() {
    let list = relations(&relationship("rId1", "image", "http://127.0.0.1/x.png", "External"));
    let files: [(&str, &[u8]); 6] = [
        ("content.xml", b"<x/>"),
        ("META-INF/manifest.xml", b"<x/>"),
        ("xl/workbook.xml", b"<x/>"),
        ("customXml/item1.xml", b"<x/>"),
        ("media/image1.png", b"\x89PNG"),
        ("word/_rels/document.xml.RELS", list.as_bytes()),
    ];
    let left = parts(&docx_of(&body(""), &files));
    let names: Vec<_> = left.iter().map(|(name, _)| name.as_str()).collect();
    let kept =
        ["[Content_Types].xml", "_rels/.rels", "word/document.xml", "media/image1.png", "word/_rels/document.xml.RELS"];
    assert_eq!(names, kept);
    assert!(!left[4].1.contains("127.0.0.1"), "{}", left[4].1);
}

#[test]
fn attributes_that_lead_out_are_left_out() {
    let text = document(
        "<w:p><w:r><w:pict><v:imagedata src=\"http://127.0.0.1/x.png\" o:href=\"file:///etc/passwd\" r:id=\"rId1\" \
         o:title=\"A: a title\"/></w:pict></w:r><a:blip r:embed=\"rId7\" r:link=\"rId8\"/><a:graphicData uri=\"http://schemas.example.org/x\"/>\
         <w:altChunk r:id=\"rId9\"><w:t>gone</w:t></w:altChunk><o:OLEObject ProgID=\"x\"/></w:p>",
    );
    for gone in ["127.0.0.1", "passwd", "altChunk", "gone", "OLEObject", "rId8"] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
    for kept in
        ["rId1", "rId7", "A: a title", "http://schemas.example.org/x", "xmlns:w=\"http://schemas.openxmlformats.org"]
    {
        assert!(text.contains(kept), "{kept}: {text}");
    }
}

/// Everything is counted while it is inflated: what is said about sizes is not believed.
#[test]
fn bombs_are_refused() {
    let zeros = vec![b' '; 30 * 1024 * 1024];
    assert_eq!(
        check(&docx_of(&body(&String::from_utf8(zeros.clone()).unwrap()), &[])),
        Err(Flaw::Inflated),
        "one part"
    );
    let many: Vec<_> = (0..4).map(|number| format!("word/media/{number}.png")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), zeros.as_slice())).collect();
    let bomb = docx_of(&body(""), &many);
    assert!(bomb.len() < 1024 * 1024, "{} bytes", bomb.len());
    assert_eq!(check(&bomb), Err(Flaw::Inflated), "all together");
    // Parts that are left out count as well.
    let bins: Vec<_> = (0..4).map(|number| format!("word/{number}.bin")).collect();
    let bins: Vec<(&str, &[u8])> = bins.iter().map(|name| (name.as_str(), zeros.as_slice())).collect();
    assert_eq!(check(&docx_of(&body(""), &bins)), Err(Flaw::Inflated));
    let names: Vec<_> = (0..ENTRIES_MAX).map(|number| format!("word/media/{number}.png")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    assert_eq!(check(&docx_of(&body(""), &files)), Err(Flaw::Entries));
    assert_eq!(check(&docx_of(&body(&("<w:p>".repeat(2_000) + &"</w:p>".repeat(2_000))), &[])), Err(Flaw::Nested));
}

#[test]
fn what_is_no_sound_docx_is_refused() {
    let doctype = body("").replacen("?>", "?><!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>", 1);
    assert_eq!(check(&docx_of(&doctype, &[])), Err(Flaw::Doctype));
    let whole = docx(&["a"]);
    assert_eq!(check(&whole[..whole.len() / 2]), Err(Flaw::Damaged), "cut off");
    assert_eq!(check(b"PK\x03\x04 and no more"), Err(Flaw::Damaged));
    assert_eq!(check(&zipped(&[("a.txt", b"x")])), Err(Flaw::NotDocx));
    let utf16: Vec<u8> = body("").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let files: [(&str, &[u8]); 2] = [("[Content_Types].xml", b"<Types/>"), ("word/document.xml", &utf16)];
    assert_eq!(check(&zipped(&files)), Err(Flaw::Damaged), "another encoding");
    for name in ["../word/x.xml", "/etc/x.xml", "word\\x.xml", "C:x.xml", "word//x.xml", "WORD/document.XML"] {
        assert_eq!(check(&docx_of(&body(""), &[(name, b"<x/>")])), Err(Flaw::Damaged), "{name}");
    }
    for broken in ["<w:p>", "</w:p>", "<w:p></w:q>", "<w:p a=b/>", "<w:p a='1' a='2'/>"] {
        let checked = check(&docx_of(&body(broken), &[]));
        assert_eq!(checked, Err(Flaw::Damaged), "{broken}");
    }
    assert_eq!(check(&docx_of("", &[])).err(), None, "an empty main part is the converter's to judge");
}

/// A file that needs a password to be unpacked, made by hand: the flag says so.
#[test]
fn an_encrypted_one_is_refused_as_such() {
    let mut bytes = docx(&["a"]);
    for (mark, at) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let places: Vec<_> = bytes.windows(4).enumerate().filter(|(_, four)| four == mark).map(|(at, _)| at).collect();
        places.iter().for_each(|place| bytes[place + at] |= 1);
    }
    assert_eq!(check(&bytes), Err(Flaw::Encrypted));
}
