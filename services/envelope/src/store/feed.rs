//! The feed: committed events in an order that never changes, without gaps. Its pages are read in `page`, its old end is cut
//! off in `trim`, the outbox before it is kept quick in `settle`.
//!
//! A transaction leaves its events in the outbox. The sequencer, run by any replica, gives them positions in their
//! partition's feed, one batch at a time under the lock of the partition's head. A transaction that commits late gets later
//! positions, so a reader that stands at a position has seen everything before it, for ever.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Flight, Pool, acquire, prepared};
use countersign_chassis::{failpoint, sabotaged};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, SmallInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Store, corrupt, part};
use crate::domain::id::EnvelopeId;

/// Partitions of the feed. All events of an envelope are in one.
pub const PARTS: u8 = 16;
/// Events that the sequencer moves at a time, for each partition.
const BATCH_MAX: i64 = 500;

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

/// Some of the partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts(u16);

impl Parts {
    /// All of them.
    pub const ALL: Self = Self(u16::MAX);

    /// None but that of an envelope.
    #[must_use]
    pub fn of(envelope: EnvelopeId) -> Self {
        Self(1 << part(envelope))
    }

    /// None yet.
    #[must_use]
    pub fn none() -> Self {
        Self(0)
    }

    /// With another; `None` if there is no such partition or it is among them already.
    #[must_use]
    pub fn with(self, part: u32) -> Option<Self> {
        let bit = u16::try_from(1_u32.checked_shl(part)?).ok()?;
        (self.0 & bit == 0).then_some(Self(self.0 | bit))
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// One bit for each.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Each, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..usize::from(PARTS)).filter(move |part| self.0 >> part & 1 == 1)
    }
}

/// Walks over sixteen numbers, not over the outbox: there what was moved long ago lies in the way for as long as any
/// transaction of the cluster, of whatever database, is older.
const ANY_WAITING: &str = "
SELECT EXISTS (
    SELECT FROM feed_head AS head, LATERAL (
        SELECT FROM outbox WHERE outbox.part = head.part AND outbox.id > head.settled_id LIMIT 1
    ) AS waiting
) AS any";

const LOCK_HEADS: &str = "
SELECT part FROM feed_head AS head
WHERE EXISTS (SELECT FROM outbox WHERE outbox.part = head.part AND outbox.id > head.settled_id)
ORDER BY part FOR UPDATE SKIP LOCKED";

/// How far each partition reaches: from behind its floor up to there it has every position once.
macro_rules! extent {
    () => {
        "SELECT part, floor_position, greatest(floor_position, last.position) AS last_position
        FROM feed_head AS head
        CROSS JOIN LATERAL (SELECT max(position) AS position FROM feed WHERE feed.part = head.part) AS last"
    };
}

/// A statement of its own, after the lock: its snapshot shows all that was committed before.
const MOVE: &str = concat!(
    "
WITH due AS (
    SELECT o.part, o.id FROM feed_head AS head
    CROSS JOIN LATERAL (
        SELECT part, id FROM outbox WHERE outbox.part = head.part AND outbox.id > head.settled_id ORDER BY id LIMIT $2
    ) AS o
    WHERE head.part = ANY($1)
), taken AS (
    DELETE FROM outbox USING due WHERE outbox.part = due.part AND outbox.id = due.id RETURNING outbox.*
), placed AS (
    INSERT INTO feed (part, position, account_id, livemode, envelope_id, sequence)
    SELECT part, last_position + row_number() OVER (PARTITION BY part ORDER BY id), account_id, livemode, envelope_id,
        sequence
    FROM taken JOIN (",
    extent!(),
    ") AS extent USING (part)
)
SELECT count(*) AS count FROM taken"
);

const HEADS: &str = concat!(
    "
SELECT array_agg(last_position ORDER BY part) AS last, array_agg(floor_position ORDER BY part) AS floor,
    (SELECT id FROM feed_incarnation) AS incarnation, clock_timestamp() AS now
FROM (",
    extent!(),
    ") AS extent"
);

enum AnyWaiting {}
enum LockHeads {}
enum Move {}
enum ReadHeads {}

#[derive(QueryableByName)]
pub(super) struct PartRow {
    #[diesel(sql_type = SmallInt)]
    pub(super) part: i16,
}

#[derive(QueryableByName)]
pub(super) struct CountRow {
    #[diesel(sql_type = BigInt)]
    pub count: i64,
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
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

impl Store {
    /// Moves what waits in the outbox to the feed; says how many events. Partitions that another replica is moving just
    /// now are left to it.
    pub async fn sequence(&self) -> Result<i64, DatabaseError> {
        self.settle_now_and_then().await?;
        {
            let mut conn = acquire(&self.across_accounts).await?;
            let any = diesel::sql_query(ANY_WAITING);
            let waiting: AnyRow = prepared::<AnyWaiting, _>(any).get_result(&mut *conn).await?;
            if !waiting.any {
                return Ok(0);
            }
        }
        let flight = Flight::open(&self.across_accounts).await?;
        let mut conn = flight.connection();
        let is_loose = sabotaged!("feed.lock");
        let lock = if is_loose { LOCK_HEADS.replace("FOR UPDATE SKIP LOCKED", "") } else { LOCK_HEADS.into() };
        let lock = prepared::<LockHeads, _>(diesel::sql_query(lock)).load::<PartRow>(&mut conn);
        let (begun, locked) = futures_util::join!(flight.begin(), lock);
        begun?;
        let parts: Vec<i16> = locked?.into_iter().map(|row| row.part).collect();
        if parts.is_empty() {
            flight.rollback().await?;
            return Ok(0);
        }
        failpoint!("sequence.locked");
        let query = diesel::sql_query(MOVE).bind::<Array<SmallInt>, _>(parts).bind::<BigInt, _>(BATCH_MAX);
        let moved = prepared::<Move, _>(query).get_result::<CountRow>(&mut conn);
        let sent = async {
            failpoint!("sequence.sent");
        };
        let (moved, committed, ()) = futures_util::join!(moved, flight.commit(), sent);
        failpoint!("sequence.committed");
        let moved = moved?;
        committed?;
        flight.close();
        self.settling.moved(moved.count);
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

    /// Makes another feed of it, after a restore: tokens that were given before are good no more.
    pub async fn renew_incarnation(&self) -> Result<Uuid, DatabaseError> {
        let renew = "UPDATE feed_incarnation SET id = gen_random_uuid() RETURNING id";
        let mut conn = acquire(&self.across_accounts).await?;
        let row: IdRow = diesel::sql_query(renew).get_result(&mut *conn).await?;
        Ok(row.id)
    }
}
