//! Up to where the outbox is settled: nothing waits there any more, nor ever will. Who looks for events begins behind that,
//! whatever lies before it that the database may not clear away yet.
//!
//! It must never settle a number whose transaction can still commit, and nobody waits for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_chassis::database::{DatabaseError, acquire, prepared};
use countersign_chassis::failpoint;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};
use diesel_async::RunQueryDsl;

use super::Store;
use super::feed::CountRow;

/// Events that a process moves before it looks again.
const MOVED_MAX: i64 = 1_000;

/// What a process knows of it.
#[derive(Debug)]
pub struct Settling(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Events that were moved since it looked.
    moved: i64,
    /// What it saw, until those have ended who were writing then.
    seen: Option<Seen>,
}

/// The last number that was taken, and who was writing.
#[derive(Clone, Debug)]
struct Seen {
    taken: i64,
    writers: Vec<String>,
}

impl Default for Settling {
    fn default() -> Self {
        // Whoever comes up may come after one who died before it looked.
        Self(Mutex::new(State { moved: MOVED_MAX, seen: None }))
    }
}

impl Settling {
    /// Counts.
    pub fn moved(&self, events: i64) {
        self.state().moved += events;
    }

    fn is_due(&self) -> bool {
        let state = &mut *self.state();
        let is_due = state.moved >= MOVED_MAX;
        if is_due {
            state.moved = 0;
        }
        is_due
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const TAKEN: &str = "SELECT coalesce((SELECT last_value FROM outbox_id_seq WHERE is_called), 0) AS count";

/// A transaction takes this lock before it takes a number, and holds it until its end.
const WRITERS: &str = "
SELECT coalesce(array_agg(virtualtransaction), '{}') AS writers FROM pg_locks
WHERE locktype = 'relation' AND relation = 'outbox'::regclass AND mode = 'RowExclusiveLock' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// What is live of the numbers up to there stays to be found. The heads are locked in order, so of several who raise them
/// each sees what those before it did. A mark above the last number is one from before a restore that forgot the
/// sequences: numbers began anew, and all is looked at again.
const RAISE: &str = "
WITH head AS (
    SELECT part, settled_id FROM feed_head ORDER BY part FOR UPDATE
), settled AS (
    SELECT head.part, CASE
        WHEN head.settled_id > coalesce((SELECT last_value FROM outbox_id_seq WHERE is_called), 0) THEN 0
        ELSE greatest(head.settled_id, coalesce(live.first - 1, $1))
    END AS id
    FROM head CROSS JOIN LATERAL (
        SELECT min(id) AS first FROM outbox
        WHERE outbox.part = head.part AND outbox.id > head.settled_id AND outbox.id <= $1
    ) AS live
)
UPDATE feed_head SET settled_id = settled.id FROM settled
WHERE feed_head.part = settled.part AND feed_head.settled_id <> settled.id";

enum ReadTaken {}
enum ReadWriters {}
enum Raise {}

#[derive(QueryableByName)]
struct WritersRow {
    #[diesel(sql_type = Array<Text>)]
    writers: Vec<String>,
}

impl Store {
    pub(super) async fn settle_now_and_then(&self) -> Result<(), DatabaseError> {
        if self.settling.is_due() { self.settle().await } else { Ok(()) }
    }

    /// Looks who is writing to the outbox, and raises the mark once those have ended who were when it looked before.
    pub async fn settle(&self) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        // The numbers first: who takes one between the two looks is not waited for, and need not be.
        let taken = prepared::<ReadTaken, _>(diesel::sql_query(TAKEN)).get_result::<CountRow>(&mut *conn);
        let taken = taken.await?.count;
        let now: WritersRow = prepared::<ReadWriters, _>(diesel::sql_query(WRITERS)).get_result(&mut *conn).await?;
        let now = Seen { taken, writers: now.writers };
        let seen = self.settling.state().seen.take().unwrap_or_else(|| now.clone());
        // Prepared transactions have another name from then on.
        if now.writers.iter().any(|writer| writer.starts_with("-1/") || seen.writers.contains(writer)) {
            self.settling.state().seen = Some(seen);
            return Ok(());
        }
        self.settling.state().seen = (!now.writers.is_empty()).then_some(now);
        failpoint!("settle.raising");
        let raise = diesel::sql_query(RAISE).bind::<BigInt, _>(seen.taken);
        prepared::<Raise, _>(raise).execute(&mut *conn).await?;
        Ok(())
    }
}
