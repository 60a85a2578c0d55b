//! The one way an envelope changes: lock and load in one flight, decide, write and commit in another.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Flight, prepared};
use countersign_chassis::once::{Once, claimed};
use countersign_chassis::ticker::jittered;
use countersign_chassis::{failpoint, sabotaged};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::create::{bind_events, checked_value, column, insert, keep, redraft, settled, text_value};
use super::envelope::{lock, parts};
use super::ingest::fault;
use super::ledger::is_insufficient;
use super::notices::{locality, notices};
use super::rows::assemble;
use super::settings::charge;
use super::{Scope, Store, int8, metadata, part};
use crate::domain::address::search_form;
use crate::domain::credit::Movement;
use crate::domain::envelope::{Artifact, Digest, Document, Envelope, Ingest, Version};
use crate::domain::event::EventType;
use crate::domain::field::{Field, Value};
use crate::domain::id::{DocumentId, EnvelopeId};
use crate::domain::personal::Personal;
use crate::domain::recipient::{Recipient, RecipientState};
use crate::domain::record::Recorded;
use crate::measure;

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
    /// An envelope that comes to be in the same transaction, with its first events.
    pub also: Option<(Envelope, Vec<Recorded>)>,
    /// What it costs, or what comes back.
    pub movement: Option<Movement>,
    /// The reply to keep where the change is made once; none: it is not kept.
    pub reply: Option<Vec<u8>>,
    /// What to tell.
    pub answer: T,
}

/// What became of it.
pub struct Changed<T> {
    /// As it is now.
    pub envelope: Envelope,
    /// The reply, where one was kept.
    pub reply: Option<Vec<u8>>,
    /// What to tell.
    pub answer: T,
}

