//! How documents come in: what is still to be read, what was found, and why something cannot be signed.
//!
//! What a document holds is frozen when it was read: the history commits to the PDF that people see and sign, and to what came
//! where that was something else.

use serde::{Deserialize, Serialize};

use super::envelope::Digest;
use super::field::Field;
use super::id::SourceId;
use super::personal::Personal;

/// Markers that are told of at most.
pub const MARKER_FAULTS_MAX: usize = 25;
/// Length of what is told of a marker's text, in characters.
pub const MARKER_CHARS_MAX: usize = 200;
/// Length of what is told of a fault, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// Whether a document can be signed. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ingest {
    /// It is being read.
    Processing = 1,
    /// It can.
    Ready = 2,
    /// It cannot.
    Failed = 3,
}

/// Of what type a file is, by its content. The numbers are those of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContentType {
    /// A PDF.
    Pdf = 1,
    /// A text of Word, as Office Open XML.
    Docx = 2,
}

impl ContentType {
    /// All, in order.
    pub const ALL: [Self; 2] = [Self::Pdf, Self::Docx];

    /// As media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        }
    }
}

/// What came, where the PDF that people see was made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// Of its bytes.
    pub sha256: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// Its type.
    pub content_type: ContentType,
}

/// What is still to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Another one for each that takes the place of another: what was read of the other does not count.
    pub id: SourceId,
    /// Whether fields are made of the markers in its text.
    pub markers: bool,
    /// Where it is to be fetched; none: the original is here. Addresses may hold secrets.
    pub url: Option<Personal>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// Of the PDF that people see and sign.
    pub sha256: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// Its pages.
    pub page_count: u32,
    /// What came, if it was something else.
    pub original: Option<Original>,
    /// The fields that were made of its markers.
    pub fields: Vec<Field>,
    /// As many as the envelope may have in all.
    pub fields_max: usize,
}

/// What came of reading a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// It can be signed.
    Ready(Box<Read>),
    /// It cannot.
    Failed(IngestFault),
}

/// Why a document cannot be signed. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultReason {
    /// Neither PDF nor DOCX.
    UnsupportedType = 1,
    /// Broken, encrypted, or of a kind that cannot be signed.
    Unreadable = 2,
    /// Too large, or too many pages.
    OverLimit = 3,
    /// No PDF could be made of it.
    ConversionFailed = 4,
    /// Its address may not be fetched.
    SourceNotAllowed = 5,
    /// Its address did not give it.
    SourceFailed = 6,
    /// A marker cannot be made into a field.
    Markers = 7,
    /// The envelope that waited for it cannot be sent with it.
    DoesNotFit = 8,
    /// The service could not read it for too long.
    Unavailable = 9,
}

/// Why a document cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestFault {
    /// For programs.
    pub reason: FaultReason,
    /// For people: nothing of the document's content, and no address.
    pub message: String,
    /// Markers that cannot be made into fields.
    pub markers: Vec<MarkerFault>,
}

impl IngestFault {
    /// Without markers.
    #[must_use]
    pub fn new(reason: FaultReason, message: impl Into<String>) -> Self {
        let message = message.into().chars().take(MESSAGE_CHARS_MAX).collect();
        Self { reason, message, markers: Vec::new() }
    }

    /// Of these markers, of which the first are told.
    #[must_use]
    pub fn of(mut markers: Vec<MarkerFault>) -> Self {
        let message = format!("{} of its markers cannot be made into fields", markers.len());
        markers.truncate(MARKER_FAULTS_MAX);
        Self { markers, ..Self::new(FaultReason::Markers, message) }
    }
}

/// A marker that cannot be made into a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkerFault {
    /// From 1.
    pub page: u32,
    /// As it stands there.
    pub text: Personal,
    /// What is wrong with it.
    pub message: String,
}
