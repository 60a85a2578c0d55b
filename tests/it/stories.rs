//! The main job, told from outside.

use countersign::v1::document_part::Part;
use countersign::v1::upload_document_request::Part as UploadPart;
use countersign::v1::{
    ActorType, DeclineChannel, DeclineRecipientRequest, DocumentSource, DocumentVersion, DownloadDocumentRequest,
    EnvelopeStatus, EventType, FieldEntry, FieldType, FieldValue, GetSigningSessionRequest, ListEnvelopesRequest,
    NewField, Placement, RecipientStatus, Routing, SendEnvelopeRequest, SignerServiceDownloadDocumentRequest,
    UploadDocumentRequest, UploadInfo, document_source, field_value,
};
use countersign_chassis::clock::Clock;
use countersign_test_support::client::{pdf, request, signature};
use countersign_test_support::{Caller, Database, Errors as _, Service, Story};
use sha2::{Digest as _, Sha256};
use tokio_stream::StreamExt as _;

/// All bytes of a download, checked against what it announces.
pub async fn download(caller: &Caller, envelope_id: &str, version: DocumentVersion) -> Result<Vec<u8>, tonic::Status> {
    let request = DownloadDocumentRequest {
        envelope_id: envelope_id.to_owned(),
        version: version.into(),
        ..DownloadDocumentRequest::default()
    };
    let mut stream = caller.envelopes().download_document(request).await?.into_inner();
    let (mut info, mut bytes) = (None, Vec::new());
    while let Some(message) = stream.next().await {
        match message?.part.unwrap().part.unwrap() {
            Part::Info(first) => info = Some(first),
            Part::Chunk(chunk) => bytes.extend(chunk),
        }
    }
    let info = info.unwrap();
    assert_eq!(info.size_bytes, bytes.len() as u64);
    assert_eq!(info.sha256, hex::encode(Sha256::digest(&bytes)));
    Ok(bytes)
}

fn kinds(history: &[countersign::v1::HistoryEntry]) -> Vec<EventType> {
    history.iter().map(|entry| entry.event.as_ref().unwrap().r#type()).collect()
}

/// S1.3, S3.34, S3.56, S3.78, S3.79: two signers in order.
#[tokio::test(flavor = "multi_thread")]
async fn s3_56_two_signers_in_order_complete_an_envelope() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = request(2, Routing::Sequential, true);
    new.fields.push(NewField {
        r#type: FieldType::Text.into(),
        recipient_index: 0,
        document_index: 0,
        placement: Some(Placement {
            page: 1,
            x_percent: 50.0,
            y_percent: 5.0,
            width_percent: 30.0,
            height_percent: 3.0,
        }),
        required: true,
        name: "title".into(),
        ..NewField::default()
    });
    let envelope = sender.create(new).await.unwrap();
    assert_eq!(envelope.status(), EnvelopeStatus::Sent);
    let (first, second) = (&envelope.recipients[0], &envelope.recipients[1]);
    assert_eq!((first.status(), second.status()), (RecipientStatus::Released, RecipientStatus::Waiting));

    // S3.98, T-19: the second has no link yet.
    let early = sender.signer_of(&envelope.id, &second.id).await.unwrap_err();
    assert_eq!(early.reason(), "NOT_YOUR_TURN");

    let signer = sender.signer_of(&envelope.id, &first.id).await.unwrap();
    let session = signer.signer().get_signing_session(GetSigningSessionRequest {}).await.unwrap().into_inner();
    let session = session.session.unwrap();
    assert!(session.fields.iter().all(|field| field.recipient_id == first.id), "their own fields only (S3.52)");
    assert_eq!(session.fields.len(), 2);

    // Signing without the required text is refused with its place.
    let refused = signer.sign(&envelope).await.unwrap_err();
    assert_eq!((refused.reason().as_str(), refused.fields()), ("INVALID_FIELD", vec!["values".to_owned()]));
    let text = session.fields.iter().find(|field| field.name == "title").unwrap();
    let mut good = signature(&envelope);
    good.values.push(FieldEntry {
        field_id: text.id.clone(),
        value: Some(FieldValue { value: Some(field_value::Value::Text("Managing Director".into())) }),
    });
    signer.signer().sign(good).await.unwrap();

    let now = sender.get(&envelope.id).await.unwrap();
    assert_eq!(now.status(), EnvelopeStatus::PartiallySigned);
    assert_eq!(now.recipients[1].status(), RecipientStatus::Released);
    let not_yet = download(&sender, &envelope.id, DocumentVersion::Signed).await.unwrap_err();
    assert_eq!(not_yet.reason(), "VERSION_NOT_AVAILABLE");

    let second = sender.signer_of(&envelope.id, &second.id).await.unwrap();
    second.sign(&envelope).await.unwrap();
    completed(Story { sender: sender.clone(), envelope, signers: Vec::new() }).await;
}

