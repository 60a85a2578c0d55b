//! What the service does by itself.

use chrono::{DateTime, Utc};

use super::{after, lacks};
use crate::domain::command::NewArtifact;
use crate::domain::envelope::{Cause, Envelope, Ingest};
use crate::domain::event::Event;
use crate::domain::id::{DocumentId, SourceId};
use crate::domain::ingest::{FaultReason, IngestFault, Reading};
use crate::domain::refusal::Why;
use crate::domain::routing::to_release;
use crate::domain::status::Status;

/// True when all is there to release the first recipients and the time has come.
pub(super) fn is_due(envelope: &Envelope, now: DateTime<Utc>) -> bool {
    envelope.ingest() == Ingest::Ready && envelope.terms.scheduled_send_at.is_none_or(|at| at <= now)
}

/// The envelope is on its way, and the first recipients are asked.
pub(super) fn start(envelope: &Envelope, now: DateTime<Utc>) -> Vec<Event> {
    let mut events = vec![Event::Sent];
    let sent = after(envelope, &events, now);
    events.extend(to_release(&sent).into_iter().map(|recipient| Event::Released { recipient }));
    events
}

pub(super) fn release(envelope: &Envelope, now: DateTime<Utc>) -> Vec<Event> {
    let waits = envelope.status() == Status::Pending;
    if waits && is_due(envelope, now) { start(envelope, now) } else { Vec::new() }
}

pub(super) fn ingest(
    envelope: &Envelope,
    (id, source): (DocumentId, Option<SourceId>),
    reading: &Reading,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, Why> {
    let document = envelope.document(id).ok_or(Why::NoSuchDocument)?;
    let over = envelope.status().is_terminal() || envelope.facts.discarded_at.is_some();
    let other = document.awaits.as_ref().map(|awaited| awaited.id) != source;
    if over || other || document.ingest != Ingest::Processing {
        return Ok(Vec::new());
    }
    let waits = envelope.status() == Status::Pending;
    let ingested = |reading: &Reading| vec![Event::Ingested { document: id, reading: reading.clone() }];
    let mut events = ingested(reading);
    let mut read = after(envelope, &events, now);
    // What could not be looked at when it was dispatched. In a draft it is the sender's to put right.
    let mut lacks = if waits && read.ingest() != Ingest::Failed { lacks(&read, now) } else { Vec::new() };
    if matches!(reading, Reading::Ready(it) if !it.fields.is_empty() && read.fields.len() > it.fields_max) {
        lacks.push("The envelope would have too many fields.");
    }
    if !lacks.is_empty() {
        events = ingested(&Reading::Failed(IngestFault::new(FaultReason::DoesNotFit, lacks.join(" "))));
        read = after(envelope, &events, now);
    }
    if waits && read.ingest() == Ingest::Failed {
        events.push(Event::Voided { cause: Cause::IngestFailed, reason: None });
    }
    events.extend(release(&read, now));
    Ok(events)
}

pub(super) fn warn(envelope: &Envelope, now: DateTime<Utc>) -> Vec<Event> {
    if envelope.warning_at().is_some_and(|at| at <= now) { vec![Event::Expiring] } else { Vec::new() }
}

pub(super) fn store(envelope: &Envelope, artifacts: &[NewArtifact]) -> Result<Vec<Event>, Why> {
    let artifacts = artifacts.to_vec();
    let made = envelope.documents.iter().any(|document| !document.artifacts.is_empty());
    match envelope.status() {
        Status::Completed => Ok(Vec::new()),
        Status::Declined if made => Ok(Vec::new()),
        // Somebody had the content removed before its evidence was made: it must not come back.
        Status::Declined if envelope.keeping.is_purged() => Err(Why::Purged),
        Status::Declined => Ok(vec![Event::ArtifactReady { artifacts }]),
        Status::Sent | Status::PartiallySigned if envelope.facts.all_acted_at.is_some() => {
            Ok(vec![Event::Completed { artifacts }])
        }
        Status::Draft | Status::Pending | Status::Sent | Status::PartiallySigned | Status::Voided | Status::Expired => {
            Err(Why::State)
        }
    }
}
