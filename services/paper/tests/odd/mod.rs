//! Odd pages, built by hand: every page is a small PDF whose displayed corners are known.
//!
//! It must never depend on the code under test.

#![allow(dead_code, clippy::unwrap_used)]

pub mod ending;
pub mod judges;
pub mod pki;
pub mod revocable;
pub mod tools;

use lopdf::xref::XrefType;
use lopdf::{Dictionary, Document, Object, SaveOptions, Stream, dictionary};

/// How a page is odd.
#[derive(Debug, Clone)]
pub struct Odd {
    pub media: [i64; 4],
    pub crop: Option<[i64; 4]>,
    pub rotate: i64,
    pub user_unit: Option<f32>,
    /// Boxes, turn and resources stand in the page tree's root instead of the page.
    pub inherited: bool,
    /// The content is an array behind a reference, and leaves the graphics state changed.
    pub untidy: bool,
    pub packing: Packing,
}

/// How the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Table,
    XrefStream,
    ObjectStreams,
}

/// A PNG of one colour.
pub fn picture(width: u32, height: u32, color: [u8; 4]) -> Vec<u8> {
    picture_with(width, height, color, &[])
}

/// A PNG of one colour with dark pixels at these places.
pub fn picture_with(width: u32, height: u32, ground: [u8; 4], dark: &[(u32, u32)]) -> Vec<u8> {
    let mut pixels: Vec<u8> = ground.repeat((width * height) as usize);
    for (x, y) in dark {
        let at = ((y * width + x) * 4) as usize;
        pixels[at..at + 4].copy_from_slice(&[0, 0, 0, 255]);
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgba);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    file
}

impl Odd {
    pub fn plain() -> Self {
        Self {
            media: [0, 0, 400, 300],
            crop: None,
            rotate: 0,
            user_unit: None,
            inherited: false,
            untidy: false,
            packing: Packing::Table,
        }
    }

    /// Width and height as displayed, in points.
    pub fn displayed_pt(&self) -> (f64, f64) {
        let [x0, y0, x1, y1] = self.crop.unwrap_or(self.media);
        let unit = f64::from(self.user_unit.unwrap_or(1.0));
        let (width, height) = ((x1 - x0).abs() as f64 * unit, (y1 - y0).abs() as f64 * unit);
        if self.rotate.rem_euclid(180) == 90 { (height, width) } else { (width, height) }
    }

    pub fn pdf(&self) -> Vec<u8> {
        let mut document = Document::with_version("1.7");
        let content = if self.untidy { "Q q q 0.5 0 0 0.5 90 90 cm (Q q) pop" } else { "0.9 g 0 0 9 9 re f" };
        let streams: Vec<Object> = content
            .split_inclusive(' ')
            .collect::<Vec<_>>()
            .chunks(4)
            .map(|part| document.add_object(Stream::new(Dictionary::new(), part.concat().into_bytes())).into())
            .collect();
        let contents = document.add_object(Object::Array(streams));
        let font = dictionary! { "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Helvetica" };
        // Names that a stamp might choose, as in a paper that was stamped before and then renumbered.
        let taken_names: Dictionary = (1..20).map(|number| (format!("Paper{number}"), contents.into())).collect();
        let fonts = dictionary! { "Paper0" => font };
        let resources = document.add_object(dictionary! { "Font" => fonts, "XObject" => taken_names });
        let pages = document.new_object_id();
        let mut page = dictionary! { "Type" => "Page", "Parent" => pages, "Contents" => contents };
        let mut root = dictionary! { "Type" => "Pages", "Count" => 1 };
        let holder = if self.inherited { &mut root } else { &mut page };
        holder.set("MediaBox", self.media.map(Object::from).to_vec());
        if let Some(crop) = self.crop {
            holder.set("CropBox", crop.map(Object::from).to_vec());
        }
        holder.set("Rotate", self.rotate);
        holder.set("Resources", resources);
        if let Some(unit) = self.user_unit {
            page.set("UserUnit", unit);
        }
        let page = document.add_object(page);
        root.set("Kids", vec![page.into()]);
        document.set_object(pages, root);
        let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages });
        document.trailer.set("Root", catalog);
        let mut file = Vec::new();
        match self.packing {
            Packing::Table => {
                document.reference_table.cross_reference_type = XrefType::CrossReferenceTable;
                document.save_to(&mut file).unwrap();
            }
            Packing::XrefStream => document.save_to(&mut file).unwrap(),
            Packing::ObjectStreams => {
                let options = SaveOptions { use_object_streams: true, use_xref_streams: true, ..Default::default() };
                document.save_with_options(&mut file, options).unwrap();
            }
        }
        file
    }
}

