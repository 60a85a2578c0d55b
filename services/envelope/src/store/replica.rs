//! Reads from a replica of the database, for answers that may be some seconds old.
//!
//! Must never decide a change by what a replica shows, nor believe a replica about its own age: one that was cut off holds itself
//! to be up to date. The service keeps saying the time in a row, the beat, and what is read under one snapshot with it is as old
//! as that at most.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::config::DatabaseConfig;
use countersign_chassis::database::{self, DatabaseError, Flight, Pool, acquire, prepared};
use countersign_chassis::held;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::envelope::whole;
use super::list::{Filter, Listed, listed};
use super::{Scope, Statements, Store, joined};
use crate::domain::envelope::Envelope;
use crate::domain::id::{AccountId, EnvelopeId};
use crate::measure::{self, ReplicaRead};

/// How often the time is said.
pub const BEAT: Duration = Duration::from_millis(500);
/// How long another process may have said it ago, so that it need not be said again.
const RECENT: TimeDelta = TimeDelta::milliseconds(400);
/// How far the clocks of two processes may be apart, each of which follows that of the database: answers are said to be older by that.
const APART: TimeDelta = TimeDelta::milliseconds(250);
/// How long a replica is left alone that did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a replica is waited for that says nothing at all. Its statements end sooner.
const ANSWER_MAX: Duration = Duration::from_secs(1);

const SAY: &str = "
INSERT INTO beat (at) VALUES ($1)
ON CONFLICT (one) DO UPDATE SET at = excluded.at WHERE beat.at NOT BETWEEN $2 AND excluded.at";
const HEAR: &str = "SELECT at FROM beat";

enum Say {}
enum Hear {}

#[derive(QueryableByName)]
struct Beat {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
}

/// A replica, for answers of an age that callers put up with.
pub(super) struct Replica {
    pool: Pool,
    age_max: TimeDelta,
    left_alone_until: Mutex<Option<Instant>>,
}

/// What a replica showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown<T> {
    /// What.
    pub what: T,
    /// Of which time, or later.
    pub of: DateTime<Utc>,
    /// How long ago that was, at most.
    pub age: Duration,
}

impl Replica {
    pub(super) async fn open(config: &DatabaseConfig, age_max: Duration) -> anyhow::Result<Self> {
        let pool = database::pool_of_replica(config).await?;
        held::observe(&pool, "replica");
        let age_max = TimeDelta::from_std(age_max)?;
        Ok(Self { pool, age_max, left_alone_until: Mutex::default() })
    }

    fn is_left_alone(&self) -> bool {
        let until = *self.left_alone_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn leave_alone(&self) {
        *self.left_alone_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PAUSE);
    }
}

/// When the beat was said that has come through, and what is beside it.
async fn look<T>(
    pool: Pool,
    account: AccountId,
    statement: impl Statements<T>,
) -> Result<(Option<Beat>, T), DatabaseError> {
    let flight = Flight::open(&pool).await?;
    let conn = flight.connection();
    let hear = async { prepared::<Hear, _>(diesel::sql_query(HEAR)).get_result(&mut { conn }).await.optional() };
    let (begun, beat, read, ended) =
        futures_util::join!(flight.begin_reading(account.uuid()), hear, statement(conn), flight.commit());
    if begun.is_ok() && ended.is_ok() {
        flight.close();
    }
    begun.and(ended)?;
    Ok((beat?, read?))
}

impl Store {
    /// Says the time, unless somebody has just said it.
    pub async fn beat(&self) -> Result<(), DatabaseError> {
        let now = self.clock().now();
        let say = diesel::sql_query(SAY).bind::<Timestamptz, _>(now).bind::<Timestamptz, _>(now - RECENT);
        let mut conn = acquire(&self.across_accounts).await?;
        prepared::<Say, _>(say).execute(&mut *conn).await?;
        Ok(())
    }

    /// True if there is a replica to read from.
    #[must_use]
    pub fn has_replica(&self) -> bool {
        self.replica.is_some()
    }

    /// How old what the replica shows is at most; none where there is no replica or it does not say.
    pub async fn replica_age(&self) -> Result<Option<TimeDelta>, DatabaseError> {
        let Some(replica) = &self.replica else { return Ok(None) };
        let mut conn = acquire(&replica.pool).await?;
        let beat: Option<Beat> =
            prepared::<Hear, _>(diesel::sql_query(HEAR)).get_result(&mut *conn).await.optional()?;
        Ok(beat.map(|beat| self.clock().now() - beat.at + APART))
    }

    /// The envelope as the replica shows it. None where it does not show it, is too old, or is away: the database knows then.
    pub async fn envelope_shown(&self, scope: Scope, id: EnvelopeId) -> Option<Shown<Envelope>> {
        let shown = self.shown(scope.account, move |conn| async move { whole(conn, scope, id).await }.boxed());
        let Shown { what, of, age } = shown.await?;
        Some(Shown { what: what?, of, age })
    }

    /// A page of envelopes as the replica shows it, if it may.
    pub async fn envelopes_shown(
        &self,
        scope: Scope,
        filter: Filter,
        seen: Option<EnvelopeId>,
    ) -> Option<Shown<Listed>> {
        self.shown(scope.account, move |conn| async move { listed(conn, scope, &filter, seen).await }.boxed()).await
    }

    async fn shown<T: Send + 'static>(&self, account: AccountId, statement: impl Statements<T>) -> Option<Shown<T>> {
        let replica = self.replica.as_ref().filter(|replica| !replica.is_left_alone())?;
        let look = tokio::spawn(look(replica.pool.clone(), account, statement).in_current_span());
        let looked = tokio::time::timeout(ANSWER_MAX, look).await.map_or(Err(DatabaseError::Busy), joined);
        let (beat, shown) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                tracing::warn!(error = error.to_string(), "the replica does not answer: the database is read");
                // One statement that was refused says nothing about others, nor one connection that has gone.
                if matches!(error, DatabaseError::Busy) {
                    replica.leave_alone();
                }
                measure::read_from_replica(ReplicaRead::Away);
                return None;
            }
        };
        // From the future comes what was said before a clock was set back.
        let fits = |age: &TimeDelta| (TimeDelta::zero()..=replica.age_max).contains(age);
        let told = beat.map(|beat| (beat.at - APART, self.clock().now() - beat.at + APART));
        let Some((of, age)) = told.filter(|(_, age)| fits(age)) else {
            measure::read_from_replica(ReplicaRead::Behind);
            return None;
        };
        measure::read_from_replica(ReplicaRead::Shown);
        Some(Shown { what: shown, of, age: age.to_std().unwrap_or_default() })
    }
}
