//! Ends envelopes whose deadline has passed. It only executes: the deadline itself decides, at the lock.

use countersign_chassis::ticker::Progress;

use crate::domain::command::{Actor, Command};
use crate::execute::execute;
use crate::store::{Scope, Store};

/// Envelopes of one tick.
const BATCH_MAX: i64 = 100;

/// Expires what is overdue.
pub async fn tick(store: &Store) -> anyhow::Result<Progress> {
    let overdue = store.overdue(store.clock().now(), BATCH_MAX).await?;
    let mut expired = 0;
    for (account, id) in &overdue {
        let scope = Scope::any_mode(*account);
        match execute(store, scope, *id, Actor::System, Command::Expire, |_| true).await {
            Ok(_) => expired += 1,
            // One that cannot be expired must not keep the others open.
            Err(error) => tracing::error!(envelope = id.to_string(), error = error.to_string(), "not expired"),
        }
    }
    anyhow::ensure!(expired > 0 || overdue.is_empty(), "none of {} overdue envelopes was expired", overdue.len());
    Ok(if overdue.len() < usize::try_from(BATCH_MAX)? { Progress::Idle } else { Progress::Busy })
}
