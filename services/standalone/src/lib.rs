//! Countersign in one process: what starts everything a deployment otherwise brings along.
//! It must never be needed by a deployment that has its own Postgres.

pub mod client;
pub mod demo;
pub use countersign_postgres::ports;
pub use countersign_postgres as postgres;
pub mod private_file;
pub mod signals;
pub mod stack;
pub mod up;