/// What must be true once the last of two has signed.
async fn completed(story: Story) {
    let sender = &story.sender;
    let done = story.until(EnvelopeStatus::Completed).await;
    assert!(done.completed_at.is_some() && done.terminal);
    assert!(
        done.recipients
            .iter()
            .all(|recipient| recipient.status() == RecipientStatus::Signed && !recipient.not_effective)
    );

    let signed = download(sender, &done.id, DocumentVersion::Unspecified).await.unwrap();
    assert!(signed.starts_with(&pdf()), "the original is a prefix of the signed file");
    assert_eq!(download(sender, &done.id, DocumentVersion::Original).await.unwrap(), pdf());
    assert_eq!(done.documents[0].artifacts[0].sha256, hex::encode(Sha256::digest(&signed)));

    use EventType::*;
    let history = sender.history(&done.id).await.unwrap();
    assert_eq!(
        kinds(&history),
        [
            EnvelopeCreated,
            EnvelopeSent,
            RecipientReleased,
            RecipientSigned,
            RecipientReleased,
            RecipientSigned,
            EnvelopeAllActed,
            EnvelopeCompleted
        ]
    );
    let actors: Vec<_> =
        history.iter().map(|entry| entry.event.as_ref().unwrap().actor.as_ref().unwrap().r#type()).collect();
    assert_eq!(actors[0], ActorType::Sender);
    assert_eq!(actors[3], ActorType::Recipient);
    assert_eq!(actors[7], ActorType::System);
}

/// S2.2 to S2.13, S2.16, S4.11, S4.12: one of three declines.
#[tokio::test(flavor = "multi_thread")]
async fn s2_6_a_decline_ends_the_envelope_at_once() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(3, Routing::Parallel).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    assert!(!story.signer(1).decline("  Terms not\u{7} acceptable ").await.unwrap());
    let now = story.now().await;
    assert_eq!(now.status(), EnvelopeStatus::Declined);
    assert!(now.requires_replacement, "S2.17");
    let [first, second, third] = now.recipients.as_slice() else { panic!() };
    assert_eq!(first.status(), RecipientStatus::Signed);
    assert!(first.not_effective && first.signed_at.is_some(), "S2.11: the signature is kept, and binds nobody");
    assert_eq!(second.decline.as_ref().unwrap().reason, "Terms not acceptable");
    assert_eq!(second.decline.as_ref().unwrap().channel(), DeclineChannel::SigningToken);
    assert_eq!(third.status(), RecipientStatus::ReleasedByDecline);

    // Locked out: no act, no view.
    let sign = story.signer(2).sign(&story.envelope).await.unwrap_err();
    assert_eq!((sign.reason().as_str(), sign.fact("current_state").as_str()), ("INVALID_STATE_TRANSITION", "DECLINED"));
    assert_eq!((sign.fact("attempted_transition").as_str(), sign.fact("allowed_transitions").as_str()), ("SIGN", ""));
    let view = story.signer(2).signer().get_signing_session(GetSigningSessionRequest {}).await.unwrap_err();
    assert_eq!(view.reason(), "SIGNING_CLOSED");
    let document = SignerServiceDownloadDocumentRequest::default();
    let read = story.signer(2).signer().download_document(document).await.unwrap_err();
    assert_eq!(read.reason(), "SIGNING_CLOSED");
    // C-23, T-6: the same again is a success without an event and without another reason.
    assert!(story.signer(1).decline("another reason").await.unwrap());
    let other = story.signer(2).decline("me too").await.unwrap_err();
    assert_eq!(other.reason(), "INVALID_STATE_TRANSITION");

    story.until_artifact().await;
    let declined = download(&sender, &now.id, DocumentVersion::Declined).await.unwrap();
    assert!(declined.starts_with(b"%PDF-") && declined != pdf());
    assert_eq!(
        download(&sender, &now.id, DocumentVersion::Signed).await.unwrap_err().reason(),
        "VERSION_NOT_AVAILABLE"
    );

    use EventType::*;
    let history = sender.history(&now.id).await.unwrap();
    assert_eq!(
        kinds(&history)[5..],
        [RecipientSigned, RecipientDeclined, EnvelopeDeclined, RecipientReleasedByDecline, EnvelopeArtifactReady]
    );
    assert_eq!(history[6].reason, "Terms not acceptable", "S2.16: the history shows it");
    assert_eq!(story.now().await.recipients[1].decline.as_ref().unwrap().reason, "Terms not acceptable");
}