/// Every part depends on the first, so that nothing of it is written to a row that is not as it was when it was locked;
/// and without the first it fails, so that nothing that travels with it is committed.
const SAVE: &str = "
WITH changed AS (
    UPDATE envelope SET revision = $4, sequence = $5, chain = $6, last_event_at = $7, dispatched_at = $8, sent_at = $9,
        first_signed_at = $10, all_acted_at = $11, completed_at = $12, declined_at = $13, voided_at = $14,
        expired_at = $15, discarded_at = $16, expires_at = $17, warning_at = $18, warned_at = $19, cause = $20,
        ended_by = $21, void_reason = $22, requires_replacement = $23, replaced_by = $24, charge = $69,
        reminder_at = $70
    WHERE account_id = $1 AND id = $2 AND revision = $3
    RETURNING livemode
), changed_recipients AS (
    UPDATE recipient AS old SET name = new.name, email = new.email, status = new.status, released_at = new.released_at,
        acted_at = new.acted_at, effective = new.effective, declined_at = new.declined_at,
        decline_channel = new.decline_channel, decline_reason = new.decline_reason, decline_note = new.decline_note,
        ended_at = new.ended_at, viewed_at = new.viewed_at, invited_at = new.invited_at, delegations = new.delegations,
        filled_revision = new.filled_revision, token_generation = new.token_generation, token_salt = new.token_salt,
        token_hash = new.token_hash, locality = new.locality,
        notices = new.notices, address = new.address
    FROM changed, unnest($25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43,
        $71, $72, $85)
        AS new (id, name, email, status, released_at, acted_at, effective, declined_at, decline_channel, decline_reason,
        decline_note, ended_at, viewed_at, invited_at, delegations, filled_revision, token_generation, token_salt,
        token_hash, locality, notices, address)
    WHERE old.account_id = $1 AND old.envelope_id = $2 AND old.id = new.id
), changed_fields AS (
    UPDATE field AS old SET text_value = new.text_value, checked_value = new.checked_value,
        drawn_value = new.drawn_value
    FROM changed, unnest($44, $45, $46, $74) AS new (id, text_value, checked_value, drawn_value)
    WHERE old.account_id = $1 AND old.envelope_id = $2 AND old.id = new.id
), new_drawings AS (
    INSERT INTO drawing (account_id, envelope_id, sha256, content)
    SELECT $1, $2, d.* FROM changed, unnest($75, $76) AS d
    ON CONFLICT DO NOTHING
), changed_documents AS (
    UPDATE document AS old SET ingest = new.ingest, sha256 = new.sha256, size_bytes = new.size_bytes,
        page_count = new.page_count, original_sha256 = new.original_sha256,
        original_size_bytes = new.original_size_bytes, content_type = new.content_type, awaits = NULL, fault = new.fault
    FROM changed, unnest($47, $48, $77, $78, $79, $80, $81, $82, $83) AS new (id, ingest, sha256, size_bytes, page_count,
        original_sha256, original_size_bytes, content_type, fault)
    WHERE old.account_id = $1 AND old.envelope_id = $2 AND old.id = new.id
), done_readings AS (
    DELETE FROM ingest_job USING changed WHERE account_id = $1 AND envelope_id = $2 AND document_id = ANY ($47)
), new_artifacts AS (
    INSERT INTO artifact (account_id, envelope_id, document_id, version, sha256, size_bytes, created_at, seal,
        is_bare)
    SELECT $1, $2, a.* FROM changed, unnest($49, $50, $51, $52, $53, $73, $84) AS a
), new_events AS (
    INSERT INTO event (account_id, envelope_id, sequence, id, kind, recipient_id, occurred_at, record, prev_hash, hash,
        traceparent)
    SELECT $1, $2, e.*, $62 FROM changed, unnest($54, $55, $56, $57, $58, $59, $60, $61) AS e
), new_particulars AS (
    INSERT INTO event_particulars (account_id, envelope_id, sequence, salt, content)
    SELECT $1, $2, p.* FROM changed, unnest($63, $64, $65) AS p
), new_outbox AS (
    INSERT INTO outbox (part, account_id, livemode, envelope_id, sequence)
    SELECT $66, $1, changed.livemode, $2, s FROM changed, unnest($54) AS s ORDER BY s
), new_job AS (
    INSERT INTO artifact_job (account_id, envelope_id, version, due_at)
    SELECT $1, $2, $67, $7 FROM changed WHERE $67 IS NOT NULL
), done_job AS (
    DELETE FROM artifact_job USING changed WHERE account_id = $1 AND envelope_id = $2 AND version = $68
)
SELECT 1 / count(*) AS count FROM changed";

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
        once: Option<&Once>,
        decide: impl Fn(&Envelope, DateTime<Utc>) -> Change<T>,
    ) -> Result<Option<Changed<T>>, DatabaseError> {
        let mut tries = 1;
        loop {
            // A database that has gone without a word must not hold a caller for as long as TCP would.
            let tried = tokio::time::timeout(TRY_MAX, self.change_once((scope, id), once, &decide)).await;
            match tried.unwrap_or(Err(DatabaseError::Busy)) {
                Err(error) if error.is_retryable() && tries < TRIES_MAX => {
                    tracing::info!(transaction = name, tries, "transaction tried again");
                    tries += 1;
                    tokio::time::sleep(jittered(RETRY_PAUSE)).await;
                }
                Err(error) if is_answer(&error) => return Err(error),
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
        (scope, id): (Scope, EnvelopeId),
        once: Option<&Once>,
        decide: &impl Fn(&Envelope, DateTime<Utc>) -> Change<T>,
    ) -> Result<Option<Changed<T>>, DatabaseError> {
        let flight = Flight::open(&self.pool).await?;
        let conn = flight.connection();
        let (begun, claimed, row, now, parts) = futures_util::join!(
            flight.begin_for(scope.account.uuid()),
            claimed(conn, once),
            lock(conn, scope.account, id),
            database_now(conn),
            parts(conn, scope.account, id)
        );
        begun?;
        if let Err(error) = claimed {
            flight.rollback().await?;
            return Err(error.into());
        }
        let (row, now, parts) = (row?, self.clock.observe(now?), parts?);
        let Some(row) = row.filter(|row| row.is_visible(scope)) else {
            flight.rollback().await?;
            return Ok(None);
        };
        let before = assemble(row, parts)?;
        failpoint!("change.locked");
        let Change { after, events, also, movement, reply, answer } = decide(&before, now);
        let kept = about(once, also.as_ref().map_or(after.id, |(new, _)| new.id)).zip(reply);
        if events.is_empty() {
            super::leave(flight, kept.as_ref()).await?;
            return Ok(Some(Changed { envelope: before, reply: kept.map(|(_, reply)| reply), answer }));
        }
        // Markers bring fields also after the sending.
        let updated = events.iter().any(|event| event.kind == EventType::EnvelopeUpdated);
        if updated || after.fields.len() != before.fields.len() {
            redraft(conn, &after).await?;
            metadata::change(conn, &before, &after).await?;
        }
        if let Some((new, first)) = &also {
            insert(conn, new, first).await?;
        }
        failpoint!("change.writing");
        let (saved, kept_until, settled, remembered, committed, ()) = futures_util::join!(
            save(conn, &before, &after, &events),
            super::keep::keep_and_erase(conn, &before, &after),
            settled(conn, &after, movement),
            keep(conn, kept.as_ref()),
            flight.commit(),
            async {
                failpoint!("change.sent");
            }
        );
        failpoint!("change.committed");
        if committed.is_ok() {
            flight.close();
        }
        let saved = saved?;
        kept_until?;
        settled?;
        remembered?;
        committed?;
        if saved != 1 {
            return Err(super::corrupt("a change went around the lock").into());
        }
        measure::changed(&before, &after, &events, also.as_ref());
        self.wake(&events, also.iter().map(|(also, _)| also).chain(updated.then_some(&after)));
        Ok(Some(Changed { envelope: after, reply: kept.map(|(_, reply)| reply), answer }))
    }
}

impl Store {
    /// Wakes the loops for which there is something now.
    fn wake<'a>(&self, events: &[Recorded], drafted: impl Iterator<Item = &'a Envelope>) {
        self.committed.notify_one();
        if due_artifact(events).is_some() {
            self.artifacts_due.notify_one();
        }
        let mut documents = drafted.flat_map(|envelope| &envelope.documents);
        if documents.any(|document| document.awaits.is_some()) {
            self.readings_due.notify_one();
        }
    }
}

