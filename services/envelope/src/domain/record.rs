//! The written form of an event: bytes that are stored, hashed and never changed.
//!
//! A record is a line of JSON with the envelope as it was right after the event and no personal data; to personal data it
//! holds salted commitments, so that the data can be erased and the history still verifies. The records of an envelope
//! form a chain: `hash = SHA-256(0x00 ‖ sequence as u64 big endian ‖ previous hash ‖ SHA-256(record))`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::apply::apply;
use super::command::{Actor, By, Edit};
use super::envelope::{Artifact, Digest, Envelope};
use super::event::{Event, EventType};
use super::id::{AccountId, DocumentId, EnvelopeId, EventId, RecipientId, WatcherId};
use super::particulars::{Particulars, commit};
use super::personal::Salt;
use super::recipient::RecipientState;
use super::status::Status;

/// The version of the form.
const FORM: u8 = 1;

/// An event with its place in the history, ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its id.
    pub id: EventId,
    /// Its kind.
    pub kind: EventType,
    /// The recipient whom it concerns.
    pub recipient: Option<RecipientId>,
    /// Its place, from 1.
    pub sequence: u64,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// The record.
    pub record: Vec<u8>,
    /// The hash of the event before.
    pub prev_hash: Digest,
    /// Its hash.
    pub hash: Digest,
    /// What is personal about it, under the salt of the record's commitment.
    pub kept: Option<(Salt, Vec<u8>)>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the contract's Event")]
pub struct Record {
    pub form: u8,
    pub id: EventId,
    #[serde(rename = "type")]
    pub kind: EventType,
    pub account: AccountId,
    pub livemode: bool,
    pub envelope: EnvelopeId,
    pub sequence: u64,
    pub revision: u64,
    pub occurred_at: DateTime<Utc>,
    pub actor: RecordedActor,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<RecipientId>,
    pub state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "id", rename_all = "snake_case")]
pub enum RecordedActor {
    /// The sender's key.
    Sender(String),
    /// The recipient.
    Recipient(String),
    /// The service.
    System,
    /// Who runs the service.
    Operator,
    /// A user of the account.
    User(String),
}

/// The envelope right after the event, without personal data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the contract's EnvelopeState")]
pub struct State {
    pub status: Status,
    pub expires_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<u8>,
    pub recipients: Vec<RecordedRecipient>,
    pub documents: Vec<RecordedDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watchers: Vec<WatcherId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_webhook: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub legal_hold: bool,
}

/// A recipient right after the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the contract's RecipientState")]
pub struct RecordedRecipient {
    pub id: RecipientId,
    pub role: u8,
    pub group: u16,
    pub status: u8,
    pub not_effective: bool,
}

/// A document right after the event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the contract's DocumentState")]
pub struct RecordedDocument {
    pub id: DocumentId,
    pub sha256: String,
    pub ingest: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<u8>,
    pub artifacts: Vec<RecordedArtifact>,
}

/// An artefact right after the event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the contract's Artifact")]
pub struct RecordedArtifact {
    pub version: u8,
    pub sha256: String,
    pub size_bytes: u64,
    pub created_at: DateTime<Utc>,
    pub seal: u8,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_bare: bool,
}

/// What else the event proves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// What the recipient was shown: document and SHA-256.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<(DocumentId, String)>,
    /// As of which revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_revision: Option<u64>,
    /// SHA-256 of the text to which the signer agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent_sha256: Option<String>,
    /// Through which door a refusal came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<u8>,
    /// The document that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentId>,
    /// The draft in the envelope's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<EnvelopeId>,
    /// What was changed: of a draft the names of the contract's EnvelopeChanges, `fields` and `documents`; of the keeping
    /// `retention_days` or `legal_hold`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Whether the recipient has a new link.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rotated: bool,
    /// Commitment to what is personal about the event, see [`commit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub particulars: Option<String>,
}

/// What a signer agrees to. A change of the text is a change of the evidence: the history keeps its hash.
pub const CONSENT_TEXT: &str = "I agree to sign these documents electronically. My electronic signature is meant to have \
     the same effect as my signature by hand. I have been able to read the documents in full before signing.";

/// Where ids and salts come from.
pub trait Mint {
    /// A fresh id.
    fn id(&mut self) -> Uuid;
    /// Random bytes.
    fn salt(&mut self) -> Salt;
}

/// Applies events to an envelope and writes each down, in order, as one change of it.
pub fn seal(
    envelope: &mut Envelope,
    events: &[Event],
    by: &By,
    now: DateTime<Utc>,
    mint: &mut impl Mint,
) -> Vec<Recorded> {
    if events.is_empty() {
        return Vec::new();
    }
    envelope.revision += 1;
    // A clock that was set back must not make an event precede its predecessor.
    let at = now.max(envelope.last_event_at);
    envelope.last_event_at = at;
    events.iter().map(|event| seal_one(envelope, event, by, at, mint)).collect()
}

