//! All SQL. Speaks the domain's language; knows neither gRPC nor protobuf.
//!
//! An envelope changes only through [`Store::create`] (one flight) and [`Store::change`] (two flights: lock and load,
//! write and commit). Everything else reads.

mod account;
mod artifact;
mod change;
mod check;
mod create;
mod drawing;
mod due;
mod envelope;
mod feed;
mod history;
mod ingest;
mod job;
mod keep;
mod ledger;
mod list;
mod measure;
mod metadata;
mod notices;
mod page;
mod removal;
mod replica;
mod rows;
pub mod schema;
mod settings;
mod settle;
mod terms;
mod trim;
mod upload;

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::DatabaseConfig;
pub use countersign_chassis::database::DatabaseError;
use countersign_chassis::database::{self, Flight, Pool, acquire};
use countersign_chassis::failpoint;
use countersign_chassis::held::{self, room};
use countersign_chassis::once::{self, Kept, Once, claimed};
use diesel::QueryResult;
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore};
use tracing::Instrument as _;
use uuid::Uuid;

pub use self::account::{NewKey, UserRow};
pub use self::artifact::Known;
pub use self::change::{Change, Changed};
pub use self::check::{Looked, QUESTIONS, Sums};
pub use self::create::{CREATE, NewEnvelope};
pub use self::due::{BEGINNING, Due, Duty, Lows};
pub use self::feed::{Heads, PARTS, Parts, Position, Positions};
pub use self::ingest::{Got, Kept as KeptBytes, ReadingJob};
pub use self::job::Job;
pub use self::keep::{Purged, READING_MINUTES_MAX};
pub use self::ledger::{Entry as LedgerEntry, Kind as LedgerKind, is_insufficient};
pub use self::list::{Filter, Listed, Summary};
pub use self::measure::{OPEN, Queue, Waiting};
pub use self::page::{About, FeedEvent, Page, Sieve, Wanted};
pub use self::removal::{Grave, is_condemned};
use self::replica::Replica;
pub use self::replica::{BEAT, Shown};
use self::settle::Settling;
pub use self::upload::Upload;
use crate::domain::id::{AccountId, EnvelopeId};

/// The schema of this service.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The database of this service.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    across_accounts: Pool,
    replica: Option<Arc<Replica>>,
    clock: Clock,
    committed: Arc<Notify>,
    artifacts_due: Arc<Notify>,
    readings_due: Arc<Notify>,
    settling: Arc<Settling>,
    /// Turns at pages of the feed: of accounts, and of services, who must not wait for accounts.
    pages: Arc<Semaphore>,
    pages_across: Arc<Semaphore>,
}

async fn write<T: Send + 'static>(
    (pool, room): (Pool, &'static str),
    account: AccountId,
    keep: Option<Keep<T>>,
    statements: impl Statements<T>,
) -> Result<T, DatabaseError> {
    let write = async move {
        let flight = Flight::open_for(&pool, room).await?;
        let conn = flight.connection();
        let once = keep.as_ref().map(|keep| &keep.once);
        let (begun, claimed) = futures_util::join!(flight.begin_for(account.uuid()), claimed(conn, once));
        begun?;
        // What carries no key, such as when a key was last used, is nobody's effect.
        if keep.is_some() {
            failpoint!("write.claimed");
        }
        let written = match claimed {
            Ok(()) => statements(conn).await,
            Err(error) => Err(error),
        };
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                flight.rollback().await?;
                return Err(error.into());
            }
        };
        if let Some(Keep { once, reply }) = keep {
            let Some(reply) = reply(&written) else {
                flight.rollback().await?;
                return Ok(written);
            };
            failpoint!("write.keeping");
            let sent = async {
                failpoint!("write.sent");
            };
            let (kept, committed, ()) = futures_util::join!(once::keep(conn, &once, reply), flight.commit(), sent);
            kept?;
            committed?;
            failpoint!("write.committed");
        } else {
            flight.commit().await?;
        }
        flight.close();
        Ok(written)
    };
    joined(tokio::spawn(write.in_current_span()).await)
}

