//! Which endpoints get an event, and the bytes that they get. Pure: no clock, no database, no network.

use chrono::{DateTime, Utc};
use countersign::v1::{Event, WebhookPayload};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::event::{Head, Unplannable};
use crate::id::{AccountId, EndpointId, EnvelopeId, EventId};

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

/// The webhooks of an event.
pub fn plan(event: &Event, head: Head, listeners: &[Listener]) -> Result<Vec<Delivery>, Unplannable> {
    let wanting = |listener: &&Listener| {
        listener.account == head.account && listener.livemode == head.livemode && listener.since <= head.occurred_at
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
        envelope: head.envelope,
        sequence: event.sequence,
        body: body.clone(),
    };
    Ok(wanting.map(delivery).collect())
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
    use countersign::v1::{EventType, RecipientStatus};

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
        assert_eq!(all().count(), 32);
        for kind in all() {
            let plan = planned(&event(kind, &[RecipientStatus::Released]), &[listener(1, true)]);
            assert_eq!(plan.len(), 1, "{kind:?}");
        }
    }
}
