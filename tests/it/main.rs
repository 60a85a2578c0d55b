//! Black-box tests of all services together, over the wire and against real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

mod clients;
mod contract;
mod facts;
mod flights;
mod races;
mod refusals;
mod restarts;
mod stories;
mod stream;
mod tidy;
mod webhooks;
