//! The feed: committed events in an order that never changes, without gaps.
//!
//! A transaction leaves its events in the outbox. The sequencer, run by any replica, gives them positions in their
//! partition's feed, one batch at a time under the lock of the partition's head. A transaction that commits late gets later
//! positions, so a reader that stands at a position has seen everything before it, for ever.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Flight, Pool, acquire, prepared};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, SmallInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::history::entry;
use super::{Scope, Store, corrupt};
use crate::domain::verify::Entry;

/// Partitions of the feed. All events of an envelope are in one.
pub const PARTS: u8 = 16;
/// Events that the sequencer moves at a time, for each partition.
const BATCH_MAX: i64 = 500;
/// How far a page reaches, for each partition.
const WINDOW: i64 = 64;

/// A position in each partition: everything up to there.
pub type Positions = [i64; PARTS as usize];

/// A place in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub part: usize,
    /// From 1.
    pub position: i64,
}

/// How far the feed reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Which feed.
    pub incarnation: Uuid,
    /// The last position of each partition.
    pub last: Positions,
    /// What lies at or below is not kept any more.
    pub floor: Positions,
}

/// A stretch of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The partition.
    pub part: usize,
    /// From behind this position …
    pub after: i64,
    /// … up to this one.
    pub upto: i64,
}

impl Wanted {
    /// What comes next for a reader at `positions`, one page of it.
    #[must_use]
    pub fn next(positions: &Positions, heads: &Heads) -> Vec<Self> {
        let stretches = positions.iter().zip(&heads.last).enumerate();
        stretches
            .filter(|(_, (after, last))| after < last)
            .map(|(part, (after, last))| Self { part, after: *after, upto: *last.min(&(after + WINDOW)) })
            .collect()
    }
}

/// An event in the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// Where.
    pub position: Position,
    /// What.
    pub stored: Entry,
    /// When, for a merge of the partitions.
    pub occurred_at: DateTime<Utc>,
}

const LOCK_HEADS: &str = "
SELECT part FROM feed_head AS head WHERE EXISTS (SELECT FROM outbox WHERE outbox.part = head.part)
ORDER BY part FOR UPDATE SKIP LOCKED";

/// A statement of its own, after the lock: its snapshot shows all that was committed before.
const MOVE: &str = "
WITH due AS (
    SELECT o.part, o.id FROM unnest($1) AS locked (part)
    CROSS JOIN LATERAL (SELECT part, id FROM outbox WHERE outbox.part = locked.part ORDER BY id LIMIT $2) AS o
), taken AS (
    DELETE FROM outbox USING due WHERE outbox.part = due.part AND outbox.id = due.id RETURNING outbox.*
), placed AS (
    INSERT INTO feed (part, position, account_id, livemode, envelope_id, sequence)
    SELECT part, last_position + row_number() OVER (PARTITION BY part ORDER BY id), account_id, livemode, envelope_id,
        sequence
    FROM taken JOIN feed_head USING (part)
    RETURNING part, position
), advanced AS (
    UPDATE feed_head SET last_position = last FROM (SELECT part, max(position) AS last FROM placed GROUP BY part) AS new
    WHERE feed_head.part = new.part
)
SELECT count(*) AS count FROM placed";

/// Lateral all the way down, so that every plan is a walk along the indexes.
const PAGE: &str = "
SELECT f.part, f.position, f.sequence, e.record, e.prev_hash, e.hash, e.occurred_at
FROM unnest($1, $2, $3) AS wanted (part, after, upto)
CROSS JOIN LATERAL (
    SELECT part, position, account_id, livemode, envelope_id, sequence FROM feed
    WHERE feed.part = wanted.part AND feed.position > wanted.after AND feed.position <= wanted.upto
    ORDER BY feed.position LIMIT 1000
) AS f
CROSS JOIN LATERAL (
    SELECT record, prev_hash, hash, occurred_at FROM event
    WHERE event.account_id = f.account_id AND event.envelope_id = f.envelope_id AND event.sequence = f.sequence LIMIT 1
) AS e
WHERE ($4 IS NULL OR f.account_id = $4) AND ($5 IS NULL OR f.livemode = $5)";

const HEADS: &str = "
SELECT array_agg(last_position ORDER BY part) AS last, array_agg(floor_position ORDER BY part) AS floor,
    (SELECT id FROM feed_incarnation) AS incarnation, clock_timestamp() AS now
FROM feed_head";

enum AnyWaiting {}
enum LockHeads {}
enum Move {}
enum Page {}
enum ReadHeads {}

