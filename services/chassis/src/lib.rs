//! What every service is bolted onto: clock, keys, pool and transactions, gRPC shell, telemetry, ticker.
//!
//! It knows none of the services and none of their rules; what it does know of Countersign is the contract's
//! `ErrorReason`.

pub mod accept;
mod arriving;
pub mod call;
pub mod check;
pub mod clock;
pub mod config;
pub mod database;
mod dial;
#[cfg(debug_assertions)]
pub mod failpoint;
pub mod faults;
pub mod grpc;
pub mod guard;
pub mod health;
mod heard;
pub mod held;
pub mod keys;
mod logs;
pub mod metrics;
mod observed;
pub mod once;
pub mod outgoing;
mod pool;
pub mod problem;
pub mod process;
pub mod propagation;
mod readiness;
mod scrape;
mod statement;
pub mod telemetry;
pub mod ticker;
pub mod tls;
pub mod token;
pub mod wire;

/// Whether a test has taken a guard out, to see that it is missed; false in builds without debug assertions. See `failpoint`.
#[macro_export]
macro_rules! sabotaged {
    ($guard:literal) => {{
        #[cfg(debug_assertions)]
        let is_out = $crate::failpoint::is_out($guard);
        #[cfg(not(debug_assertions))]
        let is_out = false;
        is_out
    }};
}

/// A place at which a test can make the process die; nothing in builds without debug assertions. See `failpoint`.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::failpoint::reach($name).await;
    };
}
