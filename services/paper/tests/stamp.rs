//! Values land where they belong, can be read and found, and leave the base as it was.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{Limits, Mark, MarkContent, StampError, StampOptions, inspect, samples, stamp};
use odd::tools::{Picture, available, run};
use odd::{Odd, Packing};

/// Darker than everything the odd pages show by themselves.
const INK_GREY: u8 = 160;

fn mark(x_pct: f64, y_pct: f64, width_pct: f64, height_pct: f64, content: MarkContent) -> Mark {
    Mark { page: 1, x_pct, y_pct, width_pct, height_pct, content }
}

fn text(value: &str) -> MarkContent {
    MarkContent::Text(value.to_owned())
}

fn every_kind() -> Vec<Mark> {
    vec![
        mark(10.0, 10.0, 50.0, 18.0, MarkContent::Signature { name: "Zoë Österreicher".to_owned() }),
        mark(70.0, 10.0, 15.0, 12.0, MarkContent::Initials("ZÖ".to_owned())),
        mark(10.0, 40.0, 40.0, 8.0, text("Київ, 14 March 2026")),
        mark(10.0, 55.0, 60.0, 8.0, text("Αθήνα łódź")),
        mark(80.0, 75.0, 10.0, 10.0, MarkContent::Check(true)),
        mark(60.0, 75.0, 10.0, 10.0, MarkContent::Check(false)),
    ]
}

fn stamped(base: &[u8], marks: &[Mark]) -> Vec<u8> {
    stamp(base, marks, &StampOptions::default()).unwrap()
}

#[test]
fn odd_pages_look_like_plain_pages_of_the_same_displayed_size() {
    if !available("pdftoppm", "poppler-utils") {
        return;
    }
    for odd in odd::matrix() {
        let (width, height) = odd.displayed_pt();
        let plain = Odd { media: [0, 0, width as i64, height as i64], ..Odd::plain() };
        let expected = Picture::of(&stamped(&plain.pdf(), &every_kind()), (width, height));
        let actual = Picture::of(&stamped(&odd.pdf(), &every_kind()), (width, height));
        assert!(actual.bounds_darker_than(INK_GREY).is_some(), "{odd:?} shows no stamp");
        let difference = actual.difference(&expected, INK_GREY);
        assert!(difference < 0.002, "{odd:?} differs in {:.2} % of its pixels", difference * 100.0);
    }
}

#[test]
fn a_mark_stays_in_its_box_and_stands_upright() {
    if !available("pdftoppm", "poppler-utils") {
        return;
    }
    let base = Odd::plain().pdf();
    let too_long = "A value that is much too long for the little box in which it has to be written down";
    let contents = [
        text("14.03.2026"),
        text(too_long),
        MarkContent::Signature { name: "Anne-Christine van der Straaten-Bouwmeester".to_owned() },
        MarkContent::Initials("WMW".to_owned()),
        MarkContent::Check(true),
    ];
    for content in contents {
        let [x, y, width, height] = [25.0, 50.0, 20.0, 8.0];
        let picture = Picture::of(&stamped(&base, &[mark(x, y, width, height, content.clone())]), (1600.0, 1200.0));
        let [left, top, right, bottom] = picture.bounds_darker_than(INK_GREY).expect("something was drawn");
        let inside = left as f64 >= x * 16.0 - 2.0
            && right as f64 <= (x + width) * 16.0 + 6.0
            && top as f64 >= y * 12.0 - 2.0
            && bottom as f64 <= (y + height) * 12.0 + 6.0;
        assert!(inside, "{content:?} covers {left},{top} to {right},{bottom}");
    }
    let check = stamped(&base, &[mark(20.0, 20.0, 30.0, 40.0, MarkContent::Check(true))]);
    let picture = Picture::of(&check, (400.0, 300.0));
    let dark_in_row = |y: usize| picture.greys[y * 400..][..400].iter().position(|grey| *grey < INK_GREY).unwrap();
    let [left, top, right, bottom] = picture.bounds_darker_than(INK_GREY).unwrap();
    let middle = (left + right) / 2;
    assert!(dark_in_row(top + 1) > middle && dark_in_row(bottom - 2) < middle, "the long arm rises to the right");
}

#[test]
fn values_of_many_scripts_are_found_as_text() {
    if !available("pdftotext", "poppler-utils") {
        return;
    }
    for odd in odd::matrix() {
        let found = run("pdftotext", &["{}", "-"], &stamped(&odd.pdf(), &every_kind()));
        let found = String::from_utf8(found).unwrap();
        for wanted in ["Signed by Zoë Österreicher", "ZÖ", "Київ, 14 March 2026", "Αθήνα łódź"] {
            assert!(found.contains(wanted), "{odd:?} lacks {wanted:?}: {found:?}");
        }
    }
}

