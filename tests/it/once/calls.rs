//! Every call that takes a key, ready to be made: each on something of its own, so that their order does not matter.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use countersign::v1::field_value::Value;
use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign::v1::{
    AccountSettings, Amount, ApproveRequest, CreateUserTokenRequest, CreateWebhookEndpointRequest, Envelope,
    EnvelopeChanges, FieldEntry, FieldType, FieldValue, ListApiKeysRequest, Person, SeenDocument, SendTestEventRequest,
    WebhookEndpointChanges,
};
use countersign_chassis::wire::timestamp;
use countersign_test_support::Caller;
use countersign_test_support::client::{pdf, signature};
use countersign_test_support::notifier::{authorised, register};
use sha2::{Digest as _, Sha256};

use super::scene::{APPROVER, ASSISTANT, Scene};
use super::wire::{Call, call};

/// All of them.
pub async fn every_call(scene: &Scene) -> Vec<Call> {
    let mut calls = of_drafts(scene).await;
    calls.extend(of_the_sender(scene).await);
    calls.extend(of_recipients(scene).await);
    calls.extend(of_refusals(scene).await);
    calls.extend(of_the_operator(scene).await);
    calls.extend(of_keys(scene).await);
    calls.extend(of_webhooks(scene).await);
    // Invitations may be sent again after an hour.
    scene.later();
    calls
}

async fn of_drafts(scene: &Scene) -> Vec<Call> {
    let sender = &scene.sender;
    let id = async || scene.draft().await.id;
    let (edited, replaced) = (scene.draft().await, scene.draft().await);
    let changes = Some(EnvelopeChanges { subject: "Another".into(), ..EnvelopeChanges::default() });
    let update_mask = Some(prost_types::FieldMask { paths: vec!["subject".into()] });
    let mut field = scene.form(false).fields[0].clone();
    field.placement.as_mut().unwrap().y_percent = 90.0;
    let document_id = replaced.documents[0].id.clone();
    let document = Some(scene.form(false).documents[0].clone());
    let upload =
        Call { chunk: Some(pdf()), ..call!(sender, UploadInfo { name: "other.pdf".into(), ..Default::default() }) };
    vec![
        upload,
        call!(sender, CreateEnvelopeRequest scene.form(true)),
        call!(sender, UpdateEnvelopeRequest { envelope_id: id().await, changes, update_mask, ..Default::default() }),
        call!(sender, AddFieldsRequest { envelope_id: id().await, fields: vec![field], ..Default::default() }),
        call!(
            sender,
            RemoveFieldsRequest {
                envelope_id: edited.id,
                field_ids: vec![edited.fields[0].id.clone()],
                ..Default::default()
            }
        ),
        call!(sender, ReplaceDocumentRequest { envelope_id: replaced.id, document_id, document, ..Default::default() }),
        call!(sender, DiscardEnvelopeRequest { envelope_id: id().await, ..Default::default() }),
        call!(sender, SendEnvelopeRequest { envelope_id: id().await, ..Default::default() }),
    ]
}

async fn of_the_sender(scene: &Scene) -> Vec<Call> {
    let sender = &scene.sender;
    let id = async || scene.sent().await.id;
    let (reassigned, ended) = (scene.sent().await, scene.sent().await);
    sender.void(&ended.id, "").await.unwrap();
    let (erased, reason) = (scene.sent().await, "Case 12".to_owned());
    sender.void(&erased.id, "").await.unwrap();
    let expires_at = Some(timestamp(scene.service.clock.now() + TimeDelta::days(200)));
    let person = Some(Person { name: "Heir".into(), email: "heir@example.com".into(), ..Default::default() });
    let recipient_id = reassigned.recipients[0].id.clone();
    vec![
        call!(sender, VoidEnvelopeRequest { envelope_id: id().await, reason: "wrong".into(), ..Default::default() }),
        call!(sender, ExtendEnvelopeRequest { envelope_id: id().await, expires_at, ..Default::default() }),
        call!(
            sender,
            ReassignRecipientRequest { envelope_id: reassigned.id, recipient_id, person, ..Default::default() }
        ),
        call!(sender, ResendEnvelopeRequest { envelope_id: id().await, rotate: true, ..Default::default() }),
        call!(sender, RemindRecipientsRequest { envelope_id: id().await, ..Default::default() }),
        bounce(scene).await,
        call!(sender, UpdateRetentionRequest { envelope_id: id().await, retention_days: 9, ..Default::default() }),
        call!(sender, SetLegalHoldRequest { envelope_id: id().await, hold: true, reason, ..Default::default() }),
        call!(
            sender,
            DeleteEnvelopeContentRequest { envelope_id: erased.id, reason: "4711".into(), ..Default::default() }
        ),
        call!(sender, ReplaceEnvelopeRequest { envelope_id: ended.id, ..Default::default() }),
    ]
}

