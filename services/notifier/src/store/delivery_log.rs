//! What was planned and tried: listed, looked at, put into the queue again, and forgotten in the end.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire};
use countersign_chassis::once::Once;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::endpoint_change::{Named, Told};
use super::{Store, column};
use crate::id::{AccountId, EndpointId, EnvelopeId, EventId};

/// Attempts of one delivery that are shown.
const ATTEMPTS_MAX: i64 = 100;

/// A delivery as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct LoggedDelivery {
    pub endpoint: EndpointId,
    pub event: EventId,
    pub kind: i16,
    pub envelope: Option<EnvelopeId>,
    pub sequence: u64,
    pub state: i16,
    pub cause: Option<String>,
    pub attempts: u32,
    pub next_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct Attempt {
    #[diesel(sql_type = Integer)]
    pub number: i32,
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
    #[diesel(sql_type = Integer)]
    pub duration_ms: i32,
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub status_code: Option<i16>,
    #[diesel(sql_type = Nullable<Text>)]
    pub failure: Option<String>,
    #[diesel(sql_type = Text)]
    pub answer: String,
}

/// Which deliveries are listed: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the contract's request")]
pub struct Filter {
    pub endpoint: Option<EndpointId>,
    pub state: Option<i16>,
    pub envelope: Option<EnvelopeId>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
    /// Those behind that one.
    pub after: Option<(DateTime<Utc>, EventId, EndpointId)>,
}

/// What is put into the queue again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redelivery {
    /// Those deliveries.
    These(Vec<(EventId, EndpointId)>),
    /// Those of an endpoint that were planned from then until then and are in one of those states.
    Range(EndpointId, DateTime<Utc>, DateTime<Utc>, Vec<i16>),
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    endpoint_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = SmallInt)]
    r#type: i16,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    envelope_id: Option<Uuid>,
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = SmallInt)]
    state: i16,
    #[diesel(sql_type = Nullable<Text>)]
    cause: Option<String>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Timestamptz)]
    next_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

