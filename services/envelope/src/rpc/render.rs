//! The domain as the contract words it.

use chrono::{DateTime, Utc};
use countersign::v1;
use countersign_chassis::wire::timestamp;

use crate::domain::envelope::{Artifact, Channel, Document, Envelope, Recipient, RecipientState, Routing};
use crate::domain::field::{Field, Value};
use crate::domain::personal::Committed;
use crate::domain::record::{CONSENT_TEXT, Record, RecordedActor, RecordedArtifact, State};
use crate::domain::status::Status;
use crate::store::{Stored, Summary};

fn when(at: Option<DateTime<Utc>>) -> Option<prost_types::Timestamp> {
    at.map(timestamp)
}

fn text(committed: Option<&Committed>) -> String {
    committed.map(|committed| committed.text.reveal().to_owned()).unwrap_or_default()
}

pub(super) fn status(status: Status) -> i32 {
    status as i32
}

/// The sender's view: everything.
pub(super) fn envelope(envelope: &Envelope) -> v1::Envelope {
    let facts = &envelope.facts;
    v1::Envelope {
        id: envelope.id.to_string(),
        account_id: envelope.account.to_string(),
        livemode: envelope.livemode,
        status: status(envelope.status()),
        terminal: envelope.status().is_terminal(),
        revision: envelope.revision,
        subject: envelope.subject.clone(),
        message: envelope.message.clone(),
        routing: match envelope.routing {
            Routing::Parallel => v1::Routing::Parallel,
            Routing::Sequential => v1::Routing::Sequential,
        }
        .into(),
        recipients: envelope.recipients.iter().map(recipient).collect(),
        documents: envelope.documents.iter().map(document).collect(),
        fields: envelope.fields.iter().map(field).collect(),
        created_at: Some(timestamp(facts.created_at)),
        dispatched_at: when(facts.dispatched_at),
        sent_at: when(facts.sent_at),
        first_signed_at: when(facts.first_signed_at),
        all_acted_at: when(facts.all_acted_at),
        completed_at: when(facts.completed_at),
        declined_at: when(facts.declined_at),
        voided_at: when(facts.voided_at),
        expired_at: when(facts.expired_at),
        expires_at: Some(timestamp(envelope.expires_at)),
        void_reason: text(envelope.void_reason.as_ref()),
        requires_replacement: envelope.requires_replacement,
    }
}

pub(super) fn summary(summary: Summary) -> v1::EnvelopeSummary {
    v1::EnvelopeSummary {
        id: summary.id.to_string(),
        status: status(summary.status),
        subject: summary.subject,
        revision: summary.revision,
        created_at: Some(timestamp(summary.created_at)),
        expires_at: Some(timestamp(summary.expires_at)),
        requires_replacement: summary.requires_replacement,
    }
}

/// A recipient's view: their own fields, nobody else's data.
pub(super) fn session(envelope: &Envelope, own: &Recipient) -> v1::SigningSession {
    let mut recipient = recipient(own);
    if let Some(decline) = &mut recipient.decline {
        // The sender's own note.
        decline.evidence_note.clear();
    }
    v1::SigningSession {
        envelope_id: envelope.id.to_string(),
        envelope_status: status(envelope.status()),
        revision: envelope.revision,
        subject: envelope.subject.clone(),
        message: envelope.message.clone(),
        recipient: Some(recipient),
        documents: envelope.documents.iter().map(document).collect(),
        fields: envelope.fields.iter().filter(|field| field.recipient == own.id).map(field).collect(),
        expires_at: Some(timestamp(envelope.expires_at)),
        consent_text: CONSENT_TEXT.to_owned(),
    }
}

