//! All SQL of the notifier. Knows neither gRPC nor protobuf.

mod check;
mod delivery;
mod delivery_log;
mod endpoint;
mod endpoint_change;
mod feed;
mod keys;
mod mail;
mod measure;
mod once;
mod settle;

use countersign_chassis::clock::Clock;
pub use countersign_chassis::database::DatabaseError;
use countersign_chassis::database::{self, Pool};
use countersign_chassis::held;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

pub use self::check::{COUNTS, QUESTIONS};
pub use self::delivery::{BREAKER, ClaimedDelivery, Room, keep_deliveries};
pub use self::delivery_log::{Attempt, Filter, LoggedDelivery, Redelivery};
pub(crate) use self::endpoint::keep_endpoints;
pub use self::endpoint::{Disabled, Endpoint, Standing};
pub use self::endpoint_change::{EndpointChanges, FAILING, Named, Told};
pub use self::feed::{Lease, PARTITIONS};
pub use self::keys::{MasterKeys, SealedHeaders};
pub use self::mail::{ClaimedMail, Due, MAILS_KEPT, MailRoom, MailSettled, Quota, keep_mails};
pub use self::measure::Queue;
pub use self::settle::{Outcome, Settled};

/// The schema of this service.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The database of this service.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    clock: Clock,
}

impl Store {
    /// On that pool.
    #[must_use]
    pub fn new(pool: Pool, clock: Clock) -> Self {
        held::observe(&pool, "all");
        Self { pool, clock }
    }

    /// Sets the clock, before anything is done by it: who believes to be an hour ahead takes what others hold.
    pub async fn learn_time(&self) -> Result<(), DatabaseError> {
        database::learn_time(&self.pool, &self.clock).await
    }

    /// The service's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

fn column<T, C>(rows: &[T], of: impl FnMut(&T) -> C) -> Vec<C> {
    rows.iter().map(of).collect()
}
