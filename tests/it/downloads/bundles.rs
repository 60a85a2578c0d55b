//! All documents of an envelope in one file: a ZIP of them, or their pages in one PDF.

use std::process::Command;

use countersign::v1::document_part::Part;
use countersign::v1::{
    DocumentBundle, DocumentVersion, DownloadDocumentRequest, Envelope, SignerServiceDownloadDocumentRequest,
};
use countersign_paper::{Limits, inspect, samples};
use countersign_test_support::client::pdf;
use countersign_test_support::outside::program;
use countersign_test_support::{Caller, Errors as _, Service, Story};

use super::{large_pdf, of, whole, with_documents};
use crate::clients::text;

const UNZIP: &str = r"
import sys, zipfile, hashlib
with zipfile.ZipFile(sys.argv[1]) as z:
    assert z.testzip() is None
    for i in z.infolist():
        print(i.filename, i.file_size, hashlib.sha256(z.read(i)).hexdigest(), i.compress_type, sep='\t')
";

fn bundle(envelope: &Envelope, version: DocumentVersion, bundle: DocumentBundle) -> DownloadDocumentRequest {
    DownloadDocumentRequest { bundle: bundle.into(), ..of(envelope, version) }
}

fn three() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("Vertrag ü.pdf", pdf()),
        ("vertrag Ü.PDF", samples::services_agreement().unwrap().bytes.clone()),
        ("../scan", large_pdf(700_000)),
    ]
}

async fn story(sender: &Caller, documents: Vec<(&str, Vec<u8>)>) -> Story {
    sender.story_of(with_documents(1, documents)).await
}

