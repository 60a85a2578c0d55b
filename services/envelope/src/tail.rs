//! Follows the end of the feed, once for all streams of this process, and keeps the last events in memory for them: rendered
//! once, bounded in number and bytes. A stream that stands further back reads pages of its own.
//!
//! While nobody follows, nothing is read but where the feed ends.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use countersign::v1;
use countersign_chassis::ticker::Progress;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::rpc;
use crate::store::{About, FeedEvent, Heads, PARTS, Parts, Position, Positions, Sieve, Store, Wanted};

/// Events that are kept …
const EVENTS_MAX: usize = 4_096;
/// … and their bytes as they travel.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events that are read at a time.
const READ_MAX: usize = 512;

/// An event of the feed as streams tell it.
#[derive(Debug)]
pub struct Told {
    /// Where.
    pub at: Position,
    /// About what.
    pub about: About,
    /// When, for a merge of the partitions.
    pub occurred_at: DateTime<Utc>,
    /// In the words of the contract; `None` if the record cannot be read.
    pub event: Option<v1::Event>,
    /// Its bytes as it travels.
    pub bytes: usize,
    /// In which trace it happened.
    pub traceparent: Option<String>,
}

impl Told {
    /// Renders it.
    #[must_use]
    pub fn new(event: &FeedEvent) -> Self {
        let rendered = rpc::event(&event.stored);
        let bytes = rendered.as_ref().map_or(0, v1::Event::encoded_len);
        let traceparent = event.traceparent.clone();
        Self {
            at: event.position,
            about: event.about,
            occurred_at: event.occurred_at,
            event: rendered,
            bytes,
            traceparent,
        }
    }
}

/// Where the feed ends, as streams wait for it; `None` before the first look.
pub type End = watch::Receiver<Option<Heads>>;

/// What is kept of one partition: everything behind `base`.
#[derive(Default)]
struct Stretch {
    base: i64,
    kept: VecDeque<Arc<Told>>,
}

/// The last events.
struct Recent {
    heads: Option<Heads>,
    looked_at: Option<Instant>,
    stretches: [Stretch; PARTS as usize],
    /// The partitions of what is kept, oldest first.
    order: VecDeque<usize>,
    bytes: usize,
}

impl Recent {
    /// Keeps nothing, and goes on from there.
    fn restart(&mut self, heads: Heads) {
        self.order.clear();
        self.bytes = 0;
        for (stretch, last) in self.stretches.iter_mut().zip(heads.last) {
            *stretch = Stretch { base: last, kept: VecDeque::new() };
        }
        self.heads = Some(heads);
    }

    fn push(&mut self, told: Told) {
        let part = told.at.part;
        let Some(stretch) = self.stretches.get_mut(part) else { return };
        self.bytes += told.bytes;
        self.order.push_back(part);
        stretch.kept.push_back(Arc::new(told));
        while self.order.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(stretch) = self.order.pop_front().and_then(|part| self.stretches.get_mut(part)) else { return };
            if let Some(gone) = stretch.kept.pop_front() {
                self.bytes -= gone.bytes;
                stretch.base = gone.at.position;
            }
        }
    }
}

/// What a stream found in memory.
pub struct Taken {
    /// How far the feed reaches, as it was then.
    pub heads: Heads,
    /// The events that its sieve lets through, in order of each partition.
    pub told: Vec<Arc<Told>>,
    /// Up to where it has seen everything of the partitions that it asked for.
    pub reached: Positions,
    /// Stretches that are not in memory.
    pub behind: Vec<Wanted>,
}

/// The end of the feed.
pub struct Tail {
    recent: RwLock<Recent>,
    end: watch::Sender<Option<Heads>>,
    /// How long a look at the feed is good for.
    good_for: Duration,
}

impl Tail {
    /// Not yet looked at. A look is good for so long: streams end where there was none since.
    #[must_use]
    pub fn new(good_for: Duration) -> Self {
        let recent =
            Recent { heads: None, looked_at: None, stretches: Default::default(), order: VecDeque::new(), bytes: 0 };
        Self { recent: RwLock::new(recent), end: watch::Sender::new(None), good_for }
    }

