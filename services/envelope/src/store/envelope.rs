//! Reading envelopes: the aggregate, and pages of summaries.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Flight, acquire, prepared};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tracing::Instrument as _;
use uuid::Uuid;

use super::schema::{artifact, document, envelope, field, recipient};
use super::{Scope, Store, corrupt};
use crate::domain::envelope::{
    Artifact, Channel, Credential, Document, End, Envelope, Recipient, RecipientState, Role, Routing, Version,
};
use crate::domain::field::{Field, FieldType, Placement, Value};
use crate::domain::id::{AccountId, DocumentId, EnvelopeId, FieldId, RecipientId};
use crate::domain::personal::{Committed, Personal};
use crate::domain::status::{Facts, Status};

/// An envelope in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the contract's EnvelopeSummary")]
pub struct Summary {
    pub id: EnvelopeId,
    pub status: Status,
    pub subject: String,
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

#[derive(Queryable, Selectable)]
#[diesel(table_name = envelope)]
pub(super) struct EnvelopeRow {
    account_id: Uuid,
    id: Uuid,
    livemode: bool,
    revision: i64,
    sequence: i64,
    chain: Vec<u8>,
    last_event_at: DateTime<Utc>,
    subject: String,
    message: String,
    routing: i16,
    created_at: DateTime<Utc>,
    dispatched_at: Option<DateTime<Utc>>,
    sent_at: Option<DateTime<Utc>>,
    first_signed_at: Option<DateTime<Utc>>,
    all_acted_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
    declined_at: Option<DateTime<Utc>>,
    voided_at: Option<DateTime<Utc>>,
    expired_at: Option<DateTime<Utc>>,
    expires_at: DateTime<Utc>,
    void_reason: Option<String>,
    void_reason_salt: Option<Vec<u8>>,
    requires_replacement: bool,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = recipient)]
struct RecipientRow {
    id: Uuid,
    name: String,
    email: String,
    role: i16,
    label: String,
    group_number: i16,
    status: i16,
    released_at: Option<DateTime<Utc>>,
    signed_at: Option<DateTime<Utc>>,
    signature_salt: Option<Vec<u8>>,
    effective: Option<bool>,
    declined_at: Option<DateTime<Utc>>,
    decline_channel: Option<i16>,
    decline_reason: Option<String>,
    decline_reason_salt: Option<Vec<u8>>,
    decline_note: Option<String>,
    decline_note_salt: Option<Vec<u8>>,
    ended_at: Option<DateTime<Utc>>,
    token_generation: i16,
    token_salt: Vec<u8>,
    token_hash: Vec<u8>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = document)]
struct DocumentRow {
    id: Uuid,
    name: String,
    sha256: Vec<u8>,
    size_bytes: i64,
    page_count: i32,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = artifact)]
struct ArtifactRow {
    document_id: Uuid,
    version: i16,
    sha256: Vec<u8>,
    size_bytes: i64,
    created_at: DateTime<Utc>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = field)]
struct FieldRow {
    id: Uuid,
    kind: i16,
    recipient_id: Uuid,
    document_id: Uuid,
    page: i32,
    x_percent: f64,
    y_percent: f64,
    width_percent: f64,
    height_percent: f64,
    required: bool,
    name: String,
    text_value: Option<String>,
    checked_value: Option<bool>,
}

/// What belongs to an envelope, as rows.
pub(super) struct Parts {
    recipients: Vec<RecipientRow>,
    documents: Vec<DocumentRow>,
    artifacts: Vec<ArtifactRow>,
    fields: Vec<FieldRow>,
}

pub(super) async fn lock(
    mut conn: &AsyncPgConnection,
    account: AccountId,
    id: EnvelopeId,
) -> QueryResult<Option<EnvelopeRow>> {
    envelope::table
        .filter(envelope::account_id.eq(account.uuid()))
        .filter(envelope::id.eq(id.uuid()))
        .select(EnvelopeRow::as_select())
        .for_no_key_update()
        .get_result(&mut conn)
        .await
        .optional()
}

async fn row(mut conn: &AsyncPgConnection, account: AccountId, id: EnvelopeId) -> QueryResult<Option<EnvelopeRow>> {
    envelope::table
        .filter(envelope::account_id.eq(account.uuid()))
        .filter(envelope::id.eq(id.uuid()))
        .select(EnvelopeRow::as_select())
        .get_result(&mut conn)
        .await
        .optional()
}

/// All that belongs to an envelope: four statements that travel together.
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
    let (recipients, documents, artifacts, fields) = futures_util::join!(recipients, documents, artifacts, fields);
    Ok(Parts { recipients: recipients?, documents: documents?, artifacts: artifacts?, fields: fields? })
}

