//! The envelope and what belongs to it, as one value.

use chrono::{DateTime, Utc};

use super::field::Field;
use super::id::{AccountId, DocumentId, EnvelopeId, RecipientId};
use super::personal::{Committed, Personal, Salt};
use super::status::{Facts, Status};

/// SHA-256.
pub type Digest = [u8; 32];

/// Documents sent to people for signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Who owns it.
    pub account: AccountId,
    /// Its id.
    pub id: EnvelopeId,
    /// Live or test.
    pub livemode: bool,
    /// Grows with every change.
    pub revision: u64,
    /// Events so far.
    pub sequence: u64,
    /// Hash of the last event.
    pub chain: Digest,
    /// When the last event happened.
    pub last_event_at: DateTime<Utc>,
    /// What it is about.
    pub subject: String,
    /// The sender's note.
    pub message: String,
    /// Who acts when.
    pub routing: Routing,
    /// What has happened.
    pub facts: Facts,
    /// The first instant at which nobody can act any more.
    pub expires_at: DateTime<Utc>,
    /// Why it was voided.
    pub void_reason: Option<Committed>,
    /// The sender owes a replacement.
    pub requires_replacement: bool,
    /// In the sender's order.
    pub recipients: Vec<Recipient>,
    /// In the sender's order.
    pub documents: Vec<Document>,
    /// In the sender's order.
    pub fields: Vec<Field>,
}

/// Who acts when. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// All at once.
    Parallel = 1,
    /// One after another.
    Sequential = 2,
}

/// What a recipient is asked to do. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Gives a binding signature.
    Signer = 1,
}

/// A person in an envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipient {
    /// Their id.
    pub id: RecipientId,
    /// Their name.
    pub name: Personal,
    /// Their address.
    pub email: Personal,
    /// What they are asked to do.
    pub role: Role,
    /// The sender's word for them.
    pub label: String,
    /// Lower groups act first.
    pub group: u16,
    /// Where they stand.
    pub state: RecipientState,
    /// What proves that it is they.
    pub credential: Credential,
}

/// What the service keeps of a signing token: enough to recognise it, not enough to make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Grows when a new token replaces the old one.
    pub generation: u16,
    /// Part of the token's derivation that the key alone does not give.
    pub salt: Salt,
    /// SHA-256 of the token's secret.
    pub hash: Digest,
}

/// Through which door a refusal came. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The recipient's own token.
    SigningToken = 1,
    /// The sender, on behalf.
    OnBehalf = 2,
}

/// How an envelope ended without completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Another recipient refused.
    Declined,
    /// The sender took it back.
    Voided,
    /// The deadline passed.
    Expired,
}

/// Where a recipient stands, with the facts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientState {
    /// Not their turn.
    Waiting,
    /// Their turn.
    Released {
        /// Since when.
        at: DateTime<Utc>,
    },
    /// Signed. For ever, whatever becomes of the envelope.
    Signed {
        /// When their turn came.
        released_at: DateTime<Utc>,
        /// When they signed.
        at: DateTime<Utc>,
        /// Salt of the history's commitment to what they put in.
        salt: Salt,
        /// False once the envelope has ended otherwise.
        effective: bool,
    },
    /// Refused.
    Declined {
        /// When their turn came, if it had.
        released_at: Option<DateTime<Utc>>,
        /// When they refused.
        at: DateTime<Utc>,
        /// Through which door.
        channel: Channel,
        /// Why.
        reason: Option<Committed>,
        /// How the sender knows.
        note: Option<Committed>,
    },
    /// Owes nothing any more, because the envelope ended.
    ReleasedBy {
        /// How it ended.
        end: End,
        /// When their turn came, if it had.
        released_at: Option<DateTime<Utc>>,
        /// When it ended.
        at: DateTime<Utc>,
    },
}

/// A PDF in an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its id.
    pub id: DocumentId,
    /// File name.
    pub name: String,
    /// Of the original bytes.
    pub sha256: Digest,
    /// Of the original.
    pub size_bytes: u64,
    /// Of the original.
    pub page_count: u32,
    /// What the service made of it.
    pub artifacts: Vec<Artifact>,
}

/// Which artefact. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// With all values.
    Signed = 2,
    /// Watermarked.
    Declined = 3,
}

/// A PDF that the service made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Which.
    pub version: Version,
    /// Of its bytes.
    pub sha256: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}

impl RecipientState {
    /// The number in the contract and in the database.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Waiting => 1,
            Self::Released { .. } => 2,
            Self::Signed { .. } => 3,
            Self::Declined { .. } => 4,
            Self::ReleasedBy { end: End::Declined, .. } => 5,
            Self::ReleasedBy { end: End::Voided, .. } => 6,
            Self::ReleasedBy { end: End::Expired, .. } => 7,
        }
    }
}

impl Envelope {
    /// The status that follows from the facts.
    #[must_use]
    pub fn status(&self) -> Status {
        self.facts.status()
    }

    /// The recipient of that id.
    #[must_use]
    pub fn recipient(&self, id: RecipientId) -> Option<&Recipient> {
        self.recipients.iter().find(|recipient| recipient.id == id)
    }

    /// The document of that id.
    #[must_use]
    pub fn document(&self, id: DocumentId) -> Option<&Document> {
        self.documents.iter().find(|document| document.id == id)
    }
}

impl Recipient {
    /// When their turn came, if it did.
    #[must_use]
    pub fn released_at(&self) -> Option<DateTime<Utc>> {
        match &self.state {
            RecipientState::Waiting => None,
            RecipientState::Released { at } => Some(*at),
            RecipientState::Signed { released_at, .. } => Some(*released_at),
            RecipientState::Declined { released_at, .. } | RecipientState::ReleasedBy { released_at, .. } => {
                *released_at
            }
        }
    }

    /// True while an act of theirs is still missing.
    #[must_use]
    pub fn owes(&self) -> bool {
        match self.state {
            RecipientState::Waiting | RecipientState::Released { .. } => true,
            RecipientState::Signed { .. } | RecipientState::Declined { .. } | RecipientState::ReleasedBy { .. } => {
                false
            }
        }
    }
}
