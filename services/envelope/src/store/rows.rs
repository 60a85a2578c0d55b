//! The aggregate from its rows. A row that cannot be one of ours is reported as such instead of being read as something else.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde_json::Value as Json;
use uuid::Uuid;

use super::ingest::{awaits_of, fault_of, original_of};
use super::notices::{locality_of, notices_of};
use super::schema::{artifact, document, envelope, field, keeping, recipient};
use super::settings::charge_of;
use super::terms::{decline_policy_of, rules_of, terms_of};
use super::{Scope, corrupt};
use crate::domain::drawn::Drawn;
use crate::domain::envelope::{Artifact, Cause, Document, End, Envelope, Ingest, SealLevel, Version};
use crate::domain::field::{Field, FieldType, Placement, Value};
use crate::domain::id::{AccountId, DocumentId, EnvelopeId, FieldId, RecipientId};
use crate::domain::keeping::{Keeping, Retention};
use crate::domain::personal::Personal;
use crate::domain::recipient::{Channel, Credential, Ending, Person, Recipient, RecipientState, Role};
use crate::domain::status::{Facts, Status};

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
    external_reference: String,
    metadata: Json,
    terms: Json,
    scheduled_send_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    dispatched_at: Option<DateTime<Utc>>,
    sent_at: Option<DateTime<Utc>>,
    first_signed_at: Option<DateTime<Utc>>,
    all_acted_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
    declined_at: Option<DateTime<Utc>>,
    voided_at: Option<DateTime<Utc>>,
    expired_at: Option<DateTime<Utc>>,
    discarded_at: Option<DateTime<Utc>>,
    expires_at: DateTime<Utc>,
    warned_at: Option<DateTime<Utc>>,
    cause: Option<i16>,
    ended_by: Option<Uuid>,
    void_reason: Option<String>,
    requires_replacement: bool,
    replaces: Option<Uuid>,
    replaced_by: Option<Uuid>,
    charge: Option<Json>,
}

impl EnvelopeRow {
    /// How often it was changed, and once more.
    pub fn revision(&self) -> u64 {
        self.revision.unsigned_abs()
    }

    /// Whether the scope has it. A draft that was thrown away is nobody's.
    pub fn is_visible(&self, scope: Scope) -> bool {
        self.discarded_at.is_none() && self.is_in(scope)
    }

    /// Whether it is, or was, the scope's.
    pub fn is_in(&self, scope: Scope) -> bool {
        scope.livemode.is_none_or(|mode| mode == self.livemode)
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = recipient)]
pub(super) struct RecipientRow {
    id: Uuid,
    name: String,
    email: String,
    role: i16,
    assists: Option<Uuid>,
    copy_on_send: bool,
    label: String,
    group_number: i16,
    decline_policy: Option<Json>,
    status: i16,
    released_at: Option<DateTime<Utc>>,
    acted_at: Option<DateTime<Utc>>,
    effective: Option<bool>,
    declined_at: Option<DateTime<Utc>>,
    decline_channel: Option<i16>,
    decline_reason: Option<String>,
    decline_note: Option<String>,
    ended_at: Option<DateTime<Utc>>,
    viewed_at: Option<DateTime<Utc>>,
    invited_at: Option<DateTime<Utc>>,
    locality: Option<Json>,
    notices: Option<Json>,
    delegations: i16,
    filled_revision: i64,
    token_generation: i32,
    token_salt: Vec<u8>,
    token_hash: Vec<u8>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = document)]
pub(super) struct DocumentRow {
    id: Uuid,
    name: String,
    sha256: Vec<u8>,
    size_bytes: i64,
    page_count: i32,
    ingest: i16,
    original_sha256: Option<Vec<u8>>,
    original_size_bytes: Option<i64>,
    content_type: Option<i16>,
    awaits: Option<Json>,
    fault: Option<Json>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = artifact)]
pub(super) struct ArtifactRow {
    document_id: Uuid,
    version: i16,
    sha256: Vec<u8>,
    size_bytes: i64,
    created_at: DateTime<Utc>,
    seal: i16,
    is_bare: bool,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = field)]
