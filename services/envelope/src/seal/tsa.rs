//! Has signatures timestamped by an authority (RFC 3161).
//!
//! It must never take a token that does not answer its own question, of another time, or of an authority that leads to none
//! of the CAs that are trusted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign_chassis::clock::Clock;
use countersign_chassis::keys;
use countersign_paper::{Roots, Unsealed};
use reqwest::Client;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use url::Url;

use super::http;

/// For how long one that failed is asked after the others: whoever is down is not waited for by each document.
const ASIDE: Duration = Duration::from_secs(30);
/// Size of an answer: a token with its certificates has some thousand.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The authorities.
pub struct Tsa {
    authorities: Vec<Authority>,
    client: Client,
    clock: Clock,
    roots: Option<Roots>,
}

/// One of them.
struct Authority {
    url: Url,
    /// Until when the others are asked before it.
    aside_until: Mutex<Option<Instant>>,
}

impl Authority {
    fn is_aside(&self, now: Instant) -> bool {
        self.aside_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }

    fn set_aside(&self, until: Option<Instant>) {
        *self.aside_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl Tsa {
    /// Asked in this order, those last that have just failed. Their certificates have to lead to one of `roots`, if there
    /// are any.
    ///
    /// # Errors
    ///
    /// If there is no HTTP client to be had.
    pub fn new(urls: Vec<Url>, clock: Clock, roots: Option<Roots>) -> anyhow::Result<Self> {
        let client = http::client()?;
        let authorities = urls.into_iter().map(|url| Authority { url, aside_until: Mutex::default() });
        Ok(Self { authorities: authorities.collect(), client, clock, roots })
    }

    /// A token of the first authority that gives a right one.
    ///
    /// # Errors
    ///
    /// What the last of them did wrong.
    pub async fn token(&self, signature: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut last = anyhow::anyhow!("there is no authority to ask");
        let now = Instant::now();
        let (aside, first): (Vec<_>, Vec<_>) = self.authorities.iter().partition(|it| it.is_aside(now));
        for authority in first.into_iter().chain(aside) {
            let Authority { url, .. } = authority;
            match self.ask(url, signature).await {
                Ok(token) => {
                    authority.set_aside(None);
                    return Ok(token);
                }
                // The address may hold a password: only the host is told.
                Err(error) => {
                    authority.set_aside(Some(Instant::now() + ASIDE));
                    let host = url.host_str().unwrap_or_default();
                    tracing::info!(
                        host,
                        error = format!("{error:#}"),
                        "a timestamping authority did not answer rightly"
                    );
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn ask(&self, url: &Url, signature: &[u8]) -> anyhow::Result<Vec<u8>> {
        let request = Unsealed::timestamp_request(signature, u64::from_be_bytes(keys::random::<8>()))?;
        let asked = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/timestamp-query")
            .header(ACCEPT, "application/timestamp-reply")
            .body(request.der.clone());
        let bytes = http::ask(asked, ANSWER_BYTES_MAX).await?;
        let now_unix_s = u64::try_from(self.clock.now().timestamp()).unwrap_or_default();
        Ok(request.token(&bytes, now_unix_s, self.roots.as_ref())?)
    }
}
