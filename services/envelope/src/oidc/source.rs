//! Where the issuer's keys come from, and for how long they count. Asks the issuer alone, over TLS, at most once in a
//! while and never twice at a time, whatever tokens come in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::clock::Clock;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;
use url::{Host, Url};

use super::Rejected;
use super::jwks::{Found, Key, KeySet};
use super::token::Token;

/// For how long keys count without asking again.
const FRESH_FOR: TimeDelta = TimeDelta::minutes(10);
/// For how long keys count while the issuer cannot be reached.
const USABLE_FOR: TimeDelta = TimeDelta::hours(24);
/// Time between two fetches, whether they went well or not.
const FETCH_EVERY: TimeDelta = TimeDelta::seconds(30);
/// How long an answer of the issuer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Size of an answer of the issuer.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Where an issuer describes itself (OpenID Connect Discovery, section 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Where the keys are.
enum Place {
    /// Here.
    Set(Url),
    /// Where this description says.
    Discovered(Url),
}

/// What was fetched, and when.
#[derive(Default)]
struct Fetched {
    keys: Option<(Arc<KeySet>, DateTime<Utc>)>,
    tried_at: Option<DateTime<Utc>>,
}

/// The issuer's keys.
pub(super) struct Source {
    issuer: String,
    place: Place,
    client: Client,
    clock: Clock,
    fetched: Arc<Mutex<Fetched>>,
    /// Held by whoever fetches.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

impl Source {
    /// Of this issuer, at `jwks_url` or where discovery says.
    pub fn new(issuer: &str, jwks_url: Option<&str>, clock: Clock) -> anyhow::Result<Self> {
        let described = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
        let described = address(&described).map_err(anyhow::Error::msg).context("COUNTERSIGN_OIDC_ISSUER")?;
        anyhow::ensure!(described.query().is_none(), "COUNTERSIGN_OIDC_ISSUER must not hold a query");
        let place = match jwks_url {
            None => Place::Discovered(described),
            Some(url) => Place::Set(address(url).map_err(anyhow::Error::msg).context("COUNTERSIGN_OIDC_JWKS_URL")?),
        };
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(ANSWER_MAX)
            .user_agent(concat!("Countersign/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("HTTP client")?;
        let issuer = issuer.to_owned();
        Ok(Self { issuer, place, client, clock, fetched: Arc::default(), fetching: Arc::default() })
    }

    /// The key with which `token` has to be signed.
    pub async fn key(self: &Arc<Self>, token: &Token<'_>) -> Result<Arc<Key>, Rejected> {
        match self.usable() {
            Some((keys, fresh)) => match keys.find(token) {
                // Whoever asks first when the keys have grown old waits for new ones; the others go on.
                Found::Key(_) | Found::Unfit(_) if !fresh => {
                    if let Ok(turn) = Arc::clone(&self.fetching).try_lock_owned() {
                        self.refresh(turn).await;
                    }
                }
                Found::Key(key) => return Ok(key),
                Found::Unfit(reason) => return Err(Rejected::Invalid(reason)),
                Found::Unknown => self.refresh(Arc::clone(&self.fetching).lock_owned().await).await,
            },
            None => self.refresh(Arc::clone(&self.fetching).lock_owned().await).await,
        }
        let (keys, _) = self.usable().ok_or(Rejected::Unavailable)?;
        match keys.find(token) {
            Found::Key(key) => Ok(key),
            Found::Unfit(reason) => Err(Rejected::Invalid(reason)),
            Found::Unknown => Err(Rejected::Invalid("The token's key is not one of the issuer's.")),
        }
    }

    /// The keys, and whether they count without asking again.
    fn usable(&self) -> Option<(Arc<KeySet>, bool)> {
        let now = self.clock.now();
        let fetched = self.fetched();
        let (keys, at) = fetched.keys.as_ref()?;
        (now - *at < USABLE_FOR).then(|| (Arc::clone(keys), within(now, *at, FRESH_FOR)))
    }

    fn fetched(&self) -> MutexGuard<'_, Fetched> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches, unless that was done just now. In a task of its own: a caller who gives up does not take it along.
    async fn refresh(self: &Arc<Self>, turn: OwnedMutexGuard<()>) {
        let now = self.clock.now();
        {
            let mut fetched = self.fetched();
            if fetched.tried_at.is_some_and(|at| within(now, at, FETCH_EVERY)) {
                return;
            }
            fetched.tried_at = Some(now);
        }
        let source = Arc::clone(self);
        let task = tokio::spawn(async move {
            match source.fetch().await {
                Ok(keys) => source.fetched().keys = Some((Arc::new(keys), now)),
                Err(reason) => tracing::warn!(reason, "the issuer's keys could not be fetched"),
            }
            drop(turn);
        });
        // A task that broke fetched nothing, which is seen by who asked.
        let _ = task.await;
    }

    async fn fetch(&self) -> Result<KeySet, &'static str> {
        match &self.place {
            Place::Set(url) => KeySet::parse(&self.get(url).await?),
            Place::Discovered(url) => {
                let found = self.discover(url).await?;
                KeySet::parse(&self.get(&found).await?)
            }
        }
    }

    async fn discover(&self, described: &Url) -> Result<Url, &'static str> {
        let found: Value =
            serde_json::from_slice(&self.get(described).await?).map_err(|_| "the issuer's description is not JSON")?;
        let text = |name: &str| found.get(name).and_then(Value::as_str);
        if text("issuer") != Some(&self.issuer) {
            return Err("the description is of another issuer");
        }
        let url = address(text("jwks_uri").ok_or("the issuer's description names no keys")?)?;
        if described.scheme() == "https" && url.scheme() != "https" {
            return Err("an issuer behind TLS has keys that are not");
        }
        Ok(url)
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, &'static str> {
        let request = self.client.get(url.clone()).header("accept", "application/json");
        let mut response = request.send().await.map_err(|_| "the issuer does not answer")?;
        if response.status() != StatusCode::OK {
            return Err("the issuer's answer is not 200");
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| "the issuer's answer broke off")? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err("the issuer's answer is larger than is taken");
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// True if `at` is less than `span` ago. A time to come is not: the clock was set back, and nothing is known.
fn within(now: DateTime<Utc>, at: DateTime<Utc>, span: TimeDelta) -> bool {
    (TimeDelta::zero()..span).contains(&(now - at))
}

/// An address from which keys may come: over TLS, or of this machine.
fn address(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "must be an absolute URL")?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must hold neither user information nor a fragment");
    }
    let here = match url.host() {
        None => return Err("must name a host"),
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        _ => Err("must begin with https://"),
    }
}