    /// True if the feed has been looked at lately.
    #[must_use]
    pub fn sees(&self) -> bool {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        recent.looked_at.is_some_and(|at| at.elapsed() <= self.good_for)
    }

    /// Tells when there is more. As long as somebody has one of these, events are kept.
    #[must_use]
    pub fn end(&self) -> End {
        self.end.subscribe()
    }

    /// What a reader at `positions` of those partitions finds in memory, at most so many events; `None` before the first
    /// look at the feed.
    #[must_use]
    pub fn take(&self, positions: &Positions, parts: Parts, sieve: &Sieve, events_max: usize) -> Option<Taken> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let heads = recent.heads?;
        let (mut told, mut reached, mut behind) = (Vec::new(), *positions, Vec::new());
        let mut all = Wanted::next(positions, &heads, parts);
        // One of each at least, and none so many that others have to wait for ever.
        all.truncate(events_max);
        let each = events_max.checked_div(all.len()).unwrap_or_default();
        for wanted in all {
            let (Some(stretch), Some(reached)) = (recent.stretches.get(wanted.part), reached.get_mut(wanted.part))
            else {
                continue;
            };
            if wanted.after < stretch.base {
                behind.push(wanted);
                continue;
            }
            let first = stretch.kept.partition_point(|kept| kept.at.position <= wanted.after);
            let (mut unread, enough) = (stretch.kept.range(first..), told.len() + each);
            *reached = loop {
                // What the feed holds without an event to it is passed over.
                let Some(kept) = unread.next() else { break wanted.upto };
                if sieve.admits(&kept.about) {
                    if told.len() >= enough {
                        break *reached;
                    }
                    told.push(Arc::clone(kept));
                }
                *reached = kept.at.position;
            };
        }
        Some(Taken { heads, told, reached, behind })
    }

    /// Looks at the end of the feed, reads what is new if somebody follows, and tells the streams.
    pub async fn tick(&self, store: &Store) -> anyhow::Result<Progress> {
        let heads = store.heads().await?;
        let known = self.recent.read().unwrap_or_else(PoisonError::into_inner).heads;
        let mut seen = heads;
        let followed = self.end.receiver_count() > 0;
        match known.filter(|known| followed && is_near(known, &heads)) {
            None => self.recent.write().unwrap_or_else(PoisonError::into_inner).restart(heads),
            Some(known) => {
                let wanted = Wanted::next(&known.last, &heads, Parts::ALL);
                seen.last = known.last;
                let mut read = Vec::new();
                if !wanted.is_empty() {
                    let page = store.feed_end(&wanted, READ_MAX).await?;
                    // A floor beyond what was read a moment ago: nobody trims so closely, but a restore may.
                    anyhow::ensure!(!page.cut_off, "the feed was cut off at its end");
                    for reached in page.reached {
                        if let Some(last) = seen.last.get_mut(reached.part) {
                            *last = reached.position;
                        }
                    }
                    read = page.events.iter().map(Told::new).collect();
                }
                let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
                recent.heads = Some(seen);
                read.into_iter().for_each(|told| recent.push(told));
            }
        }
        self.recent.write().unwrap_or_else(PoisonError::into_inner).looked_at = Some(Instant::now());
        self.end.send_if_modified(|known| {
            let moved = known.as_ref() != Some(&seen);
            *known = Some(seen);
            moved
        });
        Ok(if seen.last == heads.last { Progress::Idle } else { Progress::Busy })
    }
}

/// True if all that is new can be kept: of more than that, streams read pages of their own.
fn is_near(known: &Heads, heads: &Heads) -> bool {
    let ahead: i64 = known.last.iter().zip(&heads.last).map(|(known, last)| last - known).sum();
    let back = known.last.iter().zip(&heads.last).any(|(known, last)| last < known);
    known.incarnation == heads.incarnation && !back && ahead <= i64::try_from(EVENTS_MAX).unwrap_or(i64::MAX)
}
