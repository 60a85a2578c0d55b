//! What surrounds every call: its trace, its id, its deadline, and its turn.
//!
//! A panic becomes INTERNAL for that call alone, a deadline that passes DEADLINE_EXCEEDED, and a call for which there is no
//! turn is refused before anything of it is done.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use countersign::v1::ErrorReason;
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::arriving::{Arriving, Room, Share};
use crate::metrics::{self, CallUnderWay, Method, Methods, Side};
use crate::observed::{Observation, Observed};
use crate::pool::Pool;
use crate::problem::{CALL, CallFacts, Problem};
use crate::{propagation, telemetry};

/// How long a call may take that sends its request at once, arrival included; whoever sends one for longer is bounded by its
/// handler. Longer than the longest honest one: a document waits for a child and is read by it.
const CALL_MAX: Duration = Duration::from_secs(180);
/// The header by which a caller says how long it will wait.
const TIMEOUT: &str = "grpc-timeout";
/// Calls of other contracts that are answered even when there is no turn: health and reflection.
pub(crate) const STANDARD: &str = "/grpc.";

/// Surrounds every call, see the module.
#[derive(Clone, Debug)]
pub struct CallLayer(Arc<Shell>);

/// What all calls share.
#[derive(Debug)]
struct Shell {
    help_url: Arc<str>,
    room: Arc<Room>,
    /// Those whose requests are streams go on for as long as their sender takes, and have bounds of their own.
    methods: Methods,
}

impl CallLayer {
    /// With so many calls at a time, and fewer while the line for a database stays long.
    #[must_use]
    pub fn new(help_url: &str, calls_max: usize, database: Option<Pool>) -> Self {
        let room = Arc::new(Room::new(calls_max, database));
        Self(Arc::new(Shell { help_url: help_url.into(), room, methods: Methods::known() }))
    }
}

impl Shell {
    /// Refuses a call for which there is no room. Of thousands a second those that have a turn must not notice: there is no span
    /// of it and no look at who calls, and it is only counted.
    fn turn_away(&self, lacks: &'static str, name: Arc<str>, request_id: String) -> Response<Body> {
        let mut call = CallUnderWay::new(Side::Server, name);
        metrics::shed(lacks);
        metrics::refused(ErrorReason::Unavailable);
        call.end(Code::Unavailable);
        let facts = CallFacts { request_id, help_url: Arc::clone(&self.help_url) };
        CALL.sync_scope(facts, || refused(Problem::overloaded()))
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = Call<S>;
    fn layer(&self, inner: S) -> Call<S> {
        Call { inner, shell: Arc::clone(&self.0) }
    }
}

/// A call with its surroundings.
#[derive(Clone, Debug)]
pub struct Call<S> {
    inner: S,
    shell: Arc<Shell>,
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
        let path = request.uri().path();
        let Method { name, is_streamed } = self.shell.methods.of(path);
        let is_bounded = !is_streamed && !path.starts_with(STANDARD);
        if is_bounded && let Some(lacks) = self.shell.room.lacks() {
            return Box::pin(ready(Ok(self.shell.turn_away(lacks, name, request_id))));
        }
        let span = span(path, &name, &request_id, request.headers());
        let mut observation = Observation::new(Side::Server, CallUnderWay::new(Side::Server, name), span.clone());
        let share = Share::default();
        let request = if is_bounded {
            request.map(|body| Body::new(Arriving::new(body, Arc::clone(&self.shell.room), share.clone())))
        } else {
            request
        };
        let time_max = match (time_max(request.headers()), is_streamed) {
            (None, true) => None,
            (told, true) => told,
            (told, false) => Some(told.map_or(CALL_MAX, |told| told.min(CALL_MAX))),
        };
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let facts = CallFacts { request_id, help_url: Arc::clone(&self.shell.help_url) };
        let call = async move {
            let answer = AssertUnwindSafe(async { inner.call(request).await }).catch_unwind();
            let answered = match time_max {
                Some(max) => tokio::time::timeout(max, answer).await,
                None => Ok(answer.await),
            };
            let answered = match answered {
                Ok(Ok(Ok(response))) => explain(response),
                Ok(Ok(Err(never))) => match never {},
                Ok(Err(_)) => {
                    tracing::error!("a handler panicked");
                    refused(Problem::internal())
                }
                Err(_) => refused(Problem::deadline_exceeded()),
            };
            drop(share);
            crate::failpoint!("call.answering");
            observation.look(answered.headers());
            Ok(answered.map(|body| Body::new(Observed::new(body, observation))))
        };
        Box::pin(CALL.scope(facts, call).instrument(span))
    }
}

/// The span of a call, in its caller's trace. Probes ask for health all day long: of them nobody is told.
fn span(path: &str, method: &str, request_id: &str, headers: &HeaderMap) -> Span {
    if path.starts_with(STANDARD) {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: telemetry::ROOT,
        "call",
        otel.name = method,
        otel.kind = "server",
        rpc.system.name = "grpc",
        rpc.method = method,
        request_id,
    );
    // Without a tracer the span has no context to take a parent, which is as good.
    let _ = span.set_parent(propagation::from_headers(headers));
    span
}

fn refused(problem: Problem) -> Response<Body> {
    Status::from(problem).into_http()
}

/// How long the caller will wait, as gRPC over HTTP/2 writes it: at most eight digits and a unit.
fn time_max(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let told = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, text.parse().unwrap());
            time_max(&headers)
        };
        assert_eq!(told("1500m"), Some(Duration::from_millis(1_500)));
        assert_eq!(told("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!((told("0S"), told("7M")), (Some(Duration::ZERO), Some(Duration::from_secs(420))));
        assert_eq!((told("12u"), told("12n")), (Some(Duration::from_micros(12)), Some(Duration::from_nanos(12))));
        for none in ["", "S", "1", "1.5S", "-1S", "+1S", "999999999S", "1s", "1\u{e9}"] {
            assert_eq!(told(none), None, "{none}");
        }
        assert_eq!(time_max(&HeaderMap::new()), None);
    }
}
