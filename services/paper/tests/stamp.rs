//! Values land where they belong, can be read and found, and leave the base as it was.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{
    Drawing, Limits, Mark, MarkContent, StampError, StampOptions, Strokes, inspect, samples, stamp,
};
use odd::tools::{Picture, available, golden, run};
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
        mark(45.0, 75.0, 10.0, 10.0, MarkContent::Radio(true)),
        mark(30.0, 75.0, 10.0, 10.0, MarkContent::Radio(false)),
        mark(10.0, 65.0, 15.0, 30.0, MarkContent::Paragraph("several lines of words".to_owned())),
        mark(70.0, 24.0, 25.0, 14.0, drawn(Drawing::Strokes(zigzag()))),
        mark(70.0, 40.0, 25.0, 14.0, drawn(Drawing::Picture(odd::picture(40, 20, [20, 30, 90, 255])))),
    ]
}

fn drawn(drawing: Drawing) -> MarkContent {
    MarkContent::DrawnSignature { name: "Zoë".to_owned(), drawing }
}

fn zigzag() -> Strokes {
    let points = (0..9).map(|step| (step as f32 / 8.0, if step % 2 == 0 { 0.0 } else { 1.0 })).collect();
    Strokes { aspect: 3.0, pen: 0.05, strokes: vec![points, vec![(0.5, 0.5)]] }
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
        MarkContent::Radio(true),
        MarkContent::Paragraph(too_long.to_owned()),
        MarkContent::Paragraph("עמר عمر 山田太郎 ".repeat(9)),
        drawn(Drawing::Strokes(zigzag())),
        drawn(Drawing::Strokes(Strokes { aspect: 0.0, pen: 9.0, strokes: vec![vec![(-4.0, f32::NAN), (7.0, 7.0)]] })),
        drawn(Drawing::Picture(odd::picture(300, 10, [0, 0, 0, 255]))),
        drawn(Drawing::Picture(odd::picture(10, 300, [0, 0, 0, 255]))),
        drawn(Drawing::Picture(b"no picture".to_vec())),
        MarkContent::DrawnInitials { typed: "AV".to_owned(), drawing: Drawing::Picture(Vec::new()) },
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
    let words = ["Ünïcödé", "Київ", "Αθήνα", "山田太郎", "やまだ", "홍길동", "שלום", "عمر خيام"];
    let marks: Vec<Mark> = (0..)
        .zip(words)
        .map(|(line, words)| mark(10.0, 5.0 + 11.0 * f64::from(line), 50.0, 10.0, text(words)))
        .collect();
    let file = stamped(&Odd::plain().pdf(), &marks);
    let found = String::from_utf8(run("pdftotext", &["{}", "-"], &file)).unwrap();
    for wanted in words {
        assert!(found.contains(wanted), "lacks {wanted:?}: {found:?}");
    }
    if available("pdffonts", "poppler-utils") {
        let fonts = String::from_utf8(run("pdffonts", &["{}"], &file)).unwrap();
        let ours: Vec<&str> = fonts.lines().skip(2).filter(|line| !line.starts_with("Helvetica")).collect();
        assert!(ours.len() >= 2 && ours.iter().all(|line| line.contains("yes yes yes")), "{fonts}");
    }
}

/// T-68: where it stands, to the point, on every turn, crop and unit.
#[test]
fn t68_a_drawing_stands_where_its_box_is() {
    if !available("pdftoppm", "poppler-utils") {
        return;
    }
    let solid = || Drawing::Picture(odd::picture(60, 30, [0, 0, 0, 255]));
    for odd in odd::matrix() {
        let (width, height) = odd.displayed_pt();
        // A box of the picture's own shape, whatever the page's.
        let (x, y, across) = (30.0, 40.0, 20.0);
        let down = across * width / height / 2.0;
        let content = MarkContent::DrawnInitials { typed: String::new(), drawing: solid() };
        let file = stamped(&odd.pdf(), &[mark(x, y, across, down, content)]);
        let scale = 4.0;
        let picture = Picture::of(&file, (width * scale, height * scale));
        let bounds = picture.bounds_darker_than(60).expect("a black box").map(|pixels| pixels as f64 / scale);
        let expected = [x * width, y * height, (x + across) * width, (y + down) * height].map(|part| part / 100.0);
        for (is, wanted) in bounds.into_iter().zip(expected) {
            assert!((is - wanted).abs() <= 1.0, "{odd:?}: {bounds:?} instead of {expected:?}");
        }
    }
}

#[test]
fn white_paper_around_a_drawn_signature_hides_nothing() {
    if !available("pdftoppm", "poppler-utils") {
        return;
    }
    // The odd page has a light grey square in its lower left corner; the picture is white but for its corners.
    let base = Odd { media: [0, 0, 100, 100], ..Odd::plain() }.pdf();
    let content = |ground| MarkContent::DrawnInitials {
        typed: String::new(),
        drawing: Drawing::Picture(odd::picture_with(90, 90, ground, &[(0, 0), (89, 89)])),
    };
    let before = Picture::of(&base, (400.0, 400.0));
    for ground in [[255, 255, 255, 255], [0, 0, 0, 0]] {
        let after = Picture::of(&stamped(&base, &[mark(0.0, 0.0, 100.0, 100.0, content(ground))]), (400.0, 400.0));
        assert!(before.difference(&after, 245) < 0.001 && before.bounds_darker_than(245).is_some());
    }
}

