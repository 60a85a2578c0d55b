//! Rates: how many calls a credential may make. A token bucket each, in this process; a refused call takes nothing from it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use countersign::v1::ErrorReason;
use countersign_chassis::problem::Problem;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;
use tonic::Status;
use uuid::Uuid;

use crate::domain::limits::Limits;

/// Buckets that are kept; a forgotten one is full again.
const BUCKETS_MAX: u64 = 100_000;
/// How long an idle bucket is kept; after that it is a full one again.
const IDLE_MAX: Duration = Duration::from_secs(15 * 60);

/// Of which kind a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// An API key.
    Key,
    /// A signing token.
    Signer,
}

/// A bucket's name. The rate is part of it: a changed rate is a new bucket.
type Name = (Kind, Uuid, NonZeroU32, NonZeroU32);

/// The buckets.
pub(super) struct Rates {
    buckets: Cache<Name, Arc<DefaultDirectRateLimiter>>,
    clock: DefaultClock,
}

impl Default for Rates {
    fn default() -> Self {
        let buckets = Cache::builder().max_capacity(BUCKETS_MAX).time_to_idle(IDLE_MAX).build();
        Self { buckets, clock: DefaultClock::default() }
    }
}

impl Rates {
    /// Takes a call from the credential's bucket, or says when there is one.
    pub fn take(&self, kind: Kind, id: Uuid, limits: &Limits) -> Result<(), Status> {
        let (limit, rate, burst) = match kind {
            Kind::Key => ("key_calls_per_second", limits.key_calls_per_second, limits.key_calls_burst),
            Kind::Signer => ("signer_calls_per_minute", limits.signer_calls_per_minute, limits.signer_calls_burst),
        };
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let (rate, burst) = (at_least_one(rate), at_least_one(burst));
        let bucket = self.buckets.get_with((kind, id, rate, burst), || {
            let quota = match kind {
                Kind::Key => Quota::per_second(rate),
                Kind::Signer => Quota::per_minute(rate),
            };
            Arc::new(RateLimiter::direct(quota.allow_burst(burst)))
        });
        bucket.check().map_err(|not_until| {
            Problem::new(ErrorReason::RateLimitExceeded, "Too many calls with this credential.")
                .with("limit", limit)
                .with("allowed", rate.to_string())
                .retry_after(not_until.wait_time_from(self.clock.now()))
                .into()
        })
    }
}