/// The key of a reply that tells of that envelope.
fn about(once: Option<&Once>, envelope: EnvelopeId) -> Option<Once> {
    once.map(|once| once.clone().about(envelope.uuid()))
}

/// True where the failure is an ordinary answer to the caller.
fn is_answer(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::KeyUsed | DatabaseError::KeyInUse) || is_insufficient(error)
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
    let is_blind = sabotaged!("envelope.revision");
    let query = diesel::sql_query(if is_blind { SAVE.replace("revision = $3", "revision >= $3") } else { SAVE.into() })
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
        .bind::<Nullable<Timestamptz>, _>(facts.discarded_at)
        .bind::<Timestamptz, _>(after.expires_at)
        .bind::<Nullable<Timestamptz>, _>(after.warning_at())
        .bind::<Nullable<Timestamptz>, _>(after.warned_at)
        .bind::<Nullable<SmallInt>, _>(after.end.map(|end| end.cause as i16))
        .bind::<Nullable<SqlUuid>, _>(after.end.and_then(|end| end.by).map(|id| id.uuid()))
        .bind::<Nullable<Text>, _>(after.void_reason.as_ref().map(text))
        .bind::<Bool, _>(after.requires_replacement)
        .bind::<Nullable<SqlUuid>, _>(after.replaced_by.map(|id| id.uuid()));
    let query = bind_recipients(query, before, after);
    let query = bind_fields_and_artifacts(query, before, after);
    let query = bind_events!(query, events)
        .bind::<SmallInt, _>(part(after.id))
        .bind::<Nullable<SmallInt>, _>(due_artifact(events))
        .bind::<Nullable<SmallInt>, _>(stored_artifact(events))
        .bind::<Nullable<Jsonb>, _>(charge(after.charge.as_ref()))
        .bind::<Nullable<Timestamptz>, _>(after.reminder_at());
    let query = bind_notices(query, before, after)
        .bind::<Array<SmallInt>, _>(column(&new_artifacts(before, after), |(_, artifact)| artifact.seal as i16));
    let query = bind_drawings(query, before, after);
    let query = bind_readings(query, before, after)
        .bind::<Array<Bool>, _>(column(&new_artifacts(before, after), |(_, artifact)| artifact.is_bare))
        .bind::<Array<Text>, _>(changed(before, after).map(|r| search_form(&r.person.email)).collect::<Vec<_>>());
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

fn text(personal: &Personal) -> String {
    personal.reveal().to_owned()
}

type Query<'a> = diesel::query_builder::BoxedSqlQuery<'a, Pg, diesel::query_builder::SqlQuery>;

