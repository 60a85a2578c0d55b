//! WatchStatusChanges: a task for each stream, which reads the feed at its consumer's pace. What it holds is bounded: a page,
//! and a few messages on their way.

use std::sync::Arc;
use std::time::Duration;

use countersign::v1;
use countersign::v1::watch_status_changes_response::Item;
use countersign_chassis::problem::{CALL, Problem};
use countersign_chassis::wire::timestamp;
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::auth::Sender;
use super::reading::Reading;
use super::{Context, Handler};
use crate::store::Heads;
use crate::tail::{End, Told};

/// How long a stream waits for the first look at the feed after a start.
const START_WAIT: Duration = Duration::from_secs(10);
/// Events that a stream holds at a time.
const PAGE_MAX: usize = 256;
/// Bytes of those events, as they travel.
const BYTES_MAX: usize = 256 * 1024;
/// How long a look at the credential is good for while a page is told.
const STILL_FOR: Duration = Duration::from_secs(5);
/// Messages on their way to the consumer.
const ON_THEIR_WAY_MAX: usize = 16;

impl Handler {
    pub(super) async fn watch(
        &self,
        sender: Option<Sender>,
        request: v1::WatchStatusChangesRequest,
        leaving: CancellationToken,
    ) -> Result<impl Stream<Item = Result<v1::WatchStatusChangesResponse, Status>> + Send + use<>, Status> {
        let mut end = self.0.tail.end();
        let heads = known(&mut end).await?;
        if !self.0.tail.sees() {
            return Err(Problem::unavailable().into());
        }
        let whose = sender.as_ref().map(|sender| (sender.scope.account, sender.key));
        let reading = Reading::new(&self.0, sender, &request, &heads)?;
        reading.check(&self.0, &heads).await?;
        let seat = self.0.seats.take(whose)?;
        let (consumer, mut told) = mpsc::channel(ON_THEIR_WAY_MAX);
        let now = Instant::now();
        let telling = Telling { handler: self.clone(), reading, end, leaving, consumer, told_at: now, asked_at: now };
        let task = AbortOnDropHandle::new(match CALL.try_with(Clone::clone) {
            // What the task says at its end is said of this call.
            Ok(facts) => tokio::spawn(CALL.scope(facts, telling.run())),
            Err(_) => tokio::spawn(telling.run()),
        });
        Ok(async_stream::stream! {
            // As long as there is something on its way, also behind the task's end: that is memory.
            let _seat = seat;
            while let Some(message) = told.recv().await {
                yield Ok(message);
            }
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(status)) => yield Err(status),
                Err(_) => {
                    tracing::error!("a stream panicked");
                    yield Err(Problem::internal().into());
                }
            }
        })
    }
}

/// The end of the feed, once it has been looked at.
pub(super) async fn known(end: &mut End) -> Result<Heads, Status> {
    let seen = tokio::time::timeout(START_WAIT, end.wait_for(Option::is_some)).await;
    let heads = seen.ok().and_then(Result::ok).and_then(|heads| *heads);
    heads.ok_or_else(|| Problem::unavailable().into())
}

/// A stream and its consumer.
struct Telling {
    handler: Handler,
    reading: Reading,
    end: End,
    /// When the stream ends, so that its client moves to new replicas in its own time.
    leaving: CancellationToken,
    consumer: mpsc::Sender<v1::WatchStatusChangesResponse>,
    /// When the consumer took the last message.
    told_at: Instant,
    /// When the sender's credential was last looked at.
    asked_at: Instant,
}

