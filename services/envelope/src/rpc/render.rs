//! The domain as the contract words it.

use chrono::{DateTime, Utc};
use countersign::v1;
use countersign_chassis::wire::timestamp;

use super::{notices, settings};
use crate::domain::envelope::{Artifact, Document, Envelope};
use crate::domain::field::{Field, FieldType, Rules, Value};
use crate::domain::ingest::{ContentType, IngestFault, MarkerFault, Original};
use crate::domain::particulars::Named;
use crate::domain::personal::Personal;
use crate::domain::recipient::{Recipient, RecipientState};
use crate::domain::record::{CONSENT_TEXT, Record, RecordedActor, RecordedArtifact, State};
use crate::domain::refusal::Transition;
use crate::domain::status::Status;
use crate::domain::terms::DeclinePolicy;
use crate::domain::verify::Entry;
use crate::store::Summary;

fn when(at: Option<DateTime<Utc>>) -> Option<prost_types::Timestamp> {
    at.map(timestamp)
}

fn text(personal: Option<&Personal>) -> String {
    personal.map(|personal| personal.reveal().to_owned()).unwrap_or_default()
}

fn id<T: ToString>(id: Option<T>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

pub(super) fn status(status: Status) -> i32 {
    status as i32
}

/// The sender's view: everything.
pub(super) fn envelope(envelope: &Envelope) -> v1::Envelope {
    let (facts, terms) = (&envelope.facts, &envelope.terms);
    let ended_by = envelope.end.and_then(|end| end.by);
    v1::Envelope {
        id: envelope.id.to_string(),
        account_id: envelope.account.to_string(),
        livemode: envelope.livemode,
        status: status(envelope.status()),
        terminal: envelope.status().is_terminal(),
        revision: envelope.revision,
        subject: terms.subject.clone(),
        message: terms.message.clone(),
        routing: terms.routing as i32,
        recipients: envelope.recipients.iter().map(|own| recipient(envelope, own)).collect(),
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
        replacement_reason: replacement_reason(envelope),
        external_reference: terms.external_reference.clone(),
        metadata: terms.metadata.clone().into_iter().collect(),
        watchers: terms
            .watchers
            .iter()
            .map(|it| v1::Watcher { id: it.id.to_string(), email: it.email.reveal().to_owned() })
            .collect(),
        scheduled_send_at: when(terms.scheduled_send_at),
        quorums: terms
            .quorums
            .iter()
            .map(|it| v1::Quorum { group: it.group.into(), needed: it.needed.into() })
            .collect(),
        decline_policy: Some(policy(&terms.decline)),
        delegations_max: terms.delegations_max.into(),
        expiry_warning: terms.expiry_warning.map(|it| prost_types::Duration { seconds: it.num_seconds(), nanos: 0 }),
        expiry_warned_at: when(envelope.warned_at),
        fields_status: envelope.ingest() as i32,
        cause: envelope.end.map_or(0, |end| end.cause as i32),
        ended_by_recipient_id: id(ended_by),
        replaces_envelope_id: id(envelope.replaces),
        replaced_by_envelope_id: id(envelope.replaced_by),
        charge: envelope.charge.as_ref().map(settings::charge),
        tell_acted_recipients: terms.tell_acted,
        reminder_policy: Some(notices::reminders_of(&terms.reminders)),
        webhook_url: terms.webhook_url.clone(),
        retention_days: envelope.keeping.retention.days,
        purge_at: when(envelope.purge_at()),
        purged_at: when(envelope.keeping.purged_at),
        legal_hold_since: when(envelope.keeping.held_at),
    }
}

/// Why the sender owes a replacement.
fn replacement_reason(envelope: &Envelope) -> String {
    let ended_by = envelope.end.and_then(|end| end.by).and_then(|id| envelope.recipient(id));
    match ended_by.map(|recipient| &recipient.state) {
        Some(RecipientState::Declined { reason, .. }) if envelope.requires_replacement => text(reason.as_ref()),
        _ => String::new(),
    }
}

pub(super) fn policy(policy: &DeclinePolicy) -> v1::DeclinePolicy {
    v1::DeclinePolicy { disabled: !policy.enabled, reason: policy.reason as i32, effect: policy.effect as i32 }
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
        external_reference: summary.external_reference,
    }
}

