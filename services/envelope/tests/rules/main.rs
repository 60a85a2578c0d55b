//! The rules of an envelope, tested without database and wire.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod field;
mod record;
mod shape;
mod turn;
mod walk;
