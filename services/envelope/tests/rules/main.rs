//! The rules of an envelope, tested without database and wire.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod account;
mod check;
mod commands;
mod credit;
mod decline;
mod edges;
mod edit;
mod evidence;
mod field;
mod fill;
mod ingest;
mod keep;
mod marker;
mod play;
mod record;
mod remind;
mod replace;
mod send;
mod shape;
mod small;
mod steer;
mod turn;
mod verify;
mod walk;
