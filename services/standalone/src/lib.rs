//! Countersign in one process: what starts everything a deployment otherwise brings along.
//! It must never be needed by a deployment that has its own Postgres.

pub mod client;
mod contracts;
pub mod demo;
pub mod private_file;
pub mod signals;
pub mod stack;
pub mod up;
