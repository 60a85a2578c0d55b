//! The envelope service: EnvelopeService, SignerService and AccountService over Postgres.
//!
//! `rpc` speaks the wire, `store` speaks SQL, both speak `domain`; `execute` is the one way from a command to a change.

pub mod archive;
pub mod artifact;
pub mod blobs;
pub mod cache;
pub mod check;
pub mod config;
pub mod convert;
pub mod credential;
pub mod domain;
pub mod execute;
pub mod fetch;
pub mod identity;
pub mod ingest;
pub mod keep;
pub mod measure;
pub mod oidc;
pub mod pictures;
pub mod removal;
pub mod rpc;
pub mod seal;
pub mod serve;
pub mod spool;
pub mod store;
pub mod sweep;
pub mod tail;
pub mod trim;
pub mod worker;