/// By the service that writes the mails.
async fn bounce(scene: &Scene) -> Call {
    let envelope = scene.sent().await;
    let recipient = &envelope.recipients[0];
    let address_sha256 = hex::encode(Sha256::digest(&recipient.email));
    let recipient_id = recipient.id.clone();
    let notifier = scene.service.notifier(&scene.sender.account);
    call!(
        notifier,
        ReportBounceRequest { envelope_id: envelope.id, recipient_id, address_sha256, ..Default::default() }
    )
}

async fn of_recipients(scene: &Scene) -> Vec<Call> {
    let person = async |index| {
        let envelope = scene.sent().await;
        (scene.signer(&envelope, index).await, envelope)
    };
    let (signing, signed) = person(1).await;
    let (approver, approved) = person(APPROVER).await;
    let (assistant, filled) = person(ASSISTANT).await;
    let field = filled.fields.iter().find(|field| field.r#type() == FieldType::Text).unwrap();
    let value = Some(FieldValue { value: Some(Value::Text("Turing".into())) });
    let values = vec![FieldEntry { field_id: field.id.clone(), value }];
    let heir = Some(Person { name: "Heir".into(), email: "heir@example.com".into(), ..Default::default() });
    let (viewer, passer, muting) = (person(0).await.0, person(2).await.0, person(3).await.0);
    vec![
        call!(viewer, MarkViewedRequest::default()),
        call!(muting, MuteRemindersRequest::default()),
        call!(assistant, FillFieldsRequest { values, ..Default::default() }),
        call!(signing, SignRequest signature(&signed)),
        call!(approver, ApproveRequest approval(&approved)),
        call!(passer, DelegateSigningRequest { person: heir, ..Default::default() }),
    ]
}

fn approval(envelope: &Envelope) -> ApproveRequest {
    let seen: Vec<SeenDocument> = signature(envelope).seen_documents;
    ApproveRequest { seen_documents: seen, seen_revision: envelope.revision, ..ApproveRequest::default() }
}

/// Through each of the three doors.
async fn of_refusals(scene: &Scene) -> Vec<Call> {
    let sender = &scene.sender;
    let (by_link, by_user, by_sender) = (scene.sent().await, scene.sent().await, scene.sent().await);
    let user = CreateUserTokenRequest { email: by_user.recipients[3].email.clone(), ..Default::default() };
    let user_token = sender.accounts().create_user_token(user).await.unwrap().into_inner().user_token;
    let signing_token = scene.signer(&by_user, 3).await.token;
    let reason = "no".to_owned();
    vec![
        call!(scene.signer(&by_link, 3).await, DeclineRequest { reason: reason.clone(), ..Default::default() }),
        call!(sender, DeclineByUserRequest { user_token, signing_token, reason: reason.clone(), ..Default::default() }),
        call!(
            sender,
            DeclineRecipientRequest {
                envelope_id: by_sender.id,
                recipient_id: by_sender.recipients[3].id.clone(),
                reason,
                ..Default::default()
            }
        ),
    ]
}

/// The account that is suspended is one that nothing else happens to.
async fn of_the_operator(scene: &Scene) -> Vec<Call> {
    let operator = scene.service.operator(&scene.spare.account);
    let suspended = scene.service.account(false).await;
    let resuming = scene.service.operator(&suspended.account);
    resuming.accounts().suspend_account(countersign::v1::SuspendAccountRequest::default()).await.unwrap();
    let nobody = Caller { account: String::new(), ..operator.clone() };
    let amount = Some(Amount { unit: "EUR".into(), value: 1_000 });
    let settings = Some(AccountSettings { tell_acted_recipients: false, ..AccountSettings::default() });
    let update_mask = Some(prost_types::FieldMask { paths: vec!["tell_acted_recipients".into()] });
    vec![
        call!(nobody, CreateAccountRequest { name: "New Ltd".into(), ..Default::default() }),
        call!(operator, UpdateAccountSettingsRequest { settings, update_mask, ..Default::default() }),
        call!(operator, GrantCreditsRequest { amount, reference: "invoice 7".into(), ..Default::default() }),
        call!(operator, SuspendAccountRequest::default()),
        call!(resuming, ResumeAccountRequest::default()),
    ]
}

async fn of_keys(scene: &Scene) -> Vec<Call> {
    let sender = &scene.sender;
    let (first, second) = (scene.service.key_of(sender, false).await, scene.service.key_of(sender, false).await);
    let (rotated, revoked) = (scene.identity(&first).await, scene.identity(&second).await);
    let listed = sender.accounts().list_api_keys(ListApiKeysRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.keys.len(), 3);
    let user = CreateUserTokenRequest { email: "user@example.com".into(), ..Default::default() };
    let user_id = sender.accounts().create_user_token(user).await.unwrap().into_inner().user_id;
    vec![
        call!(sender, CreateApiKeyRequest { name: "new".into(), ..Default::default() }),
        call!(sender, RotateApiKeyRequest { key_id: rotated, ..Default::default() }),
        call!(sender, RevokeApiKeyRequest { key_id: revoked, ..Default::default() }),
        call!(sender, CreateUserTokenRequest { email: "ada@example.com".into(), ..Default::default() }),
        call!(sender, RevokeUserTokenRequest { user_id, ..Default::default() }),
    ]
}

/// A receiver that answers challenges; where it is, and what it is to know.
async fn knowing() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let key = Arc::<Mutex<Vec<u8>>>::default();
    let knows = Arc::clone(&key);
    let answer = move |body: axum::body::Bytes| {
        let challenge: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &knows.lock().unwrap());
        let signed = ring::hmac::sign(&key, challenge["data"]["challenge"].as_str().unwrap().as_bytes());
        async move { serde_json::json!({ "response": hex::encode(signed) }).to_string() }
    };
    let router = axum::Router::new().fallback(axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, key)
}

