//! Documents on their way out, in parts.

use bytes::Bytes;
use countersign::v1::document_part::Part;
use countersign::v1::{DocumentInfo, DocumentPart, ErrorReason};
use countersign_chassis::problem::Problem;
use futures_util::stream::{self, Stream};
use tonic::Status;

use super::parse::Faults;
use super::status::{no_version, unavailable};
use crate::blobs::Blobs;
use crate::domain::envelope::{Digest, Document, Envelope, Version};

/// Size of a part.
const CHUNK_BYTES: usize = 64 * 1024;

/// The document that a request names; where the envelope has only one it need not.
pub(super) fn document<'a>(envelope: &'a Envelope, id: &str) -> Result<&'a Document, Status> {
    if let (true, [only]) = (id.is_empty(), envelope.documents.as_slice()) {
        return Ok(only);
    }
    let mut faults = Faults::default();
    if id.is_empty() {
        faults.add("document_id", "must be there: the envelope has several documents");
    }
    let id = faults.id("document_id", id);
    faults.finish()?;
    envelope.document(id).ok_or_else(|| Problem::not_found().into())
}

/// The hash of a version; `None` is the original.
pub(super) fn version(envelope: &Envelope, document: &Document, version: Option<Version>) -> Result<Digest, Status> {
    let Some(version) = version else { return Ok(document.sha256) };
    let found = document.artifacts.iter().find(|artifact| artifact.version == version);
    found.map(|artifact| artifact.sha256).ok_or_else(|| no_version(envelope.status()))
}

/// A value that the service does not know.
pub(super) fn unknown_version() -> Status {
    let why = "is not a value that the service knows here";
    Problem::new(ErrorReason::InvalidField, format!("version: {why}")).field("version", why).into()
}

/// All parts of a download.
pub(super) async fn parts(
    blobs: &Blobs,
    name: String,
    digest: &Digest,
) -> Result<impl Stream<Item = DocumentPart> + Send + use<>, Status> {
    let bytes = blobs.get(digest).await.map_err(|error| unavailable(&error))?;
    let info = DocumentInfo {
        name,
        content_type: "application/pdf".to_owned(),
        sha256: hex::encode(digest),
        size_bytes: bytes.len() as u64,
    };
    let chunks = stream::unfold(bytes, |mut left: Bytes| async move {
        if left.is_empty() {
            return None;
        }
        let chunk = left.split_to(CHUNK_BYTES.min(left.len()));
        Some((DocumentPart { part: Some(Part::Chunk(chunk)) }, left))
    });
    let info = DocumentPart { part: Some(Part::Info(info)) };
    Ok(futures_util::StreamExt::chain(stream::iter([info]), chunks))
}