impl Telling {
    /// Tells until the connection is to end or something is wrong. Whatever it holds is given back then, but for what is on its way
    /// to the consumer.
    async fn run(mut self) -> Result<(), Status> {
        let leaving = self.leaving.clone();
        self.beat().await?;
        loop {
            let context = Arc::clone(&self.handler.0);
            self.end.mark_unchanged();
            if !context.tail.sees() {
                // Another replica may.
                return Err(Problem::unavailable().into());
            }
            self.still().await?;
            let mut next = self.reading.next(&context, PAGE_MAX).await?;
            let whole = shorten(&mut next.told);
            for told in next.told {
                self.tell(&told).await?;
                // A consumer may take long over a page.
                if leaving.is_cancelled() {
                    return self.beat().await;
                }
                if self.asked_at.elapsed() >= STILL_FOR {
                    self.still().await?;
                }
            }
            if leaving.is_cancelled() {
                break;
            }
            if !whole {
                continue;
            }
            self.reading.positions = next.reached;
            // A consumer of few events still hears where it stands.
            if self.told_at.elapsed() >= context.heartbeat {
                self.beat().await?;
            }
            if next.caught_up {
                tokio::select! {
                    _ = self.end.changed() => {}
                    () = tokio::time::sleep_until(self.told_at + context.heartbeat) => {}
                    () = leaving.cancelled() => {}
                }
            }
        }
        self.beat().await
    }

    /// A key that was revoked ends its streams too.
    async fn still(&mut self) -> Result<(), Status> {
        self.asked_at = Instant::now();
        match &self.reading.sender {
            Some(sender) => self.handler.0.authenticator.still(sender).await,
            None => Ok(()),
        }
    }

    async fn tell(&mut self, told: &Told) -> Result<(), Status> {
        let event = told.event.clone().ok_or_else(|| Status::from(Problem::internal()))?;
        if let Some(position) = self.reading.positions.get_mut(told.at.part) {
            *position = told.at.position;
        }
        self.send(Item::Event(event), told.traceparent.clone()).await
    }

    async fn beat(&mut self) -> Result<(), Status> {
        let context = &self.handler.0;
        let at = Some(timestamp(context.store.clock().now()));
        let interval = prost_types::Duration::try_from(context.heartbeat).ok();
        self.send(Item::Heartbeat(v1::Heartbeat { at, interval }), None).await
    }

    /// Waits for the consumer, but not for ever: what waits costs memory here and is not read there.
    async fn send(&mut self, item: Item, traceparent: Option<String>) -> Result<(), Status> {
        let context: &Context = &self.handler.0;
        let resume_token = self.reading.token(context);
        let traceparent = traceparent.unwrap_or_default();
        let message = v1::WatchStatusChangesResponse { item: Some(item), resume_token, traceparent };
        match self.consumer.send_timeout(message, context.stall).await {
            Ok(()) => {
                self.told_at = Instant::now();
                Ok(())
            }
            Err(SendTimeoutError::Timeout(_)) => {
                tracing::info!("a stream whose consumer takes nothing was ended");
                Err(Problem::unavailable().into())
            }
            // Nobody is there to hear it.
            Err(SendTimeoutError::Closed(_)) => Err(Status::cancelled("")),
        }
    }
}

/// Leaves as many as may be held at a time, and one at least; false if there were more.
fn shorten(told: &mut Vec<Arc<Told>>) -> bool {
    let (all, mut bytes) = (told.len(), 0);
    let held = told.iter().take_while(|told| {
        bytes += told.bytes;
        bytes <= BYTES_MAX
    });
    let held = held.count().max(1);
    told.truncate(held);
    told.len() == all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{AccountId, EnvelopeId};
    use crate::store::{About, Position};

    #[test]
    fn t36_a_page_is_held_up_to_so_many_bytes() {
        let told = |bytes| {
            let about = About { account: AccountId::new(), livemode: false, envelope: EnvelopeId::new(), kind: 1 };
            let at = Position { part: 0, position: 1 };
            Arc::new(Told {
                at,
                about,
                occurred_at: chrono::DateTime::UNIX_EPOCH,
                event: None,
                bytes,
                traceparent: None,
            })
        };
        for (sizes, held) in [
            (vec![], 0),
            (vec![BYTES_MAX / 2; 2], 2),
            (vec![BYTES_MAX / 2; 9], 2),
            (vec![1, BYTES_MAX], 1),
            (vec![BYTES_MAX * 2, 1], 1),
        ] {
            let mut page: Vec<_> = sizes.iter().copied().map(told).collect();
            assert_eq!((shorten(&mut page), page.len()), (held == sizes.len(), held), "{sizes:?}");
        }
    }
}
