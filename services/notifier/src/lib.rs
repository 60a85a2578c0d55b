//! The notifier: follows the status stream and tells those who must know, by webhook and by mail.
//!
//! A process of its own with its own database. It knows the envelope service only through gRPC.

pub mod config;
pub mod deliver;
pub mod envelopes;
pub mod feed;
pub mod guard;
pub mod id;
pub mod mail;
pub mod plan;
pub mod rpc;
pub mod schedule;
pub mod serve;
pub mod signature;
pub mod store;
