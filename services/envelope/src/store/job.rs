//! Artefacts that are still to be made. A job is claimed by putting its next due time off; it goes when the artefacts are
//! stored, in the transaction that stores them, so a job that is done twice changes nothing.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::schema::artifact_job;
use super::{Store, corrupt};
use crate::domain::envelope::Version;
use crate::domain::id::{AccountId, EnvelopeId};

/// A claimed job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Whose envelope.
    pub account: AccountId,
    /// Which envelope.
    pub envelope: EnvelopeId,
    /// What is to be made.
    pub version: Version,
    /// How often it has been tried, this time included.
    pub attempts: u32,
    /// In which trace the business ended.
    pub traceparent: Option<String>,
}

const CLAIM: &str = "
UPDATE artifact_job SET due_at = $2, attempts = attempts + 1
WHERE (account_id, envelope_id, version) IN (
    SELECT account_id, envelope_id, version FROM artifact_job WHERE due_at <= $1 ORDER BY due_at LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING account_id, envelope_id, version, attempts, (
    SELECT traceparent FROM event
    WHERE event.account_id = artifact_job.account_id AND event.envelope_id = artifact_job.envelope_id
        AND event.kind = CASE artifact_job.version WHEN 2 THEN 5 ELSE 8 END
    ORDER BY sequence DESC LIMIT 1
) AS traceparent";

enum Claim {}

#[derive(QueryableByName)]
struct JobRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    envelope_id: Uuid,
    #[diesel(sql_type = SmallInt)]
    version: i16,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Text>)]
    traceparent: Option<String>,
}

impl Store {
    /// Claims due jobs until `until`: if nothing is heard of them by then, they are due again.
    pub async fn claim_jobs(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Job>, DatabaseError> {
        let query =
            diesel::sql_query(CLAIM).bind::<Timestamptz, _>(now).bind::<Timestamptz, _>(until).bind::<BigInt, _>(limit);
        let mut conn = acquire(&self.across_accounts).await?;
        let rows: Vec<JobRow> = prepared::<Claim, _>(query).load(&mut *conn).await?;
        let job = |row: JobRow| {
            Ok(Job {
                account: AccountId::from_uuid(row.account_id),
                envelope: EnvelopeId::from_uuid(row.envelope_id),
                version: match row.version {
                    2 => Version::Signed,
                    3 => Version::Declined,
                    _ => return Err(corrupt("version")),
                },
                attempts: row.attempts.unsigned_abs(),
                traceparent: row.traceparent,
            })
        };
        Ok(rows.into_iter().map(job).collect::<QueryResult<_>>()?)
    }

    /// Puts a failed job off.
    pub async fn postpone_job(&self, job: &Job, due_at: DateTime<Utc>) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        let key = (job.account.uuid(), job.envelope.uuid(), job.version as i16);
        diesel::update(artifact_job::table.find(key)).set(artifact_job::due_at.eq(due_at)).execute(&mut *conn).await?;
        Ok(())
    }
}
