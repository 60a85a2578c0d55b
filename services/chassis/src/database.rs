//! Postgres: the pool, migrations, and transactions whose statements travel together.
//!
//! Round trips decide the speed of a change, so a transaction here is two flights: BEGIN with the reads, then the write
//! with COMMIT. No network I/O but the database's may happen inside one.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use diesel::connection::TransactionManagerStatus;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::Timestamptz;
use diesel::{QueryResult, QueryableByName};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, PoolError, bb8};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl as _};
use diesel_async::{SimpleAsyncConnection as _, TransactionManager as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::DatabaseConfig;
use crate::dial::{Dial, REPLICA_URL, URL};
use crate::held;

pub use crate::held::{Connection, acquire};
pub use crate::pool::Pool;
pub use crate::statement::{Prepared, PreparedByText, fixed, prepared};
/// How transactions are tracked.
type Manager = <AsyncPgConnection as diesel_async::AsyncConnection>::TransactionManager;

/// Session limits, in milliseconds: nothing waits without bound.
///
/// What others of our sessions set is set back: a pooler may hand on a session without resetting it.
const SESSION: &str = "SET statement_timeout = 5000; SET lock_timeout = 2000; \
     SET idle_in_transaction_session_timeout = 5000; SET countersign.across_accounts = off; \
     SET default_transaction_read_only = off";
/// For work whose transactions see the rows of all accounts.
const ACROSS_ACCOUNTS: &str = "SET countersign.across_accounts = on";
/// A replica that becomes the database is not written to by whoever came to read.
/// Nor does it wait for long: the database is there for what a replica does not answer.
const READING: &str = "SET default_transaction_read_only = on; SET statement_timeout = 500";
/// A replica shows what was and takes nothing: an address that leads to one, as after a demotion, is no way to the database.
const NO_REPLICA: &str =
    "DO $$ BEGIN IF pg_is_in_recovery() THEN RAISE 'it is a replica, which takes no changes'; END IF; END $$";
/// Migrations may run longer than requests.
const MIGRATION: &str = "SET statement_timeout = 0; SET lock_timeout = 10000; SET default_transaction_read_only = off; \
     SET countersign.across_accounts = on";
/// Who looks at everything takes its time, and can change nothing.
const LOOKING: &str = "SET default_transaction_read_only = on; SET statement_timeout = 0; SET lock_timeout = 10000; \
     SET idle_in_transaction_session_timeout = 600000; SET countersign.across_accounts = on";
/// How long a service that starts waits for its database, and how long between two tries. Longer than a connection that leads nowhere
/// takes to fail (10 s), and the wait for the next one (`database_wait_ms`, 5 s).
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(500);
/// How long a connection lives at most.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 60);
/// Who works off a queue goes by its indexes: plans are kept, and those that were made while it was empty must not read all of it
/// once it is full.
const BY_INDEX: &str = "SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; \
     SET LOCAL jit = off";
/// Key of the advisory lock under which migrations run.
const MIGRATION_LOCK: i64 = 0x0063_7372_6d69_6772;

/// Why the database did not answer with a result.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No connection was to be had in time.
    #[error("no database connection in time")]
    Busy,
    /// The connection broke; a change may have been committed or not.
    #[error("the database connection broke: {0}")]
    Broken(#[source] DieselError),
    /// A reply is kept for the request's idempotency key.
    #[error("the idempotency key has been used")]
    KeyUsed,
    /// Another transaction holds the request's idempotency key.
    #[error("the idempotency key is in use")]
    KeyInUse,
    /// The database refused a statement.
    #[error("the database refused: {0}")]
    Refused(#[source] DieselError),
}

impl From<DieselError> for DatabaseError {
    fn from(error: DieselError) -> Self {
        match &error {
            DieselError::DatabaseError(
                DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
                _,
            ) => Self::Broken(error),
            // tokio-postgres reports a cut connection under an unknown kind, without a constraint or a table.
            DieselError::DatabaseError(DatabaseErrorKind::Unknown, info)
                if ["connection closed", "error communicating", "terminating connection", "the database system is"]
                    .iter()
                    .any(|text| info.message().contains(text)) =>
            {
                Self::Broken(error)
            }
            // As `claim_idempotency_key` words them.
            DieselError::DatabaseError(DatabaseErrorKind::Unknown, info) if info.message() == KEY_USED => Self::KeyUsed,
            DieselError::DatabaseError(DatabaseErrorKind::Unknown, info) if info.message() == KEY_IN_USE => {
                Self::KeyInUse
            }
            // Of a table that is spread over shards the key has the shard's number behind its name.
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, info)
                if info.constraint_name().is_some_and(|name| name.starts_with("idempotency_pkey")) =>
            {
                Self::KeyUsed
            }
            _ => Self::Refused(error),
        }
    }
}

/// What Postgres says, or has to add, when it could not do something now that it may do later.
const PASSING: [&str; 9] = [
    "lock timeout",
    "statement timeout",
    // A disk that is full, or takes nothing more: tables, sorts and the journal each have their own words before these.
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "could not extend file",
    "could not write",
    // Memory, and the table of all locks.
    "out of memory",
    "out of shared memory",
];

/// What `claim_idempotency_key` says when a reply is kept for the key.
const KEY_USED: &str = "idempotency key used";
/// What it says when another transaction holds it.
const KEY_IN_USE: &str = "idempotency key in use";

impl DatabaseError {
    /// True if the same transaction may be tried again: nothing of it was kept.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let Self::Refused(DieselError::DatabaseError(kind, info)) = self else { return false };
        matches!(kind, DatabaseErrorKind::SerializationFailure) || info.message().contains("deadlock detected")
    }

    /// True if a later try may succeed: the database is away, too busy, out of room, or takes no changes for now.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy | Self::Broken(_) => true,
            Self::Refused(DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _)) => true,
            // Details of other kinds quote rows, which may hold any words.
            Self::Refused(DieselError::DatabaseError(DatabaseErrorKind::Unknown, info)) => {
                let told = [Some(info.message()), info.details()];
                let is_passing = |told: &str| PASSING.iter().any(|words| told.contains(words));
                self.is_retryable() || told.into_iter().flatten().any(is_passing)
            }
            Self::Refused(DieselError::DatabaseError(..)) => self.is_retryable(),
            Self::Refused(_) | Self::KeyUsed | Self::KeyInUse => false,
        }
    }
}

