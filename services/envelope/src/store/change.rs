//! The one way an envelope changes: lock and load in one flight, decide, write and commit in another.

use std::time::Duration;

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Flight, prepared};
use countersign_chassis::ticker::jittered;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::create::{bind_events, column};
use super::envelope::{assemble, lock, parts};
use super::{Scope, Store, int8, part};
use crate::domain::envelope::{Envelope, Recipient, RecipientState, Version};
use crate::domain::event::EventType;
use crate::domain::field::{Field, Value};
use crate::domain::id::EnvelopeId;
use crate::domain::personal::Committed;
use crate::domain::record::Recorded;

/// How often a deadlocked transaction is tried.
const TRIES_MAX: u32 = 3;
/// How long one try may take; cut later than that, its connection is closed.
const TRY_MAX: Duration = Duration::from_secs(15);
/// How long to wait before the next try.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What is to become of a locked envelope.
pub struct Change<T> {
    /// As it is to be.
    pub after: Envelope,
    /// What made it so. Without events nothing is written.
    pub events: Vec<Recorded>,
    /// What to tell.
    pub answer: T,
}

/// What became of it.
pub struct Changed<T> {
    /// As it is now.
    pub envelope: Envelope,
    /// What to tell.
    pub answer: T,
}

/// Every part depends on the first, so that a row that is not as it was when it was locked writes nothing at all.
const SAVE: &str = "
WITH changed AS (
    UPDATE envelope SET revision = $4, sequence = $5, chain = $6, last_event_at = $7, dispatched_at = $8, sent_at = $9,
        first_signed_at = $10, all_acted_at = $11, completed_at = $12, declined_at = $13, voided_at = $14,
        expired_at = $15, void_reason = $16, void_reason_salt = $17, requires_replacement = $18
    WHERE account_id = $1 AND id = $2 AND revision = $3
    RETURNING livemode
), changed_recipients AS (
    UPDATE recipient AS old SET status = new.status, released_at = new.released_at, signed_at = new.signed_at,
        signature_salt = new.signature_salt, effective = new.effective, declined_at = new.declined_at,
        decline_channel = new.decline_channel, decline_reason = new.decline_reason,
        decline_reason_salt = new.decline_reason_salt, decline_note = new.decline_note,
        decline_note_salt = new.decline_note_salt, ended_at = new.ended_at
    FROM changed, unnest($19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31) AS new (id, status, released_at,
        signed_at, signature_salt, effective, declined_at, decline_channel, decline_reason, decline_reason_salt,
        decline_note, decline_note_salt, ended_at)
    WHERE old.account_id = $1 AND old.envelope_id = $2 AND old.id = new.id
), changed_fields AS (
    UPDATE field AS old SET text_value = new.text_value, checked_value = new.checked_value
    FROM changed, unnest($32, $33, $34) AS new (id, text_value, checked_value)
    WHERE old.account_id = $1 AND old.envelope_id = $2 AND old.id = new.id
), new_artifacts AS (
    INSERT INTO artifact (account_id, envelope_id, document_id, version, sha256, size_bytes, created_at)
    SELECT $1, $2, a.* FROM changed, unnest($35, $36, $37, $38, $39) AS a
), new_events AS (
    INSERT INTO event (account_id, envelope_id, sequence, id, kind, recipient_id, occurred_at, record, prev_hash, hash,
        traceparent)
    SELECT $1, $2, e.*, $48 FROM changed, unnest($40, $41, $42, $43, $44, $45, $46, $47) AS e
), new_outbox AS (
    INSERT INTO outbox (part, account_id, livemode, envelope_id, sequence)
    SELECT $49, $1, changed.livemode, $2, s FROM changed, unnest($40) AS s ORDER BY s
), new_job AS (
    INSERT INTO artifact_job (account_id, envelope_id, version, due_at)
    SELECT $1, $2, $50, $7 FROM changed WHERE $50 IS NOT NULL
), done_job AS (
    DELETE FROM artifact_job USING changed WHERE account_id = $1 AND envelope_id = $2 AND version = $51
)
SELECT count(*) AS count FROM changed";

enum Save {}
enum Now {}

#[derive(QueryableByName)]
struct NowRow {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Store {
    /// Locks an envelope, lets `decide` say what becomes of it, and stores that. `None` if the scope has no such envelope.
    ///
    /// The time that `decide` gets was read after the lock was got: a transaction that waited past a deadline sees it.
    pub async fn change<T>(
        &self,
        name: &'static str,
        scope: Scope,
        id: EnvelopeId,
        decide: impl Fn(&Envelope, DateTime<Utc>) -> Change<T>,
    ) -> Result<Option<Changed<T>>, DatabaseError> {
        let mut tries = 1;
        loop {
            // A database that has gone without a word must not hold a caller for as long as TCP would.
            let tried = tokio::time::timeout(TRY_MAX, self.change_once(scope, id, &decide)).await;
            match tried.unwrap_or(Err(DatabaseError::Busy)) {
                Err(error) if error.is_retryable() && tries < TRIES_MAX => {
                    tracing::info!(transaction = name, tries, "transaction tried again");
                    tries += 1;
                    tokio::time::sleep(jittered(RETRY_PAUSE)).await;
                }
                Err(error) => {
                    tracing::warn!(transaction = name, tries, error = error.to_string(), "transaction failed");
                    return Err(error);
                }
                Ok(changed) => return Ok(changed),
            }
        }
    }

