//! People in an envelope: what they are asked to do, and where they stand.

use chrono::{DateTime, Utc};

use super::envelope::Digest;
use super::field::FieldType;
use super::id::RecipientId;
use super::locality::Locality;
use super::personal::{Personal, Salt};
use super::reminder::Notices;
use super::terms::DeclinePolicy;

/// What a recipient is asked to do. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Gives a binding signature.
    Signer = 1,
    /// Has to approve; before the signers are asked, unless the sender gives them a group of their own.
    Approver = 2,
    /// Reads.
    Viewer = 3,
    /// Gets a copy.
    Cc = 4,
    /// Fills fields of one signer.
    Assistant = 5,
}

impl Role {
    /// All, in order.
    pub const ALL: [Self; 5] = [Self::Signer, Self::Approver, Self::Viewer, Self::Cc, Self::Assistant];

    /// True for those without whose act the envelope is not complete, and who may refuse it.
    #[must_use]
    pub fn gates(self) -> bool {
        match self {
            Self::Signer | Self::Approver => true,
            Self::Viewer | Self::Cc | Self::Assistant => false,
        }
    }

    /// Whether fields of that type may be bound to somebody of this role.
    #[must_use]
    pub fn may_have(self, kind: FieldType) -> bool {
        match self {
            Self::Signer => true,
            Self::Approver => !matches!(kind, FieldType::Signature | FieldType::Initials),
            Self::Viewer | Self::Cc | Self::Assistant => false,
        }
    }
}

/// A person in an envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipient {
    /// Their id.
    pub id: RecipientId,
    /// Who it is.
    pub person: Person,
    /// What they are asked to do.
    pub role: Role,
    /// For whom an assistant fills fields.
    pub assists: Option<RecipientId>,
    /// Whether somebody who gets a copy at the end gets one at the beginning too.
    pub copy_on_send: bool,
    /// The sender's word for them.
    pub label: String,
    /// Lower groups act first.
    pub group: u16,
    /// How their refusal is taken, if not as the envelope says.
    pub decline: Option<DeclinePolicy>,
    /// Where they stand.
    pub state: RecipientState,
    /// When they first said that they see the documents.
    pub viewed_at: Option<DateTime<Utc>>,
    /// When they were last sent their invitation.
    pub invited_at: Option<DateTime<Utc>>,
    /// What they were told besides.
    pub notices: Notices,
    /// How often their place was passed on by those who had it.
    pub delegations: u16,
    /// The revision in which an assistant last filled a field of theirs.
    pub filled_revision: u64,
    /// What proves that it is they.
    pub credential: Credential,
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their name.
    pub name: Personal,
    /// Their address.
    pub email: Personal,
    /// Their own language and time zone.
    pub locality: Locality,
}

/// What the service keeps of a signing token: enough to recognise it, not enough to make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Grows when a new token replaces the old one.
    pub generation: u32,
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
    /// A user of the account who is the recipient.
    User = 3,
}

/// How an envelope ended without completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A recipient refused.
    Declined,
    /// The sender or the operator took it back.
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
    /// Signed or approved. For ever, whatever becomes of the envelope.
    Acted {
        /// When their turn came.
        released_at: DateTime<Utc>,
        /// When they acted.
        at: DateTime<Utc>,
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
        reason: Option<Personal>,
        /// How the sender knows.
        note: Option<Personal>,
    },
    /// Owes nothing any more, because the envelope ended.
    ReleasedBy {
        /// How it ended.
        end: Ending,
        /// When their turn came, if it had.
        released_at: Option<DateTime<Utc>>,
        /// When it ended.
        at: DateTime<Utc>,
    },
    /// Owes nothing any more, because enough others of the group have acted or the one whom they assist owes nothing.
    NotNeeded {
        /// When their turn came, if it had.
        released_at: Option<DateTime<Utc>>,
        /// Since when.
        at: DateTime<Utc>,
    },
}

impl Recipient {
    /// The number of their state in the contract and in the database.
    #[must_use]
    pub fn status(&self) -> u8 {
        match (&self.state, self.role) {
            (RecipientState::Waiting, _) => 1,
            (RecipientState::Released { .. }, _) => 2,
            (RecipientState::Acted { .. }, Role::Approver) => 8,
            (RecipientState::Acted { .. }, _) => 3,
            (RecipientState::Declined { .. }, _) => 4,
            (RecipientState::ReleasedBy { end: Ending::Declined, .. }, _) => 5,
            (RecipientState::ReleasedBy { end: Ending::Voided, .. }, _) => 6,
            (RecipientState::ReleasedBy { end: Ending::Expired, .. }, _) => 7,
            (RecipientState::NotNeeded { .. }, _) => 9,
        }
    }

    /// When their turn came, if it did.
    #[must_use]
    pub fn released_at(&self) -> Option<DateTime<Utc>> {
        match &self.state {
            RecipientState::Waiting => None,
            RecipientState::Released { at } => Some(*at),
            RecipientState::Acted { released_at, .. } => Some(*released_at),
            RecipientState::Declined { released_at, .. }
            | RecipientState::ReleasedBy { released_at, .. }
            | RecipientState::NotNeeded { released_at, .. } => *released_at,
        }
    }

    /// True until they have acted or need not any more.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, RecipientState::Waiting | RecipientState::Released { .. })
    }

    /// True while it is their turn.
    #[must_use]
    pub fn is_released(&self) -> bool {
        matches!(self.state, RecipientState::Released { .. })
    }

    /// True once they have signed or approved.
    #[must_use]
    pub fn has_acted(&self) -> bool {
        matches!(self.state, RecipientState::Acted { .. })
    }

    /// True while an act of theirs is missing for completion.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.role.gates() && self.is_open()
    }
}
