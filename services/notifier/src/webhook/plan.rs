//! Which endpoints get an event, and the bytes that they get. Pure: no clock, no database, no network.

use chrono::{DateTime, Utc};
use countersign::v1::{Actor, ActorType, Event, EventType, WebhookPayload};
use countersign_chassis::wire::timestamp;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::event::{Head, Unplannable};
use crate::id::{AccountId, EndpointId, EnvelopeId, EventId};

/// An endpoint that wants the events of its account and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub endpoint: EndpointId,
    /// Of live envelopes or of test ones.
    pub livemode: bool,
    /// Since when it listens.
    pub since: DateTime<Utc>,
    /// The types that it wants, as the contract numbers them; empty: all.
    pub types: Vec<i16>,
    /// Of that envelope only.
    pub envelope: Option<EnvelopeId>,
    /// Why nothing is posted to it, though what it misses is noted.
    pub cause: Option<&'static str>,
}

/// A webhook to be posted, or one that is not to be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct Delivery {
    pub account: AccountId,
    pub endpoint: EndpointId,
    pub event: EventId,
    pub livemode: bool,
    pub kind: i16,
    pub envelope: Option<EnvelopeId>,
    /// To the envelope's own address.
    pub own: bool,
    pub sequence: u64,
    pub body: Vec<u8>,
    pub cause: Option<&'static str>,
}

/// The number of an event's type.
#[must_use]
pub fn number(event: &Event) -> i16 {
    i16::try_from(event.r#type).unwrap_or(i16::MAX)
}

/// The webhooks of an event.
pub fn plan(event: &Event, head: Head, listeners: &[Listener]) -> Result<Vec<Delivery>, Unplannable> {
    let kind = number(event);
    let wanting = |listener: &&Listener| {
        listener.account == head.account
            && listener.livemode == head.livemode
            && listener.since <= head.occurred_at
            && (listener.types.is_empty() || listener.types.contains(&kind))
            && listener.envelope.is_none_or(|envelope| envelope == head.envelope)
    };
    let mut wanting = listeners.iter().filter(wanting).peekable();
    if wanting.peek().is_none() {
        return Ok(Vec::new());
    }
    let body = body(event)?;
    let delivery = |listener: &Listener| Delivery {
        account: head.account,
        endpoint: listener.endpoint,
        event: head.event,
        livemode: head.livemode,
        kind,
        envelope: Some(head.envelope),
        own: listener.envelope.is_some(),
        sequence: event.sequence,
        body: body.clone(),
        cause: listener.cause,
    };
    Ok(wanting.map(delivery).collect())
}

/// An event of an endpoint, which has no envelope and is in no stream.
#[must_use]
pub fn endpoint_event(
    kind: EventType,
    (account, livemode): (AccountId, bool),
    endpoint: EndpointId,
    event: EventId,
    at: DateTime<Utc>,
) -> Event {
    Event {
        id: event.to_string(),
        r#type: kind.into(),
        account_id: account.to_string(),
        livemode,
        occurred_at: Some(timestamp(at)),
        actor: Some(Actor { r#type: ActorType::System.into(), id: String::new() }),
        endpoint_id: endpoint.to_string(),
        ..Event::default()
    }
}

/// The bytes of a webhook: the payload in proto3's canonical JSON.
pub fn body(event: &Event) -> Result<Vec<u8>, Unplannable> {
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
    use countersign::v1::RecipientStatus;

    use super::*;
    use crate::event::head;
    use crate::event::samples::{all, event};

    fn planned(event: &Event, listeners: &[Listener]) -> Vec<Delivery> {
        plan(event, head(event).unwrap().unwrap(), listeners).unwrap()
    }

    fn listener(account: u128, livemode: bool) -> Listener {
        Listener {
            account: AccountId::from_uuid(uuid::Uuid::from_u128(account)),
            endpoint: EndpointId::from_uuid(uuid::Uuid::from_u128(account + 100)),
            livemode,
            since: DateTime::UNIX_EPOCH,
            types: Vec::new(),
            envelope: None,
            cause: None,
        }
    }

    #[test]
    fn s1_31_endpoints_of_the_account_and_mode_get_the_event() {
        let listeners = [listener(1, true), listener(1, false), listener(9, true)];
        let event = event(EventType::EnvelopeDeclined, &[]);
        let plan = planned(&event, &listeners);
        assert_eq!(plan.len(), 1);
        assert_eq!(plan[0].endpoint, listeners[0].endpoint);
        assert_eq!(plan, planned(&event, &listeners), "the same again: bodies are frozen");
        let body: serde_json::Value = serde_json::from_slice(&plan[0].body).unwrap();
        assert_eq!((body["type"].as_str(), body["data"]["sequence"].as_str()), (Some("envelope.declined"), Some("3")));
        assert_eq!(body["data"]["type"], "EVENT_TYPE_ENVELOPE_DECLINED");
    }

    #[test]
    fn every_event_is_posted() {
        assert_eq!(all().count(), 36);
        for kind in all() {
            let plan = planned(&event(kind, &[RecipientStatus::Released]), &[listener(1, true)]);
            assert_eq!(plan.len(), 1, "{kind:?}");
        }
    }

    #[test]
    fn s2_22_an_endpoint_gets_the_types_that_it_wants() {
        let declined = Listener { types: vec![8, 31], ..listener(1, true) };
        for (kind, count) in [(EventType::EnvelopeDeclined, 1), (EventType::EnvelopeVoided, 0)] {
            assert_eq!(planned(&event(kind, &[]), std::slice::from_ref(&declined)).len(), count, "{kind:?}");
        }
    }

    #[test]
    fn c19_an_envelopes_address_hears_of_that_envelope_only() {
        let event = event(EventType::EnvelopeSent, &[]);
        let own = Listener { envelope: Some(event.envelope_id.parse().unwrap()), ..listener(1, true) };
        let other = Listener { envelope: Some(EnvelopeId::new()), ..listener(1, true) };
        assert_eq!(planned(&event, &[own.clone(), other]).len(), 1);
        assert_eq!(planned(&event, &[own])[0].body, planned(&event, &[listener(1, true)])[0].body);
    }
}
