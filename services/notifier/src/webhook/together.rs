//! What was taken is written down together: what ends while the disk is being waited for goes with the next.
//!
//! It must never answer before what it answers of is on disk, or have one that cannot be written keep the others from it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_chassis::database::DatabaseError;
use tokio::sync::oneshot::{Receiver, Sender, channel};

use crate::store::{ClaimedDelivery, Outcome, Settled, Store};

/// Writes down what was taken.
pub struct Together {
    store: Store,
    waiting: Mutex<Vec<Waiting>>,
    turn: tokio::sync::Mutex<()>,
}

struct Waiting {
    claimed: ClaimedDelivery,
    outcome: Outcome,
    /// Whether the lease still held; dropped if it was not written down.
    answer: Sender<bool>,
}

impl Together {
    /// To that database.
    pub fn new(store: Store) -> Self {
        Self { store, waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// False if the lease was lost meanwhile: another process has the say.
    pub async fn settle(&self, claimed: &ClaimedDelivery, outcome: &Outcome) -> Result<bool, DatabaseError> {
        let (answer, told) = channel();
        self.waiting().push(Waiting { claimed: claimed.clone(), outcome: outcome.clone(), answer });
        match self.told(told).await {
            Some(held) => Ok(held),
            // One of them may be what the database does not take: each for itself.
            None => self.store.settle_delivery(claimed, outcome, Settled::Delivered).await,
        }
    }

    /// What the one says whose turn it is, who may be us.
    async fn told(&self, mut told: Receiver<bool>) -> Option<bool> {
        tokio::select! {
            biased;
            answer = &mut told => return answer.ok(),
            _turn = self.turn.lock() => self.write().await,
        }
        told.await.ok()
    }

    async fn write(&self) {
        let all = std::mem::take(&mut *self.waiting());
        let taken: Vec<_> = all.iter().map(|it| (&it.claimed, &it.outcome)).collect();
        match self.store.settle_taken(&taken).await {
            Ok(held) => {
                for (place, it) in all.into_iter().enumerate() {
                    // Whoever asked may have been cut.
                    let _ = it.answer.send(held.contains(&place));
                }
            }
            Err(error) => tracing::info!(error = error.to_string(), "what was taken is written down one by one"),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
