//! Posts webhooks. At least once: after a crash or a lost answer the same bytes come again under the same `webhook-id`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::propagation;
use countersign_chassis::ticker::Progress;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};

use crate::schedule::pause;
use crate::store::{ClaimedDelivery, Outcome, Settled, Store};
use crate::webhook::guard::Guard;
use crate::webhook::signature::Secrets;

/// Deliveries of one tick; they are posted at once.
const BATCH_MAX: i64 = 16;
/// Ticks that run beside each other, so that a receiver that hangs does not hold up the others.
pub const LANES: usize = 4;
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an attempt may take, the answer's body included.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);
/// How long a claim holds: longer than any attempt.
const LEASE_SECONDS: i64 = 20;
/// How much of an answer is read, and how much is kept.
const ANSWER_BYTES: (usize, usize) = (16 * 1024, 1024);

/// Posts webhooks.
#[derive(Clone)]
pub struct Deliverer {
    store: Store,
    secrets: Arc<Secrets>,
    guard: Guard,
    client: Client,
}

/// What came back.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    body: String,
}

impl Deliverer {
    /// With those secrets, to where the guard allows.
    pub fn new(store: Store, secrets: Arc<Secrets>, guard: Guard) -> anyhow::Result<Self> {
        let client = Client::builder()
            .dns_resolver(Arc::new(guard))
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .timeout(ATTEMPT_MAX)
            .user_agent(concat!("Countersign/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("HTTP client")?;
        Ok(Self { store, secrets, guard, client })
    }

    /// Posts what is due.
    pub async fn tick(&self) -> anyhow::Result<Progress> {
        let now = self.store.clock().now();
        let due = self.store.claim_deliveries(now, now + TimeDelta::seconds(LEASE_SECONDS), BATCH_MAX).await?;
        let settled = join_all(due.iter().map(|claimed| self.deliver(claimed))).await;
        settled.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
        Ok(if due.is_empty() { Progress::Idle } else { Progress::Busy })
    }

    async fn deliver(&self, claimed: &ClaimedDelivery) -> anyhow::Result<()> {
        let (at, began) = (self.store.clock().now(), Instant::now());
        let answered = self.post(claimed, at).await;
        let duration_ms = i32::try_from(began.elapsed().as_millis()).unwrap_or(i32::MAX);
        let outcome = match &answered {
            Ok(answer) => Outcome {
                at,
                duration_ms,
                status_code: Some(answer.status),
                failure: None,
                answer: answer.body.clone(),
            },
            Err(failure) => {
                Outcome { at, duration_ms, status_code: None, failure: Some(failure), answer: String::new() }
            }
        };
        let wished = answered.as_ref().ok().and_then(|answer| answer.retry_after);
        let settled = match answered.map(|answer| answer.status) {
            Ok(200..=299) => Settled::Delivered,
            Ok(410) => Settled::Gone,
            _ => match pause(claimed.attempts + 1, wished) {
                Some(pause) => Settled::Again(at + TimeDelta::from_std(pause)?),
                None => Settled::Dead,
            },
        };
        let (event, endpoint) = (claimed.event.to_string(), claimed.endpoint.to_string());
        if settled != Settled::Delivered {
            let (status, failure) = (outcome.status_code, outcome.failure);
            tracing::warn!(
                event,
                endpoint,
                status,
                failure,
                attempts = claimed.attempts + 1,
                "a webhook was not taken"
            );
        }
        if !self.store.settle_delivery(claimed, &outcome, settled).await? {
            tracing::info!(event, endpoint, "the claim ran out meanwhile; another process has the say");
        }
        Ok(())
    }

    /// One attempt. The failure is a class of errors, never text from outside.
    async fn post(&self, claimed: &ClaimedDelivery, at: DateTime<Utc>) -> Result<Answer, &'static str> {
        let timestamp = at.timestamp();
        let url = self.guard.check(&claimed.url).map_err(|_| "address not allowed")?;
        let secret = self.secrets.of(claimed.account, claimed.endpoint, claimed.generation);
        let id = claimed.event.to_string();
        let mut headers = HeaderMap::new();
        propagation::into_headers(&mut headers);
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("webhook-signature", secret.standard(&id, timestamp, &claimed.body)),
            ("countersign-signature", secret.countersign(timestamp, &claimed.body)),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-id", id),
        ] {
            headers.insert(name, HeaderValue::try_from(value).map_err(|_| "header")?);
        }
        let sent = self.client.post(url).headers(headers).body(claimed.body.clone()).send().await;
        match sent {
            Ok(response) => read(response, at).await,
            Err(error) if error.is_timeout() => Err("timeout"),
            Err(error) if error.is_connect() => Err("no connection"),
            Err(_) => Err("broken answer"),
        }
    }
}

/// How long a receiver asks to be left alone: seconds, or a date (RFC 9110 §10.2.3).
fn wish(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().ok()
}

/// The beginning of the answer, within the attempt's time.
async fn read(response: Response, now: DateTime<Utc>) -> Result<Answer, &'static str> {
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| wish(value.trim(), now));
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while body.len() < ANSWER_BYTES.0
        && let Some(chunk) = stream.next().await
    {
        let chunk = chunk.map_err(|error| if error.is_timeout() { "timeout" } else { "broken answer" })?;
        body.extend_from_slice(&chunk);
    }
    body.truncate(ANSWER_BYTES.1);
    // Postgres takes no zero bytes in text.
    let body = String::from_utf8_lossy(&body).replace('\0', "\u{fffd}");
    Ok(Answer { status, retry_after, body })
}