/// Opens a pool. Connections are made when they are needed.
pub async fn pool(config: &DatabaseConfig) -> anyhow::Result<Pool> {
    pool_with(config, URL, &format!("{SESSION}; {NO_REPLICA}")).await
}

/// Opens a pool of connections to a replica, for reading.
pub async fn pool_of_replica(config: &DatabaseConfig) -> anyhow::Result<Pool> {
    pool_with(config, REPLICA_URL, &format!("{SESSION}; {READING}")).await
}

/// Opens a pool for the service's own work, whose transactions see the rows of all accounts.
pub async fn pool_across_accounts(config: &DatabaseConfig) -> anyhow::Result<Pool> {
    pool_with(config, URL, &format!("{SESSION}; {ACROSS_ACCOUNTS}; {NO_REPLICA}")).await
}

/// Opens a pool of one connection for looking at the rows of all accounts, however long that takes.
pub async fn pool_for_looking(config: &DatabaseConfig) -> anyhow::Result<Pool> {
    pool_with(&DatabaseConfig { database_pool_max: 1, ..config.clone() }, URL, LOOKING).await
}

async fn pool_with(config: &DatabaseConfig, named: &'static str, session: &str) -> anyhow::Result<Pool> {
    let dial = Arc::new(Dial::new(config, named, session)?);
    let mut manager = ManagerConfig::default();
    manager.custom_setup = Box::new(move |_| {
        let dial = Arc::clone(&dial);
        async move { dial.connect().await }.boxed()
    });
    // The address stays with the dial.
    let manager = AsyncDieselConnectionManager::new_with_config("", manager);
    let wait = Duration::from_millis(config.database_wait_ms);
    let connections = bb8::Pool::builder()
        .max_size(config.database_pool_max)
        .max_lifetime(Some(LIFETIME_MAX))
        .connection_timeout(wait)
        .test_on_check_out(false)
        .error_sink(Box::new(Unreached))
        .build(manager)
        .await
        .context("database pool")?;
    Ok(Pool::new(connections, wait))
}

/// Says why there is no connection: whoever waits for one is told only that none came in time.
#[derive(Clone, Copy, Debug)]
struct Unreached;

impl ::bb8::ErrorSink<PoolError> for Unreached {
    fn sink(&self, error: PoolError) {
        tracing::warn!(error = error.to_string(), "no connection to the database");
    }