/// S2.4, T-16: refused elsewhere, told by the sender, out of turn.
#[tokio::test(flavor = "multi_thread")]
async fn s2_4_a_sender_records_a_refusal_on_behalf() {
    let service = Service::start().await;
    let sender = service.account(true).await;
    let envelope = sender.create(request(2, Routing::Sequential, true)).await.unwrap();
    let decline = DeclineRecipientRequest {
        envelope_id: envelope.id.clone(),
        recipient_id: envelope.recipients[1].id.clone(),
        reason: "Not at this price".into(),
        evidence_note: "Phone call".into(),
        if_revision: 0,
        ..Default::default()
    };
    let answer = sender.envelopes().decline_recipient(decline.clone()).await.unwrap().into_inner();
    let now = answer.envelope.unwrap();
    assert_eq!(now.status(), EnvelopeStatus::Declined);
    let recorded = now.recipients[1].decline.clone().unwrap();
    assert_eq!((recorded.channel(), recorded.evidence_note.as_str()), (DeclineChannel::OnBehalf, "Phone call"));
    assert!(now.recipients[1].released_at.is_none());
    let again = sender.envelopes().decline_recipient(decline).await.unwrap().into_inner();
    assert!(again.already_declined);
    let history = sender.history(&envelope.id).await.unwrap();
    let actor = history[3].event.as_ref().unwrap().actor.clone().unwrap();
    assert_eq!(actor.r#type(), ActorType::Sender, "the actor is the sender, the subject the recipient");
}

/// S1.18 to S1.21, T-3.
#[tokio::test(flavor = "multi_thread")]
async fn s1_21_a_sender_voids_an_open_envelope() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    let voided = sender.void(&story.envelope.id, "Wrong document").await.unwrap();
    assert_eq!((voided.status(), voided.void_reason.as_str()), (EnvelopeStatus::Voided, "Wrong document"));
    assert!(voided.recipients.iter().all(|recipient| recipient.status() == RecipientStatus::ReleasedByVoid));
    assert_eq!(sender.void(&voided.id, "").await.unwrap_err().reason(), "INVALID_STATE_TRANSITION");
    assert_eq!(story.signer(0).sign(&story.envelope).await.unwrap_err().fact("current_state"), "VOIDED");

    let done = sender.story(1, Routing::Parallel).await;
    done.signer(0).sign(&done.envelope).await.unwrap();
    let late = sender.void(&done.envelope.id, "").await.unwrap_err();
    assert_eq!(late.reason(), "INVALID_STATE_TRANSITION", "nothing wins after the last act");
    done.until(EnvelopeStatus::Completed).await;
    let later = sender.void(&done.envelope.id, "").await.unwrap_err();
    assert_eq!(later.fact("current_state"), "COMPLETED");
}

/// S1.35, S3.44: a draft from an upload, sent later.
#[tokio::test(flavor = "multi_thread")]
async fn s3_44_an_upload_becomes_a_draft_and_is_sent() {
    let service = Service::start().await;
    let sender = service.account(true).await;
    let info = UploadInfo {
        name: "offer.pdf".into(),
        sha256: hex::encode(Sha256::digest(pdf())).to_uppercase(),
        ..Default::default()
    };
    let mut parts = vec![UploadDocumentRequest { part: Some(UploadPart::Info(info)) }];
    let chunk = |bytes: &[u8]| UploadDocumentRequest { part: Some(UploadPart::Chunk(bytes.to_vec().into())) };
    parts.extend(pdf().chunks(1000).map(chunk));
    let kept = sender.envelopes().upload_document(tokio_stream::iter(parts)).await.unwrap().into_inner();
    assert!(kept.upload_id.starts_with("upl_") && kept.page_count > 0);
    let mut new = request(1, Routing::Parallel, false);
    new.documents = vec![DocumentSource {
        name: String::new(),
        source: Some(document_source::Source::UploadId(kept.upload_id.clone())),
        ..Default::default()
    }];
    let draft = sender.create(new.clone()).await.unwrap();
    assert_eq!((draft.status(), draft.documents[0].name.as_str()), (EnvelopeStatus::Draft, "offer.pdf"));
    assert_eq!(draft.documents[0].sha256, kept.sha256);
    // T-14: a draft can neither be voided nor declined.
    let void = sender.void(&draft.id, "").await.unwrap_err();
    assert_eq!(
        (void.fact("current_state"), void.fact("allowed_transitions")),
        ("DRAFT".into(), "SEND,DISCARD,UPDATE,REASSIGN".into())
    );
    let send = SendEnvelopeRequest { envelope_id: draft.id.clone(), if_revision: draft.revision, ..Default::default() };
    let sent = sender.envelopes().send_envelope(send.clone()).await.unwrap().into_inner().envelope.unwrap();
    assert_eq!((sent.status(), sent.revision), (EnvelopeStatus::Sent, draft.revision + 1));
    let twice = sender.envelopes().send_envelope(send).await.unwrap_err();
    assert_eq!(twice.fact("allowed_transitions"), "SIGN,DECLINE,VOID,VIEW,REASSIGN,EXTEND,MUTE");
    // S1.29: the same upload serves another envelope, but no other account.
    sender.create(new.clone()).await.unwrap();
    let stranger = service.account(true).await;
    assert_eq!(stranger.create(new.clone()).await.unwrap_err().reason(), "NOT_FOUND");
    let mut bare = new;
    bare.fields.clear();
    bare.send = true;
    assert_eq!(sender.create(bare).await.unwrap_err().reason(), "ENVELOPE_INCOMPLETE");
}

