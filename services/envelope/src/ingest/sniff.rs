//! What a file is, by its content: neither names nor what the other side says are believed.

use crate::convert::docx;
use crate::domain::ingest::ContentType;

/// How far into a PDF its header may begin.
const HEADER_OFFSET_BYTES_MAX: usize = 1_024;
/// How much of a file of Microsoft's older kind is looked at for the mark of an encrypted one.
const COMPOUND_LOOK_BYTES: usize = 1024 * 1024;

/// A file that the service does not take, and what it seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct Unsupported(pub &'static str);

impl Unsupported {
    /// For people.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self.0 {
            "encrypted" => "the file is encrypted; save it without a password",
            "doc" => "the file is of an old kind of Microsoft Office; save it as DOCX or PDF",
            "xlsx" | "ods" => "the file is a spreadsheet; save it as PDF",
            "pptx" | "odp" => "the file is a presentation; save it as PDF",
            "odt" | "rtf" => "the file is a text of a kind that is not taken; save it as DOCX or PDF",
            "html" => "the file is a web page; save it as PDF",
            "image" => "the file is an image; save it as PDF",
            _ => "the file is an archive; send the documents in it one by one",
        }
    }
}

/// What it is. Whatever is nothing known may be a PDF: whoever reads PDFs says what is wrong with it.
pub fn sniff(bytes: &[u8]) -> Result<ContentType, Unsupported> {
    if bytes.starts_with(b"PK") {
        return zipped(bytes);
    }
    let head = &bytes[..bytes.len().min(HEADER_OFFSET_BYTES_MAX)];
    if head.windows(5).any(|five| five == b"%PDF-") {
        return Ok(ContentType::Pdf);
    }
    if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]) {
        let mark: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let look = &bytes[..bytes.len().min(COMPOUND_LOOK_BYTES)];
        let encrypted = look.windows(mark.len()).any(|part| part == mark.as_slice());
        return Err(Unsupported(if encrypted { "encrypted" } else { "doc" }));
    }
    let start: Vec<u8> = head.iter().take(64).map(u8::to_ascii_lowercase).collect();
    let text = start.trim_ascii_start();
    if text.starts_with(b"{\\rtf") {
        return Err(Unsupported("rtf"));
    }
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        return Err(Unsupported("html"));
    }
    let is_image = bytes.starts_with(b"\x89PNG") || bytes.starts_with(b"\xff\xd8\xff") || bytes.starts_with(b"GIF8");
    if is_image { Err(Unsupported("image")) } else { Ok(ContentType::Pdf) }
}

fn zipped(bytes: &[u8]) -> Result<ContentType, Unsupported> {
    // One that is damaged is called a DOCX: whoever looks through those says so.
    let Ok(names) = docx::names(bytes) else { return Ok(ContentType::Docx) };
    let has = |name: &str| names.iter().any(|other| other == name);
    if names.iter().any(|name| docx::is_main(name)) {
        Ok(ContentType::Docx)
    } else if has("xl/workbook.xml") || has("xl/workbook.bin") {
        Err(Unsupported("xlsx"))
    } else if has("ppt/presentation.xml") {
        Err(Unsupported("pptx"))
    } else if has("mimetype") && has("content.xml") {
        Err(Unsupported("odt"))
    } else {
        Err(Unsupported("zip"))
    }
}
