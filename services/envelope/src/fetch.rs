//! Documents from addresses that callers name: to nowhere but where the guard allows, within bounds of time, bytes and
//! redirects.
//!
//! Must never send a credential, believe what the other side says about the content, hold it in memory while it comes, or tell
//! an address: what went wrong is told as a class.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use countersign_chassis::guard::{Guard, NotFound, NotPublic};
use futures_util::StreamExt as _;
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};

use crate::spool::Spool;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 3;

/// How long and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Until there is a connection.
    pub connect: Duration,
    /// Of the whole: names, connections, redirects, answer with its body.
    pub total: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(60) }
    }
}

/// Why nothing was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The address, or one to which it leads, is not public or otherwise not allowed.
    #[error("the address may not be fetched")]
    NotAllowed,
    /// There is nothing for everybody at the address.
    #[error("the address answers with the HTTP status {0}")]
    Status(u16),
    /// More than is taken.
    #[error("what is at the address is too large")]
    TooLarge,
    /// It leads on and on.
    #[error("the address redirects more than {REDIRECTS_MAX} times, or to nowhere")]
    Redirects,
    /// The other side is not there, or not well: another try makes sense.
    #[error("the address does not answer ({0})")]
    Away(&'static str),
    /// Nothing to do with the address.
    #[error("what is at the address cannot be kept here ({0})")]
    Disk(std::io::ErrorKind),
}

/// Fetches.
pub struct Fetcher {
    guard: Guard,
    client: Client,
    bounds: Bounds,
}

impl Fetcher {
    /// From where the guard allows.
    pub fn new(guard: Guard, bounds: Bounds) -> anyhow::Result<Self> {
        let client = Client::builder()
            .dns_resolver(Arc::new(guard.clone()))
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .referer(false)
            .connect_timeout(bounds.connect)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("Countersign/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("HTTP client")?;
        Ok(Self { guard, client, bounds })
    }

    /// What is wrong with an address by itself.
    pub fn check(&self, address: &str) -> Result<(), &'static str> {
        self.guard.check(address).map(drop)
    }

    /// The bytes at an address.
    pub async fn fetch(&self, address: &str, bytes_max: usize) -> Result<Spool, FetchError> {
        let exchange = async {
            let mut url = self.guard.check(address).map_err(|_| FetchError::NotAllowed)?;
            for _ in 0..=REDIRECTS_MAX {
                let sent = self.client.get(url.clone()).send().await;
                let response = sent.map_err(|error| class(&error))?;
                match response.status() {
                    StatusCode::OK => return read(response, bytes_max).await,
                    status if status.is_redirection() => url = self.next(&url, &response)?,
                    StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                        return Err(FetchError::Away("status"));
                    }
                    status if status.is_server_error() => return Err(FetchError::Away("status")),
                    status => return Err(FetchError::Status(status.as_u16())),
                }
            }
            Err(FetchError::Redirects)
        };
        tokio::time::timeout(self.bounds.total, exchange).await.unwrap_or(Err(FetchError::Away("timeout")))
    }

    /// Where a redirect leads: looked at like the first address.
    fn next(&self, from: &Url, response: &Response) -> Result<Url, FetchError> {
        let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).ok_or(FetchError::Redirects)?;
        let mut to = from.join(to).map_err(|_| FetchError::Redirects)?;
        to.set_fragment(None);
        if from.scheme() == "https" && to.scheme() != "https" {
            return Err(FetchError::NotAllowed);
        }
        self.guard.check(to.as_str()).map_err(|_| FetchError::NotAllowed)
    }
}

/// Never more than the most, whatever the other side says.
async fn read(response: Response, bytes_max: usize) -> Result<Spool, FetchError> {
    if response.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Err(FetchError::TooLarge);
    }
    let disk = |error: std::io::Error| FetchError::Disk(error.kind());
    let (mut came, mut stream) = (Spool::new().map_err(disk)?, response.bytes_stream());
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| FetchError::Away("broken_answer"))?;
        if came.size_bytes() + chunk.len() > bytes_max {
            return Err(FetchError::TooLarge);
        }
        came.write(&chunk).await.map_err(disk)?;
    }
    Ok(came)
}

fn class(error: &reqwest::Error) -> FetchError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<NotPublic>() {
            return FetchError::NotAllowed;
        }
        if error.is::<NotFound>() {
            return FetchError::Away("name_not_found");
        }
        cause = error.source();
    }
    FetchError::Away(if error.is_timeout() { "timeout" } else { "no_connection" })
}
