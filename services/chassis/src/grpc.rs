//! The gRPC shell: the server with its bounds, health, reflection, drain, and what surrounds every call.
//!
//! Around every call: trace context, a request id, and a panic becomes INTERNAL for that call alone.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use countersign::v1::ErrorReason;
use futures_util::FutureExt as _;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::config::ListenConfig;
use crate::problem::{CALL, CallFacts, Problem};
use crate::{propagation, tls};

/// Calls at a time on one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 100;
/// Size of all headers of a call.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// A larger HTTP/2 window lets a document travel without a stop at every 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// Installs the TLS provider that all clients and servers of the process use. Harmless when repeated.
pub fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Serves until `stop`, then lets open calls end for as long as the settings allow.
///
/// `names` are the services whose health is told by name, besides the server's own.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    names: &[&'static str],
    config: &ListenConfig,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    for name in names {
        health.set_service_status(name, tonic_health::ServingStatus::Serving).await;
    }
    let mut routes = routes.add_service(health_service);
    if config.reflection {
        routes = routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);
    }
    let mut server = Server::builder();
    if let Some(tls) = tls::server(&config.tls)? {
        server = server.tls_config(tls).context("TLS")?;
    }
    let server = server
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(4 * STREAM_WINDOW_BYTES)
        .layer(CallLayer { help_url: config.help_url.as_str().into() })
        .add_routes(routes);
    // The builder's own setting counts only where it opens the listener. Without it small answers wait for 40 ms.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let running = server.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let mut running = std::pin::pin!(running);
    tokio::select! {
        ended = &mut running => return ended.context("gRPC server"),
        () = stop.cancelled() => {}
    }
    for name in names {
        health.set_service_status(name, tonic_health::ServingStatus::NotServing).await;
    }
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    match tokio::time::timeout(config.drain(), running).await {
        Ok(ended) => ended.context("gRPC server"),
        Err(_) => {
            tracing::warn!("calls still open at the end of the drain were cut");
            Ok(())
        }
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(countersign::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // For the details of errors, which clients would otherwise print as opaque bytes.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// Ends with the first SIGTERM or Ctrl-C.
pub async fn termination() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Surrounds every call, see the module.
#[derive(Clone, Debug)]
pub struct CallLayer {
    help_url: Arc<str>,
}

impl<S> Layer<S> for CallLayer {
    type Service = Call<S>;
    fn layer(&self, inner: S) -> Call<S> {
        Call { inner, help_url: Arc::clone(&self.help_url) }
    }
}

/// A call with its surroundings.
#[derive(Clone, Debug)]
pub struct Call<S> {
    inner: S,
    help_url: Arc<str>,
}

impl<S> Service<Request<Body>> for Call<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let request_id = format!("req_{:032x}", u128::from_be_bytes(crate::keys::random()));
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let span = tracing::info_span!(
            "call",
            otel.name = method,
            otel.kind = "server",
            rpc.system.name = "grpc",
            rpc.method = method,
            request_id,
        );
        // Without a tracer the span has no context to take a parent, which is as good.
        let _ = span.set_parent(propagation::from_headers(request.headers()));
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        let facts = CallFacts { request_id, help_url: Arc::clone(&self.help_url) };
        let call = async move {
            let answered = match AssertUnwindSafe(ready.call(request)).catch_unwind().await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => {
                    tracing::error!("a handler panicked");
                    Status::from(Problem::internal()).into_http()
                }
            };
            Ok(explain(answered))
        };
        Box::pin(CALL.scope(facts, call).instrument(span))
    }
}

/// What the decoder refuses never reaches a handler: word its refusals as the contract does.
fn explain(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange && status.message().contains("message length too large") => {
            let problem = Problem::new(ErrorReason::OutOfScopeV1, "The request is larger than the service takes.");
            Status::from(problem.with("limit", "message_bytes_max")).into_http()
        }
        Some(status) if status.code() == Code::Internal && status.details().is_empty() && is_undecodable(&status) => {
            Status::from(Problem::new(ErrorReason::InvalidField, "The request is not a message of this call."))
                .into_http()
        }
        _ => response,
    }
}

/// What tonic says of bytes that are no message, before any handler sees them.
fn is_undecodable(status: &Status) -> bool {
    ["failed to decode", "Missing request message", "protocol error"].iter().any(|text| status.message().contains(text))
}
