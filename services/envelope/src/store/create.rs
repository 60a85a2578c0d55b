//! A new envelope with all that belongs to it: one statement, one flight.

use std::sync::Arc;

use countersign_chassis::database::{DatabaseError, Flight, prepared};
use countersign_chassis::failpoint;
use countersign_chassis::once::{self, Once, claimed};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Double, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use tracing::Instrument as _;

use super::ingest::{awaits, fault};
use super::ledger::{NewEntry, enter};
use super::metadata::enter as enter_metadata;
use super::notices::locality;
use super::settings::charge;
use super::terms::{decline_policy, metadata, rules, terms};
use super::{Store, int8, joined, part};
use crate::domain::address::search_form;
use crate::domain::credit::Movement;
use crate::domain::envelope::Envelope;
use crate::domain::field::{Field, Value};
use crate::domain::id::LedgerId;
use crate::domain::record::Recorded;
use crate::execute::new_id;
use crate::measure;

/// Children reference the envelope: Postgres checks that at the end of the statement, when all are there.
pub const CREATE: &str = "
WITH new_envelope AS (
    INSERT INTO envelope (account_id, id, livemode, revision, sequence, chain, last_event_at, subject, external_reference,
        metadata, terms, scheduled_send_at, created_at, dispatched_at, sent_at, expires_at, warning_at, replaces,
        requires_replacement, charge, reminder_at, retention_days, purge_warning_days, draft_days, keeping_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, false, $71, $72, $74, $75, $76,
        $77)
), new_recipients AS (
    INSERT INTO recipient (account_id, envelope_id, id, position, name, email, role, assists, copy_on_send, label,
        group_number, decline_policy, status, released_at, invited_at, token_generation, token_salt, token_hash,
        locality, address)
    SELECT $1, $2, r.* FROM unnest($19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $73,
        $84)
        AS r
), new_documents AS (
    INSERT INTO document (account_id, envelope_id, id, position, name, sha256, size_bytes, page_count, ingest,
        original_sha256, original_size_bytes, content_type, awaits, fault)
    SELECT $1, $2, d.* FROM unnest($35, $36, $37, $38, $39, $40, $41, $78, $79, $80, $81, $82) AS d
), new_readings AS (
    INSERT INTO ingest_job (account_id, envelope_id, document_id, source_id, begun_at, due_at)
    SELECT $1, $2, r.id, r.source, $7, $7 FROM unnest($35, $83) AS r (id, source) WHERE r.source IS NOT NULL
), new_fields AS (
    INSERT INTO field (account_id, envelope_id, id, position, kind, recipient_id, document_id, page, x_percent, y_percent,
        width_percent, height_percent, required, read_only, name, rules, text_value, checked_value)
    SELECT $1, $2, f.* FROM unnest($42, $43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56, $57) AS f
), new_events AS (
    INSERT INTO event (account_id, envelope_id, sequence, id, kind, recipient_id, occurred_at, record, prev_hash, hash,
        traceparent)
    SELECT $1, $2, e.*, $66 FROM unnest($58, $59, $60, $61, $62, $63, $64, $65) AS e
), new_particulars AS (
    INSERT INTO event_particulars (account_id, envelope_id, sequence, salt, content)
    SELECT $1, $2, p.* FROM unnest($67, $68, $69) AS p
)
INSERT INTO outbox (part, account_id, livemode, envelope_id, sequence)
SELECT $70, $1, $3, $2, s FROM unnest($58) AS s ORDER BY s";

enum Create {}

/// One column of some rows.
pub(super) fn column<T, C>(rows: &[T], of: impl FnMut(&T) -> C) -> Vec<C> {
    rows.iter().map(of).collect()
}

/// The places of rows, from 0.
fn positions<T>(rows: &[T]) -> Vec<i16> {
    (0..).take(rows.len()).collect()
}

pub(super) fn text_value(field: &Field) -> Option<String> {
    match &field.value {
        Some(Value::Text(text)) => Some(text.reveal().to_owned()),
        Some(Value::Checked(_) | Value::Drawn(_)) | None => None,
    }
}

