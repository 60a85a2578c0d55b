//! How many streams there are: of a key, of an account, and of all callers in this process. Must never let callers keep
//! services out: those have as many as they ask for, and take no place of anybody's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign::v1::ErrorReason;
use countersign_chassis::problem::Problem;
use tonic::Status;

use crate::domain::id::{AccountId, KeyId};

/// Streams at a time with one key, in this process.
const STREAMS_PER_KEY_MAX: usize = 20;
/// Streams at a time of one account, in this process: each user of an identity provider counts as a key.
const STREAMS_PER_ACCOUNT_MAX: usize = 200;
/// Streams of all accounts at a time in this process.
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
    by_account: HashMap<AccountId, usize>,
}

/// The place of one stream, given back when it is dropped.
pub(super) struct Seat {
    taken: Arc<Mutex<Taken>>,
    /// Whose; nobody's in particular if it is a service's.
    whose: Option<(AccountId, KeyId)>,
}

impl Seats {
    /// A place for a stream of that account and key; services are not counted.
    pub(super) fn take(&self, whose: Option<(AccountId, KeyId)>) -> Result<Seat, Status> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((account, key)) = whose {
            if taken.by_key.get(&key).is_some_and(|of_key| *of_key >= STREAMS_PER_KEY_MAX) {
                let message = "Too many streams with this credential.";
                return Err(too_many(message, "streams_per_key", STREAMS_PER_KEY_MAX));
            }
            if taken.by_account.get(&account).is_some_and(|of_account| *of_account >= STREAMS_PER_ACCOUNT_MAX) {
                let message = "Too many streams of this account.";
                return Err(too_many(message, "streams_per_account", STREAMS_PER_ACCOUNT_MAX));
            }
            if taken.all >= STREAMS_MAX {
                return Err(Problem::unavailable().retry_after(RETRY).into());
            }
            *taken.by_key.entry(key).or_default() += 1;
            *taken.by_account.entry(account).or_default() += 1;
            taken.all += 1;
        }
        Ok(Seat { taken: Arc::clone(&self.0), whose })
    }
}

fn too_many(message: &'static str, limit: &'static str, allowed: usize) -> Status {
    Problem::new(ErrorReason::RateLimitExceeded, message)
        .with("limit", limit)
        .with("allowed", allowed.to_string())
        .retry_after(RETRY)
        .into()
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((account, key)) = self.whose else { return };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        give_back(&mut taken.by_key, key);
        give_back(&mut taken.by_account, account);
    }
}

fn give_back<K: Eq + Hash>(taken: &mut HashMap<K, usize>, whose: K) {
    if let Entry::Occupied(mut of_it) = taken.entry(whose) {
        *of_it.get_mut() = of_it.get().saturating_sub(1);
        if *of_it.get() == 0 {
            of_it.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t36_an_account_fills_neither_the_process_nor_the_places_of_services() {
        let seats = Seats::default();
        let account = AccountId::new();
        let fill =
            |account| -> Vec<Seat> { (0..300).map_while(|_| seats.take(Some((account, KeyId::new()))).ok()).collect() };
        let mut of_it = fill(account);
        assert_eq!(of_it.len(), STREAMS_PER_ACCOUNT_MAX, "however many keys it has");
        let others: Vec<_> = (0..20).map(|_| fill(AccountId::new())).collect();
        assert_eq!(others.iter().map(Vec::len).sum::<usize>() + of_it.len(), STREAMS_MAX);
        assert!(seats.take(Some((AccountId::new(), KeyId::new()))).is_err(), "the process is full");
        assert!(seats.take(None).is_ok(), "but not for services");
        drop(others);
        assert!(seats.take(Some((account, KeyId::new()))).is_err());
        of_it.pop();
        assert!(seats.take(Some((account, KeyId::new()))).is_ok(), "one that ends makes room");
        drop(of_it);
        let taken = seats.0.lock().unwrap();
        assert!(taken.all == 0 && taken.by_key.is_empty() && taken.by_account.is_empty(), "nothing is left behind");
    }
}
