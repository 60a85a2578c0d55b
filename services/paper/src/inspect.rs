//! Decides whether bytes are a paper this service can work with, and how large its pages are.
//!
//! It must never trust the bytes: every step is limited, nothing panics, and each refusal says what is wrong.

use lopdf::{Document, FilterFunc, LoadOptions, Object, ObjectId};
use serde::{Deserialize, Serialize};

use crate::delta;
use crate::geometry::Rotation;
use crate::limits::{DETAIL_CHARS_MAX, HEADER_OFFSET_BYTES_MAX, Limits, PAGE_SIDE_PT_MAX, PAGE_SIDE_PT_MIN};
use crate::pages::{self, Page, Walked};

/// Why bytes are no paper this service can work with.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Unreadable {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file does not start like a PDF.
    #[error("the file is not a PDF: no %PDF- header at its start")]
    NotPdf,
    /// The file is larger than allowed.
    #[error("the file has {actual_bytes} bytes, at most {max_bytes} are allowed")]
    TooLarge {
        /// Size of the file.
        actual_bytes: usize,
        /// Size allowed.
        max_bytes: usize,
    },
    /// The document has more pages than allowed; counting stops at the first page too many.
    #[error("the document has {actual} pages or more, at most {max} are allowed")]
    TooManyPages {
        /// Pages counted so far.
        actual: usize,
        /// Pages allowed.
        max: usize,
    },
    /// The document has more objects than allowed.
    #[error("the document has {actual} objects, at most {max} are allowed")]
    TooManyObjects {
        /// Objects in the document.
        actual: usize,
        /// Objects allowed.
        max: usize,
    },
    /// A page is too small or too large to be shown.
    #[error("page {page} is {width_pt:.0} x {height_pt:.0} points, each side must have 3 to 14400")]
    PageSize {
        /// The page, counted from 1.
        page: usize,
        /// Width as displayed.
        width_pt: f64,
        /// Height as displayed.
        height_pt: f64,
    },
    /// The document is encrypted, with or without a password to open it.
    #[error("the document is encrypted; save it without a password and without restrictions, then upload it again")]
    Encrypted,
    /// The document opens only with a password.
    #[error("the document opens only with a password; save it without one, then upload it again")]
    PasswordNeeded,
    /// The document opens, but its author forbids changes, and the settings respect that.
    #[error("the document's author forbids changes to it; ask for a copy without restrictions")]
    ChangesForbidden,
    /// The document was certified in a way that allows no further signature.
    #[error("the document was certified with no changes allowed; upload it as it was before that")]
    CertifiedFinal,
    /// The document was signed before, and cannot be used without being written anew, which would void the signature.
    #[error("the document was signed before and would have to be repaired ({why}), which would void that signature")]
    SignedAndFlawed {
        /// What would have to be repaired.
        why: String,
    },
    /// One page, or all pages together, hold more drawing than allowed.
    #[error("the content of the pages has more than {max_bytes} bytes once unpacked")]
    TooMuchContent {
        /// Size allowed.
        max_bytes: usize,
    },
    /// A page has more text than a page can show.
    #[error("a page has more than {max} letters")]
    TooMuchText {
        /// Letters allowed.
        max: usize,
    },
    /// The document has more markers than allowed.
    #[error("the document has more than {max} markers")]
    TooManyMarkers {
        /// Markers allowed.
        max: usize,
    },
    /// Reading took more memory or time than any paper may take.
    #[error("the document takes more memory or time to read than allowed")]
    TooCostly,
    /// The document is a form of the XFA kind, whose pages exist only inside one vendor's reader.
    #[error("the document is a dynamic XFA form, which cannot be displayed; print it to PDF, then upload it again")]
    DynamicForm,
    /// The document is a portfolio: an envelope of other files.
    #[error("the document is a PDF portfolio; upload the files in it one by one")]
    Portfolio,
    /// The document has no page.
    #[error("the document has no pages")]
    NoPages,
    /// The document is damaged beyond what can be read.
    #[error("the document is damaged: {detail}")]
    Broken {
        /// What was found.
        detail: String,
    },
}

impl Unreadable {
    pub(crate) fn broken(detail: impl ToString) -> Self {
        // What a parser says may quote the document.
        Self::Broken { detail: detail.to_string().chars().take(DETAIL_CHARS_MAX).collect() }
    }