#[test]
fn no_text_fails_a_stamp() {
    let base = Odd::plain().pdf();
    let texts =
        ["", " ", "山田太郎", "عمر خيام", "🖋️ ink", "\u{0}\u{7}line\r\nbreak\u{fffd}", "e\u{301}\u{302}\u{303}"];
    let endless = "(unbalanced) Tj ET Q \\ ".repeat(5_000);
    for value in texts.into_iter().chain([endless.as_str()]) {
        let content = |index: usize| match index {
            0 => text(value),
            1 => MarkContent::Signature { name: value.to_owned() },
            _ => MarkContent::Initials(value.to_owned()),
        };
        for (index, height) in [(0, 5.0), (1, 20.0), (2, 0.01)] {
            let file = stamped(&base, &[mark(10.0, 10.0, 30.0, height, content(index))]);
            assert_eq!(inspect(&file, &Limits::default()).unwrap().pages.len(), 1, "{value:?}");
        }
    }
}

#[test]
fn the_base_is_kept_byte_for_byte_and_the_result_is_sound() {
    let has_qpdf = available("qpdf", "qpdf");
    for odd in odd::matrix() {
        let base = odd.pdf();
        let once = stamped(&base, &every_kind());
        let twice = stamped(&once, &every_kind()[..1]);
        assert!(once.starts_with(&base) && twice.starts_with(&once), "{odd:?}");
        assert_eq!(once, stamped(&base, &every_kind()), "the same input gives the same bytes");
        let inspection = inspect(&twice, &Limits::default()).unwrap();
        assert_eq!(inspection, inspect(&base, &Limits::default()).unwrap(), "{odd:?}");
        if has_qpdf {
            let said = String::from_utf8(run("qpdf", &["--check", "{}"], &twice)).unwrap();
            assert!(said.contains("No syntax or stream encoding errors found"), "{odd:?}: {said}");
        }
    }
}

#[test]
fn a_base_that_cannot_be_continued_is_written_anew() {
    let has_qpdf = available("qpdf", "qpdf");
    let plain = Odd { packing: Packing::ObjectStreams, rotate: 90, ..Odd::plain() }.pdf();
    let start = plain.windows(9).rposition(|window| window == b"startxref").unwrap();
    let table = Odd::plain().pdf();
    let trailer = table.windows(10).rposition(|window| window == b"trailer\n<<").unwrap() + 10;
    let bases = [
        ("junk in front", [b"junk\n".to_vec(), plain.clone()].concat()),
        ("lost table", [&plain[..start], b"startxref\n7\n%%EOF\n"].concat()),
        ("hybrid", [&table[..trailer], b"/XRefStm 9", &table[trailer..]].concat()),
    ];
    for (case, base) in bases {
        let file = stamped(&base, &every_kind());
        assert!(file.starts_with(b"%PDF-") && !file.starts_with(&base), "{case}");
        assert!(!file.windows(8).any(|window| window == b"/XRefStm"), "{case}");
        let (after, before) = (inspect(&file, &Limits::default()), inspect(&base, &Limits::default()));
        assert_eq!(after.unwrap(), before.unwrap(), "{case}");
        if has_qpdf {
            let said = String::from_utf8(run("qpdf", &["--check", "{}"], &file)).unwrap();
            assert!(said.contains("No syntax or stream encoding errors found"), "{case}: {said}");
        }
    }
}

#[test]
fn a_note_is_on_every_page_and_nothing_to_draw_changes_nothing() {
    let base = samples::services_agreement().unwrap().bytes;
    assert_eq!(stamped(&base, &[]), base);
    if !available("pdftotext", "poppler-utils") {
        return;
    }
    let file = stamp(&base, &[], &StampOptions { note: Some("TEST".to_owned()) }).unwrap();
    let found = String::from_utf8(run("pdftotext", &["{}", "-"], &file)).unwrap();
    let pages: Vec<&str> = found.trim_end_matches('\u{c}').split('\u{c}').collect();
    assert_eq!(pages.len(), 5);
    assert!(pages.iter().all(|page| page.contains("TEST")));
}

#[test]
fn marks_outside_the_paper_are_refused_by_name() {
    let base = Odd::plain().pdf();
    let refusal = |marks: &[Mark]| stamp(&base, marks, &StampOptions::default()).unwrap_err();
    let good = mark(1.0, 1.0, 5.0, 5.0, text("good"));
    for page in [0, 2, u32::MAX] {
        let marks = [good.clone(), Mark { page, ..good.clone() }];
        assert_eq!(refusal(&marks), StampError::NoSuchPage { mark: 2, page, pages: 1 });
    }
    for wrong in [f64::NAN, f64::INFINITY, -1.0, 100.5] {
        assert_eq!(refusal(&[Mark { x_pct: wrong, ..good.clone() }]), StampError::BadBox { mark: 1 });
        assert_eq!(refusal(&[Mark { height_pct: wrong, ..good.clone() }]), StampError::BadBox { mark: 1 });
    }
    assert_eq!(refusal(&[Mark { width_pct: 0.0, ..good }]), StampError::BadBox { mark: 1 });
}
