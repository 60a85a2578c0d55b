//! Webhooks that wait. Claimed under a lease, posted outside any transaction.
//!
//! A claim walks from endpoint to endpoint, so that what waits for one that is dead, paused or busy is never looked at. The own
//! addresses of envelopes are too many for that: of these it sees what is due, some of each account.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Durable, Flight, prepared};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::endpoint::GenerationRow;
use super::{Store, column};
use crate::id::{AccountId, EndpointId, EventId};
use crate::sink::Traces;
use crate::webhook::plan::Delivery;
use crate::webhook::signature::Generation;

/// Attempts, and seconds since the first of them, after which a delivery does not hold up the next ones of its envelope.
const HOLDS_UP: (i32, f64) = (3, 60.0);
/// Deliveries of an endpoint that are posted at once: one that took the last is trusted with more than one of which that is not
/// known.
const ENDPOINT_MAX: (i64, i64) = (32, 8);
/// Failures in a row after which an endpoint gets one at a time.
pub const BREAKER: i32 = 10;
/// Orphans of one endpoint that are cancelled at a time.
const ORPHANS_MAX: i64 = 500;
/// Due deliveries to own addresses of envelopes that are looked at for each account.
const LINE_MAX: i64 = 500;

/// A claimed delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the tables")]
pub struct ClaimedDelivery {
    pub account: AccountId,
    pub endpoint: EndpointId,
    pub event: EventId,
    pub traceparent: Option<String>,
    pub body: Vec<u8>,
    pub tries: u32,
    pub lease_epoch: i32,
    pub url: String,
    pub generation: Generation,
    pub headers_sealed: Option<Vec<u8>>,
    pub consecutive_failures: i32,
    pub first_failed_at: Option<DateTime<Utc>>,
    pub last_failure_at: Option<DateTime<Utc>>,
    pub livemode: bool,
    pub suspect: bool,
    /// When the claim runs out.
    pub until: DateTime<Utc>,
}

/// What may be claimed.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// Deliveries that this process can take on.
    pub free: i64,
    /// Of these, for endpoints that took nothing yet, or not the last time.
    pub suspects: i64,
    /// What it has in flight for each account.
    pub busy: Vec<(AccountId, i64)>,
    /// Of one account while others wait, and in any case.
    pub account_max: (i64, i64),
}

#[derive(QueryableByName)]
struct DeliveryRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    endpoint_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    traceparent: Option<String>,
    #[diesel(sql_type = Bytea)]
    body: Vec<u8>,
    #[diesel(sql_type = Integer)]
    tries: i32,
    #[diesel(sql_type = Integer)]
    lease_epoch: i32,
    #[diesel(sql_type = Text)]
    url: String,
    #[diesel(embed)]
    generation: GenerationRow,
    #[diesel(sql_type = Nullable<Bytea>)]
    headers_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Integer)]
    consecutive_failures: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    first_failed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_failure_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    livemode: bool,
    #[diesel(sql_type = Bool)]
    suspect: bool,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// One claim at a time, among all processes: what is in flight for an endpoint is counted and added to without anybody
/// between. A statement of its own: the next one's snapshot is later than the lock.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('delivery', 0))::text AS lock";

/// The endpoints for which something is pending, by one step into the index for each, and the own addresses of envelopes for
/// which something is due, by one step for each account.
///
/// A plan lives as long as its connection, and may be made while nothing waits yet, when every way seems as good as any other. So
/// each question here asks for the very order of the index that it means, nothing may be sorted (`begin_by_index`), and rows are
/// named by their place and their account: of several partitions one has it (`IS NOT DISTINCT FROM` is what no index is taken for).
const QUEUE: &str = "
step AS (
    (SELECT own, account_id, endpoint_id FROM delivery WHERE state = 1 ORDER BY own, account_id, endpoint_id LIMIT 1)
    UNION ALL
    SELECT next.own, next.account_id, next.endpoint_id FROM step, LATERAL (
        SELECT own, account_id, endpoint_id FROM delivery
        WHERE state = 1 AND (own, account_id, endpoint_id) > (step.own, step.account_id, step.endpoint_id)
        ORDER BY own, account_id, endpoint_id LIMIT 1
    ) AS next WHERE NOT step.own
), owner AS (
    (SELECT account_id FROM delivery WHERE state = 1 AND own ORDER BY account_id, next_at LIMIT 1)
    UNION ALL
    SELECT next.account_id FROM owner, LATERAL (
        SELECT account_id FROM delivery WHERE state = 1 AND own AND account_id > owner.account_id
        ORDER BY account_id, next_at LIMIT 1
    ) AS next
), line AS MATERIALIZED (
    SELECT d.* FROM owner CROSS JOIN LATERAL (
        SELECT ctid AS place, account_id, endpoint_id FROM delivery
        WHERE account_id = owner.account_id AND state = 1 AND own AND next_at <= $1 ORDER BY next_at LIMIT $2
    ) AS d
), asked AS (
    SELECT account_id, endpoint_id, false AS own FROM step WHERE NOT own
    UNION ALL
    SELECT DISTINCT account_id, endpoint_id, true FROM line
), standing AS MATERIALIZED (
    SELECT asked.own, asked.account_id AS of_account, asked.endpoint_id AS of_endpoint, e.*
    FROM asked LEFT JOIN LATERAL (
        SELECT * FROM endpoint WHERE account_id = asked.account_id AND id = asked.endpoint_id OFFSET 0
    ) AS e ON true
)";

