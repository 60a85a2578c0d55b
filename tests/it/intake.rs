//! Documents on every way in: PDF and DOCX, inline, uploaded and fetched; read at once or afterwards.

#[path = "intake/budgets.rs"]
mod budgets;
#[path = "intake/doors.rs"]
mod doors;
#[path = "intake/markers.rs"]
pub mod markers;
#[path = "intake/server.rs"]
mod server;
#[path = "intake/sources.rs"]
mod sources;
#[path = "intake/ways.rs"]
mod ways;

use std::time::Duration;

use countersign::v1::document_part::Part;
use countersign::v1::document_source::Source;
use countersign::v1::{
    CreateEnvelopeRequest, DocumentInfo, DocumentPart, DocumentSource, DownloadDocumentRequest, Envelope, IngestStatus,
    Routing, SignerServiceDownloadDocumentRequest, UploadDocumentRequest, UploadDocumentResponse, UploadInfo,
    upload_document_request,
};
use countersign_chassis::clock::Clock;
use countersign_envelope::config::IngestConfig;
use countersign_envelope::convert::LibreOffice;
use countersign_test_support::client::request;
use countersign_test_support::outside::absent;
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Service};
use futures_util::StreamExt as _;
use tonic::Status;

pub const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
pub const PDF: &str = "application/pdf";

/// A service that fetches from this machine.
pub async fn service() -> Service {
    service_with(IngestConfig { fetch_allow_private: true, ..IngestConfig::default() }, Clock::database()).await
}

pub async fn service_with(ingest: IngestConfig, clock: Clock) -> Service {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut config = config(&database, &documents);
    config.ingest = ingest;
    Service::start_with(database, clock, documents, config).await
}

/// True if there is LibreOffice; says so if not.
pub fn converts() -> bool {
    let found = LibreOffice::find().is_some();
    if !found {
        absent("LibreOffice Writer", "apt-get install --no-install-recommends libreoffice-writer-nogui");
    }
    found
}

pub fn of(source: Source) -> DocumentSource {
    DocumentSource { name: "contract".into(), source: Some(source), ..DocumentSource::default() }
}

/// One signer and this document.
pub fn new(source: Source, send: bool) -> CreateEnvelopeRequest {
    CreateEnvelopeRequest { documents: vec![of(source)], ..request(1, Routing::Parallel, send) }
}

pub async fn upload(sender: &Caller, bytes: &[u8]) -> Result<UploadDocumentResponse, Status> {
    let info = UploadInfo { name: "uploaded".into(), ..UploadInfo::default() };
    let mut parts = vec![upload_document_request::Part::Info(info)];
    parts.extend(bytes.chunks(50_000).map(|chunk| upload_document_request::Part::Chunk(chunk.to_vec().into())));
    let parts = parts.into_iter().map(|part| UploadDocumentRequest { part: Some(part) });
    let parts: Vec<_> = parts.collect();
    Ok(sender.envelopes().upload_document(tokio_stream::iter(parts)).await?.into_inner())
}

/// Waits until all its documents were read, or one cannot be.
pub async fn until_read(sender: &Caller, id: &str) -> Envelope {
    for _ in 0..2_400 {
        let now = sender.get(id).await.unwrap();
        if now.fields_status() != IngestStatus::Processing {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited for the documents of {id}");
}

/// What the sender gets as the original.
pub async fn original(sender: &Caller, envelope: &Envelope) -> (DocumentInfo, Vec<u8>) {
    let request =
        DownloadDocumentRequest { envelope_id: envelope.id.clone(), version: 1, ..DownloadDocumentRequest::default() };
    let stream = sender.envelopes().download_document(request).await.unwrap().into_inner();
    whole(stream.map(|part| part.unwrap().part.unwrap()).collect().await)
}

/// What a signer sees.
pub async fn shown(signer: &Caller) -> (DocumentInfo, Vec<u8>) {
    let request = SignerServiceDownloadDocumentRequest::default();
    let stream = signer.signer().download_document(request).await.unwrap().into_inner();
    whole(stream.map(|part| part.unwrap().part.unwrap()).collect().await)
}

fn whole(parts: Vec<DocumentPart>) -> (DocumentInfo, Vec<u8>) {
    let (mut info, mut bytes) = (None, Vec::new());
    for part in parts {
        match part.part.unwrap() {
            Part::Info(first) => info = Some(first),
            Part::Chunk(chunk) => bytes.extend_from_slice(&chunk),
        }
    }
    (info.expect("info first"), bytes)
}
