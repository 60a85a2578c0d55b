//! Somebody's receiver of webhooks: answers its challenge as the documentation says, every other request with 204, and
//! keeps these.
//! Must never know what the notifier means to send.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use countersign_chassis::clock::Clock;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::signature::{check_by_reference, check_countersign, check_standard, header, response};

const PATH: &str = "/webhooks/countersign";

/// A request as it came.
#[derive(Clone, Debug)]
struct Kept {
    at: DateTime<Utc>,
    headers: HeaderMap,
    body: Bytes,
}

/// A request whose signatures are good.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub at: DateTime<Utc>,
    pub webhook_id: String,
    pub event_type: String,
    pub event_id: String,
    pub envelope_id: String,
    pub sequence: u64,
}

/// What a receiver reads of a body.
#[derive(Deserialize)]
struct Payload {
    r#type: String,
    data: PayloadEvent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayloadEvent {
    id: String,
    envelope_id: String,
    sequence: String,
}

/// What a receiver reads of a challenge.
#[derive(Deserialize)]
struct Challenge {
    r#type: String,
    data: ChallengeData,
}

#[derive(Deserialize)]
struct ChallengeData {
    challenge: String,
}

#[derive(Default)]
struct Inside {
    /// Of the endpoint, once it is registered.
    secret: String,
    kept: Vec<Kept>,
}

type Requests = Arc<Mutex<Inside>>;

/// A running receiver. Ends when dropped.
pub(super) struct Receiver {
    /// Where it takes webhooks.
    pub url: String,
    requests: Requests,
    _task: AbortOnDropHandle<()>,
}

impl Receiver {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for the webhook receiver")?;
        let url = format!("http://{}{PATH}", listener.local_addr()?);
        let requests = Requests::default();
        let router = Router::new().route(PATH, post(keep)).with_state(Arc::clone(&requests));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the webhook receiver ended");
            }
        });
        Ok(Self { url, requests, _task: AbortOnDropHandle::new(task) })
    }

    /// It has been given its secret.
    pub fn knows(&self, secret: &str) {
        secret.clone_into(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner).secret);
    }

    /// All requests so far, each checked in three ways.
    pub fn verified(&self, secret: &str) -> Result<Vec<Delivery>> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).kept.clone();
        requests.iter().map(|request| verify(secret, request)).collect()
    }
}

async fn keep(State(requests): State<Requests>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let at = Clock::database().now();
    let mut inside = requests.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(Challenge { r#type, data }) = serde_json::from_slice(&body)
        && r#type == "endpoint.challenge"
    {
        // Whoever cannot have sent it gets no answer.
        let signed = check_standard(&inside.secret, &headers, &body, at.timestamp());
        return match signed.and_then(|()| response(&inside.secret, &data.challenge)) {
            Ok(response) => (StatusCode::OK, format!(r#"{{"response":"{response}"}}"#)),
            Err(_) => (StatusCode::UNAUTHORIZED, String::new()),
        };
    }
    inside.kept.push(Kept { at, headers, body });
    (StatusCode::NO_CONTENT, String::new())
}

fn verify(secret: &str, request: &Kept) -> Result<Delivery> {
    let now = request.at.timestamp();
    check_standard(secret, &request.headers, &request.body, now)?;
    check_countersign(secret, &request.headers, &request.body, now)?;
    check_by_reference(secret, &request.headers, &request.body)?;
    let payload: Payload = serde_json::from_slice(&request.body).context("the webhook's body is not as documented")?;
    Ok(Delivery {
        at: request.at,
        webhook_id: header(&request.headers, "webhook-id")?.to_owned(),
        event_type: payload.r#type,
        event_id: payload.data.id,
        envelope_id: payload.data.envelope_id,
        sequence: payload.data.sequence.parse().context("the webhook's sequence is no number")?,
    })
}
