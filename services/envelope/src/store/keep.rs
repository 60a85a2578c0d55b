//! How long envelopes are kept: what is due, and the erasing of what they held. The history and the ledger are never touched.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::Store;
use crate::domain::envelope::Envelope;
use crate::domain::event::EventType;
use crate::domain::id::{AccountId, EnvelopeId};

/// For how long after a purge the bytes are still there: whoever was reading them has ended by then.
pub const READING_MINUTES_MAX: i64 = 10;

const DUE: &str = "
SELECT account_id, id FROM (
    SELECT account_id, id FROM envelope WHERE keeping_at <= $1 ORDER BY keeping_at LIMIT $3
) AS due ORDER BY random() LIMIT $2";

const KEEP: &str = "
UPDATE envelope SET retention_days = $3, keeping_at = $4, purge_warned_at = $5, legal_hold_at = $6, purged_at = $7
WHERE account_id = $1 AND id = $2";

/// Everything that is personal, or said by anybody, about envelopes of an account whose `purged_at` was set before in the same
/// transaction: what belongs to an ended envelope can be changed in no other way. What was written down about the purge itself
/// stays. The account stands in every part by itself: what is only joined to it is looked for among all accounts.
const ERASE: &str = "
WITH gone AS (
    SELECT id, created_at FROM envelope WHERE account_id = $1 AND id = ANY ($2) AND purged_at IS NOT NULL
), bytes AS (
    SELECT gone.created_at, came.sha256 FROM gone
    JOIN document AS d ON d.account_id = $1 AND d.envelope_id = gone.id
    CROSS JOIN LATERAL (VALUES (CASE WHEN d.size_bytes > 0 THEN d.sha256 END), (d.original_sha256)) AS came (sha256)
    WHERE came.sha256 IS NOT NULL
), made AS (
    SELECT a.sha256 FROM gone JOIN artifact AS a ON a.account_id = $1 AND a.envelope_id = gone.id
), terms AS (
    UPDATE envelope SET subject = '', external_reference = '', metadata = '{}', void_reason = NULL, keeping_at = NULL,
        terms = terms || jsonb_build_object('message', '', 'webhook_url', '', 'watchers', (
            SELECT coalesce(jsonb_agg(jsonb_build_array(w -> 0, '')), '[]')
            FROM jsonb_array_elements(terms -> 'watchers') AS w
        ))
    FROM gone WHERE envelope.account_id = $1 AND envelope.id = gone.id
), entries AS (
    DELETE FROM envelope_metadata AS entry USING gone, envelope AS old CROSS JOIN LATERAL jsonb_each_text(old.metadata) AS it
    WHERE old.account_id = $1 AND old.id = gone.id AND entry.account_id = $1 AND entry.envelope_id = gone.id
        AND entry.entry = metadata_entry(it.key, it.value)
), people AS (
    UPDATE recipient
    SET name = '', email = '', address = '', label = '', locality = NULL, decline_reason = NULL, decline_note = NULL
    FROM gone WHERE account_id = $1 AND envelope_id = gone.id
), documents AS (
    UPDATE document SET name = '', stored = false, awaits = NULL, fault = NULL
    FROM gone WHERE account_id = $1 AND envelope_id = gone.id
), artifacts AS (
    UPDATE artifact SET stored = false FROM gone WHERE account_id = $1 AND envelope_id = gone.id
), fields AS (
    UPDATE field SET name = '', rules = NULL, text_value = NULL, checked_value = NULL, drawn_value = NULL
    FROM gone WHERE account_id = $1 AND envelope_id = gone.id
), drawings AS (
    DELETE FROM drawing USING gone WHERE account_id = $1 AND envelope_id = gone.id
), particulars AS (
    DELETE FROM event_particulars AS p USING gone
    WHERE p.account_id = $1 AND p.envelope_id = gone.id AND NOT EXISTS (
        SELECT FROM event AS e
        WHERE e.account_id = $1 AND e.envelope_id = p.envelope_id AND e.sequence = p.sequence AND e.kind = $4
    )
), replies AS (
    UPDATE idempotency SET reply = NULL FROM gone WHERE account_id = $1 AND about = gone.id
), jobs AS (
    DELETE FROM artifact_job USING gone WHERE account_id = $1 AND envelope_id = gone.id
), readings AS (
    DELETE FROM ingest_job USING gone WHERE account_id = $1 AND envelope_id = gone.id
    RETURNING got
), uploads AS (
    DELETE FROM upload USING bytes
    WHERE account_id = $1 AND upload.sha256 = bytes.sha256 AND upload.created_at <= bytes.created_at
    RETURNING upload.base_sha256
)
INSERT INTO blob_removal (sha256, due_at)
SELECT sha256, $3 FROM (
    SELECT sha256 FROM bytes UNION SELECT sha256 FROM made UNION SELECT base_sha256 FROM uploads
    UNION SELECT got_bytes(got, 'original') FROM readings UNION SELECT got_bytes(got, 'pdf') FROM readings
) AS digests (sha256) WHERE sha256 IS NOT NULL ORDER BY sha256
ON CONFLICT (sha256) DO UPDATE SET due_at = greatest(blob_removal.due_at, excluded.due_at)
    WHERE blob_removal.condemned_at IS NULL";

