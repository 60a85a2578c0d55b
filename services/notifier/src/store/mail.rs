//! Mails that wait. Claimed and settled like deliveries. Must never hold a name or an address: of those there is a MAC.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{Disabled, Store, column};
use crate::id::{AccountId, EndpointId, EnvelopeId, EventId, RecipientId, WatcherId};
use crate::mail::plan::{About, Addressee, Mail, MailKind};
use crate::sink::Traces;

/// What is to be done with a claimed mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It is to be sent.
    Send,
    /// It came back from the address with this SHA-256: that is to be reported.
    Report([u8; 32]),
}

/// A claimed mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedMail {
    /// What it is.
    pub mail: Mail,
    /// In which trace that happened which it is about.
    pub traceparent: Option<String>,
    /// What is to be done.
    pub due: Due,
    /// How often that has been tried.
    pub attempts: u32,
    /// The server takes no mail so large: it goes without its documents.
    pub is_too_large: bool,
    /// When it was planned.
    pub created_at: DateTime<Utc>,
    /// Who may settle it.
    pub lease_epoch: i32,
}

/// What becomes of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSettled {
    /// It is sent.
    Sent,
    /// Nobody needs it any more, or it must not leave.
    Suppressed,
    /// Given up.
    Dead,
    /// There is no such mailbox; if somebody is to be told, with the SHA-256 of the address.
    Bounced(Option<[u8; 32]>),
    /// Who must know that it bounced has been told, or does not want to know.
    Reported,
    /// The server takes no mail so large: at once again, without its documents.
    TooLarge,
    /// Later again; `attempted` if it counts as an attempt.
    Again {
        /// When.
        at: DateTime<Utc>,
        /// Whether it counts.
        attempted: bool,
    },
}

/// How many mails may leave in an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// From one account to one address.
    pub address_max: u32,
    /// From one account.
    pub account_max: u32,
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
    #[diesel(sql_type = Nullable<SqlUuid>)]
    envelope_id: Option<Uuid>,
    #[diesel(sql_type = Bool)]
    livemode: bool,
    #[diesel(sql_type = Nullable<Text>)]
    traceparent: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    occurred_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Bytea>)]
    bounced_sha256: Option<Vec<u8>>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Bool)]
    is_too_large: bool,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Integer)]
    lease_epoch: i32,
}

/// Whether a mail may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailRoom {
    /// It may, and is counted.
    Taken,
    /// There is room at that time.
    At(DateTime<Utc>),
    /// The claim is another's, or ends too soon.
    Lost,
}

