//! What happens to an envelope.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::command::{Edit, NewArtifact};
use super::envelope::{Cause, Digest};
use super::field::Value;
use super::id::{DocumentId, EnvelopeId, FieldId, RecipientId};
use super::ingest::Reading;
use super::personal::Personal;
use super::recipient::{Channel, Person};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "recipient, reason: those of the command")]
pub enum Event {
    /// The envelope came to be.
    Created,
    /// A draft was changed.
    Updated(Edit),
    /// A draft was thrown away.
    Discarded,
    /// It was dispatched, and waits for its documents or its time.
    Dispatched,
    /// It is on its way.
    Sent,
    /// A document was read.
    Ingested { document: DocumentId, reading: Reading },
    /// A recipient's turn has come.
    Released { recipient: RecipientId },
    /// A recipient saw the documents for the first time.
    Viewed { recipient: RecipientId },
    /// An assistant put values into fields of this signer.
    Filled { recipient: RecipientId, values: Vec<(FieldId, Option<Value>)> },
    /// A signer signed.
    Signed(Acted),
    /// An approver approved.
    Approved(Acted),
    /// A recipient owes nothing any more, because enough others have acted.
    NotNeeded { recipient: RecipientId },
    /// The last required act is done.
    AllActed,
    /// All is signed and stored.
    Completed { artifacts: Vec<NewArtifact> },
    /// A recipient refused.
    RecipientDeclined { recipient: RecipientId, channel: Channel, reason: Option<Personal>, note: Option<Personal> },
    /// The envelope ended by that recipient's refusal.
    Declined { cause: Cause, by: RecipientId },
    /// A recipient owes nothing any more, because another refused.
    ReleasedByDecline { recipient: RecipientId },
    /// The envelope was taken back.
    Voided { cause: Cause, reason: Option<Personal> },
    /// The deadline is near.
    Expiring,
    /// The deadline was moved.
    DeadlineChanged { expires_at: DateTime<Utc> },
    /// The envelope ended by its deadline.
    Expired,
    /// The sender put somebody else in a recipient's place.
    Reassigned { recipient: RecipientId, before: Person, after: Person, reason: Option<Personal> },
    /// A recipient passed their place on.
    Delegated { recipient: RecipientId, before: Person, after: Person, reason: Option<Personal> },
    /// An invitation goes out again.
    Resent { recipient: RecipientId, rotated: bool },
    /// A recipient is reminded.
    Reminded { recipient: RecipientId },
    /// A mail to a recipient came back.
    Bounced { recipient: RecipientId },
    /// A recipient wants no more reminders.
    Muted { recipient: RecipientId },
    /// A draft was made in its place.
    Replaced { by: EnvelopeId },
    /// The documents of a declined envelope are stored.
    ArtifactReady { artifacts: Vec<NewArtifact> },
    /// The content will be purged soon.
    PurgeDue,
    /// The content is gone.
    Purged { reason: Option<Personal> },
    /// Somebody wanted the content gone, and a legal hold kept it.
    ErasureRefused { reason: Option<Personal> },
    /// A legal hold was set.
    Held { reason: Option<Personal> },
    /// The legal hold was lifted.
    Freed { reason: Option<Personal> },
    /// The content is kept for another time.
    Retained { days: u32 },
}

/// A signature or an approval that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Acted {
    /// Whose.
    pub recipient: RecipientId,
    /// What all their fields hold now.
    pub values: Vec<(FieldId, Option<Value>)>,
    /// What they saw.
    pub seen: Vec<(DocumentId, Digest)>,
    /// As of which revision.
    pub seen_revision: u64,
}

macro_rules! event_types {
    ($($kind:ident = $number:literal $dotted:literal),+ $(,)?) => {
        /// The kind of an event. The numbers are those of the contract and of the database.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum EventType {$(
            #[doc = concat!("`", $dotted, "`")]
            #[serde(rename = $dotted)]
            $kind = $number,
        )+}

        impl EventType {
            /// All, in order.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// As webhooks name it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $dotted,)+
                }
            }
        }
    };
}

event_types! {
    EnvelopeCreated = 1 "envelope.created",
    EnvelopeSent = 2 "envelope.sent",
    RecipientReleased = 3 "recipient.released",
    RecipientSigned = 4 "recipient.signed",
    EnvelopeAllActed = 5 "envelope.all_acted",
    EnvelopeCompleted = 6 "envelope.completed",
    RecipientDeclined = 7 "recipient.declined",
    EnvelopeDeclined = 8 "envelope.declined",
    RecipientReleasedByDecline = 9 "recipient.released_by_decline",
    EnvelopeVoided = 10 "envelope.voided",
    EnvelopeExpired = 11 "envelope.expired",
    EnvelopeArtifactReady = 12 "envelope.artifact_ready",
    EnvelopeUpdated = 13 "envelope.updated",
    EnvelopeDiscarded = 14 "envelope.discarded",
    EnvelopeDispatched = 15 "envelope.dispatched",
    EnvelopeDocumentReady = 16 "envelope.document_ready",
    EnvelopeDocumentFailed = 17 "envelope.document_failed",
    EnvelopeExpiring = 18 "envelope.expiring",
    EnvelopeDeadlineChanged = 19 "envelope.deadline_changed",
    EnvelopeReplaced = 20 "envelope.replaced",
    RecipientViewed = 21 "recipient.viewed",
    RecipientFilled = 22 "recipient.filled",
    RecipientApproved = 23 "recipient.approved",
    RecipientNotNeeded = 24 "recipient.not_needed",
    RecipientReassigned = 25 "recipient.reassigned",
    RecipientDelegated = 26 "recipient.delegated",
    RecipientResent = 27 "recipient.resent",
    RecipientReminderDue = 28 "recipient.reminder_due",
    RecipientBounced = 29 "recipient.bounced",
    RecipientMuted = 30 "recipient.muted",
    EnvelopePurgeDue = 37 "envelope.purge_due",
    EnvelopePurged = 38 "envelope.purged",
    EnvelopeRetentionChanged = 39 "envelope.retention_changed",
    EnvelopeErasureRefused = 40 "envelope.erasure_refused",
}

