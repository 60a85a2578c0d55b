//! A refused paper says so on every page, upright, and stays readable.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{Limits, Refusal, inspect, refuse, samples};
use odd::Odd;
use odd::tools::{Picture, available, run};

/// Between the translucent ink on white and the lightest grey of the odd pages.
const WATERMARK_GREY: u8 = 225;

fn refused(base: &[u8]) -> Vec<u8> {
    refuse(base, &Refusal::default()).unwrap()
}

#[test]
fn every_page_says_so_as_text() {
    if !available("pdftotext", "poppler-utils") {
        return;
    }
    let mut papers: Vec<Vec<u8>> = odd::matrix().iter().map(Odd::pdf).collect();
    papers.extend(samples::all().unwrap().into_iter().map(|sample| sample.bytes));
    for paper in papers {
        let file = refuse(&paper, &Refusal { line: Some("by Ганна Ünal".to_owned()), ..Refusal::default() }).unwrap();
        assert!(file.starts_with(&paper));
        let pages = inspect(&file, &Limits::default()).unwrap().pages.len();
        let found = String::from_utf8(run("pdftotext", &["{}", "-"], &file)).unwrap();
        let said: Vec<&str> = found.trim_end_matches('\u{c}').split('\u{c}').collect();
        assert_eq!(said.len(), pages);
        for page in said {
            assert!(page.contains("Document refused · by Ганна Ünal"), "{page:?}");
        }
    }
}

#[test]
fn the_watermark_is_upright_and_centred_on_odd_pages() {
    if !available("pdftoppm", "poppler-utils") {
        return;
    }
    for odd in odd::matrix() {
        let (width, height) = odd.displayed_pt();
        let plain = Odd { media: [0, 0, width as i64, height as i64], ..Odd::plain() };
        let expected = Picture::of(&refused(&plain.pdf()), (width, height));
        let actual = Picture::of(&refused(&odd.pdf()), (width, height));
        let difference = actual.difference(&expected, WATERMARK_GREY);
        assert!(difference < 0.004, "{odd:?} differs in {:.2} % of its pixels", difference * 100.0);
        let [left, _, right, bottom] = actual.bounds_darker_than(WATERMARK_GREY).expect("a watermark");
        assert!((left as f64 - (width - right as f64)).abs() < width * 0.04, "{odd:?}: from {left} to {right}");
        assert!(bottom as f64 > height * 0.7 && (right - left) as f64 > width * 0.4, "{odd:?}: large enough");
    }
}

#[test]
fn the_paper_stays_readable_under_the_watermark() {
    if !available("pdftoppm", "poppler-utils") {
        return;
    }
    let base = samples::nda().unwrap().bytes;
    let (before, after) = (Picture::of(&base, (596.0, 842.0)), Picture::of(&refused(&base), (596.0, 842.0)));
    const TEXT_GREY: u8 = 110;
    assert!(before.difference(&after, TEXT_GREY) < 0.01, "no watermark pixel is as dark as text");
}

#[test]
fn pages_of_one_size_share_one_watermark() {
    let base = samples::services_agreement().unwrap().bytes;
    let delta_bytes = refused(&base).len() - base.len();
    assert!(delta_bytes < 20_000, "{delta_bytes} bytes for five pages");
}

#[test]
fn any_words_can_be_refused_with() {
    let base = Odd::plain().pdf();
    for words in ["", " ", "X", "Документ отклонён", "文書", &"endless ".repeat(400)] {
        let refusal = Refusal { headline: words.to_owned(), line: Some(words.to_owned()) };
        let file = refuse(&base, &refusal).unwrap();
        assert_eq!(inspect(&file, &Limits::default()).unwrap().pages.len(), 1);
    }
}
