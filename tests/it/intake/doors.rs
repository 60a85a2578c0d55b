//! What is refused at the door, and what a draft takes while a document is being read.

use std::time::Duration;

use countersign::v1::document_source::Source;
use countersign::v1::{
    AddFieldsRequest, DownloadDocumentRequest, EventType, FieldType, IngestStatus, ReplaceDocumentRequest,
    UploadDocumentRequest, UploadInfo, upload_document_request,
};
use countersign_chassis::clock::Clock;
use countersign_envelope::config::{Config, IngestConfig};
use countersign_test_support::client::pdf;
use countersign_test_support::docx::{body, docx, docx_of, zipped};
use countersign_test_support::service::config;
use countersign_test_support::{Database, Errors as _, Service};
use futures_util::future::join_all;
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::server::{Answer, Running};
use super::{converts, new, of, service, service_with, until_read, upload};
use crate::steps::{field, kinds, send};

/// Types are told by content; what is none that is taken is refused by name, on each way that is read at once.
#[tokio::test(flavor = "multi_thread")]
async fn other_types_are_refused_at_the_door() {
    let service = service().await;
    let sender = service.account(false).await;
    let sheet = zipped(&[("[Content_Types].xml", b"<x/>"), ("xl/workbook.xml", b"<x/>")]);
    let inline = sender.create(new(Source::Content(sheet.clone().into()), false)).await.unwrap_err();
    let uploaded = upload(&sender, &sheet).await.unwrap_err();
    for (refused, path) in [(inline, "documents[0].content"), (uploaded, "chunk")] {
        assert_eq!((refused.reason(), refused.fact("type")), ("UNSUPPORTED_DOCUMENT_TYPE".into(), "xlsx".into()));
        assert_eq!((refused.code(), refused.fields()), (Code::InvalidArgument, vec![path.to_owned()]));
    }
    assert_eq!(service.database.number("SELECT count(*) FROM envelope").await, 0);
}

/// A DOCX is looked through at the door: bombs and broken ones go no further.
#[tokio::test(flavor = "multi_thread")]
async fn bad_docx_are_refused_at_the_door() {
    if !converts() {
        return;
    }
    let service = service().await;
    let sender = service.account(false).await;
    let bomb = docx_of(&body(&" ".repeat(30 * 1024 * 1024)), &[]);
    assert!(bomb.len() < 200_000);
    let refused = sender.create(new(Source::Content(bomb.into()), false)).await.unwrap_err();
    assert_eq!((refused.reason(), refused.fact("limit")), ("OUT_OF_SCOPE_V1".into(), "docx_inflated_bytes_max".into()));
    let whole = docx(&["a"]);
    let refused = upload(&sender, &whole[..whole.len() - 30]).await.unwrap_err();
    assert_eq!((refused.reason(), refused.fields()), ("UNREADABLE_DOCUMENT".into(), vec!["chunk".to_owned()]));
    // What is none is called so, here as well as by who reads it afterwards.
    let refused = upload(&sender, &zipped(&[("word/document.xml", b"<x/>")])).await.unwrap_err();
    assert_eq!((refused.reason(), refused.fact("type")), ("UNSUPPORTED_DOCUMENT_TYPE".into(), "zip".into()));
}

/// Where nothing makes PDFs of DOCX, that is said at once and to whom it concerns.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_converter_docx_are_refused() {
    let ingest = IngestConfig { converter: Some("none".into()), fetch_allow_private: true, ..IngestConfig::default() };
    let (service, server) = (service_with(ingest, Clock::database()).await, Running::start().await);
    let sender = service.account(false).await;
    let bytes = docx(&["a"]);
    for refused in [
        sender.create(new(Source::Content(bytes.clone().into()), false)).await.unwrap_err(),
        upload(&sender, &bytes).await.unwrap_err(),
    ] {
        assert_eq!((refused.code(), refused.reason()), (Code::Unimplemented, "CONVERTER_NOT_INSTALLED".into()));
    }
    let fetched = sender.create(new(Source::Url(server.holds("a", bytes)), false)).await.unwrap();
    let failed = until_read(&sender, &fetched.id).await;
    let fault = failed.documents[0].ingest_fault.clone().unwrap();
    assert_eq!(fault.reason().as_str_name(), "INGEST_FAULT_REASON_CONVERSION_FAILED");
}

/// Addresses are looked at when they are given.
#[tokio::test(flavor = "multi_thread")]
async fn bad_addresses_are_refused_at_the_door() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for url in ["", "http://files.example.com/a.pdf", "https://127.0.0.1/", "https://user@example.com/", "https://x/"] {
        let refused = sender.create(new(Source::Url(url.into()), false)).await.unwrap_err();
        assert_eq!(
            (refused.reason().as_str(), refused.fields()),
            ("INVALID_FIELD", vec!["documents[0].url".to_owned()])
        );
        assert!(url.is_empty() || !refused.message().contains(url), "{}", refused.message());
    }
    let mut nameless = new(Source::Url("https://files.example.com/a.pdf".into()), false);
    nameless.documents[0].name.clear();
    assert_eq!(sender.create(nameless).await.unwrap_err().fields(), ["documents[0].name"]);
}

