//! The stream of status changes, followed to its end.
//! Must never lose an event: what came is kept, and a broken stream is told to whoever waits.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use countersign::v1;
use countersign::v1::watch_status_changes_response::Item;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::wait::until;
use crate::client::{Envelopes, refused};

#[derive(Default)]
struct Seen {
    events: Vec<v1::Event>,
    beats: usize,
    ended: Option<String>,
}

/// What came on the stream so far. The stream ends when this is dropped.
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Opens the stream and returns when it is on: everything from now on comes.
    pub async fn start(client: &mut Envelopes) -> Result<Self> {
        let request = v1::WatchStatusChangesRequest { start: v1::WatchStart::Now.into(), ..Default::default() };
        let stream = client.watch_status_changes(request).await.map_err(refused("WatchStatusChanges"))?.into_inner();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(follow(stream, Arc::clone(&seen)));
        let watch = Self { seen, _task: AbortOnDropHandle::new(task) };
        until("the first heartbeat of the stream", || watch.look(|seen| (seen.beats > 0).then_some(()))).await?;
        Ok(watch)
    }

    fn look<T>(&self, look: impl FnOnce(&Seen) -> Option<T>) -> Result<Option<T>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (look(&seen), &seen.ended) {
            (None, Some(why)) => Err(anyhow!("the stream of status changes ended: {why}")),
            (found, _) => Ok(found),
        }
    }

    /// Waits for an event.
    pub async fn event(&self, envelope_id: &str, wanted: v1::EventType) -> Result<v1::Event> {
        let is_wanted = |event: &&v1::Event| event.envelope_id == envelope_id && event.r#type() == wanted;
        let what = format!("{} of {envelope_id} on the stream", wanted.dotted());
        until(&what, || self.look(|seen| seen.events.iter().find(is_wanted).cloned())).await
    }

    /// All events of an envelope so far, in the order in which they came.
    pub fn of(&self, envelope_id: &str) -> Vec<v1::Event> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.events.iter().filter(|event| event.envelope_id == envelope_id).cloned().collect()
    }
}

async fn follow(mut stream: Streaming<v1::WatchStatusChangesResponse>, seen: Arc<Mutex<Seen>>) {
    let note = |message: Result<Option<v1::WatchStatusChangesResponse>, Status>| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match message {
            Ok(Some(message)) => match message.item {
                Some(Item::Event(event)) => seen.events.push(event),
                Some(Item::Heartbeat(_)) | None => seen.beats += 1,
            },
            Ok(None) => seen.ended = Some("by the service".to_owned()),
            Err(status) => seen.ended = Some(status.message().to_owned()),
        }
        seen.ended.is_none()
    };
    while note(stream.message().await) {}
}
