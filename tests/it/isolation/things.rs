//! What the tests of ids ask for: for each call a good request, and the things that it names, of any account and mode.

use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign::v1::{
    CreateApiKeyRequest, EnvelopeStatus, Freshness, GetEnvelopeRequest, RecipientRole, Routing, SendTestEventRequest,
    UploadDocumentRequest, UploadInfo, upload_document_request::Part,
};
use countersign_test_support::client::pdf;
use countersign_test_support::notifier::{authorised, register};
use countersign_test_support::{Caller, Notifier, Service};
use serde_json::{Value, json};

use crate::doors::user;
use crate::steps::{early_token, people, until_status};

/// In which state the envelope of a good request is, or what else it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    Draft,
    Sent,
    Ended,
    /// Signed by all, with its documents.
    Completed,
    /// A key and an endpoint besides a draft.
    Account,
    /// Sent, and the last of its people is due.
    Due(RecipientRole),
}

/// One of each kind, by id.
#[derive(Clone, Debug, Default)]
pub struct Things {
    pub account: String,
    pub envelope: String,
    pub recipient: String,
    pub document: String,
    pub sha256: String,
    pub revision: u64,
    pub field: String,
    pub upload: String,
    pub key: String,
    pub user: String,
    pub endpoint: String,
    pub delivery: String,
    /// Of the last recipient, where they are due.
    pub signer: Option<Caller>,
}

impl Things {
    /// The id that a field of that name takes.
    pub fn of(&self, field: &str) -> &str {
        match field {
            "account_id" => &self.account,
            "envelope_id" => &self.envelope,
            "recipient_id" | "recipient_ids" => &self.recipient,
            "document_id" => &self.document,
            "field_id" | "field_ids" => &self.field,
            "upload_id" => &self.upload,
            "key_id" => &self.key,
            "user_id" => &self.user,
            "endpoint_id" => &self.endpoint,
            "delivery_id" | "delivery_ids" => &self.delivery,
            other => panic!("no line for ids in {other}"),
        }
    }
}

/// Where things are made.
pub struct World {
    pub service: Service,
    pub notifier: Notifier,
}

impl World {
    pub async fn start() -> Self {
        let service = Service::start().await;
        let notifier = Notifier::start(&service).await;
        Self { service, notifier }
    }

    /// Things of that caller, made as a scene needs them.
    pub async fn things(&self, caller: &Caller, scene: Scene) -> Things {
        let role = if let Scene::Due(role) = scene { role } else { RecipientRole::Signer };
        let roles = if role == RecipientRole::Signer { vec![role] } else { vec![RecipientRole::Signer, role] };
        let mut new = people(&roles, Routing::Parallel, !matches!(scene, Scene::Draft | Scene::Account));
        let index = u32::try_from(roles.len() - 1).unwrap();
        let text = crate::steps::field(countersign::v1::FieldType::Text, 0, 5);
        if role == RecipientRole::Assistant {
            new.recipients[1].assists_index = Some(0);
        }
        let whose = if role == RecipientRole::Approver { index } else { 0 };
        new.fields.insert(0, countersign::v1::NewField { recipient_index: whose, ..text });
        let envelope = caller.create(new).await.unwrap();
        if scene == Scene::Ended {
            caller.void(&envelope.id, "").await.unwrap();
        }
        if scene == Scene::Completed {
            early_token(&self.service, caller, &envelope, 0).await.sign(&envelope).await.unwrap();
            until_status(caller, &envelope.id, EnvelopeStatus::Completed).await;
        }
        let mut things = Things {
            account: caller.account.clone(),
            recipient: envelope.recipients.last().unwrap().id.clone(),
            document: envelope.documents[0].id.clone(),
            sha256: envelope.documents[0].sha256.clone(),
            revision: envelope.revision,
            field: envelope.fields[0].id.clone(),
            upload: upload(caller).await,
            user: user(caller, "user@example.com").await.0,
            envelope: envelope.id,
            ..Things::default()
        };
        if scene == Scene::Account {
            let new = CreateApiKeyRequest { livemode: is_live(caller), ..CreateApiKeyRequest::default() };
            things.key = caller.accounts().create_api_key(new).await.unwrap().into_inner().key.unwrap().id;
            let url = "http://127.0.0.1:9/hook";
            things.endpoint = register(&self.notifier.channel, caller, url).await.unwrap().0;
            let test = SendTestEventRequest { endpoint_id: things.endpoint.clone(), ..Default::default() };
            let mut client = WebhookServiceClient::new(self.notifier.channel.clone());
            things.delivery = client.send_test_event(authorised(caller, test)).await.unwrap().into_inner().delivery_id;
        }
        if let Scene::Due(_) = scene {
            things.signer = Some(caller.signer_of(&things.envelope, &things.recipient).await.unwrap());
        }
        // Whoever asks for it cached next finds it in the cache.
        let seen = GetEnvelopeRequest {
            envelope_id: things.envelope.clone(),
            freshness: Freshness::Cached.into(),
            min_revision: 0,
        };
        caller.envelopes().get_envelope(seen).await.unwrap();
        things
    }
}

