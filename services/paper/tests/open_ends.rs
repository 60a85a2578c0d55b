//! Pages whose content leaves something open: what is drawn behind it is seen all the same, or the paper is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{Limits, Mark, MarkContent, Policy, StampOptions, Unreadable, ingest, render_page, stamp};
use lopdf::{Dictionary, Document, Object, Stream, dictionary};
use odd::tools::{self, Picture};

const SIDE: f64 = 300.0;

/// A page with a layer that is off.
fn page(content: impl Into<Vec<u8>>) -> Vec<u8> {
    paper(|document| document.add_object(Stream::new(Dictionary::new(), content.into())).into())
}

fn paper(content: impl FnOnce(&mut Document) -> Object) -> Vec<u8> {
    let mut document = Document::with_version("1.7");
    let contents = content(&mut document);
    let layer = document.add_object(dictionary! { "Type" => "OCG", "Name" => Object::string_literal("Off") });
    let off = dictionary! { "OFF" => vec![layer.into()], "Locked" => vec![layer.into()] };
    let layers = dictionary! { "OCGs" => vec![layer.into()], "D" => off };
    let pages = document.new_object_id();
    let media = [0, 0, SIDE as i64, SIDE as i64].map(Object::from).to_vec();
    let resources = dictionary! { "Properties" => dictionary! { "Off" => layer } };
    let page = document.add_object(dictionary! {
        "Type" => "Page", "Parent" => pages, "MediaBox" => media, "Contents" => contents, "Resources" => resources,
    });
    document.set_object(pages, dictionary! { "Type" => "Pages", "Kids" => vec![page.into()], "Count" => 1 });
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages, "OCProperties" => layers });
    document.trailer.set("Root", catalog);
    let mut file = Vec::new();
    document.save_to(&mut file).unwrap();
    file
}

fn kept(bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let found = ingest(bytes, &Limits::default(), &Policy::default())?;
    assert_eq!(found.notes, []);
    Ok(bytes.to_vec())
}

/// The sealed page has the tick in the middle of its right half, for two readers.
fn shows_its_stamp(content: &str, paper: &[u8]) {
    let tick = Mark {
        page: 1,
        x_pct: 60.0,
        y_pct: 40.0,
        width_pct: 20.0,
        height_pct: 20.0,
        content: MarkContent::Check(true),
    };
    let stamped = stamp(&kept(paper).unwrap(), &[tick], &StampOptions::default()).unwrap();
    let own = render_page(&stamped, 1, SIDE as u32, &Limits::default()).unwrap().unwrap();
    let white = render_page(&page("0 g"), 1, SIDE as u32, &Limits::default()).unwrap().unwrap();
    assert!(own.png != white.png, "{content}: our own reader shows nothing");
    if tools::available("pdftoppm", "poppler-utils") {
        let bounds = Picture::of(&stamped, (SIDE, SIDE)).bounds_darker_than(128);
        let [left, top, right, bottom] = bounds.unwrap_or_else(|| panic!("{content}: nothing is seen"));
        let scale = Picture::of(&stamped, (SIDE, SIDE)).width as f64 / 100.0;
        let near = |at: usize, low: f64, high: f64| (low..=high).contains(&(at as f64 / scale));
        assert!(near(left, 60.0, 75.0) && near(right, 65.0, 80.0), "{content}: {left} to {right}");
        assert!(near(top, 40.0, 55.0) && near(bottom, 45.0, 60.0), "{content}: {top} to {bottom}");
    }
}

#[test]
fn no_open_end_swallows_or_hides_what_is_drawn_behind_it() {
    for content in [
        "1 g (swallowed",
        "1 g ((swallowed) too \\",
        "1 g <41",
        "1 g [(a) 1",
        "1 g /A <</B [1 <</C (d",
        "1 g % a remark",
        "/OC /Off BDC",
        "/OC /Off BDC /A BMC /B <</MCID 0>> BDC",
        "BT 7 Tr 1 g",
        "0 0 m 9 9 l W",
        "0 0 10 10 re W n 0.01 0 0 0.01 0 0 cm",
        "Q Q 0 0 m 9 9 l W n 0.01 0 0 0.01 0 0 cm q q",
        "1 g 0 0 9 9 re f",
    ] {
        shows_its_stamp(content, &page(content));
    }
}

#[test]
fn content_is_followed_wherever_it_is_said_how_it_is_packed() {
    let hidden = paper(|document| {
        let filter = document.add_object(Object::Name(b"ASCIIHexDecode".to_vec()));
        let content: String = b"/OC /Off BDC".iter().map(|byte| format!("{byte:02x}")).collect();
        let packed = dictionary! { "Filter" => vec![filter.into()] };
        document.add_object(Stream::new(packed, content.into_bytes())).into()
    });
    shows_its_stamp("packed", &hidden);
}

#[test]
fn content_that_readers_could_end_in_different_places_is_refused() {
    let refused = |content: Vec<u8>| kept(&page(content)).unwrap_err();
    for content in ["[1 2 Q", "BI /W 1 /H 1 /BPC 8 /CS /G ID x", "/A << [ >> BMC"] {
        let why = refused(content.as_bytes().to_vec());
        assert_eq!(why, Unreadable::Broken { detail: "readers could differ on what a page draws".into() }, "{content}");
    }
    for content in [b"Q ".repeat(100_000), b"q ".repeat(100_000), b"/A BMC ".repeat(100_000)] {
        let why = refused(content);
        assert_eq!(why, Unreadable::Broken { detail: "a page leaves too much of what it draws open".into() });
    }
    const MAX: usize = 64 * 1024 * 1024;
    let long = paper(|document| {
        let mut blank = Stream::new(Dictionary::new(), vec![b' '; MAX]);
        blank.compress().unwrap();
        document.add_object(blank).into()
    });
    assert_eq!(kept(&long).unwrap_err(), Unreadable::TooMuchContent { max_bytes: MAX });
}