/// A recipient's view: their own fields (an assistant's: those of their signer), nobody else's address.
pub(super) fn session(envelope: &Envelope, own: &Recipient, allowed: &[Transition]) -> v1::SigningSession {
    let mut recipient = recipient(envelope, own);
    if let Some(decline) = &mut recipient.decline {
        // The sender's own note.
        decline.evidence_note.clear();
    }
    let filler = own.assists.unwrap_or(own.id);
    let shown = |given: &Field| {
        let mut shown = field(given);
        if own.assists.is_some() && given.kind == FieldType::Email {
            shown.value = None;
        }
        shown
    };
    let idle = own.assists.is_some_and(|signer| !envelope.recipient(signer).is_some_and(Recipient::is_released));
    let participant = |other: &Recipient| v1::Participant {
        name: other.person.name.reveal().to_owned(),
        role: other.role as i32,
        status: other.status().into(),
    };
    v1::SigningSession {
        envelope_id: envelope.id.to_string(),
        envelope_status: status(envelope.status()),
        revision: envelope.revision,
        subject: envelope.terms.subject.clone(),
        message: envelope.terms.message.clone(),
        recipient: Some(recipient),
        documents: envelope.documents.iter().map(document).collect(),
        fields: envelope.fields.iter().filter(|field| field.recipient == filler).map(shown).collect(),
        expires_at: Some(timestamp(envelope.expires_at)),
        consent_text: CONSENT_TEXT.to_owned(),
        your_turn: own.is_released() && envelope.facts.is_open() && !idle,
        allowed_transitions: allowed.iter().map(|transition| *transition as i32).collect(),
        decline_policy: Some(policy(&own.decline.unwrap_or(envelope.terms.decline))),
        participants: envelope.recipients.iter().map(participant).collect(),
    }
}

fn recipient(envelope: &Envelope, recipient: &Recipient) -> v1::Recipient {
    let locality = recipient.person.locality.or(&envelope.terms.locality);
    let notices = &recipient.notices;
    let (signed_at, not_effective) = match &recipient.state {
        RecipientState::Acted { at, effective, .. } => (Some(*at), !effective),
        _ => (None, false),
    };
    let decline = match &recipient.state {
        RecipientState::Declined { at, channel, reason, note, .. } => Some(v1::Decline {
            declined_at: Some(timestamp(*at)),
            channel: *channel as i32,
            reason: text(reason.as_ref()),
            evidence_note: text(note.as_ref()),
        }),
        _ => None,
    };
    v1::Recipient {
        id: recipient.id.to_string(),
        name: recipient.person.name.reveal().to_owned(),
        email: recipient.person.email.reveal().to_owned(),
        role: recipient.role as i32,
        label: recipient.label.clone(),
        group: recipient.group.into(),
        status: recipient.status().into(),
        released_at: when(recipient.released_at()),
        signed_at: when(signed_at),
        not_effective,
        decline,
        assists_recipient_id: id(recipient.assists),
        copy_on_send: recipient.copy_on_send,
        decline_policy: recipient.decline.as_ref().map(policy),
        viewed_at: when(recipient.viewed_at),
        invited_at: when(recipient.invited_at),
        delegations: recipient.delegations.into(),
        link_generation: recipient.credential.generation,
        time_zone: locality.zone_name().to_owned(),
        locale: locality.locale,
        reminders: notices.reminders.into(),
        last_reminder_at: when(notices.last_reminder_at),
        next_reminder_at: when(envelope.reminder_of(recipient)),
        reminders_muted_at: when(notices.muted_at),
        bounced_at: when(notices.bounced_at),
    }
}

