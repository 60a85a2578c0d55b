//! Every way in, with both types: into a new envelope, and in the place of a draft's document.

use countersign::v1::document_source::Source;
use countersign::v1::{Envelope, EnvelopeStatus, EventType, IngestStatus, ReplaceDocumentRequest};
use countersign_paper::samples;
use countersign_test_support::Caller;
use countersign_test_support::client::pdf;
use countersign_test_support::docx::docx;
use sha2::{Digest as _, Sha256};

use super::server::Running;
use super::{DOCX, PDF, converts, new, of, original, service, shown, until_read, upload};
use crate::steps::{kinds, send, until_status};

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// One way in, from the request to the last signature.
async fn way(sender: &Caller, source: Source, bytes: &[u8], content_type: &str, at_once: bool) {
    let created = sender.create(new(source, true)).await.unwrap();
    let status = if at_once { EnvelopeStatus::Sent } else { EnvelopeStatus::Pending };
    assert_eq!(created.status(), status, "{content_type}");
    let sent = until_status(sender, &created.id, EnvelopeStatus::Sent).await;
    complete(sender, &sent, bytes, content_type).await;
    let told = kinds(sender, &sent.id).await;
    assert_eq!(told.contains(&EventType::EnvelopeDocumentReady), !at_once, "{told:?}");
}

/// One way into a draft that had another document, which nobody sees any more.
async fn replaced(sender: &Caller, source: Source, bytes: &[u8], content_type: &str, at_once: bool) {
    let other = samples::services_agreement().unwrap().bytes.clone();
    let draft = sender.create(new(Source::Content(other.into()), false)).await.unwrap();
    let request = ReplaceDocumentRequest {
        envelope_id: draft.id.clone(),
        document_id: draft.documents[0].id.clone(),
        document: Some(of(source)),
        ..ReplaceDocumentRequest::default()
    };
    let put = sender.envelopes().replace_document(request).await.unwrap().into_inner().envelope.unwrap();
    let status = if at_once { IngestStatus::Ready } else { IngestStatus::Processing };
    assert_eq!((put.fields_status(), &put.documents[0].id), (status, &draft.documents[0].id), "{content_type}");
    until_read(sender, &draft.id).await;
    let sent = send(sender, &draft.id).await.unwrap();
    complete(sender, &sent, bytes, content_type).await;
    use EventType::*;
    let ready = if at_once { &[][..] } else { &[EnvelopeDocumentReady] };
    let signed = [EnvelopeSent, RecipientReleased, RecipientSigned, EnvelopeAllActed, EnvelopeCompleted];
    let expected = [&[EnvelopeCreated, EnvelopeUpdated][..], ready, &signed].concat();
    assert_eq!(kinds(sender, &sent.id).await, expected);
}

/// From there to the last signature: what came is what is there, and its PDF is what is signed.
async fn complete(sender: &Caller, sent: &Envelope, bytes: &[u8], content_type: &str) {
    let document = &sent.documents[0];
    assert_eq!((document.ingest_status(), document.content_type.as_str()), (IngestStatus::Ready, content_type));
    assert_eq!((document.original_sha256.clone(), document.original_size_bytes), (hash(bytes), bytes.len() as u64));
    assert!(document.page_count > 0 && document.size_bytes > 0);
    assert_eq!(document.sha256 == document.original_sha256, content_type == PDF);
    // S1.37: the sender has what came, who signs sees the PDF, and signs its hash.
    let (info, came) = original(sender, sent).await;
    assert_eq!((came.as_slice(), info.content_type.as_str()), (bytes, content_type));
    let signer = sender.signer_of(&sent.id, &sent.recipients[0].id).await.unwrap();
    let (info, seen) = shown(&signer).await;
    assert_eq!((info.content_type.as_str(), &info.sha256, hash(&seen)), (PDF, &document.sha256, info.sha256.clone()));
    assert!(seen.starts_with(b"%PDF-"));
    signer.sign(sent).await.unwrap();
    until_status(sender, &sent.id, EnvelopeStatus::Completed).await;
}

/// S1.28, S1.35, S1.37: a PDF on every way in.
#[tokio::test(flavor = "multi_thread")]
async fn s1_35_a_pdf_on_every_way_in() {
    let (service, server) = (service().await, Running::start().await);
    let sender = service.account(false).await;
    let kept = upload(&sender, &pdf()).await.unwrap();
    assert_eq!((kept.content_type.as_str(), kept.sha256), (PDF, hash(&pdf())));
    for (source, at_once) in [
        (Source::Content(pdf().into()), true),
        (Source::UploadId(kept.upload_id), true),
        (Source::Url(server.holds("nda.bin", pdf())), false),
    ] {
        way(&sender, source.clone(), &pdf(), PDF, at_once).await;
        replaced(&sender, source, &pdf(), PDF, at_once).await;
    }
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
    let kept = upload(&sender, &bytes).await.unwrap();
    assert_eq!((kept.content_type.as_str(), kept.page_count, kept.sha256), (DOCX, 0, hash(&bytes)));
    for source in [
        Source::Content(bytes.clone().into()),
        Source::UploadId(kept.upload_id),
        Source::Url(server.holds("lease", bytes.clone())),
    ] {
        way(&sender, source.clone(), &bytes, DOCX, false).await;
        replaced(&sender, source, &bytes, DOCX, false).await;
    }
    // The history commits to both.
    let created = sender.create(new(Source::Content(bytes.clone().into()), false)).await.unwrap();
    let ready = until_read(&sender, &created.id).await;
    let history = sender.history(&created.id).await.unwrap();
    let state = |at: usize| history[at].event.as_ref().unwrap().state.clone().unwrap().documents[0].clone();
    assert_eq!((state(0).sha256, state(0).original_sha256), (String::new(), hash(&bytes)));
    assert_eq!((state(1).sha256, state(1).original_sha256), (ready.documents[0].sha256.clone(), hash(&bytes)));
}