    async fn change_once<T>(
        &self,
        scope: Scope,
        id: EnvelopeId,
        decide: &impl Fn(&Envelope, DateTime<Utc>) -> Change<T>,
    ) -> Result<Option<Changed<T>>, DatabaseError> {
        let flight = Flight::open(&self.pool).await?;
        let conn = flight.connection();
        let (begun, row, now, parts) = futures_util::join!(
            flight.begin(),
            lock(conn, scope.account, id),
            database_now(conn),
            parts(conn, scope.account, id)
        );
        begun?;
        let (row, now, parts) = (row?, self.clock.observe(now?), parts?);
        let Some(row) = row else {
            flight.rollback().await?;
            return Ok(None);
        };
        let before = assemble(row, parts)?;
        if scope.livemode.is_some_and(|mode| mode != before.livemode) {
            flight.rollback().await?;
            return Ok(None);
        }
        let Change { after, events, answer } = decide(&before, now);
        if events.is_empty() {
            flight.rollback().await?;
            return Ok(Some(Changed { envelope: before, answer }));
        }
        let (saved, committed) = futures_util::join!(save(conn, &before, &after, &events), flight.commit());
        let saved = saved?;
        committed?;
        flight.close();
        if saved != 1 {
            // Only a change that went around the lock can do this.
            return Err(super::corrupt("the locked envelope changed").into());
        }
        self.committed.notify_one();
        if due_artifact(&events).is_some() {
            self.artifacts_due.notify_one();
        }
        Ok(Some(Changed { envelope: after, answer }))
    }
}

async fn database_now(mut conn: &AsyncPgConnection) -> QueryResult<DateTime<Utc>> {
    let now: NowRow =
        prepared::<Now, _>(diesel::sql_query("SELECT clock_timestamp() AS now")).get_result(&mut conn).await?;
    Ok(now.now)
}

async fn save(
    mut conn: &AsyncPgConnection,
    before: &Envelope,
    after: &Envelope,
    events: &[Recorded],
) -> QueryResult<i64> {
    let facts = &after.facts;
    let query = diesel::sql_query(SAVE)
        .into_boxed::<Pg>()
        .bind::<SqlUuid, _>(after.account.uuid())
        .bind::<SqlUuid, _>(after.id.uuid())
        .bind::<BigInt, _>(int8(before.revision))
        .bind::<BigInt, _>(int8(after.revision))
        .bind::<BigInt, _>(int8(after.sequence))
        .bind::<Bytea, _>(after.chain.to_vec())
        .bind::<Timestamptz, _>(after.last_event_at)
        .bind::<Nullable<Timestamptz>, _>(facts.dispatched_at)
        .bind::<Nullable<Timestamptz>, _>(facts.sent_at)
        .bind::<Nullable<Timestamptz>, _>(facts.first_signed_at)
        .bind::<Nullable<Timestamptz>, _>(facts.all_acted_at)
        .bind::<Nullable<Timestamptz>, _>(facts.completed_at)
        .bind::<Nullable<Timestamptz>, _>(facts.declined_at)
        .bind::<Nullable<Timestamptz>, _>(facts.voided_at)
        .bind::<Nullable<Timestamptz>, _>(facts.expired_at)
        .bind::<Nullable<Text>, _>(after.void_reason.as_ref().map(text))
        .bind::<Nullable<Bytea>, _>(after.void_reason.as_ref().map(salt))
        .bind::<Bool, _>(after.requires_replacement);
    let query = bind_recipients(query, before, after);
    let query = bind_fields_and_artifacts(query, before, after);
    let query = bind_events!(query, events)
        .bind::<SmallInt, _>(part(after.id))
        .bind::<Nullable<SmallInt>, _>(due_artifact(events))
        .bind::<Nullable<SmallInt>, _>(stored_artifact(events));
    let count: Count = prepared::<Save, _>(query).get_result(&mut conn).await?;
    Ok(count.count)
}

/// The artefacts that these events call for.
fn due_artifact(events: &[Recorded]) -> Option<i16> {
    events.iter().find_map(|event| match event.kind {
        EventType::EnvelopeAllActed => Some(Version::Signed as i16),
        EventType::EnvelopeDeclined => Some(Version::Declined as i16),
        _ => None,
    })
}

/// The artefacts that are there with these events.
fn stored_artifact(events: &[Recorded]) -> Option<i16> {
    events.iter().find_map(|event| match event.kind {
        EventType::EnvelopeCompleted => Some(Version::Signed as i16),
        EventType::EnvelopeArtifactReady => Some(Version::Declined as i16),
        _ => None,
    })
}

fn text(committed: &Committed) -> String {
    committed.text.reveal().to_owned()
}

fn salt(committed: &Committed) -> Vec<u8> {
    committed.salt.to_vec()
}

type Query<'a> = diesel::query_builder::BoxedSqlQuery<'a, Pg, diesel::query_builder::SqlQuery>;

/// The columns of a recipient that follow from their state.
#[derive(Default)]
struct StateColumns {
    signed_at: Option<DateTime<Utc>>,
    signature_salt: Option<Vec<u8>>,
    effective: Option<bool>,
    declined_at: Option<DateTime<Utc>>,
    decline_channel: Option<i16>,
    reason: Option<Committed>,
    note: Option<Committed>,
    ended_at: Option<DateTime<Utc>>,
}

impl From<&RecipientState> for StateColumns {
    fn from(state: &RecipientState) -> Self {
        match state {
            RecipientState::Waiting | RecipientState::Released { .. } => Self::default(),
            RecipientState::Signed { at, salt, effective, .. } => Self {
                signed_at: Some(*at),
                signature_salt: Some(salt.to_vec()),
                effective: Some(*effective),
                ..Self::default()
            },
            RecipientState::Declined { at, channel, reason, note, .. } => Self {
                declined_at: Some(*at),
                decline_channel: Some(*channel as i16),
                reason: reason.clone(),
                note: note.clone(),
                ..Self::default()
            },
            RecipientState::ReleasedBy { at, .. } => Self { ended_at: Some(*at), ..Self::default() },
        }
    }
}

fn bind_recipients<'a>(query: Query<'a>, before: &Envelope, after: &Envelope) -> Query<'a> {
    let same = |new: &Recipient| before.recipient(new.id).is_some_and(|old| old.state == new.state);
    let rows: Vec<(&Recipient, StateColumns)> = after
        .recipients
        .iter()
        .filter(|recipient| !same(recipient))
        .map(|recipient| (recipient, StateColumns::from(&recipient.state)))
        .collect();
    let rows = rows.as_slice();
    query
        .bind::<Array<SqlUuid>, _>(column(rows, |(r, _)| r.id.uuid()))
        .bind::<Array<SmallInt>, _>(column(rows, |(r, _)| i16::from(r.state.code())))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |(r, _)| r.released_at()))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |(_, c)| c.signed_at))
        .bind::<Array<Nullable<Bytea>>, _>(column(rows, |(_, c)| c.signature_salt.clone()))
        .bind::<Array<Nullable<Bool>>, _>(column(rows, |(_, c)| c.effective))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |(_, c)| c.declined_at))
        .bind::<Array<Nullable<SmallInt>>, _>(column(rows, |(_, c)| c.decline_channel))
        .bind::<Array<Nullable<Text>>, _>(column(rows, |(_, c)| c.reason.as_ref().map(text)))
        .bind::<Array<Nullable<Bytea>>, _>(column(rows, |(_, c)| c.reason.as_ref().map(salt)))
        .bind::<Array<Nullable<Text>>, _>(column(rows, |(_, c)| c.note.as_ref().map(text)))
        .bind::<Array<Nullable<Bytea>>, _>(column(rows, |(_, c)| c.note.as_ref().map(salt)))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |(_, c)| c.ended_at))
}