impl Store {
    /// The envelope as of one instant: one flight under one snapshot. In a task of its own: a caller who hangs up must not
    /// cost a connection.
    pub async fn envelope(&self, scope: Scope, id: EnvelopeId) -> Result<Option<Envelope>, DatabaseError> {
        let store = self.clone();
        let read = tokio::spawn(async move { store.read(scope, id).await }.in_current_span());
        read.await.unwrap_or(Err(DatabaseError::Busy))
    }

    async fn read(&self, scope: Scope, id: EnvelopeId) -> Result<Option<Envelope>, DatabaseError> {
        enum Snapshot {}
        let flight = Flight::open(&self.pool).await?;
        let mut conn = flight.connection();
        let begin = diesel::sql_query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        let begin = prepared::<Snapshot, _>(begin).execute(&mut conn);
        let conn = flight.connection();
        let (begun, row, parts, ended) =
            futures_util::join!(begin, row(conn, scope.account, id), parts(conn, scope.account, id), flight.commit());
        begun?;
        let (row, parts) = (row?, parts?);
        ended?;
        flight.close();
        let Some(row) = row.filter(|row| scope.livemode.is_none_or(|mode| mode == row.livemode)) else {
            return Ok(None);
        };
        Ok(Some(assemble(row, parts)?))
    }

    /// A page of the account's envelopes, newest first.
    pub async fn envelopes(&self, scope: Scope, filter: Filter) -> Result<Vec<Summary>, DatabaseError> {
        type Row = (Uuid, i16, String, i64, DateTime<Utc>, DateTime<Utc>, bool);
        let mut conn = acquire(&self.pool).await?;
        let page = envelope::table
            .filter(envelope::account_id.eq(scope.account.uuid()))
            .filter(envelope::livemode.eq(scope.livemode.unwrap_or(true)))
            // Always bounded, so that every page is the same prepared statement.
            .filter(envelope::id.lt(filter.before.map_or(Uuid::max(), |id| id.uuid())))
            .order(envelope::id.desc())
            .limit(filter.limit)
            .select((
                envelope::id,
                envelope::status,
                envelope::subject,
                envelope::revision,
                envelope::created_at,
                envelope::expires_at,
                envelope::requires_replacement,
            ));
        let rows: Vec<Row> = match filter.status {
            None => page.load(&mut conn).await?,
            Some(status) => page.filter(envelope::status.eq(status as i16)).load(&mut conn).await?,
        };
        rows.into_iter()
            .map(|(id, status, subject, revision, created_at, expires_at, requires_replacement)| {
                Ok(Summary {
                    id: EnvelopeId::from_uuid(id),
                    status: status_of(status).ok_or_else(|| corrupt("status"))?,
                    subject,
                    revision: revision.unsigned_abs(),
                    created_at,
                    expires_at,
                    requires_replacement,
                })
            })
            .collect()
    }

    /// Open envelopes whose deadline has passed.
    pub async fn overdue(&self, now: DateTime<Utc>, limit: i64) -> Result<Vec<(AccountId, EnvelopeId)>, DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<(Uuid, Uuid)> = envelope::table
            .filter(envelope::expires_at.le(now))
            .filter(envelope::dispatched_at.is_not_null())
            .filter(envelope::all_acted_at.is_null())
            .filter(envelope::declined_at.is_null())
            .filter(envelope::voided_at.is_null())
            .filter(envelope::expired_at.is_null())
            .order(envelope::expires_at)
            .limit(limit)
            .select((envelope::account_id, envelope::id))
            .load(&mut conn)
            .await?;
        Ok(rows.into_iter().map(|(account, id)| (AccountId::from_uuid(account), EnvelopeId::from_uuid(id))).collect())
    }
}

fn status_of(code: i16) -> Option<Status> {
    Status::ALL.into_iter().find(|status| *status as i16 == code)
}

fn digest(bytes: Vec<u8>) -> QueryResult<[u8; 32]> {
    bytes.try_into().map_err(|_| corrupt("digest"))
}

fn committed(text: Option<String>, salt: Option<Vec<u8>>) -> QueryResult<Option<Committed>> {
    let (Some(text), Some(salt)) = (text, salt) else { return Ok(None) };
    let salt = salt.try_into().map_err(|_| corrupt("salt"))?;
    Ok(Some(Committed { text: Personal::new(text), salt }))
}

