//! What happens to an envelope.

use serde::{Deserialize, Serialize};

use super::command::NewArtifact;
use super::envelope::{Channel, Digest};
use super::field::Value;
use super::id::{DocumentId, FieldId, RecipientId};
use super::personal::{Committed, Salt};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The envelope came to be.
    Created,
    /// It was dispatched.
    Sent,
    /// A recipient's turn has come.
    Released {
        /// Whose.
        recipient: RecipientId,
    },
    /// A recipient signed.
    Signed {
        /// Who.
        recipient: RecipientId,
        /// What their fields hold now.
        values: Vec<(FieldId, Value)>,
        /// What they saw.
        seen: Vec<(DocumentId, Digest)>,
        /// Salt of the commitment to the values.
        salt: Salt,
    },
    /// The last required act is done.
    AllActed,
    /// All is signed and stored.
    Completed {
        /// The signed documents.
        artifacts: Vec<NewArtifact>,
    },
    /// A recipient refused.
    RecipientDeclined {
        /// Who.
        recipient: RecipientId,
        /// Through which door.
        channel: Channel,
        /// Why.
        reason: Option<Committed>,
        /// How the sender knows.
        note: Option<Committed>,
    },
    /// The envelope ended by a refusal.
    Declined,
    /// A recipient owes nothing any more, because another refused.
    ReleasedByDecline {
        /// Who.
        recipient: RecipientId,
    },
    /// The envelope ended by its sender.
    Voided {
        /// Why.
        reason: Option<Committed>,
    },
    /// The envelope ended by its deadline.
    Expired,
    /// The documents of a declined envelope are stored.
    ArtifactReady {
        /// The watermarked documents.
        artifacts: Vec<NewArtifact>,
    },
}

/// The kind of an event. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// `envelope.created`
    EnvelopeCreated = 1,
    /// `envelope.sent`
    EnvelopeSent = 2,
    /// `recipient.released`
    RecipientReleased = 3,
    /// `recipient.signed`
    RecipientSigned = 4,
    /// `envelope.all_acted`
    EnvelopeAllActed = 5,
    /// `envelope.completed`
    EnvelopeCompleted = 6,
    /// `recipient.declined`
    RecipientDeclined = 7,
    /// `envelope.declined`
    EnvelopeDeclined = 8,
    /// `recipient.released_by_decline`
    RecipientReleasedByDecline = 9,
    /// `envelope.voided`
    EnvelopeVoided = 10,
    /// `envelope.expired`
    EnvelopeExpired = 11,
    /// `envelope.artifact_ready`
    EnvelopeArtifactReady = 12,
}

impl Event {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> EventType {
        match self {
            Self::Created => EventType::EnvelopeCreated,
            Self::Sent => EventType::EnvelopeSent,
            Self::Released { .. } => EventType::RecipientReleased,
            Self::Signed { .. } => EventType::RecipientSigned,
            Self::AllActed => EventType::EnvelopeAllActed,
            Self::Completed { .. } => EventType::EnvelopeCompleted,
            Self::RecipientDeclined { .. } => EventType::RecipientDeclined,
            Self::Declined => EventType::EnvelopeDeclined,
            Self::ReleasedByDecline { .. } => EventType::RecipientReleasedByDecline,
            Self::Voided { .. } => EventType::EnvelopeVoided,
            Self::Expired => EventType::EnvelopeExpired,
            Self::ArtifactReady { .. } => EventType::EnvelopeArtifactReady,
        }
    }

    /// The recipient whom it concerns.
    #[must_use]
    pub fn recipient(&self) -> Option<RecipientId> {
        match self {
            Self::Released { recipient }
            | Self::Signed { recipient, .. }
            | Self::RecipientDeclined { recipient, .. }
            | Self::ReleasedByDecline { recipient } => Some(*recipient),
            Self::Created
            | Self::Sent
            | Self::AllActed
            | Self::Completed { .. }
            | Self::Declined
            | Self::Voided { .. }
            | Self::Expired
            | Self::ArtifactReady { .. } => None,
        }
    }
}