pub(super) fn checked_value(field: &Field) -> Option<bool> {
    match &field.value {
        Some(Value::Checked(checked)) => Some(*checked),
        Some(Value::Text(_) | Value::Drawn(_)) | None => None,
    }
}

/// Binds the events and what is personal about them as columns, in the order of the statements.
macro_rules! bind_events {
    ($query:expr, $events:expr) => {{
        let kept: Vec<_> =
            $events.iter().filter_map(|event| event.kept.as_ref().map(|kept| (event.sequence, kept))).collect();
        $query
            .bind::<Array<BigInt>, _>(column($events, |event| int8(event.sequence)))
            .bind::<Array<SqlUuid>, _>(column($events, |event| event.id.uuid()))
            .bind::<Array<SmallInt>, _>(column($events, |event| event.kind as i16))
            .bind::<Array<Nullable<SqlUuid>>, _>(column($events, |event| event.recipient.map(|id| id.uuid())))
            .bind::<Array<Timestamptz>, _>(column($events, |event| event.occurred_at))
            .bind::<Array<Bytea>, _>(column($events, |event| event.record.clone()))
            .bind::<Array<Bytea>, _>(column($events, |event| event.prev_hash.to_vec()))
            .bind::<Array<Bytea>, _>(column($events, |event| event.hash.to_vec()))
            .bind::<Nullable<Text>, _>(countersign_chassis::propagation::current())
            .bind::<Array<BigInt>, _>(column(&kept, |(sequence, _)| int8(*sequence)))
            .bind::<Array<Bytea>, _>(column(&kept, |(_, (salt, _))| salt.to_vec()))
            .bind::<Array<Bytea>, _>(column(&kept, |(_, (_, content))| content.clone()))
    }};
}
pub(super) use bind_events;

/// Binds fields as columns, in the order of the statements.
macro_rules! bind_fields {
    ($query:expr, $fields:expr) => {{
        let fields = $fields;
        $query
            .bind::<Array<SqlUuid>, _>(column(fields, |f| f.id.uuid()))
            .bind::<Array<SmallInt>, _>(positions(fields))
            .bind::<Array<SmallInt>, _>(column(fields, |f| f.kind as i16))
            .bind::<Array<SqlUuid>, _>(column(fields, |f| f.recipient.uuid()))
            .bind::<Array<SqlUuid>, _>(column(fields, |f| f.document.uuid()))
            .bind::<Array<Integer>, _>(column(fields, |f| f.placement.page.cast_signed()))
            .bind::<Array<Double>, _>(column(fields, |f| f.placement.x_percent))
            .bind::<Array<Double>, _>(column(fields, |f| f.placement.y_percent))
            .bind::<Array<Double>, _>(column(fields, |f| f.placement.width_percent))
            .bind::<Array<Double>, _>(column(fields, |f| f.placement.height_percent))
            .bind::<Array<Bool>, _>(column(fields, |f| f.required))
            .bind::<Array<Bool>, _>(column(fields, |f| f.read_only))
            .bind::<Array<Text>, _>(column(fields, |f| f.name.clone()))
            .bind::<Array<Nullable<Jsonb>>, _>(column(fields, rules))
            .bind::<Array<Nullable<Text>>, _>(column(fields, text_value))
            .bind::<Array<Nullable<Bool>>, _>(column(fields, checked_value))
    }};
}

/// Binds what is known of the reading of documents as columns, in the order of the statements.
macro_rules! bind_reading {
    ($query:expr, $documents:expr) => {{
        let documents = $documents;
        $query
            .bind::<Array<Nullable<Bytea>>, _>(column(documents, |d| d.original.map(|it| it.sha256.to_vec())))
            .bind::<Array<Nullable<BigInt>>, _>(column(documents, |d| d.original.map(|it| int8(it.size_bytes))))
            .bind::<Array<Nullable<SmallInt>>, _>(column(documents, |d| d.original.map(|it| it.content_type as i16)))
            .bind::<Array<Nullable<Jsonb>>, _>(column(documents, |d| awaits(d.awaits.as_ref())))
            .bind::<Array<Nullable<Jsonb>>, _>(column(documents, |d| fault(d.fault.as_ref())))
            .bind::<Array<Nullable<SqlUuid>>, _>(column(documents, |d| d.awaits.as_ref().map(|it| it.id.uuid())))
    }};
}