/// What is due to an own address that is left alone comes back when that is over: it is not to be looked at until then.
///
/// Of an account those who are well and those who may hang take turns: neither keeps the account's places from the other.
///
/// A later event of an envelope waits for the earlier ones to the same endpoint, as long as those are in their first tries.
const CLAIM: &str = "
resting AS (
    SELECT d.place, standing.account_id, standing.resting_until
    FROM standing JOIN line ON (line.account_id, line.endpoint_id) = (standing.account_id, standing.id)
    CROSS JOIN LATERAL (
        SELECT ctid AS place FROM delivery
        WHERE ctid = line.place AND account_id IS NOT DISTINCT FROM line.account_id AND state = 1 FOR UPDATE SKIP LOCKED
    ) AS d
    WHERE standing.own AND standing.resting_until > $1
), put_off AS (
    UPDATE delivery AS d SET next_at = resting.resting_until FROM resting
    WHERE d.ctid = resting.place AND d.account_id IS NOT DISTINCT FROM resting.account_id
), ready AS MATERIALIZED (
    SELECT e.*, e.consecutive_failures > 0 OR e.last_success_at IS NULL AS suspect,
        CASE WHEN e.consecutive_failures >= $6 THEN 1
            WHEN e.consecutive_failures > 0 OR e.last_success_at IS NULL THEN $14 ELSE $5 END - (
        SELECT count(*) FROM (
            SELECT FROM delivery AS l
            WHERE l.account_id = e.account_id AND l.endpoint_id = e.id AND l.state = 1 AND l.lease_until > $1
            ORDER BY l.lease_until OFFSET 0
        ) AS leased
    ) AS places
    FROM standing AS e
    WHERE e.verified_at IS NOT NULL AND e.paused_at IS NULL AND e.disabled_at IS NULL
        AND (e.resting_until IS NULL OR e.resting_until <= $1)
), due AS (
    SELECT d.place, d.account_id, d.endpoint_id, d.next_at, ready.suspect, coalesce(busy.count, 0) AS busy,
        row_number() OVER (PARTITION BY d.account_id, ready.suspect ORDER BY d.next_at, d.event_id) AS turn
    FROM ready CROSS JOIN LATERAL (
        SELECT w.ctid AS place, w.account_id, w.endpoint_id, w.event_id, w.next_at FROM delivery AS w
        WHERE w.own = ready.own AND w.account_id = ready.account_id AND w.endpoint_id = ready.id AND w.state = 1
            AND w.next_at <= $1
            AND NOT EXISTS (
                SELECT FROM delivery AS earlier
                WHERE earlier.account_id = w.account_id AND earlier.endpoint_id = w.endpoint_id
                    AND earlier.envelope_id = w.envelope_id AND earlier.sequence < w.sequence AND earlier.state = 1
                    AND (earlier.tries = 0
                        OR (earlier.tries < $7 AND earlier.first_tried_at > $1 - make_interval(secs => $8)))
                ORDER BY earlier.sequence OFFSET 0
            )
        ORDER BY w.next_at LIMIT greatest(ready.places, 0)
    ) AS d
    LEFT JOIN unnest($9::uuid[], $10::bigint[]) AS busy(account, count) ON busy.account = d.account_id
), alternating AS (
    SELECT *, busy + row_number() OVER (PARTITION BY account_id ORDER BY turn, suspect) AS rank FROM due
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY suspect ORDER BY rank > $11, rank, next_at) AS number
    FROM alternating WHERE rank <= $12
), chosen AS (
    SELECT * FROM ranked WHERE NOT suspect OR number <= $13 ORDER BY rank > $11, rank, next_at LIMIT $4
), locked AS (
    SELECT d.place, chosen.account_id, chosen.endpoint_id FROM chosen CROSS JOIN LATERAL (
        SELECT ctid AS place FROM delivery
        WHERE ctid = chosen.place AND account_id IS NOT DISTINCT FROM chosen.account_id AND state = 1 FOR UPDATE SKIP LOCKED
    ) AS d
)
UPDATE delivery AS d SET lease_until = $3, next_at = $3, lease_epoch = d.lease_epoch + 1
FROM locked JOIN ready ON ready.account_id = locked.account_id AND ready.id = locked.endpoint_id
WHERE d.ctid = locked.place AND d.account_id IS NOT DISTINCT FROM locked.account_id
RETURNING d.account_id, d.endpoint_id, d.event_id, d.traceparent, d.body, d.tries, d.lease_epoch, d.livemode, ready.url, ready.generation,
    ready.generation_key, ready.previous_key, ready.previous_until, ready.headers_sealed, ready.consecutive_failures, ready.first_failed_at, ready.last_failure_at,
    ready.suspect";

