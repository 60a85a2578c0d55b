//! Envelopes for which a time has come. Finding them decides nothing: that is done at the lock.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, SmallInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Store, corrupt};
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
}

/// Each branch is one of the partial indexes.
const DUE: &str = "
(SELECT account_id, id, 1::smallint AS duty FROM envelope
 WHERE expires_at <= $1 AND dispatched_at IS NOT NULL AND all_acted_at IS NULL
     AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL
 ORDER BY expires_at LIMIT $2)
UNION ALL
(SELECT account_id, id, 2::smallint FROM envelope
 WHERE scheduled_send_at <= $1 AND scheduled_send_at IS NOT NULL AND dispatched_at IS NOT NULL AND sent_at IS NULL
     AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL
     AND NOT EXISTS (SELECT FROM document AS d
         WHERE d.account_id = envelope.account_id AND d.envelope_id = envelope.id AND d.ingest <> 2)
 ORDER BY scheduled_send_at LIMIT $2)
UNION ALL
(SELECT account_id, id, 3::smallint FROM envelope
 WHERE warning_at <= $1 AND warning_at IS NOT NULL AND all_acted_at IS NULL
     AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL
 ORDER BY warning_at LIMIT $2)";

enum FindDue {}

#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SmallInt)]
    duty: i16,
}

impl Store {
    /// Envelopes for which a time has come, at most `limit` of each duty.
    pub async fn due(&self, now: DateTime<Utc>, limit: i64) -> Result<Vec<Due>, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query = diesel::sql_query(DUE).bind::<Timestamptz, _>(now).bind::<BigInt, _>(limit);
        let rows: Vec<DueRow> = prepared::<FindDue, _>(query).load(&mut *conn).await?;
        let known = [Duty::Expire, Duty::Release, Duty::Warn];
        let due = |row: DueRow| {
            let duty = known.into_iter().find(|duty| *duty as i16 == row.duty).ok_or_else(|| corrupt("duty"))?;
            let (account, envelope) = (AccountId::from_uuid(row.account_id), EnvelopeId::from_uuid(row.id));
            Ok(Due { account, envelope, duty })
        };
        Ok(rows.into_iter().map(due).collect::<QueryResult<_>>()?)
    }
}
