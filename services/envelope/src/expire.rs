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
    for (account, id) in &overdue {
        execute(store, Scope::any_mode(*account), *id, Actor::System, Command::Expire, |_| true).await?;
    }
    Ok(if overdue.len() < usize::try_from(BATCH_MAX)? { Progress::Idle } else { Progress::Busy })
}