/// What waits for an endpoint that is gone or switched off, or for an envelope's address that moved to where nobody asked for
/// webhooks, goes nowhere, also what was planned in the same moment. What is being tried just now is left to whoever tries it.
const CANCEL: &str = "
gone AS MATERIALIZED (
    SELECT of_account, of_endpoint, own, CASE WHEN id IS NULL THEN 'endpoint_deleted'
        WHEN disabled_at IS NOT NULL THEN 'endpoint_disabled' ELSE 'origin_not_verified' END AS cause
    FROM standing
    WHERE id IS NULL OR disabled_at IS NOT NULL OR (envelope_id IS NOT NULL AND verified_at IS NULL)
), orphans AS (
    SELECT d.place, gone.of_account, gone.cause FROM gone CROSS JOIN LATERAL (
        SELECT w.ctid AS place FROM delivery AS w
        WHERE w.own = gone.own AND w.account_id = gone.of_account AND w.endpoint_id = gone.of_endpoint AND w.state = 1
            AND (w.lease_until IS NULL OR w.lease_until <= $1)
        ORDER BY w.next_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ) AS d
), cancelled AS (
    UPDATE delivery AS d SET state = 4, lease_until = NULL, cause = orphans.cause
    FROM orphans WHERE d.ctid = orphans.place AND d.account_id IS NOT DISTINCT FROM orphans.of_account
    RETURNING d.event_id
)
SELECT count(*) AS count FROM cancelled";

/// What was planned for an endpoint that was switched off is posted if it was switched on meanwhile. Whoever switches it on now
/// waits for us, and finds what we note.
const KEEP: &str = "
WITH d AS (
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $11, $12)
        AS d(account, endpoint, event, envelope, sequence, body, livemode, type, cause, own, traceparent)
), off AS MATERIALIZED (
    SELECT account_id, id, disabled_at FROM endpoint
    WHERE (account_id, id) IN (SELECT account, endpoint FROM d WHERE cause = 'endpoint_disabled')
    ORDER BY account_id, id FOR SHARE
), planned AS (
    SELECT d.*, CASE WHEN off.id IS NULL OR off.disabled_at IS NOT NULL THEN d.cause END AS why
    FROM d LEFT JOIN off ON d.cause = 'endpoint_disabled' AND off.account_id = d.account AND off.id = d.endpoint
)
INSERT INTO delivery (account_id, endpoint_id, event_id, envelope_id, sequence, body, livemode, type, cause, own, traceparent, state, attempts,
    tries, next_at, lease_epoch, created_at)
SELECT d.account, d.endpoint, d.event, d.envelope, d.sequence, d.body, d.livemode, d.type, d.why, d.own, d.traceparent,
    CASE WHEN d.why IS NULL THEN 1 ELSE 4 END, 0, 0, $10, 0, $10
FROM planned AS d
ON CONFLICT DO NOTHING";

