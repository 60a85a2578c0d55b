//! Follows the status stream, a partition at a time. What follows from a batch of events and the place behind it are stored
//! together, under the lease of the partition: whatever happens to this process, each event is planned once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{Event, WatchStart, WatchStatusChangesRequest, WatchStatusChangesResponse};
use countersign_chassis::failpoint;
use countersign_chassis::ticker::Progress;
use countersign_chassis::wire::datetime;
use countersign_chassis::{propagation, telemetry};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use tracing::Span;

use crate::envelopes::Envelopes;
use crate::measure;
use crate::sink::{Sink, Traces, Work};
use crate::store::{Lease, Store};

/// Events that are planned together at most.
const BATCH_MAX: usize = 100;
/// How long a batch waits for more events.
const BATCH_WAIT: Duration = Duration::from_millis(15);
/// A stream that says nothing for so long, not even a heartbeat, is dead.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// How often a heartbeat moves the stored place.
const HEARTBEAT_KEPT: Duration = Duration::from_secs(30);

/// Batches that are planned and stored at once, of all partitions.
pub const AT_ONCE: usize = 4;

/// The consumer of the stream.
#[derive(Clone)]
pub struct Feed {
    /// Where the place and the work are kept.
    pub store: Store,
    /// Where the events come from.
    pub envelopes: Envelopes,
    /// Where the events go.
    pub sinks: Arc<[Box<dyn Sink>]>,
    /// Places to plan and store a batch, so that a long feed does not take all connections.
    pub places: Arc<Semaphore>,
}

impl Feed {
    /// Follows one stream to its end, or until `stop`. To be run again and again.
    pub async fn tick(&self, lease: Lease, stop: &CancellationToken) -> anyhow::Result<Progress> {
        let Some(mut token) = self.store.resume_token(lease).await? else { return Ok(Progress::Idle) };
        let request = WatchStatusChangesRequest {
            resume_token: token.clone(),
            start: WatchStart::Oldest.into(),
            partitions: vec![lease.partition.into()],
            ..WatchStatusChangesRequest::default()
        };
        let mut stream = match self.envelopes.watch(request).await {
            Ok(stream) => stream,
            Err(status) => return self.refused(lease, &token, status, stop).await,
        };
        let mut kept = Instant::now();
        // A stream says that it lives before it says what has happened.
        let mut has_begun = false;
        loop {
            let batch = tokio::select! {
                batch = next_batch(&mut stream) => batch,
                () = stop.cancelled() => return Ok(Progress::Idle),
            };
            let batch = match batch {
                Ok(Some(batch)) => batch,
                // A clean end: the server drains or the stream is old.
                Ok(None) => return Ok(Progress::Idle),
                Err(status) => return self.refused(lease, &token, status, stop).await,
            };
            let quiet = batch.events.is_empty();
            let seen = batch.seen.filter(|_| has_begun || !quiet);
            has_begun = true;
            if let (true, Some(at)) = (quiet, seen) {
                measure::reached(lease.partition, at);
            }
            if quiet && kept.elapsed() < HEARTBEAT_KEPT && !token.is_empty() {
                continue;
            }
            let _place = self.places.acquire().await?;
            let _processing = batch.spans();
            let work = self.plan(&batch.events, &batch.traces).await?;
            if !batch.events.is_empty() {
                failpoint!("feed.planned");
            }
            if !self.store.advance(lease, &token, &batch.resume_token, &work).await? {
                tracing::info!(partition = lease.partition, "another process follows this partition now");
                return Ok(Progress::Idle);
            }
            token = batch.resume_token;
            kept = Instant::now();
            work.iter().for_each(|work| work.kept());
            if let (false, Some(at)) = (quiet, seen) {
                measure::reached(lease.partition, at);
            }
        }
    }

    async fn plan(&self, events: &[Event], traces: &Traces) -> anyhow::Result<Vec<Box<dyn Work>>> {
        let mut all = Vec::with_capacity(self.sinks.len());
        if !events.is_empty() {
            for sink in self.sinks.iter() {
                all.push(sink.plan(events, traces).await?);
            }
        }
        Ok(all)
    }

    /// The stream was refused or broke.
    async fn refused(
        &self,
        lease: Lease,
        token: &str,
        status: Status,
        stop: &CancellationToken,
    ) -> anyhow::Result<Progress> {
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        if matches!(reason.as_str(), "RESUME_TOKEN_TOO_OLD" | "FEED_INCARNATION") {
            tracing::error!(
                partition = lease.partition,
                reason,
                "the feed cannot be resumed; starting over at its oldest event"
            );
            self.store.start_over(lease, token).await?;
            return Ok(Progress::Busy);
        }
        if stop.is_cancelled() || status.code() == Code::Ok {
            return Ok(Progress::Idle);
        }
        anyhow::bail!("the stream broke: {:?} {reason}", status.code());
    }
}

/// Events that came close together, and the token behind the last.
struct Batch {
    events: Vec<Event>,
    /// In which traces they happened.
    traces: Traces,
    resume_token: String,
    /// Up to when it tells everything.
    seen: Option<DateTime<Utc>>,
}

impl Batch {
    /// A span for each of the events that have a trace, open until they are dropped.
    fn spans(&self) -> Vec<Span> {
        self.traces
            .values()
            .map(|traceparent| {
                let span = tracing::info_span!(
                    target: telemetry::ROOT,
                    "process",
                    otel.name = "process countersign.events",
                    otel.kind = "consumer",
                    messaging.system = "countersign",
                    messaging.operation.name = "process",
                    messaging.operation.r#type = "process",
                    messaging.destination.name = "countersign.events",
                );
                propagation::go_on(&span, Some(traceparent));
                span.in_scope(|| ());
                span
            })
            .collect()
    }
}

async fn next_batch(stream: &mut Streaming<WatchStatusChangesResponse>) -> Result<Option<Batch>, Status> {
    let mut batch = Batch { events: Vec::new(), traces: Traces::new(), resume_token: String::new(), seen: None };
    let mut deadline = Instant::now() + SILENCE_MAX;
    loop {
        match timeout_at(deadline, stream.message()).await {
            Ok(Ok(Some(message))) => {
                batch.resume_token = message.resume_token;
                let event = match message.item {
                    Some(Item::Event(event)) => event,
                    // All that happened before it has been told.
                    Some(Item::Heartbeat(beat)) => {
                        batch.seen = beat.at.as_ref().and_then(datetime).or(batch.seen);
                        return Ok(Some(batch));
                    }
                    None => return Ok(Some(batch)),
                };
                batch.seen = event.occurred_at.as_ref().and_then(datetime).or(batch.seen);
                if let (false, Ok(id)) = (message.traceparent.is_empty(), event.id.parse()) {
                    batch.traces.insert(id, message.traceparent);
                }
                if batch.events.is_empty() {
                    deadline = Instant::now() + BATCH_WAIT;
                }
                batch.events.push(event);
                if batch.events.len() >= BATCH_MAX {
                    return Ok(Some(batch));
                }
            }
            // What came before the end is planned first; the next look finds the end again.
            _ if !batch.events.is_empty() => return Ok(Some(batch)),
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(status)) => return Err(status),
            Err(_) => return Err(Status::unavailable("silent for too long")),
        }
    }
}
