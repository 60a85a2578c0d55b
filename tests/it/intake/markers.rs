//! Markers in the text of a document, on every way in: the fields that are made of them, and what people see instead.

use countersign::v1::document_source::Source;
use countersign::v1::{CreateEnvelopeRequest, Envelope, FieldType, IngestFaultReason, IngestStatus, Routing};
use countersign_paper::{Limits, render_page};
use countersign_test_support::Errors as _;
use countersign_test_support::client::request;
use countersign_test_support::docx::docx;
use sha2::{Digest as _, Sha256};
use tonic::Code;

use super::server::Running;
use super::{DOCX, PDF, converts, of, original, service, shown, until_read, upload};

const MARKER: &str = "{{signature:Buyer:here:width=30:height=5}}";

/// One page with this line on it.
pub fn paper(line: &str) -> Vec<u8> {
    let content = format!("BT /F 12 Tf 72 700 Td ({line}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    let (mut file, mut table) = ("%PDF-1.7\n".to_owned(), String::new());
    for (index, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let (begin, size) = (file.len(), objects.len() + 1);
    file.push_str(&format!("xref\n0 {size}\n0000000000 65535 f \n{table}"));
    file.push_str(&format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{begin}\n%%EOF\n"));
    file.into_bytes()
}

/// One signer, the buyer, and a document whose markers are to be read.
pub fn marked(source: Source, send: bool) -> CreateEnvelopeRequest {
    let mut new = request(1, Routing::Parallel, send);
    (new.fields, new.recipients[0].label) = (Vec::new(), "Buyer".into());
    let mut document = of(source);
    document.markers = true;
    CreateEnvelopeRequest { documents: vec![document], ..new }
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn has_its_field(envelope: &Envelope) {
    let [field] = envelope.fields.as_slice() else { panic!("{:?}", envelope.fields) };
    let placement = field.placement.unwrap();
    assert_eq!((field.r#type(), field.name.as_str(), placement.page), (FieldType::Signature, "here", 1));
    assert_eq!((placement.width_percent, placement.height_percent), (30.0, 5.0));
    assert_eq!(field.recipient_id, envelope.recipients[0].id);
}

/// S1.36, T-67: the markers of a PDF become fields on every way in; people see the page without them, and sign that.
#[tokio::test(flavor = "multi_thread")]
async fn t67_markers_become_fields_and_are_covered() {
    let (service, server) = (service().await, Running::start().await);
    let sender = service.account(false).await;
    let bytes = paper(MARKER);
    let kept = upload(&sender, &bytes).await.unwrap();
    let sources = [
        Source::Content(bytes.clone().into()),
        Source::UploadId(kept.upload_id),
        Source::Url(server.holds("marked", bytes.clone())),
    ];
    let blank = render_page(&paper(""), 1, 600, &Limits::default()).unwrap().unwrap().png;
    let mut signed = Vec::new();
    for source in sources {
        let created = sender.create(marked(source, true)).await.unwrap();
        let ready = until_read(&sender, &created.id).await;
        has_its_field(&ready);
        let document = &ready.documents[0];
        assert_eq!((document.original_sha256.clone(), document.content_type.as_str()), (hash(&bytes), PDF));
        assert_eq!(original(&sender, &ready).await.1, bytes);
        let signer = sender.signer_of(&ready.id, &ready.recipients[0].id).await.unwrap();
        let (info, seen) = shown(&signer).await;
        assert_eq!((&info.sha256, &hash(&seen)), (&document.sha256, &document.sha256));
        assert_ne!(document.sha256, document.original_sha256);
        let drawn = render_page(&seen, 1, 600, &Limits::default()).unwrap().unwrap().png;
        assert!(drawn == blank, "the marker is still to be seen");
        signer.sign(&ready).await.unwrap();
        signed.push(document.sha256.clone());
    }
    signed.dedup();
    assert_eq!(signed.len(), 1, "the same file, however it came");
}

/// S1.36, T-67: the same in a DOCX.
#[tokio::test(flavor = "multi_thread")]
async fn t67_markers_of_a_docx_become_fields() {
    if !converts() {
        return;
    }
    let service = service().await;
    let sender = service.account(false).await;
    let bytes = docx(&["Lease", MARKER]);
    let created = sender.create(marked(Source::Content(bytes.clone().into()), true)).await.unwrap();
    let ready = until_read(&sender, &created.id).await;
    has_its_field(&ready);
    assert_eq!(ready.documents[0].content_type, DOCX);
    assert_eq!(original(&sender, &ready).await.1, bytes);
}

/// T-67: what cannot be made into a field is told with its page and its text, at once or with the document.
#[tokio::test(flavor = "multi_thread")]
async fn t67_markers_that_fit_nobody_are_told() {
    let (service, server) = (service().await, Running::start().await);
    let sender = service.account(false).await;
    for text in ["{{signature:Seller}}", "{{sign:Buyer}}"] {
        let bytes = paper(text);
        let refused = sender.create(marked(Source::Content(bytes.clone().into()), true)).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason().as_str()), (Code::InvalidArgument, "MARKERS_UNMATCHED"));
        let created = sender.create(marked(Source::Url(server.holds("wrong", bytes)), false)).await.unwrap();
        let failed = until_read(&sender, &created.id).await;
        assert_eq!(failed.fields_status(), IngestStatus::Failed);
        let fault = failed.documents[0].ingest_fault.clone().unwrap();
        let [marker] = fault.markers.as_slice() else { panic!("{fault:?}") };
        assert_eq!((fault.reason(), marker.page, marker.text.as_str()), (IngestFaultReason::Markers, 1, text));
    }
}
