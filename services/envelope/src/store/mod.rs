//! All SQL. Speaks the domain's language; knows neither gRPC nor protobuf.
//!
//! An envelope changes only through [`Store::create`] (one flight) and [`Store::change`] (two flights: lock and load,
//! write and commit). Everything else reads.

mod account;
mod change;
mod create;
mod due;
mod envelope;
mod feed;
mod history;
mod job;
mod rows;
pub mod schema;
mod terms;
mod upload;

use std::sync::Arc;

use countersign_chassis::clock::Clock;
pub use countersign_chassis::database::DatabaseError;
use countersign_chassis::database::Pool;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use tokio::sync::Notify;
use uuid::Uuid;

pub use self::account::{KeyRow, UserRow};
pub use self::change::{Change, Changed};
pub use self::create::CREATE;
pub use self::due::{Due, Duty};
pub use self::envelope::{Filter, Summary};
pub use self::feed::{FeedEvent, Heads, PARTS, Position, Positions, Wanted};
pub use self::job::Job;
pub use self::upload::Upload;
use crate::domain::id::{AccountId, EnvelopeId};

/// The schema of this service.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The database of this service.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    clock: Clock,
    committed: Arc<Notify>,
    artifacts_due: Arc<Notify>,
}

/// Whose envelopes may be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The account.
    pub account: AccountId,
    /// The mode; `None` for the service itself and for signing tokens, which name one envelope.
    pub livemode: Option<bool>,
}

impl Scope {
    /// Both modes of an account.
    #[must_use]
    pub fn any_mode(account: AccountId) -> Self {
        Self { account, livemode: None }
    }
}

impl Store {
    /// On that pool.
    #[must_use]
    pub fn new(pool: Pool, clock: Clock) -> Self {
        Self { pool, clock, committed: Arc::default(), artifacts_due: Arc::default() }
    }

    /// Notified after each commit that left something in the outbox.
    #[must_use]
    pub fn committed(&self) -> Arc<Notify> {
        Arc::clone(&self.committed)
    }

    /// Notified after each commit that left artefacts to be made.
    #[must_use]
    pub fn artifacts_due(&self) -> Arc<Notify> {
        Arc::clone(&self.artifacts_due)
    }

    /// The service's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// The feed's partition of an envelope: its UUID ends in random bits.
fn part(id: EnvelopeId) -> i16 {
    part_of(id.uuid())
}

fn part_of(id: Uuid) -> i16 {
    let [.., last] = id.into_bytes();
    i16::from(last % PARTS)
}

/// A number as Postgres keeps it. Ours never come near the end of the range.
fn int8(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Corrupt rows are reported as such instead of being read as something else.
fn corrupt(what: &'static str) -> diesel::result::Error {
    diesel::result::Error::DeserializationError(format!("corrupt row: {what}").into())
}
