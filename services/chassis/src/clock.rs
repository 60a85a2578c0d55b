//! The one source of time. In production that is the database's clock; tests set their own.
//!
//! Nothing else in the services may read the wall clock (`clippy.toml` forbids it), so that a decision and its record
//! never disagree about the time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use crate::sabotaged;

/// Tells the time.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// This machine's steady clock, corrected by what the database was last seen to differ.
    Database { offset_us: Arc<AtomicI64> },
    /// Stands still until moved.
    Manual { now_us: Arc<AtomicI64> },
}

impl Clock {
    /// The database's time, as learnt from [`Clock::observe`].
    #[must_use]
    pub fn database() -> Self {
        Self(Kind::Database { offset_us: Arc::default() })
    }

    /// A clock for tests that stands at `start`.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(Kind::Manual { now_us: Arc::new(AtomicI64::new(start.timestamp_micros())) })
    }

    /// Takes in what the database's clock said just now, and returns the time by which to decide.
    pub fn observe(&self, database_now: DateTime<Utc>) -> DateTime<Utc> {
        match &self.0 {
            Kind::Database { offset_us } => {
                let offset = (database_now - machine_now()).num_microseconds().unwrap_or_default();
                offset_us.store(offset, Ordering::Relaxed);
                database_now
            }
            Kind::Manual { .. } => self.now(),
        }
    }

    /// The time, to the microsecond (Postgres keeps no more).
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let now = match &self.0 {
            Kind::Database { offset_us } => machine_now() + TimeDelta::microseconds(offset_us.load(Ordering::Relaxed)),
            Kind::Manual { now_us } => {
                DateTime::from_timestamp_micros(now_us.load(Ordering::Relaxed)).unwrap_or(DateTime::UNIX_EPOCH)
            }
        };
        now.trunc_subsecs(6)
    }

    /// Moves a manual clock on; does nothing to the database's.
    pub fn advance(&self, by: TimeDelta) {
        if let Kind::Manual { now_us } = &self.0 {
            now_us.fetch_add(by.num_microseconds().unwrap_or_default(), Ordering::Relaxed);
        }
    }
}

/// The time by this machine, which is set once: whoever sets its clock later, by an hour or by a second that leaps, moves nothing.
fn machine_now() -> DateTime<Utc> {
    static BEGAN: LazyLock<(DateTime<Utc>, Instant)> = LazyLock::new(|| (wall_now(), Instant::now()));
    if sabotaged!("clock.steady") {
        return wall_now();
    }
    let (at, since) = *BEGAN;
    at + TimeDelta::from_std(since.elapsed()).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
fn wall_now() -> DateTime<Utc> {
    #[cfg(debug_assertions)]
    let wrong_by = crate::failpoint::clock_is_wrong_by();
    #[cfg(not(debug_assertions))]
    let wrong_by = TimeDelta::zero();
    Utc::now() + wrong_by
}
