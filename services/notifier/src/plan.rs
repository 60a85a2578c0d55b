//! What follows from an event: which endpoints get it and who gets a mail. Pure: no clock, no database, no network.

use chrono::{DateTime, Utc};
use countersign::v1::{Event, EventType, RecipientStatus, WebhookPayload};
use countersign_chassis::wire::datetime;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::id::{AccountId, EndpointId, EnvelopeId, EventId, RecipientId};

/// An endpoint that wants the events of its account and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub endpoint: EndpointId,
    /// Of live envelopes or of test ones.
    pub livemode: bool,
    /// Since when it listens.
    pub since: DateTime<Utc>,
}

/// A webhook to be posted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct Delivery {
    pub account: AccountId,
    pub endpoint: EndpointId,
    pub event: EventId,
    pub envelope: EnvelopeId,
    pub sequence: u64,
    pub body: Vec<u8>,
}

/// Why somebody gets a mail. The numbers are those of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    /// It is their turn; holds their link.
    Invitation = 1,
    /// The envelope ended without completion.
    FellThrough = 2,
    /// The envelope is completed; holds the signed documents.
    Completed = 3,
}

impl MailKind {
    /// Its name in files and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invitation => "invitation",
            Self::FellThrough => "fell_through",
            Self::Completed => "completed",
        }
    }
}

/// A mail to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct Mail {
    pub account: AccountId,
    pub event: EventId,
    pub envelope: EnvelopeId,
    pub recipient: RecipientId,
    pub kind: MailKind,
    pub livemode: bool,
}

/// What follows from an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Webhooks.
    pub deliveries: Vec<Delivery>,
    /// Mails.
    pub mails: Vec<Mail>,
}

/// Why an event cannot be planned. It is a defect of a service, not of a caller.
#[derive(Debug, thiserror::Error)]
pub enum Unplannable {
    /// An id is none.
    #[error("malformed {0} in the event")]
    Id(&'static str),
    /// It has no time.
    #[error("no time in the event")]
    Time,
    /// The event cannot be written as JSON.
    #[error("the event cannot be written as JSON: {0}")]
    Json(String),
}

/// Plans an event.
pub fn plan(event: &Event, listeners: &[Listener]) -> Result<Plan, Unplannable> {
    let account: AccountId = event.account_id.parse().map_err(|_| Unplannable::Id("account_id"))?;
    let id: EventId = event.id.parse().map_err(|_| Unplannable::Id("id"))?;
    let envelope: EnvelopeId = event.envelope_id.parse().map_err(|_| Unplannable::Id("envelope_id"))?;
    let mut plan = Plan::default();
    if event.r#type() == EventType::Unspecified {
        // Of a newer contract: whoever does not know a type passes it over.
        return Ok(plan);
    }
    let occurred_at = event.occurred_at.as_ref().and_then(datetime).ok_or(Unplannable::Time)?;
    let wanting = |listener: &&Listener| {
        listener.account == account && listener.livemode == event.livemode && listener.since <= occurred_at
    };
    let mut wanting = listeners.iter().filter(wanting).peekable();
    if wanting.peek().is_some() {
        let body = body(event)?;
        plan.deliveries.extend(wanting.map(|listener| Delivery {
            account,
            endpoint: listener.endpoint,
            event: id,
            envelope,
            sequence: event.sequence,
            body: body.clone(),
        }));
    }
    for (recipient, kind) in mails(event)? {
        plan.mails.push(Mail { account, event: id, envelope, recipient, kind, livemode: event.livemode });
    }
    Ok(plan)
}

/// Who gets a mail. Whether somebody had been invited at all shows when the mail is written: those who had not are spared.
fn mails(event: &Event) -> Result<Vec<(RecipientId, MailKind)>, Unplannable> {
    let recipient = |id: &str| id.parse().map_err(|_| Unplannable::Id("recipient_id"));
    let those = |test: fn(RecipientStatus) -> bool, kind| {
        let recipients = event.state.iter().flat_map(|state| &state.recipients);
        recipients.filter(|other| test(other.status())).map(|other| Ok((recipient(&other.id)?, kind))).collect()
    };
    match event.r#type() {
        EventType::RecipientReleased => Ok(vec![(recipient(&event.recipient_id)?, MailKind::Invitation)]),
        EventType::EnvelopeCompleted => those(|status| status == RecipientStatus::Signed, MailKind::Completed),
        EventType::EnvelopeDeclined | EventType::EnvelopeVoided | EventType::EnvelopeExpired => {
            // The one who refused knows. At `envelope.declined` siblings are still to be released, event by event.
            those(|status| status != RecipientStatus::Declined, MailKind::FellThrough)
        }
        EventType::Unspecified
        | EventType::EnvelopeCreated
        | EventType::EnvelopeSent
        | EventType::RecipientSigned
        | EventType::EnvelopeAllActed
        | EventType::RecipientDeclined
        | EventType::RecipientReleasedByDecline
        | EventType::EnvelopeArtifactReady => Ok(Vec::new()),
    }
}