fn seal_one(envelope: &mut Envelope, event: &Event, by: &By, at: DateTime<Utc>, mint: &mut impl Mint) -> Recorded {
    apply(envelope, event, at);
    envelope.sequence += 1;
    let kept = Particulars::of(event, &by.source).map(|particulars| (mint.salt(), particulars.bytes()));
    let mut evidence = evidence(event);
    evidence.particulars = kept.as_ref().map(|(salt, bytes)| commit(salt, bytes));
    // Whoever comes first after the deadline: it is not they who end the envelope.
    let actor = if matches!(event, Event::Expired) { Actor::System } else { by.actor };
    let record = Record {
        form: FORM,
        id: EventId::from_uuid(mint.id()),
        kind: event.kind(),
        account: envelope.account,
        livemode: envelope.livemode,
        envelope: envelope.id,
        sequence: envelope.sequence,
        revision: envelope.revision,
        occurred_at: at,
        actor: recorded_actor(actor),
        recipient: event.recipient(),
        state: state(envelope),
        evidence: (evidence != Evidence::default()).then_some(evidence),
    };
    // Serialising a struct of strings and numbers into memory cannot fail.
    let bytes = serde_json::to_vec(&record).unwrap_or_default();
    let prev_hash = envelope.chain;
    envelope.chain = link(envelope.sequence, &prev_hash, &bytes);
    Recorded {
        id: record.id,
        kind: record.kind,
        recipient: record.recipient,
        sequence: record.sequence,
        occurred_at: at,
        record: bytes,
        prev_hash,
        hash: envelope.chain,
        kept,
    }
}

fn recorded_actor(actor: Actor) -> RecordedActor {
    match actor {
        Actor::Sender(key) => RecordedActor::Sender(key.to_string()),
        Actor::Recipient(recipient) => RecordedActor::Recipient(recipient.to_string()),
        Actor::System => RecordedActor::System,
        Actor::Operator => RecordedActor::Operator,
        Actor::User(user) => RecordedActor::User(user.to_string()),
    }
}

/// The hash of a record in the chain.
#[must_use]
pub fn link(sequence: u64, prev_hash: &Digest, record: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(sequence.to_be_bytes());
    hash.update(prev_hash);
    hash.update(Sha256::digest(record));
    hash.finalize().into()
}

/// The envelope as a record has it.
pub(super) fn state(envelope: &Envelope) -> State {
    State {
        status: envelope.status(),
        expires_at: envelope.expires_at,
        cause: envelope.end.map(|end| end.cause as u8),
        recipients: envelope
            .recipients
            .iter()
            .map(|recipient| RecordedRecipient {
                id: recipient.id,
                role: recipient.role as u8,
                group: recipient.group,
                status: recipient.status(),
                not_effective: matches!(recipient.state, RecipientState::Acted { effective: false, .. }),
            })
            .collect(),
        documents: envelope
            .documents
            .iter()
            .map(|document| RecordedDocument {
                id: document.id,
                sha256: if document.is_read() { hex::encode(document.sha256) } else { String::new() },
                ingest: document.ingest as u8,
                original_sha256: document.original.map(|original| hex::encode(original.sha256)),
                fault: document.fault.as_ref().map(|fault| fault.reason as u8),
                artifacts: document.artifacts.iter().map(RecordedArtifact::from).collect(),
            })
            .collect(),
        watchers: envelope.terms.watchers.iter().map(|watcher| watcher.id).collect(),
        has_webhook: !envelope.terms.webhook_url.is_empty(),
        purge_at: envelope.purge_at(),
        legal_hold: envelope.keeping.held_at.is_some(),
    }
}

impl From<&Artifact> for RecordedArtifact {
    fn from(artifact: &Artifact) -> Self {
        Self {
            version: artifact.version as u8,
            sha256: hex::encode(artifact.sha256),
            size_bytes: artifact.size_bytes,
            created_at: artifact.created_at,
            seal: artifact.seal as u8,
            is_bare: artifact.is_bare,
        }
    }
}

fn evidence(event: &Event) -> Evidence {
    match event {
        Event::Signed(acted) | Event::Approved(acted) => Evidence {
            seen: acted.seen.iter().map(|(id, sha256)| (*id, hex::encode(sha256))).collect(),
            seen_revision: Some(acted.seen_revision),
            consent_sha256: matches!(event, Event::Signed(_)).then(|| hex::encode(Sha256::digest(CONSENT_TEXT))),
            ..Evidence::default()
        },
        Event::RecipientDeclined { channel, .. } => Evidence { channel: Some(*channel as u8), ..Evidence::default() },
        Event::Updated(edit) => {
            let changed = match edit {
                Edit::Terms(changes) => changes.names(),
                Edit::AddFields { .. } | Edit::RemoveFields(_) => vec!["fields"],
                Edit::ReplaceDocument { fields: None, .. } => vec!["documents"],
                Edit::ReplaceDocument { fields: Some(_), .. } => vec!["documents", "fields"],
            };
            Evidence { changed: changed.into_iter().map(str::to_owned).collect(), ..Evidence::default() }
        }
        Event::Retained { .. } => Evidence { changed: vec!["retention_days".to_owned()], ..Evidence::default() },
        Event::Held { .. } | Event::Freed { .. } => {
            Evidence { changed: vec!["legal_hold".to_owned()], ..Evidence::default() }
        }
        Event::Ingested { document, .. } => Evidence { document: Some(*document), ..Evidence::default() },
        Event::Replaced { by } => Evidence { replaced_by: Some(*by), ..Evidence::default() },
        Event::Resent { rotated, .. } => Evidence { rotated: *rotated, ..Evidence::default() },
        Event::Reassigned { .. } | Event::Delegated { .. } => Evidence { rotated: true, ..Evidence::default() },
        _ => Evidence::default(),
    }
}
