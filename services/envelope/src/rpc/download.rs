//! Documents on their way out: which of them a caller may have, and in what form.
//!
//! Must never give a recipient what others have put in before all have acted.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use countersign::v1::{DocumentBundle, DocumentInfo, DocumentPart, DocumentVersion, ErrorReason};
use countersign_chassis::keys::sha256;
use countersign_chassis::problem::Problem;
use countersign_paper::Unreadable;
use futures_util::Stream;
use tonic::Status;

use super::Handler;
use super::filename::{distinct, file_name};
use super::parcel::{Parcel, Piece, off_disk};
use super::parse::Faults;
use super::seats::Seat;
use super::status::{changed_since, no_version, not_read, purged, too_large_to_bundle, unavailable};
use crate::archive::{self, Member};
use crate::blobs::{Blob, BlobError};
use crate::domain::envelope::{Digest, Document, Envelope, Version};
use crate::domain::ingest::{ContentType, Original};
use crate::domain::status::Status as EnvelopeStatus;
use crate::worker::WorkerError;

const PDF: &str = "application/pdf";
const ZIP: &str = "application/zip";
/// Documents that are put into one PDF.
const COMBINED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a caller waits for the turn to put them together.
const TURN_MAX: Duration = Duration::from_secs(10);

/// What a request asks for.
pub(super) struct Wanted {
    /// None is the original.
    version: Option<Version>,
    /// Whether the original is what came, and not the PDF that people see and sign.
    as_it_came: bool,
    bundle: DocumentBundle,
    document_id: String,
    offset_bytes: u64,
    /// The hash that the file must have, if it says so.
    etag: Option<Digest>,
}

/// The numbers and strings of a request, of either service.
pub(super) struct Asked {
    pub document_id: String,
    pub version: i32,
    pub bundle: i32,
    pub offset_bytes: u64,
    pub if_etag: String,
}

impl Wanted {
    /// What is asked for; the version that is not named is `usual`.
    pub fn of(asked: Asked, usual: DocumentVersion) -> Result<Self, Status> {
        let mut faults = Faults::default();
        let unknown = "is not a value that the service knows here";
        let named = DocumentVersion::try_from(asked.version);
        let version = match named.map(|named| if named == DocumentVersion::Unspecified { usual } else { named }) {
            Ok(DocumentVersion::Signed) => Some(Version::Signed),
            Ok(DocumentVersion::Declined) => Some(Version::Declined),
            Ok(DocumentVersion::Certificate) => Some(Version::Certificate),
            Ok(DocumentVersion::Original | DocumentVersion::Unspecified) => None,
            Err(_) => {
                faults.add("version", unknown);
                None
            }
        };
        let bundle = DocumentBundle::try_from(asked.bundle).unwrap_or_else(|_| {
            faults.add("bundle", unknown);
            DocumentBundle::Unspecified
        });
        if bundle != DocumentBundle::Unspecified && !asked.document_id.is_empty() {
            faults.add("document_id", "must be empty for a bundle, which holds all documents");
        }
        let etag = (!asked.if_etag.is_empty()).then(|| faults.digest("if_etag", &asked.if_etag));
        faults.finish()?;
        Ok(Self {
            version,
            as_it_came: false,
            bundle,
            document_id: asked.document_id,
            offset_bytes: asked.offset_bytes,
            etag,
        })
    }

    /// The same, for a sender: the original is what came, if it comes alone.
    pub fn for_a_sender(self) -> Self {
        Self { as_it_came: true, ..self }
    }

    pub fn is_original(&self) -> bool {
        self.version.is_none()
    }
}

/// A file of the store that a caller may have.
struct File {
    name: String,
    content_type: &'static str,
    digest: Digest,
    size_bytes: u64,
}

