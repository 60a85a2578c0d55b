//! What waits to be delivered, for the metrics. Each look walks an index and stops at a bound.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Timestamptz};
use diesel_async::RunQueryDsl;

use super::Store;

/// What waits is counted up to there.
const PENDING_MAX: i64 = 10_000;
/// The oldest due webhook is looked for among those of so many endpoints that are well.
const OLDEST_AMONG: i64 = 10_000;

/// What waits to be delivered by one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How much, up to a bound.
    pub pending: i64,
    /// Since when the oldest is due that nothing holds back.
    pub due_since: Option<DateTime<Utc>>,
}

/// Of those that were planned first, one that is due, to an endpoint that takes webhooks, and that nobody is trying. What waits for
/// a receiver who fails, rests or is switched off is late by their doing, and not ours.
const WEBHOOKS: &str = "
SELECT (SELECT count(*) FROM (SELECT FROM delivery WHERE state = 1 LIMIT $2) AS pending) AS pending,
    (SELECT min(oldest.next_at) FROM (
        SELECT account_id, id FROM endpoint
        WHERE verified_at IS NOT NULL AND paused_at IS NULL AND disabled_at IS NULL AND consecutive_failures = 0
            AND (resting_until IS NULL OR resting_until <= $1)
        LIMIT $3
    ) AS well
    CROSS JOIN (VALUES (false), (true)) AS kind (own)
    CROSS JOIN LATERAL (
        SELECT next_at FROM delivery
        WHERE state = 1 AND delivery.own = kind.own AND account_id = well.account_id AND endpoint_id = well.id
            AND next_at <= $1 AND (lease_until IS NULL OR lease_until <= $1)
        ORDER BY next_at LIMIT 1
    ) AS oldest) AS due_since";

const MAILS: &str = "
SELECT (SELECT count(*) FROM (SELECT FROM mail WHERE state IN (1, 5) LIMIT $2) AS pending) AS pending,
    (SELECT next_at FROM mail
    WHERE state IN (1, 5) AND next_at <= $1 AND (lease_until IS NULL OR lease_until <= $1)
    ORDER BY next_at LIMIT 1) AS due_since";

#[derive(QueryableByName)]
struct QueueRow {
    #[diesel(sql_type = BigInt)]
    pending: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due_since: Option<DateTime<Utc>>,
}

impl From<QueueRow> for Queue {
    fn from(QueueRow { pending, due_since }: QueueRow) -> Self {
        Self { pending, due_since }
    }
}

impl Store {
    /// Webhooks that wait.
    pub async fn webhooks_waiting(&self, now: DateTime<Utc>) -> Result<Queue, DatabaseError> {
        enum Webhooks {}
        let query = diesel::sql_query(WEBHOOKS).bind::<Timestamptz, _>(now).bind::<BigInt, _>(PENDING_MAX);
        let mut conn = acquire(&self.pool).await?;
        let row: QueueRow =
            prepared::<Webhooks, _>(query.bind::<BigInt, _>(OLDEST_AMONG)).get_result(&mut *conn).await?;
        Ok(row.into())
    }

    /// Mails that wait.
    pub async fn mails_waiting(&self, now: DateTime<Utc>) -> Result<Queue, DatabaseError> {
        enum Mails {}
        let query = diesel::sql_query(MAILS).bind::<Timestamptz, _>(now).bind::<BigInt, _>(PENDING_MAX);
        let mut conn = acquire(&self.pool).await?;
        let row: QueueRow = prepared::<Mails, _>(query).get_result(&mut *conn).await?;
        Ok(row.into())
    }
}
