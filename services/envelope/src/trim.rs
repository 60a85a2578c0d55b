//! Keeps the feed as long as the settings say and no longer.

use chrono::TimeDelta;
use countersign_chassis::ticker::Progress;

use crate::store::Store;

/// Rows of a partition that go at a time.
const ROWS_MAX: i64 = 1_000;

/// Cuts off a batch of each partition.
pub async fn tick(store: &Store, retention: TimeDelta) -> anyhow::Result<Progress> {
    // By the clock as it was last seen: a second more or less of a month is nothing.
    let gone = store.trim_feed(store.clock().now() - retention, ROWS_MAX).await?;
    if gone > 0 {
        tracing::debug!(gone, "old places of the feed forgotten");
    }
    Ok(if gone > 0 { Progress::Busy } else { Progress::Idle })
}