impl From<Row> for LoggedDelivery {
    fn from(row: Row) -> Self {
        Self {
            endpoint: EndpointId::from_uuid(row.endpoint_id),
            event: EventId::from_uuid(row.event_id),
            kind: row.r#type,
            envelope: row.envelope_id.map(EnvelopeId::from_uuid),
            sequence: row.sequence.unsigned_abs(),
            state: row.state,
            cause: row.cause,
            attempts: row.attempts.unsigned_abs(),
            next_at: row.next_at,
            created_at: row.created_at,
        }
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

const COLUMNS: &str = "endpoint_id, event_id, type, envelope_id, sequence, state, cause, attempts, next_at, created_at";

const LIST: &str = "
FROM delivery WHERE account_id = $1 AND livemode = $2 AND attempts >= 0
    AND ($3 IS NULL OR endpoint_id = $3) AND ($4 IS NULL OR state = $4) AND ($5 IS NULL OR envelope_id = $5)
    AND ($6 IS NULL OR created_at >= $6) AND ($7 IS NULL OR created_at < $7)
    AND ($8 IS NULL OR (created_at, event_id, endpoint_id) < ($8, $9, $10))
ORDER BY created_at DESC, event_id DESC, endpoint_id DESC LIMIT $11";

/// Only what is over, and only for endpoints that are posted to.
const AGAIN: &str = "
again AS (
    UPDATE delivery AS d SET state = 1, cause = NULL, tries = 0, first_tried_at = NULL, next_at = $3, lease_until = NULL,
        lease_epoch = d.lease_epoch + 1
    FROM wanted JOIN endpoint AS e ON e.account_id = $1 AND e.id = wanted.endpoint_id
    WHERE d.account_id = $1 AND d.livemode = $2 AND d.event_id = wanted.event_id AND d.endpoint_id = wanted.endpoint_id
        AND d.state <> 1 AND e.verified_at IS NOT NULL AND e.paused_at IS NULL AND e.disabled_at IS NULL
    RETURNING d.event_id
)
SELECT count(*) AS count FROM again";

const THESE: &str = "wanted AS (SELECT DISTINCT * FROM unnest($4::uuid[], $5::uuid[]) AS w(event_id, endpoint_id))";

const RANGE: &str = "
wanted AS (
    SELECT event_id, endpoint_id FROM delivery
    WHERE account_id = $1 AND livemode = $2 AND endpoint_id = $4 AND created_at >= $5 AND created_at < $6 AND state = ANY($7)
        AND attempts >= 0
    ORDER BY created_at, sequence LIMIT $8
)";

const TEST: &str = "
INSERT INTO delivery (account_id, endpoint_id, event_id, livemode, own, type, sequence, body, state, attempts, tries, next_at,
    lease_epoch, created_at)
SELECT account_id, id, $4, livemode, envelope_id IS NOT NULL, $5, 0, $6, 1, 0, 0, $7, 0, $7 FROM endpoint
WHERE account_id = $1 AND livemode = $2 AND id = $3
    AND verified_at IS NOT NULL AND paused_at IS NULL AND disabled_at IS NULL
RETURNING 1::bigint AS count";

/// What is pending may have been put into the queue again just before its time: it has the schedule to its end.
const FORGET: &str = "
WITH old AS (
    DELETE FROM delivery WHERE (account_id, endpoint_id, event_id) IN (
        (SELECT account_id, endpoint_id, event_id FROM delivery
        WHERE state <> 1 AND created_at < $1 ORDER BY created_at LIMIT $2)
        UNION ALL
        (SELECT account_id, endpoint_id, event_id FROM delivery
        WHERE state = 1 AND created_at < $1 - interval '4 days' ORDER BY created_at LIMIT $2)
    ) AND (state <> 1 OR created_at < $1 - interval '4 days')
    RETURNING account_id, endpoint_id, event_id, state
), tried AS (
    DELETE FROM attempt USING old WHERE (attempt.account_id, attempt.endpoint_id, attempt.event_id)
        = (old.account_id, old.endpoint_id, old.event_id)
)
SELECT count(*) AS count, count(*) FILTER (WHERE state = 1) AS pending FROM old";

/// The address of an envelope is asked for again if something happens to it after all.
const FORGET_OWN: &str = "
WITH old AS (
    DELETE FROM endpoint WHERE (account_id, id) IN (
        SELECT e.account_id, e.id FROM endpoint AS e
        WHERE e.envelope_id IS NOT NULL AND e.created_at < $1 AND NOT EXISTS (
            SELECT FROM delivery AS d WHERE d.account_id = e.account_id AND d.endpoint_id = e.id
        )
        ORDER BY e.created_at LIMIT $2
    )
    RETURNING id
)
SELECT count(*) AS count, 0::bigint AS pending FROM old";

/// What was forgotten, and how much of it was still to be delivered.
#[derive(QueryableByName)]
struct Forgotten {
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = BigInt)]
    pending: i64,
}

impl Store {
    /// A page of the deliveries of an account and mode, newest first.
    pub async fn deliveries(
        &self,
        (account, livemode): (AccountId, bool),
        filter: &Filter,
        limit: i64,
    ) -> Result<Vec<LoggedDelivery>, DatabaseError> {
        let query = diesel::sql_query(format!("SELECT {COLUMNS} {LIST}"))
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<Bool, _>(livemode)
            .bind::<Nullable<SqlUuid>, _>(filter.endpoint.map(|id| id.uuid()))
            .bind::<Nullable<SmallInt>, _>(filter.state)
            .bind::<Nullable<SqlUuid>, _>(filter.envelope.map(|id| id.uuid()))
            .bind::<Nullable<Timestamptz>, _>(filter.since)
            .bind::<Nullable<Timestamptz>, _>(filter.until)
            .bind::<Nullable<Timestamptz>, _>(filter.after.map(|(at, _, _)| at))
            .bind::<Nullable<SqlUuid>, _>(filter.after.map(|(_, event, _)| event.uuid()))
            .bind::<Nullable<SqlUuid>, _>(filter.after.map(|(_, _, endpoint)| endpoint.uuid()))
            .bind::<BigInt, _>(limit);
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<Row> = query.load(&mut *conn).await?;
        Ok(rows.into_iter().map(LoggedDelivery::from).collect())
    }