impl Handler {
    /// What is wanted of an envelope that the caller may see, on its way.
    pub(super) async fn send_out(
        &self,
        envelope: &Envelope,
        wanted: &Wanted,
        seat: Seat,
    ) -> Result<impl Stream<Item = Result<DocumentPart, Status>> + Send + use<>, Status> {
        let files = files(envelope, wanted)?;
        let mut parcel = match wanted.bundle {
            DocumentBundle::Unspecified => self.alone(files).await?,
            DocumentBundle::Zip => self.zipped(envelope, files).await?,
            DocumentBundle::Pdf => self.combined(files).await?,
        };
        let info = &mut parcel.info;
        if wanted.etag.is_some_and(|etag| hex::encode(etag) != info.etag) {
            return Err(changed_since());
        }
        if wanted.offset_bytes > info.size_bytes {
            let message = "offset_bytes: is beyond the end of the file";
            let problem = Problem::new(ErrorReason::OffsetOutOfRange, message);
            return Err(problem.with("size_bytes", info.size_bytes.to_string()).into());
        }
        info.offset_bytes = wanted.offset_bytes;
        Ok(parcel.send(seat, self.0.stall))
    }

    async fn alone(&self, files: Vec<File>) -> Result<Parcel, Status> {
        let file = files.into_iter().next().ok_or_else(|| Status::from(Problem::not_found()))?;
        let piece = Piece::Stored(Box::new(self.stored(&file).await?));
        let sha256 = hex::encode(file.digest);
        let info = info(file.name, file.content_type, sha256.clone(), sha256, std::slice::from_ref(&piece));
        Ok(Parcel { info, pieces: vec![piece] })
    }

    async fn zipped(&self, envelope: &Envelope, files: Vec<File>) -> Result<Parcel, Status> {
        let names = distinct(files.iter().map(|file| file.name.clone()).collect());
        let mut members = Vec::new();
        for (file, name) in files.iter().zip(names) {
            let crc32 = self.0.blobs.crc32(&file.digest).await.map_err(|error| not_read(&error))?;
            members.push(Member { name, size_bytes: file.size_bytes, crc32 });
        }
        let frame = archive::frame(&members, envelope.last_event_at).ok_or_else(too_large_to_bundle)?;
        let mut marks: Vec<u8> = frame.headers.iter().flat_map(|header| header.iter().copied()).collect();
        marks.extend_from_slice(&frame.directory);
        let mut pieces = Vec::new();
        for (file, header) in files.iter().zip(frame.headers) {
            marks.extend_from_slice(&file.digest);
            pieces.extend([Piece::Made(header), Piece::Stored(Box::new(self.stored(file).await?))]);
        }
        pieces.push(Piece::Made(frame.directory));
        let etag = hex::encode(sha256(&marks));
        let info = info(file_name("documents", "", "zip"), ZIP, String::new(), etag, &pieces);
        Ok(Parcel { info, pieces })
    }

    /// All pages in one file. Made in memory, as no PDF can be put together as it comes: so it is bounded, and what was made
    /// waits on the disk for its consumer. And made by a child: documents that are harmless one by one need not be so together.
    async fn combined(&self, files: Vec<File>) -> Result<Parcel, Status> {
        let (sizes, mut papers) = (files.iter().map(|file| file.size_bytes).collect::<Vec<u64>>(), BytesMut::new());
        if sizes.iter().sum::<u64>() > COMBINED_BYTES_MAX {
            return Err(too_large_to_bundle());
        }
        let turn = tokio::time::timeout(TURN_MAX, Arc::clone(&self.0.combining).acquire_owned()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Problem::unavailable().into()) };
        for file in &files {
            papers.extend_from_slice(&self.stored(file).await?.whole().await.map_err(|error| not_read(&error))?);
        }
        let combined = self.0.workers.combine(papers.freeze(), sizes).await.map_err(not_combined)?;
        let kept = tokio::task::spawn_blocking(move || {
            let piece = Piece::on_disk(&combined).map_err(off_disk)?;
            Ok::<_, Status>((piece, hex::encode(sha256(&combined))))
        });
        let (piece, etag) = kept.await.map_err(|_| Status::from(Problem::internal()))??;
        let pieces = vec![piece];
        Ok(Parcel { info: info(file_name("documents", "", "pdf"), PDF, String::new(), etag, &pieces), pieces })
    }

    /// A file of the store, of the size that the envelope knows.
    async fn stored(&self, file: &File) -> Result<Blob, Status> {
        let found = self.0.blobs.find(&file.digest).await.map_err(|error| not_read(&error))?;
        if found.size() != file.size_bytes {
            return Err(not_read(&BlobError::Changed(hex::encode(file.digest))));
        }
        Ok(found)
    }
}

