//! A new envelope with all that belongs to it: one statement, one flight.

use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::pg::Pg;
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Double, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;

use super::{Store, int8, part};
use crate::domain::envelope::Envelope;
use crate::domain::record::Recorded;

/// Children reference the envelope: Postgres checks that at the end of the statement, when all are there.
pub const CREATE: &str = "
WITH new_envelope AS (
    INSERT INTO envelope (account_id, id, livemode, revision, sequence, chain, last_event_at, subject, message, routing,
        created_at, dispatched_at, sent_at, expires_at, requires_replacement)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, false)
), new_recipients AS (
    INSERT INTO recipient (account_id, envelope_id, id, position, name, email, role, label, group_number, status,
        released_at, token_generation, token_salt, token_hash)
    SELECT $1, $2, r.* FROM unnest($15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26) AS r
), new_documents AS (
    INSERT INTO document (account_id, envelope_id, id, position, name, sha256, size_bytes, page_count)
    SELECT $1, $2, d.* FROM unnest($27, $28, $29, $30, $31, $32) AS d
), new_fields AS (
    INSERT INTO field (account_id, envelope_id, id, position, kind, recipient_id, document_id, page, x_percent, y_percent,
        width_percent, height_percent, required, name)
    SELECT $1, $2, f.* FROM unnest($33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44) AS f
), new_events AS (
    INSERT INTO event (account_id, envelope_id, sequence, id, kind, recipient_id, occurred_at, record, prev_hash, hash,
        traceparent)
    SELECT $1, $2, e.*, $53 FROM unnest($45, $46, $47, $48, $49, $50, $51, $52) AS e
)
INSERT INTO outbox (part, account_id, livemode, envelope_id, sequence)
SELECT $54, $1, $3, $2, s FROM unnest($45) AS s ORDER BY s";

enum Create {}

/// One column of some rows.
pub(super) fn column<T, C>(rows: &[T], of: impl FnMut(&T) -> C) -> Vec<C> {
    rows.iter().map(of).collect()
}

/// The places of rows, from 0.
fn positions<T>(rows: &[T]) -> Vec<i16> {
    (0..).take(rows.len()).collect()
}

/// The events' columns, in the order of the statements, from `sequence` to `hash`.
macro_rules! bind_events {
    ($query:expr, $events:expr) => {
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
    };
}
pub(super) use bind_events;

impl Store {
    /// Stores a new envelope with its first events. All or nothing.
    pub async fn create(&self, new: &Envelope, events: &[Recorded]) -> Result<(), DatabaseError> {
        let (recipients, documents, fields) = (&new.recipients, &new.documents, &new.fields);
        let query = diesel::sql_query(CREATE)
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(new.account.uuid())
            .bind::<SqlUuid, _>(new.id.uuid())
            .bind::<Bool, _>(new.livemode)
            .bind::<BigInt, _>(int8(new.revision))
            .bind::<BigInt, _>(int8(new.sequence))
            .bind::<Bytea, _>(new.chain.to_vec())
            .bind::<Timestamptz, _>(new.last_event_at)
            .bind::<Text, _>(&new.subject)
            .bind::<Text, _>(&new.message)
            .bind::<SmallInt, _>(new.routing as i16)
            .bind::<Timestamptz, _>(new.facts.created_at)
            .bind::<Nullable<Timestamptz>, _>(new.facts.dispatched_at)
            .bind::<Nullable<Timestamptz>, _>(new.facts.sent_at)
            .bind::<Timestamptz, _>(new.expires_at)
            .bind::<Array<SqlUuid>, _>(column(recipients, |r| r.id.uuid()))
            .bind::<Array<SmallInt>, _>(positions(recipients))
            .bind::<Array<Text>, _>(column(recipients, |r| r.name.reveal().to_owned()))
            .bind::<Array<Text>, _>(column(recipients, |r| r.email.reveal().to_owned()))
            .bind::<Array<SmallInt>, _>(column(recipients, |r| r.role as i16))
            .bind::<Array<Text>, _>(column(recipients, |r| r.label.clone()))
            .bind::<Array<SmallInt>, _>(column(recipients, |r| r.group.cast_signed()))
            .bind::<Array<SmallInt>, _>(column(recipients, |r| i16::from(r.state.code())))
            .bind::<Array<Nullable<Timestamptz>>, _>(column(recipients, |r| r.released_at()))
            .bind::<Array<SmallInt>, _>(column(recipients, |r| r.credential.generation.cast_signed()))
            .bind::<Array<Bytea>, _>(column(recipients, |r| r.credential.salt.to_vec()))
            .bind::<Array<Bytea>, _>(column(recipients, |r| r.credential.hash.to_vec()))
            .bind::<Array<SqlUuid>, _>(column(documents, |d| d.id.uuid()))
            .bind::<Array<SmallInt>, _>(positions(documents))
            .bind::<Array<Text>, _>(column(documents, |d| d.name.clone()))
            .bind::<Array<Bytea>, _>(column(documents, |d| d.sha256.to_vec()))
            .bind::<Array<BigInt>, _>(column(documents, |d| int8(d.size_bytes)))
            .bind::<Array<Integer>, _>(column(documents, |d| d.page_count.cast_signed()))
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
            .bind::<Array<Text>, _>(column(fields, |f| f.name.clone()));
        let query = bind_events!(query, events).bind::<SmallInt, _>(part(new.id));
        let mut conn = acquire(&self.pool).await?;
        prepared::<Create, _>(query).execute(&mut *conn).await?;
        self.committed.notify_one();
        Ok(())
    }
}
