//! One request to somebody's receiver, within bounds of time and bytes, to nowhere but where the guard allows.
//!
//! Must never follow a redirect, use a proxy, or wait or read without end. What went wrong is told as a class, never in
//! words from outside.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use countersign_chassis::guard::{Guard, NotFound, NotPublic};
use countersign_chassis::propagation;
use futures_util::StreamExt as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};

use super::headers::Seal;
use super::signature::{KeyMissing, Secret, signatures};
use crate::id::{AccountId, EndpointId};

/// How much of an answer is kept.
pub const KEPT_BYTES: usize = 1_024;
/// How long an idle connection is kept, and how many to one host: as many as an endpoint is posted to at a time.
const IDLE: (Duration, usize) = (Duration::from_secs(20), 32);

/// How long and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Until there is a connection.
    pub connect: Duration,
    /// Of the whole attempt: name, connection, TLS, request, answer with its body.
    pub total: Duration,
    /// Of an answer that are read.
    pub answer_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(15), answer_bytes_max: 16 * 1024 }
    }
}

/// What came back.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

/// What is to be sent, and to whom.
pub struct Letter<'a> {
    /// Whose endpoint.
    pub account: AccountId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its address.
    pub url: &'a str,
    /// The `webhook-id`.
    pub id: &'a str,
    /// The bytes.
    pub body: &'a [u8],
    /// The secrets that sign, the newest first.
    pub secrets: &'a [Secret],
    /// The owner's headers, as they are kept.
    pub headers_sealed: Option<&'a [u8]>,
    /// By the service's clock.
    pub at: DateTime<Utc>,
}

/// Sends requests.
pub struct Courier {
    guard: Guard,
    seal: Arc<Seal>,
    client: Client,
    bounds: Bounds,
}

impl Courier {
    /// To where the guard allows.
    pub fn new(guard: Guard, seal: Arc<Seal>, bounds: Bounds) -> anyhow::Result<Self> {
        let client = Client::builder()
            .dns_resolver(Arc::new(guard.clone()))
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(bounds.connect)
            .pool_idle_timeout(IDLE.0)
            .pool_max_idle_per_host(IDLE.1)
            .user_agent(concat!("Countersign/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("HTTP client")?;
        Ok(Self { guard, seal, client, bounds })
    }

    /// How long an attempt takes at most.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.bounds.total
    }

    /// Fails where the master key of the owner's headers is missing.
    pub fn check(&self, headers_sealed: Option<&[u8]>) -> Result<(), KeyMissing> {
        self.seal.check(headers_sealed)
    }

    /// One attempt. The failure is a class of errors, as the contract words them.
    pub async fn post(&self, letter: &Letter<'_>) -> Result<Answer, &'static str> {
        let url = self.guard.check(letter.url).map_err(|_| "address_not_allowed")?;
        let headers = self.headers(letter).ok_or("broken_header")?;
        let exchange = async {
            let sent = self.client.post(url).headers(headers).body(letter.body.to_vec()).send().await;
            let response = sent.map_err(|error| class(&error))?;
            self.read(response, letter.at).await
        };
        tokio::time::timeout(self.bounds.total, exchange).await.unwrap_or(Err("timeout"))
    }

    fn headers(&self, letter: &Letter<'_>) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        propagation::into_headers(&mut headers);
        let own = match letter.headers_sealed {
            Some(sealed) => self.seal.open(letter.account, letter.endpoint, sealed)?,
            None => Vec::new(),
        };
        for (name, value) in own {
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(true);
            headers.insert(HeaderName::try_from(name).ok()?, value);
        }
        // Ours last: nobody's header stands in their place.
        let timestamp = letter.at.timestamp();
        let (standard, countersign) = signatures(letter.secrets, letter.id, timestamp, letter.body);
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("webhook-id", HeaderValue::try_from(letter.id).ok()?);
        headers.insert("webhook-timestamp", timestamp.into());
        headers.insert("webhook-signature", HeaderValue::try_from(standard).ok()?);
        headers.insert("countersign-signature", HeaderValue::try_from(countersign).ok()?);
        Some(headers)
    }

    /// The beginning of the answer. The rest is never read: the connection is closed.
    async fn read(&self, response: Response, now: DateTime<Utc>) -> Result<Answer, &'static str> {
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| wish(value.trim(), now));
        let (most, mut body) = (self.bounds.answer_bytes_max, Vec::new());
        let mut stream = response.bytes_stream();
        while body.len() < most
            && let Some(chunk) = stream.next().await
        {
            let chunk = chunk.map_err(|_| "broken_answer")?;
            body.extend_from_slice(&chunk[..chunk.len().min(most - body.len())]);
        }
        Ok(Answer { status, retry_after, body })
    }
}

impl Answer {
    /// What is kept of the body, as text.
    #[must_use]
    pub fn text(&self) -> String {
        let kept = &self.body[..self.body.len().min(KEPT_BYTES)];
        // Postgres takes no zero bytes in text.
        String::from_utf8_lossy(kept).replace('\0', "\u{fffd}")
    }
}

/// How long a receiver asks to be left alone: seconds, or a date (RFC 9110 §10.2.3).
fn wish(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().ok()
}

/// Why there was no answer.
fn class(error: &reqwest::Error) -> &'static str {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<NotPublic>() {
            return "address_not_allowed";
        }
        if error.is::<NotFound>() {
            return "name_not_found";
        }
        // An I/O error does not name the one inside it as its source.
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || inside.is_some_and(|inside| inside.is::<rustls::Error>()) {
            return "tls";
        }
        cause = error.source();
    }
    match error {
        error if error.is_timeout() => "timeout",
        error if error.is_connect() => "no_connection",
        _ => "broken_answer",
    }
}
