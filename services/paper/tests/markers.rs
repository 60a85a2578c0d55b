//! Markers are found where they stand, however their text is drawn, and what is no marker is told.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use std::io::Write as _;
use std::process::Command;

use countersign_paper::{
    FieldKind, Limits, Mark, MarkContent, MarkerFlaw, Markings, PercentBox, StampOptions, Unreadable, inspect, markers,
    stamp,
};
use lopdf::{Document, Stream, dictionary};
use odd::{Odd, matrix, tools};

const TEXT: &str = "{{signature:Customer}}";
/// Letters of Courier are six tenths of their size wide.
const SIZE: f64 = 10.0;
const WIDTH_PT: f64 = TEXT.len() as f64 * 0.6 * SIZE;
const NEAR_PT: f64 = 0.5;

/// The page with that content, drawn in Courier.
fn page(odd: &Odd, content: &str) -> Vec<u8> {
    let mut document = Document::load_mem(&odd.pdf()).unwrap();
    let content = document.add_object(Stream::new(dictionary! {}, content.as_bytes().to_vec()));
    let font = dictionary! { "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Courier" };
    let page = document.page_iter().next().unwrap();
    let node = document.get_dictionary_mut(page).unwrap();
    node.set("Contents", content);
    node.set("Resources", dictionary! { "Font" => dictionary! { "F" => font } });
    let mut file = Vec::new();
    document.save_to(&mut file).unwrap();
    file
}

fn found(bytes: &[u8]) -> Markings {
    markers(bytes, &Limits::default()).unwrap()
}

/// A matrix of text that stands upright at a place of the page as displayed, in points from its bottom left corner.
fn upright(odd: &Odd, x: f64, y: f64) -> String {
    let [left, bottom, right, top] = {
        let [x0, y0, x1, y1] = odd.crop.unwrap_or(odd.media).map(|corner| corner as f64);
        [x0.min(x1), y0.min(y1), x0.max(x1), y0.max(y1)]
    };
    let s = 1.0 / f64::from(odd.user_unit.unwrap_or(1.0));
    let (x, y) = (x * s, y * s);
    let matrix = match odd.rotate.rem_euclid(360) {
        90 => [0.0, s, -s, 0.0, right - y, bottom + x],
        180 => [-s, 0.0, 0.0, -s, right - x, top - y],
        270 => [0.0, -s, s, 0.0, left + y, top - x],
        _ => [s, 0.0, 0.0, s, left + x, bottom + y],
    };
    matrix.map(|number| number.to_string()).join(" ")
}

/// A box in points from the top left corner.
fn points(place: PercentBox, (width, height): (f64, f64)) -> [f64; 4] {
    let PercentBox { x_pct, y_pct, width_pct, height_pct } = place;
    [x_pct * width, y_pct * height, width_pct * width, height_pct * height].map(|share| share / 100.0)
}

fn near(one: [f64; 4], other: [f64; 4]) -> bool {
    one.iter().zip(other).all(|(one, other)| (one - other).abs() <= NEAR_PT)
}

#[test]
fn t67_markers_are_found_where_people_see_them() {
    for odd in matrix() {
        let (x, y) = (20.0, 50.0);
        let content = format!("BT /F {SIZE} Tf {} Tm ({TEXT}) Tj ET", upright(&odd, x, y));
        let bytes = page(&odd, &content);
        let markings = found(&bytes);
        assert_eq!(markings.faults, []);
        let [marker] = &markings.markers[..] else { panic!("{odd:?}: {markings:?}") };
        assert_eq!((marker.page, marker.kind, marker.label.as_str()), (1, FieldKind::Signature, "Customer"));
        assert_eq!(marker.text, TEXT);
        let size = odd.displayed_pt();
        let expected = [x, size.1 - y - 0.788 * SIZE, WIDTH_PT.min(size.0 - x), SIZE];
        assert!(near(points(marker.place, size), expected), "{odd:?}: {:?}", points(marker.place, size));
    }
}

