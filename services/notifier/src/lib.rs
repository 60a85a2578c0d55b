//! The notifier: follows the status stream and tells those who must know, by webhook and by mail.
//!
//! A process of its own with its own database. It knows the envelope service only through gRPC.

pub mod check;
pub mod config;
pub mod envelopes;
pub mod event;
pub mod feed;
pub mod id;
pub mod lease;
pub mod mail;
pub mod measure;
pub mod rotation;
pub mod rpc;
pub mod schedule;
pub mod serve;
pub mod sink;
pub mod store;
pub mod webhook;
