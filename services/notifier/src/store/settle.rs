//! What comes of attempts is written down, by whoever holds the lease.
//!
//! What was taken, which is nearly everything, many at a time: the disk is waited for once for all of them.

use std::borrow::Cow;
use std::collections::HashSet;

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Durable, Flight, acquire, prepared};
use countersign_chassis::sabotaged;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::delivery::BREAKER;
use super::{ClaimedDelivery, Store, column};
use crate::id::{AccountId, EndpointId};

/// A success is noted again after so many seconds.
const SUCCESS_NOTED_SECONDS: f64 = 10.0;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When it began.
    pub at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: i32,
    /// The answer's HTTP status, if there was an answer.
    pub status_code: Option<u16>,
    /// Why there was none.
    pub failure: Option<&'static str>,
    /// The beginning of the answer.
    pub answer: String,
    /// Until when the whole endpoint is left alone.
    pub rest_until: Option<DateTime<Utc>>,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Delivered.
    Delivered,
    /// To be tried again then.
    Again(DateTime<Utc>),
    /// Given up.
    Dead,
    /// Given up, and the endpoint with it: it answered that it is gone.
    Gone,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Rows are locked in the order of their keys: who writes down much waits for nobody who waits for it. `state + 0` keeps from the
/// indexes of what waits, which seem as good as the key while nothing does.
const TAKEN: &str = "
WITH taken AS MATERIALIZED (
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) WITH ORDINALITY
        AS t(account_id, endpoint_id, event_id, epoch, at, duration_ms, status_code, answer, url, number)
), held AS MATERIALIZED (
    SELECT d.place, taken.*
    FROM (SELECT * FROM taken ORDER BY account_id, endpoint_id, event_id) AS taken CROSS JOIN LATERAL (
        SELECT ctid AS place FROM delivery
        WHERE account_id = taken.account_id AND endpoint_id = taken.endpoint_id AND event_id = taken.event_id
            AND lease_epoch = taken.epoch AND state + 0 = 1
        FOR UPDATE
    ) AS d
), settled AS (
    UPDATE delivery AS d SET state = 2, attempts = attempts + 1, tries = tries + 1, next_at = held.at, lease_until = NULL,
        first_tried_at = coalesce(first_tried_at, held.at), cause = NULL
    FROM held WHERE d.ctid = held.place AND d.account_id IS NOT DISTINCT FROM held.account_id
    RETURNING held.account_id, held.endpoint_id, held.event_id, held.at, held.duration_ms, held.status_code, held.answer,
        held.url, held.number, d.attempts
), logged AS (
    INSERT INTO attempt (account_id, endpoint_id, event_id, number, at, duration_ms, status_code, answer)
    SELECT account_id, endpoint_id, event_id, attempts, at, duration_ms, status_code, answer FROM settled
), latest AS (
    SELECT account_id, endpoint_id, url, max(at) AS at FROM settled GROUP BY account_id, endpoint_id, url
), well AS MATERIALIZED (
    SELECT e.place, latest.account_id, latest.at
    FROM (SELECT * FROM latest ORDER BY account_id, endpoint_id) AS latest CROSS JOIN LATERAL (
        SELECT ctid AS place FROM endpoint
        WHERE account_id = latest.account_id AND id = latest.endpoint_id AND url = latest.url
            AND (consecutive_failures > 0 OR last_success_at IS NULL
                OR last_success_at <= latest.at - make_interval(secs => $10))
        FOR NO KEY UPDATE
    ) AS e
), noted AS (
    UPDATE endpoint AS e SET consecutive_failures = 0, first_failed_at = NULL, resting_until = NULL, last_success_at = well.at
    FROM well WHERE e.ctid = well.place AND e.account_id IS NOT DISTINCT FROM well.account_id
)
SELECT number FROM settled";

/// What an address answers is held against the endpoint only while that is its address: one that moved meanwhile is asked at
/// its new one. What was on its way at once and fails at once opens the breaker, and no more: how long
/// it stays open is for those to say who went through it.
const NOT_TAKEN: &str = "
WITH outcome AS MATERIALIZED (
    SELECT CASE WHEN $5 = 4 AND EXISTS (SELECT FROM endpoint WHERE account_id = $1 AND id = $2 AND url <> $13)
        THEN 1 ELSE $5 END AS state
), settled AS (
    UPDATE delivery AS d SET state = outcome.state, attempts = attempts + 1, tries = tries + 1, next_at = $6, lease_until = NULL,
        first_tried_at = coalesce(first_tried_at, $7), cause = CASE WHEN outcome.state = 4 THEN 'endpoint_disabled' END
    FROM outcome
    WHERE account_id = $1 AND endpoint_id = $2 AND event_id = $3 AND lease_epoch = $4 AND d.state + 0 = 1
    RETURNING attempts
), logged AS (
    INSERT INTO attempt (account_id, endpoint_id, event_id, number, at, duration_ms, status_code, failure, answer)
    SELECT $1, $2, $3, attempts, $7, $8, $9, $10, $11 FROM settled
), failed AS (
    UPDATE endpoint SET consecutive_failures = greatest(consecutive_failures, $14, least(consecutive_failures + 1, $15)),
        first_failed_at = coalesce(first_failed_at, $7),
        last_failure_at = $7, resting_until = greatest(resting_until, $12)
    FROM settled WHERE account_id = $1 AND id = $2 AND url = $13
)
SELECT count(*) AS count FROM settled";

