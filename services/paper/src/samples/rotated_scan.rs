//! A scanned letter as office scanners save it: one picture on a page that lies on its side and is turned for display,
//! cropped to less than the paper.
//!
//! It must never contain text that can be searched: it stands for papers that are pictures only.

use lopdf::content::{Content, Operation};
use lopdf::xref::XrefType;
use lopdf::{Dictionary, Document, Object, Stream, dictionary};

use super::raster::Scan;
use super::typeset::{A4_PT, area, break_lines};
use super::{Sample, SignatureBlock, StampError};
use crate::faces::{FaceName, Faces};
use crate::geometry::{Geometry, PdfBox, Rotation};
use crate::line::Line;

const TITLE: &str = "Consent to Alterations";
const SIGNER: &str = "Oluwaseun Adeyemi-Clarke";
/// 150 dots an inch.
const PIXELS_PER_PT: f32 = 150.0 / 72.0;
const SKEW: f32 = 0.004;
/// What the scanner took beyond the paper, hidden by the crop box.
const OVERSCAN_PT: f64 = 18.0;
const LEFT: f32 = 82.0;
const WIDTH: f32 = 430.0;
const SIZE: f32 = 11.0;
const LEADING: f32 = 16.5;
const SIGNATURE_LINE_Y: f32 = 686.0;
const SIGNATURE_WIDTH: f32 = 230.0;
const DATE_X: f32 = 370.0;
const DATE_WIDTH: f32 = 130.0;

/// A scanned letter: one page with `/Rotate 90` and a crop box inside its media box, one signature.
///
/// # Errors
///
/// [`StampError`] only if the crate was built from damaged font files.
pub fn rotated_scan() -> Result<Sample, StampError> {
    let faces = Faces::get().ok_or_else(|| StampError::compose("the shipped fonts are damaged"))?;
    let signature = area(LEFT, SIGNATURE_LINE_Y - 42.0, SIGNATURE_WIDTH, 41.0);
    let block = SignatureBlock {
        signer: SIGNER,
        page: 1,
        x_pct: signature.x_pct,
        y_pct: signature.y_pct,
        width_pct: signature.width_pct,
        height_pct: signature.height_pct,
        date: area(DATE_X, SIGNATURE_LINE_Y - 18.0, DATE_WIDTH, 17.0),
    };
    let bytes = document(&letter(faces))?;
    Ok(Sample { file_name: "scanned-consent.pdf", title: TITLE, bytes, blocks: vec![block] })
}

fn letter(faces: &Faces) -> Scan {
    let mut scan = Scan::new(A4_PT, PIXELS_PER_PT, SKEW);
    let mut y = 92.0;
    let mut write = |face: FaceName, text: &str, x: f32, y: f32, size: f32| {
        scan.text(faces, &Line::shape(faces, face, text), x, y, size);
    };
    write(FaceName::SerifBold, "CARRICK & LOWE", LEFT, y, 17.0);
    write(FaceName::Serif, "Property Management · 3 Millrace Court · Hexbridge", LEFT, y + 15.0, 9.0);
    y += 66.0;
    for line in [SIGNER, "Flat 6, The Granary", "Hexbridge"] {
        write(FaceName::Serif, line, LEFT, y, SIZE);
        y += LEADING;
    }
    y += 24.0;
    write(FaceName::SerifBold, "Consent to alterations: Flat 6, The Granary", LEFT, y, 12.0);
    y += 28.0;
    for paragraph in PARAGRAPHS {
        for line in break_lines(faces, FaceName::Serif, paragraph, WIDTH / SIZE) {
            write(FaceName::Serif, &line, LEFT, y, SIZE);
            y += LEADING;
        }
        y += 9.0;
    }
    write(FaceName::Script, "Imogen Lowe", LEFT + 6.0, y + 18.0, 25.0);
    write(FaceName::Serif, "Imogen Lowe, for Carrick & Lowe", LEFT, y + 40.0, SIZE);
    write(FaceName::Serif, "I agree to the conditions above:", LEFT, SIGNATURE_LINE_Y - 50.0, SIZE);
    write(FaceName::Serif, &format!("{SIGNER}, tenant"), LEFT, SIGNATURE_LINE_Y + 13.0, 9.0);
    write(FaceName::Serif, "Date", DATE_X, SIGNATURE_LINE_Y + 13.0, 9.0);
    scan.rule(LEFT, 117.0, WIDTH, 1.0);
    // Lines that lie straight under the boxes although the sheet lies crooked.
    scan.rule(LEFT, SIGNATURE_LINE_Y + LEFT * SKEW, SIGNATURE_WIDTH, 1.0);
    scan.rule(DATE_X, SIGNATURE_LINE_Y + DATE_X * SKEW, DATE_WIDTH, 1.0);
    scan
}