#[test]
fn t67_text_in_pieces_is_put_together() {
    let start = "BT /F 10 Tf 1 0 0 1 20 100 Tm";
    let letters: String = TEXT.chars().map(|letter| format!("({letter}) Tj ")).collect();
    let moved: String = TEXT.chars().map(|letter| format!("({letter}) Tj 6 0 Td ")).collect();
    let kerned: String = TEXT.chars().map(|letter| format!("({letter}) 40 ")).collect();
    let backwards = format!("1 0 0 1 92 100 Tm (Customer}}}}) Tj 1 0 0 1 20 100 Tm ({}) Tj", &TEXT[..12]);
    let pieces = [
        letters,
        moved,
        format!("[{kerned}] TJ"),
        format!("[{kerned}] TJ").replace("40", "-90"),
        backwards,
        format!("1 Tc ({TEXT}) Tj"),
        format!("({TEXT}) Tj 1 0 0 1 20.3 100 Tm ({TEXT}) Tj"),
        "({{ signature : Customer }}) Tj".to_owned(),
        "({) Tj ({Signature:) Tj 4 Ts (Customer}}) Tj".replace("4 Ts", "1 Ts"),
        format!("3 Tr ({TEXT}) Tj"),
        format!("({TEXT}) Tj 200 0 Td (}}}} ) Tj").replace("}} )", ")"),
    ];
    for piece in pieces {
        let markings = found(&page(&Odd::plain(), &format!("{start} {piece} ET")));
        assert_eq!(markings.faults, [], "{piece}");
        let [marker] = &markings.markers[..] else { panic!("{piece}: {markings:?}") };
        assert_eq!(
            (marker.kind, marker.label.replace(' ', "").as_str()),
            (FieldKind::Signature, "Customer"),
            "{piece}"
        );
    }
}

#[test]
fn t67_text_may_run_up_the_page_and_stand_in_columns() {
    let up = found(&page(&Odd::plain(), &format!("BT /F 10 Tf 0 1 -1 0 100 50 Tm ({TEXT}) Tj ET")));
    let place = points(up.markers[0].place, (400.0, 300.0));
    assert!(near(place, [100.0 - 7.88, 300.0 - 50.0 - WIDTH_PT, SIZE, WIDTH_PT]), "{place:?}");
    let columns =
        "BT /F 10 Tf 20 100 Td ({{text:A}}{{date:B}}) Tj 200 0 Td ({{name:C}}) Tj 0 50 Td ({{email:D}}) Tj ET";
    let columns = found(&page(&Odd::plain(), columns));
    let labels: Vec<_> = columns.markers.iter().map(|marker| marker.label.as_str()).collect();
    assert_eq!((labels, columns.faults), (vec!["D", "A", "B", "C"], vec![]));
    // What begins in one column does not end in the next.
    let torn = found(&page(&Odd::plain(), "BT /F 10 Tf 20 100 Td ({{text:A) Tj 200 0 Td (}}) Tj ET"));
    assert_eq!(torn.faults.iter().map(|fault| fault.flaw).collect::<Vec<_>>(), [MarkerFlaw::Unbalanced; 2]);
}

#[test]
fn t67_what_is_no_marker_is_told_with_page_and_text() {
    let flaws = [
        ("{{signature:A", MarkerFlaw::Unbalanced),
        ("signature:A}}", MarkerFlaw::Unbalanced),
        ("{{sign:A}}", MarkerFlaw::UnknownType),
        ("{{signature}}", MarkerFlaw::NoLabel),
        ("{{text:A:n:colour=red}}", MarkerFlaw::UnknownOption),
        ("{{text:A:n:m}}", MarkerFlaw::BadOption),
    ];
    for (text, flaw) in flaws {
        let markings = found(&page(&Odd::plain(), &format!("BT /F 10 Tf 20 100 Td (See {text}) Tj ET")));
        let [fault] = &markings.faults[..] else { panic!("{text}: {markings:?}") };
        assert_eq!((fault.page, fault.flaw, markings.markers.len()), (1, flaw, 0), "{text}");
        assert!(text.contains(fault.text.as_str()) && fault.text.len() >= 2, "{text}: {}", fault.text);
        assert!(!fault.flaw.name().is_empty());
    }
    let twice = found(&page(&Odd::plain(), "BT /F 10 Tf 20 100 Td ({{text:A:n}} {{text:B:n}}) Tj ET"));
    assert_eq!((twice.markers.len(), twice.faults[0].flaw), (1, MarkerFlaw::DuplicateName));
    let opened_twice = found(&page(&Odd::plain(), "BT /F 10 Tf 20 100 Td ({{text:A {{text:B}}) Tj ET"));
    assert_eq!((opened_twice.markers[0].label.as_str(), opened_twice.faults[0].flaw), ("B", MarkerFlaw::Unbalanced));
    let none = found(&page(&Odd::plain(), "BT /F 10 Tf 20 100 Td ({signature:A} { } a}) Tj ET"));
    assert_eq!(none, Markings::default());
}