/// Writes deliveries down, in the caller's transaction. Those that are there already stay as they are.
pub async fn keep_deliveries(
    mut connection: &AsyncPgConnection,
    deliveries: &[Delivery],
    traces: &Traces,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    enum Keep {}
    let sequence = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let query = diesel::sql_query(KEEP)
        .into_boxed::<Pg>()
        .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.account.uuid()))
        .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.endpoint.uuid()))
        .bind::<Array<SqlUuid>, _>(column(deliveries, |d| d.event.uuid()))
        .bind::<Array<Nullable<SqlUuid>>, _>(column(deliveries, |d| d.envelope.map(|id| id.uuid())))
        .bind::<Array<BigInt>, _>(column(deliveries, |d| sequence(d.sequence)))
        .bind::<Array<Bytea>, _>(column(deliveries, |d| d.body.clone()))
        .bind::<Array<Bool>, _>(column(deliveries, |d| d.livemode))
        .bind::<Array<SmallInt>, _>(column(deliveries, |d| d.kind))
        .bind::<Array<Nullable<Text>>, _>(column(deliveries, |d| d.cause))
        .bind::<Timestamptz, _>(now)
        .bind::<Array<Bool>, _>(column(deliveries, |d| d.own))
        .bind::<Array<Nullable<Text>>, _>(column(deliveries, |d| traces.get(&d.event).cloned()));
    prepared::<Keep, _>(query).execute(&mut connection).await?;
    Ok(())
}

impl Store {
    /// Claims due deliveries until `until`. The claim of a process that dies runs out by itself.
    pub async fn claim_deliveries(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        room: &Room,
    ) -> Result<Vec<ClaimedDelivery>, DatabaseError> {
        enum Lock {}
        enum Claim {}
        let query = diesel::sql_query(format!("WITH RECURSIVE {QUEUE}, {CLAIM}"))
            .into_boxed::<Pg>()
            .bind::<Timestamptz, _>(now)
            .bind::<BigInt, _>(LINE_MAX)
            .bind::<Timestamptz, _>(until)
            .bind::<BigInt, _>(room.free)
            .bind::<BigInt, _>(ENDPOINT_MAX.0)
            .bind::<Integer, _>(BREAKER)
            .bind::<Integer, _>(HOLDS_UP.0)
            .bind::<diesel::sql_types::Double, _>(HOLDS_UP.1)
            .bind::<Array<SqlUuid>, _>(column(&room.busy, |(account, _)| account.uuid()))
            .bind::<Array<BigInt>, _>(column(&room.busy, |(_, count)| *count))
            .bind::<BigInt, _>(room.account_max.0)
            .bind::<BigInt, _>(room.account_max.1)
            .bind::<BigInt, _>(room.suspects)
            .bind::<BigInt, _>(ENDPOINT_MAX.1);
        let flight = Flight::open(&self.pool).await?;
        let (mut one, mut two) = (flight.connection(), flight.connection());
        let lock = prepared::<Lock, _>(diesel::sql_query(LOCK)).execute(&mut one);
        let claim = prepared::<Claim, _>(query).load::<DeliveryRow>(&mut two);
        // A claim that is lost with the database is one that ran out.
        let begin = flight.begin_by_index(Durable::No);
        let (begun, locked, rows, committed) = futures_util::join!(begin, lock, claim, flight.commit());
        begun?;
        locked?;
        let rows = rows?;
        committed?;
        flight.close();
        Ok(rows.into_iter().map(|row| row.until(until)).collect())
    }

    /// Cancels what waits for endpoints that are gone or switched off, some at a time; says how much.
    pub async fn cancel_orphans(&self, now: DateTime<Utc>) -> Result<i64, DatabaseError> {
        enum Cancel {}
        let query = diesel::sql_query(format!("WITH RECURSIVE {QUEUE}, {CANCEL}"))
            .bind::<Timestamptz, _>(now)
            .bind::<BigInt, _>(LINE_MAX)
            .bind::<BigInt, _>(ORPHANS_MAX);
        let flight = Flight::open(&self.pool).await?;
        let mut connection = flight.connection();
        let cancel = prepared::<Cancel, _>(query).get_result::<Count>(&mut connection);
        let (begun, count, committed) =
            futures_util::join!(flight.begin_by_index(Durable::Yes), cancel, flight.commit());
        begun?;
        let count = count?;
        committed?;
        flight.close();
        Ok(count.count)
    }
}

impl DeliveryRow {
    fn until(self, until: DateTime<Utc>) -> ClaimedDelivery {
        let row = self;
        ClaimedDelivery {
            account: AccountId::from_uuid(row.account_id),
            endpoint: EndpointId::from_uuid(row.endpoint_id),
            event: EventId::from_uuid(row.event_id),
            traceparent: row.traceparent,
            body: row.body,
            tries: row.tries.unsigned_abs(),
            lease_epoch: row.lease_epoch,
            url: row.url,
            generation: row.generation.into(),
            headers_sealed: row.headers_sealed,
            consecutive_failures: row.consecutive_failures,
            first_failed_at: row.first_failed_at,
            last_failure_at: row.last_failure_at,
            livemode: row.livemode,
            suspect: row.suspect,
            until,
        }
    }
}
