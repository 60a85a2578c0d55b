//! W3C trace context through gRPC metadata, HTTP headers and stored rows: one trace from the call to the delivery.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

struct Headers<'a>(&'a HeaderMap);
struct HeadersMut<'a>(&'a mut HeaderMap);
struct Stored<'a>(&'a str);
struct Collected(Option<String>);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

impl Extractor for Stored<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }
    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

impl Injector for Collected {
    fn set(&mut self, key: &str, value: String) {
        if key == "traceparent" && !value.is_empty() {
            self.0 = Some(value);
        }
    }
}

/// The caller's trace context, from the headers of a request.
#[must_use]
pub fn from_headers(headers: &HeaderMap) -> opentelemetry::Context {
    TraceContextPropagator::new().extract(&Headers(headers))
}

/// The trace context kept with a stored row.
#[must_use]
pub fn from_stored(traceparent: &str) -> opentelemetry::Context {
    TraceContextPropagator::new().extract(&Stored(traceparent))
}

/// Puts the current trace context into the headers of an outgoing request.
pub fn into_headers(headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&tracing::Span::current().context(), &mut HeadersMut(headers));
}

/// The current `traceparent`, to be kept with a row; `None` where there is no trace.
#[must_use]
pub fn current() -> Option<String> {
    let mut collected = Collected(None);
    TraceContextPropagator::new().inject_context(&tracing::Span::current().context(), &mut collected);
    collected.0
}