#[test]
fn nothing_changes_outside_the_boxes() {
    if !available("pdftoppm", "poppler-utils") {
        return;
    }
    let base = samples::nda().unwrap().bytes;
    let marks = [
        mark(60.0, 80.0, 30.0, 10.0, drawn(Drawing::Strokes(zigzag()))),
        mark(10.0, 80.0, 30.0, 10.0, MarkContent::Paragraph("words ".repeat(200))),
    ];
    let (before, after) = (Picture::of(&base, (596.0, 842.0)), Picture::of(&stamped(&base, &marks), (596.0, 842.0)));
    let inside = |at: usize| {
        let (x, y) = ((at % 596) as f64 / 5.96, (at / 596) as f64 / 8.42);
        marks.iter().any(|it| {
            x >= it.x_pct - 0.5
                && x <= it.x_pct + it.width_pct + 0.5
                && y >= it.y_pct - 0.5
                && y <= it.y_pct + it.height_pct + 0.5
        })
    };
    let changed = before.greys.iter().zip(&after.greys).enumerate().filter(|(_, (a, b))| a != b);
    let places: Vec<usize> = changed.map(|(at, _)| at).collect();
    assert!(!places.is_empty() && places.iter().all(|at| inside(*at)));
}

#[test]
fn text_wraps_before_it_shrinks_and_shrinks_before_it_is_cut() {
    if !available("pdftotext", "poppler-utils") {
        return;
    }
    let base = Odd::plain().pdf();
    let shown = |words: &str, height: f64| {
        let file = stamped(&base, &[mark(10.0, 10.0, 30.0, height, MarkContent::Paragraph(words.to_owned()))]);
        let found = String::from_utf8(run("pdftotext", &["-bbox", "{}", "-"], &file)).unwrap();
        let number = |line: &str, name: &str| -> f64 {
            line.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        let words: Vec<&str> = found.lines().filter(|line| line.contains("<word")).collect();
        let mut tops: Vec<f64> = words.iter().map(|line| number(line, "yMin").round()).collect();
        tops.dedup();
        let height = words.iter().map(|line| number(line, "yMax") - number(line, "yMin")).fold(0.0, f64::max);
        (tops.len(), height, found.contains('…'))
    };
    let (lines, tall, cut) = shown("some words", 25.0);
    assert!(lines == 1 && !cut);
    let (lines, as_tall, cut) = shown("some words that need another line or two", 25.0);
    assert!(lines > 1 && !cut && (as_tall - tall).abs() < 0.1, "wraps at full size");
    let (lines, smaller, cut) = shown(&"words that need much more room ".repeat(4), 25.0);
    assert!(lines > 2 && !cut && smaller < tall - 0.5, "shrinks");
    let (_, smallest, cut) = shown(&"words that have no room at all ".repeat(30), 25.0);
    assert!(cut && smallest < smaller && smallest > 4.0, "is cut at the smallest size that can be read");
}

/// S3.21: each of the ten types as a person expects it, against a picture that somebody has looked at.
#[test]
fn s3_21_every_kind_of_field_looks_as_it_did() {
    if !available("pdftoppm", "poppler-utils") {
        return;
    }
    let initials = MarkContent::DrawnInitials { typed: "ZÖ".to_owned(), drawing: Drawing::Strokes(zigzag()) };
    let more = [
        mark(5.0, 2.0, 30.0, 6.0, text("zoe@example.com")),
        mark(40.0, 2.0, 25.0, 6.0, text("שלום עולם")),
        mark(70.0, 2.0, 25.0, 6.0, text("مرحبا 123")),
        mark(30.0, 87.0, 30.0, 10.0, text("山田太郎 홍길동")),
        mark(87.0, 10.0, 10.0, 12.0, initials),
        mark(
            28.0,
            64.0,
            40.0,
            10.0,
            MarkContent::Paragraph("a longer value of a field that takes two lines".to_owned()),
        ),
    ];
    let marks: Vec<Mark> = every_kind().into_iter().chain(more).collect();
    golden("fields", &stamped(&Odd::plain().pdf(), &marks), (800.0, 600.0));
}

#[test]
fn right_to_left_values_stand_at_the_right() {
    if !available("pdftoppm", "poppler-utils") {
        return;
    }
    let base = Odd::plain().pdf();
    let middle = |words: &str| {
        let file = stamped(&base, &[mark(20.0, 40.0, 60.0, 10.0, text(words))]);
        let [left, _, right, _] = Picture::of(&file, (400.0, 300.0)).bounds_darker_than(INK_GREY).unwrap();
        (left + right) / 2
    };
    assert!(middle("abc def") < 200 && middle("שלום") > 200 && middle("مرحبا") > 200);
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
