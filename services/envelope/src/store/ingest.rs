//! What of documents is still to be read, and what became of it: the JSON beside their rows, and the jobs.
//!
//! A job is claimed by putting its next due time off; it goes in the transaction that stores what was read, so one that is done
//! twice changes nothing. What was got on the way is noted with it: no document is fetched or converted again for nothing.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::prelude::*;
use diesel::sql_types::{Array, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use super::schema::ingest_job;
use super::terms::json;
use super::{Store, corrupt};
use crate::domain::envelope::Digest;
use crate::domain::id::{AccountId, DocumentId, EnvelopeId, SourceId};
use crate::domain::ingest::{Awaited, ContentType, FaultReason, IngestFault, MarkerFault, Original};
use crate::domain::personal::Personal;

#[derive(Serialize, Deserialize)]
struct AwaitedJson {
    source: SourceId,
    markers: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct FaultJson {
    reason: FaultReason,
    message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    markers: Vec<(u32, String, String)>,
}

pub(super) fn awaits(awaited: Option<&Awaited>) -> Option<Json> {
    let url = |it: &Awaited| it.url.as_ref().map(|url| url.reveal().to_owned());
    awaited.map(|it| json(AwaitedJson { source: it.id, markers: it.markers, url: url(it) }))
}

pub(super) fn awaits_of(row: Option<Json>) -> QueryResult<Option<Awaited>> {
    let Some(row) = row else { return Ok(None) };
    let row: AwaitedJson = serde_json::from_value(row).map_err(|_| corrupt("awaited source"))?;
    Ok(Some(Awaited { id: row.source, markers: row.markers, url: row.url.map(Personal::new) }))
}

pub(super) fn fault(fault: Option<&IngestFault>) -> Option<Json> {
    fault.map(|it| {
        let marker = |it: &MarkerFault| (it.page, it.text.reveal().to_owned(), it.message.clone());
        let markers = it.markers.iter().map(marker).collect();
        json(FaultJson { reason: it.reason, message: it.message.clone(), markers })
    })
}

pub(super) fn fault_of(row: Option<Json>) -> QueryResult<Option<IngestFault>> {
    let Some(row) = row else { return Ok(None) };
    let row: FaultJson = serde_json::from_value(row).map_err(|_| corrupt("fault of a document"))?;
    let marker = |(page, text, message)| MarkerFault { page, text: Personal::new(text), message };
    let markers = row.markers.into_iter().map(marker).collect();
    Ok(Some(IngestFault { reason: row.reason, message: row.message, markers }))
}

pub(super) fn original_of(
    sha256: Option<Vec<u8>>,
    size_bytes: Option<i64>,
    content_type: Option<i16>,
) -> QueryResult<Option<Original>> {
    let (Some(sha256), Some(size), Some(content_type)) = (sha256, size_bytes, content_type) else { return Ok(None) };
    let content_type = ContentType::ALL.into_iter().find(|it| *it as i16 == content_type);
    Ok(Some(Original {
        sha256: sha256.try_into().map_err(|_| corrupt("digest"))?,
        size_bytes: size.unsigned_abs(),
        content_type: content_type.ok_or_else(|| corrupt("content type"))?,
    }))
}

/// What a job has got so far: bytes in the store of documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Got {
    /// What came.
    pub original: Option<Kept>,
    /// The PDF that was made of it.
    pub pdf: Option<Kept>,
    /// How often the converter died on it.
    #[serde(default)]
    pub deaths: u32,
}

/// Bytes in the store of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Their hash; hexadecimal in the database, which looks for it.
    #[serde(with = "hex")]
    pub sha256: Digest,
    /// How many.
    pub size_bytes: u64,
    /// Of which type.
    pub content_type: ContentType,
}

/// A claimed job: to read one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadingJob {
    /// Whose envelope.
    pub account: AccountId,
    /// Which envelope.
    pub envelope: EnvelopeId,
    /// Which document.
    pub document: DocumentId,
    /// What of it.
    pub source: SourceId,
    /// When it was tried first.
    pub begun_at: DateTime<Utc>,
    /// How often it has been tried, this time included.
    pub attempts: u32,
    /// What it has got so far.
    pub got: Got,
    /// In which trace it was last asked for.
    pub traceparent: Option<String>,
}

