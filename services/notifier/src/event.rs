//! What every event says of itself, whatever follows from it.

use chrono::{DateTime, Utc};
use countersign::v1::{Event, EventType};
use countersign_chassis::wire::datetime;

use crate::id::{AccountId, EnvelopeId, EventId};

/// Which event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose envelope it is.
    pub account: AccountId,
    /// The event.
    pub event: EventId,
    /// The envelope.
    pub envelope: EnvelopeId,
    /// False for test envelopes.
    pub livemode: bool,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
}

/// Why nothing can follow from an event. It is a defect of a service, not of a caller.
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

/// Which event it is; nothing for one of a newer contract: whoever does not know a type passes it over.
pub fn head(event: &Event) -> Result<Option<Head>, Unplannable> {
    let account = event.account_id.parse().map_err(|_| Unplannable::Id("account_id"))?;
    let id = event.id.parse().map_err(|_| Unplannable::Id("id"))?;
    let envelope = event.envelope_id.parse().map_err(|_| Unplannable::Id("envelope_id"))?;
    if event.r#type() == EventType::Unspecified {
        return Ok(None);
    }
    let occurred_at = event.occurred_at.as_ref().and_then(datetime).ok_or(Unplannable::Time)?;
    Ok(Some(Head { account, event: id, envelope, livemode: event.livemode, occurred_at }))
}

/// What follows from each of the events, by one planner. One that cannot be read must not keep all others from everybody.
pub fn each<T>(events: &[Event], plan: impl Fn(&Event, Head) -> Result<Vec<T>, Unplannable>) -> Vec<T> {
    let one = |event: &Event| match head(event).and_then(|head| head.map_or(Ok(Vec::new()), |head| plan(event, head))) {
        Ok(planned) => planned,
        Err(error) => {
            tracing::error!(event = event.id, error = error.to_string(), "passed over");
            Vec::new()
        }
    };
    events.iter().flat_map(one).collect()
}

/// Events for the tests of those who plan.
#[cfg(test)]
pub mod samples {
    use countersign::v1::{EnvelopeState, RecipientRole, RecipientState, RecipientStatus};

    use super::*;
    use crate::id::RecipientId;

    /// An event with signers who stand so.
    pub fn event(kind: EventType, statuses: &[RecipientStatus]) -> Event {
        let signers: Vec<_> = statuses.iter().map(|status| (RecipientRole::Signer, *status)).collect();
        event_among(kind, &signers)
    }

    /// It concerns the first of them.
    pub fn event_among(kind: EventType, people: &[(RecipientRole, RecipientStatus)]) -> Event {
        let recipient = |(index, (role, status)): (usize, &(RecipientRole, RecipientStatus))| RecipientState {
            id: RecipientId::from_uuid(uuid::Uuid::from_u128(index as u128)).to_string(),
            role: (*role).into(),
            status: (*status).into(),
            ..RecipientState::default()
        };
        let recipients = people.iter().enumerate().map(recipient).collect();
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

    /// All types of the contract.
    pub fn all() -> impl Iterator<Item = EventType> {
        (1..1_000).filter_map(|number| EventType::try_from(number).ok())
    }
}