/// T-68, T-69: while a document is being read, fields can be put on it; they are held against its pages when those are known.
#[tokio::test(flavor = "multi_thread")]
async fn t69_a_draft_takes_fields_while_it_is_read() {
    let (service, server) = (service().await, Running::start().await);
    let sender = service.account(false).await;
    let url = server.at("slow", vec![Answer::Of(503, Vec::new()), Answer::Of(200, pdf())]);
    let draft = sender.create(new(Source::Url(url), false)).await.unwrap();
    assert_eq!(draft.fields_status(), IngestStatus::Processing);
    let document = &draft.documents[0];
    assert_eq!((document.sha256.as_str(), document.content_type.as_str(), document.page_count), ("", "", 0));
    let download =
        DownloadDocumentRequest { envelope_id: draft.id.clone(), version: 1, ..DownloadDocumentRequest::default() };
    let early = sender.envelopes().download_document(download).await.map(drop).unwrap_err();
    assert_eq!(early.reason(), "VERSION_NOT_AVAILABLE");
    let add = |page: u32| {
        let mut far = field(FieldType::Text, 0, 5);
        far.placement.as_mut().unwrap().page = page;
        AddFieldsRequest { envelope_id: draft.id.clone(), fields: vec![far], ..AddFieldsRequest::default() }
    };
    let added = sender.envelopes().add_fields(add(400)).await.unwrap().into_inner().envelope.unwrap();
    assert_eq!(added.fields.len(), draft.fields.len() + 1);
    assert_eq!(sender.envelopes().add_fields(add(u32::MAX)).await.unwrap_err().reason(), "INVALID_FIELD");
    let ready = until_read(&sender, &draft.id).await;
    assert_eq!(ready.fields_status(), IngestStatus::Ready);
    assert_eq!(sender.envelopes().add_fields(add(400)).await.unwrap_err().reason(), "INVALID_FIELD");
    let refused = send(&sender, &draft.id).await.unwrap_err();
    assert_eq!(refused.reason(), "ENVELOPE_INCOMPLETE");
    assert!(refused.message().contains("a page that its document lacks"), "{}", refused.message());
    let remove = countersign::v1::RemoveFieldsRequest {
        envelope_id: draft.id.clone(),
        field_ids: vec![added.fields.last().unwrap().id.clone()],
        ..Default::default()
    };
    sender.envelopes().remove_fields(remove).await.unwrap();
    send(&sender, &draft.id).await.unwrap();
}

/// A document that takes the place of one that is being read is the one that counts, whichever is done first.
#[tokio::test(flavor = "multi_thread")]
async fn t69_a_replaced_document_is_not_read() {
    let (service, server) = (service().await, Running::start().await);
    let sender = service.account(false).await;
    let draft = sender.create(new(Source::Url(server.at("never", vec![Answer::Never])), false)).await.unwrap();
    let put = async |source: Source| {
        let request = ReplaceDocumentRequest {
            envelope_id: draft.id.clone(),
            document_id: draft.documents[0].id.clone(),
            document: Some(of(source)),
            ..ReplaceDocumentRequest::default()
        };
        sender.envelopes().replace_document(request).await.unwrap().into_inner().envelope.unwrap()
    };
    while server.asked("never") == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let read = put(Source::Content(pdf().into())).await;
    assert_eq!(read.fields_status(), IngestStatus::Ready);
    assert_eq!(service.database.number("SELECT count(*) FROM ingest_job").await, 0);
    // And by one that is read afterwards, too.
    let again = put(Source::Url(server.holds("good", pdf()))).await;
    assert_eq!((again.fields_status(), again.documents[0].page_count), (IngestStatus::Processing, 0));
    let ready = until_read(&sender, &draft.id).await;
    assert_eq!((ready.fields_status(), &ready.documents[0].sha256), (IngestStatus::Ready, &read.documents[0].sha256));
    use EventType::*;
    let told = kinds(&sender, &draft.id).await;
    assert_eq!(told, [EnvelopeCreated, EnvelopeUpdated, EnvelopeUpdated, EnvelopeDocumentReady]);
    assert_eq!(service.database.number("SELECT count(*) FROM ingest_job").await, 0);
}

/// S1.35: whoever sends no more has gone, and nobody has more uploads on the way than may be.
#[tokio::test(flavor = "multi_thread")]
async fn s1_35_uploads_that_do_not_come_are_ended() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let config = Config { stream_stall_seconds: 2, ..config(&database, &documents) };
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let sender = service.account(false).await;
    let begun = || {
        let info = UploadInfo { name: "begun".into(), ..UploadInfo::default() };
        let info = UploadDocumentRequest { part: Some(upload_document_request::Part::Info(info)) };
        let mut client = sender.envelopes();
        async move { client.upload_document(tokio_stream::once(info).chain(tokio_stream::pending())).await }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), join_all((0..21).map(|_| begun()))).await.unwrap();
    let reasons: Vec<_> = ended.into_iter().map(|ended| ended.unwrap_err()).collect();
    let too_many = reasons.iter().filter(|refused| refused.reason() == "RATE_LIMIT_EXCEEDED").count();
    let slow = reasons.iter().filter(|refused| refused.code() == Code::Unavailable).count();
    assert_eq!((too_many, slow), (1, 20));
    upload(&sender, &pdf()).await.unwrap();
}
