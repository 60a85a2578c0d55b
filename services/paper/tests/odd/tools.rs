//! The outside programs that some checks need: poppler's `pdftoppm` and `pdftotext`, and `qpdf`.
//!
//! It must never let a missing program pass for a passed check in continuous integration.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::process::Command;

/// Whether `program` is there; says loudly what to install if not, and fails where `CI=true`.
pub fn available(program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        let advice = format!("SKIPPED: {program} is missing; install it with `apt-get install {package}`");
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{advice}");
        // Not with a macro: the test harness would swallow what a passing test prints.
        std::io::stderr().write_all(format!("\n=== {advice} ===\n\n").as_bytes()).unwrap();
    }
    found
}

/// Runs `program` with `arguments`, among them `{}` for a file that holds `pdf`, and returns what it printed.
pub fn run(program: &str, arguments: &[&str], pdf: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pdf).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let arguments = arguments.iter().map(|argument| if *argument == "{}" { path.as_str() } else { argument });
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A grey picture of a page as displayed.
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub greys: Vec<u8>,
}

impl Picture {
    /// Renders the first page so that it is as wide and high as this, in pixels.
    pub fn of(pdf: &[u8], (width, height): (f64, f64)) -> Self {
        // The renderer may or may not know of units other than points.
        let first = Self::at(pdf, 72.0);
        let picture = Self::at(pdf, 72.0 * width / first.width as f64);
        assert_eq!((picture.width, picture.height), (width as usize, height as usize));
        picture
    }

    /// Renders the first page.
    pub fn at(pdf: &[u8], dots_per_inch: f64) -> Self {
        let dots = format!("{dots_per_inch}");
        let pgm = run("pdftoppm", &["-r", &dots, "-gray", "-cropbox", "-f", "1", "-l", "1", "{}"], pdf);
        let mut numbers = Vec::new();
        let mut at = 2;
        while numbers.len() < 3 {
            let start = at + 1;
            at = start + pgm[start..].iter().position(u8::is_ascii_whitespace).unwrap();
            numbers.push(std::str::from_utf8(&pgm[start..at]).unwrap().parse::<usize>().unwrap());
        }
        Self { width: numbers[0], height: numbers[1], greys: pgm[at + 1..].to_vec() }
    }

    /// The share of pixels that are on different sides of `grey` in both pictures.
    pub fn difference(&self, other: &Self, grey: u8) -> f64 {
        assert_eq!((self.width, self.height), (other.width, other.height));
        let differing = self.greys.iter().zip(&other.greys).filter(|(a, b)| (**a < grey) != (**b < grey)).count();
        differing as f64 / self.greys.len() as f64
    }

    /// The box `[left, top, right, bottom]` of the pixels darker than `grey`, right and bottom exclusive.
    pub fn bounds_darker_than(&self, grey: u8) -> Option<[usize; 4]> {
        let dark = self.greys.iter().enumerate().filter(|(_, value)| **value < grey);
        let points = dark.map(|(index, _)| (index % self.width, index / self.width));
        points.fold(None, |bounds: Option<[usize; 4]>, (x, y)| {
            let [left, top, right, bottom] = bounds.unwrap_or([x, y, x + 1, y + 1]);
            Some([left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)])
        })
    }
}

/// Compares the first page with the picture of that name in `tests/golden`, or draws that anew with `UPDATE=1`. Renderers of
/// other versions smooth edges a little differently.
pub fn golden(name: &str, pdf: &[u8], size: (f64, f64)) {
    let path = format!("{}/tests/golden/{name}.png", env!("CARGO_MANIFEST_DIR"));
    let picture = Picture::of(pdf, size);
    let (width, height) = (picture.width as u32, picture.height as u32);
    if std::env::var_os("UPDATE").is_some() {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_compression(png::Compression::High);
        encoder.write_header().unwrap().write_image_data(&picture.greys).unwrap();
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, file).unwrap();
    }
    let file = std::fs::File::open(&path).unwrap_or_else(|_| panic!("no {path}: draw it with UPDATE=1 and look at it"));
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    let mut greys = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut greys).unwrap();
    let expected = Picture { width: reader.info().width as usize, height: reader.info().height as usize, greys };
    let difference = picture.difference(&expected, 150);
    assert!(difference < 0.004, "{name} differs from {path} in {:.2} % of its pixels", difference * 100.0);
}
