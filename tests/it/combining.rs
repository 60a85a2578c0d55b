//! Documents are put into one PDF by a confined child: what is harmless alone and costly together hurts none of the service.

use countersign::v1::document_source::Source;
use countersign::v1::{DocumentBundle, DocumentSource, DocumentVersion, DownloadDocumentRequest, Routing};
use countersign_envelope::worker::{WorkerError, Workers};
use countersign_paper::{Limits, Policy, Unreadable, combine, samples};
use countersign_test_support::client::{pdf, request};
use countersign_test_support::{Errors as _, Service, binary, crafted};
use tonic::Code;

use crate::downloads::{of, whole};
use crate::worker::resident_bytes;

/// Documents of an envelope; each takes a part of what a child may have.
const TOGETHER: usize = 10;
/// The papers themselves, and what allocators keep.
const GROWTH_BYTES_MAX: u64 = 250 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_child_makes_what_would_be_made_here() {
    let workers = Workers::new(Some(binary::path("countersign-envelope").await), Some(1)).unwrap();
    let papers = [pdf(), samples::rotated_scan().unwrap().bytes.clone(), pdf()];
    let sizes = papers.iter().map(|paper| paper.len() as u64).collect();
    let made = workers.combine(papers.concat().into(), sizes).await.unwrap();
    assert!(made == combine(&papers).unwrap());
    let cut = workers.combine(pdf().into(), vec![u64::MAX]).await;
    assert!(matches!(cut, Err(WorkerError::Refused(Unreadable::Broken { .. }))), "{cut:?}");
}

/// Each is let in; together they are more than a child may hold, which is told, and the service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_costly_together_are_refused_together() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let heavy = crafted::heavy();
    let workers = Workers::new(Some(binary::path("countersign-envelope").await), Some(1)).unwrap();
    let alone = workers.ingest(heavy.clone().into(), Limits::default(), Policy::default()).await.unwrap();
    assert_eq!(alone.notes, [], "it is let in by itself, as it is");
    let mut new = request(1, Routing::Parallel, true);
    new.documents.clear();
    for _ in 0..TOGETHER {
        let upload_id = crate::intake::upload(&sender, &heavy).await.unwrap().upload_id;
        let source = Some(Source::UploadId(upload_id));
        new.documents.push(DocumentSource { name: "heavy.pdf".into(), source, ..Default::default() });
    }
    let envelope = sender.create(new).await.unwrap();
    let before = resident_bytes();
    let request = of(&envelope, DocumentVersion::Original);
    let request = DownloadDocumentRequest { bundle: DocumentBundle::Pdf.into(), ..request };
    let refused = whole(&sender, request.clone()).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::InvalidArgument, "OUT_OF_SCOPE_V1"));
    assert_eq!(refused.fact("limit"), "bundle_bytes");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "the service grew by {grown} bytes");
    // They still come one by one, and together as a ZIP.
    let zip = DownloadDocumentRequest { bundle: DocumentBundle::Zip.into(), ..request };
    assert!(whole(&sender, zip).await.unwrap().1.len() > TOGETHER * heavy.len());
}