    fn boxed_clone(&self) -> Box<dyn ::bb8::ErrorSink<PoolError>> {
        Box::new(*self)
    }
}

/// Takes the time from the database. Before anything is decided by it: this machine's own may be wrong by any amount.
pub async fn learn_time(pool: &Pool, clock: &Clock) -> Result<(), DatabaseError> {
    let now = patiently(|| time_of(pool)).await?;
    clock.observe(now);
    Ok(())
}

/// What a service asks as it starts to serve. A database that is away for a moment, as after a crash, is waited for: whoever runs
/// a service takes ever longer to start it again.
pub async fn patiently<T, F: Future<Output = Result<T, DatabaseError>>>(
    ask: impl Fn() -> F,
) -> Result<T, DatabaseError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tracing::info!(error = error.to_string(), "waiting for the database");
                tokio::time::sleep(PAUSE).await;
            }
            told => return told,
        }
    }
}

async fn time_of(pool: &Pool) -> Result<DateTime<Utc>, DatabaseError> {
    let asked = diesel::sql_query("SELECT clock_timestamp() AS now");
    let told: Told = asked.get_result(&mut *acquire(pool).await?).await?;
    Ok(told.now)
}

#[derive(QueryableByName)]
struct Told {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

/// Asks whether the database answers, on a connection that nothing else waits for: when all others are in use, it does.
pub struct Pulse(Pool);

impl Pulse {
    /// With a connection of its own, made when it is needed.
    pub async fn new(config: &DatabaseConfig) -> anyhow::Result<Self> {
        Ok(Self(pool(&DatabaseConfig { database_pool_max: 1, ..config.clone() }).await?))
    }

    /// Whether the database answers, each time that it is asked.
    pub fn beats(self) -> impl Fn() -> BoxFuture<'static, bool> + Send + Sync {
        move || {
            let pool = self.0.clone();
            async move {
                let Ok(mut connection) = acquire(&pool).await else { return false };
                connection.batch_execute("SELECT 1").await.is_ok()
            }
            .boxed()
        }
    }
}

/// Brings the schema up to date. Several replicas may try at once: one does it, the others wait and find it done.
///
/// In a task of its own: diesel's harness blocks its thread, and where that thread also drives other futures (`join!`,
/// the main task) it swallows their wake-ups.
pub async fn migrate(config: &DatabaseConfig, migrations: EmbeddedMigrations) -> anyhow::Result<()> {
    let dial = Dial::new(config, URL, MIGRATION)?;
    tokio::spawn(run_migrations(dial, migrations)).await.context("the migration was cut")?
}

async fn run_migrations(dial: Dial, migrations: EmbeddedMigrations) -> anyhow::Result<()> {
    let mut connection = dial.connect().await.context("no connection to the database")?;
    // `lock_timeout` bounds lock waits of statements and of this lock alike: wait for another's migrations as long as
    // they take.
    loop {
        match connection.batch_execute(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})")).await {
            Ok(()) => break,
            Err(error) if error.to_string().contains("lock timeout") => {
                tracing::info!("another process is migrating the database; waiting");
            }
            Err(error) => return Err(error).context("migration lock"),
        }
    }
    let mut harness = AsyncMigrationHarness::new(connection);
    let done = harness.run_pending_migrations(migrations).map_err(|error| anyhow::anyhow!("{error}"))?;
    for version in done {
        tracing::info!(version = version.to_string(), "migrated");
    }
    Ok(())
}

enum Begin {}
enum Commit {}
enum Rollback {}

/// Whether a commit waits for the disk. What does not may be lost with the database, and is never half there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// It waits.
    Yes,
    /// It does not.
    No,
}

/// A transaction whose statements may be sent without waiting for each other's answers.
///
/// Until [`Flight::commit`] or [`Flight::rollback`] has been answered the connection counts as broken, so that one which
/// is dropped in between (a panic, a cut task) is closed and never goes back to the pool inside a transaction.
pub struct Flight {
    connection: Connection,
}