/// The columns of a recipient that follow from their state.
#[derive(Default)]
struct StateColumns {
    acted_at: Option<DateTime<Utc>>,
    effective: Option<bool>,
    declined_at: Option<DateTime<Utc>>,
    decline_channel: Option<i16>,
    reason: Option<String>,
    note: Option<String>,
    ended_at: Option<DateTime<Utc>>,
}

impl From<&RecipientState> for StateColumns {
    fn from(state: &RecipientState) -> Self {
        match state {
            RecipientState::Waiting | RecipientState::Released { .. } => Self::default(),
            RecipientState::Acted { at, effective, .. } => {
                Self { acted_at: Some(*at), effective: Some(*effective), ..Self::default() }
            }
            RecipientState::Declined { at, channel, reason, note, .. } => Self {
                declined_at: Some(*at),
                decline_channel: Some(*channel as i16),
                reason: reason.as_ref().map(text),
                note: note.as_ref().map(text),
                ..Self::default()
            },
            RecipientState::ReleasedBy { at, .. } | RecipientState::NotNeeded { at, .. } => {
                Self { ended_at: Some(*at), ..Self::default() }
            }
        }
    }
}

/// Recipients who are not as they were. What a purge erases is erased by itself, when it may be.
fn changed<'a>(before: &'a Envelope, after: &'a Envelope) -> impl Iterator<Item = &'a Recipient> {
    let purged = after.keeping.is_purged();
    after.recipients.iter().filter(move |new| !purged && before.recipient(new.id) != Some(*new))
}

fn bind_recipients<'a>(query: Query<'a>, before: &Envelope, after: &Envelope) -> Query<'a> {
    let rows: Vec<(&Recipient, StateColumns)> =
        changed(before, after).map(|recipient| (recipient, StateColumns::from(&recipient.state))).collect();
    let rows = rows.as_slice();
    query
        .bind::<Array<SqlUuid>, _>(column(rows, |(r, _)| r.id.uuid()))
        .bind::<Array<Text>, _>(column(rows, |(r, _)| text(&r.person.name)))
        .bind::<Array<Text>, _>(column(rows, |(r, _)| text(&r.person.email)))
        .bind::<Array<SmallInt>, _>(column(rows, |(r, _)| i16::from(r.status())))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |(r, _)| r.released_at()))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |(_, c)| c.acted_at))
        .bind::<Array<Nullable<Bool>>, _>(column(rows, |(_, c)| c.effective))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |(_, c)| c.declined_at))
        .bind::<Array<Nullable<SmallInt>>, _>(column(rows, |(_, c)| c.decline_channel))
        .bind::<Array<Nullable<Text>>, _>(column(rows, |(_, c)| c.reason.clone()))
        .bind::<Array<Nullable<Text>>, _>(column(rows, |(_, c)| c.note.clone()))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |(_, c)| c.ended_at))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |(r, _)| r.viewed_at))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |(r, _)| r.invited_at))
        .bind::<Array<SmallInt>, _>(column(rows, |(r, _)| r.delegations.cast_signed()))
        .bind::<Array<BigInt>, _>(column(rows, |(r, _)| int8(r.filled_revision)))
        .bind::<Array<Integer>, _>(column(rows, |(r, _)| r.credential.generation.cast_signed()))
        .bind::<Array<Bytea>, _>(column(rows, |(r, _)| r.credential.salt.to_vec()))
        .bind::<Array<Bytea>, _>(column(rows, |(r, _)| r.credential.hash.to_vec()))
}

/// What else there is about them, in the same order.
fn bind_notices<'a>(query: Query<'a>, before: &Envelope, after: &Envelope) -> Query<'a> {
    let rows: Vec<&Recipient> = changed(before, after).collect();
    query
        .bind::<Array<Nullable<Jsonb>>, _>(column(&rows, |r| locality(&r.person.locality)))
        .bind::<Array<Nullable<Jsonb>>, _>(column(&rows, |r| notices(&r.notices)))
}

fn new_artifacts<'a>(before: &'a Envelope, after: &'a Envelope) -> Vec<(DocumentId, &'a Artifact)> {
    let documents = after.documents.iter().zip(&before.documents);
    let new = |(new, old): (&'a Document, &'a Document)| {
        new.artifacts.iter().skip(old.artifacts.len()).map(|artifact| (new.id, artifact))
    };
    documents.flat_map(new).collect()
}

