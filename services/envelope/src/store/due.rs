//! Envelopes for which a time has come. Finding them decides nothing: that is done at the lock.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, SmallInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Store, corrupt, int8};
use crate::domain::envelope::Envelope;
use crate::domain::id::{AccountId, EnvelopeId};

/// An envelope for which a time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub envelope: EnvelopeId,
    /// What is to be done.
    pub duty: Duty,
    /// When its time came.
    pub at: DateTime<Utc>,
    /// When the first of all came whose time for that had come.
    pub first: DateTime<Utc>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// End it.
    Expire = 1,
    /// Send it.
    Release = 2,
    /// Warn of its deadline.
    Warn = 3,
    /// Remind those who owe an act.
    Remind = 4,
}

impl Duty {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Expire, Self::Release, Self::Warn, Self::Remind];
}

/// Each branch is one of the partial indexes, from the time before which nothing is left: what has been done stands there until
/// it is vacuumed. Of the first that are due some are drawn, so that several replicas do not all wait for the same rows.
const DUE: &str = "
WITH expire AS (
    SELECT account_id, id, expires_at AS at FROM envelope
    WHERE expires_at BETWEEN $3 AND $1 AND dispatched_at IS NOT NULL AND all_acted_at IS NULL
        AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL
    ORDER BY expires_at LIMIT $7
), release AS (
    SELECT account_id, id, scheduled_send_at AS at FROM envelope
    WHERE scheduled_send_at BETWEEN $4 AND $1 AND scheduled_send_at IS NOT NULL AND dispatched_at IS NOT NULL
        AND sent_at IS NULL AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL
        AND NOT EXISTS (SELECT FROM document AS d
            WHERE d.account_id = envelope.account_id AND d.envelope_id = envelope.id AND d.ingest <> 2)
    ORDER BY scheduled_send_at LIMIT $7
), warn AS (
    SELECT account_id, id, warning_at AS at FROM envelope
    WHERE warning_at BETWEEN $5 AND $1 AND warning_at IS NOT NULL AND all_acted_at IS NULL
        AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL
    ORDER BY warning_at LIMIT $7
), remind AS (
    SELECT account_id, id, reminder_at AS at FROM envelope
    WHERE reminder_at BETWEEN $6 AND $1 AND reminder_at IS NOT NULL
    ORDER BY reminder_at LIMIT $7
)
(SELECT *, 1::smallint AS duty, min(at) OVER () AS first FROM expire ORDER BY random() LIMIT $2)
UNION ALL
(SELECT *, 2::smallint, min(at) OVER () FROM release ORDER BY random() LIMIT $2)
UNION ALL
(SELECT *, 3::smallint, min(at) OVER () FROM warn ORDER BY random() LIMIT $2)
UNION ALL
(SELECT *, 4::smallint, min(at) OVER () FROM remind ORDER BY random() LIMIT $2)";

const POSTPONE: &str = "
UPDATE envelope SET reminder_at = $4 WHERE account_id = $1 AND id = $2 AND revision = $3
    AND ($4 IS NULL OR reminder_at < $4)";

enum Postpone {}

enum FindDue {}

#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SmallInt)]
    duty: i16,
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    first: DateTime<Utc>,
}

/// For each duty the time before which nothing is left to do.
pub type Lows = [DateTime<Utc>; Duty::ALL.len()];

/// Before all that is due.
pub const BEGINNING: Lows = [DateTime::UNIX_EPOCH; Duty::ALL.len()];

impl Store {
    /// Envelopes for which a time has come: of each duty at most `limit`, drawn from the first `window`.
    pub async fn due(
        &self,
        now: DateTime<Utc>,
        lows: Lows,
        limit: i64,
        window: i64,
    ) -> Result<Vec<Due>, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let [expire, release, warn, remind] = lows;
        let query = diesel::sql_query(DUE)
            .bind::<Timestamptz, _>(now)
            .bind::<BigInt, _>(limit)
            .bind::<Timestamptz, _>(expire)
            .bind::<Timestamptz, _>(release)
            .bind::<Timestamptz, _>(warn)
            .bind::<Timestamptz, _>(remind)
            .bind::<BigInt, _>(window);
        let rows: Vec<DueRow> = prepared::<FindDue, _>(query).load(&mut *conn).await?;
        let due = |row: DueRow| {
            let DueRow { account_id, id, duty, at, first } = row;
            let duty = Duty::ALL.into_iter().find(|known| *known as i16 == duty).ok_or_else(|| corrupt("duty"))?;
            let (account, envelope) = (AccountId::from_uuid(account_id), EnvelopeId::from_uuid(id));
            Ok(Due { account, envelope, duty, at, first })
        };
        Ok(rows.into_iter().map(due).collect::<QueryResult<_>>()?)
    }

    /// Has nobody look for an envelope's reminders before that time, or at all, unless it changes.
    pub async fn postpone(&self, envelope: &Envelope, until: Option<DateTime<Utc>>) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query = diesel::sql_query(POSTPONE)
            .bind::<SqlUuid, _>(envelope.account.uuid())
            .bind::<SqlUuid, _>(envelope.id.uuid())
            .bind::<BigInt, _>(int8(envelope.revision))
            .bind::<Nullable<Timestamptz>, _>(until);
        prepared::<Postpone, _>(query).execute(&mut *conn).await?;
        Ok(())
    }
}