/// The statement, which only whoever holds the lease gets done.
fn of_whom_it_is(statement: &'static str) -> Cow<'static, str> {
    if sabotaged!("delivery.epoch") { statement.replace("lease_epoch = ", "0 <= ").into() } else { statement.into() }
}

const REST: &str = "
UPDATE endpoint SET resting_until = greatest(resting_until, $3) WHERE account_id = $1 AND id = $2";

impl Store {
    /// Leaves an endpoint alone until then.
    pub async fn rest_endpoint(
        &self,
        (account, endpoint): (AccountId, EndpointId),
        until: DateTime<Utc>,
    ) -> Result<(), DatabaseError> {
        enum Rest {}
        let query = diesel::sql_query(REST)
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<SqlUuid, _>(endpoint.uuid())
            .bind::<Timestamptz, _>(until);
        let mut conn = acquire(&self.pool).await?;
        prepared::<Rest, _>(query).execute(&mut *conn).await?;
        Ok(())
    }

    /// Writes down an attempt, what becomes of its delivery, and how its endpoint does. False if the lease was lost
    /// meanwhile: another process has the say.
    pub async fn settle_delivery(
        &self,
        claimed: &ClaimedDelivery,
        outcome: &Outcome,
        settled: Settled,
    ) -> Result<bool, DatabaseError> {
        enum Settle {}
        let (state, next_at) = match settled {
            Settled::Delivered => return Ok(self.settle_taken(&[(claimed, outcome)]).await?.contains(&0)),
            Settled::Again(at) => (1_i16, at),
            Settled::Dead => (3, outcome.at),
            Settled::Gone => (4, outcome.at),
        };
        let query = diesel::sql_query(of_whom_it_is(NOT_TAKEN))
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(claimed.account.uuid())
            .bind::<SqlUuid, _>(claimed.endpoint.uuid())
            .bind::<SqlUuid, _>(claimed.event.uuid())
            .bind::<Integer, _>(claimed.lease_epoch)
            .bind::<SmallInt, _>(state)
            .bind::<Timestamptz, _>(next_at)
            .bind::<Timestamptz, _>(outcome.at)
            .bind::<Integer, _>(outcome.duration_ms)
            .bind::<Nullable<SmallInt>, _>(outcome.status_code.map(u16::cast_signed))
            .bind::<Nullable<Text>, _>(outcome.failure)
            .bind::<Text, _>(&outcome.answer)
            .bind::<Nullable<Timestamptz>, _>(outcome.rest_until)
            .bind::<Text, _>(&claimed.url)
            .bind::<Integer, _>(claimed.consecutive_failures.saturating_add(1))
            .bind::<Integer, _>(BREAKER);
        let mut conn = acquire(&self.pool).await?;
        let count: Count = prepared::<Settle, _>(query).get_result(&mut *conn).await?;
        Ok(count.count == 1)
    }

    /// Writes down that those were taken; says of which of them the lease still held, by their place.
    pub async fn settle_taken(&self, taken: &[(&ClaimedDelivery, &Outcome)]) -> Result<HashSet<usize>, DatabaseError> {
        enum Settle {}
        let query = diesel::sql_query(of_whom_it_is(TAKEN))
            .into_boxed::<Pg>()
            .bind::<Array<SqlUuid>, _>(column(taken, |(claimed, _)| claimed.account.uuid()))
            .bind::<Array<SqlUuid>, _>(column(taken, |(claimed, _)| claimed.endpoint.uuid()))
            .bind::<Array<SqlUuid>, _>(column(taken, |(claimed, _)| claimed.event.uuid()))
            .bind::<Array<Integer>, _>(column(taken, |(claimed, _)| claimed.lease_epoch))
            .bind::<Array<Timestamptz>, _>(column(taken, |(_, outcome)| outcome.at))
            .bind::<Array<Integer>, _>(column(taken, |(_, outcome)| outcome.duration_ms))
            .bind::<Array<Nullable<SmallInt>>, _>(column(taken, |(_, outcome)| {
                outcome.status_code.map(u16::cast_signed)
            }))
            .bind::<Array<Text>, _>(column(taken, |(_, outcome)| outcome.answer.clone()))
            .bind::<Array<Text>, _>(column(taken, |(claimed, _)| claimed.url.clone()))
            .bind::<Double, _>(SUCCESS_NOTED_SECONDS);
        let flight = Flight::open(&self.pool).await?;
        let mut connection = flight.connection();
        let settle = prepared::<Settle, _>(query).load::<Number>(&mut connection);
        let (begun, rows, committed) =
            futures_util::join!(flight.begin_by_index(Durable::Yes), settle, flight.commit());
        begun?;
        let rows = rows?;
        committed?;
        flight.close();
        // WITH ORDINALITY counts from one.
        Ok(rows.into_iter().filter_map(|row| usize::try_from(row.number - 1).ok()).collect())
    }
}
