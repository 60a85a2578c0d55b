//! Calls to another service of ours: each has a span and a duration, and takes its trace along.
//!
//! It must never add to a call anything but its trace.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Code;
use tonic::body::Body;
use tower::Service;
use tracing::Instrument as _;

use crate::metrics::{CallUnderWay, Method, Methods, Side};
use crate::observed::{Observation, Observed};
use crate::{propagation, telemetry};

/// A channel whose calls are observed.
#[derive(Clone, Debug)]
pub struct Outgoing<S> {
    inner: S,
    methods: Arc<Methods>,
}

impl<S> Outgoing<S> {
    /// By that channel.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner, methods: Arc::new(Methods::known()) }
    }
}

impl<S> Service<Request<Body>> for Outgoing<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Method { name, .. } = self.methods.of(request.uri().path());
        let span = tracing::info_span!(
            target: telemetry::WITHIN,
            "client",
            otel.name = &*name,
            otel.kind = "client",
            rpc.system.name = "grpc",
            rpc.method = &*name,
        );
        let mut observation = Observation::new(Side::Client, CallUnderWay::new(Side::Client, name), span.clone());
        span.in_scope(|| propagation::into_headers(request.headers_mut()));
        let answer = self.inner.call(request);
        let call = async move {
            match answer.await {
                Ok(response) => {
                    observation.look(response.headers());
                    Ok(response.map(|body| Body::new(Observed::new(body, observation))))
                }
                Err(error) => {
                    observation.end(Code::Unavailable);
                    Err(error)
                }
            }
        };
        Box::pin(call.instrument(span))
    }
}
