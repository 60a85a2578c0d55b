//! Documents on their way in: looked through, converted and fetched, without database and wire.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod convert;
mod docx;
mod fetch;
mod mutants;
mod sniff;
