//! Webhooks that wait. Claimed under a lease, posted outside any transaction, settled only by whoever holds the lease.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{Store, column};
use crate::id::{AccountId, EndpointId, EventId};
use crate::webhook::plan::Delivery;

/// Attempts after which a delivery does not hold up the next ones of its envelope any more.
const HOLDS_UP: i32 = 3;

/// A claimed delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct ClaimedDelivery {
    pub account: AccountId,
    pub endpoint: EndpointId,
    pub event: EventId,
    pub body: Vec<u8>,
    pub attempts: u32,
    pub lease_epoch: i32,
    pub url: String,
    pub generation: u16,
}

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
struct DeliveryRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    endpoint_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Bytea)]
    body: Vec<u8>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Integer)]
    lease_epoch: i32,
    #[diesel(sql_type = Text)]
    url: String,
    #[diesel(sql_type = SmallInt)]
    generation: i16,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// A later event of an envelope waits for the earlier ones to the same endpoint, as long as those are in their first tries.
const CLAIM: &str = "
WITH due AS (
    SELECT d.account_id, d.endpoint_id, d.event_id, endpoint.url, endpoint.generation
    FROM delivery AS d JOIN endpoint ON endpoint.account_id = d.account_id AND endpoint.id = d.endpoint_id
    WHERE endpoint.disabled_at IS NULL AND state = 1 AND next_at <= $1 AND (lease_until IS NULL OR lease_until <= $1)
        AND NOT EXISTS (
            SELECT FROM delivery AS earlier
            WHERE earlier.account_id = d.account_id AND earlier.endpoint_id = d.endpoint_id
                AND earlier.envelope_id = d.envelope_id AND earlier.sequence < d.sequence
                AND earlier.state = 1 AND earlier.attempts < $4
        )
    ORDER BY next_at LIMIT $3 FOR UPDATE OF d SKIP LOCKED
)
UPDATE delivery AS d SET lease_until = $2, lease_epoch = d.lease_epoch + 1 FROM due
WHERE (d.account_id, d.endpoint_id, d.event_id) = (due.account_id, due.endpoint_id, due.event_id)
RETURNING d.account_id, d.endpoint_id, d.event_id, d.body, d.attempts, d.lease_epoch, due.url, due.generation";

const SETTLE: &str = "
WITH settled AS (
    UPDATE delivery SET state = $5, attempts = attempts + 1, next_at = $6, lease_until = NULL
    WHERE account_id = $1 AND endpoint_id = $2 AND event_id = $3 AND lease_epoch = $4 AND state = 1
    RETURNING attempts
), logged AS (
    INSERT INTO attempt (account_id, endpoint_id, event_id, number, at, duration_ms, status_code, failure, answer)
    SELECT $1, $2, $3, attempts, $7, $8, $9, $10, $11 FROM settled
)
SELECT count(*) AS count FROM settled";

const DISABLE: &str = "
WITH disabled AS (UPDATE endpoint SET disabled_at = $3 WHERE account_id = $1 AND id = $2 AND disabled_at IS NULL)
UPDATE delivery SET state = 4 WHERE account_id = $1 AND endpoint_id = $2 AND state = 1";

const KEEP: &str = "
INSERT INTO delivery (account_id, endpoint_id, event_id, envelope_id, sequence, body, state, attempts, next_at, lease_epoch,
    created_at)
SELECT d.*, 1, 0, $7, 0, $7 FROM unnest($1, $2, $3, $4, $5, $6) AS d
ON CONFLICT DO NOTHING";

/// Writes deliveries down, in the caller's transaction. Those that are there already stay as they are.
pub async fn keep_deliveries(
    mut connection: &AsyncPgConnection,
    deliveries: &[Delivery],
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    enum Keep {}
    let sequence = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let query = diesel::sql_query(KEEP)
        .into_boxed::<Pg>()
        .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.account.uuid()))
        .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.endpoint.uuid()))
        .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.event.uuid()))
        .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.envelope.uuid()))
        .bind::<Array<BigInt>, _>(column(deliveries, |d| sequence(d.sequence)))
        .bind::<Array<Bytea>, _>(column(deliveries, |d| d.body.clone()))
        .bind::<Timestamptz, _>(now);
    prepared::<Keep, _>(query).execute(&mut connection).await?;
    Ok(())
}

impl Store {
    /// Claims due deliveries until `until`. The claim of a process that dies runs out by itself.
    pub async fn claim_deliveries(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<ClaimedDelivery>, DatabaseError> {
        enum Claim {}
        let query = diesel::sql_query(CLAIM)
            .bind::<Timestamptz, _>(now)
            .bind::<Timestamptz, _>(until)
            .bind::<BigInt, _>(limit)
            .bind::<Integer, _>(HOLDS_UP);
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<DeliveryRow> = prepared::<Claim, _>(query).load(&mut *conn).await?;
        let claimed = |row: DeliveryRow| ClaimedDelivery {
            account: AccountId::from_uuid(row.account_id),
            endpoint: EndpointId::from_uuid(row.endpoint_id),
            event: EventId::from_uuid(row.event_id),
            body: row.body,
            attempts: row.attempts.unsigned_abs(),
            lease_epoch: row.lease_epoch,
            url: row.url,
            generation: row.generation.unsigned_abs(),
        };
        Ok(rows.into_iter().map(claimed).collect())
    }

    /// Writes down an attempt and what becomes of its delivery. False if the lease was lost meanwhile: another process
    /// has the say.
    pub async fn settle_delivery(
        &self,
        claimed: &ClaimedDelivery,
        outcome: &Outcome,
        settled: Settled,
    ) -> Result<bool, DatabaseError> {
        enum Settle {}
        let (state, next_at) = match settled {
            Settled::Delivered => (2_i16, outcome.at),
            Settled::Again(at) => (1, at),
            Settled::Dead => (3, outcome.at),
            Settled::Gone => (4, outcome.at),
        };
        let query = diesel::sql_query(SETTLE)
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
            .bind::<Text, _>(&outcome.answer);
        let mut conn = acquire(&self.pool).await?;
        let count: Count = prepared::<Settle, _>(query).get_result(&mut *conn).await?;
        if settled == Settled::Gone && count.count == 1 {
            let query = diesel::sql_query(DISABLE)
                .bind::<SqlUuid, _>(claimed.account.uuid())
                .bind::<SqlUuid, _>(claimed.endpoint.uuid())
                .bind::<Timestamptz, _>(outcome.at);
            query.execute(&mut *conn).await?;
        }
        Ok(count.count == 1)
    }
}