/// On endpoints that hear of nothing and rest, so that the loops leave them alone.
async fn of_webhooks(scene: &Scene) -> Vec<Call> {
    let at_notifier = Caller { channel: scene.notifier.channel.clone(), ..scene.sender.clone() };
    let (url, key) = knowing().await;
    let mut ids = Vec::new();
    for place in 0..7 {
        let url = format!("{url}{place}");
        let (id, secret) = register(&scene.notifier.channel, &scene.sender, &url).await.unwrap();
        if place == 1 {
            *key.lock().unwrap() = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
        }
        ids.push(id);
    }
    let [deleted, verified, disabled, rotated, updated, tested, repeated] = ids.try_into().unwrap();
    let database = scene.notifier.database.connect().await;
    let quiet = "UPDATE endpoint SET types = '{30}', resting_until = '2099-01-01'";
    let one = "UPDATE endpoint SET verified_at = NULL WHERE url LIKE '%/1'";
    let other = "UPDATE endpoint SET disabled_at = created_at, disabled_reason = 1 WHERE url LIKE '%/2'";
    database.batch_execute(&format!("{quiet}; {one}; {other}")).await.unwrap();
    let test = SendTestEventRequest { endpoint_id: repeated, ..Default::default() };
    let mut client = WebhookServiceClient::new(scene.notifier.channel.clone());
    let delivery = client.send_test_event(authorised(&scene.sender, test)).await.unwrap().into_inner().delivery_id;
    database.batch_execute("UPDATE delivery SET state = 3").await.unwrap();
    let new = CreateWebhookEndpointRequest { url, types: vec![30], ..Default::default() };
    let changes = Some(WebhookEndpointChanges { description: "Another".into(), ..Default::default() });
    let update_mask = Some(prost_types::FieldMask { paths: vec!["description".into()] });
    let endpoint_id = updated;
    vec![
        call!(at_notifier, CreateWebhookEndpointRequest new),
        call!(at_notifier, DeleteWebhookEndpointRequest { endpoint_id: deleted, ..Default::default() }),
        call!(at_notifier, VerifyWebhookEndpointRequest { endpoint_id: verified, ..Default::default() }),
        call!(at_notifier, EnableWebhookEndpointRequest { endpoint_id: disabled, ..Default::default() }),
        call!(at_notifier, RotateWebhookSecretRequest { endpoint_id: rotated, ..Default::default() }),
        call!(at_notifier, UpdateWebhookEndpointRequest { endpoint_id, changes, update_mask, ..Default::default() }),
        call!(at_notifier, SendTestEventRequest { endpoint_id: tested, ..Default::default() }),
        call!(at_notifier, RedeliverEventsRequest { delivery_ids: vec![delivery], ..Default::default() }),
    ]
}
