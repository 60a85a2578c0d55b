//! Where the notifier stands in the feed, and the work that follows from it: both move in one transaction.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Flight, acquire, prepared};
use diesel::prelude::*;
use diesel::sql_types::{Text, Timestamptz};
use diesel_async::RunQueryDsl;
use futures_util::future::try_join_all;

use super::Store;
use crate::sink::Work;

/// The only consumer so far.
const CONSUMER: &str = "notifier";

/// The cursor moves only from where this consumer read it: whoever lost the race keeps nothing.
const ADVANCE: &str =
    "UPDATE feed_cursor SET resume_token = $3, updated_at = $4 WHERE consumer = $1 AND resume_token = $2";

enum Advance {}

#[derive(QueryableByName)]
struct TokenRow {
    #[diesel(sql_type = Text)]
    resume_token: String,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

impl Store {
    /// The token to resume from; empty at the very beginning.
    pub async fn resume_token(&self) -> Result<String, DatabaseError> {
        enum Read {}
        let now = self.clock.now();
        let mut conn = acquire(&self.pool).await?;
        let insert =
            "INSERT INTO feed_cursor (consumer, resume_token, updated_at) VALUES ($1, '', $2) ON CONFLICT DO NOTHING";
        diesel::sql_query(insert).bind::<Text, _>(CONSUMER).bind::<Timestamptz, _>(now).execute(&mut *conn).await?;
        let read = "SELECT resume_token, clock_timestamp() AS now FROM feed_cursor WHERE consumer = $1";
        let query = diesel::sql_query(read).bind::<Text, _>(CONSUMER);
        let row: TokenRow = prepared::<Read, _>(query).get_result(&mut *conn).await?;
        self.clock.observe(row.now);
        Ok(row.resume_token)
    }

    /// Keeps what follows from the events between two tokens and moves the cursor, all or nothing. False if the cursor
    /// was not at `from` any more: somebody else is the consumer now.
    pub async fn advance(&self, from: &str, to: &str, work: &[Box<dyn Work>]) -> Result<bool, DatabaseError> {
        let query = diesel::sql_query(ADVANCE)
            .bind::<Text, _>(CONSUMER)
            .bind::<Text, _>(from)
            .bind::<Text, _>(to)
            .bind::<Timestamptz, _>(self.clock.now());
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
        flight.commit().await?;
        flight.close();
        Ok(true)
    }

    /// Starts over at the oldest event that is kept, because the feed cannot be resumed; keeps the lost token for the
    /// operator.
    pub async fn start_over(&self, lost: &str) -> Result<(), DatabaseError> {
        let reset = "UPDATE feed_cursor SET resume_token = '', lost_from = $2, updated_at = $3 \
                     WHERE consumer = $1 AND resume_token = $2";
        let mut conn = acquire(&self.pool).await?;
        let query = diesel::sql_query(reset).bind::<Text, _>(CONSUMER).bind::<Text, _>(lost);
        query.bind::<Timestamptz, _>(self.clock.now()).execute(&mut *conn).await?;
        Ok(())
    }
}
