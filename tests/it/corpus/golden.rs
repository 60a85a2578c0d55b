//! Pages as pictures: against what somebody has looked at, and against what was there before anything was drawn.
//!
//! The pictures are drawn by our own renderer, which gives the same pixels on every machine of a kind, and are kept small and
//! grey. `UPDATE=1` draws them anew; what differs is left in `target/corpus/` beside what was expected.

use std::io::{BufRead, Cursor, Seek};
use std::path::{Path, PathBuf};

use countersign_paper::{Limits, render_page};

/// How wide a page is drawn: letters of the values are three pixels high, and a point is about a third of one.
const WIDTH_PX: u32 = 180;
/// Blocks of so many pixels are compared by their mean …
const BLOCK_PX: usize = 2;
/// … which may differ by so many of 255 shades: another processor or version rounds edges of letters differently by one or
/// two, a letter that is gone makes twenty, and a line that moved by three points forty.
const SHADES_MAX: usize = 8;

/// A grey picture.
#[derive(Clone)]
pub struct Grey {
    pub width: usize,
    pub shades: Vec<u8>,
}

impl Grey {
    /// A page as displayed.
    pub fn of(pdf: &[u8], page: u32) -> Self {
        let picture = render_page(pdf, page, WIDTH_PX, &Limits::CEILING).unwrap().expect("a page");
        Self::decoded(Cursor::new(picture.png))
    }

    fn decoded(png: impl BufRead + Seek) -> Self {
        let mut reader = png::Decoder::new(png).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let of_pixel = info.color_type.samples();
        let colours = if of_pixel < 3 { 1 } else { 3 };
        let shade = |pixel: &[u8]| (pixel[..colours].iter().map(|it| usize::from(*it)).sum::<usize>() / colours) as u8;
        let shades = pixels[..info.buffer_size()].chunks(of_pixel).map(shade).collect();
        Self { width: info.width as usize, shades }
    }

    /// Both, one under the other.
    fn above(mut self, other: &Self) -> Self {
        self.shades.extend_from_slice(&other.shades);
        self
    }

    fn save(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = Vec::new();
        let height = (self.shades.len() / self.width) as u32;
        let mut encoder = png::Encoder::new(&mut file, self.width as u32, height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_compression(png::Compression::High);
        encoder.write_header().unwrap().write_image_data(&self.shades).unwrap();
        std::fs::write(path, file).unwrap();
    }

    /// The mean shade of each block, from left to right and from top to bottom.
    fn blocks(&self) -> Vec<usize> {
        let rows: Vec<&[u8]> = self.shades.chunks(self.width).collect();
        let mean = |rows: &[&[u8]], from: usize| {
            let to = (from + BLOCK_PX).min(self.width);
            let sum: usize = rows.iter().flat_map(|row| &row[from..to]).map(|shade| usize::from(*shade)).sum();
            sum / (rows.len() * (to - from))
        };
        let across = || (0..self.width).step_by(BLOCK_PX);
        rows.chunks(BLOCK_PX).flat_map(|rows| across().map(|from| mean(rows, from)).collect::<Vec<_>>()).collect()
    }

    pub fn looks_like(&self, other: &Self) -> bool {
        self.difference(other) <= SHADES_MAX
    }

    /// By how many shades the most different blocks differ; all of them if the sizes do.
    pub fn difference(&self, other: &Self) -> usize {
        if (self.width, self.shades.len()) != (other.width, other.shades.len()) {
            return 255;
        }
        self.blocks().iter().zip(other.blocks()).map(|(one, other)| one.abs_diff(other)).max().unwrap_or(0)
    }
}

/// Where something may be drawn: `[left, top, right, bottom]` in percent of the page.
pub type Area = [f64; 4];

/// Whether two pictures of a page are the same outside of these areas.
fn same_outside(before: &Grey, after: &Grey, areas: &[Area]) -> bool {
    let height = before.shades.len() / before.width;
    // An edge may touch the next pixel.
    let within = |at: usize, side: usize, from: f64, to: f64| {
        (at + 2) as f64 * 100.0 >= from * side as f64 && (at - at.min(1)) as f64 * 100.0 <= to * side as f64
    };
    let inside = |at: usize| {
        let (x, y) = (at % before.width, at / before.width);
        let is_in = |[left, top, right, bottom]: &Area| {
            within(x, before.width, *left, *right) && within(y, height, *top, *bottom)
        };
        areas.iter().any(is_in)
    };
    before.shades.len() == after.shades.len()
        && before.shades.iter().zip(&after.shades).enumerate().all(|(at, (a, b))| a == b || inside(at))
}

/// Compares pages of a sealed paper with their picture, one under the other, and each with the base outside of the areas that
/// were drawn on. What differs is told.
pub fn compare(name: &str, (base, sealed): (&[u8], &[u8]), pages: &[(u32, Vec<Area>)]) -> Result<(), String> {
    let mut found: Option<Grey> = None;
    for (page, areas) in pages {
        let (before, after) = (Grey::of(base, *page), Grey::of(sealed, *page));
        if !same_outside(&before, &after, areas) {
            after.save(&left_behind(&format!("{name}-page-{page}")));
            before.save(&left_behind(&format!("{name}-page-{page}-before")));
            return Err(format!("{name}: page {page} changed outside of its fields"));
        }
        found = Some(match found {
            None => after,
            Some(above) => above.above(&after),
        });
    }
    let found = found.expect("a page");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/corpus/golden/{name}.png"));
    if std::env::var_os("UPDATE").is_some() {
        found.save(&path);
    }
    let Ok(file) = std::fs::File::open(&path) else {
        return Err(format!("no {}: draw it with UPDATE=1 and look at it", path.display()));
    };
    let expected = Grey::decoded(std::io::BufReader::new(file));
    if expected.looks_like(&found) {
        return Ok(());
    }
    let (difference, left) = (expected.difference(&found), left_behind(name));
    found.save(&left);
    Err(format!("{name}: {difference} shades from {}; what was drawn is in {}", path.display(), left.display()))
}

fn left_behind(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    // …/target/<profile>/deps/<test>
    exe.ancestors().nth(3).unwrap().join("corpus").join(name).with_extension("png")
}
