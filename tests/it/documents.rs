//! Another document in a draft: what a refusal asks for most often.

use countersign::v1::document_source::Source;
use countersign::v1::{
    CreateUserTokenRequest, DocumentSource, EnvelopeStatus, EventType, FieldType, RecipientRole,
    ReplaceDocumentRequest, ReplaceEnvelopeRequest, RevokeUserTokenRequest, Routing,
};
use countersign_paper::samples;
use countersign_test_support::client::{pdf, request};
use countersign_test_support::{Caller, Errors as _, Service};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::steps::{field, people};

async fn put(
    sender: &Caller,
    envelope: &countersign::v1::Envelope,
    document: usize,
    content: Vec<u8>,
) -> Result<countersign::v1::Envelope, Status> {
    let request = ReplaceDocumentRequest {
        envelope_id: envelope.id.clone(),
        document_id: envelope.documents[document].id.clone(),
        document: Some(DocumentSource {
            name: "corrected.pdf".into(),
            source: Some(Source::Content(content.into())),
            ..Default::default()
        }),
        if_revision: envelope.revision,
        ..Default::default()
    };
    Ok(sender.envelopes().replace_document(request).await?.into_inner().envelope.unwrap())
}

/// S2.17, S2.18: the corrected document takes the place of the one that was refused, and is what people then sign.
#[tokio::test(flavor = "multi_thread")]
async fn s2_18_a_replacement_gets_the_corrected_document() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    story.signer(0).decline("Not these terms").await.unwrap();
    let replace =
        ReplaceEnvelopeRequest { envelope_id: story.envelope.id.clone(), if_revision: 0, ..Default::default() };
    let draft = sender.envelopes().replace_envelope(replace).await.unwrap().into_inner().envelope.unwrap();
    let corrected = samples::services_agreement().unwrap().bytes.clone();
    let changed = put(&sender, &draft, 0, corrected.clone()).await.unwrap();
    let document = &changed.documents[0];
    assert_eq!((&document.id, document.name.as_str()), (&draft.documents[0].id, "corrected.pdf"));
    assert_eq!(document.sha256, hex::encode(Sha256::digest(&corrected)));
    assert_eq!(changed.fields.len(), draft.fields.len(), "fields stay where they are");
    let history = sender.history(&draft.id).await.unwrap();
    assert_eq!(history[1].event.as_ref().unwrap().r#type(), EventType::EnvelopeUpdated);
    assert_eq!(history[1].changed, ["documents"]);
    let send = countersign::v1::SendEnvelopeRequest {
        envelope_id: draft.id.clone(),
        if_revision: changed.revision,
        ..Default::default()
    };
    let sent = sender.envelopes().send_envelope(send).await.unwrap().into_inner().envelope.unwrap();
    let signer = sender.signer_of(&sent.id, &sent.recipients[0].id).await.unwrap();
    // What was seen before the correction is not what is signed.
    assert_eq!(signer.sign(&draft).await.unwrap_err().reason(), "DOCUMENT_CHANGED");
    signer.sign(&sent).await.unwrap();
    let history = sender.history(&sent.id).await.unwrap();
    let signed = history.iter().find(|it| it.event.as_ref().unwrap().r#type() == EventType::RecipientSigned).unwrap();
    assert_eq!(signed.consent_sha256.len(), 64, "what the signer agreed to is in the history");
    assert_eq!(sender.get(&story.envelope.id).await.unwrap().status(), EnvelopeStatus::Declined);
}

/// Nothing of a bad document stays, and what has been sent is frozen.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_does_not_fit_is_refused() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = people(&[RecipientRole::Signer], Routing::Parallel, false);
    new.documents[0].source = Some(Source::Content(samples::services_agreement().unwrap().bytes.clone().into()));
    let mut second = field(FieldType::Text, 0, 5);
    second.placement.as_mut().unwrap().page = 3;
    new.fields.push(second);
    let draft = sender.create(new).await.unwrap();
    let pages = draft.documents[0].page_count;
    assert!(pages >= 3, "{pages} pages");
    let short = samples::rotated_scan().unwrap().bytes.clone();
    let refused = put(&sender, &draft, 0, short).await.unwrap_err();
    assert_eq!((refused.reason().as_str(), refused.fields()), ("INVALID_FIELD", vec!["document".to_owned()]));
    let refused = put(&sender, &draft, 0, b"no PDF".to_vec()).await.unwrap_err();
    assert_eq!(refused.reason(), "UNREADABLE_DOCUMENT");
    let mut elsewhere = draft.clone();
    elsewhere.documents[0].id =
        sender.create(request(1, Routing::Parallel, false)).await.unwrap().documents[0].id.clone();
    assert_eq!(put(&sender, &elsewhere, 0, pdf()).await.unwrap_err().reason(), "NOT_FOUND");
    assert_eq!(sender.get(&draft.id).await.unwrap(), draft);
    let sent = sender.create(request(1, Routing::Parallel, true)).await.unwrap();
    assert_eq!(put(&sender, &sent, 0, pdf()).await.unwrap_err().reason(), "INVALID_STATE_TRANSITION");
}

/// S2.24, C-29: a test key has nothing to say about live users.
#[tokio::test(flavor = "multi_thread")]
async fn c29_user_tokens_belong_to_a_mode() {
    let service = Service::start().await;
    let live = service.account(true).await;
    let request = CreateUserTokenRequest { email: "ada@example.com".into(), ..Default::default() };
    let user = live.accounts().create_user_token(request).await.unwrap().into_inner();
    let revoke = RevokeUserTokenRequest { user_id: user.user_id, ..Default::default() };
    let test = service.key_of(&live, false).await;
    assert_eq!(test.accounts().revoke_user_token(revoke.clone()).await.unwrap_err().code(), Code::NotFound);
    live.accounts().revoke_user_token(revoke).await.unwrap();
}
