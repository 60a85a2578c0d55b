//! Runs a `tick()` again and again: at once while there is work, else after an interval or a hint.
//!
//! A hint is never needed for correctness: polling finds everything.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// The longest pause after failed ticks.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What a tick found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more to do.
    Busy,
    /// Nothing left.
    Idle,
}

/// Ticks until `stop`. A failing tick is logged and tried again, ever slower.
pub async fn run<T, F>(name: &'static str, interval: Duration, hint: Arc<Notify>, stop: CancellationToken, mut tick: T)
where
    T: FnMut() -> F,
    F: Future<Output = anyhow::Result<Progress>>,
{
    let mut failures: u32 = 0;
    while !stop.is_cancelled() {
        let ticked = tick().await;
        metrics::ticked(name, ticked.is_ok());
        let pause = match ticked {
            Ok(Progress::Busy) => {
                failures = 0;
                continue;
            }
            Ok(Progress::Idle) => {
                failures = 0;
                jittered(interval)
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(loop_name = name, failures, error = format!("{error:#}"), "tick failed");
                jittered((interval * 2u32.saturating_pow(failures.min(16))).min(BACKOFF_MAX.max(interval)))
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = hint.notified() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Between 80 and 120 percent of a duration, so that replicas do not march in step.
#[must_use]
pub fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.8 + 0.4 * rand::random::<f64>())
}
