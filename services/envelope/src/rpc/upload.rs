//! Documents on their way in: read, checked and only then kept.

use std::time::Duration;

use bytes::Bytes;
use countersign::v1::upload_document_request::Part;
use countersign::v1::{ErrorReason, UploadDocumentRequest, UploadInfo};
use countersign_chassis::keys::sha256;
use countersign_chassis::problem::Problem;
use countersign_paper::Unreadable;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::Context;
use super::parse::Faults;
use super::status::unavailable;
use crate::convert::{Flaw, docx};
use crate::domain::envelope::Digest;
use crate::domain::ingest::{ContentType, Original};
use crate::domain::limits::{FILE_NAME_CHARS_MAX, Limits};
use crate::ingest::pdf::{Found, ReadError};
use crate::ingest::sniff::{Unsupported, sniff};
use crate::spool::Spool;

/// Uploads that are held in memory at the same time, once they are complete. Those that still come in wait on disk.
static HELD: Semaphore = Semaphore::const_new(4);
/// DOCX that are looked through at the same time: each is inflated.
static LOOKED_THROUGH: Semaphore = Semaphore::const_new(2);
/// How long an upload may take in all.
const RECEIVE_MAX: Duration = Duration::from_secs(600);

/// An uploaded file, complete and of the announced hash.
pub(super) struct Received {
    pub name: String,
    /// As announced.
    pub info: UploadInfo,
    came: Incoming,
}

/// A file that comes in, on disk: it may take its time, but no memory.
pub(super) struct Incoming {
    spool: Spool,
    bytes_max: usize,
    hash: Sha256,
}

impl Incoming {
    pub fn new(bytes_max: usize) -> Result<Self, Status> {
        Ok(Self { spool: Spool::new().map_err(disk)?, bytes_max, hash: Sha256::new() })
    }

    pub async fn add(&mut self, chunk: &[u8]) -> Result<(), Status> {
        let (actual_bytes, max_bytes) = (self.spool.size_bytes() + chunk.len(), self.bytes_max);
        if actual_bytes > max_bytes {
            return Err(unreadable("chunk", &Unreadable::TooLarge { actual_bytes, max_bytes }));
        }
        self.hash.update(chunk);
        self.spool.write(chunk).await.map_err(disk)
    }

    pub fn sha256(&self) -> Digest {
        self.hash.clone().finalize().into()
    }

    /// All of it that came so far.
    pub async fn bytes(&self) -> std::io::Result<Bytes> {
        self.spool.read().await
    }
}

fn disk(error: std::io::Error) -> Status {
    unavailable(&anyhow::Error::new(error).context("taking a file"))
}

/// A turn at holding an upload in memory.
pub(super) async fn turn() -> Result<SemaphorePermit<'static>, Status> {
    HELD.acquire().await.map_err(|_| Problem::internal().into())
}

/// Takes an upload to its end, onto the disk: it may take its time within bounds, but no memory. Whoever sends nothing for as
/// long as `stall` has gone.
pub(super) async fn receive(
    stream: Streaming<UploadDocumentRequest>,
    bytes_max: usize,
    stall: Duration,
) -> Result<Received, Status> {
    timeout(RECEIVE_MAX, received(stream, bytes_max, stall)).await.unwrap_or_else(|_| Err(too_slow()))
}

fn too_slow() -> Status {
    tracing::info!("an upload that did not come was ended");
    Problem::unavailable().into()
}

async fn received(
    mut stream: Streaming<UploadDocumentRequest>,
    bytes_max: usize,
    stall: Duration,
) -> Result<Received, Status> {
    let mut next = async || timeout(stall, stream.message()).await.unwrap_or_else(|_| Err(too_slow()));
    let mut faults = Faults::default();
    let Some(Part::Info(mut info)) = next().await?.and_then(|message| message.part) else {
        faults.add("info", "must come first");
        return Err(faults.finish().err().unwrap_or_else(|| Problem::internal().into()));
    };
    let name = faults.line("info.name", &info.name, true, FILE_NAME_CHARS_MAX);
    let announced: Option<Digest> =
        (!info.sha256.is_empty()).then(|| faults.digest("info.sha256", &info.sha256.to_lowercase()));
    faults.finish()?;
    let mut came = Incoming::new(bytes_max)?;
    while let Some(message) = next().await? {
        let Some(Part::Chunk(chunk)) = message.part else {
            let mut faults = Faults::default();
            faults.add("chunk", "must be in every message but the first");
            faults.finish()?;
            continue;
        };
        came.add(&chunk).await?;
    }
    let sha256 = came.sha256();
    if announced.is_some_and(|announced| announced != sha256) {
        let mut faults = Faults::default();
        faults.add("info.sha256", "is not the SHA-256 of the bytes that came");
        faults.finish()?;
    }
    // What is uploaded is part of the request: the same key with other bytes is another request.
    info.sha256 = hex::encode(sha256);
    Ok(Received { name, info, came })
}

impl Received {
    /// Does something with all of its bytes, when it is its turn to be in memory.
    pub async fn with<T>(&self, use_it: impl AsyncFnOnce(Bytes) -> Result<T, Status>) -> Result<T, Status> {
        let _turn = turn().await?;
        use_it(self.came.bytes().await.map_err(disk)?).await
    }
}

/// What a file is, and that it is one that the service takes.
pub(super) async fn checked(path: &str, bytes: &Bytes, can_convert: bool, limits: &Limits) -> Result<Original, Status> {
    let (actual_bytes, max_bytes) = (bytes.len(), limits.document_bytes_max);
    if actual_bytes > max_bytes {
        return Err(unreadable(path, &Unreadable::TooLarge { actual_bytes, max_bytes }));
    }
    let content_type = sniff(bytes).map_err(|why| unsupported(path, why))?;
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

fn unsupported(path: &str, why: Unsupported) -> Status {
    let problem = Problem::new(ErrorReason::UnsupportedDocumentType, format!("{path}: {why}"));
    problem.with("type", why.0).field(path, why.to_string()).into()
}

fn flawed(path: &str, flaw: Flaw) -> Status {
    let message = format!("{path}: {flaw}");
    match flaw {
        Flaw::Entries => over_limit(path, "docx_entries_max", docx::ENTRIES_MAX + 1, docx::ENTRIES_MAX, &message),
        Flaw::Inflated => {
            let most = usize::try_from(docx::INFLATED_BYTES_MAX).unwrap_or(usize::MAX);
            over_limit(path, "docx_inflated_bytes_max", most + 1, most, &message)
        }
        Flaw::NotDocx => unsupported(path, Unsupported("zip")),
        Flaw::Damaged | Flaw::Encrypted | Flaw::Doctype | Flaw::Nested => {
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
        // Counting stops at the first too many.
        Unreadable::TooMuchContent { max_bytes } => over("content_bytes_max", max_bytes + 1, *max_bytes),
        Unreadable::TooMuchText { max } => over("page_letters_max", max + 1, *max),
        Unreadable::TooManyMarkers { max } => over("markers_max", max + 1, *max),
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