/// A new envelope with all that comes with it.
pub struct NewEnvelope {
    /// The envelope.
    pub envelope: Envelope,
    /// Its first events.
    pub events: Vec<Recorded>,
    /// What it costs.
    pub movement: Option<Movement>,
    /// The reply to keep, and for which key.
    pub kept: Option<(Once, Vec<u8>)>,
}

/// Enters what an envelope moves.
pub(super) async fn settled(
    conn: &AsyncPgConnection,
    envelope: &Envelope,
    movement: Option<Movement>,
) -> QueryResult<()> {
    let Some(movement) = movement else { return Ok(()) };
    let at = envelope.last_event_at;
    let id = LedgerId::from_uuid(new_id(at));
    enter(conn, &NewEntry::of(envelope.account, envelope.id, id, movement, at)).await.map(drop)
}

/// Keeps a reply.
pub(super) async fn keep(conn: &AsyncPgConnection, kept: Option<&(Once, Vec<u8>)>) -> QueryResult<()> {
    match kept {
        Some((once, reply)) => once::keep(conn, once, reply.clone()).await.map(drop),
        None => Ok(()),
    }
}

impl Store {
    /// Stores a new envelope with its first events. All or nothing.
    pub async fn create(&self, new: impl Into<Arc<NewEnvelope>>) -> Result<(), DatabaseError> {
        let (store, new) = (self.clone(), new.into());
        let create = async move { store.create_once(&new).await };
        joined(tokio::spawn(create.in_current_span()).await)
    }

    /// All statements travel together: after one that Postgres refuses, COMMIT is a ROLLBACK.
    async fn create_once(&self, new: &NewEnvelope) -> Result<(), DatabaseError> {
        let NewEnvelope { envelope, events, movement, kept } = new;
        let kept = kept.clone().map(|(once, reply)| (once.about(envelope.id.uuid()), reply));
        let flight = Flight::open(&self.pool).await?;
        let conn = flight.connection();
        failpoint!("create.writing");
        let (begun, claimed, inserted, settled, kept, committed, ()) = futures_util::join!(
            flight.begin_for(envelope.account.uuid()),
            claimed(conn, kept.as_ref().map(|(once, _)| once)),
            insert(conn, envelope, events),
            settled(conn, envelope, *movement),
            keep(conn, kept.as_ref()),
            flight.commit(),
            async {
                failpoint!("create.sent");
            }
        );
        failpoint!("create.committed");
        if begun.is_ok() && committed.is_ok() {
            flight.close();
        }
        begun?;
        claimed?;
        inserted?;
        settled?;
        kept?;
        committed?;
        measure::happened(None, envelope, events);
        self.committed.notify_one();
        if envelope.documents.iter().any(|document| document.awaits.is_some()) {
            self.readings_due.notify_one();
        }
        Ok(())
    }
}

