//! Every way in, with both types.

use countersign::v1::document_source::Source;
use countersign::v1::{EnvelopeStatus, EventType, IngestStatus};
use countersign_test_support::Caller;
use countersign_test_support::client::pdf;
use countersign_test_support::docx::docx;
use sha2::{Digest as _, Sha256};

use super::server::Running;
use super::{DOCX, PDF, converts, new, original, service, shown, until_read, upload};
use crate::steps::{kinds, until_status};

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// One way in, from the request to the last signature.
async fn way(sender: &Caller, source: Source, bytes: &[u8], content_type: &str, at_once: bool) {
    let created = sender.create(new(source, true)).await.unwrap();
    let status = if at_once { EnvelopeStatus::Sent } else { EnvelopeStatus::Pending };
    assert_eq!(created.status(), status, "{content_type}");
    let sent = until_status(sender, &created.id, EnvelopeStatus::Sent).await;
    let document = &sent.documents[0];
    assert_eq!((document.ingest_status(), document.content_type.as_str()), (IngestStatus::Ready, content_type));
    assert_eq!((document.original_sha256.clone(), document.original_size_bytes), (hash(bytes), bytes.len() as u64));
    assert!(document.page_count > 0 && document.size_bytes > 0);
    assert_eq!(document.sha256 == document.original_sha256, content_type == PDF);
    // S1.37: the sender has what came, who signs sees the PDF, and signs its hash.
    let (info, came) = original(sender, &sent).await;
    assert_eq!((came.as_slice(), info.content_type.as_str()), (bytes, content_type));
    let signer = sender.signer_of(&sent.id, &sent.recipients[0].id).await.unwrap();
    let (info, seen) = shown(&signer).await;
    assert_eq!((info.content_type.as_str(), &info.sha256, hash(&seen)), (PDF, &document.sha256, info.sha256.clone()));
    assert!(seen.starts_with(b"%PDF-"));
    signer.sign(&sent).await.unwrap();
    until_status(sender, &sent.id, EnvelopeStatus::Completed).await;
    let told = kinds(sender, &sent.id).await;
    assert_eq!(told.contains(&EventType::EnvelopeDocumentReady), !at_once, "{told:?}");
}

/// S1.28, S1.35, S1.37: a PDF on every way in.
#[tokio::test(flavor = "multi_thread")]
async fn s1_35_a_pdf_on_every_way_in() {
    let (service, server) = (service().await, Running::start().await);
    let sender = service.account(false).await;
    way(&sender, Source::Content(pdf().into()), &pdf(), PDF, true).await;
    let kept = upload(&sender, &pdf()).await.unwrap();
    assert_eq!((kept.content_type.as_str(), kept.sha256), (PDF, hash(&pdf())));
    way(&sender, Source::UploadId(kept.upload_id), &pdf(), PDF, true).await;
    way(&sender, Source::Url(server.holds("nda.bin", pdf())), &pdf(), PDF, false).await;
    let headers = server.headers("nda.bin");
    assert!(!headers.contains_key("authorization") && !headers.contains_key("cookie"), "{headers:?}");
}

/// S1.35, S1.36, S1.37: a DOCX on every way in.
#[tokio::test(flavor = "multi_thread")]
async fn s1_35_a_docx_on_every_way_in() {
    if !converts() {
        return;
    }
    let (service, server) = (service().await, Running::start().await);
    let sender = service.account(false).await;
    let bytes = docx(&["Lease of the flat at Kirkegata 5", "Signed:"]);
    way(&sender, Source::Content(bytes.clone().into()), &bytes, DOCX, false).await;
    let kept = upload(&sender, &bytes).await.unwrap();
    assert_eq!((kept.content_type.as_str(), kept.page_count, kept.sha256), (DOCX, 0, hash(&bytes)));
    way(&sender, Source::UploadId(kept.upload_id), &bytes, DOCX, false).await;
    way(&sender, Source::Url(server.holds("lease", bytes.clone())), &bytes, DOCX, false).await;
    // The history commits to both.
    let created = sender.create(new(Source::Content(bytes.clone().into()), false)).await.unwrap();
    let ready = until_read(&sender, &created.id).await;
    let history = sender.history(&created.id).await.unwrap();
    let state = |at: usize| history[at].event.as_ref().unwrap().state.clone().unwrap().documents[0].clone();
    assert_eq!((state(0).sha256, state(0).original_sha256), (String::new(), hash(&bytes)));
    assert_eq!((state(1).sha256, state(1).original_sha256), (ready.documents[0].sha256.clone(), hash(&bytes)));
}
