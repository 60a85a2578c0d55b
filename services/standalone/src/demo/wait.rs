//! Waiting with an end: whoever waits says for what.
//! Must never wait without bound.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(10);

/// Looks until something is found. `what` completes the sentence "… did not come within 30 s".
pub(super) async fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("{what} did not come within {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}