/// S3.38, T-4: the deadline decides, sweeper or not.
#[tokio::test(flavor = "multi_thread")]
async fn t4_the_deadline_ends_an_envelope() {
    let start = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let service = Service::start_at(start).await;
    let sender = service.account(false).await;
    let swept = sender.story(2, Routing::Parallel).await;
    swept.signer(0).sign(&swept.envelope).await.unwrap();
    service.clock.advance(chrono::TimeDelta::days(90));
    let now = swept.until(EnvelopeStatus::Expired).await;
    assert_eq!(now.expired_at, now.expires_at);
    assert!(now.recipients[0].not_effective);
    assert_eq!(now.recipients[1].status(), RecipientStatus::ReleasedByExpiry);
    let late = swept.signer(1).sign(&swept.envelope).await.unwrap_err();
    assert_eq!((late.reason(), late.fact("current_state")), ("INVALID_STATE_TRANSITION".into(), "EXPIRED".into()));
}

/// T-4: where no sweeper runs, the first act after the deadline is refused and ends the envelope itself.
#[tokio::test(flavor = "multi_thread")]
async fn t4_an_act_after_the_deadline_expires_the_envelope() {
    let start = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut config = countersign_test_support::service::config(&database, &documents);
    config.sweep_ms = 60_000;
    let service = Service::start_with(database, Clock::manual(start), documents, config).await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    // The sweeper's first look is over.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let almost = chrono::TimeDelta::days(90) - chrono::TimeDelta::microseconds(1);
    service.clock.advance(almost);
    story.signer(0).sign(&story.envelope).await.expect("the last instant before the deadline");
    service.clock.advance(chrono::TimeDelta::microseconds(1));
    let view = story.signer(1).signer().get_signing_session(GetSigningSessionRequest {}).await.unwrap_err();
    assert_eq!((view.reason().as_str(), view.fact("current_state").as_str()), ("SIGNING_CLOSED", "EXPIRED"));
    let late = story.signer(1).sign(&story.envelope).await.unwrap_err();
    assert_eq!((late.reason().as_str(), late.fact("current_state").as_str()), ("INVALID_STATE_TRANSITION", "EXPIRED"));
    let now = story.now().await;
    assert_eq!(now.status(), EnvelopeStatus::Expired, "the refused act ended it");
    assert_eq!(now.expired_at, now.expires_at);
}

/// S3.74 to S3.76, C-27: pages stay true while envelopes are added.
#[tokio::test(flavor = "multi_thread")]
async fn s3_75_a_list_has_each_envelope_once() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut made = Vec::new();
    for index in 0..25 {
        made.push(sender.create(request(1, Routing::Parallel, index % 5 == 0)).await.unwrap().id);
    }
    let page = |status: EnvelopeStatus, page_token: String| {
        let request = ListEnvelopesRequest { status: status.into(), page_size: 4, page_token, ..Default::default() };
        let mut client = sender.envelopes();
        async move { client.list_envelopes(request).await.unwrap().into_inner() }
    };
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let got = page(EnvelopeStatus::Unspecified, token).await;
        listed.extend(got.envelopes.into_iter().map(|envelope| envelope.id));
        sender.create(request(1, Routing::Parallel, false)).await.unwrap();
        token = got.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    made.reverse();
    assert_eq!(listed, made, "newest first, none lost, none twice");
    let sent = page(EnvelopeStatus::Sent, String::new()).await;
    assert_eq!(sent.envelopes.len(), 4);
    assert!(sent.envelopes.iter().all(|envelope| envelope.status() == EnvelopeStatus::Sent));
    let rest = page(EnvelopeStatus::Sent, sent.next_page_token).await;
    assert_eq!((rest.envelopes.len(), rest.next_page_token.as_str()), (1, ""));
}