impl Event {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> EventType {
        match self {
            Self::Created => EventType::EnvelopeCreated,
            Self::Updated(_) => EventType::EnvelopeUpdated,
            Self::Discarded => EventType::EnvelopeDiscarded,
            Self::Dispatched => EventType::EnvelopeDispatched,
            Self::Sent => EventType::EnvelopeSent,
            Self::Ingested { reading: Reading::Failed(_), .. } => EventType::EnvelopeDocumentFailed,
            Self::Ingested { .. } => EventType::EnvelopeDocumentReady,
            Self::Released { .. } => EventType::RecipientReleased,
            Self::Viewed { .. } => EventType::RecipientViewed,
            Self::Filled { .. } => EventType::RecipientFilled,
            Self::Signed(_) => EventType::RecipientSigned,
            Self::Approved(_) => EventType::RecipientApproved,
            Self::NotNeeded { .. } => EventType::RecipientNotNeeded,
            Self::AllActed => EventType::EnvelopeAllActed,
            Self::Completed { .. } => EventType::EnvelopeCompleted,
            Self::RecipientDeclined { .. } => EventType::RecipientDeclined,
            Self::Declined { .. } => EventType::EnvelopeDeclined,
            Self::ReleasedByDecline { .. } => EventType::RecipientReleasedByDecline,
            Self::Voided { .. } => EventType::EnvelopeVoided,
            Self::Expiring => EventType::EnvelopeExpiring,
            Self::DeadlineChanged { .. } => EventType::EnvelopeDeadlineChanged,
            Self::Expired => EventType::EnvelopeExpired,
            Self::Reassigned { .. } => EventType::RecipientReassigned,
            Self::Delegated { .. } => EventType::RecipientDelegated,
            Self::Resent { .. } => EventType::RecipientResent,
            Self::Reminded { .. } => EventType::RecipientReminderDue,
            Self::Bounced { .. } => EventType::RecipientBounced,
            Self::Muted { .. } => EventType::RecipientMuted,
            Self::Replaced { .. } => EventType::EnvelopeReplaced,
            Self::ArtifactReady { .. } => EventType::EnvelopeArtifactReady,
            Self::PurgeDue => EventType::EnvelopePurgeDue,
            Self::Purged { .. } => EventType::EnvelopePurged,
            Self::ErasureRefused { .. } => EventType::EnvelopeErasureRefused,
            Self::Held { .. } | Self::Freed { .. } | Self::Retained { .. } => EventType::EnvelopeRetentionChanged,
        }
    }

    /// True for what the actor did, false for what followed from it for others.
    #[must_use]
    pub fn is_deed(&self) -> bool {
        match self {
            Self::Created
            | Self::Updated(_)
            | Self::Discarded
            | Self::Dispatched
            | Self::Sent
            | Self::Viewed { .. }
            | Self::Filled { .. }
            | Self::Signed(_)
            | Self::Approved(_)
            | Self::RecipientDeclined { .. }
            | Self::Voided { .. }
            | Self::DeadlineChanged { .. }
            | Self::Reassigned { .. }
            | Self::Delegated { .. }
            | Self::Resent { .. }
            | Self::Reminded { .. }
            | Self::Muted { .. }
            | Self::ErasureRefused { .. }
            | Self::Held { .. }
            | Self::Freed { .. }
            | Self::Retained { .. }
            | Self::Replaced { .. } => true,
            Self::Ingested { .. }
            | Self::Released { .. }
            | Self::NotNeeded { .. }
            | Self::Bounced { .. }
            | Self::AllActed
            | Self::Completed { .. }
            | Self::Declined { .. }
            | Self::ReleasedByDecline { .. }
            | Self::Expiring
            | Self::Expired
            | Self::PurgeDue
            // Where whoever purged it sat is not worth keeping beside what is gone.
            | Self::Purged { .. }
            | Self::ArtifactReady { .. } => false,
        }
    }

    /// The recipient whom it concerns.
    #[must_use]
    pub fn recipient(&self) -> Option<RecipientId> {
        match self {
            Self::Released { recipient }
            | Self::Viewed { recipient }
            | Self::Filled { recipient, .. }
            | Self::Signed(Acted { recipient, .. })
            | Self::Approved(Acted { recipient, .. })
            | Self::NotNeeded { recipient }
            | Self::RecipientDeclined { recipient, .. }
            | Self::ReleasedByDecline { recipient }
            | Self::Reassigned { recipient, .. }
            | Self::Delegated { recipient, .. }
            | Self::Resent { recipient, .. }
            | Self::Reminded { recipient }
            | Self::Bounced { recipient }
            | Self::Muted { recipient } => Some(*recipient),
            Self::Created
            | Self::Updated(_)
            | Self::Discarded
            | Self::Dispatched
            | Self::Sent
            | Self::Ingested { .. }
            | Self::AllActed
            | Self::Completed { .. }
            | Self::Declined { .. }
            | Self::Voided { .. }
            | Self::Expiring
            | Self::DeadlineChanged { .. }
            | Self::Expired
            | Self::Replaced { .. }
            | Self::PurgeDue
            | Self::Purged { .. }
            | Self::ErasureRefused { .. }
            | Self::Held { .. }
            | Self::Freed { .. }
            | Self::Retained { .. }
            | Self::ArtifactReady { .. } => None,
        }
    }
}
