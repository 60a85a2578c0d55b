//! Black-box tests of all services together, over the wire and against real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

mod callers;
mod changes;
mod clients;
mod contract;
mod deadlines;
mod declines;
mod documents;
mod doors;
mod drafts;
mod entries;
mod facts;
mod flights;
mod freshness;
mod groups;
mod histories;
mod model;
mod pages;
mod presets;
mod races;
mod reasons;
mod refusals;
mod replace;
mod restarts;
mod roles;
mod schedule;
mod sessions;
mod steps;
mod stories;
mod stream;
mod tampering;
mod tidy;
mod webhooks;
