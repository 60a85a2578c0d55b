//! Looks through a DOCX and writes it anew, with nothing in it that could reach out of it.
//!
//! Everything is counted while it is inflated. What is not known to be needed for its looks is left out: macros, embedded
//! objects, linked files, templates, other formats inside. Nothing of the file is ever told in an error.

use std::collections::HashSet;
use std::io::{Cursor, Read as _, Seek, Write};

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::xml;

/// Files in a DOCX.
pub const ENTRIES_MAX: usize = 1_000;
/// Bytes of all of them.
pub const INFLATED_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// Bytes of one that is XML.
pub const XML_BYTES_MAX: u64 = 20 * 1024 * 1024;
/// Length of a file's name.
const NAME_BYTES_MAX: usize = 255;
/// The list of what is in it.
const CONTENT_TYPES: &str = "[Content_Types].xml";
/// What files may be, by the ends of their names: pictures that hold no references, and fonts.
const KEPT: [&str; 12] = ["xml", "rels", "png", "jpg", "jpeg", "gif", "bmp", "tif", "tiff", "emf", "wmf", "odttf"];

/// Where files may be: not where other formats have theirs.
const FOLDERS: [&str; 6] = ["_rels", "charts", "diagrams", "docProps", "media", "word"];

/// What is wrong with a DOCX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is a ZIP file of something else, or none.
    #[error("the file is not a DOCX")]
    NotDocx,
    /// It is cut off, or its parts are not as they say.
    #[error("the DOCX is damaged")]
    Damaged,
    /// It needs a password.
    #[error("the DOCX is encrypted; save it without a password")]
    Encrypted,
    /// Too many files are in it.
    #[error("the DOCX holds more than {ENTRIES_MAX} files")]
    Entries,
    /// It is too large once it is inflated.
    #[error("the DOCX is too large once it is unpacked")]
    Inflated,
    /// It declares entities of its own.
    #[error("the DOCX holds a document type declaration")]
    Doctype,
    /// It is nested without sense.
    #[error("the DOCX is nested too deeply")]
    Nested,
}

/// The names of its files, to see what it is.
pub fn names(bytes: &[u8]) -> Result<Vec<String>, Flaw> {
    let archive = open(bytes)?;
    archive.file_names().map(|name| Ok(name.map_err(flaw)?.into_owned())).collect()
}

/// Whether it could be converted.
pub fn check(bytes: &[u8]) -> Result<(), Flaw> {
    rewrite(bytes, Nowhere(0)).map(drop)
}

/// Writes it anew.
pub fn rewrite<W: Write + Seek>(bytes: &[u8], to: W) -> Result<W, Flaw> {
    let mut archive = open(bytes)?;
    let (mut left, mut seen) = (INFLATED_BYTES_MAX, HashSet::new());
    let (mut main, mut listed) = (false, false);
    let mut out = ZipWriter::new(to);
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(flaw)?;
        let name = file.name().map_err(flaw)?.into_owned();
        if file.is_dir() {
            continue;
        }
        if !is_plain(&name) || !seen.insert(name.to_ascii_lowercase()) {
            return Err(Flaw::Damaged);
        }
        let end = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let is_xml = matches!(end.as_str(), "xml" | "rels");
        let most = if is_xml { left.min(XML_BYTES_MAX) } else { left };
        let mut content = Vec::new();
        let read = file.by_ref().take(most + 1).read_to_end(&mut content);
        let read = read.map_err(|_| Flaw::Damaged)? as u64;
        if read > most {
            return Err(Flaw::Inflated);
        }
        left -= read;
        let is_here = name == CONTENT_TYPES || name.split_once('/').is_some_and(|(top, _)| FOLDERS.contains(&top));
        if !is_here || !KEPT.contains(&end.as_str()) {
            continue;
        }
        if is_xml {
            content = part(&end, &content)?;
        }
        listed |= name == CONTENT_TYPES;
        main |= is_main(&name);
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        out.start_file(name, options).map_err(flaw)?;
        out.write_all(&content).map_err(|_| Flaw::Damaged)?;
    }
    if !listed || !main {
        return Err(Flaw::NotDocx);
    }
    out.finish().map_err(flaw)
}

/// True for the main part of a text.
pub fn is_main(name: &str) -> bool {
    name.strip_prefix("word/document").is_some_and(|rest| {
        rest.strip_suffix(".xml").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// One part without what could reach out.
fn part(end: &str, content: &[u8]) -> Result<Vec<u8>, Flaw> {
    // Other encodings would be read in another way than here.
    let text = std::str::from_utf8(content).map_err(|_| Flaw::Damaged)?;
    let text = text.trim_start_matches('\u{feff}');
    if end == "rels" { xml::relationships(text) } else { xml::content(text) }
}

fn open(bytes: &[u8]) -> Result<ZipArchive<Cursor<&[u8]>>, Flaw> {
    // Before anything is kept of them.
    if bytes.windows(4).filter(|four| *four == b"PK\x01\x02").take(ENTRIES_MAX + 1).count() > ENTRIES_MAX {
        return Err(Flaw::Entries);
    }
    let archive = ZipArchive::new(Cursor::new(bytes)).map_err(flaw)?;
    if archive.len() > ENTRIES_MAX { Err(Flaw::Entries) } else { Ok(archive) }
}

/// A name that stays where it is unpacked.
fn is_plain(name: &str) -> bool {
    let odd = name.chars().any(|letter| letter.is_control() || matches!(letter, '\\' | ':'));
    !odd && name.len() <= NAME_BYTES_MAX && name.split('/').all(|step| !matches!(step, "" | "." | ".."))
}

fn flaw(error: ZipError) -> Flaw {
    match error {
        ZipError::UnsupportedArchive(why) if why == ZipError::PASSWORD_REQUIRED => Flaw::Encrypted,
        _ => Flaw::Damaged,
    }
}

/// Where nothing is kept.
struct Nowhere(u64);

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Seek for Nowhere {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0 = match to {
            std::io::SeekFrom::Start(at) => at,
            std::io::SeekFrom::Current(by) | std::io::SeekFrom::End(by) => self.0.saturating_add_signed(by),
        };
        Ok(self.0)
    }
}
