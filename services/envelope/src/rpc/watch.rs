//! WatchStatusChanges: a task for each stream, which reads the feed at its consumer's pace. What it holds is bounded: a page,
//! and a few messages on their way.

use std::sync::Arc;
use std::time::Duration;

use countersign::v1;
use countersign::v1::watch_status_changes_response::Item;
use countersign_chassis::problem::{CALL, Problem};
use countersign_chassis::ticker::jittered;
use countersign_chassis::wire::timestamp;
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::auth::Sender;
use super::reading::Reading;
use super::seats::Seat;
use super::{Context, Handler};
use crate::store::Heads;
use crate::tail::{End, Told};

/// A stream ends after about this long, so that clients move to new replicas in their own time.
const LIFETIME: Duration = Duration::from_secs(25 * 60);
/// How long a stream waits for the first look at the feed after a start.
const START_WAIT: Duration = Duration::from_secs(10);
/// Events that a stream holds at a time.
const PAGE_MAX: usize = 256;
/// Messages on their way to the consumer.
const ON_THEIR_WAY_MAX: usize = 16;

impl Handler {
    pub(super) async fn watch(
        &self,
        sender: Option<Sender>,
        request: v1::WatchStatusChangesRequest,
    ) -> Result<impl Stream<Item = Result<v1::WatchStatusChangesResponse, Status>> + Send + use<>, Status> {
        let mut end = self.0.tail.end();
        let heads = known(&mut end).await?;
        if !self.0.tail.sees() {
            return Err(Problem::unavailable().into());
        }
        let key = sender.as_ref().map(|sender| sender.key);
        let reading = Reading::new(&self.0, sender, &request, &heads)?;
        reading.check(&self.0, &heads).await?;
        let seat = self.0.seats.take(key)?;
        let (consumer, mut told) = mpsc::channel(ON_THEIR_WAY_MAX);
        let telling = Telling { handler: self.clone(), reading, end, consumer, told_at: Instant::now() };
        let task = AbortOnDropHandle::new(match CALL.try_with(Clone::clone) {
            // What the task says at its end is said of this call.
            Ok(facts) => tokio::spawn(CALL.scope(facts, telling.run(seat))),
            Err(_) => tokio::spawn(telling.run(seat)),
        });
        Ok(async_stream::stream! {
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
    consumer: mpsc::Sender<v1::WatchStatusChangesResponse>,
    /// When the consumer took the last message.
    told_at: Instant,
}

impl Telling {
    /// Tells until its time is over or something is wrong. Whatever it holds is given back then, also if the consumer has
    /// not yet read what is on its way.
    async fn run(mut self, _seat: Seat) -> Result<(), Status> {
        let end = Instant::now() + jittered(LIFETIME);
        self.beat().await?;
        loop {
            let context = Arc::clone(&self.handler.0);
            self.end.mark_unchanged();
            if !context.tail.sees() {
                // Another replica may.
                return Err(Problem::unavailable().into());
            }
            if let Some(sender) = &self.reading.sender {
                // A key that was revoked ends its streams too.
                context.authenticator.still(sender).await?;
            }
            let next = self.reading.next(&context, PAGE_MAX).await?;
            for told in next.told {
                self.tell(&told).await?;
            }
            self.reading.positions = next.reached;
            if context.stop.is_cancelled() || Instant::now() >= end {
                break;
            }
            // A consumer of few events still hears where it stands.
            if self.told_at.elapsed() >= context.heartbeat {
                self.beat().await?;
            }
            if next.caught_up {
                tokio::select! {
                    _ = self.end.changed() => {}
                    () = tokio::time::sleep_until(self.told_at + context.heartbeat) => {}
                    () = tokio::time::sleep_until(end) => {}
                    () = context.stop.cancelled() => {}
                }
            }
        }
        self.beat().await
    }

    async fn tell(&mut self, told: &Told) -> Result<(), Status> {
        let event = told.event.clone().ok_or_else(|| Status::from(Problem::internal()))?;
        if let Some(position) = self.reading.positions.get_mut(told.at.part) {
            *position = told.at.position;
        }
        self.send(Item::Event(event)).await
    }

    async fn beat(&mut self) -> Result<(), Status> {
        let context = &self.handler.0;
        let at = Some(timestamp(context.store.clock().now()));
        let interval = prost_types::Duration::try_from(context.heartbeat).ok();
        self.send(Item::Heartbeat(v1::Heartbeat { at, interval })).await
    }

    /// Waits for the consumer, but not for ever: what waits costs memory here and is not read there.
    async fn send(&mut self, item: Item) -> Result<(), Status> {
        let context: &Context = &self.handler.0;
        let resume_token = self.reading.token(context);
        let message = v1::WatchStatusChangesResponse { item: Some(item), resume_token };
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
