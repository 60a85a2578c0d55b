//! VerifyWebhookEndpoint: an endpoint proves that it knows its secret before anything else is posted to it.
//!
//! Must never tell more of what the address answered than the HTTP status: it may be somebody else's.

use std::time::Duration;

use countersign::v1;
use countersign::v1::ErrorReason;
use countersign_chassis::keys::{random, same};
use countersign_chassis::once::Claimed;
use countersign_chassis::problem::Problem;
use prost::Message as _;
use serde::Deserialize;
use tonic::Status;

use super::caller::Sender;
use super::parse::endpoint_id;
use super::{Handler, database, key_missing, render};
use crate::store::{Endpoint, Named};
use crate::webhook::courier::Letter;
use crate::webhook::deliver::event_id;

/// Seconds between two challenges of one endpoint: nobody is to be bothered by means of us.
const APART_SECONDS: u32 = 5;
/// Challenges of this process at a time.
pub(super) const AT_ONCE: usize = 16;

/// What an endpoint answers.
#[derive(Deserialize)]
struct Response {
    response: String,
}

fn reply(endpoint: &Endpoint) -> v1::VerifyWebhookEndpointResponse {
    v1::VerifyWebhookEndpointResponse { endpoint: Some(render::endpoint(endpoint)) }
}

impl Handler {
    pub(super) async fn verify(
        &self,
        sender: Sender,
        claimed: Option<&Claimed>,
        request: &v1::VerifyWebhookEndpointRequest,
    ) -> Result<v1::VerifyWebhookEndpointResponse, Status> {
        let id = endpoint_id(&request.endpoint_id)?;
        let named = Named { account: sender.account, livemode: sender.livemode, id };
        let mut known = self.get(sender, &request.endpoint_id).await?;
        if known.envelope.is_some() {
            return Err(Problem::not_found().into());
        }
        if known.verified_at.is_none() {
            let _place = self.challenges.try_acquire().map_err(|_| Status::from(Problem::unavailable()))?;
            let challenged = self.store.challenge(named, f64::from(APART_SECONDS)).await;
            let Some(endpoint) = challenged.map_err(|error| database(&error))? else {
                let message = "The endpoint was challenged just now.";
                let wait = Duration::from_secs(u64::from(APART_SECONDS));
                return Err(Problem::new(ErrorReason::RateLimitExceeded, message)
                    .with("limit", "challenges")
                    .with("allowed", format!("1 in {APART_SECONDS} s"))
                    .retry_after(wait)
                    .into());
            };
            self.challenge(&endpoint).await?;
            // What was asked, which may have another address than what was read before.
            known = endpoint;
        }
        let once = claimed.map(|claimed| &claimed.once);
        let kept = |endpoint: &Endpoint| reply(endpoint).encode_to_vec();
        let verified = self.store.verified(named, &known.url, once, kept).await.map_err(|error| database(&error))?;
        // Gone, or given another address, while it was asked.
        verified.as_ref().map(reply).ok_or_else(|| Problem::not_found().into())
    }

    async fn challenge(&self, endpoint: &Endpoint) -> Result<(), Status> {
        let now = self.store.clock().now();
        let challenge = hex::encode(random::<32>());
        let body = serde_json::json!({
            "type": "endpoint.challenge",
            "timestamp": now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            "data": { "challenge": challenge },
        })
        .to_string();
        let (account, sealed) = (endpoint.account, endpoint.headers_sealed.as_deref());
        let alive = self.secrets.alive(account, endpoint.id, &endpoint.generation, now);
        let alive = alive.and_then(|alive| self.courier.check(sealed).map(|()| alive)).map_err(key_missing)?;
        let letter = Letter {
            account,
            endpoint: endpoint.id,
            url: &endpoint.url,
            id: &event_id(now).to_string(),
            body: body.as_bytes(),
            secrets: &alive,
            headers_sealed: sealed,
            at: now,
        };
        let answer = self.courier.post(&letter).await.map_err(|failure| Status::from(failed(failure)))?;
        if !(200..=299).contains(&answer.status) {
            return Err(failed("status").with("status_code", answer.status.to_string()).into());
        }
        let given = serde_json::from_slice::<Response>(&answer.body).map(|answer| answer.response).unwrap_or_default();
        let right = letter
            .secrets
            .iter()
            .any(|secret| same(given.to_ascii_lowercase().as_bytes(), secret.response(&challenge).as_bytes()));
        if right { Ok(()) } else { Err(failed("wrong_answer").into()) }
    }
}

fn failed(cause: &str) -> Problem {
    let message = "The endpoint did not answer its challenge as it should.";
    Problem::new(ErrorReason::ChallengeFailed, message).with("cause", cause)
}