/// Ends a transaction in which nothing was changed. A repeat changes nothing, but the same key is to be answered in the same way.
async fn leave(flight: Flight, kept: Option<&(Once, Vec<u8>)>) -> Result<(), DatabaseError> {
    if kept.is_none() {
        return flight.rollback().await;
    }
    let (kept, committed) = futures_util::join!(create::keep(flight.connection(), kept), flight.commit());
    kept?;
    committed?;
    flight.close();
    Ok(())
}

/// What a task came to. A panic goes on where the task was waited for; a cut task is the runtime's end.
pub(crate) fn joined<T>(ended: Result<Result<T, DatabaseError>, tokio::task::JoinError>) -> Result<T, DatabaseError> {
    match ended {
        Ok(result) => result,
        Err(cut) if cut.is_panic() => std::panic::resume_unwind(cut.into_panic()),
        Err(_) => Err(DatabaseError::Busy),
    }
}

/// Statements of one transaction.
trait Statements<T>: for<'a> FnOnce(&'a AsyncPgConnection) -> BoxFuture<'a, QueryResult<T>> + Send + 'static {}
impl<T, F: for<'a> FnOnce(&'a AsyncPgConnection) -> BoxFuture<'a, QueryResult<T>> + Send + 'static> Statements<T>
    for F
{
}

/// What to keep of a change that is made once.
pub struct Keep<T> {
    /// The key.
    pub once: Once,
    /// The reply to what came of it; `None` where it is not kept and nothing is changed.
    pub reply: KeptReply<T>,
}

/// Words a reply to be kept.
type KeptReply<T> = Box<dyn FnOnce(&T) -> Option<Vec<u8>> + Send>;

