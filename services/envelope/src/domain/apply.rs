//! Makes an event true of an envelope. Decides nothing and cannot fail.

use chrono::{DateTime, Utc};

use super::command::NewArtifact;
use super::envelope::{Artifact, End, Envelope, Recipient, RecipientState};
use super::event::Event;
use super::id::RecipientId;

/// Applies an event that happened at `at`.
pub fn apply(envelope: &mut Envelope, event: &Event, at: DateTime<Utc>) {
    match event {
        Event::Created => {}
        Event::Sent => {
            envelope.facts.dispatched_at = Some(at);
            envelope.facts.sent_at = Some(at);
        }
        Event::Released { recipient } => set(envelope, *recipient, |_| RecipientState::Released { at }),
        Event::Signed { recipient, values, salt, .. } => {
            envelope.facts.first_signed_at.get_or_insert(at);
            set(envelope, *recipient, |old| RecipientState::Signed {
                released_at: old.released_at().unwrap_or(at),
                at,
                salt: *salt,
                effective: true,
            });
            for (id, value) in values {
                if let Some(field) = envelope.fields.iter_mut().find(|field| field.id == *id) {
                    field.value = Some(value.clone());
                }
            }
        }
        Event::AllActed => envelope.facts.all_acted_at = Some(at),
        Event::Completed { artifacts } => {
            envelope.facts.completed_at = Some(at);
            keep(envelope, artifacts, at);
        }
        Event::RecipientDeclined { recipient, channel, reason, note } => {
            set(envelope, *recipient, |old| RecipientState::Declined {
                released_at: old.released_at(),
                at,
                channel: *channel,
                reason: reason.clone(),
                note: note.clone(),
            });
        }
        Event::Declined => {
            envelope.facts.declined_at = Some(at);
            envelope.requires_replacement = true;
            unlink_signatures(envelope);
        }
        Event::ReleasedByDecline { recipient } => set(envelope, *recipient, |old| ended(old, End::Declined, at)),
        Event::Voided { reason } => {
            envelope.facts.voided_at = Some(at);
            envelope.void_reason.clone_from(reason);
            end(envelope, End::Voided, at);
        }
        Event::Expired => {
            envelope.facts.expired_at = Some(at);
            end(envelope, End::Expired, at);
        }
        Event::ArtifactReady { artifacts } => keep(envelope, artifacts, at),
    }
}

fn set(envelope: &mut Envelope, id: RecipientId, state: impl FnOnce(&Recipient) -> RecipientState) {
    if let Some(recipient) = envelope.recipients.iter_mut().find(|recipient| recipient.id == id) {
        recipient.state = state(recipient);
    }
}

fn ended(recipient: &Recipient, end: End, at: DateTime<Utc>) -> RecipientState {
    RecipientState::ReleasedBy { end, released_at: recipient.released_at(), at }
}

fn end(envelope: &mut Envelope, end: End, at: DateTime<Utc>) {
    for recipient in envelope.recipients.iter_mut().filter(|recipient| recipient.owes()) {
        recipient.state = ended(recipient, end, at);
    }
    unlink_signatures(envelope);
}

/// Signatures stay for ever; those of an envelope that fell through bind nobody.
fn unlink_signatures(envelope: &mut Envelope) {
    for recipient in &mut envelope.recipients {
        if let RecipientState::Signed { effective, .. } = &mut recipient.state {
            *effective = false;
        }
    }
}

fn keep(envelope: &mut Envelope, artifacts: &[NewArtifact], at: DateTime<Utc>) {
    for new in artifacts {
        if let Some(document) = envelope.documents.iter_mut().find(|document| document.id == new.document) {
            document.artifacts.push(Artifact {
                version: new.version,
                sha256: new.sha256,
                size_bytes: new.size_bytes,
                created_at: at,
            });
        }
    }
}