pub fn is_live(caller: &Caller) -> bool {
    caller.token.starts_with("cs_live_")
}

pub async fn upload(caller: &Caller) -> String {
    let info = UploadInfo { name: "kept.pdf".into(), ..UploadInfo::default() };
    let parts = [Part::Info(info), Part::Chunk(pdf().into())];
    let stream = tokio_stream::iter(parts.map(|part| UploadDocumentRequest { part: Some(part) }));
    caller.envelopes().upload_document(stream).await.unwrap().into_inner().upload_id
}

fn field() -> Value {
    let placement = json!({"page": 1, "x_percent": 10, "y_percent": 60, "width_percent": 20, "height_percent": 5});
    json!({"type": "FIELD_TYPE_SIGNATURE", "placement": placement, "required": true})
}

fn of_envelope(own: &Things) -> Value {
    json!({"envelope_id": own.envelope})
}

fn of_recipient(own: &Things) -> Value {
    let person = json!({"name": "Other", "email": "other@example.com"});
    json!({"envelope_id": own.envelope, "recipient_id": own.recipient, "person": person})
}

fn act(own: &Things) -> Value {
    json!({
        "values": [{"field_id": own.field, "value": {"text": "Ada"}}],
        "seen_documents": [{"document_id": own.document, "sha256": own.sha256}],
        "seen_revision": own.revision,
    })
}

fn with(mut base: Value, name: &str, value: Value) -> Value {
    base[name] = value;
    base
}

fn without(mut base: Value, names: &[&str]) -> Value {
    names.iter().for_each(|name| drop(base.as_object_mut().unwrap().remove(*name)));
    base
}

/// A line of the table: the scene, and a good request in it.
pub type Line = (Scene, fn(&Things) -> Value);

/// The line of a call that names things. One for each such call of the contract.
pub fn line(call: &str) -> Option<Line> {
    use Scene::{Account, Completed, Draft, Due, Ended, Sent};
    let line: Line = match call {
        "EnvelopeService.CreateEnvelope" => (Draft, |own| {
            let people = json!([{"name": "Ada", "email": "ada@example.com"}]);
            let documents = json!([{"upload_id": own.upload}]);
            json!({"subject": "Lease", "documents": documents, "recipients": people, "fields": [field()]})
        }),
        "EnvelopeService.UpdateEnvelope" => {
            (Draft, |own| json!({"envelope_id": own.envelope, "changes": {"subject": "New"}, "update_mask": "subject"}))
        }
        "EnvelopeService.AddFields" => (Draft, |own| {
            let field = with(field(), "document_id", json!(own.document));
            json!({"envelope_id": own.envelope, "fields": [field]})
        }),
        "EnvelopeService.RemoveFields" => (Draft, |own| json!({"envelope_id": own.envelope, "field_ids": [own.field]})),
        "EnvelopeService.ReplaceDocument" => (Draft, |own| {
            let document = json!({"upload_id": own.upload});
            json!({"envelope_id": own.envelope, "document_id": own.document, "document": document})
        }),
        "EnvelopeService.DiscardEnvelope" | "EnvelopeService.SendEnvelope" => (Draft, of_envelope),
        "EnvelopeService.GetEnvelope" => {
            (Sent, |own| json!({"envelope_id": own.envelope, "freshness": "FRESHNESS_CACHED"}))
        }
        "EnvelopeService.ListEnvelopes" => (
            Sent,
            |own| json!({"seen": {"envelope_id": own.envelope, "revision": "1"}, "freshness": "FRESHNESS_CACHED"}),
        ),
        "EnvelopeService.VoidEnvelope"
        | "EnvelopeService.WhoseTurn"
        | "EnvelopeService.VerifyHistory"
        | "EnvelopeService.ListEvents" => (Sent, of_envelope),
        "EnvelopeService.WatchStatusChanges" | "EnvelopeService.ListStatusChanges" => {
            (Sent, |own| json!({"start": "WATCH_START_OLDEST", "envelope_id": own.envelope, "account_id": own.account}))
        }
        "EnvelopeService.UpdateRetention" => (Sent, |own| with(of_envelope(own), "retention_days", json!(100))),
        "EnvelopeService.SetLegalHold" => (Sent, |own| with(of_envelope(own), "reason", json!("Case 12"))),
        "EnvelopeService.DeleteEnvelopeContent" => (Ended, |own| with(of_envelope(own), "reason", json!("4711"))),
        "EnvelopeService.ExtendEnvelope" => {
            (Sent, |own| json!({"envelope_id": own.envelope, "expires_at": in_a_hundred_days()}))
        }
        "EnvelopeService.DeclineRecipient" | "EnvelopeService.GetSigningLink" => {
            (Sent, |own| without(of_recipient(own), &["person"]))
        }
        "EnvelopeService.ReassignRecipient" => (Sent, of_recipient),
        "EnvelopeService.ReportBounce" => {
            (Sent, |own| with(without(of_recipient(own), &["person"]), "address_sha256", json!("ab".repeat(32))))
        }
        "EnvelopeService.ResendEnvelope" | "EnvelopeService.RemindRecipients" => {
            (Sent, |own| json!({"envelope_id": own.envelope, "recipient_ids": [own.recipient]}))
        }
        "EnvelopeService.ReplaceEnvelope" => (Ended, of_envelope),
        "EnvelopeService.GetEnvelopeData" => (Completed, of_envelope),
        "AccountService.RotateApiKey" => (Account, |own| json!({"key_id": own.key, "overlap": "0s"})),
        "AccountService.RevokeApiKey" => (Account, |own| json!({"key_id": own.key})),
        "AccountService.RevokeUserToken" => (Draft, |own| json!({"user_id": own.user})),
        // Drafts cost nothing: whose entries are seen is shown elsewhere.
        "AccountService.ListLedger" => (Draft, of_envelope),
        "SignerService.Sign" => (Due(RecipientRole::Signer), |own| with(act(own), "consent", json!(true))),
        "SignerService.Approve" => (Due(RecipientRole::Approver), act),
        "SignerService.FillFields" => {
            (Due(RecipientRole::Assistant), |own| without(act(own), &["seen_documents", "seen_revision"]))
        }
        _ => return of_contents(call).or_else(|| of_endpoints(call)),
    };
    Some(line)
}

