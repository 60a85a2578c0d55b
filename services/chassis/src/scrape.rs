//! `GET /metrics` for Prometheus, on an address of its own: whoever may scrape need not reach the API.
//!
//! It must never answer anything else, hold more than a few connections, or keep the process from ending.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

/// Connections at a time: some scrapers, and who looks by hand.
const CONNECTIONS_MAX: usize = 16;
/// How long a request may take to arrive, and a connection to be of use: a scraper that comes every minute keeps its own.
const ARRIVES_IN: Duration = Duration::from_secs(5);
const LIFETIME_MAX: Duration = Duration::from_secs(300);
/// How long nobody is taken in when the machine has no room for another.
const BREATH: Duration = Duration::from_millis(100);

/// Answers scrapers until it is dropped.
pub(crate) struct Scrape {
    address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Scrape {
    /// On that address; port 0 takes a free one.
    pub(crate) fn open(address: SocketAddr, registry: Registry) -> anyhow::Result<Self> {
        let listen = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let listener = listen().with_context(|| format!("metrics listen: {address}"))?;
        let address = listener.local_addr()?;
        Ok(Self { address, _serving: AbortOnDropHandle::new(tokio::spawn(serve(listener, registry))) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(listener: TcpListener, registry: Registry) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Ends with this task: what is under way is dropped with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        // Whoever finds no place is told at once, by a closed connection.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let registry = registry.clone();
        connections.spawn(async move {
            let _ = tokio::time::timeout(LIFETIME_MAX, converse(stream, registry)).await;
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, registry: Registry) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &registry);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(ARRIVES_IN);
    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
}

fn answer(request: &Request<Incoming>, registry: &Registry) -> Response<Full<Bytes>> {
    let told = |status, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert("content-type", http::HeaderValue::from_static(prometheus::TEXT_FORMAT));
        response
    };
    if request.uri().path() != "/metrics" {
        return told(StatusCode::NOT_FOUND, String::new());
    }
    if request.method() != Method::GET {
        let mut response = told(StatusCode::METHOD_NOT_ALLOWED, String::new());
        response.headers_mut().insert("allow", http::HeaderValue::from_static("GET"));
        return response;
    }
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => told(StatusCode::OK, text),
        Err(error) => {
            tracing::error!(error = error.to_string(), "the metrics cannot be told");
            told(StatusCode::INTERNAL_SERVER_ERROR, String::new())
        }
    }
}
