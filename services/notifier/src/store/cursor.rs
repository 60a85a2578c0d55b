//! Where the stream was left. The cursor advances in the statement that inserts what its events lead to, or not at all.
//! Must never advance for a consumer that another has overtaken.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;

use super::delivery::{NewDelivery, NewMessage};
use super::mail::NewMail;
use super::{PENDING, Store, int4, int8};

/// There is one consumer, whichever replica it runs on.
const CONSUMER: &str = "notifier";

/// Where the stream was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Resumes behind the last event dealt with; `None` before the first.
    pub resume_token: Option<String>,
    /// Grows with every advance.
    pub revision: i64,
    /// When the stream last would not resume. Events from before come again.
    pub lost_at: Option<DateTime<Utc>>,
}

const READ: &str = "
SELECT resume_token, revision, lost_at, clock_timestamp() AS now FROM feed_cursor WHERE consumer = $1";

/// Everything depends on the cursor's row being as it was read: if another consumer advanced it, nothing is inserted.
const ADVANCE: &str = "
WITH advanced AS (
    UPDATE feed_cursor SET resume_token = $4, revision = revision + 1, advanced_at = $5
    WHERE consumer = $1 AND resume_token IS NOT DISTINCT FROM $2 AND revision = $3
    RETURNING revision
), message AS (
    SELECT * FROM advanced, unnest($6, $7, $8, $9, $10, $11)
        AS m (number, event_id, envelope_id, sequence, body, traceparent)
), delivered AS (
    INSERT INTO delivery (account_id, endpoint_id, event_id, envelope_id, sequence, body, traceparent, state, attempts,
        planned_at, due_at, lease_epoch)
    SELECT d.account_id, d.endpoint_id, message.event_id, message.envelope_id, message.sequence, message.body,
        message.traceparent, $20, 0, $5, $5, 0
    FROM message JOIN unnest($12, $13, $14) AS d (account_id, endpoint_id, number) USING (number)
    ON CONFLICT DO NOTHING
), mailed AS (
    INSERT INTO mail (account_id, event_id, recipient_id, kind, envelope_id, livemode, traceparent, state, attempts,
        planned_at, due_at, lease_epoch)
    SELECT m.account_id, m.event_id, m.recipient_id, m.kind, m.envelope_id, m.livemode, $21, $20, 0, $5, $5, 0
    FROM advanced, unnest($15, $16, $17, $18, $19, $22)
        AS m (account_id, event_id, recipient_id, kind, envelope_id, livemode)
    ON CONFLICT DO NOTHING
)
SELECT revision, clock_timestamp() AS now FROM advanced";

const LOSE: &str = "
UPDATE feed_cursor SET lost_from = resume_token, lost_at = $4, resume_token = NULL, revision = revision + 1
WHERE consumer = $1 AND resume_token IS NOT DISTINCT FROM $2 AND revision = $3";

enum Read {}
enum Advance {}
enum Lose {}

#[derive(QueryableByName)]
struct CursorRow {
    #[diesel(sql_type = Nullable<Text>)]
    resume_token: Option<String>,
    #[diesel(sql_type = BigInt)]
    revision: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    lost_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct AdvancedRow {
    #[diesel(sql_type = BigInt)]
    revision: i64,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

impl Store {
    /// Where the stream was left.
    pub async fn cursor(&self) -> Result<Cursor, DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        let query = diesel::sql_query(READ).bind::<Text, _>(CONSUMER);
        let row: CursorRow = prepared::<Read, _>(query).get_result(&mut *conn).await?;
        self.clock.observe(row.now);
        Ok(Cursor { resume_token: row.resume_token, revision: row.revision, lost_at: row.lost_at })
    }

    /// Advances the cursor to `resume_token` and inserts what the events before it lead to; what is there already stays
    /// as it is. `None`, and nothing done, if the cursor is not where `from` says.
    pub async fn advance(
        &self,
        from: &Cursor,
        resume_token: String,
        messages: &[NewMessage],
        deliveries: &[NewDelivery],
        mails: &[NewMail],
        traceparent: Option<&str>,
    ) -> Result<Option<Cursor>, DatabaseError> {
        let mail = |bind: fn(&NewMail) -> uuid::Uuid| mails.iter().map(bind).collect::<Vec<_>>();
        let query = diesel::sql_query(ADVANCE)
            .into_boxed::<Pg>()
            .bind::<Text, _>(CONSUMER)
            .bind::<Nullable<Text>, _>(from.resume_token.as_deref())
            .bind::<BigInt, _>(from.revision)
            .bind::<Text, _>(resume_token.as_str())
            .bind::<Timestamptz, _>(self.clock.now())
            .bind::<Array<Integer>, _>((0..int4(count(messages))).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(messages.iter().map(|message| message.event.uuid()).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(messages.iter().map(|message| message.envelope.uuid()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(messages.iter().map(|message| int8(message.sequence)).collect::<Vec<_>>())
            .bind::<Array<Bytea>, _>(messages.iter().map(|message| message.body.as_slice()).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(messages.iter().map(|_| traceparent).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(deliveries.iter().map(|new| new.account.uuid()).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(deliveries.iter().map(|new| new.endpoint.uuid()).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(deliveries.iter().map(|new| int4(new.message)).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(mail(|mail| mail.account.uuid()))
            .bind::<Array<SqlUuid>, _>(mail(|mail| mail.event.uuid()))
            .bind::<Array<SqlUuid>, _>(mail(|mail| mail.recipient.uuid()))
            .bind::<Array<SmallInt>, _>(mails.iter().map(|mail| mail.kind as i16).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(mail(|mail| mail.envelope.uuid()))
            .bind::<SmallInt, _>(PENDING)
            .bind::<Nullable<Text>, _>(traceparent)
            .bind::<Array<Bool>, _>(mails.iter().map(|mail| mail.livemode).collect::<Vec<_>>());
        let mut conn = acquire(&self.pool).await?;
        let row: Option<AdvancedRow> = prepared::<Advance, _>(query).get_result(&mut *conn).await.optional()?;
        Ok(row.map(|row| {
            self.clock.observe(row.now);
            Cursor { resume_token: Some(resume_token), revision: row.revision, lost_at: from.lost_at }
        }))
    }

    /// Notes that the stream does not resume from there any more: it starts with the oldest event next. False, and nothing
    /// done, if the cursor is not where `from` says.
    pub async fn lose_cursor(&self, from: &Cursor) -> Result<bool, DatabaseError> {
        let query = diesel::sql_query(LOSE)
            .bind::<Text, _>(CONSUMER)
            .bind::<Nullable<Text>, _>(from.resume_token.as_deref())
            .bind::<BigInt, _>(from.revision)
            .bind::<Timestamptz, _>(self.clock.now());
        let mut conn = acquire(&self.pool).await?;
        Ok(prepared::<Lose, _>(query).execute(&mut *conn).await? == 1)
    }
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