impl Flight {
    /// Takes a connection for a transaction. Sends nothing yet.
    #[track_caller]
    pub fn open(pool: &Pool) -> impl Future<Output = Result<Self, DatabaseError>> + Send + use<'_> {
        Self::open_for(pool, held::room(Location::caller()))
    }

    /// The same for another room than that of the caller.
    pub async fn open_for(pool: &Pool, room: &'static str) -> Result<Self, DatabaseError> {
        let mut connection = held::acquire_for(pool, room).await?;
        Manager::transaction_manager_status_mut(&mut *connection).set_in_error();
        connection.set_failed(true);
        Ok(Self { connection })
    }

    /// The connection, for statements polled together.
    #[must_use]
    pub fn connection(&self) -> &AsyncPgConnection {
        &self.connection
    }

    /// BEGIN. Poll it first.
    pub fn begin(&self) -> impl Future<Output = QueryResult<usize>> + '_ {
        prepared::<Begin, _>(diesel::sql_query("BEGIN")).execute(&mut self.connection())
    }

    /// BEGIN, for rows of that account alone: row-level security hides all others. Poll it first.
    ///
    /// In text, because SET takes no parameters; SET LOCAL because anything longer would leak into the next transaction.
    pub async fn begin_for(&self, account: Uuid) -> QueryResult<()> {
        self.connection().batch_execute(&format!("BEGIN; SET LOCAL countersign.account = '{account}'")).await
    }

    /// The same under one snapshot, for reading only.
    pub async fn begin_reading(&self, account: Uuid) -> QueryResult<()> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.connection().batch_execute(&format!("{begin}; SET LOCAL countersign.account = '{account}'")).await
    }

    /// BEGIN, for statements that go by an index whose order they ask for, or by key. Poll it first.
    pub async fn begin_by_index(&self, durable: Durable) -> QueryResult<()> {
        let begin = match durable {
            Durable::Yes => "BEGIN",
            Durable::No => "BEGIN; SET LOCAL synchronous_commit = off",
        };
        self.connection().batch_execute(&format!("{begin}; {BY_INDEX}")).await
    }

    /// COMMIT. Poll it last, together with the writes: it waits its turn even while they are being prepared, and after a
    /// failed write Postgres takes it as ROLLBACK.
    pub fn commit(&self) -> impl Future<Output = QueryResult<usize>> + '_ {
        prepared::<Commit, _>(diesel::sql_query("COMMIT")).execute(&mut self.connection())
    }

    /// Gives the connection back after an answered COMMIT.
    pub fn close(mut self) {
        *Manager::transaction_manager_status_mut(&mut *self.connection) = TransactionManagerStatus::default();
        self.connection.set_failed(false);
    }

    /// ROLLBACK, and gives the connection back.
    pub async fn rollback(self) -> Result<(), DatabaseError> {
        prepared::<Rollback, _>(diesel::sql_query("ROLLBACK")).execute(&mut self.connection()).await?;
        self.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: DatabaseErrorKind, words: &str) -> DatabaseError {
        DieselError::DatabaseError(kind, Box::new(words.to_owned())).into()
    }

    #[test]
    fn what_may_work_later_is_known_from_what_is_wrong() {
        for words in [
            "could not extend file \"base/16384/16601\": No space left on device",
            "could not extend file \"base/16384/16601\": wrote only 4096 of 8192 bytes at block 7",
            "could not write to file \"pg_wal/xlogtemp.117\": No space left on device",
            "could not write to file \"base/pgsql_tmp/pgsql_tmp117.0\": Disk quota exceeded",
            "could not open file \"base/16384/16601\": Read-only file system",
            "could not resize shared memory segment \"/PostgreSQL.11\" to 1048576 bytes: No space left on device",
            "out of shared memory",
            "canceling statement due to lock timeout",
            "canceling statement due to statement timeout",
            "the database system is in recovery mode",
            "the database system is shutting down",
            "the database system is not yet accepting connections",
            "terminating connection because of crash of another server process",
        ] {
            assert!(told(DatabaseErrorKind::Unknown, words).is_transient(), "{words}");
        }
        let demoted = told(DatabaseErrorKind::ReadOnlyTransaction, "cannot execute INSERT in a read-only transaction");
        assert!(demoted.is_transient() && !demoted.is_retryable());
        for words in ["relation \"envelope\" does not exist", "division by zero", "invalid page in block 7"] {
            assert!(!told(DatabaseErrorKind::Unknown, words).is_transient(), "{words}");
        }
        // What somebody called their envelope is nobody's full disk.
        assert!(!told(DatabaseErrorKind::CheckViolation, "(No space left on device)").is_transient());
    }
}
