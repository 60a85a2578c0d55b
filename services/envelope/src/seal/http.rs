//! The way to those who answer for seals: timestamping authorities, responders, places of revocation lists.
//!
//! It must never wait long, read without bound, or follow elsewhere, nor tell an address, which may hold a password.

use std::time::Duration;

use anyhow::Context as _;
use countersign_chassis::grpc;
use futures_util::StreamExt as _;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};

/// How long one of them may take.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

pub(super) fn client() -> anyhow::Result<Client> {
    grpc::install_tls_provider();
    Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .timeout(ANSWER_MAX)
        .user_agent(concat!("Countersign/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("HTTP client")
}

/// What is answered, if it is an answer and no longer than that.
pub(super) async fn ask(request: RequestBuilder, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let answer = request.send().await.map_err(reqwest::Error::without_url)?;
    let status = answer.status();
    anyhow::ensure!(status.is_success(), "it answered with HTTP {}", status.as_u16());
    let mut body = answer.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(part) = body.next().await {
        let part = part.map_err(reqwest::Error::without_url)?;
        anyhow::ensure!(bytes.len() + part.len() <= bytes_max, "its answer is longer than {bytes_max} bytes");
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}
