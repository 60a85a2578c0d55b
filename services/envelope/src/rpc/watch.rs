//! WatchStatusChanges: the feed, read page by page at the consumer's pace. Nothing is buffered but one page.

use std::time::Duration;

use countersign::v1;
use countersign::v1::watch_status_changes_response::Item;
use countersign_chassis::problem::Problem;
use countersign_chassis::ticker::jittered;
use countersign_chassis::wire::timestamp;
use futures_util::Stream;
use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use super::auth::Sender;
use super::parse::Faults;
use super::status::database;
use super::{Context, Handler, cursor, render};
use crate::store::{FeedEvent, Heads, Positions, Scope, Wanted};
use crate::tail::Tail;

/// A stream ends after about this long, so that clients move to new replicas in their own time.
const LIFETIME: Duration = Duration::from_secs(25 * 60);
/// How long a stream waits for the first look at the feed after a start.
const START_WAIT: Duration = Duration::from_secs(10);
/// What resume tokens are made for.
const PURPOSE: &str = "watch";

/// Where a stream stands.
struct Reading {
    /// Who reads; nobody in particular sees all accounts.
    sender: Option<Sender>,
    scope: Option<Scope>,
    incarnation: Uuid,
    positions: Positions,
}

impl Handler {
    pub(super) async fn watch(
        &self,
        sender: Option<Sender>,
        request: v1::WatchStatusChangesRequest,
    ) -> Result<impl Stream<Item = Result<v1::WatchStatusChangesResponse, Status>> + Send + use<>, Status> {
        let mut tail = self.0.tail.clone();
        let heads = known(&mut tail).await?;
        let reading = self.0.start(sender, &request, &heads)?;
        if !request.resume_token.is_empty() && reading.check(&heads).is_err() {
            // Another replica's token may lie beyond what this one has seen of the feed: look before refusing.
            reading.check(&self.0.store.heads_now().await.map_err(|error| database(&error))?)?;
        }
        Ok(stream(self.clone(), reading, tail))
    }
}

/// The end of the feed, once it has been looked at.
async fn known(tail: &mut Tail) -> Result<Heads, Status> {
    let seen = tokio::time::timeout(START_WAIT, tail.wait_for(Option::is_some)).await;
    let heads = seen.ok().and_then(Result::ok).and_then(|heads| *heads);
    heads.ok_or_else(|| Problem::unavailable().into())
}

impl Context {
    fn start(
        &self,
        sender: Option<Sender>,
        request: &v1::WatchStatusChangesRequest,
        heads: &Heads,
    ) -> Result<Reading, Status> {
        let (scope, incarnation) = (sender.as_ref().map(|sender| sender.scope), heads.incarnation);
        if request.resume_token.is_empty() {
            let positions = match v1::WatchStart::try_from(request.start) {
                Ok(v1::WatchStart::Unspecified | v1::WatchStart::Now) => heads.last,
                Ok(v1::WatchStart::Oldest) => heads.floor,
                Err(_) => return Err(fault("start", "is not a value that the service knows")),
            };
            return Ok(Reading { sender, scope, incarnation, positions });
        }
        let content = cursor::open(&self.keyring.cursor, PURPOSE, scope, &request.resume_token);
        let Some((incarnation, positions)) = content.and_then(|content| cursor::read_positions(&content)) else {
            return Err(fault("resume_token", "is not one that the service gave to this credential"));
        };
        Ok(Reading { sender, scope, incarnation, positions })
    }

    fn message(&self, reading: &Reading, item: Item) -> v1::WatchStatusChangesResponse {
        let content = cursor::write_positions(reading.incarnation, &reading.positions);
        let resume_token = cursor::seal(&self.keyring.cursor, PURPOSE, reading.scope, &content);
        v1::WatchStatusChangesResponse { item: Some(item), resume_token }
    }

    fn heartbeat(&self, reading: &Reading) -> v1::WatchStatusChangesResponse {
        let at = Some(timestamp(self.store.clock().now()));
        self.message(reading, Item::Heartbeat(v1::Heartbeat { at }))
    }
}

