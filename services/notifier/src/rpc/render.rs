//! Rows as the contract has them. Must never show a secret or a header's value.

use countersign::v1;
use countersign::v1::{WebhookDisabledReason, WebhookEndpointState};
use countersign_chassis::wire::timestamp;

use super::parse::delivery_id;
use crate::store::{Attempt, Endpoint, LoggedDelivery, Standing};

/// How an endpoint stands.
pub(super) fn state(standing: Standing) -> WebhookEndpointState {
    match standing {
        Standing::Unverified => WebhookEndpointState::Unverified,
        Standing::Active => WebhookEndpointState::Active,
        Standing::Paused => WebhookEndpointState::Paused,
        Standing::Disabled => WebhookEndpointState::Disabled,
    }
}

pub(super) fn endpoint(endpoint: &Endpoint) -> v1::WebhookEndpoint {
    v1::WebhookEndpoint {
        id: endpoint.id.to_string(),
        url: endpoint.url.clone(),
        livemode: endpoint.livemode,
        created_at: Some(timestamp(endpoint.created_at)),
        description: endpoint.description.clone(),
        types: endpoint.types.iter().map(|kind| i32::from(*kind)).collect(),
        header_names: endpoint.header_names.clone(),
        state: state(endpoint.standing()).into(),
        verified_at: endpoint.verified_at.map(timestamp),
        disabled_at: endpoint.disabled_at.map(timestamp),
        disabled_reason: endpoint.disabled_reason.map_or(WebhookDisabledReason::Unspecified.into(), i32::from),
        consecutive_failures: endpoint.consecutive_failures.unsigned_abs(),
        last_success_at: endpoint.last_success_at.map(timestamp),
        last_failure_at: endpoint.last_failure_at.map(timestamp),
        previous_secret_until: endpoint.generation.previous_until.map(timestamp),
        envelope_id: endpoint.envelope.map(|id| id.to_string()).unwrap_or_default(),
    }
}

pub(super) fn delivery(delivery: &LoggedDelivery) -> v1::Delivery {
    let pending = delivery.state == v1::DeliveryState::Pending as i16;
    v1::Delivery {
        id: delivery_id(delivery.event, delivery.endpoint),
        endpoint_id: delivery.endpoint.to_string(),
        event_id: delivery.event.to_string(),
        r#type: i32::from(delivery.kind),
        envelope_id: delivery.envelope.map(|id| id.to_string()).unwrap_or_default(),
        sequence: delivery.sequence,
        state: i32::from(delivery.state),
        attempts: delivery.attempts,
        created_at: Some(timestamp(delivery.created_at)),
        next_attempt_at: pending.then(|| timestamp(delivery.next_at)),
        cause: delivery.cause.clone().unwrap_or_default(),
    }
}

pub(super) fn attempt(attempt: &Attempt) -> v1::DeliveryAttempt {
    v1::DeliveryAttempt {
        number: attempt.number.unsigned_abs(),
        at: Some(timestamp(attempt.at)),
        duration_ms: attempt.duration_ms.unsigned_abs(),
        status_code: attempt.status_code.map_or(0, |code| u32::from(code.unsigned_abs())),
        failure: attempt.failure.clone().unwrap_or_default(),
        answer: attempt.answer.clone(),
    }
}