/// One in so many connections is for the service's own loops and streams …
const LOOPS_SHARE: u32 = 4;
/// … at most.
const LOOP_CONNECTIONS_MAX: u32 = 6;
/// Pages of the feed that are read at a time from a pool for consumers who are behind: they must not take every connection.
const PAGES_MAX: usize = 3;

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
    /// Opens the database.
    pub async fn open(config: &DatabaseConfig, clock: Clock) -> anyhow::Result<Self> {
        let loops = (config.database_pool_max / LOOPS_SHARE).clamp(1, LOOP_CONNECTIONS_MAX);
        let calls = config.database_pool_max.saturating_sub(loops).max(1);
        let (pages, pages_across) = (turns(calls), turns(loops));
        let pool = database::pool(&DatabaseConfig { database_pool_max: calls, ..config.clone() }).await?;
        let loops = DatabaseConfig { database_pool_max: loops, ..config.clone() };
        let across_accounts = database::pool_across_accounts(&loops).await?;
        held::observe(&pool, "calls");
        held::observe(&across_accounts, "loops");
        let (committed, artifacts_due, readings_due) = (Arc::default(), Arc::default(), Arc::default());
        let settling = Arc::default();
        Ok(Self {
            pool,
            across_accounts,
            replica: None,
            clock,
            committed,
            artifacts_due,
            readings_due,
            settling,
            pages,
            pages_across,
        })
    }

    /// With a replica, for answers that may be that old.
    pub async fn with_replica(self, config: &DatabaseConfig, age_max: Duration) -> anyhow::Result<Self> {
        Ok(Self { replica: Some(Arc::new(Replica::open(config, age_max).await?)), ..self })
    }

    /// Reads with one statement, of one account.
    ///
    /// In a task of its own: a caller who hangs up must not cost a connection; who does so while there is none waits no longer.
    #[track_caller]
    fn read_one<T: Send + 'static>(
        &self,
        account: AccountId,
        statement: impl Statements<T>,
    ) -> impl Future<Output = Result<T, DatabaseError>> + Send {
        let (pool, room) = (self.pool.clone(), room(Location::caller()));
        let read = move |flight: Flight| async move {
            let conn = flight.connection();
            let (begun, read, ended) =
                futures_util::join!(flight.begin_for(account.uuid()), statement(conn), flight.commit());
            // After a refused statement COMMIT was a ROLLBACK: nothing is open either way.
            if begun.is_ok() && ended.is_ok() {
                flight.close();
            }
            begun.and(ended)?;
            Ok(read?)
        };
        async move {
            let flight = Flight::open_for(&pool, room).await?;
            joined(tokio::spawn(read(flight).in_current_span()).await)
        }
    }

    /// Writes to one account: claims the key, runs the statements, keeps the reply, commits. A reply of `None` takes
    /// everything back.
    #[track_caller]
    fn write<T: Send + 'static>(
        &self,
        account: AccountId,
        keep: Option<Keep<T>>,
        statements: impl Statements<T>,
    ) -> impl Future<Output = Result<T, DatabaseError>> + Send {
        write((self.pool.clone(), room(Location::caller())), account, keep, statements)
    }

    /// The same where the rows are of more than one account.
    #[track_caller]
    fn write_across<T: Send + 'static>(
        &self,
        account: AccountId,
        keep: Option<Keep<T>>,
        statements: impl Statements<T>,
    ) -> impl Future<Output = Result<T, DatabaseError>> + Send {
        write((self.across_accounts.clone(), room(Location::caller())), account, keep, statements)
    }

    /// The connections that calls have.
    #[must_use]
    pub fn calls(&self) -> Pool {
        self.pool.clone()
    }

    /// Sets the clock, before anything is done by it.
    pub async fn learn_time(&self) -> Result<(), DatabaseError> {
        database::learn_time(&self.pool, &self.clock).await
    }

    /// True if the database's user sees all rows whatever the second wall says: a superuser, or one that bypasses it.
    pub async fn sees_all_rows(&self) -> Result<bool, DatabaseError> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Bool)]
            all: bool,
        }
        let question = "SELECT rolsuper OR rolbypassrls AS all FROM pg_roles WHERE rolname = current_user";
        let mut conn = acquire(&self.pool).await?;
        let row: Row = diesel::sql_query(question).get_result(&mut *conn).await?;
        Ok(row.all)
    }

    /// Keeps a reply to what changed nothing.
    pub async fn remember(&self, account: AccountId, keep: Option<Keep<()>>) -> Result<(), DatabaseError> {
        match keep {
            Some(keep) => self.write(account, Some(keep), |_| async { Ok(()) }.boxed()).await,
            None => Ok(()),
        }
    }

    /// The reply that is kept for a key.
    pub async fn kept(&self, once: Once) -> Result<Option<Kept>, DatabaseError> {
        let account = AccountId::from_uuid(once.account());
        self.read_one(account, move |conn| async move { once::find(conn, &once).await }.boxed()).await
    }

    /// Forgets the replies whose time is over, at most `limit`; says how many.
    pub async fn forget_replies(&self, now: DateTime<Utc>, limit: i64) -> Result<usize, DatabaseError> {
        let conn = acquire(&self.across_accounts).await?;
        Ok(once::forget(&conn, now, limit).await?)
    }

    /// Notified after each commit that left something in the outbox.
    #[must_use]
    pub fn committed(&self) -> Arc<Notify> {
        Arc::clone(&self.committed)
    }

    /// Notified after each commit that left documents to be read.
    #[must_use]
    pub fn readings_due(&self) -> Arc<Notify> {
        Arc::clone(&self.readings_due)
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

/// Turns at pages that are read from a pool of so many connections: one is left for all else where there is more than one.
fn turns(connections: u32) -> Arc<Semaphore> {
    let most = usize::try_from(connections.saturating_sub(1)).unwrap_or(PAGES_MAX);
    Arc::new(Semaphore::new(most.clamp(1, PAGES_MAX)))
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