#[derive(QueryableByName)]
struct PartRow {
    #[diesel(sql_type = SmallInt)]
    part: i16,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct AnyRow {
    #[diesel(sql_type = Bool)]
    any: bool,
}

#[derive(QueryableByName)]
struct HeadsRow {
    #[diesel(sql_type = Array<BigInt>)]
    last: Vec<i64>,
    #[diesel(sql_type = Array<BigInt>)]
    floor: Vec<i64>,
    #[diesel(sql_type = SqlUuid)]
    incarnation: Uuid,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct PageRow {
    #[diesel(sql_type = SmallInt)]
    part: i16,
    #[diesel(sql_type = BigInt)]
    position: i64,
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = Bytea)]
    record: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    prev_hash: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    hash: Vec<u8>,
    #[diesel(sql_type = Timestamptz)]
    occurred_at: DateTime<Utc>,
}

impl Store {
    /// Moves what waits in the outbox to the feed; says how many events. Partitions that another replica is moving just
    /// now are left to it.
    pub async fn sequence(&self) -> Result<i64, DatabaseError> {
        {
            let mut conn = acquire(&self.across_accounts).await?;
            let any = diesel::sql_query("SELECT EXISTS (SELECT FROM outbox) AS any");
            let waiting: AnyRow = prepared::<AnyWaiting, _>(any).get_result(&mut *conn).await?;
            if !waiting.any {
                return Ok(0);
            }
        }
        let flight = Flight::open(&self.across_accounts).await?;
        let mut conn = flight.connection();
        let lock = prepared::<LockHeads, _>(diesel::sql_query(LOCK_HEADS)).load::<PartRow>(&mut conn);
        let (begun, locked) = futures_util::join!(flight.begin(), lock);
        begun?;
        let parts: Vec<i16> = locked?.into_iter().map(|row| row.part).collect();
        if parts.is_empty() {
            flight.rollback().await?;
            return Ok(0);
        }
        let query = diesel::sql_query(MOVE).bind::<Array<SmallInt>, _>(parts).bind::<BigInt, _>(BATCH_MAX);
        let moved = prepared::<Move, _>(query).get_result::<CountRow>(&mut conn);
        let (moved, committed) = futures_util::join!(moved, flight.commit());
        let moved = moved?;
        committed?;
        flight.close();
        Ok(moved.count)
    }

    /// How far the feed reaches. Every event up to there can be read.
    pub async fn heads(&self) -> Result<Heads, DatabaseError> {
        self.heads_by(&self.across_accounts).await
    }

    /// The same for a caller, who must not keep the loops waiting.
    pub async fn heads_now(&self) -> Result<Heads, DatabaseError> {
        self.heads_by(&self.pool).await
    }

    async fn heads_by(&self, pool: &Pool) -> Result<Heads, DatabaseError> {
        let mut conn = acquire(pool).await?;
        let row: HeadsRow = prepared::<ReadHeads, _>(diesel::sql_query(HEADS)).get_result(&mut *conn).await?;
        self.clock.observe(row.now);
        let positions = |list: Vec<i64>| list.try_into().map_err(|_| corrupt("feed heads"));
        Ok(Heads { incarnation: row.incarnation, last: positions(row.last)?, floor: positions(row.floor)? })
    }

    /// The events in those stretches that the scope may see, in order of each partition; `None` sees all.
    pub async fn feed(&self, scope: Option<Scope>, wanted: &[Wanted]) -> Result<Vec<FeedEvent>, DatabaseError> {
        let part = |wanted: &Wanted| i16::try_from(wanted.part).unwrap_or_default();
        let query = diesel::sql_query(PAGE)
            .bind::<Array<SmallInt>, _>(wanted.iter().map(part).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(wanted.iter().map(|wanted| wanted.after).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(wanted.iter().map(|wanted| wanted.upto).collect::<Vec<_>>())
            .bind::<Nullable<SqlUuid>, _>(scope.map(|scope| scope.account.uuid()))
            .bind::<Nullable<Bool>, _>(scope.and_then(|scope| scope.livemode));
        let query = prepared::<Page, _>(query);
        let rows: Vec<PageRow> = match scope {
            Some(scope) => {
                self.read_one(scope.account, move |mut conn| async move { query.load(&mut conn).await }.boxed()).await?
            }
            None => query.load(&mut *acquire(&self.across_accounts).await?).await?,
        };
        let event = |row: PageRow| {
            Ok(FeedEvent {
                position: Position { part: usize::from(row.part.unsigned_abs()), position: row.position },
                stored: entry((row.sequence, row.record, row.prev_hash, row.hash, None, None))?,
                occurred_at: row.occurred_at,
            })
        };
        let mut events: Vec<FeedEvent> = rows.into_iter().map(event).collect::<QueryResult<_>>()?;
        events.sort_by_key(|event| (event.position.part, event.position.position));
        Ok(events)
    }
}
