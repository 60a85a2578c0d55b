//! Bytes that nobody needs any more, on their way out.
//!
//! Bytes are named by rows of any account, and found by their hash: the same bytes are stored once. Whoever writes a row that
//! names them takes their lock shared (a trigger does); whoever condemns them takes it alone, looks whether any row needs
//! them, and marks them. From then on no row can name them, so they can be removed without a transaction. Nothing is removed
//! before the purge that made them superfluous was committed.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, Timestamptz};
use diesel_async::RunQueryDsl;

use super::{Store, corrupt};
use crate::domain::envelope::Digest;

/// What `claim_blob` says.
const CONDEMNED: &str = "bytes condemned";

/// True where a row could not be written because its bytes are being removed, or were a short while ago: they are to be stored
/// again, see [`Store::grave`].
#[must_use]
pub fn is_condemned(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Refused(DieselError::DatabaseError(_, info)) if info.message() == CONDEMNED)
}

/// Bytes that are condemned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grave {
    due_at: DateTime<Utc>,
    removed_at: Option<DateTime<Utc>>,
}

impl Grave {
    /// Whether somebody may be removing them at that moment.
    #[must_use]
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.removed_at.is_none() && self.due_at > now
    }
}

const CLAIM: &str = "
UPDATE blob_removal SET due_at = $2 WHERE sha256 IN (
    SELECT sha256 FROM blob_removal WHERE removed_at IS NULL AND due_at <= $1 ORDER BY due_at LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING sha256";
const CONDEMN: &str = "SELECT condemn_blob($1, $2, $3) AS yes";
const REMOVED: &str = "UPDATE blob_removal SET removed_at = $3 WHERE sha256 = $1 AND due_at = $2";
const FORGET: &str = "
DELETE FROM blob_removal WHERE sha256 IN (
    SELECT sha256 FROM blob_removal WHERE removed_at < $1 ORDER BY removed_at LIMIT $2
)";
const UNNAMED: &str = "
INSERT INTO blob_removal (sha256, due_at)
SELECT sha256, $2 FROM unnest($1) AS found (sha256) WHERE NOT blob_is_needed(sha256) ORDER BY sha256
ON CONFLICT (sha256) DO NOTHING";
const NEEDED: &str = "SELECT blob_is_needed($1) AS yes";
const GRAVE: &str = "SELECT due_at, removed_at FROM blob_removal WHERE sha256 = $1 AND condemned_at IS NOT NULL";
const EXHUME: &str =
    "DELETE FROM blob_removal WHERE sha256 = $1 AND due_at = $2 AND removed_at IS NOT DISTINCT FROM $3";

enum Claim {}
enum Condemn {}
enum Removed {}
enum Forget {}
enum Unnamed {}
enum Needed {}
enum Find {}
enum Exhume {}

#[derive(QueryableByName)]
struct DigestRow {
    #[diesel(sql_type = Bytea)]
    sha256: Vec<u8>,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

#[derive(QueryableByName)]
struct GraveRow {
    #[diesel(sql_type = Timestamptz)]
    due_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    removed_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Claims bytes that are due to be looked at, until `until`: if nothing is heard of them by then, they are due again.
    pub async fn claim_removals(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Digest>, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query =
            diesel::sql_query(CLAIM).bind::<Timestamptz, _>(now).bind::<Timestamptz, _>(until).bind::<BigInt, _>(limit);
        let rows: Vec<DigestRow> = prepared::<Claim, _>(query).load(&mut *conn).await?;
        let digest = |row: DigestRow| row.sha256.try_into().map_err(|_| corrupt("digest"));
        Ok(rows.into_iter().map(digest).collect::<QueryResult<_>>()?)
    }

    /// Condemns bytes that were claimed until then. False: somebody needs them, or the claim is another's by now.
    pub async fn condemn(
        &self,
        digest: &Digest,
        claimed_until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<bool, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query = diesel::sql_query(CONDEMN)
            .bind::<Bytea, _>(digest.to_vec())
            .bind::<Timestamptz, _>(claimed_until)
            .bind::<Timestamptz, _>(now);
        let answer: Answer = prepared::<Condemn, _>(query).get_result(&mut *conn).await?;
        Ok(answer.yes)
    }

    /// Takes down that condemned bytes are gone.
    pub async fn removed(
        &self,
        digest: &Digest,
        claimed_until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query = diesel::sql_query(REMOVED)
            .bind::<Bytea, _>(digest.to_vec())
            .bind::<Timestamptz, _>(claimed_until)
            .bind::<Timestamptz, _>(now);
        prepared::<Removed, _>(query).execute(&mut *conn).await?;
        Ok(())
    }

    /// Forgets bytes that were removed before that time, at most `limit`; says how many. Until then nobody can name them who
    /// found them stored just before they went.
    pub async fn forget_removals(&self, before: DateTime<Utc>, limit: i64) -> Result<usize, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query = diesel::sql_query(FORGET).bind::<Timestamptz, _>(before).bind::<BigInt, _>(limit);
        Ok(prepared::<Forget, _>(query).execute(&mut *conn).await?)
    }

    /// Has those of these bytes looked at that no row names; says how many.
    pub async fn unnamed(&self, digests: &[Digest], now: DateTime<Utc>) -> Result<usize, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.to_vec()).collect();
        let query = diesel::sql_query(UNNAMED).bind::<Array<Bytea>, _>(digests).bind::<Timestamptz, _>(now);
        Ok(prepared::<Unnamed, _>(query).execute(&mut *conn).await?)
    }

    /// Whether any row names these bytes.
    pub async fn is_needed(&self, digest: &Digest) -> Result<bool, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query = diesel::sql_query(NEEDED).bind::<Bytea, _>(digest.to_vec());
        let answer: Answer = prepared::<Needed, _>(query).get_result(&mut *conn).await?;
        Ok(answer.yes)
    }

    /// How it stands with bytes that are condemned; none: they are not.
    pub async fn grave(&self, digest: &Digest) -> Result<Option<Grave>, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query = diesel::sql_query(GRAVE).bind::<Bytea, _>(digest.to_vec());
        let row: Option<GraveRow> = prepared::<Find, _>(query).get_result(&mut *conn).await.optional()?;
        Ok(row.map(|GraveRow { due_at, removed_at }| Grave { due_at, removed_at }))
    }

    /// Lets rows name bytes again that have been stored again since `seen`. Changes nothing if somebody has been at them since:
    /// then they may be gone once more.
    pub async fn exhume(&self, digest: &Digest, seen: Grave) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let query = diesel::sql_query(EXHUME)
            .bind::<Bytea, _>(digest.to_vec())
            .bind::<Timestamptz, _>(seen.due_at)
            .bind::<Nullable<Timestamptz>, _>(seen.removed_at);
        prepared::<Exhume, _>(query).execute(&mut *conn).await?;
        Ok(())
    }
}
