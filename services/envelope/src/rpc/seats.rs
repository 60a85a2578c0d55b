//! How many streams there are: of a key, and of all in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign::v1::ErrorReason;
use countersign_chassis::problem::Problem;
use tonic::Status;

use crate::domain::id::KeyId;

/// Streams at a time with one key, in this process.
const STREAMS_PER_KEY_MAX: usize = 20;
/// Streams at a time in this process.
const STREAMS_MAX: usize = 2_000;
/// When to try again: streams end when their consumers do.
const RETRY: Duration = Duration::from_secs(5);

/// The streams that are open.
#[derive(Clone, Default)]
pub struct Seats(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    by_key: HashMap<KeyId, usize>,
}

/// The place of one stream, given back when it is dropped.
pub(super) struct Seat {
    taken: Arc<Mutex<Taken>>,
    key: Option<KeyId>,
}

impl Seats {
    /// A place for a stream with that key; services have as many as there are.
    pub(super) fn take(&self, key: Option<KeyId>) -> Result<Seat, Status> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= STREAMS_MAX {
            return Err(Problem::unavailable().retry_after(RETRY).into());
        }
        if let Some(key) = key {
            let of_key = taken.by_key.entry(key).or_default();
            if *of_key >= STREAMS_PER_KEY_MAX {
                return Err(Problem::new(ErrorReason::RateLimitExceeded, "Too many streams with this credential.")
                    .with("limit", "streams_per_key")
                    .with("allowed", STREAMS_PER_KEY_MAX.to_string())
                    .retry_after(RETRY)
                    .into());
            }
            *of_key += 1;
        }
        taken.all += 1;
        Ok(Seat { taken: Arc::clone(&self.0), key })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(key) = self.key {
            let left = taken.by_key.get(&key).copied().unwrap_or_default().saturating_sub(1);
            if left == 0 {
                taken.by_key.remove(&key);
            } else {
                taken.by_key.insert(key, left);
            }
        }
    }
}
