//! Countersign in one process: what starts everything a deployment otherwise brings along.
//! It must never be needed by a deployment that has its own Postgres.

pub mod ports;
pub mod postgres;
