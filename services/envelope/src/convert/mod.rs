//! PDFs from files that are none: made by a program of its own, outside this process and within limits.
//!
//! Must never hand a file to the program that was not looked through and rewritten first ([`docx`]), take its word for
//! anything, or leave it running.

pub mod docx;
mod field_codes;
mod libreoffice;
mod xml;

use bytes::Bytes;

pub use self::docx::Flaw;
pub use self::libreoffice::{LibreOffice, Limits};

/// Why there is no PDF.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The file is at fault.
    #[error(transparent)]
    Flawed(#[from] Flaw),
    /// The program made nothing of it, or died over it.
    #[error("no PDF could be made of it")]
    Failed,
    /// It took longer than it may.
    #[error("making a PDF of it takes too long")]
    Slow,
    /// Nothing wrong with the file, but not now.
    #[error("the converter is busy or cannot be started: {0}")]
    Unavailable(#[source] std::io::Error),
}

/// Makes PDFs.
#[tonic::async_trait]
pub trait Converter: Send + Sync {
    /// A PDF of a DOCX.
    async fn convert(&self, docx: Bytes) -> Result<Bytes, ConvertError>;
}
