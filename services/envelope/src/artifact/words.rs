//! The words of a certificate: roles, states, events and who did them.
//!
//! It must never match with a wildcard: a new event has to be given its words here.

use chrono::{DateTime, Utc};

use crate::domain::event::EventType;
use crate::domain::field::FieldType;
use crate::domain::recipient::{Channel, Ending, Recipient, RecipientState, Role};
use countersign_paper::{Mood, Tone};

/// A time as everybody reads it.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A time of the history, which is exact.
pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

pub(super) fn mood(word: &str, tone: Tone) -> Mood {
    Mood { word: word.to_owned(), tone }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Signer => "Signer",
        Role::Approver => "Approver",
        Role::Viewer => "Viewer",
        Role::Cc => "Copy",
        Role::Assistant => "Assistant",
    }
}

/// What has become of a recipient.
pub(super) fn state(recipient: &Recipient) -> Mood {
    match (&recipient.state, recipient.role) {
        (RecipientState::Acted { effective: false, .. }, _) => mood("Signed, not effective", Tone::Plain),
        (RecipientState::Acted { .. }, Role::Approver) => mood("Approved", Tone::Good),
        (RecipientState::Acted { .. }, _) => mood("Signed", Tone::Good),
        (RecipientState::Declined { .. }, _) => mood("Refused", Tone::Bad),
        (RecipientState::ReleasedBy { end: Ending::Declined, .. }, _) => mood("Released by the refusal", Tone::Plain),
        (RecipientState::ReleasedBy { end: Ending::Voided, .. }, _) => mood("Voided", Tone::Plain),
        (RecipientState::ReleasedBy { end: Ending::Expired, .. }, _) => mood("Expired", Tone::Plain),
        (RecipientState::NotNeeded { .. }, _) => mood("Not needed", Tone::Plain),
        (RecipientState::Waiting | RecipientState::Released { .. }, Role::Signer | Role::Approver) => {
            mood("Did not act", Tone::Plain)
        }
        (RecipientState::Waiting | RecipientState::Released { .. }, _) => mood("Informed", Tone::Plain),
    }
}

/// What a field takes.
pub(super) fn field(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Signature => "Signature",
        FieldType::Initials => "Initials",
        FieldType::Name => "Name",
        FieldType::Email => "E-mail",
        FieldType::Date => "Date",
        FieldType::Text => "Text",
        FieldType::Checkbox => "Checkbox",
        FieldType::Number => "Number",
        FieldType::Radio => "Choice",
        FieldType::Dropdown => "Selection",
    }
}

/// How it was known who acted.
pub(super) fn door(channel: Option<Channel>) -> &'static str {
    match channel {
        None | Some(Channel::SigningToken) => "Personal link, sent to the e-mail address",
        Some(Channel::OnBehalf) => "The sender, on the recipient's behalf",
        Some(Channel::User) => "Signed-in user with the same e-mail address, and personal link",
    }
}

/// What happened.
pub(super) fn event(kind: EventType) -> &'static str {
    match kind {
        EventType::EnvelopeCreated => "Envelope created",
        EventType::EnvelopeUpdated => "Draft changed",
        EventType::EnvelopeDiscarded => "Draft discarded",
        EventType::EnvelopeDispatched => "Terms frozen, waiting to be sent",
        EventType::EnvelopeSent => "Envelope sent",
        EventType::EnvelopeDocumentReady => "Document read",
        EventType::EnvelopeDocumentFailed => "Document could not be read",
        EventType::EnvelopeAllActed => "All required acts done",
        EventType::EnvelopeCompleted => "Envelope completed",
        EventType::EnvelopeDeclined => "Envelope ended by the refusal",
        EventType::EnvelopeVoided => "Envelope voided",
        EventType::EnvelopeExpired => "Envelope expired",
        EventType::EnvelopeExpiring => "Warning before the deadline",
        EventType::EnvelopeDeadlineChanged => "Deadline changed",
        EventType::EnvelopeReplaced => "Replacement made",
        EventType::EnvelopeArtifactReady => "Documents stored",
        EventType::EnvelopePurgeDue => "Warning before the purge",
        EventType::EnvelopePurged => "Content purged",
        EventType::EnvelopeRetentionChanged => "Retention changed",
        EventType::EnvelopeErasureRefused => "Erasure refused: legal hold",
        EventType::RecipientReleased => "Asked to act",
        EventType::RecipientViewed => "Documents opened",
        EventType::RecipientFilled => "Fields filled by an assistant",
        EventType::RecipientSigned => "Signed",
        EventType::RecipientApproved => "Approved",
        EventType::RecipientDeclined => "Refused",
        EventType::RecipientReleasedByDecline => "Released by the refusal",
        EventType::RecipientNotNeeded => "Not needed any more",
        EventType::RecipientReassigned => "Replaced by the sender",
        EventType::RecipientDelegated => "Place passed on",
        EventType::RecipientResent => "Invited again",
        EventType::RecipientReminderDue => "Reminded",
        EventType::RecipientBounced => "Mail came back",
        EventType::RecipientMuted => "Reminders switched off",
    }
}
