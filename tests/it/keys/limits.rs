//! Limits of one account: raised, lowered, and told by name where they are passed.

use countersign::v1::{
    CreateApiKeyRequest, CreateEnvelopeRequest, DocumentSource, EnvelopeChanges, Limits, RecipientRole, Routing,
    UpdateEnvelopeRequest, UploadDocumentRequest, UploadInfo, document_source::Source, upload_document_request::Part,
};
use countersign_test_support::client::{pdf, request};
use countersign_test_support::{Caller, Errors as _, Service};
use prost_types::FieldMask;
use tonic::{Code, Status};

use super::settings::limit;
use super::{create, revoke};
use crate::steps::people;

/// Checks a refusal that names a limit.
fn over(status: &Status, name: &str, actual: usize, allowed: usize) {
    assert_eq!((status.code(), status.reason().as_str()), (Code::InvalidArgument, "OUT_OF_SCOPE_V1"), "{status:?}");
    let facts = (status.fact("limit"), status.fact("actual"), status.fact("allowed"));
    assert_eq!(facts, (name.into(), actual.to_string(), allowed.to_string()));
}

async fn upload(by: &Caller, bytes: Vec<u8>) -> Result<(), Status> {
    let info = UploadInfo { name: "a.pdf".into(), ..UploadInfo::default() };
    let parts = [Part::Info(info), Part::Chunk(bytes.into())];
    let stream = tokio_stream::iter(parts.map(|part| UploadDocumentRequest { part: Some(part) }));
    by.envelopes().upload_document(stream).await.map(drop)
}

/// C-18, S3.82: the operator raises and lowers an account's limits, and no other account's.
#[tokio::test(flavor = "multi_thread")]
async fn c18_the_operator_sets_how_much_an_account_may_do() {
    let service = Service::start().await;
    let (sender, other) = (service.account(false).await, service.account(false).await);
    let with = |signers| people(&vec![RecipientRole::Signer; signers], Routing::Parallel, true);
    over(&sender.create(with(12)).await.unwrap_err(), "recipients_max", 12, 10);
    limit(&service, &sender.account, Limits { recipients_max: 12, ..Limits::default() }).await;
    assert_eq!(sender.create(with(12)).await.expect("raised").recipients.len(), 12);
    over(&sender.create(with(13)).await.unwrap_err(), "recipients_max", 13, 12);
    over(&other.create(with(12)).await.unwrap_err(), "recipients_max", 12, 10);
    limit(
        &service,
        &sender.account,
        Limits { recipients_max: 2, fields_max: 3, documents_max: 1, ..Limits::default() },
    )
    .await;
    over(&sender.create(with(3)).await.unwrap_err(), "recipients_max", 3, 2);
    sender.create(with(2)).await.expect("as many as there may be");
    let mut fields = with(2);
    fields.fields.extend(fields.fields.clone());
    over(&sender.create(fields).await.unwrap_err(), "fields_max", 4, 3);
    let mut documents = with(1);
    documents.documents.push(documents.documents[0].clone());
    over(&sender.create(documents).await.unwrap_err(), "documents_max", 2, 1);
    limit(&service, &sender.account, Limits::default()).await;
    sender.create(with(10)).await.expect("0 is the usual value");
}

/// C-18, T-57: how long a reason may be is the account's too, for its recipients as for itself.
#[tokio::test(flavor = "multi_thread")]
async fn c18_the_length_of_reasons_and_notes_is_the_accounts() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    limit(&service, &sender.account, Limits { note_chars_max: 5, metadata_value_chars_max: 3, ..Limits::default() })
        .await;
    let story = sender.story(2, Routing::Parallel).await;
    assert_eq!(story.signer(0).decline("\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}").await.unwrap_err().fields(), ["reason"]);
    assert_eq!(crate::doors::on_behalf(&story, 0, "Too dear", "Letter").await.unwrap_err().fields().len(), 2);
    assert_eq!(sender.void(&story.envelope.id, "Too dear").await.unwrap_err().fields(), ["reason"]);
    let message = CreateEnvelopeRequest { message: "Please".into(), ..request(1, Routing::Parallel, false) };
    assert_eq!(sender.create(message).await.unwrap_err().fields(), ["message"]);
    let metadata = [("order".to_owned(), "1234".to_owned())].into();
    let metadata = CreateEnvelopeRequest { metadata, ..request(1, Routing::Parallel, false) };
    assert_eq!(sender.create(metadata).await.unwrap_err().fields(), ["metadata.value"]);
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let update = UpdateEnvelopeRequest {
        envelope_id: draft.id,
        changes: Some(EnvelopeChanges { message: "Please".into(), ..EnvelopeChanges::default() }),
        update_mask: Some(FieldMask { paths: vec!["message".into()] }),
        ..Default::default()
    };
    assert_eq!(sender.envelopes().update_envelope(update.clone()).await.unwrap_err().fields(), ["changes.message"]);
    limit(&service, &sender.account, Limits { note_chars_max: 10_000, ..Limits::default() }).await;
    sender.envelopes().update_envelope(update).await.expect("raised");
    let long = "\u{e4}".repeat(10_000);
    assert_eq!(story.signer(0).decline(&format!("{long}!")).await.unwrap_err().fields(), ["reason"]);
    story.signer(0).decline(&long).await.expect("as long as it may be");
    assert_eq!(story.now().await.recipients[0].decline.as_ref().unwrap().reason, long);
}

