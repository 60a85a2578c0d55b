//! Changes that are made once for each idempotency key: claim, change, keep the reply, commit.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Flight, acquire};
use countersign_chassis::failpoint;
use countersign_chassis::once::{self, Kept, Once, claimed};
use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::result::OptionalExtension as _;
use diesel_async::RunQueryDsl as _;

use super::Store;

/// Commits, with the reply to be kept.
pub(super) async fn end(flight: Flight, kept: Option<(Once, Vec<u8>)>) -> Result<(), DatabaseError> {
    let keep = async {
        match kept {
            Some((once, reply)) => once::keep(flight.connection(), &once, reply).await.map(drop),
            None => Ok(()),
        }
    };
    let sent = async {
        failpoint!("endpoint.sent");
    };
    failpoint!("endpoint.changed");
    let (kept, committed, ()) = futures_util::join!(keep, flight.commit(), sent);
    failpoint!("endpoint.committed");
    kept?;
    committed?;
    flight.close();
    Ok(())
}

impl Store {
    /// The reply that is kept for a key.
    pub async fn kept(&self, once: &Once) -> Result<Option<Kept>, DatabaseError> {
        let conn = acquire(&self.pool).await?;
        Ok(once::find(&conn, once).await?)
    }

    /// Forgets the replies whose time is over, at most `limit`; says how many.
    pub async fn forget_replies(&self, now: DateTime<Utc>, limit: i64) -> Result<usize, DatabaseError> {
        let conn = acquire(&self.pool).await?;
        Ok(once::forget(&conn, now, limit).await?)
    }

    /// Changes one row and keeps the reply about it. Nothing if there is no such row; then no reply is kept either.
    pub(super) async fn change<R>(
        &self,
        once: Option<&Once>,
        change: BoxedSqlQuery<'_, Pg, SqlQuery>,
        reply: impl FnOnce(&R) -> Vec<u8>,
    ) -> Result<Option<R>, DatabaseError>
    where
        R: diesel::deserialize::QueryableByName<Pg> + Send + 'static,
    {
        self.change_behind(None, once, change, reply).await
    }

    /// The same behind a lock: the change sees what was committed while the lock was waited for.
    pub(super) async fn change_behind<R>(
        &self,
        lock: Option<BoxedSqlQuery<'_, Pg, SqlQuery>>,
        once: Option<&Once>,
        change: BoxedSqlQuery<'_, Pg, SqlQuery>,
        reply: impl FnOnce(&R) -> Vec<u8>,
    ) -> Result<Option<R>, DatabaseError>
    where
        R: diesel::deserialize::QueryableByName<Pg> + Send + 'static,
    {
        let flight = Flight::open(&self.pool).await?;
        let (mut one, mut two) = (flight.connection(), flight.connection());
        let locking = async {
            match lock {
                Some(lock) => lock.execute(&mut one).await.map(drop),
                None => Ok(()),
            }
        };
        let changing = change.get_result::<R>(&mut two);
        let (begun, claimed, locked, changed) =
            futures_util::join!(flight.begin(), claimed(flight.connection(), once), locking, changing);
        begun?;
        let changed = match claimed.and(locked).and(changed.optional()) {
            Ok(changed) => changed,
            Err(error) => {
                flight.rollback().await?;
                return Err(error.into());
            }
        };
        let kept = changed.as_ref().and_then(|row| once.map(|once| (once.clone(), reply(row))));
        end(flight, kept).await?;
        Ok(changed)
    }
}
