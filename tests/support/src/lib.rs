//! What the tests of several packages share: a Postgres for the test process, a database for each test, the envelope
//! service in this process or as the real binary, and clients.
//!
//! Everything is real: no part of ours is replaced.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

pub mod binary;
pub mod bucket;
pub mod certificates;
pub mod chaos;
pub mod check;
pub mod client;
pub mod crafted;
pub mod database;
pub mod docx;
pub mod memory;
pub mod notifier;
pub mod outside;
pub mod partitions;
pub mod plans;
pub mod raw;
pub mod receiver;
pub mod service;
pub mod small_disk;
pub mod stack;

pub use client::{Caller, Errors, Story};
pub use database::Database;
pub use notifier::Notifier;
pub use receiver::Receiver;
pub use service::Service;
