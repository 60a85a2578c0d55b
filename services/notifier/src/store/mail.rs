//! Mails that wait. Claimed and settled like deliveries.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, SmallInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{MailState, Store, column};
use crate::id::{AccountId, EnvelopeId, EventId, RecipientId, WatcherId};
use crate::mail::plan::{Addressee, Mail, MailKind};

/// A claimed mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedMail {
    /// What it is.
    pub mail: Mail,
    /// How often it has been tried.
    pub attempts: u32,
    /// Who may settle it.
    pub lease_epoch: i32,
}

#[derive(QueryableByName)]
struct MailRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = SmallInt)]
    addressee_kind: i16,
    #[diesel(sql_type = SqlUuid)]
    addressee_id: Uuid,
    #[diesel(sql_type = SmallInt)]
    kind: i16,
    #[diesel(sql_type = SqlUuid)]
    envelope_id: Uuid,
    #[diesel(sql_type = Bool)]
    livemode: bool,
    #[diesel(sql_type = Timestamptz)]
    occurred_at: DateTime<Utc>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Integer)]
    lease_epoch: i32,
}

const CLAIM: &str = "
WITH due AS (
    SELECT account_id, event_id, addressee_kind, addressee_id, kind FROM mail
    WHERE state = 1 AND next_at <= $1 AND (lease_until IS NULL OR lease_until <= $1)
    ORDER BY next_at LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE mail AS m SET lease_until = $2, lease_epoch = m.lease_epoch + 1 FROM due
WHERE (m.account_id, m.event_id, m.addressee_kind, m.addressee_id, m.kind)
    = (due.account_id, due.event_id, due.addressee_kind, due.addressee_id, due.kind)
RETURNING m.account_id, m.event_id, m.addressee_kind, m.addressee_id, m.kind, m.envelope_id, m.livemode, m.occurred_at,
    m.attempts, m.lease_epoch";

const SETTLE: &str = "
UPDATE mail SET state = $7, attempts = attempts + $9, next_at = $8, lease_until = NULL
WHERE account_id = $1 AND event_id = $2 AND addressee_kind = $3 AND addressee_id = $4 AND kind = $5 AND lease_epoch = $6
    AND state = 1";

/// An addressee as the table has it: which kind, and which one.
fn addressee_columns(addressee: Addressee) -> (i16, Uuid) {
    match addressee {
        Addressee::Recipient(id) => (1, id.uuid()),
        Addressee::Watcher(id) => (2, id.uuid()),
    }
}

const KEEP: &str = "
INSERT INTO mail (account_id, event_id, addressee_kind, addressee_id, kind, envelope_id, livemode, occurred_at, state,
    attempts, next_at, lease_epoch, created_at)
SELECT m.*, 1, 0, $9, 0, $9 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS m
ON CONFLICT DO NOTHING";

/// Writes mails down, in the caller's transaction. Those that are there already stay as they are.
pub async fn keep_mails(
    mut connection: &AsyncPgConnection,
    mails: &[Mail],
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    enum Keep {}
    let query = diesel::sql_query(KEEP)
        .into_boxed::<Pg>()
        .bind::<Array<SqlUuid>, _>(column(mails, |m| m.account.uuid()))
        .bind::<Array<SqlUuid>, _>(column(mails, |m| m.event.uuid()))
        .bind::<Array<SmallInt>, _>(column(mails, |m| addressee_columns(m.addressee).0))
        .bind::<Array<SqlUuid>, _>(column(mails, |m| addressee_columns(m.addressee).1))
        .bind::<Array<SmallInt>, _>(column(mails, |m| m.kind as i16))
        .bind::<Array<SqlUuid>, _>(column(mails, |m| m.envelope.uuid()))
        .bind::<Array<Bool>, _>(column(mails, |m| m.livemode))
        .bind::<Array<Timestamptz>, _>(column(mails, |m| m.occurred_at))
        .bind::<Timestamptz, _>(now);
    prepared::<Keep, _>(query).execute(&mut connection).await?;
    Ok(())
}

impl Store {
    /// Claims due mails until `until`.
    pub async fn claim_mails(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<ClaimedMail>, DatabaseError> {
        enum Claim {}
        let query =
            diesel::sql_query(CLAIM).bind::<Timestamptz, _>(now).bind::<Timestamptz, _>(until).bind::<BigInt, _>(limit);
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<MailRow> = prepared::<Claim, _>(query).load(&mut *conn).await?;
        let claimed = |row: MailRow| ClaimedMail {
            mail: Mail {
                account: AccountId::from_uuid(row.account_id),
                event: EventId::from_uuid(row.event_id),
                envelope: EnvelopeId::from_uuid(row.envelope_id),
                addressee: match row.addressee_kind {
                    1 => Addressee::Recipient(RecipientId::from_uuid(row.addressee_id)),
                    _ => Addressee::Watcher(WatcherId::from_uuid(row.addressee_id)),
                },
                kind: match row.kind {
                    1 => MailKind::Invitation,
                    2 => MailKind::FellThrough,
                    3 => MailKind::Completed,
                    4 => MailKind::Copy,
                    _ => MailKind::ExpiryWarning,
                },
                livemode: row.livemode,
                occurred_at: row.occurred_at,
            },
            attempts: row.attempts.unsigned_abs(),
            lease_epoch: row.lease_epoch,
        };
        Ok(rows.into_iter().map(claimed).collect())
    }

    /// Writes down what becomes of a mail, and whether it was an attempt at all. False if the lease was lost meanwhile.
    pub async fn settle_mail(
        &self,
        claimed: &ClaimedMail,
        state: MailState,
        next_at: DateTime<Utc>,
        attempted: bool,
    ) -> Result<bool, DatabaseError> {
        enum Settle {}
        let (addressee_kind, addressee_id) = addressee_columns(claimed.mail.addressee);
        let query = diesel::sql_query(SETTLE)
            .bind::<SqlUuid, _>(claimed.mail.account.uuid())
            .bind::<SqlUuid, _>(claimed.mail.event.uuid())
            .bind::<SmallInt, _>(addressee_kind)
            .bind::<SqlUuid, _>(addressee_id)
            .bind::<SmallInt, _>(claimed.mail.kind as i16)
            .bind::<Integer, _>(claimed.lease_epoch)
            .bind::<SmallInt, _>(state as i16)
            .bind::<Timestamptz, _>(next_at)
            .bind::<Integer, _>(i32::from(attempted));
        let mut conn = acquire(&self.pool).await?;
        Ok(prepared::<Settle, _>(query).execute(&mut *conn).await? == 1)
    }
}
