//! Why a command is refused, and what would be possible instead.

use super::envelope::{Envelope, RecipientState};
use super::id::{DocumentId, FieldId};
use super::status::Status;

/// What may happen to an envelope. The numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transition {
    /// To be sent.
    Send = 1,
    /// A recipient signs.
    Sign = 2,
    /// A recipient refuses.
    Decline = 3,
    /// The sender takes it back.
    Void = 4,
    /// The deadline passes.
    Expire = 5,
    /// The artefacts are stored.
    Complete = 6,
}

impl Transition {
    /// The name in errors and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Send => "SEND",
            Self::Sign => "SIGN",
            Self::Decline => "DECLINE",
            Self::Void => "VOID",
            Self::Expire => "EXPIRE",
            Self::Complete => "COMPLETE",
        }
    }
}

/// A refused command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// Where the envelope stands.
    pub current: Status,
    /// What was tried.
    pub attempted: Transition,
    /// What somebody could do right now.
    pub allowed: Vec<Transition>,
}

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The envelope's state does not allow it.
    State,
    /// The recipient's turn has not come.
    NotYourTurn,
    /// The recipient has acted.
    AlreadyActed,
    /// A draft lacks something.
    Incomplete(&'static str),
    /// A document is not as it was seen.
    DocumentChanged(DocumentId),
    /// What was sent does not fit: in which place, and why.
    Invalid(Vec<(Place, &'static str)>),
    /// The envelope has no such recipient.
    NoSuchRecipient,
}

/// A place in a signature that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The consent.
    Consent,
    /// The list of seen documents as a whole.
    SeenDocuments,
    /// The value of that index.
    Value(usize),
    /// A field for which no value came.
    Missing(FieldId),
}

/// What somebody could do right now: exactly those transitions for which some command would be accepted.
#[must_use]
pub fn allowed(envelope: &Envelope, expired: bool) -> Vec<Transition> {
    let anybody =
        |test: fn(&RecipientState) -> bool| envelope.recipients.iter().any(|recipient| test(&recipient.state));
    let mut allowed = Vec::new();
    if envelope.status() == Status::Draft && !expired && super::decide::lacks(envelope).is_none() {
        allowed.push(Transition::Send);
    }
    if envelope.facts.is_open() && !expired {
        if anybody(|state| matches!(state, RecipientState::Released { .. })) {
            allowed.push(Transition::Sign);
        }
        if anybody(|state| matches!(state, RecipientState::Released { .. } | RecipientState::Waiting)) {
            allowed.push(Transition::Decline);
        }
        allowed.push(Transition::Void);
    }
    allowed
}