/// The bytes of a webhook: the payload in proto3's canonical JSON.
fn body(event: &Event) -> Result<Vec<u8>, Unplannable> {
    static POOL: std::sync::OnceLock<Option<DescriptorPool>> = std::sync::OnceLock::new();
    let json = |why: &str| Unplannable::Json(why.to_owned());
    let pool = POOL.get_or_init(|| DescriptorPool::decode(countersign::FILE_DESCRIPTOR_SET).ok());
    let pool = pool.as_ref().ok_or_else(|| json("no descriptors"))?;
    let descriptor = pool.get_message_by_name("countersign.v1.WebhookPayload").ok_or_else(|| json("no payload"))?;
    let payload =
        WebhookPayload { r#type: event.r#type().dotted(), timestamp: event.occurred_at, data: Some(event.clone()) };
    let dynamic = DynamicMessage::decode(descriptor, payload.encode_to_vec().as_slice())
        .map_err(|error| json(&error.to_string()))?;
    let mut bytes = Vec::new();
    dynamic
        .serialize_with_options(&mut serde_json::Serializer::new(&mut bytes), &SerializeOptions::new())
        .map_err(|error| json(&error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use countersign::v1::{EnvelopeState, RecipientState};

    use super::*;

    fn event(kind: EventType, statuses: &[RecipientStatus]) -> Event {
        let recipient = |(index, status): (usize, &RecipientStatus)| RecipientState {
            id: RecipientId::from_uuid(uuid::Uuid::from_u128(index as u128)).to_string(),
            status: (*status).into(),
            ..RecipientState::default()
        };
        let recipients = statuses.iter().enumerate().map(recipient).collect();
        Event {
            id: EventId::from_uuid(uuid::Uuid::from_u128(7)).to_string(),
            r#type: kind.into(),
            account_id: AccountId::from_uuid(uuid::Uuid::from_u128(1)).to_string(),
            envelope_id: EnvelopeId::from_uuid(uuid::Uuid::from_u128(2)).to_string(),
            recipient_id: RecipientId::from_uuid(uuid::Uuid::from_u128(0)).to_string(),
            livemode: true,
            sequence: 3,
            occurred_at: Some(countersign_chassis::wire::timestamp(DateTime::UNIX_EPOCH)),
            state: Some(EnvelopeState { recipients, ..EnvelopeState::default() }),
            ..Event::default()
        }
    }

    fn listener(account: u128, livemode: bool) -> Listener {
        Listener {
            account: AccountId::from_uuid(uuid::Uuid::from_u128(account)),
            endpoint: EndpointId::from_uuid(uuid::Uuid::from_u128(account + 100)),
            livemode,
            since: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn s1_31_endpoints_of_the_account_and_mode_get_the_event() {
        let listeners = [listener(1, true), listener(1, false), listener(9, true)];
        let event = event(EventType::EnvelopeDeclined, &[]);
        let plan = plan(&event, &listeners).unwrap();
        assert_eq!(plan.deliveries.len(), 1);
        assert_eq!(plan.deliveries[0].endpoint, listeners[0].endpoint);
        assert_eq!(plan, super::plan(&event, &listeners).unwrap(), "the same again: bodies are frozen");
        let body: serde_json::Value = serde_json::from_slice(&plan.deliveries[0].body).unwrap();
        assert_eq!((body["type"].as_str(), body["data"]["sequence"].as_str()), (Some("envelope.declined"), Some("3")));
        assert_eq!(body["data"]["type"], "EVENT_TYPE_ENVELOPE_DECLINED");
    }

    /// S2.10, S2.13: pending siblings are told, and by default those who signed; the one who refused is not.
    #[test]
    fn s2_10_those_who_must_know_get_a_mail() {
        use RecipientStatus::{Declined, Released, ReleasedByVoid, Signed, Waiting};
        let count = |kind, statuses: &[RecipientStatus]| {
            let mails = plan(&event(kind, statuses), &[]).unwrap().mails;
            mails.iter().map(|mail| mail.kind).collect::<Vec<_>>()
        };
        assert_eq!(count(EventType::RecipientReleased, &[Released, Waiting]), [MailKind::Invitation]);
        assert_eq!(count(EventType::EnvelopeCompleted, &[Signed, Signed]), [MailKind::Completed; 2]);
        assert_eq!(count(EventType::EnvelopeDeclined, &[Signed, Declined, Released]), [MailKind::FellThrough; 2]);
        assert_eq!(count(EventType::EnvelopeVoided, &[ReleasedByVoid; 3]), [MailKind::FellThrough; 3]);
        assert_eq!(count(EventType::RecipientSigned, &[Signed, Released]), []);
        assert_eq!(count(EventType::EnvelopeCreated, &[Waiting]), []);
    }
}
