//! Envelopes as this process last saw them, for callers who look often and take an answer that is some seconds old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::ops::compute::Op;

use crate::domain::envelope::Envelope;
use crate::domain::id::{AccountId, EnvelopeId};

/// What may be remembered: envelopes, recipients, fields and options together, of some hundred bytes each.
const PARTS_MAX: u64 = 200_000;

/// An envelope and when it was read.
#[derive(Clone)]
pub struct Seen {
    /// As it was.
    pub envelope: Arc<Envelope>,
    /// When.
    pub at: Instant,
}

/// What this process remembers.
#[derive(Clone)]
pub struct Cache {
    seen: moka::sync::Cache<(AccountId, EnvelopeId), Seen>,
    for_at_most: Duration,
}

impl Cache {
    /// Remembers each for that long.
    #[must_use]
    pub fn new(for_at_most: Duration) -> Self {
        let weigh = |_: &(AccountId, EnvelopeId), seen: &Seen| {
            let options: usize = seen.envelope.fields.iter().map(|field| field.rules.options.len()).sum();
            let parts = 1 + seen.envelope.recipients.len() + seen.envelope.fields.len() + options;
            u32::try_from(parts).unwrap_or(u32::MAX)
        };
        let cache = moka::sync::Cache::builder().weigher(weigh).max_capacity(PARTS_MAX).time_to_live(for_at_most);
        Self { seen: cache.build(), for_at_most }
    }

    /// What is remembered. What came from a replica was not new even when it came.
    #[must_use]
    pub fn get(&self, account: AccountId, id: EnvelopeId) -> Option<Seen> {
        self.seen.get(&(account, id)).filter(|seen| seen.at.elapsed() <= self.for_at_most)
    }

    /// Remembers an envelope read at `at`, unless a newer one is remembered: answers may arrive in any order.
    pub fn put(&self, envelope: Arc<Envelope>, at: Instant) {
        let name = (envelope.account, envelope.id);
        self.seen.entry(name).and_compute_with(|known| match known {
            Some(known) if known.value().envelope.revision > envelope.revision => Op::Nop,
            _ => Op::Put(Seen { envelope, at }),
        });
    }

    /// True if it is looked at here.
    pub fn knows(&self, account: AccountId, id: EnvelopeId) -> bool {
        self.seen.contains_key(&(account, id))
    }
}