/// What was drawn: the hash for each field whose value has changed, and each drawing once.
fn bind_drawings<'a>(query: Query<'a>, before: &Envelope, after: &Envelope) -> Query<'a> {
    let fields = changed_fields(before, after);
    let drawn = |field: &&Field| match &field.value {
        Some(Value::Drawn(drawn)) => Some(drawn.clone()),
        Some(Value::Text(_) | Value::Checked(_)) | None => None,
    };
    let new: BTreeMap<Digest, Vec<u8>> =
        fields.iter().filter_map(drawn).filter_map(|it| Some((it.sha256, it.content?.to_vec()))).collect();
    query
        .bind::<Array<Nullable<Bytea>>, _>(column(&fields, |field| drawn(field).map(|it| it.sha256.to_vec())))
        .bind::<Array<Bytea>, _>(new.keys().map(|sha256| sha256.to_vec()).collect::<Vec<_>>())
        .bind::<Array<Bytea>, _>(new.into_values().collect::<Vec<_>>())
}

/// Documents that were read. One that has taken another's place, and is yet to be, is not among them.
fn read<'a>(before: &Envelope, after: &'a Envelope) -> Vec<&'a Document> {
    let pairs = after.documents.iter().zip(&before.documents);
    let read = |(new, old): &(&Document, &Document)| old.ingest != new.ingest && new.ingest != Ingest::Processing;
    pairs.filter(read).map(|(new, _)| new).collect()
}

/// What was found in them, in the same order.
fn bind_readings<'a>(query: Query<'a>, before: &Envelope, after: &Envelope) -> Query<'a> {
    let read = read(before, after);
    query
        .bind::<Array<Bytea>, _>(column(&read, |d| d.sha256.to_vec()))
        .bind::<Array<BigInt>, _>(column(&read, |d| int8(d.size_bytes)))
        .bind::<Array<Integer>, _>(column(&read, |d| d.page_count.cast_signed()))
        .bind::<Array<Nullable<Bytea>>, _>(column(&read, |d| d.original.map(|it| it.sha256.to_vec())))
        .bind::<Array<Nullable<BigInt>>, _>(column(&read, |d| d.original.map(|it| int8(it.size_bytes))))
        .bind::<Array<Nullable<SmallInt>>, _>(column(&read, |d| d.original.map(|it| it.content_type as i16)))
        .bind::<Array<Nullable<Jsonb>>, _>(column(&read, |d| fault(d.fault.as_ref())))
}

/// Fields whose values have changed. New and removed ones, of a draft, are not among them: the draft is written as a whole.
fn changed_fields<'a>(before: &Envelope, after: &'a Envelope) -> Vec<&'a Field> {
    let pairs = after.fields.iter().zip(&before.fields);
    let changed = |new: &Field, old: &Field| new.id == old.id && new.value != old.value;
    // What is purged goes in a statement of its own.
    pairs.filter(|(new, old)| !after.keeping.is_purged() && changed(new, old)).map(|(new, _)| new).collect()
}

fn bind_fields_and_artifacts<'a>(query: Query<'a>, before: &Envelope, after: &Envelope) -> Query<'a> {
    let fields = changed_fields(before, after);
    let read = read(before, after);
    let artifacts = new_artifacts(before, after);
    query
        .bind::<Array<SqlUuid>, _>(column(&fields, |field| field.id.uuid()))
        .bind::<Array<Nullable<Text>>, _>(column(&fields, |field| text_value(field)))
        .bind::<Array<Nullable<Bool>>, _>(column(&fields, |field| checked_value(field)))
        .bind::<Array<SqlUuid>, _>(column(&read, |document| document.id.uuid()))
        .bind::<Array<SmallInt>, _>(column(&read, |document| document.ingest as i16))
        .bind::<Array<SqlUuid>, _>(column(&artifacts, |(document, _)| document.uuid()))
        .bind::<Array<SmallInt>, _>(column(&artifacts, |(_, artifact)| artifact.version as i16))
        .bind::<Array<Bytea>, _>(column(&artifacts, |(_, artifact)| artifact.sha256.to_vec()))
        .bind::<Array<BigInt>, _>(column(&artifacts, |(_, artifact)| int8(artifact.size_bytes)))
        .bind::<Array<Timestamptz>, _>(column(&artifacts, |(_, artifact)| artifact.created_at))
}
