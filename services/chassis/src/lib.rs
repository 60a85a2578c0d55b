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
pub mod faults;
pub mod grpc;
pub mod guard;
pub mod health;
pub mod held;
pub mod keys;
mod logs;
pub mod metrics;
mod observed;
pub mod once;
pub mod outgoing;
pub mod problem;
pub mod process;
pub mod propagation;
mod readiness;
mod scrape;
pub mod telemetry;
pub mod ticker;
pub mod tls;
pub mod token;
pub mod wire;
