//! Cuts off the old end of the feed. The history of an envelope stays; a reader whose place is gone is told so.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::sql_types::{BigInt, SmallInt, Timestamptz};
use diesel_async::RunQueryDsl;

use super::Store;
use super::feed::{CountRow, PartRow};

/// The oldest places that are kept of a partition, and when the event of each occurred.
fn oldest(most: &str) -> String {
    format!(
        "CROSS JOIN LATERAL (
            SELECT position, account_id, envelope_id, sequence FROM feed
            WHERE feed.part = head.part AND feed.position > head.floor_position
            ORDER BY feed.position LIMIT {most}
        ) AS f
        LEFT JOIN LATERAL (
            SELECT occurred_at FROM event
            WHERE event.account_id = f.account_id AND event.envelope_id = f.envelope_id AND event.sequence = f.sequence
            LIMIT 1
        ) AS e ON true"
    )
}

/// Where the oldest that is kept is old. Looked at first: else each look, most of which find nothing, would hold up the
/// sequencer for as long as it takes to read a batch.
fn old() -> String {
    format!(
        "SELECT head.part FROM feed_head AS head {}
        WHERE coalesce(e.occurred_at < $1, true)
        ORDER BY head.part",
        oldest("1")
    )
}

/// Under the lock of the partition's head, so that of two who trim the second finds what is left. Rows go from the oldest
/// up to the first that is not old, whatever the times of later ones say: nothing kept lies below the floor, and the floor
/// never passes the head.
fn trim() -> String {
    format!(
        "WITH head AS (
            SELECT part, floor_position FROM feed_head WHERE part = $1 FOR UPDATE
        ), oldest AS (
            SELECT f.position, coalesce(e.occurred_at < $2, true) AS old FROM head {}
        ), kept AS (
            SELECT min(position) AS first FROM oldest WHERE NOT old
        ), cut AS (
            SELECT max(position) AS upto FROM oldest, kept WHERE kept.first IS NULL OR position < kept.first
        ), gone AS (
            DELETE FROM feed USING head, cut
            WHERE feed.part = head.part AND feed.position > head.floor_position AND feed.position <= cut.upto
            RETURNING feed.position
        ), raised AS (
            UPDATE feed_head SET floor_position = cut.upto FROM cut WHERE part = $1 AND cut.upto IS NOT NULL
        )
        SELECT count(*) AS count FROM gone",
        oldest("$3")
    )
}

enum LookForOld {}
enum Trim {}

impl Store {
    /// Forgets the places in the feed of events from before that time, at most so many of each partition; says how many.
    pub async fn trim_feed(&self, before: DateTime<Utc>, each_max: i64) -> Result<i64, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let old = diesel::sql_query(old()).bind::<Timestamptz, _>(before);
        let old: Vec<PartRow> = prepared::<LookForOld, _>(old).load(&mut *conn).await?;
        let mut gone = 0;
        for PartRow { part } in old {
            // A statement for each: none holds more than one head, and none for long.
            let query = diesel::sql_query(trim())
                .bind::<SmallInt, _>(part)
                .bind::<Timestamptz, _>(before)
                .bind::<BigInt, _>(each_max);
            let row: CountRow = prepared::<Trim, _>(query).get_result(&mut *conn).await?;
            gone += row.count;
        }
        Ok(gone)
    }
}