pub(super) fn named(named: &Named) -> v1::Person {
    let (name, email) = (named.name.clone(), named.email.clone());
    v1::Person { name, email, locale: named.locale.clone(), time_zone: named.time_zone.clone() }
}

fn document(document: &Document) -> v1::Document {
    let (sha256, size_bytes) = (document.sha256, document.size_bytes);
    let itself = || Original { sha256, size_bytes, content_type: ContentType::Pdf };
    let original = document.original.or_else(|| document.is_read().then(itself));
    v1::Document {
        id: document.id.to_string(),
        name: document.name.clone(),
        sha256: if document.is_read() { hex::encode(document.sha256) } else { String::new() },
        size_bytes: document.size_bytes,
        page_count: document.page_count,
        artifacts: document.artifacts.iter().map(artifact).collect(),
        ingest_status: document.ingest as i32,
        ingest_fault: document.fault.as_ref().map(ingest_fault),
        content_type: original.map(|it| it.content_type.media_type().to_owned()).unwrap_or_default(),
        original_sha256: original.map(|it| hex::encode(it.sha256)).unwrap_or_default(),
        original_size_bytes: original.map(|it| it.size_bytes).unwrap_or_default(),
    }
}

fn ingest_fault(fault: &IngestFault) -> v1::IngestFault {
    let marker = |it: &MarkerFault| v1::MarkerFault {
        page: it.page,
        text: it.text.reveal().to_owned(),
        message: it.message.clone(),
    };
    v1::IngestFault {
        reason: fault.reason as i32,
        message: fault.message.clone(),
        markers: fault.markers.iter().map(marker).collect(),
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
        seal_level: artifact.seal.into(),
        values_on_certificate: artifact.is_bare,
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
                Value::Drawn(drawn) => {
                    v1::field_value::Value::Drawn(v1::Drawing { content: None, sha256: hex::encode(drawn.sha256) })
                }
            }),
        }),
        read_only: field.read_only,
        validation: validation(&field.rules),
    }
}

fn validation(rules: &Rules) -> Option<v1::Validation> {
    let number = |number: &Option<rust_decimal::Decimal>| id(number.as_ref());
    (*rules != Rules::default()).then(|| v1::Validation {
        pattern: rules.pattern.clone().unwrap_or_default(),
        min_length: rules.min_length.unwrap_or_default(),
        max_length: rules.max_length.unwrap_or_default(),
        min: number(&rules.min),
        max: number(&rules.max),
        options: rules.options.clone(),
        group: rules.group.clone(),
    })
}

/// A stored event. Fails only if the stored record is not one of ours.
pub(super) fn event(stored: &Entry) -> Result<v1::Event, serde_json::Error> {
    Ok(recorded(&serde_json::from_slice(&stored.record)?, stored))
}

/// An event from its record.
pub(super) fn recorded(record: &Record, stored: &Entry) -> v1::Event {
    let (actor, actor_id) = match &record.actor {
        RecordedActor::Sender(id) => (v1::ActorType::Sender, id.clone()),
        RecordedActor::Recipient(id) => (v1::ActorType::Recipient, id.clone()),
        RecordedActor::System => (v1::ActorType::System, String::new()),
        RecordedActor::Operator => (v1::ActorType::Operator, String::new()),
        RecordedActor::User(id) => (v1::ActorType::User, id.clone()),
    };
    v1::Event {
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
        ..Default::default()
    }
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
                ingest_status: document.ingest.into(),
                original_sha256: document.original_sha256.clone().unwrap_or_default(),
                ingest_fault_reason: document.fault.unwrap_or_default().into(),
            })
            .collect(),
        cause: state.cause.unwrap_or_default().into(),
        watcher_ids: state.watchers.iter().map(ToString::to_string).collect(),
        has_webhook: state.has_webhook,
        purge_at: when(state.purge_at),
        legal_hold: state.legal_hold,
    }
}
