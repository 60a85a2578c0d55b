//! Pictures of pages agree with those of another program.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{Limits, render_page, samples};
use odd::tools;
use odd::{Odd, matrix};

fn size(png: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn pages_are_drawn_as_displayed() {
    for odd in matrix() {
        let (width, height) = odd.displayed_pt();
        let picture = render_page(&odd.pdf(), 1, 200, &Limits::default()).unwrap().unwrap();
        assert_eq!(size(&picture.png), (picture.width_px, picture.height_px));
        let expected = (200.0 * height / width).round() as u32;
        assert_eq!((picture.width_px, picture.height_px), (200, expected), "{odd:?}");
    }
}

#[test]
fn pages_that_are_not_there_have_no_picture() {
    let sample = samples::nda().unwrap().bytes;
    for page in [0, 3, u32::MAX] {
        assert_eq!(render_page(&sample, page, 100, &Limits::default()).unwrap(), None);
    }
    let first = render_page(&sample, 1, 100, &Limits::default()).unwrap().unwrap();
    assert_ne!(render_page(&sample, 2, 100, &Limits::default()).unwrap().unwrap(), first);
}

#[test]
fn pictures_stay_within_their_bounds() {
    let high = Odd { media: [0, 0, 10, 14_000], ..Odd::plain() }.pdf();
    let picture = render_page(&high, 1, 2_000, &Limits::default()).unwrap().unwrap();
    assert!(picture.height_px <= 8_000 && picture.width_px < 10, "{} x {}", picture.width_px, picture.height_px);
}

fn decoded(png: &[u8]) -> tools::Picture {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let greys = pixels[..info.buffer_size()].chunks(info.color_type.samples()).map(|pixel| pixel[1]).collect();
    tools::Picture { width: info.width as usize, height: info.height as usize, greys }
}

/// The mean grey of each square of ten pixels.
fn shades(picture: &tools::Picture) -> Vec<usize> {
    const SIDE: usize = 10;
    let squares = (0..picture.height / SIDE).flat_map(|row| (0..picture.width / SIDE).map(move |column| (row, column)));
    let shade = |(row, column): (usize, usize)| {
        let line = |y: usize| &picture.greys[(row * SIDE + y) * picture.width + column * SIDE..][..SIDE];
        (0..SIDE).flat_map(line).map(|grey| usize::from(*grey)).sum::<usize>() / (SIDE * SIDE)
    };
    squares.map(shade).collect()
}

/// The dark parts of a page are where another program draws them.
#[test]
fn pictures_agree_with_another_program() {
    if !tools::available("pdftoppm", "poppler-utils") {
        return;
    }
    for sample in samples::all().unwrap() {
        let ours = render_page(&sample.bytes, 1, 595, &Limits::default()).unwrap().unwrap();
        if let Some(folder) = std::env::var_os("COUNTERSIGN_PICTURES") {
            std::fs::write(std::path::Path::new(&folder).join(sample.file_name).with_extension("png"), &ours.png)
                .unwrap();
        }
        let ours = decoded(&ours.png);
        let theirs = tools::Picture::of(&sample.bytes, (ours.width as f64, ours.height as f64));
        // Letters are smoothed differently; what stands where is the same.
        let (ours_shades, theirs_shades) = (shades(&ours), shades(&theirs));
        let differences = ours_shades.iter().zip(&theirs_shades).map(|(one, other)| one.abs_diff(*other));
        let (worst, sum) = differences.fold((0, 0), |(worst, sum), next| (worst.max(next), sum + next));
        assert!(worst < 70 && sum / ours_shades.len() < 3, "{}: {worst}, {sum}", sample.file_name);
        assert!(ours.bounds_darker_than(100).is_some(), "{}: an empty page", sample.file_name);
    }
}
