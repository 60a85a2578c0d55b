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
use super::command::Actor;
use super::envelope::{Artifact, Digest, Envelope, RecipientState};
use super::event::{Event, EventType};
use super::field::Value;
use super::id::{AccountId, DocumentId, EnvelopeId, EventId, FieldId, RecipientId};
use super::personal::{Committed, Salt};
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
}

/// The envelope right after the event, without personal data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the contract's EnvelopeState")]
pub struct State {
    pub status: Status,
    pub expires_at: DateTime<Utc>,
    pub recipients: Vec<RecordedRecipient>,
    pub documents: Vec<RecordedDocument>,
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
}

/// What else the event proves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// What the signer was shown: document and SHA-256.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<(DocumentId, String)>,
    /// SHA-256 of the text to which the signer agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent_sha256: Option<String>,
    /// Commitment to the values, see [`commit_values`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<String>,
    /// Through which door a refusal came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<u8>,
    /// Commitment to the reason: SHA-256 of salt and text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Commitment to the evidence note: SHA-256 of salt and text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a signer agrees to. A change of the text is a change of the evidence: the history keeps its hash.
pub const CONSENT_TEXT: &str = "I agree to sign these documents electronically. My electronic signature is meant to have \
     the same effect as my signature by hand. I have been able to read the documents in full before signing.";

/// Applies events to an envelope and writes each down, in order, as one change of it. `new_id` gives ids.
pub fn seal(
    envelope: &mut Envelope,
    events: &[Event],
    actor: Actor,
    now: DateTime<Utc>,
    mut new_id: impl FnMut() -> Uuid,
) -> Vec<Recorded> {
    if events.is_empty() {
        return Vec::new();
    }
    envelope.revision += 1;
    // A clock that was set back must not make an event precede its predecessor.
    let at = now.max(envelope.last_event_at);
    envelope.last_event_at = at;
    events.iter().map(|event| seal_one(envelope, event, actor, at, EventId::from_uuid(new_id()))).collect()
}

fn seal_one(envelope: &mut Envelope, event: &Event, actor: Actor, at: DateTime<Utc>, id: EventId) -> Recorded {
    apply(envelope, event, at);
    envelope.sequence += 1;
    let record = Record {
        form: FORM,
        id,
        kind: event.kind(),
        account: envelope.account,
        livemode: envelope.livemode,
        envelope: envelope.id,
        sequence: envelope.sequence,
        revision: envelope.revision,
        occurred_at: at,
        actor: match actor {
            Actor::Sender(key) => RecordedActor::Sender(key.to_string()),
            Actor::Recipient(recipient) => RecordedActor::Recipient(recipient.to_string()),
            Actor::System => RecordedActor::System,
        },
        recipient: event.recipient(),
        state: state(envelope),
        evidence: evidence(event),
    };
    // Serialising a struct of strings and numbers into memory cannot fail.
    let bytes = serde_json::to_vec(&record).unwrap_or_default();
    let prev_hash = envelope.chain;
    envelope.chain = link(envelope.sequence, &prev_hash, &bytes);
    Recorded {
        id,
        kind: record.kind,
        recipient: record.recipient,
        sequence: record.sequence,
        occurred_at: at,
        record: bytes,
        prev_hash,
        hash: envelope.chain,
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

fn state(envelope: &Envelope) -> State {
    State {
        status: envelope.status(),
        expires_at: envelope.expires_at,
        recipients: envelope
            .recipients
            .iter()
            .map(|recipient| RecordedRecipient {
                id: recipient.id,
                role: recipient.role as u8,
                group: recipient.group,
                status: recipient.state.code(),
                not_effective: matches!(recipient.state, RecipientState::Signed { effective: false, .. }),
            })
            .collect(),
        documents: envelope
            .documents
            .iter()
            .map(|document| RecordedDocument {
                id: document.id,
                sha256: hex::encode(document.sha256),
                artifacts: document.artifacts.iter().map(RecordedArtifact::from).collect(),
            })
            .collect(),
    }
}

impl From<&Artifact> for RecordedArtifact {
    fn from(artifact: &Artifact) -> Self {
        Self {
            version: artifact.version as u8,
            sha256: hex::encode(artifact.sha256),
            size_bytes: artifact.size_bytes,
            created_at: artifact.created_at,
        }
    }
}

fn evidence(event: &Event) -> Option<Evidence> {
    match event {
        Event::Signed { values, seen, salt, .. } => Some(Evidence {
            seen: seen.iter().map(|(id, sha256)| (*id, hex::encode(sha256))).collect(),
            consent_sha256: Some(hex::encode(Sha256::digest(CONSENT_TEXT))),
            values: Some(commit_values(values, salt)),
            ..Evidence::default()
        }),
        Event::RecipientDeclined { channel, reason, note, .. } => Some(Evidence {
            channel: Some(*channel as u8),
            reason: reason.as_ref().map(commit),
            note: note.as_ref().map(commit),
            ..Evidence::default()
        }),
        Event::Voided { reason: Some(reason) } => {
            Some(Evidence { reason: Some(commit(reason)), ..Evidence::default() })
        }
        Event::Created
        | Event::Sent
        | Event::Released { .. }
        | Event::AllActed
        | Event::Completed { .. }
        | Event::Declined
        | Event::ReleasedByDecline { .. }
        | Event::Voided { reason: None }
        | Event::Expired
        | Event::ArtifactReady { .. } => None,
    }
}

/// Commitment to a text: SHA-256 of salt and text, in hexadecimal digits.
#[must_use]
pub fn commit(committed: &Committed) -> String {
    let mut hash = Sha256::new();
    hash.update(committed.salt);
    hash.update(committed.text.reveal());
    hex::encode(hash.finalize())
}

/// Commitment to field values: SHA-256 of the salt, then for each field its id, a zero byte, the value (`true` and `false`
/// for ticks) and another zero byte.
#[must_use]
pub fn commit_values(values: &[(FieldId, Value)], salt: &Salt) -> String {
    let mut hash = Sha256::new();
    hash.update(salt);
    for (id, value) in values {
        hash.update(id.to_string());
        hash.update([0]);
        match value {
            Value::Text(text) => hash.update(text.reveal()),
            Value::Checked(true) => hash.update("true"),
            Value::Checked(false) => hash.update("false"),
        }
        hash.update([0]);
    }
    hex::encode(hash.finalize())
}