fn recipient(recipient: &Recipient) -> v1::Recipient {
    let (signed_at, not_effective) = match &recipient.state {
        RecipientState::Signed { at, effective, .. } => (Some(*at), !effective),
        _ => (None, false),
    };
    let decline = match &recipient.state {
        RecipientState::Declined { at, channel, reason, note, .. } => Some(v1::Decline {
            declined_at: Some(timestamp(*at)),
            channel: match channel {
                Channel::SigningToken => v1::DeclineChannel::SigningToken,
                Channel::OnBehalf => v1::DeclineChannel::OnBehalf,
            }
            .into(),
            reason: text(reason.as_ref()),
            evidence_note: text(note.as_ref()),
        }),
        _ => None,
    };
    v1::Recipient {
        id: recipient.id.to_string(),
        name: recipient.name.reveal().to_owned(),
        email: recipient.email.reveal().to_owned(),
        role: recipient.role as i32,
        label: recipient.label.clone(),
        group: recipient.group.into(),
        status: recipient.state.code().into(),
        released_at: when(recipient.released_at()),
        signed_at: when(signed_at),
        not_effective,
        decline,
    }
}

fn document(document: &Document) -> v1::Document {
    v1::Document {
        id: document.id.to_string(),
        name: document.name.clone(),
        sha256: hex::encode(document.sha256),
        size_bytes: document.size_bytes,
        page_count: document.page_count,
        artifacts: document.artifacts.iter().map(artifact).collect(),
    }
}

fn artifact(artifact: &Artifact) -> v1::Artifact {
    recorded_artifact(&RecordedArtifact::from(artifact))
}

fn recorded_artifact(artifact: &RecordedArtifact) -> v1::Artifact {
    v1::Artifact {
        version: artifact.version.into(),
        sha256: artifact.sha256.clone(),
        size_bytes: artifact.size_bytes,
        created_at: Some(timestamp(artifact.created_at)),
    }
}

fn field(field: &Field) -> v1::Field {
    v1::Field {
        id: field.id.to_string(),
        r#type: field.kind as i32,
        recipient_id: field.recipient.to_string(),
        document_id: field.document.to_string(),
        placement: Some(v1::Placement {
            page: field.placement.page,
            x_percent: field.placement.x_percent,
            y_percent: field.placement.y_percent,
            width_percent: field.placement.width_percent,
            height_percent: field.placement.height_percent,
        }),
        required: field.required,
        name: field.name.clone(),
        value: field.value.as_ref().map(|value| v1::FieldValue {
            value: Some(match value {
                Value::Text(text) => v1::field_value::Value::Text(text.reveal().to_owned()),
                Value::Checked(checked) => v1::field_value::Value::Checked(*checked),
            }),
        }),
    }
}

/// A stored event. Fails only if the stored record is not one of ours.
pub(super) fn event(stored: &Stored) -> Result<v1::Event, serde_json::Error> {
    let record: Record = serde_json::from_slice(&stored.record)?;
    let (actor, actor_id) = match record.actor {
        RecordedActor::Sender(id) => (v1::ActorType::Sender, id),
        RecordedActor::Recipient(id) => (v1::ActorType::Recipient, id),
        RecordedActor::System => (v1::ActorType::System, String::new()),
    };
    Ok(v1::Event {
        id: record.id.to_string(),
        r#type: record.kind as i32,
        account_id: record.account.to_string(),
        livemode: record.livemode,
        envelope_id: record.envelope.to_string(),
        sequence: record.sequence,
        revision: record.revision,
        occurred_at: Some(timestamp(record.occurred_at)),
        actor: Some(v1::Actor { r#type: actor.into(), id: actor_id }),
        recipient_id: record.recipient.map(|id| id.to_string()).unwrap_or_default(),
        state: Some(state(&record.state)),
        prev_hash: hex::encode(stored.prev_hash),
        hash: hex::encode(stored.hash),
    })
}

fn state(state: &State) -> v1::EnvelopeState {
    v1::EnvelopeState {
        status: status(state.status),
        terminal: state.status.is_terminal(),
        expires_at: Some(timestamp(state.expires_at)),
        recipients: state
            .recipients
            .iter()
            .map(|recipient| v1::RecipientState {
                id: recipient.id.to_string(),
                role: recipient.role.into(),
                group: recipient.group.into(),
                status: recipient.status.into(),
                not_effective: recipient.not_effective,
            })
            .collect(),
        documents: state
            .documents
            .iter()
            .map(|document| v1::DocumentState {
                id: document.id.to_string(),
                sha256: document.sha256.clone(),
                artifacts: document.artifacts.iter().map(recorded_artifact).collect(),
            })
            .collect(),
    }
}
