//! What waits, and how many envelopes are open, for the metrics. Each look walks an index and stops at a bound, so that it costs
//! as little with ten million envelopes as with ten (docs/decisions/0034).

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, SmallInt, Timestamptz};
use diesel_async::RunQueryDsl;

use super::Store;

/// What waits, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many, up to a bound.
    pub count: i64,
    /// The oldest.
    pub since: Option<DateTime<Utc>>,
}

/// What waits in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// By the database's clock.
    pub now: DateTime<Utc>,
    /// For a place in the feed.
    pub outbox: Queue,
    /// For documents to be made.
    pub seal: Queue,
    /// For documents to be read.
    pub ingest: Queue,
}

/// What waits is counted up to there.
const WAITING_MAX: i64 = 10_000;
/// The oldest is looked for among so many that are due first.
const OLDEST_AMONG: i64 = 1_000;
/// Open envelopes are counted up to there.
const OPEN_MAX: i64 = 1_000_000;

const WAITING: &str = "
SELECT clock_timestamp() AS now,
    (SELECT count(*) FROM feed_head AS head CROSS JOIN LATERAL (
        SELECT FROM outbox WHERE outbox.part = head.part AND outbox.id > head.settled_id LIMIT $1
    ) AS waiting) AS outbox,
    (SELECT min(event.occurred_at) FROM feed_head AS head CROSS JOIN LATERAL (
        SELECT account_id, envelope_id, sequence FROM outbox
        WHERE outbox.part = head.part AND outbox.id > head.settled_id ORDER BY id LIMIT 1
    ) AS first JOIN event USING (account_id, envelope_id, sequence)) AS outbox_since,
    (SELECT count(*) FROM (SELECT FROM artifact_job LIMIT $1) AS job) AS seal,
    (SELECT min(coalesce(envelope.all_acted_at, envelope.declined_at)) FROM (
        SELECT account_id, envelope_id AS id FROM artifact_job ORDER BY due_at LIMIT $2
    ) AS job JOIN envelope USING (account_id, id)) AS seal_since,
    (SELECT count(*) FROM (SELECT FROM ingest_job LIMIT $1) AS job) AS ingest,
    (SELECT min(begun_at) FROM (SELECT begun_at FROM ingest_job ORDER BY due_at LIMIT $2) AS job) AS ingest_since";

/// By the index of deadlines, which has what it takes in it: no row is looked at.
pub const OPEN: &str = "
SELECT status, count(*) AS count FROM (
    SELECT status FROM envelope
    WHERE dispatched_at IS NOT NULL AND all_acted_at IS NULL
        AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL
    LIMIT $1
) AS open GROUP BY status";

#[derive(QueryableByName)]
struct WaitingRow {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    outbox: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    outbox_since: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    seal: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    seal_since: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    ingest: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    ingest_since: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct StatusRow {
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Store {
    /// What waits for the service's own loops, and since when.
    pub async fn waiting(&self) -> Result<Waiting, DatabaseError> {
        enum ReadWaiting {}
        let query = diesel::sql_query(WAITING).bind::<BigInt, _>(WAITING_MAX).bind::<BigInt, _>(OLDEST_AMONG);
        let mut conn = acquire(&self.across_accounts).await?;
        let row: WaitingRow = prepared::<ReadWaiting, _>(query).get_result(&mut *conn).await?;
        Ok(Waiting {
            now: row.now,
            outbox: Queue { count: row.outbox, since: row.outbox_since },
            seal: Queue { count: row.seal, since: row.seal_since },
            ingest: Queue { count: row.ingest, since: row.ingest_since },
        })
    }

    /// How many dispatched envelopes there are on which people still act, by status, up to a bound.
    pub async fn open_by_status(&self) -> Result<Vec<(i16, i64)>, DatabaseError> {
        enum CountOpen {}
        let query = diesel::sql_query(OPEN).bind::<BigInt, _>(OPEN_MAX);
        let mut conn = acquire(&self.across_accounts).await?;
        let rows: Vec<StatusRow> = prepared::<CountOpen, _>(query).load(&mut *conn).await?;
        Ok(rows.into_iter().map(|row| (row.status, row.count)).collect())
    }
}