/// The lines of the calls that give documents and their pages.
fn of_contents(call: &str) -> Option<Line> {
    use Scene::{Due, Sent};
    let line: Line = match call {
        "EnvelopeService.DownloadDocument" => (Sent, |own| {
            let version = "DOCUMENT_VERSION_ORIGINAL";
            json!({"envelope_id": own.envelope, "document_id": own.document, "version": version})
        }),
        "EnvelopeService.RenderPage" => {
            (Sent, |own| json!({"envelope_id": own.envelope, "document_id": own.document, "page": 1, "width_px": 50}))
        }
        "SignerService.DownloadDocument" => (Due(RecipientRole::Signer), |own| json!({"document_id": own.document})),
        "SignerService.RenderPage" => {
            (Due(RecipientRole::Signer), |own| json!({"document_id": own.document, "page": 1, "width_px": 50}))
        }
        _ => return None,
    };
    Some(line)
}

/// The lines of the notifier's calls.
fn of_endpoints(call: &str) -> Option<Line> {
    use Scene::{Account, Draft};
    let line: Line = match call {
        "WebhookService.GetWebhookEndpoint"
        | "WebhookService.RotateWebhookSecret"
        | "WebhookService.VerifyWebhookEndpoint"
        | "WebhookService.EnableWebhookEndpoint"
        | "WebhookService.SendTestEvent" => (Account, |own| json!({"endpoint_id": own.endpoint})),
        "WebhookService.UpdateWebhookEndpoint" => (
            Account,
            |own| json!({"endpoint_id": own.endpoint, "changes": {"description": "New"}, "update_mask": "description"}),
        ),
        "WebhookService.ListDeliveries" => {
            (Account, |own| json!({"endpoint_id": own.endpoint, "envelope_id": own.envelope}))
        }
        "WebhookService.GetDelivery" => (Account, |own| json!({"delivery_id": own.delivery})),
        "WebhookService.RedeliverEvents" => {
            (Account, |own| json!({"endpoint_id": own.endpoint, "since": "2020-01-01T00:00:00Z"}))
        }
        "WebhookService.GetEnvelopeWebhookSecret" => (Draft, of_envelope),
        "WebhookService.DeleteWebhookEndpoint" => (Account, |own| json!({"endpoint_id": own.endpoint})),
        _ => return None,
    };
    Some(line)
}

fn in_a_hundred_days() -> String {
    (chrono::Utc::now() + chrono::TimeDelta::days(100)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