const CLAIM: &str = "
UPDATE ingest_job SET due_at = $2, attempts = attempts + 1,
    begun_at = CASE WHEN attempts = 0 THEN $1 ELSE begun_at END
WHERE (account_id, envelope_id, document_id) IN (
    SELECT account_id, envelope_id, document_id FROM ingest_job
    WHERE due_at <= $1 AND account_id <> ALL ($3) ORDER BY due_at LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING account_id, envelope_id, document_id, source_id, begun_at, attempts, got, (
    SELECT traceparent FROM event
    WHERE event.account_id = ingest_job.account_id AND event.envelope_id = ingest_job.envelope_id
    ORDER BY sequence DESC LIMIT 1
) AS traceparent";

enum Claim {}

#[derive(QueryableByName)]
struct JobRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    envelope_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    document_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    source_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    begun_at: DateTime<Utc>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Jsonb>)]
    got: Option<Json>,
    #[diesel(sql_type = Nullable<Text>)]
    traceparent: Option<String>,
}

impl JobRow {
    fn job(self) -> QueryResult<ReadingJob> {
        let got = self.got.map(serde_json::from_value).transpose().map_err(|_| corrupt("what was got"))?;
        Ok(ReadingJob {
            account: AccountId::from_uuid(self.account_id),
            envelope: EnvelopeId::from_uuid(self.envelope_id),
            document: DocumentId::from_uuid(self.document_id),
            source: SourceId::from_uuid(self.source_id),
            begun_at: self.begun_at,
            attempts: self.attempts.unsigned_abs(),
            got: got.unwrap_or_default(),
            traceparent: self.traceparent,
        })
    }
}

impl Store {
    /// Claims a document to be read until `until`, of none of these accounts: if nothing is heard of it by then, it is due again.
    pub async fn claim_reading(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        without: &[AccountId],
    ) -> Result<Option<ReadingJob>, DatabaseError> {
        let without: Vec<Uuid> = without.iter().map(|account| account.uuid()).collect();
        let query = diesel::sql_query(CLAIM).bind::<Timestamptz, _>(now).bind::<Timestamptz, _>(until);
        let query = query.bind::<Array<SqlUuid>, _>(without);
        let mut conn = acquire(&self.across_accounts).await?;
        let row: Option<JobRow> = prepared::<Claim, _>(query).get_result(&mut *conn).await.optional()?;
        Ok(row.map(JobRow::job).transpose()?)
    }

    /// Puts a document off that could not be read.
    pub async fn postpone_reading(&self, job: &ReadingJob, due_at: DateTime<Utc>) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        diesel::update(claimed(job)).set(ingest_job::due_at.eq(due_at)).execute(&mut *conn).await?;
        Ok(())
    }

    /// Notes what a job has got, so that the next try goes on from there. False if another has claimed it since.
    pub async fn note_reading(&self, job: &ReadingJob, got: Got) -> Result<bool, DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        Ok(diesel::update(claimed(job)).set(ingest_job::got.eq(json(got))).execute(&mut *conn).await? > 0)
    }

    /// Forgets a job of which nothing can come any more: its envelope has ended.
    pub async fn forget_reading(&self, job: &ReadingJob) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.across_accounts).await?;
        diesel::delete(own(job)).execute(&mut *conn).await?;
        Ok(())
    }
}

type Own = diesel::dsl::Filter<
    diesel::dsl::Find<ingest_job::table, (Uuid, Uuid, Uuid)>,
    diesel::dsl::Eq<ingest_job::source_id, Uuid>,
>;

/// The job's row, as long as it is of the same source.
fn own(job: &ReadingJob) -> Own {
    let key = (job.account.uuid(), job.envelope.uuid(), job.document.uuid());
    ingest_job::table.find(key).filter(ingest_job::source_id.eq(job.source.uuid()))
}

/// The job's row, as long as nobody has claimed it since.
fn claimed(job: &ReadingJob) -> diesel::dsl::Filter<Own, diesel::dsl::Eq<ingest_job::attempts, i32>> {
    own(job).filter(ingest_job::attempts.eq(job.attempts.cast_signed()))
}