pub(super) async fn insert(conn: &AsyncPgConnection, new: &Envelope, events: &[Recorded]) -> QueryResult<usize> {
    let (recipients, documents) = (&new.recipients, &new.documents);
    let query = diesel::sql_query(CREATE)
        .into_boxed::<Pg>()
        .bind::<SqlUuid, _>(new.account.uuid())
        .bind::<SqlUuid, _>(new.id.uuid())
        .bind::<Bool, _>(new.livemode)
        .bind::<BigInt, _>(int8(new.revision))
        .bind::<BigInt, _>(int8(new.sequence))
        .bind::<Bytea, _>(new.chain.to_vec())
        .bind::<Timestamptz, _>(new.last_event_at)
        .bind::<Text, _>(&new.terms.subject)
        .bind::<Text, _>(&new.terms.external_reference)
        .bind::<Jsonb, _>(metadata(&new.terms))
        .bind::<Jsonb, _>(terms(&new.terms))
        .bind::<Nullable<Timestamptz>, _>(new.terms.scheduled_send_at)
        .bind::<Timestamptz, _>(new.facts.created_at)
        .bind::<Nullable<Timestamptz>, _>(new.facts.dispatched_at)
        .bind::<Nullable<Timestamptz>, _>(new.facts.sent_at)
        .bind::<Timestamptz, _>(new.expires_at)
        .bind::<Nullable<Timestamptz>, _>(new.warning_at())
        .bind::<Nullable<SqlUuid>, _>(new.replaces.map(|id| id.uuid()))
        .bind::<Array<SqlUuid>, _>(column(recipients, |r| r.id.uuid()))
        .bind::<Array<SmallInt>, _>(positions(recipients))
        .bind::<Array<Text>, _>(column(recipients, |r| r.person.name.reveal().to_owned()))
        .bind::<Array<Text>, _>(column(recipients, |r| r.person.email.reveal().to_owned()))
        .bind::<Array<SmallInt>, _>(column(recipients, |r| r.role as i16))
        .bind::<Array<Nullable<SqlUuid>>, _>(column(recipients, |r| r.assists.map(|id| id.uuid())))
        .bind::<Array<Bool>, _>(column(recipients, |r| r.copy_on_send))
        .bind::<Array<Text>, _>(column(recipients, |r| r.label.clone()))
        .bind::<Array<SmallInt>, _>(column(recipients, |r| r.group.cast_signed()))
        .bind::<Array<Nullable<Jsonb>>, _>(column(recipients, |r| decline_policy(r.decline.as_ref())))
        .bind::<Array<SmallInt>, _>(column(recipients, |r| i16::from(r.status())))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(recipients, |r| r.released_at()))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(recipients, |r| r.invited_at))
        .bind::<Array<Integer>, _>(column(recipients, |r| r.credential.generation.cast_signed()))
        .bind::<Array<Bytea>, _>(column(recipients, |r| r.credential.salt.to_vec()))
        .bind::<Array<Bytea>, _>(column(recipients, |r| r.credential.hash.to_vec()))
        .bind::<Array<SqlUuid>, _>(column(documents, |d| d.id.uuid()))
        .bind::<Array<SmallInt>, _>(positions(documents))
        .bind::<Array<Text>, _>(column(documents, |d| d.name.clone()))
        .bind::<Array<Bytea>, _>(column(documents, |d| d.sha256.to_vec()))
        .bind::<Array<BigInt>, _>(column(documents, |d| int8(d.size_bytes)))
        .bind::<Array<Integer>, _>(column(documents, |d| d.page_count.cast_signed()))
        .bind::<Array<SmallInt>, _>(column(documents, |d| d.ingest as i16));
    let query = bind_fields!(query, &new.fields);
    let query = bind_events!(query, events)
        .bind::<SmallInt, _>(part(new.id))
        .bind::<Nullable<Jsonb>, _>(charge(new.charge.as_ref()))
        .bind::<Nullable<Timestamptz>, _>(new.reminder_at())
        .bind::<Array<Nullable<Jsonb>>, _>(column(recipients, |r| locality(&r.person.locality)))
        .bind::<Integer, _>(new.keeping.retention.days.cast_signed())
        .bind::<SmallInt, _>(new.keeping.retention.warning_days.cast_signed())
        .bind::<SmallInt, _>(new.keeping.retention.draft_days.cast_signed())
        .bind::<Nullable<Timestamptz>, _>(new.next_step().map(|(at, _)| at));
    let query =
        bind_reading!(query, documents).bind::<Array<Text>, _>(column(recipients, |r| search_form(&r.person.email)));
    let create = async { prepared::<Create, _>(query).execute(&mut { conn }).await };
    let (created, found) = futures_util::join!(create, enter_metadata(conn, new));
    // After a refusal all that follows is refused, too: what comes first says why.
    let created = created?;
    found?;
    Ok(created)
}

