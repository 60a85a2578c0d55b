//! Documents on their way in: read, checked and only then kept.

use bytes::{Bytes, BytesMut};
use countersign::v1::upload_document_request::Part;
use countersign::v1::{ErrorReason, UploadDocumentRequest, UploadInfo};
use countersign_chassis::problem::Problem;
use countersign_paper::{Limits, Unreadable};
use tonic::{Status, Streaming};

use super::parse::Faults;
use super::status::unavailable;
use crate::domain::envelope::Digest;
use crate::domain::limits::{self, FILE_NAME_CHARS_MAX};
use crate::worker::{WorkerError, Workers};

/// An uploaded file, complete and of the announced hash.
pub(super) struct Received {
    pub name: String,
    /// As announced.
    pub info: UploadInfo,
    pub bytes: Bytes,
}

/// Reads an upload to its end. Never holds more than the largest document.
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
    let mut bytes = BytesMut::new();
    while let Some(message) = stream.message().await? {
        let Some(Part::Chunk(chunk)) = message.part else {
            let mut faults = Faults::default();
            faults.add("chunk", "must be in every message but the first");
            faults.finish()?;
            continue;
        };
        if bytes.len() + chunk.len() > bytes_max {
            let actual_bytes = bytes.len() + chunk.len();
            return Err(unreadable("chunk", &Unreadable::TooLarge { actual_bytes, max_bytes: bytes_max }));
        }
        bytes.extend_from_slice(&chunk);
    }
    let bytes = bytes.freeze();
    let sha256 = countersign_chassis::keys::sha256(&bytes);
    if announced.is_some_and(|announced| announced != sha256) {
        let mut faults = Faults::default();
        faults.add("info.sha256", "is not the SHA-256 of the bytes that came");
        faults.finish()?;
    }
    // What is uploaded is part of the request: the same key with other bytes is another request.
    info.sha256 = hex::encode(sha256);
    Ok(Received { name, info, bytes })
}

/// Looks into a PDF and says how many pages it has, or what is wrong with it.
pub(super) async fn page_count(
    workers: &Workers,
    path: &str,
    bytes: Bytes,
    limits: &limits::Limits,
) -> Result<u32, Status> {
    let (bytes_max, pages_max) = (limits.document_bytes_max, limits.pages_max);
    let limits = Limits { bytes_max, pages_max, ..Limits::default() };
    match workers.inspect(bytes, limits).await {
        Ok(inspection) => Ok(u32::try_from(inspection.pages.len()).unwrap_or(u32::MAX)),
        Err(WorkerError::Refused(why)) => Err(unreadable(path, &why)),
        Err(WorkerError::Unavailable(why)) => Err(unavailable(&why)),
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