    /// The same for programs: a word that stays the same when the text is improved.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "EMPTY",
            Self::NotPdf => "NOT_A_PDF",
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::TooManyPages { .. } => "TOO_MANY_PAGES",
            Self::TooManyObjects { .. } => "TOO_MANY_OBJECTS",
            Self::PageSize { .. } => "PAGE_SIZE",
            Self::Encrypted => "ENCRYPTED",
            Self::PasswordNeeded => "PASSWORD_NEEDED",
            Self::ChangesForbidden => "CHANGES_FORBIDDEN",
            Self::CertifiedFinal => "CERTIFIED_FINAL",
            Self::SignedAndFlawed { .. } => "SIGNED_AND_FLAWED",
            Self::TooMuchContent { .. } => "TOO_MUCH_CONTENT",
            Self::TooMuchText { .. } => "TOO_MUCH_TEXT",
            Self::TooManyMarkers { .. } => "TOO_MANY_MARKERS",
            Self::TooCostly => "TOO_COSTLY",
            Self::DynamicForm => "DYNAMIC_FORM",
            Self::Portfolio => "PORTFOLIO",
            Self::NoPages => "NO_PAGES",
            Self::Broken { .. } => "BROKEN",
        }
    }
}

/// The size of one page as displayed: cropped, turned, and in real points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PageSize {
    /// Width in points (1/72 inch).
    pub width_pt: f64,
    /// Height in points.
    pub height_pt: f64,
    /// The turn that is already applied to width and height.
    pub rotation: Rotation,
}

/// What there is to know about a readable paper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Its pages in order.
    pub pages: Vec<PageSize>,
    /// Whether somebody signed it digitally before; drawing on its pages will void that signature.
    pub is_signed: bool,
}

/// A parsed paper within its limits.
pub(crate) struct Opened {
    pub(crate) document: Document,
    pub(crate) pages: Vec<Page>,
}

/// Looks at an uploaded file: is it a PDF within `limits` that can be shown, stamped and sealed?
///
/// # Errors
///
/// [`Unreadable`] names the first thing that is wrong.
///
/// ```
/// let sample = countersign_paper::samples::nda().unwrap();
/// let inspection = countersign_paper::inspect(&sample.bytes, &Default::default()).unwrap();
/// assert_eq!(inspection.pages[0].width_pt.round(), 595.0);
/// ```
pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<Inspection, Unreadable> {
    let opened = open(bytes, limits)?;
    Ok(Inspection { pages: sizes(&opened.pages), is_signed: is_signed(&opened.document) })
}

/// The sizes of pages as displayed.
pub(crate) fn sizes(pages: &[Page]) -> Vec<PageSize> {
    let sizes = pages.iter().map(|page| {
        let (width_pt, height_pt) = page.geometry.size_pt();
        PageSize { width_pt, height_pt, rotation: page.geometry.rotation }
    });
    sizes.collect()
}

/// Opens a paper that is not encrypted.
pub(crate) fn open(bytes: &[u8], limits: &Limits) -> Result<Opened, Unreadable> {
    match open_decrypted(bytes, limits) {
        Ok((_, true)) | Err(Unreadable::PasswordNeeded) => Err(Unreadable::Encrypted),
        Ok((opened, false)) => Ok(opened),
        Err(why) => Err(why),
    }
}

/// Opens a paper to put something behind it: one that can be continued without its pictures, of which nothing is looked at
/// and which may be most of it.
pub(crate) fn open_to_continue(bytes: &[u8]) -> Result<Opened, Unreadable> {
    match open_leaving_out(bytes, &Limits::CEILING, Some(pictures)) {
        Ok((opened, false)) if delta::can_be_continued(bytes, &opened.document) && has_content(&opened) => Ok(opened),
        _ => open(bytes, &Limits::CEILING),
    }
}

/// Whether all that pages draw is there: what says that it is a picture may be drawn as text all the same.
fn has_content(Opened { document, pages }: &Opened) -> bool {
    let mut parts = pages.iter().flat_map(|page| pages::content_parts(document, page.id));
    parts.all(|part| pages::last_id(document, part).is_none() || pages::stream_id(document, part).is_some())
}

/// Makes the dictionary alone of a picture, so that whoever wants to read it finds none.
fn pictures(id: ObjectId, object: &mut Object) -> Option<(ObjectId, Object)> {
    match object {
        Object::Stream(stream) => {
            let is_picture = stream.dict.get(b"Subtype").and_then(Object::as_name).is_ok_and(|kind| kind == b"Image");
            // Readers look into one that holds objects whatever else it says of itself.
            if is_picture && !stream.dict.has_type(b"ObjStm") {
                *object = Object::Dictionary(std::mem::take(&mut stream.dict));
            }
            // What is given back counts in object streams alone, where no stream can be.
            Some((id, Object::Null))
        }
        _ => Some((id, object.clone())),
    }
}

/// Opens a paper that needs no password, and says whether it had to be decrypted.
pub(crate) fn open_decrypted(bytes: &[u8], limits: &Limits) -> Result<(Opened, bool), Unreadable> {
    open_leaving_out(bytes, limits, None)
}

