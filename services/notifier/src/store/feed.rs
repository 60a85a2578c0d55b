//! Where the notifier stands in the feed, and the work that follows from it: both move in one statement.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::Store;
use super::mail::addressee_columns;
use crate::plan::Plan;

/// The only consumer so far.
const CONSUMER: &str = "notifier";

/// The cursor moves only from where this consumer read it: whoever lost the race inserts nothing.
const ADVANCE: &str = "
WITH moved AS (
    UPDATE feed_cursor SET resume_token = $3, updated_at = $4 WHERE consumer = $1 AND resume_token = $2 RETURNING consumer
), new_deliveries AS (
    INSERT INTO delivery (account_id, endpoint_id, event_id, envelope_id, sequence, body, state, attempts, next_at,
        lease_epoch, created_at)
    SELECT d.*, 1, 0, $4, 0, $4 FROM moved, unnest($5, $6, $7, $8, $9, $10) AS d
    ON CONFLICT DO NOTHING
), new_mails AS (
    INSERT INTO mail (account_id, event_id, addressee_kind, addressee_id, kind, envelope_id, livemode, occurred_at, state,
        attempts, next_at, lease_epoch, created_at)
    SELECT m.*, 1, 0, $4, 0, $4 FROM moved, unnest($11, $12, $13, $14, $15, $16, $17, $18) AS m
    ON CONFLICT DO NOTHING
)
SELECT count(*) AS count FROM moved";

enum Advance {}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct TokenRow {
    #[diesel(sql_type = Text)]
    resume_token: String,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

impl Store {
    /// The token to resume from; empty at the very beginning.
    pub async fn resume_token(&self) -> Result<String, DatabaseError> {
        enum Read {}
        let now = self.clock.now();
        let mut conn = acquire(&self.pool).await?;
        let insert =
            "INSERT INTO feed_cursor (consumer, resume_token, updated_at) VALUES ($1, '', $2) ON CONFLICT DO NOTHING";
        diesel::sql_query(insert).bind::<Text, _>(CONSUMER).bind::<Timestamptz, _>(now).execute(&mut *conn).await?;
        let read = "SELECT resume_token, clock_timestamp() AS now FROM feed_cursor WHERE consumer = $1";
        let query = diesel::sql_query(read).bind::<Text, _>(CONSUMER);
        let row: TokenRow = prepared::<Read, _>(query).get_result(&mut *conn).await?;
        self.clock.observe(row.now);
        Ok(row.resume_token)
    }

    /// Stores what follows from the events between two tokens and moves the cursor, all or nothing. False if the cursor
    /// was not at `from` any more: somebody else is the consumer now.
    pub async fn advance(&self, from: &str, to: &str, plan: &Plan) -> Result<bool, DatabaseError> {
        let (deliveries, mails) = (&plan.deliveries, &plan.mails);
        let sequence = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let query = diesel::sql_query(ADVANCE)
            .into_boxed::<Pg>()
            .bind::<Text, _>(CONSUMER)
            .bind::<Text, _>(from)
            .bind::<Text, _>(to)
            .bind::<Timestamptz, _>(self.clock.now())
            .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.account.uuid()))
            .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.endpoint.uuid()))
            .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.event.uuid()))
            .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.envelope.uuid()))
            .bind::<Array<BigInt>, _>(column(deliveries, |d| sequence(d.sequence)))
            .bind::<Array<Bytea>, _>(column(deliveries, |d| d.body.clone()))
            .bind::<Array<SqlUuid>, _>(column(mails, |m| m.account.uuid()))
            .bind::<Array<SqlUuid>, _>(column(mails, |m| m.event.uuid()))
            .bind::<Array<SmallInt>, _>(column(mails, |m| addressee_columns(m.addressee).0))
            .bind::<Array<SqlUuid>, _>(column(mails, |m| addressee_columns(m.addressee).1))
            .bind::<Array<SmallInt>, _>(column(mails, |m| m.kind as i16))
            .bind::<Array<SqlUuid>, _>(column(mails, |m| m.envelope.uuid()))
            .bind::<Array<Bool>, _>(column(mails, |m| m.livemode))
            .bind::<Array<Timestamptz>, _>(column(mails, |m| m.occurred_at));
        let mut conn = acquire(&self.pool).await?;
        let moved: Count = prepared::<Advance, _>(query).get_result(&mut *conn).await?;
        Ok(moved.count == 1)
    }

    /// Starts over at the oldest event that is kept, because the feed cannot be resumed; keeps the lost token for the
    /// operator.
    pub async fn start_over(&self, lost: &str) -> Result<(), DatabaseError> {
        let reset = "UPDATE feed_cursor SET resume_token = '', lost_from = $2, updated_at = $3 \
                     WHERE consumer = $1 AND resume_token = $2";
        let mut conn = acquire(&self.pool).await?;
        let query = diesel::sql_query(reset).bind::<Text, _>(CONSUMER).bind::<Text, _>(lost);
        query.bind::<Timestamptz, _>(self.clock.now()).execute(&mut *conn).await?;
        Ok(())
    }
}

fn column<T, C>(rows: &[T], of: impl FnMut(&T) -> C) -> Vec<C> {
    rows.iter().map(of).collect()
}
