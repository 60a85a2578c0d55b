//! The papers of the corpus: files of other programs, kept in `pdf/`, and those too large or too new to be kept.
//!
//! It must never make one with our own code: what comes in is foreign.

use std::path::Path;
use std::process::Command;

use countersign_test_support::outside::program;

use crate::downloads::large_pdf;
use crate::judges;

/// A PDF, and what it is called in messages and pictures.
pub struct Paper {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Paper {
    fn new(name: &str, bytes: Vec<u8>) -> Self {
        Self { name: name.to_owned(), bytes }
    }
}

/// Those in `pdf/`, in the order of their names; where they come from is written there.
pub fn committed() -> Vec<Paper> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/corpus/pdf");
    let mut papers: Vec<Paper> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "pdf"))
        .map(|path| Paper::new(path.file_stem().unwrap().to_str().unwrap(), std::fs::read(&path).unwrap()))
        .collect();
    papers.sort_by(|one, other| one.name.cmp(&other.name));
    papers
}

/// Pages of every turn with and without crop box in every unit, of another origin; more of them; as many bytes as are taken;
/// packed by qpdf; signed by pyHanko.
pub fn made() -> Vec<Paper> {
    let odd = pages(KINDS);
    let mut papers = vec![
        Paper::new("every-turn-and-crop", odd.clone()),
        Paper::new("four-hundred-pages", pages(400)),
        Paper::new("25-mib", large_pdf(25 * 1024 * 1024 - 1_000)),
    ];
    let packings = [("object-streams", "--object-streams=generate"), ("linearised", "--linearize")];
    for (name, option) in packings {
        papers.extend(packed(&odd, option).map(|bytes| Paper::new(name, bytes)));
    }
    let packed = packed(&odd, packings[0].1).unwrap_or_else(|| odd.clone());
    for (name, base, kind) in [("signed-pades", &odd, "PADES"), ("signed-adobe", &packed, "ADOBE_PKCS7_DETACHED")] {
        papers.extend(judges::signed_by_pyhanko(base, "p256", kind).map(|bytes| Paper::new(name, bytes)));
    }
    papers
}

/// What qpdf makes of a file.
fn packed(bytes: &[u8], option: &str) -> Option<Vec<u8>> {
    let qpdf = program("qpdf", "apt-get install qpdf")?;
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["from.pdf", "to.pdf"].map(|name| folder.path().join(name));
    std::fs::write(&from, bytes).unwrap();
    assert!(Command::new(qpdf).args([option, "--deterministic-id"]).arg(&from).arg(&to).status().unwrap().success());
    Some(std::fs::read(to).unwrap())
}

/// How wide a unit of a page is, in points.
const UNITS: [&str; 3] = ["", "/UserUnit 2", "/UserUnit 0.5"];
/// Four turns, with a crop box and without, in each unit.
const KINDS: usize = 4 * 2 * UNITS.len();

/// A file of so many pages, of which so many that follow each other are of all kinds, each with its number in large letters.
fn pages(count: usize) -> Vec<u8> {
    let kids: String = (0..count).map(|page| format!("{} 0 R ", 4 + 2 * page)).collect();
    let mut objects = vec![
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        format!("<</Type/Pages/Count {count}/Kids[{kids}]/MediaBox[-40 -60 555 782]>>"),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>".to_owned(),
    ];
    for page in 0..count {
        let (turn, crop) = (page % 4 * 90, if page / 4 % 2 == 1 { "/CropBox[10 20 500 700]" } else { "" });
        let unit = UNITS[page / 8 % UNITS.len()];
        let font = "/Resources<</Font<</F 3 0 R>>>>";
        objects
            .push(format!("<</Type/Page/Parent 2 0 R/Rotate {turn}{crop}{unit}{font}/Contents {} 0 R>>", 5 + 2 * page));
        let content = format!("0.8 g 30 40 200 100 re f 0 g BT /F 90 Tf 60 300 Td (Page {}) Tj ET", page + 1);
        objects.push(format!("<</Length {}>>stream\n{content}\nendstream", content.len()));
    }
    let (mut file, mut table) = (b"%PDF-1.7\n".to_vec(), "0000000000 65535 f \n".to_owned());
    for (number, object) in (1..).zip(&objects) {
        table += &format!("{:010} 00000 n \n", file.len());
        file.extend(format!("{number} 0 obj\n{object}\nendobj\n").bytes());
    }
    let (start, size) = (file.len(), objects.len() + 1);
    let end = format!("xref\n0 {size}\n{table}trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n");
    file.extend(end.bytes());
    file
}
