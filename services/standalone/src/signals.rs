//! Ctrl-C and SIGTERM.
//! Must never end the process itself while it can still end in order; the second signal means it cannot.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status of a process that ended because of Ctrl-C, as shells know it.
pub const INTERRUPTED: u8 = 130;

/// From now on the first SIGINT or SIGTERM cancels the token, and the second ends the process at once (its Postgres
/// then ends by itself within seconds).
///
/// # Errors
/// When the system refuses to tell of signals.
pub fn stop_on_signal() -> Result<CancellationToken> {
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    let mut terminated = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
            if told.is_cancelled() {
                std::process::exit(INTERRUPTED.into());
            }
            told.cancel();
        }
    });
    Ok(stop)
}
