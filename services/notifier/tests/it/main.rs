//! The notifier against real Postgres, over real HTTP and gRPC. The envelope service is played at its wire contract.
//! Must never depend on the envelope service itself: the two know each other by the contract only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod deliveries;
mod double;
mod draining;
mod endpoints;
mod engine;
mod following;
mod goldens;
mod guarding;
mod hostile;
mod identity;
mod letters;
mod log;
mod mails;
mod mailserver;
mod managing;
mod own;
mod owner;
mod places;
mod posting;
mod quotas;
mod receiver;
mod recipes;
mod reminding;
mod roles;
mod rotating;
mod settling;
mod sharing;
mod spellings;
mod stand;