const REDRAFT: &str = "
WITH changed AS (
    UPDATE envelope SET subject = $3, external_reference = $4, metadata = $5, terms = $6, scheduled_send_at = $7
    WHERE account_id = $1 AND id = $2
), gone AS (
    DELETE FROM field WHERE account_id = $1 AND envelope_id = $2 AND id <> ALL ($8)
), documents AS (
    UPDATE document AS old SET name = new.name, sha256 = new.sha256, size_bytes = new.size_bytes,
        page_count = new.page_count, ingest = new.ingest, original_sha256 = new.original_sha256,
        original_size_bytes = new.original_size_bytes, content_type = new.content_type, awaits = new.awaits,
        fault = new.fault
    FROM unnest($24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34) AS new (id, name, sha256, size_bytes, page_count,
        ingest, original_sha256, original_size_bytes, content_type, awaits, fault)
    WHERE old.account_id = $1 AND old.envelope_id = $2 AND old.id = new.id
), no_readings AS (
    DELETE FROM ingest_job AS job USING unnest($24, $35) AS now (id, source)
    WHERE job.account_id = $1 AND job.envelope_id = $2 AND job.document_id = now.id AND now.source IS NULL
), readings AS (
    INSERT INTO ingest_job (account_id, envelope_id, document_id, source_id, begun_at, due_at)
    SELECT $1, $2, r.id, r.source, $36, $36 FROM unnest($24, $35) AS r (id, source) WHERE r.source IS NOT NULL
    ON CONFLICT (account_id, envelope_id, document_id) DO UPDATE
    SET source_id = excluded.source_id, begun_at = excluded.begun_at, due_at = excluded.due_at, attempts = 0, got = NULL
    WHERE ingest_job.source_id <> excluded.source_id
)
INSERT INTO field (account_id, envelope_id, id, position, kind, recipient_id, document_id, page, x_percent, y_percent,
    width_percent, height_percent, required, read_only, name, rules, text_value, checked_value)
SELECT $1, $2, f.* FROM unnest($8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23) AS f
ON CONFLICT (account_id, envelope_id, id) DO UPDATE SET position = excluded.position";

enum Redraft {}

/// Writes what the sender sets, the fields and the documents of a draft whose row is locked.
pub(super) async fn redraft(mut conn: &AsyncPgConnection, draft: &Envelope) -> QueryResult<usize> {
    let query = diesel::sql_query(REDRAFT)
        .into_boxed::<Pg>()
        .bind::<SqlUuid, _>(draft.account.uuid())
        .bind::<SqlUuid, _>(draft.id.uuid())
        .bind::<Text, _>(&draft.terms.subject)
        .bind::<Text, _>(&draft.terms.external_reference)
        .bind::<Jsonb, _>(metadata(&draft.terms))
        .bind::<Jsonb, _>(terms(&draft.terms))
        .bind::<Nullable<Timestamptz>, _>(draft.terms.scheduled_send_at);
    let query = bind_fields!(query, &draft.fields);
    let documents = &draft.documents;
    let query = query
        .bind::<Array<SqlUuid>, _>(column(documents, |d| d.id.uuid()))
        .bind::<Array<Text>, _>(column(documents, |d| d.name.clone()))
        .bind::<Array<Bytea>, _>(column(documents, |d| d.sha256.to_vec()))
        .bind::<Array<BigInt>, _>(column(documents, |d| int8(d.size_bytes)))
        .bind::<Array<Integer>, _>(column(documents, |d| d.page_count.cast_signed()))
        .bind::<Array<SmallInt>, _>(column(documents, |d| d.ingest as i16));
    let query = bind_reading!(query, documents).bind::<Timestamptz, _>(draft.last_event_at);
    prepared::<Redraft, _>(query).execute(&mut conn).await
}