/// Each document could be read by itself.
fn not_combined(error: WorkerError) -> Status {
    match error {
        WorkerError::Refused(Unreadable::TooCostly) => too_large_to_bundle(),
        WorkerError::Refused(why) => {
            tracing::error!(error = why.name(), "documents could not be put into one");
            Problem::internal().into()
        }
        WorkerError::Unavailable(why) => unavailable(&why),
    }
}

fn info(name: String, content_type: &str, sha256: String, etag: String, pieces: &[Piece]) -> DocumentInfo {
    let size_bytes = pieces.iter().map(Piece::size_bytes).sum();
    DocumentInfo { name, content_type: content_type.to_owned(), sha256, size_bytes, etag, offset_bytes: 0 }
}

/// The files that are wanted, in the sender's order.
fn files(envelope: &Envelope, wanted: &Wanted) -> Result<Vec<File>, Status> {
    if envelope.keeping.is_purged() {
        return Err(purged(envelope.status()));
    }
    if let Some(version) = wanted.version {
        offered(envelope.status(), version)?;
    }
    if wanted.bundle == DocumentBundle::Unspecified {
        let document = named(envelope, wanted)?;
        let came = document.original.filter(|_| wanted.as_it_came && wanted.is_original());
        return Ok(vec![
            came.map_or_else(|| file(envelope, document, wanted.version), |it| Ok(original(document, it)))?,
        ]);
    }
    // What was made is not there of every document: the certificate is one for all, and a refusal may have come before
    // something was read.
    let is_there = |document: &&Document| wanted.version.is_none_or(|version| document.artifact(version).is_some());
    let files = envelope.documents.iter().filter(is_there).map(|document| file(envelope, document, wanted.version));
    let files: Vec<File> = files.collect::<Result<_, _>>()?;
    if files.is_empty() { Err(no_version(envelope.status())) } else { Ok(files) }
}

/// Whether an envelope of that status has that version at all. That the file is there is looked at besides.
fn offered(status: EnvelopeStatus, version: Version) -> Result<(), Status> {
    let offered = match version {
        Version::Signed => status == EnvelopeStatus::Completed,
        Version::Declined => status == EnvelopeStatus::Declined,
        Version::Certificate => matches!(status, EnvelopeStatus::Completed | EnvelopeStatus::Declined),
    };
    if offered { Ok(()) } else { Err(no_version(status)) }
}

/// The document that a download names; the certificate is one for all.
fn named<'a>(envelope: &'a Envelope, wanted: &Wanted) -> Result<&'a Document, Status> {
    match envelope.documents.first() {
        Some(first) if wanted.document_id.is_empty() && wanted.version == Some(Version::Certificate) => Ok(first),
        _ => document(envelope, &wanted.document_id),
    }
}

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

fn file(envelope: &Envelope, document: &Document, version: Option<Version>) -> Result<File, Status> {
    let named = |mark| file_name(&document.name, mark, "pdf");
    let content_type = PDF;
    let Some(version) = version else {
        // It may still be on its way.
        let read = if document.is_read() { Ok(()) } else { Err(no_version(envelope.status())) };
        let (digest, size_bytes) = (document.sha256, document.size_bytes);
        return read.map(|()| File { name: named(""), content_type, digest, size_bytes });
    };
    let artifact = document.artifact(version).ok_or_else(|| no_version(envelope.status()))?;
    let mark = match version {
        Version::Signed => "-signed",
        Version::Declined => "-declined",
        Version::Certificate => "-certificate",
    };
    Ok(File { name: named(mark), content_type, digest: artifact.sha256, size_bytes: artifact.size_bytes })
}

/// What came, as it came.
fn original(document: &Document, came: Original) -> File {
    let extension = match came.content_type {
        ContentType::Pdf => "pdf",
        ContentType::Docx => "docx",
    };
    let (digest, size_bytes) = (came.sha256, came.size_bytes);
    let name = file_name(&document.name, "", extension);
    File { name, content_type: came.content_type.media_type(), digest, size_bytes }
}