const PARAGRAPHS: [&str; 5] = [
    "Dear tenant,",
    "You have asked for our consent to replace the kitchen units of your flat and to move the sink to the window wall. \
     The owner has seen your drawings and agrees, on the conditions that follow.",
    "The work is done at your own cost by registered tradesmen, between eight in the morning and six in the evening on \
     weekdays, and is finished within eight weeks of its first day. The stopcock remains within reach, and no wall that \
     carries weight is opened.",
    "Before the work begins you send us the plumber’s certificate of insurance, and after it the certificate of the \
     electrical installation. The new units remain in the flat when the tenancy ends; the owner will not ask you to \
     restore the old ones.",
    "Please sign below and return this letter. The consent takes effect on the day on which we receive it.",
];

fn document(scan: &Scan) -> Result<Vec<u8>, StampError> {
    // The page lies on its side: its width is the height of the letter.
    let (across, up) = (f64::from(A4_PT.1), f64::from(A4_PT.0));
    let visible = PdfBox { left: OVERSCAN_PT, bottom: OVERSCAN_PT, right: OVERSCAN_PT + across, top: OVERSCAN_PT + up };
    let geometry = Geometry { visible, rotation: Rotation::Quarter, unit_pt: 1.0 };
    let mut document = Document::with_version("1.6");
    document.reference_table.cross_reference_type = XrefType::CrossReferenceTable;
    let image = document.add_object(picture(scan)?);
    let operations = vec![
        Operation::new("cm", geometry.displayed_to_user().map(|number| Object::Real(number as f32)).to_vec()),
        Operation::new("cm", [A4_PT.0, 0.0, 0.0, A4_PT.1, 0.0, 0.0].map(Object::Real).to_vec()),
        Operation::new("Do", vec!["Scan".into()]),
    ];
    let content = Content { operations }.encode().map_err(StampError::compose)?;
    let content = document.add_object(Stream::new(Dictionary::new(), content));
    let numbers = |numbers: [f64; 4]| numbers.map(|number| Object::Real(number as f32)).to_vec();
    let pages = document.new_object_id();
    let page = document.add_object(dictionary! {
        "Type" => "Page",
        "Parent" => pages,
        "MediaBox" => numbers([0.0, 0.0, across + 2.0 * OVERSCAN_PT, up + 2.0 * OVERSCAN_PT]),
        "CropBox" => numbers([visible.left, visible.bottom, visible.right, visible.top]),
        "Rotate" => 90,
        "Resources" => dictionary! { "XObject" => dictionary! { "Scan" => image } },
        "Contents" => content,
    });
    document.set_object(pages, dictionary! { "Type" => "Pages", "Kids" => vec![page.into()], "Count" => 1 });
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages });
    let info = document.add_object(dictionary! { "Title" => Object::string_literal(TITLE) });
    document.trailer.set("Root", catalog);
    document.trailer.set("Info", info);
    let mut file = Vec::new();
    document.save_to(&mut file).map_err(StampError::compose)?;
    file.push(b'\n');
    Ok(file)
}

/// The scan as an image of four bits a pixel.
fn picture(scan: &Scan) -> Result<Stream, StampError> {
    let (width, height) = scan.size_px();
    let greys = scan.greys();
    let rows = greys.chunks(width);
    let packed = rows.flat_map(|row| row.chunks(2).map(|pair| (pair[0] << 4) | pair.get(1).copied().unwrap_or(0)));
    let mut image = Stream::new(
        dictionary! {
            "Type" => "XObject",
            "Subtype" => "Image",
            "Width" => width as i64,
            "Height" => height as i64,
            "ColorSpace" => "DeviceGray",
            "BitsPerComponent" => 4,
        },
        packed.collect(),
    );
    image.compress().map_err(StampError::compose)?;
    Ok(image)
}