#[test]
fn t67_more_markers_than_allowed_are_refused() {
    let many: String =
        (0..40).map(|row| format!("1 0 0 1 20 {} Tm ({}) Tj ", row * 7, "{{name:A}}".repeat(26))).collect();
    let refused = markers(&page(&Odd::plain(), &format!("BT /F 1 Tf {many} ET")), &Limits::default()).unwrap_err();
    assert_eq!(refused, Unreadable::TooManyMarkers { max: 1_000 });
}

/// An independent program measures the same places.
#[test]
fn t67_places_agree_with_pdfplumber() {
    let has_it =
        Command::new("python3").args(["-c", "import pdfplumber"]).output().is_ok_and(|out| out.status.success());
    if !has_it {
        let advice = "SKIPPED: pdfplumber is missing; install it with `pip install pdfplumber`";
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{advice}");
        std::io::stderr().write_all(format!("\n=== {advice} ===\n\n").as_bytes()).unwrap();
        return;
    }
    const MEASURE: &str = "import sys, pdfplumber\n\
        page = pdfplumber.open(sys.argv[1]).pages[0]\n\
        chars = [c for c in page.chars if c['text'] in '{}']\n\
        print(min(c['x0'] for c in chars) - page.cropbox[0], max(c['x1'] for c in chars) - page.cropbox[0])";
    for odd in matrix().into_iter().filter(|odd| odd.user_unit.is_none() && odd.rotate % 360 == 0) {
        let content = format!("BT /F {SIZE} Tf {} Tm ({TEXT}) Tj ET", upright(&odd, 20.0, 50.0));
        let bytes = page(&odd, &content);
        let told = tools::run("python3", &["-c", MEASURE, "{}"], &bytes);
        let told = String::from_utf8(told).unwrap();
        let [left, right] = told.split_whitespace().map(|it| it.parse::<f64>().unwrap()).collect::<Vec<_>>()[..] else {
            panic!("{told}")
        };
        let size = inspect(&bytes, &Limits::default()).unwrap().pages[0];
        let ours = points(found(&bytes).markers[0].place, (size.width_pt, size.height_pt));
        assert!(
            (ours[0] - left).abs() < NEAR_PT && (ours[0] + ours[2] - right).abs() < NEAR_PT,
            "{odd:?}: {ours:?}, {told}"
        );
    }
}

#[test]
fn only_papers_have_markers() {
    assert_eq!(markers(b"%PDF-", &Limits::default()).map_err(|why| why.name()), Err("BROKEN"));
}

/// What a marker's place covers is no longer seen, wherever the page was turned.
#[test]
fn t67_a_cover_hides_the_text_of_its_marker() {
    if !tools::available("pdftoppm", "poppler-utils") {
        return;
    }
    for odd in matrix() {
        let bytes = page(&odd, &format!("BT /F {SIZE} Tf {} Tm ({TEXT}) Tj ET", upright(&odd, 20.0, 50.0)));
        let PercentBox { x_pct, y_pct, width_pct, height_pct } = found(&bytes).markers[0].place;
        let cover = Mark { page: 1, x_pct, y_pct, width_pct, height_pct, content: MarkContent::Cover };
        let covered = stamp(&bytes, &[cover], &StampOptions::default()).unwrap();
        let darkest = |pdf: &[u8]| tools::Picture::at(pdf, 144.0).bounds_darker_than(128);
        assert!(darkest(&bytes).is_some(), "{odd:?}");
        assert_eq!(darkest(&covered), None, "{odd:?}");
    }
}
