//! Health as others ask for it: gRPC's own service, told of what this process can do and nothing else.
//!
//! The name of a service says whether calls should be sent here (a readiness probe); the empty name only whether the process
//! answers (a liveness probe), because a process that is started anew finds the same database. It must never waver: one slow
//! answer of the database changes nothing.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// How often the process looks at what it needs, and how long the answer may take.
const LOOK: Duration = Duration::from_secs(1);
/// For how long it must have failed before it says so.
const FAILED_FOR: Duration = Duration::from_secs(3);
/// How long each answer stands at least.
const STANDS_FOR: Duration = Duration::from_secs(10);

/// Whether calls should be sent here.
#[derive(Debug)]
struct Readiness {
    is_ready: bool,
    since: Option<Instant>,
    failing_since: Option<Instant>,
}

impl Readiness {
    fn new() -> Self {
        Self { is_ready: true, since: None, failing_since: None }
    }

    /// Takes a look into account; says what has changed, if anything.
    fn after(&mut self, is_able: bool, now: Instant) -> Option<bool> {
        let failing_since = if is_able { None } else { Some(*self.failing_since.get_or_insert(now)) };
        self.failing_since = failing_since;
        let is_ready = failing_since.is_none_or(|since| self.is_ready && now - since < FAILED_FOR);
        if is_ready == self.is_ready || self.since.is_some_and(|since| now - since < STANDS_FOR) {
            return None;
        }
        (self.is_ready, self.since) = (is_ready, Some(now));
        Some(is_ready)
    }
}

/// Tells that the process serves: whoever asks first is not to hear that there is no such service.
pub(crate) async fn begin(reporter: &HealthReporter, names: &[&'static str]) {
    set(reporter, names, true).await;
}

/// Tells whether the process is able to serve until `stop`, then that it is not. It has been told that it is.
pub(crate) async fn tell<F: Future<Output = bool>>(
    reporter: HealthReporter,
    names: &[&'static str],
    able: impl Fn() -> F,
    stop: CancellationToken,
) {
    let mut readiness = Readiness::new();
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        let Some(seen) = stop.run_until_cancelled(tokio::time::timeout(LOOK, able())).await else { break };
        let Some(is_ready) = readiness.after(seen.unwrap_or(false), Instant::now()) else { continue };
        if is_ready {
            tracing::info!("ready again");
        } else {
            tracing::warn!("not ready: what the service needs does not answer");
        }
        set(&reporter, names, is_ready).await;
    }
    set(&reporter, names, false).await;
    reporter.set_service_status("", ServingStatus::NotServing).await;
}

async fn set(reporter: &HealthReporter, names: &[&'static str], is_ready: bool) {
    let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in names {
        reporter.set_service_status(name, status).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_waver() {
        let (mut readiness, begin) = (Readiness::new(), Instant::now());
        let mut after = |seconds, is_able| readiness.after(is_able, begin + Duration::from_secs(seconds));
        assert_eq!(after(0, false), None);
        assert_eq!(after(2, false), None);
        assert_eq!(after(3, true), None);
        assert_eq!(after(4, false), None, "it counts anew");
        assert_eq!(after(6, false), None);
        assert_eq!(after(7, false), Some(false));
        assert_eq!(after(8, true), None, "what was said stands for a while");
        assert_eq!(after(16, false), None);
        assert_eq!(after(17, true), Some(true));
        assert_eq!(after(26, false), None);
        assert_eq!(after(29, false), Some(false));
    }
}