fn open_leaving_out(bytes: &[u8], limits: &Limits, what: Option<FilterFunc>) -> Result<(Opened, bool), Unreadable> {
    let limits = limits.under_ceiling();
    if bytes.is_empty() {
        return Err(Unreadable::Empty);
    }
    if bytes.len() > limits.bytes_max {
        return Err(Unreadable::TooLarge { actual_bytes: bytes.len(), max_bytes: limits.bytes_max });
    }
    if header_offset(bytes).is_none() {
        return Err(Unreadable::NotPdf);
    }
    let Opened { document, pages } = read(bytes, &limits, what)?;
    if pages.is_empty() {
        return Err(Unreadable::NoPages);
    }
    for (index, page) in pages.iter().enumerate() {
        let (width_pt, height_pt) = page.geometry.size_pt();
        let sane = |side: f64| (PAGE_SIDE_PT_MIN..=PAGE_SIDE_PT_MAX).contains(&side);
        if !sane(width_pt) || !sane(height_pt) {
            return Err(Unreadable::PageSize { page: index + 1, width_pt, height_pt });
        }
    }
    let is_decrypted = document.was_encrypted();
    Ok((Opened { document, pages }, is_decrypted))
}

/// Where the header starts, if it starts early enough.
pub(crate) fn header_offset(bytes: &[u8]) -> Option<usize> {
    const HEADER: &[u8] = b"%PDF-";
    let reach = bytes.len().min(HEADER_OFFSET_BYTES_MAX + HEADER.len());
    bytes[..reach].windows(HEADER.len()).position(|window| window == HEADER)
}

/// Reads the file as it is written; if pages are missing then, looks for them in the whole file, as other readers do.
fn read(bytes: &[u8], limits: &Limits, without: Option<FilterFunc>) -> Result<Opened, Unreadable> {
    let attempt = |force_reconstruct| {
        let document = parse(bytes, limits, without, force_reconstruct)?;
        refuse_kinds_without_pages(&document)?;
        let Walked { pages, has_gaps } = pages::walk(&document, limits.pages_max)?;
        Ok((Opened { document, pages }, has_gaps))
    };
    let (as_written, has_gaps) = attempt(false)?;
    if !has_gaps {
        return Ok(as_written);
    }
    match attempt(true) {
        Ok((searched, _)) if searched.pages.len() > as_written.pages.len() => Ok(searched),
        _ => Ok(as_written),
    }
}

fn parse(
    bytes: &[u8],
    limits: &Limits,
    filter: Option<FilterFunc>,
    force_reconstruct: bool,
) -> Result<Document, Unreadable> {
    let max_decompressed_size = Some(limits.stream_bytes_max);
    let options = LoadOptions { max_decompressed_size, force_reconstruct, filter, ..LoadOptions::default() };
    let document = Document::load_mem_with_options(bytes, options).map_err(|error| match error {
        lopdf::Error::InvalidPassword | lopdf::Error::Decryption(_) | lopdf::Error::UnsupportedSecurityHandler(_) => {
            Unreadable::PasswordNeeded
        }
        other => Unreadable::broken(other),
    })?;
    // What has an empty password was decrypted without a word, and this entry was taken out.
    if document.trailer.has(b"Encrypt") {
        return Err(Unreadable::PasswordNeeded);
    }
    if document.objects.len() > limits.objects_max {
        return Err(Unreadable::TooManyObjects { actual: document.objects.len(), max: limits.objects_max });
    }
    // There has to be a number left for all that is drawn.
    if i32::try_from(document.max_id).is_err() {
        return Err(Unreadable::broken("the number of an object is higher than readers count"));
    }
    Ok(document)
}

fn refuse_kinds_without_pages(document: &Document) -> Result<(), Unreadable> {
    let catalog = document.catalog().map_err(Unreadable::broken)?;
    if catalog.has(b"Collection") {
        return Err(Unreadable::Portfolio);
    }
    if matches!(catalog.get_deref(b"NeedsRendering", document), Ok(Object::Boolean(true))) {
        return Err(Unreadable::DynamicForm);
    }
    Ok(())
}

fn is_signed(document: &Document) -> bool {
    const SIGNATURES_EXIST: i64 = 1;
    let form = document.catalog().and_then(|catalog| catalog.get_deref(b"AcroForm", document));
    let flags = form.and_then(Object::as_dict).and_then(|form| form.get_deref(b"SigFlags", document));
    flags.and_then(Object::as_i64).is_ok_and(|flags| flags & SIGNATURES_EXIST != 0)
}

#[cfg(test)]
mod tests {
    use lopdf::{Stream, dictionary};

    use super::*;

    #[test]
    fn pictures_are_left_out_and_what_holds_objects_is_not() {
        let left = |dict| {
            let mut object = Object::Stream(Stream::new(dict, b"content".to_vec()));
            let _ = pictures((1, 0), &mut object);
            matches!(object, Object::Dictionary(_))
        };
        assert!(left(dictionary! { "Type" => "XObject", "Subtype" => "Image" }));
        assert!(!left(dictionary! { "Type" => "XObject", "Subtype" => "Form" }));
        assert!(!left(dictionary! { "Type" => "ObjStm", "Subtype" => "Image" }));
    }
}
