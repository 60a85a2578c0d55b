//! Connections to one database, for who asked first.
//!
//! It must never let who comes later go before who stands in line: under more load than there are connections for, those who are
//! passed over wait until their time is over, and hold their turn meanwhile. A line that stays long makes all of them slow and nobody
//! faster, so it is told where the next ones can still be sent away (as CoDel does with packets, RFC 8289).

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

type Kept = ::bb8::PooledConnection<'static, AsyncDieselConnectionManager<AsyncPgConnection>>;

/// A line is long that has more in it than there are connections. For so long it may be, as many calls come at once now and then …
const LONG_MAX_MS: u64 = 500;
/// … but not when somebody was sent away so shortly before.
const CALM_MS: u64 = 1_000;

/// Connections to one database.
#[derive(Clone)]
pub struct Pool {
    connections: bb8::Pool<AsyncPgConnection>,
    /// A place for each connection, given in the order in which they are asked for. The pool itself wakes one of those who wait, and
    /// gives the connection to whoever comes first then.
    line: Arc<Semaphore>,
    wait_max: Duration,
    began: Instant,
    counts: Arc<Counts>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").field("counts", &self.counts).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    timeouts: AtomicU64,
    /// When the line became long, and by when it may be long again, in milliseconds from the beginning.
    long_since_ms: AtomicU64,
    calm_at_ms: AtomicU64,
}

/// A connection with its place in the pool, until it is given back.
pub(crate) struct Place {
    /// Back before the place is free.
    connection: Kept,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(connections: bb8::Pool<AsyncPgConnection>, wait_max: Duration) -> Self {
        let line = Arc::new(Semaphore::new(connections.config().max_size as usize));
        Self { connections, line, wait_max, began: Instant::now(), counts: Arc::default() }
    }

    /// Whether the line has been long for too long.
    pub(crate) fn is_crowded(&self) -> bool {
        if self.waiting() <= self.size_max() as usize {
            return false;
        }
        let (now_ms, counts) = (self.now_ms(), &self.counts);
        let is_crowded = now_ms > counts.long_since_ms.load(Ordering::Relaxed) + LONG_MAX_MS
            || now_ms < counts.calm_at_ms.load(Ordering::Relaxed);
        if is_crowded {
            counts.calm_at_ms.store(now_ms + CALM_MS, Ordering::Relaxed);
        }
        is_crowded
    }

    /// Since the beginning.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Somebody waits from now on.
    fn wait(&self) -> Waiting<'_> {
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) == self.size_max() as usize {
            self.counts.long_since_ms.store(self.now_ms(), Ordering::Relaxed);
        }
        Waiting(&self.counts)
    }

    /// A connection, if there is one in time.
    pub(crate) async fn get(&self) -> Option<Place> {
        let _waiting = self.wait();
        let got = timeout(self.wait_max, async {
            let _place = Arc::clone(&self.line).acquire_owned().await.ok()?;
            Some(Place { connection: self.connections.get_owned().await.ok()?, _place })
        });
        let got = got.await.ok().flatten();
        if got.is_none() {
            self.counts.timeouts.fetch_add(1, Ordering::Relaxed);
        }
        got
    }

    /// Those that are open, and how many of them are idle.
    pub(crate) fn state(&self) -> ::bb8::State {
        self.connections.state()
    }

    /// How many there may be.
    pub(crate) fn size_max(&self) -> u32 {
        self.connections.config().max_size
    }

    /// How many wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.counts.waiting.load(Ordering::Relaxed)
    }

    /// How many waited in vain so far.
    pub(crate) fn timeouts(&self) -> u64 {
        self.counts.timeouts.load(Ordering::Relaxed)
    }
}

/// Somebody who waits, until they do not.
struct Waiting<'a>(&'a Counts);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for Place {
    type Target = AsyncPgConnection;
    fn deref(&self) -> &AsyncPgConnection {
        &self.connection
    }
}

impl DerefMut for Place {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.connection
    }
}
