//! What every service counts: its calls, its connections, its refusals, its loops. The names are OpenTelemetry's where it has one,
//! else `countersign.…`; docs/operating.md lists them.
//!
//! Never an id, an account, an address or a host as an attribute: every attribute has few values, known beforehand.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use countersign::v1::ErrorReason;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};
use opentelemetry::{KeyValue, StringValue, global};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

/// Bounds of the buckets for what takes as long as a call, in seconds, as the conventions for RPC advise.
pub const CALL_SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// The same for the database, as the conventions for databases advise.
const DATABASE_SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// What stands for methods that there are not: their names are the caller's to choose.
const OTHER: &str = "_OTHER";

/// Makes the instruments of this process. Only once the telemetry has been started do they go anywhere.
#[must_use]
pub fn meter() -> Meter {
    global::meter("countersign")
}

/// A histogram of durations in seconds.
#[must_use]
pub fn seconds(name: &'static str, about: &'static str, bounds: &[f64]) -> Histogram<f64> {
    meter().f64_histogram(name).with_unit("s").with_description(about).with_boundaries(bounds.to_vec()).build()
}

/// A counter of what the unit says, in braces as UCUM has annotations.
#[must_use]
pub fn counter(name: &'static str, unit: &'static str, about: &'static str) -> Counter<u64> {
    meter().u64_counter(name).with_unit(unit).with_description(about).build()
}

/// A gauge of what the unit says.
#[must_use]
pub fn gauge(name: &'static str, unit: &'static str, about: &'static str) -> Gauge<f64> {
    meter().f64_gauge(name).with_unit(unit).with_description(about).build()
}

/// The instruments of the chassis.
pub(crate) struct Instruments {
    server: Histogram<f64>,
    client: Histogram<f64>,
    active: UpDownCounter<i64>,
    shed: Counter<u64>,
    refusals: Counter<u64>,
    replays: Counter<u64>,
    ticks: Counter<u64>,
    connections: UpDownCounter<i64>,
    accepted: Counter<u64>,
    refused: Counter<u64>,
    slowed: Counter<u64>,
    pub(crate) operations: Histogram<f64>,
    pub(crate) waits: Histogram<f64>,
}

/// Made when the first of them is needed: after the telemetry was started.
pub(crate) static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let up_down = |name, unit, about| meter().i64_up_down_counter(name).with_unit(unit).with_description(about).build();
    Instruments {
        server: seconds("rpc.server.call.duration", "Duration of calls that were answered.", &CALL_SECONDS),
        client: seconds("rpc.client.call.duration", "Duration of calls to other services.", &CALL_SECONDS),
        active: up_down("countersign.calls.active", "{call}", "Calls that are being answered, streams included."),
        shed: counter(
            "countersign.calls.shed",
            "{call}",
            "Calls for which there was no turn, no memory, or no connection to the database in time.",
        ),
        refusals: counter("countersign.refusals", "{call}", "Refused calls by the reason that the caller was told."),
        replays: counter(
            "countersign.idempotency.replays",
            "{call}",
            "Calls answered with the reply kept for their key.",
        ),
        ticks: counter("countersign.loop.ticks", "{tick}", "Turns of the service's own loops."),
        connections: up_down("countersign.connections.open", "{connection}", "Connections of callers."),
        accepted: counter("countersign.connections.accepted", "{connection}", "Connections that were taken in."),
        refused: counter(
            "countersign.connections.refused",
            "{connection}",
            "Connections for which there was no place.",
        ),
        slowed: counter(
            "countersign.connections.slowed",
            "{connection}",
            "Connections that said so much of no use that they were heard later.",
        ),
        operations: seconds(
            "db.client.operation.duration",
            "How long a connection was held for a transaction or a statement.",
            &DATABASE_SECONDS,
        ),
        waits: seconds("db.client.connection.wait_time", "How long a connection was waited for.", &DATABASE_SECONDS),
    }
});

/// Lets what alerts ask about be there before it first happens: a counter that appears with its first count seems not to have
/// grown.
pub fn declare() {
    let it = &*INSTRUMENTS;
    it.accepted.add(0, &[]);
    it.refused.add(0, &[]);
    it.slowed.add(0, &[]);
    it.connections.add(0, &[]);
    it.replays.add(0, &[]);
    for of in ["turns", "memory", "database"] {
        it.shed.add(0, &[KeyValue::new("countersign.resource", of)]);
    }
    for reason in [ErrorReason::Internal, ErrorReason::Unavailable] {
        it.refusals.add(0, &[reason_of(reason)]);
    }
}

fn reason_of(reason: ErrorReason) -> KeyValue {
    KeyValue::new("countersign.reason", reason_name(reason))
}

/// A reason as errors name it.
pub(crate) fn reason_name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

/// A call was refused.
pub(crate) fn refused(reason: ErrorReason) {
    INSTRUMENTS.refusals.add(1, &[reason_of(reason)]);
}

/// A call was answered with the reply that was kept for its key.
pub(crate) fn replayed() {
    INSTRUMENTS.replays.add(1, &[]);
}

/// A call found no room.
pub(crate) fn shed(of: &'static str) {
    INSTRUMENTS.shed.add(1, &[KeyValue::new("countersign.resource", of)]);
}

