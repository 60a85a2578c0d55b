//! W3C trace context through gRPC metadata, HTTP headers and stored rows: one trace from the call to the delivery.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
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
        // What vendors keep of a trace (`tracestate`) is nobody's business outside, and mostly empty.
        if key != "traceparent" {
            return;
        }
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

/// Lets a span that begins work go on with the trace kept with a stored row, if there is one.
pub fn go_on(span: &tracing::Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        // Without a tracer the span has no context to take a parent, which is as good.
        let _ = span.set_parent(from_stored(traceparent));
    }
}

/// Puts the current trace context into the headers of an outgoing request.
pub fn into_headers(headers: &mut HeaderMap) {
    opentelemetry::Context::map_current(|current| {
        TraceContextPropagator::new().inject_context(current, &mut HeadersMut(headers));
    });
}

/// The current `traceparent`, to be kept with a row; `None` where nobody is told of the trace: rows are kept for longer than that
/// would be worth.
#[must_use]
pub fn current() -> Option<String> {
    opentelemetry::Context::map_current(|current| {
        let mut collected = Collected(None);
        if current.span().span_context().is_sampled() {
            TraceContextPropagator::new().inject_context(current, &mut collected);
        }
        collected.0
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_nobody_is_told_of_is_handed_on_but_not_kept() {
        for (flags, kept) in [("01", true), ("00", false)] {
            let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            let _within = from_stored(&text).attach();
            assert_eq!(current(), kept.then(|| text.clone()));
            let mut headers = HeaderMap::new();
            into_headers(&mut headers);
            assert_eq!(headers.get("traceparent").unwrap(), text.as_str());
            assert!(headers.get("baggage").is_none());
        }
        assert_eq!(current(), None, "there is no trace");
    }
}
