//! What may be asked of an envelope.

use super::envelope::{Channel, Digest, Version};
use super::field::Value;
use super::id::{DocumentId, FieldId, KeyId, RecipientId};
use super::personal::{Committed, Salt};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The sender, with this key.
    Sender(KeyId),
    /// A recipient, with their token.
    Recipient(RecipientId),
    /// The service itself.
    System,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Freeze a draft and release the first recipients.
    Send,
    /// A recipient signs.
    Sign(Sign),
    /// A recipient refuses.
    Decline(Decline),
    /// The sender takes it back.
    Void {
        /// Why.
        reason: Option<Committed>,
    },
    /// The deadline may have passed.
    Expire,
    /// The artefacts have been made and stored: of a declined envelope the watermarked documents, else the signed ones,
    /// which completes it.
    Store {
        /// One for each document.
        artifacts: Vec<NewArtifact>,
    },
}

/// A signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Sign {
    /// Whose.
    pub recipient: RecipientId,
    /// What they put in.
    pub values: Vec<(FieldId, Value)>,
    /// What they saw.
    pub seen: Vec<(DocumentId, Digest)>,
    /// Whether they agreed to sign electronically.
    pub consent: bool,
    /// Salt for the commitment to the values.
    pub salt: Salt,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Decline {
    /// Whose.
    pub recipient: RecipientId,
    /// Through which door.
    pub channel: Channel,
    /// Why.
    pub reason: Option<Committed>,
    /// How the sender knows.
    pub note: Option<Committed>,
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
}