pub(super) struct FieldRow {
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
    read_only: bool,
    name: String,
    rules: Option<Json>,
    text_value: Option<String>,
    checked_value: Option<bool>,
    drawn_value: Option<Vec<u8>>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = keeping)]
pub(super) struct KeepingRow {
    retention_days: i32,
    purge_warning_days: i16,
    draft_days: i16,
    purge_warned_at: Option<DateTime<Utc>>,
    legal_hold_at: Option<DateTime<Utc>>,
    purged_at: Option<DateTime<Utc>>,
}

/// What belongs to an envelope, as rows.
pub(super) struct Parts {
    pub keeping: Option<KeepingRow>,
    pub recipients: Vec<RecipientRow>,
    pub documents: Vec<DocumentRow>,
    pub artifacts: Vec<ArtifactRow>,
    pub fields: Vec<FieldRow>,
}

pub(super) fn status_of(code: i16) -> QueryResult<Status> {
    Status::ALL.into_iter().find(|status| *status as i16 == code).ok_or_else(|| corrupt("status"))
}

fn digest(bytes: Vec<u8>) -> QueryResult<[u8; 32]> {
    bytes.try_into().map_err(|_| corrupt("digest"))
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
    let cause = |code: i16| Cause::ALL.into_iter().find(|it| *it as i16 == code).ok_or_else(|| corrupt("cause"));
    let by = row.ended_by.map(RecipientId::from_uuid);
    Ok(Envelope {
        account: AccountId::from_uuid(row.account_id),
        id: EnvelopeId::from_uuid(row.id),
        livemode: row.livemode,
        revision: row.revision.unsigned_abs(),
        sequence: row.sequence.unsigned_abs(),
        chain: digest(row.chain)?,
        last_event_at: row.last_event_at,
        terms: terms_of(row.terms, row.subject, row.external_reference, row.metadata, row.scheduled_send_at)?,
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
            discarded_at: row.discarded_at,
        },
        expires_at: row.expires_at,
        warned_at: row.warned_at,
        end: row.cause.map(cause).transpose()?.map(|cause| End { cause, by }),
        void_reason: row.void_reason.map(Personal::new),
        requires_replacement: row.requires_replacement,
        replaces: row.replaces.map(EnvelopeId::from_uuid),
        replaced_by: row.replaced_by.map(EnvelopeId::from_uuid),
        charge: charge_of(row.charge)?,
        keeping: parts.keeping.map(keeping_of).ok_or_else(|| corrupt("keeping"))?,
        recipients: parts.recipients.into_iter().map(recipient_of).collect::<QueryResult<_>>()?,
        documents,
        fields: parts.fields.into_iter().map(field_of).collect::<QueryResult<_>>()?,
    })
}

fn keeping_of(row: KeepingRow) -> Keeping {
    Keeping {
        retention: Retention {
            days: row.retention_days.unsigned_abs(),
            warning_days: row.purge_warning_days.unsigned_abs(),
            draft_days: row.draft_days.unsigned_abs(),
        },
        warned_at: row.purge_warned_at,
        held_at: row.legal_hold_at,
        purged_at: row.purged_at,
    }
}

fn recipient_of(row: RecipientRow) -> QueryResult<Recipient> {
    let state = state_of(&row)?;
    let locality = locality_of(row.locality)?;
    let role = Role::ALL.into_iter().find(|role| *role as i16 == row.role).ok_or_else(|| corrupt("role"))?;
    Ok(Recipient {
        id: RecipientId::from_uuid(row.id),
        person: Person { name: Personal::new(row.name), email: Personal::new(row.email), locality },
        role,
        assists: row.assists.map(RecipientId::from_uuid),
        copy_on_send: row.copy_on_send,
        label: row.label,
        group: row.group_number.unsigned_abs(),
        decline: decline_policy_of(row.decline_policy)?,
        state,
        viewed_at: row.viewed_at,
        invited_at: row.invited_at,
        notices: notices_of(row.notices)?,
        delegations: row.delegations.unsigned_abs(),
        filled_revision: row.filled_revision.unsigned_abs(),
        credential: Credential {
            generation: row.token_generation.unsigned_abs(),
            salt: row.token_salt.try_into().map_err(|_| corrupt("token"))?,
            hash: digest(row.token_hash)?,
        },
    })
}

