//! Who takes webhooks, and the limit of posting them: as many as a bare HTTP client posts to the same place.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use countersign_chassis::clock::Clock;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::usage;

/// Bodies that are kept, to be posted again.
const KEPT: usize = 1_000;
/// What stands before the time of the event in a body.
const TIMESTAMP: &[u8] = b"\"timestamp\":\"";

/// What came.
#[derive(Default)]
pub struct Taken {
    /// Requests.
    pub count: usize,
    /// Connections.
    pub connections: usize,
    /// How long after its event each came.
    pub lags: Vec<Duration>,
    /// The first bodies.
    pub bodies: Vec<Bytes>,
}

/// Takes everything, over connections that it keeps.
pub struct Sink {
    /// Where: a host each for who posts.
    pub addresses: Vec<SocketAddr>,
    taken: Arc<Mutex<Taken>>,
    runtime: Option<Runtime>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may not block here, and there is nothing to wait for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    /// On so many ports of this machine, with threads of its own.
    pub async fn start(ports: usize) -> Result<Self> {
        let (taken, runtime) = (Arc::<Mutex<Taken>>::default(), crate::runtime(usage::SINK)?);
        let mut addresses = Vec::new();
        for _ in 0..ports {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            addresses.push(listener.local_addr()?);
            runtime.spawn(accept(listener.into_std()?, Arc::clone(&taken)));
        }
        Ok(Self { addresses, taken, runtime: Some(runtime) })
    }

    /// How many came.
    pub fn count(&self) -> usize {
        lock(&self.taken).count
    }

    /// What came, which is forgotten here.
    pub fn take(&self) -> Taken {
        std::mem::take(&mut *lock(&self.taken))
    }
}

async fn accept(listener: std::net::TcpListener, taken: Arc<Mutex<Taken>>) {
    // It belongs to the runtime on which this runs.
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        lock(&taken).connections += 1;
        let taken = Arc::clone(&taken);
        let service = service_fn(move |request| take(request, Arc::clone(&taken)));
        tokio::spawn(server::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn take(request: Request<Incoming>, taken: Arc<Mutex<Taken>>) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let now = Clock::database().now();
    let lag = happened(&body).and_then(|at| (now - at).to_std().ok());
    let mut taken = lock(&taken);
    taken.count += 1;
    taken.lags.extend(lag);
    if taken.bodies.len() < KEPT {
        taken.bodies.push(body);
    }
    Ok(Response::new(Empty::new()))
}

/// The time of the event that a body tells of.
fn happened(body: &[u8]) -> Option<DateTime<Utc>> {
    let begin = body.windows(TIMESTAMP.len()).position(|it| it == TIMESTAMP)? + TIMESTAMP.len();
    let rest = body.get(begin..)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let text = std::str::from_utf8(rest.get(..end)?).ok()?;
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc())
}

/// Signs and posts those bodies again and again, over so many connections; how many in a second.
pub async fn post(address: SocketAddr, bodies: &[Bytes], connections: usize, length: Duration) -> Result<f64> {
    ensure!(!bodies.is_empty(), "nothing to post");
    let bodies: Arc<[Bytes]> = bodies.into();
    let (begun, mut tasks) = (Instant::now(), JoinSet::new());
    for number in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        tasks.spawn(post_on(sender, Arc::clone(&bodies), number, begun + length));
    }
    let mut count = 0;
    while let Some(ended) = tasks.join_next().await {
        count += ended??;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

async fn post_on(
    mut sender: client::SendRequest<Full<Bytes>>,
    bodies: Arc<[Bytes]>,
    from: usize,
    until: Instant,
) -> Result<usize> {
    let (key, mut count) = (hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), 0);
    while Instant::now() < until {
        let body = bodies.get((from + count) % bodies.len()).context("no body")?;
        let signature = hmac::sign(&key, body);
        let request = Request::post("/hook")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("webhook-signature", signature.as_ref().iter().map(|it| format!("{it:02x}")).collect::<String>())
            .body(Full::new(body.clone()))?;
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "the sink said {}", response.status());
        response.into_body().collect().await?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_of_events_are_found_in_bodies() {
        let body = br#"{"type":"envelope.created","timestamp":"2026-01-02T03:04:05.678901Z","data":{}}"#;
        assert_eq!(happened(body).unwrap().timestamp_micros(), 1_767_323_045_678_901);
        assert_eq!(happened(b"{}"), None);
    }
}