/// The aggregate from its rows.
pub(super) fn assemble(row: EnvelopeRow, parts: Parts) -> QueryResult<Envelope> {
    let mut documents: Vec<Document> = parts.documents.into_iter().map(document_of).collect::<QueryResult<_>>()?;
    for artifact in parts.artifacts {
        let id = DocumentId::from_uuid(artifact.document_id);
        let artifact = artifact_of(artifact)?;
        documents
            .iter_mut()
            .filter(|document| document.id == id)
            .for_each(|document| document.artifacts.push(artifact.clone()));
    }
    Ok(Envelope {
        account: AccountId::from_uuid(row.account_id),
        id: EnvelopeId::from_uuid(row.id),
        livemode: row.livemode,
        revision: row.revision.unsigned_abs(),
        sequence: row.sequence.unsigned_abs(),
        chain: digest(row.chain)?,
        last_event_at: row.last_event_at,
        subject: row.subject,
        message: row.message,
        routing: match row.routing {
            1 => Routing::Parallel,
            2 => Routing::Sequential,
            _ => return Err(corrupt("routing")),
        },
        facts: Facts {
            created_at: row.created_at,
            dispatched_at: row.dispatched_at,
            sent_at: row.sent_at,
            first_signed_at: row.first_signed_at,
            all_acted_at: row.all_acted_at,
            completed_at: row.completed_at,
            declined_at: row.declined_at,
            voided_at: row.voided_at,
            expired_at: row.expired_at,
        },
        expires_at: row.expires_at,
        void_reason: committed(row.void_reason, row.void_reason_salt)?,
        requires_replacement: row.requires_replacement,
        recipients: parts.recipients.into_iter().map(recipient_of).collect::<QueryResult<_>>()?,
        documents,
        fields: parts.fields.into_iter().map(field_of).collect::<QueryResult<_>>()?,
    })
}

fn recipient_of(row: RecipientRow) -> QueryResult<Recipient> {
    let missing = || corrupt("facts of a recipient");
    let released_at = row.released_at;
    let ended = |end| -> QueryResult<RecipientState> {
        Ok(RecipientState::ReleasedBy { end, released_at, at: row.ended_at.ok_or_else(missing)? })
    };
    let state = match row.status {
        1 => RecipientState::Waiting,
        2 => RecipientState::Released { at: released_at.ok_or_else(missing)? },
        3 => RecipientState::Signed {
            released_at: released_at.ok_or_else(missing)?,
            at: row.signed_at.ok_or_else(missing)?,
            salt: row.signature_salt.and_then(|salt| salt.try_into().ok()).ok_or_else(missing)?,
            effective: row.effective.ok_or_else(missing)?,
        },
        4 => RecipientState::Declined {
            released_at,
            at: row.declined_at.ok_or_else(missing)?,
            channel: match row.decline_channel {
                Some(1) => Channel::SigningToken,
                Some(2) => Channel::OnBehalf,
                _ => return Err(missing()),
            },
            reason: committed(row.decline_reason, row.decline_reason_salt)?,
            note: committed(row.decline_note, row.decline_note_salt)?,
        },
        5 => ended(End::Declined)?,
        6 => ended(End::Voided)?,
        7 => ended(End::Expired)?,
        _ => return Err(missing()),
    };
    Ok(Recipient {
        id: RecipientId::from_uuid(row.id),
        name: Personal::new(row.name),
        email: Personal::new(row.email),
        role: if row.role == 1 { Role::Signer } else { return Err(corrupt("role")) },
        label: row.label,
        group: row.group_number.unsigned_abs(),
        state,
        credential: Credential {
            generation: row.token_generation.unsigned_abs(),
            salt: row.token_salt.try_into().map_err(|_| corrupt("token"))?,
            hash: digest(row.token_hash)?,
        },
    })
}

fn document_of(row: DocumentRow) -> QueryResult<Document> {
    Ok(Document {
        id: DocumentId::from_uuid(row.id),
        name: row.name,
        sha256: digest(row.sha256)?,
        size_bytes: row.size_bytes.unsigned_abs(),
        page_count: row.page_count.unsigned_abs(),
        artifacts: Vec::new(),
    })
}

fn artifact_of(row: ArtifactRow) -> QueryResult<Artifact> {
    Ok(Artifact {
        version: match row.version {
            2 => Version::Signed,
            3 => Version::Declined,
            _ => return Err(corrupt("version")),
        },
        sha256: digest(row.sha256)?,
        size_bytes: row.size_bytes.unsigned_abs(),
        created_at: row.created_at,
    })
}

fn field_of(row: FieldRow) -> QueryResult<Field> {
    Ok(Field {
        id: FieldId::from_uuid(row.id),
        kind: match row.kind {
            1 => FieldType::Signature,
            2 => FieldType::Initials,
            3 => FieldType::Name,
            4 => FieldType::Email,
            5 => FieldType::Date,
            6 => FieldType::Text,
            7 => FieldType::Checkbox,
            _ => return Err(corrupt("kind of field")),
        },
        recipient: RecipientId::from_uuid(row.recipient_id),
        document: DocumentId::from_uuid(row.document_id),
        placement: Placement {
            page: row.page.unsigned_abs(),
            x_percent: row.x_percent,
            y_percent: row.y_percent,
            width_percent: row.width_percent,
            height_percent: row.height_percent,
        },
        required: row.required,
        name: row.name,
        value: match (row.text_value, row.checked_value) {
            (Some(text), _) => Some(Value::Text(Personal::new(text))),
            (None, Some(checked)) => Some(Value::Checked(checked)),
            (None, None) => None,
        },
    })
}