impl Reading {
    /// A feed that was restored may give a position again to another event; what is purged cannot be read.
    fn check(&self, heads: &Heads) -> Result<(), Status> {
        let beyond = self.positions.iter().zip(&heads.last).any(|(at, last)| at > last);
        if beyond {
            return Err(restored());
        }
        self.keeps_up(heads)
    }

    /// The same for a stream that is open: it may have come from a replica that had seen more of the feed.
    fn keeps_up(&self, heads: &Heads) -> Result<(), Status> {
        if self.incarnation != heads.incarnation {
            return Err(restored());
        }
        if self.positions.iter().zip(&heads.floor).any(|(at, floor)| at < floor) {
            return Err(Problem::new(
                v1::ErrorReason::ResumeTokenTooOld,
                "Events after this token are not kept any more: list the envelopes, then watch anew.",
            )
            .into());
        }
        Ok(())
    }
}

fn restored() -> Status {
    let message = "The feed has been restored since this token was given: list the envelopes, then watch anew.";
    Problem::new(v1::ErrorReason::FeedIncarnation, message).into()
}

fn fault(path: &str, why: &str) -> Status {
    let mut faults = Faults::default();
    faults.add(path, why);
    faults.finish().err().unwrap_or_else(|| Problem::internal().into())
}

fn stream(
    handler: Handler,
    mut reading: Reading,
    mut tail: Tail,
) -> impl Stream<Item = Result<v1::WatchStatusChangesResponse, Status>> + Send {
    async_stream::try_stream! {
        let context = &handler.0;
        let end = Instant::now() + jittered(LIFETIME);
        yield context.heartbeat(&reading);
        let mut told = Instant::now();
        loop {
            let heads = known(&mut tail).await?;
            reading.keeps_up(&heads)?;
            if let Some(sender) = &reading.sender {
                // A key that was revoked ends its streams too.
                context.authenticator.still(sender).await?;
            }
            let wanted = Wanted::next(&reading.positions, &heads);
            if !wanted.is_empty() {
                let page = context.store.feed(reading.scope, &wanted).await.map_err(|error| database(&error))?;
                for event in in_time(page) {
                    reading.positions[event.position.part] = event.position.position;
                    let rendered = render::event(&event.stored).map_err(|error| {
                        tracing::error!(error = error.to_string(), "unreadable record in the feed");
                        Status::from(Problem::internal())
                    })?;
                    yield context.message(&reading, Item::Event(rendered));
                    told = Instant::now();
                }
                for stretch in wanted {
                    reading.positions[stretch.part] = stretch.upto;
                }
            }
            if context.stop.is_cancelled() || Instant::now() >= end {
                break;
            }
            // A consumer of few events still hears where it stands.
            if told.elapsed() >= context.heartbeat {
                yield context.heartbeat(&reading);
                told = Instant::now();
            }
            if Wanted::next(&reading.positions, &heads).is_empty() {
                tokio::select! {
                    _ = tail.changed() => {}
                    () = tokio::time::sleep_until(told + context.heartbeat) => {}
                    () = tokio::time::sleep_until(end) => {}
                    () = context.stop.cancelled() => {}
                }
            }
        }
        yield context.heartbeat(&reading);
    }
}

/// The page's partitions merged by time. Each partition keeps its own order, whatever its times say.
fn in_time(page: Vec<FeedEvent>) -> impl Iterator<Item = FeedEvent> {
    let mut parts: Vec<std::iter::Peekable<std::vec::IntoIter<FeedEvent>>> = Vec::new();
    let mut last = None;
    let mut stretches: Vec<Vec<FeedEvent>> = Vec::new();
    for event in page {
        if last != Some(event.position.part) {
            last = Some(event.position.part);
            stretches.push(Vec::new());
        }
        if let Some(stretch) = stretches.last_mut() {
            stretch.push(event);
        }
    }
    parts.extend(stretches.into_iter().map(|stretch| stretch.into_iter().peekable()));
    std::iter::from_fn(move || {
        let first =
            |part: &mut std::iter::Peekable<std::vec::IntoIter<FeedEvent>>| part.peek().map(|event| event.occurred_at);
        let (index, _) = parts
            .iter_mut()
            .enumerate()
            .filter_map(|(index, part)| first(part).map(|at| (index, at)))
            .min_by_key(|(_, at)| *at)?;
        parts.get_mut(index)?.next()
    })
}
