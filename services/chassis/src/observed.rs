//! The body of an answer, watched to its end: there stands how the call ended, and until then its span is open.
//!
//! It must never change what passes through it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use countersign::v1::ErrorReason;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use opentelemetry::trace;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::metrics::{self, CallUnderWay, Side, name_of};

/// A call and its span, until it has ended.
pub(crate) struct Observation {
    side: Side,
    call: CallUnderWay,
    span: Span,
}

impl Observation {
    pub(crate) fn new(side: Side, call: CallUnderWay, span: Span) -> Self {
        Self { side, call, span }
    }

    /// Looks for the end in headers or trailers.
    pub(crate) fn look(&mut self, headers: &HeaderMap) {
        let Some(code) = headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes())) else { return };
        if self.side == Side::Server && code != Code::Ok {
            let reason = reason(headers);
            metrics::refused(reason);
            self.span.set_attribute("countersign.reason", metrics::reason_name(reason));
        }
        self.end(code);
    }

    pub(crate) fn end(&mut self, code: Code) {
        if self.call.has_ended() {
            return;
        }
        self.call.end(code);
        self.span.set_attribute("rpc.response.status_code", name_of(code));
        if self.side.is_error(code) {
            self.span.set_attribute("error.type", name_of(code));
            self.span.set_status(trace::Status::error(""));
        }
    }
}

/// What the caller is told that the reason is; unspecified where it is none of ours.
fn reason(headers: &HeaderMap) -> ErrorReason {
    let told = Status::from_header_map(headers).and_then(|status| status.get_details_error_info());
    let known = told.and_then(|told| ErrorReason::from_str_name(&format!("ERROR_REASON_{}", told.reason)));
    known.unwrap_or(ErrorReason::Unspecified)
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// A body under observation.
pub(crate) struct Observed {
    body: Body,
    observation: Observation,
}

impl Observed {
    pub(crate) fn new(body: Body, observation: Observation) -> Self {
        Self { body, observation }
    }
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let polled = {
            let _within = this.observation.span.enter();
            Pin::new(&mut this.body).poll_frame(context)
        };
        if let Poll::Ready(frame) = &polled {
            match frame {
                Some(Ok(frame)) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        this.observation.look(trailers);
                    }
                }
                Some(Err(status)) => this.observation.end(status.code()),
                // Without a word of how it went.
                None => this.observation.end(Code::Unknown),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
