//! Where the notifier stands in each partition of the feed, who follows it, and the work that follows from it: place and
//! work move in one transaction, under the lease of the partition.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::database::{DatabaseError, Flight, acquire, prepared};
use countersign_chassis::{failpoint, sabotaged};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::future::try_join_all;
use uuid::Uuid;

use super::Store;
use crate::sink::Work;

/// Partitions of the feed.
pub const PARTITIONS: i64 = 16;

/// The right to follow a partition. Whoever takes it over has another epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Which partition.
    pub partition: u8,
    /// Whose: the process.
    pub owner: Uuid,
    /// The how-manieth owner.
    pub epoch: i64,
}

/// Never by anybody but the owner under the present epoch, and only from where that owner read it.
const ADVANCE: &str = "
UPDATE feed_partition SET resume_token = $5 WHERE partition = $1 AND owner = $2 AND epoch = $3 AND resume_token = $4";

const SEEN: &str = "
WITH gone AS (DELETE FROM follower WHERE seen_until <= $2 AND id <> $1)
INSERT INTO follower (id, seen_until) VALUES ($1, $3) ON CONFLICT (id) DO UPDATE SET seen_until = $3";

const RENEW: &str = "
UPDATE feed_partition SET lease_until = $2 WHERE owner = $1 RETURNING partition, epoch";

const LIVING: &str = "SELECT count(*) AS count, clock_timestamp() AS now FROM follower WHERE seen_until > $1";

const TAKE: &str = "
WITH free AS (
    SELECT partition FROM feed_partition WHERE owner IS NULL OR lease_until <= $2
    ORDER BY partition LIMIT $4 FOR UPDATE SKIP LOCKED
)
UPDATE feed_partition AS p SET owner = $1, lease_until = $3, epoch = p.epoch + 1 FROM free
WHERE p.partition = free.partition RETURNING p.partition, p.epoch";

const GIVE_BACK: &str = "
UPDATE feed_partition SET owner = NULL, lease_until = NULL WHERE owner = $1 AND partition = ANY($2)";

const LEAVE: &str = "
WITH gone AS (DELETE FROM follower WHERE id = $1)
UPDATE feed_partition SET owner = NULL, lease_until = NULL WHERE owner = $1";

#[derive(QueryableByName)]
struct LeaseRow {
    #[diesel(sql_type = SmallInt)]
    partition: i16,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

#[derive(QueryableByName)]
struct LivingRow {
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct TokenRow {
    #[diesel(sql_type = Text)]
    resume_token: String,
}

impl LeaseRow {
    fn of(self, owner: Uuid) -> Lease {
        Lease { partition: self.partition.to_le_bytes()[0], owner, epoch: self.epoch }
    }
}

impl Store {
    /// Says that `me` lives, renews its leases for `long`, gives back what is more than its share and takes what it lacks
    /// and nobody has. Returns what `me` holds then. Processes that come and go are even after a few such looks.
    pub async fn share_partitions(&self, me: Uuid, long: TimeDelta) -> Result<Vec<Lease>, DatabaseError> {
        let now = self.clock.now();
        let flight = Flight::open(&self.pool).await?;
        flight.begin().await?;
        let held = share(flight.connection(), me, now, now + long).await?;
        self.clock.observe(held.1);
        flight.commit().await?;
        flight.close();
        Ok(held.0)
    }

    /// Gives everything back: others may take it at once.
    pub async fn leave_partitions(&self, me: Uuid) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        diesel::sql_query(LEAVE).bind::<SqlUuid, _>(me).execute(&mut *conn).await?;
        Ok(())
    }

    /// The token to resume from, empty at the very beginning; nothing if the lease is somebody else's by now.
    pub async fn resume_token(&self, lease: Lease) -> Result<Option<String>, DatabaseError> {
        enum Read {}
        let read = "SELECT resume_token FROM feed_partition WHERE partition = $1 AND owner = $2 AND epoch = $3";
        let query = diesel::sql_query(read)
            .bind::<SmallInt, _>(i16::from(lease.partition))
            .bind::<SqlUuid, _>(lease.owner)
            .bind::<BigInt, _>(lease.epoch);
        let mut conn = acquire(&self.pool).await?;
        let row: Option<TokenRow> = prepared::<Read, _>(query).get_result(&mut *conn).await.optional()?;
        Ok(row.map(|row| row.resume_token))
    }