/// Every turn with and without cropping, and every other oddity with a turn.
pub fn matrix() -> Vec<Odd> {
    let mut odds = Vec::new();
    let packings = [Packing::Table, Packing::XrefStream, Packing::ObjectStreams];
    for (index, rotate) in [0, 90, 180, 270, -90].into_iter().enumerate() {
        for crop in [None, Some([40, 60, 340, 260])] {
            for inherited in [false, true] {
                let packing = packings[(index + usize::from(inherited)) % packings.len()];
                odds.push(Odd { rotate, crop, inherited, packing, ..Odd::plain() });
            }
        }
    }
    odds.push(Odd { media: [-100, -50, 300, 250], ..Odd::plain() });
    odds.push(Odd { media: [400, 300, 0, 0], rotate: 90, ..Odd::plain() });
    odds.push(Odd { untidy: true, rotate: 270, crop: Some([10, 20, 390, 280]), ..Odd::plain() });
    odds.push(Odd { user_unit: Some(2.0), ..Odd::plain() });
    odds.push(Odd { user_unit: Some(0.5), rotate: 90, crop: Some([0, 0, 200, 300]), ..Odd::plain() });
    odds
}

/// A file of many pages.
pub fn many_pages(pages: usize) -> Vec<u8> {
    let mut document = Document::with_version("1.7");
    let root = document.new_object_id();
    let contents = document.add_object(Stream::new(Dictionary::new(), b"0.9 g 0 0 9 9 re f".to_vec()));
    let page = || dictionary! { "Type" => "Page", "Parent" => root, "Contents" => contents };
    let kids: Vec<Object> = (0..pages).map(|_| document.add_object(page()).into()).collect();
    let media: Vec<Object> = [0, 0, 400, 300].map(Object::from).to_vec();
    document.set_object(
        root,
        dictionary! { "Type" => "Pages", "Count" => pages as i64, "Kids" => kids, "MediaBox" => media },
    );
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => root });
    document.trailer.set("Root", catalog);
    document.reference_table.cross_reference_type = XrefType::CrossReferenceTable;
    let mut file = Vec::new();
    document.save_to(&mut file).unwrap();
    file
}

/// A file whose catalog names its only page where the page tree should be.
pub fn page_in_place_of_its_tree() -> Vec<u8> {
    let mut document = Document::with_version("1.7");
    let content = document.add_object(Stream::new(Dictionary::new(), b"0.9 g 0 0 9 9 re f".to_vec()));
    let media = [0, 0, 300, 200].map(Object::from).to_vec();
    let page = document.add_object(dictionary! { "Type" => "Page", "MediaBox" => media, "Contents" => content });
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => page });
    document.trailer.set("Root", catalog);
    document.reference_table.cross_reference_type = XrefType::CrossReferenceTable;
    let mut file = Vec::new();
    document.save_to(&mut file).unwrap();
    file
}

/// A file with a cross-reference stream beside its table.
pub fn hybrid() -> Vec<u8> {
    let base = Odd::plain().pdf();
    let text = String::from_utf8_lossy(&base).into_owned();
    let after = |key: &str| text.rsplit_once(key).unwrap().1.trim_start().to_owned();
    let number =
        |text: String| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().unwrap();
    let (size, root, previous) = (number(after("/Size")), number(after("/Root")), number(after("startxref")));
    let mut file = base;
    file.push(b'\n');
    let stream = file.len();
    let dictionary = format!("<</Type/XRef/Size {}/Root {root} 0 R/W[1 4 2]/Index[0 0]/Length 0>>", size + 1);
    file.extend(format!("{size} 0 obj\n{dictionary}\nstream\n\nendstream\nendobj\n").into_bytes());
    let table = file.len();
    let trailer = format!("<</Size {}/Root {root} 0 R/Prev {previous}/XRefStm {stream}>>", size + 1);
    let entry = format!("{stream:010} 00000 n \n");
    file.extend(format!("xref\n{size} 1\n{entry}trailer\n{trailer}\nstartxref\n{table}\n%%EOF\n").into_bytes());
    file
}
