//! Shares the partitions of the feed with other notifiers: takes leases, renews them, and runs a consumer for each.
//!
//! Being paused is no danger: the place of a partition and what follows from its events are only ever written under the
//! present epoch of its lease (`store::feed`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use countersign_chassis::ticker::{self, Progress};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::feed::Feed;
use crate::measure;
use crate::store::Lease;

/// How long a consumer pauses after its stream has ended.
const RECONNECT: Duration = Duration::from_millis(200);
/// Looks during one lease: two may fail.
const LOOKS: i32 = 3;

/// The consumer of one partition: what ends it, and whether it has ended.
type Consumer = (CancellationToken, JoinHandle<()>);

/// What this process follows.
#[derive(Clone)]
pub struct Leases {
    feed: Feed,
    /// This process.
    pub me: Uuid,
    long: TimeDelta,
    following: Arc<Mutex<HashMap<Lease, Consumer>>>,
    consumers: TaskTracker,
    stop: CancellationToken,
}

impl Leases {
    /// Nothing yet. Leases last for `long`; all consumers end with `stop`.
    #[must_use]
    pub fn new(feed: Feed, long: TimeDelta, stop: CancellationToken) -> Self {
        let (following, consumers) = (Arc::default(), TaskTracker::new());
        Self { feed, me: Uuid::new_v4(), long, following, consumers, stop }
    }

    /// How often to look.
    #[must_use]
    pub fn interval(&self) -> Duration {
        (self.long / LOOKS).to_std().unwrap_or(RECONNECT)
    }

    /// Renews, gives back and takes; then starts the consumers that are missing and ends those that are too many.
    pub async fn tick(&self) -> anyhow::Result<Progress> {
        let held = self.feed.store.share_partitions(self.me, self.long).await?;
        let partitions: Vec<u8> = held.iter().map(|lease| lease.partition).collect();
        measure::follows(&partitions, self.feed.store.clock().now());
        let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        following.retain(|lease, (stop, consumer)| {
            // One that panicked is begun anew: nobody else follows what this process holds.
            let keeps = held.contains(lease) && !consumer.is_finished();
            if !keeps {
                stop.cancel();
            }
            keeps
        });
        for lease in held {
            following.entry(lease).or_insert_with(|| self.follow(lease));
        }
        Ok(Progress::Idle)
    }

    fn follow(&self, lease: Lease) -> Consumer {
        let (stop, feed) = (self.stop.child_token(), self.feed.clone());
        let ending = stop.clone();
        let never = Arc::new(Notify::new());
        let consumer = self.consumers.spawn(ticker::run("feed", RECONNECT, never, stop.clone(), move || {
            let (feed, ending) = (feed.clone(), ending.clone());
            async move { feed.tick(lease, &ending).await }
        }));
        (stop, consumer)
    }

    /// After `stop`: waits for the consumers and gives everything back, so that others go on at once.
    pub async fn leave(&self) {
        self.consumers.close();
        self.consumers.wait().await;
        if let Err(error) = self.feed.store.leave_partitions(self.me).await {
            tracing::info!(error = error.to_string(), "leases could not be given back: they run out by themselves");
        }
    }
}
