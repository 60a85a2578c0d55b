//! Reading envelopes whole.

use countersign_chassis::database::{DatabaseError, Flight, fixed};
use countersign_chassis::sabotaged;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tracing::Instrument as _;

use super::rows::{ArtifactRow, DocumentRow, EnvelopeRow, FieldRow, KeepingRow, Parts, RecipientRow, assemble};
use super::schema::{artifact, document, envelope, field, keeping, recipient};
use super::{Scope, Store, joined};
use crate::domain::envelope::Envelope;
use crate::domain::id::{AccountId, EnvelopeId};

pub(super) async fn lock(
    mut conn: &AsyncPgConnection,
    account: AccountId,
    id: EnvelopeId,
) -> QueryResult<Option<EnvelopeRow>> {
    if sabotaged!("envelope.lock") {
        return row(conn, account, id).await;
    }
    let query = envelope::table
        .filter(envelope::account_id.eq(account.uuid()))
        .filter(envelope::id.eq(id.uuid()))
        .select(EnvelopeRow::as_select())
        .for_no_key_update();
    fixed(query).get_result(&mut conn).await.optional()
}

pub(super) async fn row(
    mut conn: &AsyncPgConnection,
    account: AccountId,
    id: EnvelopeId,
) -> QueryResult<Option<EnvelopeRow>> {
    let query = envelope::table
        .filter(envelope::account_id.eq(account.uuid()))
        .filter(envelope::id.eq(id.uuid()))
        .select(EnvelopeRow::as_select());
    fixed(query).get_result(&mut conn).await.optional()
}

/// All that belongs to an envelope: five statements that travel together.
pub(super) async fn parts(conn: &AsyncPgConnection, account: AccountId, id: EnvelopeId) -> QueryResult<Parts> {
    let (account, id) = (account.uuid(), id.uuid());
    let recipients = async {
        let mut conn = conn;
        let query = recipient::table
            .filter(recipient::account_id.eq(account))
            .filter(recipient::envelope_id.eq(id))
            .order(recipient::position)
            .select(RecipientRow::as_select());
        fixed(query).load(&mut conn).await
    };
    let documents = async {
        let mut conn = conn;
        let query = document::table
            .filter(document::account_id.eq(account))
            .filter(document::envelope_id.eq(id))
            .order(document::position)
            .select(DocumentRow::as_select());
        fixed(query).load(&mut conn).await
    };
    let artifacts = async {
        let mut conn = conn;
        let query = artifact::table
            .filter(artifact::account_id.eq(account))
            .filter(artifact::envelope_id.eq(id))
            .order((artifact::created_at, artifact::version))
            .select(ArtifactRow::as_select());
        fixed(query).load(&mut conn).await
    };
    let fields = async {
        let mut conn = conn;
        let query = field::table
            .filter(field::account_id.eq(account))
            .filter(field::envelope_id.eq(id))
            .order(field::position)
            .select(FieldRow::as_select());
        fixed(query).load(&mut conn).await
    };
    let kept = async {
        let mut conn = conn;
        let columns = keeping::table.find((account, id)).select(KeepingRow::as_select());
        fixed(columns).get_result(&mut conn).await.optional()
    };
    let (recipients, documents, artifacts, fields, kept) =
        futures_util::join!(recipients, documents, artifacts, fields, kept);
    Ok(Parts { keeping: kept?, recipients: recipients?, documents: documents?, artifacts: artifacts?, fields: fields? })
}

/// The envelope, if the scope has it.
pub(super) async fn whole(conn: &AsyncPgConnection, scope: Scope, id: EnvelopeId) -> QueryResult<Option<Envelope>> {
    let (row, parts) = futures_util::join!(row(conn, scope.account, id), parts(conn, scope.account, id));
    let (row, parts) = (row?, parts?);
    row.filter(|row| row.is_visible(scope)).map(|row| assemble(row, parts)).transpose()
}

impl Store {
    /// The envelope as of one instant: one flight under one snapshot. In a task of its own: a caller who hangs up must not
    /// cost a connection; who does so while there is none waits no longer.
    pub async fn envelope(&self, scope: Scope, id: EnvelopeId) -> Result<Option<Envelope>, DatabaseError> {
        let flight = Flight::open(&self.pool).await?;
        joined(tokio::spawn(Self::read(flight, scope, id).in_current_span()).await)
    }

    async fn read(flight: Flight, scope: Scope, id: EnvelopeId) -> Result<Option<Envelope>, DatabaseError> {
        let (begun, read, ended) = futures_util::join!(
            flight.begin_reading(scope.account.uuid()),
            whole(flight.connection(), scope, id),
            flight.commit()
        );
        begun?;
        let read = read?;
        ended?;
        flight.close();
        Ok(read)
    }
}