/// What Python finds in a ZIP: name, size, hash, and whether it is stored as it is.
fn unzipped(bytes: &[u8]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it.zip");
    std::fs::write(&file, bytes).unwrap();
    let output = Command::new("python3").args(["-c", UNZIP]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told = String::from_utf8(output.stdout).unwrap();
    told.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// C-17: read by a program that is not ours; each file is what it would be alone.
#[tokio::test(flavor = "multi_thread")]
async fn c17_all_documents_come_as_a_zip() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = story(&sender, three()).await;
    let zip = |version| bundle(&story.envelope, version, DocumentBundle::Zip);
    let (info, bytes) = whole(&sender, zip(DocumentVersion::Original)).await.unwrap();
    assert_eq!((info.name.as_str(), info.content_type.as_str()), ("documents.zip", "application/zip"));
    let found = unzipped(&bytes);
    let names: Vec<_> = found.iter().map(|file| file[0].as_str()).collect();
    assert_eq!(names, ["Vertrag ü.pdf", "vertrag Ü (2).pdf", "_scan.pdf"]);
    for (file, document) in found.iter().zip(&story.envelope.documents) {
        assert_eq!(file[1..], [document.size_bytes.to_string(), document.sha256.clone(), "0".into()]);
    }
    // The same bytes again, from any place.
    for offset in [0, 1, 29, 30, 65_000, info.size_bytes / 2, info.size_bytes - 30, info.size_bytes] {
        let request = DownloadDocumentRequest {
            offset_bytes: offset,
            if_etag: info.etag.clone(),
            ..zip(DocumentVersion::Original)
        };
        assert!(whole(&sender, request).await.unwrap().1 == bytes[offset as usize..], "{offset}");
    }
    let early = whole(&sender, zip(DocumentVersion::Signed)).await.unwrap_err();
    assert_eq!(early.reason(), "VERSION_NOT_AVAILABLE");
    let named = DownloadDocumentRequest {
        document_id: story.envelope.documents[0].id.clone(),
        ..zip(DocumentVersion::Original)
    };
    assert_eq!(whole(&sender, named).await.unwrap_err().fields(), ["document_id"]);
    // The recipient's are the same, and no more.
    let request = SignerServiceDownloadDocumentRequest { bundle: DocumentBundle::Zip.into(), ..Default::default() };
    let mut stream = story.signer(0).signer().download_document(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().part.unwrap().part;
    assert!(matches!(first, Some(Part::Info(own)) if own.etag == info.etag));

    story.signer(0).sign(&story.envelope).await.unwrap();
    let done = story.until(countersign::v1::EnvelopeStatus::Completed).await;
    let (signed, bytes) = whole(&sender, zip(DocumentVersion::Signed)).await.unwrap();
    assert_ne!(signed.etag, info.etag);
    let stale = DownloadDocumentRequest { if_etag: info.etag, ..zip(DocumentVersion::Signed) };
    assert_eq!(whole(&sender, stale).await.unwrap_err().reason(), "DOCUMENT_CHANGED");
    let found = unzipped(&bytes);
    assert_eq!(found[0][0], "Vertrag ü-signed.pdf");
    for (file, document) in found.iter().zip(&done.documents) {
        let artifact = document.artifacts.iter().find(|it| it.version() == DocumentVersion::Signed).unwrap();
        assert_eq!(file[2], artifact.sha256, "byte for byte, so that seals stay");
    }
}

/// All pages in one PDF, which other programs find sound.
#[tokio::test(flavor = "multi_thread")]
async fn c17_all_pages_come_in_one_pdf() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let documents = vec![
        ("a.pdf", pdf()),
        ("b.pdf", samples::rotated_scan().unwrap().bytes.clone()),
        ("c.pdf", samples::services_agreement().unwrap().bytes.clone()),
    ];
    let sizes = |bytes: &[u8]| inspect(bytes, &Limits::default()).unwrap().pages;
    let story = story(&sender, documents).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    let done = story.until(countersign::v1::EnvelopeStatus::Completed).await;
    for version in [DocumentVersion::Original, DocumentVersion::Signed] {
        let request = bundle(&story.envelope, version, DocumentBundle::Pdf);
        let (info, bytes) = whole(&sender, request.clone()).await.unwrap();
        assert_eq!((info.name.as_str(), info.content_type.as_str()), ("documents.pdf", "application/pdf"));
        let found = sizes(&bytes);
        let mut pages = Vec::new();
        for document in &done.documents {
            let one = DownloadDocumentRequest { document_id: document.id.clone(), ..of(&done, version) };
            pages.extend(sizes(&whole(&sender, one).await.unwrap().1));
        }
        assert_eq!(found.len(), pages.len());
        for (found, page) in found.iter().zip(&pages) {
            assert_eq!(found.rotation, page.rotation);
            assert!((found.width_pt - page.width_pt).abs() < 0.01 && (found.height_pt - page.height_pt).abs() < 0.01);
        }
        let rest = DownloadDocumentRequest { offset_bytes: 70_000, if_etag: info.etag, ..request };
        assert!(whole(&sender, rest).await.unwrap().1 == bytes[70_000..], "the same again");
        sound(&bytes);
    }
}

fn sound(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it.pdf");
    std::fs::write(&file, bytes).unwrap();
    if let Some(qpdf) = program("qpdf", "apt-get install qpdf") {
        let output = Command::new(qpdf).arg("--check").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    if let Some(pdftotext) = program("pdftotext", "apt-get install poppler-utils") {
        let output = Command::new(pdftotext).arg(&file).arg("-").output().unwrap();
        let words = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert!(words.contains("non-disclosure") && words.contains("services"), "{words:.200}");
    }
}

/// What does not fit into memory is refused, not tried.
#[tokio::test(flavor = "multi_thread")]
async fn too_much_for_one_pdf_is_named() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let upload = async |size: usize| {
        use countersign::v1::upload_document_request::Part;
        let info = countersign::v1::UploadInfo { name: "large.pdf".into(), ..Default::default() };
        let bytes = large_pdf(size);
        let chunks = bytes.chunks(1_000_000).map(|chunk| Part::Chunk(chunk.to_vec().into()));
        let parts = std::iter::once(Part::Info(info)).chain(chunks);
        let parts: Vec<_> = parts.map(|part| countersign::v1::UploadDocumentRequest { part: Some(part) }).collect();
        let answer = sender.envelopes().upload_document(tokio_stream::iter(parts)).await.unwrap().into_inner();
        countersign::v1::DocumentSource {
            markers: false,
            name: "large.pdf".into(),
            source: Some(countersign::v1::document_source::Source::UploadId(answer.upload_id)),
        }
    };
    let mut new = with_documents(1, Vec::new());
    for _ in 0..3 {
        new.documents.push(upload(24_000_000).await);
    }
    let envelope = sender.create(new).await.unwrap();
    let request = bundle(&envelope, DocumentVersion::Original, DocumentBundle::Pdf);
    let refused = whole(&sender, request).await.unwrap_err();
    assert_eq!((refused.reason().as_str(), refused.fact("limit").as_str()), ("OUT_OF_SCOPE_V1", "bundle_bytes"));
    let (info, _) = whole(&sender, bundle(&envelope, DocumentVersion::Original, DocumentBundle::Zip)).await.unwrap();
    assert!(info.size_bytes > 72_000_000);
}