const DISCARDED: &str = "
SELECT account_id, id FROM envelope WHERE discarded_at <= $1 AND purged_at IS NULL ORDER BY discarded_at LIMIT $2";

/// What another replica is purging just now is left to it.
const PURGE: &str = "
UPDATE envelope SET purged_at = $3 WHERE account_id = $1 AND id IN (
    SELECT id FROM envelope WHERE account_id = $1 AND id = ANY ($2) AND purged_at IS NULL FOR UPDATE SKIP LOCKED
)
RETURNING account_id, id";

const UPLOADS: &str = "
WITH old AS (
    DELETE FROM upload WHERE (account_id, id) IN (
        SELECT account_id, id FROM upload WHERE created_at < $1 ORDER BY created_at LIMIT $2
    )
    RETURNING sha256, base_sha256
), due AS (
    INSERT INTO blob_removal (sha256, due_at)
    SELECT sha256, $3 FROM (SELECT sha256 FROM old UNION SELECT base_sha256 FROM old) AS digests (sha256)
    WHERE sha256 IS NOT NULL ORDER BY sha256
    ON CONFLICT (sha256) DO NOTHING
)
SELECT count(*) AS count FROM old";

const PURGED: &str = "
SELECT account_id, id, purged_at AS at FROM envelope
WHERE purged_at IS NOT NULL AND discarded_at IS NULL AND (purged_at, id) < (coalesce($1, 'infinity'), $2)
ORDER BY purged_at DESC, id DESC LIMIT $3";

/// An envelope whose content is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub envelope: EnvelopeId,
    /// Since when.
    pub at: DateTime<Utc>,
}

enum FindPurged {}

#[derive(QueryableByName)]
struct PurgedRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
}

enum FindDue {}
enum Keep {}
enum Erase {}
enum Discarded {}
enum Purge {}
enum Uploads {}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Writes how a locked envelope is kept, and erases what it held if it is purged. Both travel together.
pub(super) async fn keep_and_erase(conn: &AsyncPgConnection, before: &Envelope, after: &Envelope) -> QueryResult<()> {
    let (kept, erased) = futures_util::join!(keep(conn, before, after), erase(conn, before, after));
    kept.and(erased)
}

/// Writes how a locked envelope is kept, where that or what is due next has changed.
async fn keep(mut conn: &AsyncPgConnection, before: &Envelope, after: &Envelope) -> QueryResult<()> {
    let next = after.next_step().map(|(at, _)| at);
    if before.keeping == after.keeping && before.next_step().map(|(at, _)| at) == next {
        return Ok(());
    }
    let keeping = &after.keeping;
    let query = diesel::sql_query(KEEP)
        .bind::<SqlUuid, _>(after.account.uuid())
        .bind::<SqlUuid, _>(after.id.uuid())
        .bind::<Integer, _>(keeping.retention.days.cast_signed())
        .bind::<Nullable<Timestamptz>, _>(next)
        .bind::<Nullable<Timestamptz>, _>(keeping.warned_at)
        .bind::<Nullable<Timestamptz>, _>(keeping.held_at)
        .bind::<Nullable<Timestamptz>, _>(keeping.purged_at);
    prepared::<self::Keep, _>(query).execute(&mut conn).await.map(drop)
}

/// Erases what an envelope held that is purged in this transaction.
async fn erase(conn: &AsyncPgConnection, before: &Envelope, after: &Envelope) -> QueryResult<()> {
    match after.keeping.purged_at {
        Some(at) if before.keeping.purged_at.is_none() => {
            erase_all(conn, after.account, vec![after.id.uuid()], at).await
        }
        _ => Ok(()),
    }
}

