//! Connections to the database as they are held: for how long, for what, and how long they were waited for.
//!
//! Must never look at a statement or its parameters: what a connection is for is told by the room that asked for it, a name of
//! ours. One is held for a transaction or for one statement, so that is what is measured.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::time::Instant;

use diesel_async::AsyncPgConnection;
use opentelemetry::KeyValue;
use opentelemetry::trace::Status;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::database::DatabaseError;
use crate::metrics::{INSTRUMENTS, meter};
use crate::pool::{Place, Pool};
use crate::telemetry;

/// A connection of the pool, until it is given back.
pub struct Connection {
    inner: Place,
    operation: &'static str,
    since: Instant,
    span: Span,
    failed: bool,
}

/// Takes a connection from the pool, for whatever the room of the caller does.
#[track_caller]
pub fn acquire(pool: &Pool) -> impl Future<Output = Result<Connection, DatabaseError>> + Send + use<'_> {
    acquire_for(pool, room(Location::caller()))
}

/// The file of the code that asked, without its folders: there are as many as rooms of the stores.
#[must_use]
pub fn room(at: &'static Location<'static>) -> &'static str {
    let file = at.file();
    let mut parts = file.rsplit(['/', '\\']);
    let name = parts.next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
    if name == "mod" { parts.next().unwrap_or(name) } else { name }
}

pub(crate) async fn acquire_for(pool: &Pool, operation: &'static str) -> Result<Connection, DatabaseError> {
    let span = tracing::info_span!(
        target: telemetry::WITHIN,
        "database",
        otel.name = operation,
        otel.kind = "client",
        db.system.name = "postgresql",
        db.operation.name = operation,
    );
    let asked = Instant::now();
    let got = pool.get().await;
    INSTRUMENTS.waits.record(asked.elapsed().as_secs_f64(), &[]);
    let inner = got.ok_or_else(|| {
        span.set_status(Status::error("no connection in time"));
        DatabaseError::Busy
    })?;
    Ok(Connection { inner, operation, since: Instant::now(), span, failed: false })
}

impl Connection {
    /// Whether it counts as an error if it were given back now.
    pub(crate) fn set_failed(&mut self, failed: bool) {
        self.failed = failed;
    }
}

impl Deref for Connection {
    type Target = AsyncPgConnection;
    fn deref(&self) -> &AsyncPgConnection {
        &self.inner
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.inner
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let of = [
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.operation.name", self.operation),
            // Given back without an answer to COMMIT or ROLLBACK.
            KeyValue::new("error.type", "unanswered"),
        ];
        if self.failed {
            self.span.set_attribute("error.type", "unanswered");
            self.span.set_status(Status::error(""));
        }
        INSTRUMENTS.operations.record(self.since.elapsed().as_secs_f64(), if self.failed { &of } else { &of[..2] });
    }
}

/// Tells of a pool what it knows of itself, whenever somebody asks.
pub fn observe(pool: &Pool, name: &'static str) {
    let of = move || KeyValue::new("db.client.connection.pool.name", name);
    let (counted, waiting, late) = (pool.clone(), pool.clone(), pool.clone());
    let most = pool.size_max();
    let meter = meter();
    meter
        .i64_observable_up_down_counter("db.client.connection.count")
        .with_unit("{connection}")
        .with_description("Connections to the database by whether they are in use.")
        .with_callback(move |observer| {
            let state = counted.state();
            let used = state.connections.saturating_sub(state.idle_connections);
            observer
                .observe(state.idle_connections.into(), &[of(), KeyValue::new("db.client.connection.state", "idle")]);
            observer.observe(used.into(), &[of(), KeyValue::new("db.client.connection.state", "used")]);
        })
        .build();
    meter
        .i64_observable_up_down_counter("db.client.connection.max")
        .with_unit("{connection}")
        .with_description("Connections that there may be.")
        .with_callback(move |observer| observer.observe(most.into(), &[of()]))
        .build();
    meter
        .i64_observable_up_down_counter("db.client.connection.pending_requests")
        .with_unit("{request}")
        .with_description("Who waits for a connection.")
        .with_callback(move |observer| {
            observer.observe(i64::try_from(waiting.waiting()).unwrap_or(i64::MAX), &[of()]);
        })
        .build();
    meter
        .u64_observable_counter("db.client.connection.timeouts")
        .with_unit("{timeout}")
        .with_description("Who waited for a connection in vain.")
        .with_callback(move |observer| observer.observe(late.timeouts(), &[of()]))
        .build();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_named_by_its_room() {
        assert_eq!(room(Location::caller()), "held");
    }
}
