//! Documents on their way in: read, checked and only then kept.

use bytes::Bytes;
use countersign::v1::upload_document_request::Part;
use countersign::v1::{ErrorReason, UploadDocumentRequest, UploadInfo};
use countersign_chassis::keys::sha256;
use countersign_chassis::problem::Problem;
use countersign_paper::Unreadable;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tonic::{Status, Streaming};

use super::Context;
use super::parse::Faults;
use super::status::unavailable;
use crate::convert::{Flaw, docx};
use crate::domain::envelope::Digest;
use crate::domain::ingest::{ContentType, Original};
use crate::domain::limits::{FILE_NAME_CHARS_MAX, Limits};
use crate::ingest::pdf::{Found, ReadError};
use crate::ingest::sniff::sniff;

/// Uploads that are held in memory at the same time, once they are complete. How many come in at a time is nobody's matter: they
/// wait on disk.
static HELD: Semaphore = Semaphore::const_new(4);
/// DOCX that are looked through at the same time: each is inflated.
static LOOKED_THROUGH: Semaphore = Semaphore::const_new(2);

/// An uploaded file, complete and of the announced hash.
pub(super) struct Received {
    pub name: String,
    /// As announced.
    pub info: UploadInfo,
    file: Incoming,
}

/// A file that comes in, on disk: it may take its time, but no memory.
pub(super) struct Incoming {
    file: File,
    size_bytes: usize,
    bytes_max: usize,
    hash: Sha256,
}

impl Incoming {
    pub fn new(bytes_max: usize) -> Result<Self, Status> {
        // Without a name: it is gone with the process at the latest.
        let file = File::from_std(tempfile::tempfile().map_err(disk)?);
        Ok(Self { file, size_bytes: 0, bytes_max, hash: Sha256::new() })
    }

    pub async fn add(&mut self, chunk: &[u8]) -> Result<(), Status> {
        self.size_bytes += chunk.len();
        if self.size_bytes > self.bytes_max {
            let why = Unreadable::TooLarge { actual_bytes: self.size_bytes, max_bytes: self.bytes_max };
            return Err(unreadable("chunk", &why));
        }
        self.hash.update(chunk);
        self.file.write_all(chunk).await.map_err(disk)
    }

    pub fn sha256(&self) -> Digest {
        self.hash.clone().finalize().into()
    }

    /// All of it that came so far.
    pub async fn bytes(&mut self) -> std::io::Result<Bytes> {
        self.file.flush().await?;
        let mut bytes = Vec::with_capacity(self.size_bytes);
        self.file.rewind().await?;
        self.file.read_to_end(&mut bytes).await?;
        Ok(bytes.into())
    }
}

fn disk(error: std::io::Error) -> Status {
    unavailable(&anyhow::Error::new(error).context("taking a file"))
}

/// Takes an upload to its end.
pub(super) async fn receive(
    mut stream: Streaming<UploadDocumentRequest>,
    bytes_max: usize,
) -> Result<Received, Status> {
    let mut faults = Faults::default();
    let Some(Part::Info(mut info)) = stream.message().await?.and_then(|message| message.part) else {
        faults.add("info", "must come first");
        return Err(faults.finish().err().unwrap_or_else(|| Problem::internal().into()));
    };
    let name = faults.line("info.name", &info.name, true, FILE_NAME_CHARS_MAX);
    let announced: Option<Digest> =
        (!info.sha256.is_empty()).then(|| faults.digest("info.sha256", &info.sha256.to_lowercase()));
    faults.finish()?;
    let mut file = Incoming::new(bytes_max)?;
    while let Some(message) = stream.message().await? {
        let Some(Part::Chunk(chunk)) = message.part else {
            let mut faults = Faults::default();
            faults.add("chunk", "must be in every message but the first");
            faults.finish()?;
            continue;
        };
        file.add(&chunk).await?;
    }
    let sha256 = file.sha256();
    if announced.is_some_and(|announced| announced != sha256) {
        let mut faults = Faults::default();
        faults.add("info.sha256", "is not the SHA-256 of the bytes that came");
        faults.finish()?;
    }
    // What is uploaded is part of the request: the same key with other bytes is another request.
    info.sha256 = hex::encode(sha256);
    Ok(Received { name, info, file })
}

