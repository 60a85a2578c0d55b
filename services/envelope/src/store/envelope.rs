//! Reading envelopes: the aggregate, and pages of summaries.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Flight};
use countersign_chassis::sabotaged;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt as _;
use tracing::Instrument as _;
use uuid::Uuid;

use super::rows::{
    ArtifactRow, DocumentRow, EnvelopeRow, FieldRow, KeepingRow, Parts, RecipientRow, assemble, status_of,
};
use super::schema::{artifact, document, envelope, field, keeping, recipient};
use super::{Scope, Store, joined};
use crate::domain::envelope::Envelope;
use crate::domain::id::{AccountId, EnvelopeId};
use crate::domain::status::Status;

/// An envelope in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the contract's EnvelopeSummary")]
pub struct Summary {
    pub id: EnvelopeId,
    pub status: Status,
    pub subject: String,
    pub external_reference: String,
    pub revision: u64,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub requires_replacement: bool,
}

/// Which envelopes to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Only those.
    pub status: Option<Status>,
    /// Only those before this one in the list.
    pub before: Option<EnvelopeId>,
    /// How many at most.
    pub limit: i64,
}

pub(super) async fn lock(
    mut conn: &AsyncPgConnection,
    account: AccountId,
    id: EnvelopeId,
) -> QueryResult<Option<EnvelopeRow>> {
    if sabotaged!("envelope.lock") {
        return row(conn, account, id).await;
    }
    envelope::table
        .filter(envelope::account_id.eq(account.uuid()))
        .filter(envelope::id.eq(id.uuid()))
        .select(EnvelopeRow::as_select())
        .for_no_key_update()
        .get_result(&mut conn)
        .await
        .optional()
}

pub(super) async fn row(
    mut conn: &AsyncPgConnection,
    account: AccountId,
    id: EnvelopeId,
) -> QueryResult<Option<EnvelopeRow>> {
    envelope::table
        .filter(envelope::account_id.eq(account.uuid()))
        .filter(envelope::id.eq(id.uuid()))
        .select(EnvelopeRow::as_select())
        .get_result(&mut conn)
        .await
        .optional()
}

/// All that belongs to an envelope: five statements that travel together.
pub(super) async fn parts(conn: &AsyncPgConnection, account: AccountId, id: EnvelopeId) -> QueryResult<Parts> {
    let (account, id) = (account.uuid(), id.uuid());
    let recipients = async {
        let mut conn = conn;
        recipient::table
            .filter(recipient::account_id.eq(account))
            .filter(recipient::envelope_id.eq(id))
            .order(recipient::position)
            .select(RecipientRow::as_select())
            .load(&mut conn)
            .await
    };
    let documents = async {
        let mut conn = conn;
        document::table
            .filter(document::account_id.eq(account))
            .filter(document::envelope_id.eq(id))
            .order(document::position)
            .select(DocumentRow::as_select())
            .load(&mut conn)
            .await
    };
    let artifacts = async {
        let mut conn = conn;
        artifact::table
            .filter(artifact::account_id.eq(account))
            .filter(artifact::envelope_id.eq(id))
            .order((artifact::created_at, artifact::version))
            .select(ArtifactRow::as_select())
            .load(&mut conn)
            .await
    };
    let fields = async {
        let mut conn = conn;
        field::table
            .filter(field::account_id.eq(account))
            .filter(field::envelope_id.eq(id))
            .order(field::position)
            .select(FieldRow::as_select())
            .load(&mut conn)
            .await
    };
    let kept = async {
        let mut conn = conn;
        let columns = keeping::table.find((account, id)).select(KeepingRow::as_select());
        columns.get_result(&mut conn).await.optional()
    };
    let (recipients, documents, artifacts, fields, kept) =
        futures_util::join!(recipients, documents, artifacts, fields, kept);
    Ok(Parts { keeping: kept?, recipients: recipients?, documents: documents?, artifacts: artifacts?, fields: fields? })
}

impl Store {
    /// The envelope as of one instant: one flight under one snapshot. In a task of its own: a caller who hangs up must not
    /// cost a connection.
    pub async fn envelope(&self, scope: Scope, id: EnvelopeId) -> Result<Option<Envelope>, DatabaseError> {
        let store = self.clone();
        let read = tokio::spawn(async move { store.read(scope, id).await }.in_current_span());
        joined(read.await)
    }

    async fn read(&self, scope: Scope, id: EnvelopeId) -> Result<Option<Envelope>, DatabaseError> {
        let flight = Flight::open(&self.pool).await?;
        let conn = flight.connection();
        let (begun, row, parts, ended) = futures_util::join!(
            flight.begin_reading(scope.account.uuid()),
            row(conn, scope.account, id),
            parts(conn, scope.account, id),
            flight.commit()
        );
        begun?;
        let (row, parts) = (row?, parts?);
        ended?;
        flight.close();
        let Some(row) = row.filter(|row| row.is_visible(scope)) else { return Ok(None) };
        Ok(Some(assemble(row, parts)?))
    }

    /// A page of the account's envelopes, newest first.
    pub async fn envelopes(&self, scope: Scope, filter: Filter) -> Result<Vec<Summary>, DatabaseError> {
        type Row = (Uuid, i16, String, String, i64, DateTime<Utc>, DateTime<Utc>, bool);
        let page = envelope::table
            .filter(envelope::account_id.eq(scope.account.uuid()))
            .filter(envelope::livemode.eq(scope.livemode.unwrap_or(true)))
            .filter(envelope::discarded_at.is_null())
            // Always bounded, so that every page is the same prepared statement.
            .filter(envelope::id.lt(filter.before.map_or(Uuid::max(), |id| id.uuid())))
            .order(envelope::id.desc())
            .limit(filter.limit)
            .select((
                envelope::id,
                envelope::status,
                envelope::subject,
                envelope::external_reference,
                envelope::revision,
                envelope::created_at,
                envelope::expires_at,
                envelope::requires_replacement,
            ));
        let rows: Vec<Row> = self
            .read_one(scope.account, move |mut conn| {
                async move {
                    match filter.status {
                        None => page.load(&mut conn).await,
                        Some(status) => page.filter(envelope::status.eq(status as i16)).load(&mut conn).await,
                    }
                }
                .boxed()
            })
            .await?;
        rows.into_iter()
            .map(|(id, status, subject, external_reference, revision, created_at, expires_at, requires_replacement)| {
                Ok(Summary {
                    id: EnvelopeId::from_uuid(id),
                    status: status_of(status)?,
                    subject,
                    external_reference,
                    revision: revision.unsigned_abs(),
                    created_at,
                    expires_at,
                    requires_replacement,
                })
            })
            .collect()
    }
}