/// A loop had a turn.
pub(crate) fn ticked(name: &'static str, well: bool) {
    let outcome = if well { "ok" } else { "error" };
    let of = [KeyValue::new("countersign.loop", name), KeyValue::new("countersign.outcome", outcome)];
    INSTRUMENTS.ticks.add(1, &of);
}

/// Someone found no place for their connection.
pub(crate) fn turned_away() {
    INSTRUMENTS.refused.add(1, &[]);
}

/// Someone said so much of no use that they are heard later.
pub(crate) fn slowed() {
    INSTRUMENTS.slowed.add(1, &[]);
}

/// An open connection of a caller; closed when dropped.
pub(crate) struct OpenConnection(());

impl OpenConnection {
    pub(crate) fn new() -> Self {
        INSTRUMENTS.accepted.add(1, &[]);
        INSTRUMENTS.connections.add(1, &[]);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        INSTRUMENTS.connections.add(-1, &[]);
    }
}

/// The methods that there are, by their paths, and whether their requests are streams.
#[derive(Debug)]
pub(crate) struct Methods(HashMap<String, Method>);

/// A method as metrics and spans name it.
#[derive(Clone, Debug)]
pub(crate) struct Method {
    pub(crate) name: Arc<str>,
    pub(crate) is_streamed: bool,
}

impl Methods {
    /// Those of the contract, and health.
    pub(crate) fn known() -> Self {
        let sets = [countersign::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
        let files = sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap_or_default().file);
        let mut known = HashMap::new();
        for file in files {
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    let is_streamed = method.client_streaming();
                    known.insert(format!("/{name}"), Method { name: name.into(), is_streamed });
                }
            }
        }
        Self(known)
    }

    pub(crate) fn of(&self, path: &str) -> Method {
        self.0.get(path).cloned().unwrap_or_else(|| Method { name: OTHER.into(), is_streamed: false })
    }
}

/// On which side of a call this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

impl Side {
    /// Whether a call that ended so is an error: what a caller did wrong is none of the server's.
    pub(crate) fn is_error(self, code: Code) -> bool {
        match self {
            Self::Client => code != Code::Ok,
            Self::Server => matches!(
                code,
                Code::Unknown
                    | Code::DeadlineExceeded
                    | Code::Unimplemented
                    | Code::Internal
                    | Code::Unavailable
                    | Code::DataLoss
            ),
        }
    }
}

/// A call under way. One that is dropped before it has ended was given up by whoever made it.
pub(crate) struct CallUnderWay {
    side: Side,
    name: Arc<str>,
    began: Instant,
    ended: bool,
}

impl CallUnderWay {
    pub(crate) fn new(side: Side, name: Arc<str>) -> Self {
        let this = Self { side, name, began: Instant::now(), ended: false };
        if side == Side::Server {
            INSTRUMENTS.active.add(1, &[this.method()]);
        }
        this
    }

    fn method(&self) -> KeyValue {
        KeyValue::new("rpc.method", StringValue::from(Arc::clone(&self.name)))
    }

    /// It has ended so, once.
    pub(crate) fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let of = [
            KeyValue::new("rpc.system.name", "grpc"),
            self.method(),
            KeyValue::new("rpc.response.status_code", name_of(code)),
            KeyValue::new("error.type", name_of(code)),
        ];
        let of = if self.side.is_error(code) { &of[..] } else { &of[..3] };
        let duration = self.began.elapsed().as_secs_f64();
        match self.side {
            Side::Server => {
                INSTRUMENTS.active.add(-1, &[self.method()]);
                INSTRUMENTS.server.record(duration, of);
            }
            Side::Client => INSTRUMENTS.client.record(duration, of),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }
}

impl Drop for CallUnderWay {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// A code as gRPC writes it.
pub(crate) fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_methods_are_known_by_name_and_strangers_are_not() {
        let methods = Methods::known();
        let of = |path| methods.of(path).name.to_string();
        assert_eq!(of("/countersign.v1.EnvelopeService/GetEnvelope"), "countersign.v1.EnvelopeService/GetEnvelope");
        assert_eq!(of("/grpc.health.v1.Health/Check"), "grpc.health.v1.Health/Check");
        assert_eq!(of("/countersign.v1.EnvelopeService/GetEnvelopes"), OTHER);
        assert!(methods.of("/countersign.v1.EnvelopeService/UploadDocument").is_streamed);
        assert!(!methods.of("/countersign.v1.EnvelopeService/GetEnvelope").is_streamed);
    }

    #[test]
    fn d1_what_a_caller_did_wrong_is_no_error_of_the_server() {
        for code in [Code::Ok, Code::NotFound, Code::Unauthenticated, Code::Cancelled, Code::ResourceExhausted] {
            assert!(!Side::Server.is_error(code), "{code:?}");
        }
        for code in [Code::Internal, Code::Unavailable, Code::DeadlineExceeded, Code::DataLoss, Code::Unimplemented] {
            assert!(Side::Server.is_error(code), "{code:?}");
        }
        assert!(Side::Client.is_error(Code::NotFound) && !Side::Client.is_error(Code::Ok));
    }
}