fn state_of(row: &RecipientRow) -> QueryResult<RecipientState> {
    let missing = || corrupt("facts of a recipient");
    let released_at = row.released_at;
    let ended = |end| -> QueryResult<RecipientState> {
        Ok(RecipientState::ReleasedBy { end, released_at, at: row.ended_at.ok_or_else(missing)? })
    };
    Ok(match row.status {
        1 => RecipientState::Waiting,
        2 => RecipientState::Released { at: released_at.ok_or_else(missing)? },
        3 | 8 => RecipientState::Acted {
            released_at: released_at.ok_or_else(missing)?,
            at: row.acted_at.ok_or_else(missing)?,
            effective: row.effective.ok_or_else(missing)?,
        },
        4 => RecipientState::Declined {
            released_at,
            at: row.declined_at.ok_or_else(missing)?,
            channel: match row.decline_channel {
                Some(1) => Channel::SigningToken,
                Some(2) => Channel::OnBehalf,
                Some(3) => Channel::User,
                _ => return Err(missing()),
            },
            reason: row.decline_reason.clone().map(Personal::new),
            note: row.decline_note.clone().map(Personal::new),
        },
        5 => ended(Ending::Declined)?,
        6 => ended(Ending::Voided)?,
        7 => ended(Ending::Expired)?,
        9 => RecipientState::NotNeeded { released_at, at: row.ended_at.ok_or_else(missing)? },
        _ => return Err(missing()),
    })
}

fn document_of(row: DocumentRow) -> QueryResult<Document> {
    let known = [Ingest::Processing, Ingest::Ready, Ingest::Failed];
    Ok(Document {
        id: DocumentId::from_uuid(row.id),
        name: row.name,
        sha256: digest(row.sha256)?,
        size_bytes: row.size_bytes.unsigned_abs(),
        page_count: row.page_count.unsigned_abs(),
        ingest: known.into_iter().find(|it| *it as i16 == row.ingest).ok_or_else(|| corrupt("ingest"))?,
        original: original_of(row.original_sha256, row.original_size_bytes, row.content_type)?,
        awaits: awaits_of(row.awaits)?,
        fault: fault_of(row.fault)?,
        artifacts: Vec::new(),
    })
}

fn artifact_of(row: ArtifactRow) -> QueryResult<Artifact> {
    Ok(Artifact {
        version: Version::ALL.into_iter().find(|it| *it as i16 == row.version).ok_or_else(|| corrupt("version"))?,
        sha256: digest(row.sha256)?,
        size_bytes: row.size_bytes.unsigned_abs(),
        created_at: row.created_at,
        seal: SealLevel::ALL.into_iter().find(|it| *it as i16 == row.seal).ok_or_else(|| corrupt("seal"))?,
        is_bare: row.is_bare,
    })
}

fn field_of(row: FieldRow) -> QueryResult<Field> {
    let (rules, preset) = rules_of(row.rules)?;
    let kind = FieldType::ALL.into_iter().find(|kind| *kind as i16 == row.kind);
    Ok(Field {
        id: FieldId::from_uuid(row.id),
        kind: kind.ok_or_else(|| corrupt("kind of field"))?,
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
        read_only: row.read_only,
        name: row.name,
        rules,
        preset,
        value: match (row.text_value, row.checked_value, row.drawn_value) {
            (Some(text), _, _) => Some(Value::Text(Personal::new(text))),
            (None, Some(checked), _) => Some(Value::Checked(checked)),
            (None, None, Some(sha256)) => Some(Value::Drawn(Drawn::kept(digest(sha256)?))),
            (None, None, None) => None,
        },
    })
}
