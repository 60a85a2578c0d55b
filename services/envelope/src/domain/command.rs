//! What may be asked of an envelope.

use chrono::{DateTime, Utc};

use super::envelope::{Cause, Digest, Document, SealLevel, Version};
use super::field::{Field, Value};
use super::id::{DocumentId, EnvelopeId, FieldId, KeyId, RecipientId, SourceId, UserId};
use super::ingest::Reading;
use super::particulars::Source;
use super::personal::Personal;
use super::recipient::{Channel, Person};
use super::refusal::Transition;
use super::terms::Changes;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The sender, with this key.
    Sender(KeyId),
    /// A recipient, with their token.
    Recipient(RecipientId),
    /// The service itself.
    System,
    /// Who runs the service.
    Operator,
    /// A user of the sender's account.
    User(UserId),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Freeze a draft, and release the first recipients as soon as all is there and its time has come.
    Send,
    /// Change a draft.
    Update(Edit),
    /// Throw a draft away.
    Discard,
    /// A recipient sees the documents.
    View {
        /// Who.
        recipient: RecipientId,
    },
    /// An assistant puts values in.
    Fill {
        /// The assistant.
        recipient: RecipientId,
        /// What they put in.
        values: Vec<(FieldId, Value)>,
    },
    /// A signer signs.
    Sign(Act),
    /// An approver approves.
    Approve(Act),
    /// A recipient refuses.
    Decline(Decline),
    /// A recipient passes their place on.
    Delegate(Assign),
    /// The sender puts somebody else in a recipient's place.
    Reassign(Assign),
    /// Send invitations again.
    Resend {
        /// To these; to all whom it makes sense to invite if empty.
        recipients: Vec<RecipientId>,
        /// With new links; the old ones die.
        rotate: bool,
    },
    /// Remind people by hand.
    Remind {
        /// These; all whom it makes sense to remind if empty.
        recipients: Vec<RecipientId>,
    },
    /// A recipient wants no reminders.
    Mute {
        /// Who.
        recipient: RecipientId,
    },
    /// A mail to a recipient came back.
    Bounce {
        /// To whom it went.
        recipient: RecipientId,
        /// SHA-256 of the address to which it went.
        address: Digest,
    },
    /// The time to remind somebody may have come.
    Prompt,
    /// Move the deadline.
    Extend {
        /// Where to.
        expires_at: DateTime<Utc>,
    },
    /// Take it back.
    Void {
        /// Who or what does.
        cause: Cause,
        /// Why.
        reason: Option<Personal>,
    },
    /// Make a draft in its place.
    Replace {
        /// The draft's id.
        by: EnvelopeId,
        /// The draft that was made before and has been thrown away since.
        lost: Option<EnvelopeId>,
    },
    /// The service has read a document.
    Ingest {
        /// Which.
        document: DocumentId,
        /// What of it was read: nothing, if it awaits something else by now.
        source: Option<SourceId>,
        /// What came of it.
        reading: Reading,
    },
    /// The time to send may have come.
    Release,
    /// The time to warn of the deadline may have come.
    Warn,
    /// The deadline may have passed.
    Expire,
    /// The time to announce the purge, to purge, or to discard a draft may have come.
    Keep,
    /// Purge the content at once.
    Erase {
        /// Why.
        reason: Option<Personal>,
    },
    /// Set or lift a legal hold.
    Hold {
        /// Whether to set it.
        hold: bool,
        /// Why.
        reason: Option<Personal>,
    },
    /// Keep the content for longer or shorter.
    Retain {
        /// For how long after the end.
        days: u32,
    },
    /// The artefacts have been made and stored: of a declined envelope the watermarked documents, else the signed ones,
    /// which completes it.
    Store {
        /// One for each document.
        artifacts: Vec<NewArtifact>,
    },
}

/// A change of a draft.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Of what the sender sets.
    Terms(Box<Changes>),
    /// More fields.
    AddFields {
        /// These.
        fields: Vec<Field>,
        /// As many as the envelope may have in all.
        fields_max: usize,
    },
    /// Fewer fields.
    RemoveFields(Vec<FieldId>),
    /// Another document in the place of the one of that id.
    ReplaceDocument {
        /// The new one.
        document: Box<Document>,
        /// These fields in the place of all that stand on it; none: they stay.
        fields: Option<Vec<Field>>,
        /// As many as the envelope may have in all.
        fields_max: usize,
    },
}

/// A signature or an approval.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    /// Whose.
    pub recipient: RecipientId,
    /// What they put in.
    pub values: Vec<(FieldId, Value)>,
    /// What they saw.
    pub seen: Vec<(DocumentId, Digest)>,
    /// As of which revision they saw it.
    pub seen_revision: u64,
    /// Whether they agreed to sign electronically.
    pub consent: bool,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Decline {
    /// Whose.
    pub recipient: RecipientId,
    /// Through which door.
    pub channel: Channel,
    /// Why.
    pub reason: Option<Personal>,
    /// How the sender knows.
    pub note: Option<Personal>,
    /// The id of the corrected draft, should one be made.
    pub correction: EnvelopeId,
}

/// Somebody else in a recipient's place.
#[derive(Clone, Debug, PartialEq)]
pub struct Assign {
    /// Whose place.
    pub recipient: RecipientId,
    /// Who takes it.
    pub person: Person,
    /// Why.
    pub reason: Option<Personal>,
}

/// A PDF that has been made and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewArtifact {
    /// Of which document.
    pub document: DocumentId,
    /// Which.
    pub version: Version,
    /// Of its bytes.
    pub sha256: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// How much its seal proves.
    pub seal: SealLevel,
    /// Whether nothing was drawn on it, so that signatures that it came with stay valid.
    pub is_bare: bool,
}

impl Command {
    /// What it tries.
    #[must_use]
    pub fn transition(&self) -> Transition {
        match self {
            Self::Send => Transition::Send,
            Self::Update(_) => Transition::Update,
            Self::Discard => Transition::Discard,
            Self::View { .. } => Transition::View,
            Self::Fill { .. } => Transition::Fill,
            Self::Sign(_) => Transition::Sign,
            Self::Approve(_) => Transition::Approve,
            Self::Decline(_) => Transition::Decline,
            Self::Delegate(_) => Transition::Delegate,
            Self::Reassign(_) => Transition::Reassign,
            Self::Resend { .. } => Transition::Resend,
            Self::Remind { .. } => Transition::Remind,
            Self::Mute { .. } => Transition::Mute,
            Self::Bounce { .. } => Transition::Bounce,
            Self::Prompt => Transition::Prompt,
            Self::Extend { .. } => Transition::Extend,
            Self::Void { .. } => Transition::Void,
            Self::Replace { .. } => Transition::Replace,
            Self::Ingest { .. } => Transition::Ingest,
            Self::Release => Transition::Release,
            Self::Warn => Transition::Warn,
            Self::Expire => Transition::Expire,
            Self::Keep | Self::Erase { .. } => Transition::Purge,
            Self::Hold { .. } => Transition::Hold,
            Self::Retain { .. } => Transition::Retain,
            Self::Store { .. } => Transition::Complete,
        }
    }
}

/// Who asks, and from where.
#[derive(Clone, Debug)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// From where.
    pub source: Source,
}

impl By {
    /// The service itself.
    #[must_use]
    pub fn system() -> Self {
        Self { actor: Actor::System, source: Source::default() }
    }
}