#[derive(QueryableByName)]
struct WaitRow {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct RoomRow {
    #[diesel(sql_type = Bool)]
    is_held: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Reason {
    #[diesel(sql_type = SmallInt)]
    reason: i16,
}

const CLAIM: &str = "
WITH due AS (
    SELECT account_id, event_id, addressee_kind, addressee_id, kind FROM mail
    WHERE state IN (1, 5) AND next_at <= $1 AND (lease_until IS NULL OR lease_until <= $1)
        AND ($3 OR state = 5 OR NOT livemode)
    ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE mail AS m SET lease_until = $2, lease_epoch = m.lease_epoch + 1 FROM due
WHERE (m.account_id, m.event_id, m.addressee_kind, m.addressee_id, m.kind)
    = (due.account_id, due.event_id, due.addressee_kind, due.addressee_id, due.kind)
RETURNING m.account_id, m.event_id, m.addressee_kind, m.addressee_id, m.kind, m.envelope_id, m.livemode, m.traceparent, m.occurred_at,
    m.bounced_sha256, m.attempts, m.is_too_large, m.created_at, m.lease_epoch";

const SETTLE: &str = "
UPDATE mail SET state = $7, attempts = CASE WHEN $7 = 5 AND state = 1 THEN 0 ELSE attempts + $9 END, next_at = $8, lease_until = NULL,
    bounced_sha256 = CASE WHEN $7 = 5 THEN coalesce($10, bounced_sha256) END, is_too_large = is_too_large OR $11
WHERE account_id = $1 AND event_id = $2 AND addressee_kind = $3 AND addressee_id = $4 AND kind = $5 AND lease_epoch = $6
    AND state IN (1, 5)";

const AWAIT_QUOTA: &str = "SELECT await_mail_quota($1, $2, $3, $4, $5, $6, $7, $8) AS at";

const TAKE_QUOTA: &str = "SELECT is_held, at FROM take_mail_quota($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

const KEEP: &str = "
INSERT INTO mail (account_id, event_id, addressee_kind, addressee_id, kind, envelope_id, livemode, occurred_at,
    traceparent, state, attempts, next_at, lease_epoch, created_at)
SELECT m.*, 1, 0, $9, 0, $9 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $10) AS m
ON CONFLICT DO NOTHING";

/// The id in the event's place is the same whoever plans the mail, and however often.
const KEEP_NOTICES: &str = "
WITH due AS (
    SELECT account_id, endpoint_id, disabled_at FROM endpoint_notice WHERE mailed_at IS NULL
    ORDER BY disabled_at LIMIT $2 FOR UPDATE SKIP LOCKED
), told AS (
    UPDATE endpoint_notice AS n SET mailed_at = $1 FROM due
    WHERE (n.account_id, n.endpoint_id, n.disabled_at) = (due.account_id, due.endpoint_id, due.disabled_at)
    RETURNING n.account_id, n.endpoint_id, n.livemode, n.disabled_at
)
INSERT INTO mail (account_id, event_id, addressee_kind, addressee_id, kind, livemode, occurred_at, state, attempts, next_at,
    lease_epoch, created_at)
SELECT t.account_id, md5(t.endpoint_id::text || extract(epoch FROM t.disabled_at)::text)::uuid, 3, t.endpoint_id, 7,
    t.livemode, t.disabled_at, 1, 0, $1, 0, $1
FROM told AS t
ON CONFLICT DO NOTHING";

/// Nothing if the endpoint is gone, or enabled again.
const REASON: &str = "
SELECT n.reason FROM endpoint_notice AS n JOIN endpoint AS e ON (e.account_id, e.id) = (n.account_id, n.endpoint_id)
WHERE n.account_id = $1 AND n.endpoint_id = $2 AND n.disabled_at = $3 AND e.disabled_at IS NOT NULL";

const FORGET: &str = "
DELETE FROM mail WHERE (account_id, event_id, addressee_kind, addressee_id, kind) IN (
    SELECT account_id, event_id, addressee_kind, addressee_id, kind FROM mail
    WHERE state NOT IN (1, 5) AND next_at < $1 ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED
)";

/// An addressee as the table has it: which kind, and which one.
fn addressee_columns(addressee: Addressee) -> (i16, Uuid) {
    match addressee {
        Addressee::Recipient(id) => (1, id.uuid()),
        Addressee::Watcher(id) => (2, id.uuid()),
        Addressee::Contact(id) => (3, id.uuid()),
    }
}

fn kind_of(number: i16) -> MailKind {
    match number {
        1 => MailKind::Invitation,
        2 => MailKind::FellThrough,
        3 => MailKind::Completed,
        4 => MailKind::Copy,
        5 => MailKind::ExpiryWarning,
        6 => MailKind::Reminder,
        _ => MailKind::EndpointDisabled,
    }
}

impl From<MailRow> for ClaimedMail {
    fn from(row: MailRow) -> Self {
        let addressee = match row.addressee_kind {
            1 => Addressee::Recipient(RecipientId::from_uuid(row.addressee_id)),
            2 => Addressee::Watcher(WatcherId::from_uuid(row.addressee_id)),
            _ => Addressee::Contact(EndpointId::from_uuid(row.addressee_id)),
        };
        let endpoint = About::Endpoint(EndpointId::from_uuid(row.addressee_id));
        let bounced = row.bounced_sha256.and_then(|hash| hash.try_into().ok());
        let due = bounced.map_or(Due::Send, Due::Report);
        Self {
            mail: Mail {
                account: AccountId::from_uuid(row.account_id),
                event: EventId::from_uuid(row.event_id),
                about: row.envelope_id.map_or(endpoint, |id| About::Envelope(EnvelopeId::from_uuid(id))),
                addressee,
                kind: kind_of(row.kind),
                livemode: row.livemode,
                occurred_at: row.occurred_at,
            },
            traceparent: row.traceparent,
            due,
            attempts: row.attempts.unsigned_abs(),
            is_too_large: row.is_too_large,
            created_at: row.created_at,
            lease_epoch: row.lease_epoch,
        }
    }
}

/// Writes mails down, in the caller's transaction. Those that are there already stay as they are.
pub async fn keep_mails(
    mut connection: &AsyncPgConnection,
    mails: &[Mail],
    traces: &Traces,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    enum Keep {}
    let envelope = |mail: &Mail| match mail.about {
        About::Envelope(id) => Some(id.uuid()),
        About::Endpoint(_) => None,
    };
    let query = diesel::sql_query(KEEP)
        .into_boxed::<Pg>()
        .bind::<Array<SqlUuid>, _>(column(mails, |m| m.account.uuid()))
        .bind::<Array<SqlUuid>, _>(column(mails, |m| m.event.uuid()))
        .bind::<Array<SmallInt>, _>(column(mails, |m| addressee_columns(m.addressee).0))
        .bind::<Array<SqlUuid>, _>(column(mails, |m| addressee_columns(m.addressee).1))
        .bind::<Array<SmallInt>, _>(column(mails, |m| m.kind as i16))
        .bind::<Array<Nullable<SqlUuid>>, _>(column(mails, envelope))
        .bind::<Array<Bool>, _>(column(mails, |m| m.livemode))
        .bind::<Array<Timestamptz>, _>(column(mails, |m| m.occurred_at))
        .bind::<Timestamptz, _>(now)
        .bind::<Array<Nullable<Text>>, _>(column(mails, |m| traces.get(&m.event).cloned()));
    prepared::<Keep, _>(query).execute(&mut connection).await?;
    Ok(())
}

/// A statement whose first parameters name a claimed mail and the claim.
fn of_claim(text: &'static str, claimed: &ClaimedMail) -> BoxedSqlQuery<'static, Pg, SqlQuery> {
    let (addressee_kind, addressee_id) = addressee_columns(claimed.mail.addressee);
    diesel::sql_query(text)
        .into_boxed::<Pg>()
        .bind::<SqlUuid, _>(claimed.mail.account.uuid())
        .bind::<SqlUuid, _>(claimed.mail.event.uuid())
        .bind::<SmallInt, _>(addressee_kind)
        .bind::<SqlUuid, _>(addressee_id)
        .bind::<SmallInt, _>(claimed.mail.kind as i16)
        .bind::<Integer, _>(claimed.lease_epoch)
}

impl Store {
    /// Claims a due mail until `until`; one to the outside only if the outside can be reached.
    pub async fn claim_mail(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        outside: bool,
    ) -> Result<Option<ClaimedMail>, DatabaseError> {
        enum Claim {}
        let query =
            diesel::sql_query(CLAIM).bind::<Timestamptz, _>(now).bind::<Timestamptz, _>(until).bind::<Bool, _>(outside);
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<MailRow> = prepared::<Claim, _>(query).load(&mut *conn).await?;
        Ok(rows.into_iter().next().map(ClaimedMail::from))
    }

    /// When the account's hour has room for a mail, or none if it has; those that wait longer come first. Counts nothing.
    pub async fn await_mail_quota(
        &self,
        claimed: &ClaimedMail,
        now: DateTime<Utc>,
        quota: Quota,
    ) -> Result<Option<DateTime<Utc>>, DatabaseError> {
        enum Await {}
        let query = of_claim(AWAIT_QUOTA, claimed)
            .bind::<Timestamptz, _>(now)
            .bind::<Integer, _>(i32::try_from(quota.account_max).unwrap_or(i32::MAX));
        let mut conn = acquire(&self.pool).await?;
        let row: WaitRow = prepared::<Await, _>(query).get_result(&mut *conn).await?;
        Ok(row.at)
    }

    /// Counts a mail to that address, as it is known under each master key, among those of the last hour, if there is room and the claim holds until `until`.
    pub async fn take_mail_quota(
        &self,
        claimed: &ClaimedMail,
        addresses: &[[u8; 32]],
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        quota: Quota,
    ) -> Result<MailRoom, DatabaseError> {
        enum Take {}
        let most = |most: u32| i32::try_from(most).unwrap_or(i32::MAX);
        let query = of_claim(TAKE_QUOTA, claimed)
            .bind::<Array<Bytea>, _>(column(addresses, |address| address.to_vec()))
            .bind::<Timestamptz, _>(now)
            .bind::<Timestamptz, _>(until)
            .bind::<Integer, _>(most(quota.address_max))
            .bind::<Integer, _>(most(quota.account_max));
        let mut conn = acquire(&self.pool).await?;
        let room: RoomRow = prepared::<Take, _>(query).get_result(&mut *conn).await?;
        Ok(if room.is_held { room.at.map_or(MailRoom::Taken, MailRoom::At) } else { MailRoom::Lost })
    }

    /// Writes down what becomes of a mail. False if the lease was lost meanwhile.
    pub async fn settle_mail(
        &self,
        claimed: &ClaimedMail,
        settled: MailSettled,
        now: DateTime<Utc>,
    ) -> Result<bool, DatabaseError> {
        enum Settle {}
        let open = if matches!(claimed.due, Due::Send) { 1 } else { 5 };
        let (state, at, attempted, bounced): (i16, _, _, Option<[u8; 32]>) = match settled {
            MailSettled::Sent => (2, now, true, None),
            MailSettled::Suppressed => (3, now, true, None),
            MailSettled::Dead => (4, now, true, None),
            MailSettled::Bounced(Some(hash)) => (5, now, false, Some(hash)),
            MailSettled::Bounced(None) | MailSettled::Reported => (6, now, true, None),
            MailSettled::TooLarge => (open, now, false, None),
            MailSettled::Again { at, attempted } => (open, at, attempted, None),
        };
        let query = of_claim(SETTLE, claimed)
            .bind::<SmallInt, _>(state)
            .bind::<Timestamptz, _>(at)
            .bind::<Integer, _>(i32::from(attempted))
            .bind::<Nullable<Bytea>, _>(bounced.map(Vec::from))
            .bind::<Bool, _>(settled == MailSettled::TooLarge);
        let mut conn = acquire(&self.pool).await?;
        Ok(prepared::<Settle, _>(query).execute(&mut *conn).await? == 1)
    }

    /// Plans the mails about endpoints that were disabled, at most `limit`; says how many.
    pub async fn keep_endpoint_mails(&self, now: DateTime<Utc>, limit: i64) -> Result<usize, DatabaseError> {
        enum KeepNotices {}
        let query = diesel::sql_query(KEEP_NOTICES).bind::<Timestamptz, _>(now).bind::<BigInt, _>(limit);
        let mut conn = acquire(&self.pool).await?;
        Ok(prepared::<KeepNotices, _>(query).execute(&mut *conn).await?)
    }

    /// Why an endpoint was disabled then, if it still is.
    pub async fn disabled_for(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        at: DateTime<Utc>,
    ) -> Result<Option<Disabled>, DatabaseError> {
        enum WhyDisabled {}
        let query = diesel::sql_query(REASON)
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<SqlUuid, _>(endpoint.uuid())
            .bind::<Timestamptz, _>(at);
        let mut conn = acquire(&self.pool).await?;
        let row: Option<Reason> = prepared::<WhyDisabled, _>(query).get_result(&mut *conn).await.optional()?;
        Ok(row.map(|row| if row.reason == 1 { Disabled::Gone } else { Disabled::Failing }))
    }

    /// Forgets mails that were settled before then, at most `limit`; says how many.
    pub async fn forget_mails(&self, before: DateTime<Utc>, limit: i64) -> Result<usize, DatabaseError> {
        enum Forget {}
        let query = diesel::sql_query(FORGET).bind::<Timestamptz, _>(before).bind::<BigInt, _>(limit);
        let mut conn = acquire(&self.pool).await?;
        Ok(prepared::<Forget, _>(query).execute(&mut *conn).await?)
    }
}

/// How long settled mails are kept. Of what happened earlier nobody is told any more: it could be the second time.
pub const MAILS_KEPT: TimeDelta = TimeDelta::days(30);