fn bind_fields_and_artifacts<'a>(query: Query<'a>, before: &Envelope, after: &Envelope) -> Query<'a> {
    let fields: Vec<&Field> = after
        .fields
        .iter()
        .zip(&before.fields)
        .filter(|(new, old)| new.value != old.value)
        .map(|(new, _)| new)
        .collect();
    let artifacts: Vec<_> = after
        .documents
        .iter()
        .zip(&before.documents)
        .flat_map(|(new, old)| new.artifacts.iter().skip(old.artifacts.len()).map(|artifact| (new.id, artifact)))
        .collect();
    query
        .bind::<Array<SqlUuid>, _>(column(&fields, |field| field.id.uuid()))
        .bind::<Array<Nullable<Text>>, _>(column(&fields, |field| match &field.value {
            Some(Value::Text(text)) => Some(text.reveal().to_owned()),
            Some(Value::Checked(_)) | None => None,
        }))
        .bind::<Array<Nullable<Bool>>, _>(column(&fields, |field| match &field.value {
            Some(Value::Checked(checked)) => Some(*checked),
            Some(Value::Text(_)) | None => None,
        }))
        .bind::<Array<SqlUuid>, _>(column(&artifacts, |(document, _)| document.uuid()))
        .bind::<Array<SmallInt>, _>(column(&artifacts, |(_, artifact)| artifact.version as i16))
        .bind::<Array<Bytea>, _>(column(&artifacts, |(_, artifact)| artifact.sha256.to_vec()))
        .bind::<Array<BigInt>, _>(column(&artifacts, |(_, artifact)| int8(artifact.size_bytes)))
        .bind::<Array<Timestamptz>, _>(column(&artifacts, |(_, artifact)| artifact.created_at))
}