    /// A delivery with its last attempts, oldest first.
    pub async fn delivery(
        &self,
        (account, livemode): (AccountId, bool),
        (event, endpoint): (EventId, EndpointId),
    ) -> Result<Option<(LoggedDelivery, Vec<Attempt>)>, DatabaseError> {
        let one = format!(
            "SELECT {COLUMNS} FROM delivery WHERE account_id = $1 AND livemode = $2 AND event_id = $3 AND endpoint_id = $4"
        );
        let query = diesel::sql_query(one)
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<Bool, _>(livemode)
            .bind::<SqlUuid, _>(event.uuid())
            .bind::<SqlUuid, _>(endpoint.uuid());
        let mut conn = acquire(&self.pool).await?;
        let row: Option<Row> = query.get_result(&mut *conn).await.optional()?;
        let Some(row) = row else { return Ok(None) };
        let tried = "SELECT number, at, duration_ms, status_code, failure, answer FROM attempt \
                     WHERE account_id = $1 AND endpoint_id = $2 AND event_id = $3 ORDER BY number DESC LIMIT $4";
        let query = diesel::sql_query(tried)
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<SqlUuid, _>(endpoint.uuid())
            .bind::<SqlUuid, _>(event.uuid())
            .bind::<BigInt, _>(ATTEMPTS_MAX);
        let mut attempts: Vec<Attempt> = query.load(&mut *conn).await?;
        attempts.reverse();
        Ok(Some((row.into(), attempts)))
    }

    /// Puts deliveries into the queue again; says how many.
    pub async fn redeliver(
        &self,
        (account, livemode): (AccountId, bool),
        wanted: &Redelivery,
        most: i64,
        once: Option<&Once>,
        reply: impl Fn(u32) -> Vec<u8>,
    ) -> Result<u32, DatabaseError> {
        let text = match wanted {
            Redelivery::These(_) => format!("WITH {THESE}, {AGAIN}"),
            Redelivery::Range(..) => format!("WITH {RANGE}, {AGAIN}"),
        };
        let query = diesel::sql_query(text)
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<Bool, _>(livemode)
            .bind::<Timestamptz, _>(self.clock.now());
        let query = match wanted {
            Redelivery::These(ids) => query
                .bind::<Array<SqlUuid>, _>(column(ids, |(event, _)| event.uuid()))
                .bind::<Array<SqlUuid>, _>(column(ids, |(_, endpoint)| endpoint.uuid())),
            Redelivery::Range(endpoint, since, until, states) => query
                .bind::<SqlUuid, _>(endpoint.uuid())
                .bind::<Timestamptz, _>(*since)
                .bind::<Timestamptz, _>(*until)
                .bind::<Array<SmallInt>, _>(states.clone())
                .bind::<BigInt, _>(most),
        };
        let count = |row: &Count| u32::try_from(row.count).unwrap_or(u32::MAX);
        let row = self.change(once, query, |row| reply(count(row))).await?;
        Ok(row.as_ref().map(count).unwrap_or_default())
    }

    /// Puts a test event into an endpoint's queue. False if nothing is posted to it.
    pub async fn test_event(
        &self,
        named: Named,
        test: &Told,
        once: Option<&Once>,
        reply: Vec<u8>,
    ) -> Result<bool, DatabaseError> {
        let query = diesel::sql_query(TEST)
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(named.account.uuid())
            .bind::<Bool, _>(named.livemode)
            .bind::<SqlUuid, _>(named.id.uuid())
            .bind::<SqlUuid, _>(test.event.uuid())
            .bind::<SmallInt, _>(test.kind)
            .bind::<Bytea, _>(test.body.clone())
            .bind::<Timestamptz, _>(self.clock.now());
        Ok(self.change(once, query, |_: &Count| reply).await?.is_some())
    }

    /// Forgets deliveries that were planned before, with their attempts, and addresses of envelopes for which there are
    /// none, at most `limit` of each; says how many.
    pub async fn forget_deliveries(&self, before: DateTime<Utc>, limit: i64) -> Result<i64, DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        let mut forgotten = 0;
        for text in [FORGET, FORGET_OWN] {
            let query = diesel::sql_query(text).bind::<Timestamptz, _>(before).bind::<BigInt, _>(limit);
            let Forgotten { count, pending } = query.get_result(&mut *conn).await?;
            if pending > 0 {
                tracing::warn!(
                    deliveries = pending,
                    "webhooks are forgotten that were still pending: paused, or in want of a key"
                );
            }
            forgotten += count;
        }
        Ok(forgotten)
    }
}