async fn erase_all(
    mut conn: &AsyncPgConnection,
    account: AccountId,
    envelopes: Vec<Uuid>,
    at: DateTime<Utc>,
) -> QueryResult<()> {
    let query = diesel::sql_query(ERASE)
        .bind::<SqlUuid, _>(account.uuid())
        .bind::<Array<SqlUuid>, _>(envelopes)
        .bind::<Timestamptz, _>(at + TimeDelta::minutes(READING_MINUTES_MAX))
        .bind::<diesel::sql_types::SmallInt, _>(EventType::EnvelopePurged as i16);
    prepared::<Erase, _>(query).execute(&mut conn).await.map(drop)
}

impl Store {
    /// Envelopes whose purge is to be announced or done, and drafts to be discarded: at most `limit`, drawn from the first
    /// `window`, so that several replicas do not all wait for the same rows.
    pub async fn keeping_due(
        &self,
        now: DateTime<Utc>,
        limit: i64,
        window: i64,
    ) -> Result<Vec<(AccountId, EnvelopeId)>, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query =
            diesel::sql_query(DUE).bind::<Timestamptz, _>(now).bind::<BigInt, _>(limit).bind::<BigInt, _>(window);
        let rows: Vec<Named> = prepared::<FindDue, _>(query).load(&mut *conn).await?;
        let named = |row: Named| (AccountId::from_uuid(row.account_id), EnvelopeId::from_uuid(row.id));
        Ok(rows.into_iter().map(named).collect())
    }

    /// Purges drafts that were discarded before that time, at most `limit`; says how many. Nobody is told: they are nobody's.
    pub async fn purge_discarded(
        &self,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<usize, DatabaseError> {
        let query = diesel::sql_query(DISCARDED).bind::<Timestamptz, _>(before).bind::<BigInt, _>(limit);
        let mut conn = acquire(&self.across_accounts).await?;
        let rows: Vec<Named> = prepared::<Discarded, _>(query).load(&mut *conn).await?;
        drop(conn);
        let mut drafts: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        rows.into_iter().for_each(|row| drafts.entry(row.account_id).or_default().push(row.id));
        let mut count = 0;
        for (account, drafts) in drafts {
            count += self.purge_drafts(AccountId::from_uuid(account), drafts, now).await?;
        }
        Ok(count)
    }

    /// The same of one account: found without a lock, claimed here.
    async fn purge_drafts(
        &self,
        account: AccountId,
        drafts: Vec<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<usize, DatabaseError> {
        self.write_across(account, None, move |mut conn| {
            async move {
                let query = diesel::sql_query(PURGE)
                    .bind::<SqlUuid, _>(account.uuid())
                    .bind::<Array<SqlUuid>, _>(drafts)
                    .bind::<Timestamptz, _>(now);
                let rows: Vec<Named> = prepared::<Purge, _>(query).load(&mut conn).await?;
                let purged: Vec<Uuid> = rows.into_iter().map(|row| row.id).collect();
                let count = purged.len();
                if count > 0 {
                    erase_all(conn, account, purged, now).await?;
                }
                Ok(count)
            }
            .boxed()
        })
        .await
    }

    /// Forgets uploads from before that time, at most `limit`; says how many.
    pub async fn forget_uploads(
        &self,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<i64, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query = diesel::sql_query(UPLOADS)
            .bind::<Timestamptz, _>(before)
            .bind::<BigInt, _>(limit)
            .bind::<Timestamptz, _>(now);
        let row: Count = prepared::<Uploads, _>(query).get_result(&mut *conn).await?;
        Ok(row.count)
    }

    /// Envelopes whose content is gone, the latest first, at most `limit`, after the one that was purged then.
    pub async fn purged(
        &self,
        before: Option<(DateTime<Utc>, EnvelopeId)>,
        limit: i64,
    ) -> Result<Vec<Purged>, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let (at, id) = before.map_or((None, Uuid::max()), |(at, id)| (Some(at), id.uuid()));
        let query = diesel::sql_query(PURGED)
            .bind::<Nullable<Timestamptz>, _>(at)
            .bind::<SqlUuid, _>(id)
            .bind::<BigInt, _>(limit);
        let rows: Vec<PurgedRow> = prepared::<FindPurged, _>(query).load(&mut *conn).await?;
        let purged = |row: PurgedRow| Purged {
            account: AccountId::from_uuid(row.account_id),
            envelope: EnvelopeId::from_uuid(row.id),
            at: row.at,
        };
        Ok(rows.into_iter().map(purged).collect())
    }
}