/// C-18, S3.82: the size and the pages of a document, whichever way it comes.
#[tokio::test(flavor = "multi_thread")]
async fn c18_the_size_of_documents_is_the_accounts() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let size = pdf().len();
    let bytes =
        |document_bytes_max: usize| Limits { document_bytes_max: document_bytes_max as u64, ..Limits::default() };
    limit(&service, &sender.account, bytes(size - 1)).await;
    let new = request(1, Routing::Parallel, false);
    over(&sender.create(new.clone()).await.unwrap_err(), "document_bytes_max", size, size - 1);
    over(&upload(&sender, pdf()).await.unwrap_err(), "document_bytes_max", size, size - 1);
    limit(&service, &sender.account, bytes(size)).await;
    sender.create(new.clone()).await.expect("as large as it may be");
    upload(&sender, pdf()).await.expect("as large as it may be");
    // Larger than is usual: what follows the end of a PDF is no part of it, but of its size.
    let mut large = pdf();
    large.resize(25 * 1024 * 1024 + 1, b'\n');
    let source = |bytes: &[u8]| DocumentSource {
        name: "a.pdf".into(),
        source: Some(Source::Content(bytes.to_vec().into())),
        ..Default::default()
    };
    let documents = CreateEnvelopeRequest { documents: vec![source(&large)], ..new };
    limit(&service, &sender.account, Limits::default()).await;
    over(&sender.create(documents.clone()).await.unwrap_err(), "document_bytes_max", large.len(), large.len() - 1);
    limit(&service, &sender.account, bytes(large.len())).await;
    sender.create(documents).await.expect("raised");
    upload(&sender, large).await.expect("raised");
    let pages = countersign_paper::inspect(&pdf(), &countersign_paper::Limits::default()).unwrap().pages.len();
    if pages > 1 {
        let fewer = u32::try_from(pages).unwrap() - 1;
        limit(&service, &sender.account, Limits { pages_max: fewer, ..Limits::default() }).await;
        over(&upload(&sender, pdf()).await.unwrap_err(), "pages_max", pages, pages - 1);
    }
}

/// C-18: keys that can be used are counted, also when two ask for the last place at once.
#[tokio::test(flavor = "multi_thread")]
async fn c18_an_account_has_no_more_keys_than_it_may() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    limit(&service, &sender.account, Limits { api_keys_max: 3, ..Limits::default() }).await;
    let make = async || create(&sender, CreateApiKeyRequest::default()).await;
    let second = make().await.unwrap().key.unwrap().id;
    for _ in 0..5 {
        let at_once = futures_util::future::join_all((0..4).map(|_| make())).await;
        let (made, refused): (Vec<_>, Vec<_>) = at_once.into_iter().partition(Result::is_ok);
        assert_eq!(made.len(), 1, "the last place is one");
        refused.into_iter().for_each(|status| over(&status.unwrap_err(), "api_keys_max", 4, 3));
        let last = made.into_iter().next().unwrap().unwrap().key.unwrap().id;
        revoke(&sender, &last).await.expect("an ended key makes room");
    }
    make().await.unwrap();
    over(&make().await.unwrap_err(), "api_keys_max", 4, 3);
    super::rotate(&sender, &second, None).await.expect("a key makes room for the one in its place");
}