    /// Keeps what follows from the events between two tokens and moves the place, all or nothing. False if the lease is
    /// somebody else's by now: nothing was kept.
    pub async fn advance(
        &self,
        lease: Lease,
        from: &str,
        to: &str,
        work: &[Box<dyn Work>],
    ) -> Result<bool, DatabaseError> {
        enum Advance {}
        let query = diesel::sql_query(advance_sql())
            .bind::<SmallInt, _>(i16::from(lease.partition))
            .bind::<SqlUuid, _>(lease.owner)
            .bind::<BigInt, _>(lease.epoch)
            .bind::<Text, _>(from)
            .bind::<Text, _>(to);
        let flight = Flight::open(&self.pool).await?;
        let mut connection = flight.connection();
        let move_on = prepared::<Advance, _>(query).execute(&mut connection);
        let keep = try_join_all(work.iter().map(|work| work.keep(flight.connection())));
        let (begun, moved, kept) = futures_util::join!(flight.begin(), move_on, keep);
        begun?;
        if moved? == 0 {
            flight.rollback().await?;
            return Ok(false);
        }
        kept?;
        failpoint!("advance.kept");
        flight.commit().await?;
        failpoint!("advance.committed");
        flight.close();
        Ok(true)
    }

    /// Starts over at the oldest event that is kept, because the feed cannot be resumed; keeps the lost token for the
    /// operator.
    pub async fn start_over(&self, lease: Lease, lost: &str) -> Result<(), DatabaseError> {
        let reset = "UPDATE feed_partition SET resume_token = '', lost_from = $4 \
                     WHERE partition = $1 AND owner = $2 AND epoch = $3 AND resume_token = $4";
        let query = diesel::sql_query(reset)
            .bind::<SmallInt, _>(i16::from(lease.partition))
            .bind::<SqlUuid, _>(lease.owner)
            .bind::<BigInt, _>(lease.epoch)
            .bind::<Text, _>(lost);
        let mut conn = acquire(&self.pool).await?;
        query.execute(&mut *conn).await?;
        Ok(())
    }
}

/// As it is, or as a test has it: for whoever once had the lease, and from wherever they stood.
fn advance_sql() -> String {
    let mut sql = ADVANCE.to_owned();
    if sabotaged!("feed.epoch") {
        sql = sql.replace("owner = $2 AND epoch = $3", "$2::uuid IS NOT NULL AND $3::bigint IS NOT NULL");
    }
    if sabotaged!("feed.token") {
        sql = sql.replace("resume_token = $4", "$4::text IS NOT NULL");
    }
    sql
}

async fn share(
    mut conn: &AsyncPgConnection,
    me: Uuid,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> QueryResult<(Vec<Lease>, DateTime<Utc>)> {
    let seen = diesel::sql_query(SEEN).bind::<SqlUuid, _>(me).bind::<Timestamptz, _>(now);
    seen.bind::<Timestamptz, _>(until).execute(&mut conn).await?;
    let renew = diesel::sql_query(RENEW).bind::<SqlUuid, _>(me).bind::<Timestamptz, _>(until);
    let mut held: Vec<Lease> = renew.load(&mut conn).await?.into_iter().map(|row: LeaseRow| row.of(me)).collect();
    let living = diesel::sql_query(LIVING).bind::<Timestamptz, _>(now);
    let living: LivingRow = living.get_result(&mut conn).await?;
    let share = (PARTITIONS + living.count - 1) / living.count.max(1);
    let most = usize::try_from(share).unwrap_or(usize::MAX);
    if held.len() > most {
        held.sort_unstable_by_key(|lease| lease.partition);
        let surplus: Vec<_> = held.split_off(most).iter().map(|lease| i16::from(lease.partition)).collect();
        let give = diesel::sql_query(GIVE_BACK).bind::<SqlUuid, _>(me).bind::<Array<SmallInt>, _>(surplus);
        give.execute(&mut conn).await?;
    } else if held.len() < most {
        let lacking = i64::try_from(most - held.len()).unwrap_or(PARTITIONS);
        let take = diesel::sql_query(TAKE).bind::<SqlUuid, _>(me).bind::<Timestamptz, _>(now);
        let take = take.bind::<Timestamptz, _>(until).bind::<BigInt, _>(lacking);
        held.extend(take.load(&mut conn).await?.into_iter().map(|row: LeaseRow| row.of(me)));
    }
    Ok((held, living.now))
}