impl Received {
    /// Does something with all of its bytes, when it is its turn to be in memory.
    pub async fn with<T>(&mut self, use_it: impl AsyncFnOnce(Bytes) -> Result<T, Status>) -> Result<T, Status> {
        let _held = HELD.acquire().await.map_err(|_| Status::from(Problem::internal()))?;
        use_it(self.file.bytes().await.map_err(disk)?).await
    }
}

/// What a file is, and that it is one that the service takes.
pub(super) async fn checked(path: &str, bytes: &Bytes, can_convert: bool, limits: &Limits) -> Result<Original, Status> {
    let (actual_bytes, max_bytes) = (bytes.len(), limits.document_bytes_max);
    if actual_bytes > max_bytes {
        return Err(unreadable(path, &Unreadable::TooLarge { actual_bytes, max_bytes }));
    }
    let content_type = sniff(bytes).map_err(|why| {
        let problem = Problem::new(ErrorReason::UnsupportedDocumentType, format!("{path}: {why}")).with("type", why.0);
        Status::from(problem.field(path, why.to_string()))
    })?;
    if content_type == ContentType::Docx {
        if !can_convert {
            let message = "This installation has no program that makes PDFs of DOCX: send a PDF.";
            return Err(Problem::new(ErrorReason::ConverterNotInstalled, message).field(path, "is a DOCX").into());
        }
        let _place = LOOKED_THROUGH.acquire().await.map_err(|_| Status::from(Problem::internal()))?;
        let content = bytes.clone();
        let looked = tokio::task::spawn_blocking(move || docx::check(&content)).await;
        looked.unwrap_or(Err(Flaw::Damaged)).map_err(|flaw| flawed(path, flaw))?;
    }
    Ok(Original { sha256: sha256(bytes), size_bytes: actual_bytes as u64, content_type })
}

impl Context {
    /// Looks into a PDF and says what is in it, or what is wrong with it.
    pub(super) async fn read(&self, path: &str, bytes: Bytes, limits: &Limits, markers: bool) -> Result<Found, Status> {
        self.pdfs.read(bytes, limits, markers).await.map_err(|error| match error {
            ReadError::Refused(why) => unreadable(path, &why),
            ReadError::Unavailable(why) => unavailable(&why),
        })
    }
}

fn flawed(path: &str, flaw: Flaw) -> Status {
    let message = format!("{path}: {flaw}");
    match flaw {
        Flaw::Entries => over_limit(path, "docx_entries_max", docx::ENTRIES_MAX + 1, docx::ENTRIES_MAX, &message),
        Flaw::Inflated => {
            let most = usize::try_from(docx::INFLATED_BYTES_MAX).unwrap_or(usize::MAX);
            over_limit(path, "docx_inflated_bytes_max", most + 1, most, &message)
        }
        Flaw::NotDocx | Flaw::Damaged | Flaw::Encrypted | Flaw::Doctype | Flaw::Nested => {
            Problem::new(ErrorReason::UnreadableDocument, message).field(path, flaw.to_string()).into()
        }
    }
}

pub(super) fn unreadable(path: &str, why: &Unreadable) -> Status {
    let over = |limit: &str, actual: usize, allowed: usize| {
        over_limit(path, limit, actual, allowed, &format!("{path}: {why}"))
    };
    match why {
        Unreadable::TooLarge { actual_bytes, max_bytes } => over("document_bytes_max", *actual_bytes, *max_bytes),
        Unreadable::TooManyPages { actual, max } => over("pages_max", *actual, *max),
        Unreadable::TooManyObjects { actual, max } => over("objects_max", *actual, *max),
        // Also of kinds to come: the text says what is wrong.
        _ => {
            let problem = Problem::new(ErrorReason::UnreadableDocument, format!("{path}: {why}"));
            problem.with("fault", why.name()).field(path, why.to_string()).into()
        }
    }
}

/// More than the service takes.
pub(super) fn over_limit(path: &str, limit: &str, actual: usize, allowed: usize, message: &str) -> Status {
    Problem::new(ErrorReason::OutOfScopeV1, message)
        .with("limit", limit)
        .with("actual", actual.to_string())
        .with("allowed", allowed.to_string())
        .field(path, format!("{actual} is more than the {allowed} allowed"))
        .into()
}
