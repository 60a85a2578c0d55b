//! What the tests of drafts, roles and changes share: people, fields, one-line calls, bounded waits.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::{
    ApproveRequest, CreateEnvelopeRequest, Envelope, EnvelopeStatus, EventType, FieldEntry, FieldType, FieldValue,
    FillFieldsRequest, GetSigningSessionRequest, MarkViewedRequest, NewField, NewRecipient, Placement, RecipientRole,
    RecipientStatus, Routing, SendEnvelopeRequest, SigningSession, WhoseTurnRequest, WhoseTurnResponse, field_value,
};
use countersign_chassis::wire::{datetime, timestamp};
use countersign_envelope::credential::Keyring;
use countersign_envelope::execute::Executor;
use countersign_envelope::store::{Scope, Store};
use countersign_test_support::client::{request, signature};
use countersign_test_support::{Caller, Service};
use tonic::Status;

/// Where manual clocks start.
pub fn epoch() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// So long after the service's present time.
pub fn ahead(service: &Service, by: TimeDelta) -> prost_types::Timestamp {
    timestamp(service.clock.now() + by)
}

pub fn later(than: Option<prost_types::Timestamp>, by: TimeDelta) -> prost_types::Timestamp {
    timestamp(datetime(&than.unwrap()).unwrap() + by)
}

/// A field near the top of the first page; `line` keeps several apart.
pub fn field(kind: FieldType, recipient_index: u32, line: u32) -> NewField {
    let placement = Placement {
        page: 1,
        x_percent: 50.0,
        y_percent: 2.0 + 4.0 * f64::from(line),
        width_percent: 30.0,
        height_percent: 3.0,
    };
    NewField { r#type: kind.into(), recipient_index, placement: Some(placement), ..NewField::default() }
}

/// A request with these people; every signer has a signature field.
pub fn people(roles: &[RecipientRole], routing: Routing, send: bool) -> CreateEnvelopeRequest {
    let mut new = request(0, routing, send);
    for (index, role) in (0..).zip(roles) {
        new.recipients.push(NewRecipient {
            name: format!("Person {index}"),
            email: format!("person{index}@example.com"),
            role: (*role).into(),
            ..NewRecipient::default()
        });
        if *role == RecipientRole::Signer {
            new.fields.push(field(FieldType::Signature, index, index));
        }
    }
    new
}

pub fn entry(field_id: &str, text: &str) -> FieldEntry {
    let value = Some(FieldValue { value: Some(field_value::Value::Text(text.to_owned())) });
    FieldEntry { field_id: field_id.to_owned(), value }
}

pub fn text_of(value: Option<&FieldValue>) -> &str {
    match value.and_then(|value| value.value.as_ref()) {
        Some(field_value::Value::Text(text)) => text,
        _ => "",
    }
}

pub fn statuses(envelope: &Envelope) -> Vec<RecipientStatus> {
    envelope.recipients.iter().map(|recipient| recipient.status()).collect()
}

/// What the history says happened.
pub async fn kinds(sender: &Caller, id: &str) -> Vec<EventType> {
    let history = sender.history(id).await.unwrap();
    history.iter().map(|entry| entry.event.as_ref().unwrap().r#type()).collect()
}

pub async fn count(sender: &Caller, id: &str, kind: EventType) -> usize {
    kinds(sender, id).await.into_iter().filter(|it| *it == kind).count()
}

pub async fn send(sender: &Caller, id: &str) -> Result<Envelope, Status> {
    let request = SendEnvelopeRequest { envelope_id: id.to_owned(), if_revision: 0, ..Default::default() };
    Ok(sender.envelopes().send_envelope(request).await?.into_inner().envelope.unwrap())
}

pub async fn turn(sender: &Caller, id: &str) -> WhoseTurnResponse {
    let request = WhoseTurnRequest { envelope_id: id.to_owned() };
    sender.envelopes().whose_turn(request).await.unwrap().into_inner()
}

/// Each group as number, members, needed, acted.
pub fn progress(turn: &WhoseTurnResponse) -> Vec<(u32, u32, u32, u32)> {
    turn.groups.iter().map(|it| (it.group, it.members, it.needed, it.acted)).collect()
}

pub async fn session(signer: &Caller) -> Result<SigningSession, Status> {
    let answer = signer.signer().get_signing_session(GetSigningSessionRequest {}).await?;
    Ok(answer.into_inner().session.unwrap())
}

pub async fn view(signer: &Caller) -> Result<SigningSession, Status> {
    Ok(signer.signer().mark_viewed(MarkViewedRequest { ..Default::default() }).await?.into_inner().session.unwrap())
}

pub async fn approve(signer: &Caller, envelope: &Envelope, values: Vec<FieldEntry>) -> Result<SigningSession, Status> {
    let shown = signature(envelope);
    let request = ApproveRequest {
        values,
        seen_documents: shown.seen_documents,
        seen_revision: shown.seen_revision,
        ..Default::default()
    };
    Ok(signer.signer().approve(request).await?.into_inner().session.unwrap())
}

pub async fn fill(assistant: &Caller, values: Vec<FieldEntry>) -> Result<SigningSession, Status> {
    let request = FillFieldsRequest { values, ..Default::default() };
    Ok(assistant.signer().fill_fields(request).await?.into_inner().session.unwrap())
}

/// Waits until an envelope is as it should be.
pub async fn until(sender: &Caller, id: &str, what: &str, is: impl Fn(&Envelope) -> bool) -> Envelope {
    for _ in 0..400 {
        let now = sender.get(id).await.unwrap();
        if is(&now) {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited for {what} of {id}");
}

pub async fn until_status(sender: &Caller, id: &str, status: EnvelopeStatus) -> Envelope {
    until(sender, id, status.as_str_name(), |envelope| envelope.status() == status).await
}

/// The service's own keys.
pub fn keyring(service: &Service) -> Keyring {
    Keyring::new(&service.config.keys.ring().unwrap())
}

/// Commands that no call of the contract gives, on the service's database and by its clock.
pub async fn executor(service: &Service) -> Executor {
    let store = Store::open(&service.config.database, service.clock.clone()).await.unwrap();
    Executor::new(store, Arc::new(keyring(service)))
}

/// The signing token of a recipient who has not been given one yet: a credential from the beginning (T-19).
pub async fn early_token(service: &Service, sender: &Caller, envelope: &Envelope, index: usize) -> Caller {
    let scope = Scope::any_mode(sender.account.parse().unwrap());
    let store = executor(service).await.store().clone();
    let stored = store.envelope(scope, envelope.id.parse().unwrap()).await.unwrap().unwrap();
    let recipient = &stored.recipients[index];
    let token = keyring(service).signing_token(stored.account, stored.id, recipient.id, &recipient.credential);
    sender.with_token(&token.unwrap())
}
