//! Which mails follow from which event, or why none does: one line for each type of the contract. `docs/mail.md` is made from
//! it. Must never be a second planner: `plan` decides who gets one; its tests hold the two together.

use countersign::v1::EventType;

use super::plan::MailKind;

/// What people hear of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Mails of these kinds, as far as there is somebody who must know.
    Mails(&'static [MailKind]),
    /// Nothing, and why.
    Nothing(&'static str),
}

/// What people hear of such an event.
#[must_use]
pub const fn notice(kind: EventType) -> Notice {
    use MailKind::{Completed, Copy, ExpiryWarning, FellThrough, Invitation, Reminder};
    use Notice::{Mails, Nothing};
    match kind {
        EventType::Unspecified => Nothing("an event of a newer contract: who does not know it passes it over"),
        EventType::EnvelopeCreated | EventType::EnvelopeUpdated | EventType::EnvelopeDiscarded => {
            Nothing("a draft concerns nobody but the sender, who made it")
        }
        EventType::EnvelopeDispatched | EventType::EnvelopeDocumentReady => {
            Nothing("nobody is asked before `recipient.released`")
        }
        EventType::EnvelopeDocumentFailed => Nothing("it is the sender's matter, who has the webhook and the stream"),
        EventType::EnvelopeSent => Nothing("`recipient.released` comes with it for everybody whose turn it is"),
        EventType::RecipientReleased
        | EventType::RecipientReassigned
        | EventType::RecipientDelegated
        | EventType::RecipientResent => Mails(&[Invitation, Copy]),
        EventType::RecipientReminderDue => Mails(&[Reminder]),
        EventType::EnvelopeExpiring => Mails(&[ExpiryWarning]),
        EventType::EnvelopeCompleted => Mails(&[Completed]),
        EventType::EnvelopeDeclined | EventType::EnvelopeVoided | EventType::EnvelopeExpired => Mails(&[FellThrough]),
        EventType::RecipientSigned | EventType::RecipientApproved => {
            Nothing("whoever acted saw it; the others hear of it when all is done")
        }
        EventType::EnvelopeAllActed => Nothing("`envelope.completed` follows when there are documents to give"),
        EventType::RecipientDeclined => {
            Nothing("`envelope.declined` comes with it if the envelope ends, else nobody need know")
        }
        EventType::RecipientReleasedByDecline => Nothing("`envelope.declined` has told them"),
        EventType::RecipientNotNeeded => Nothing("they owe nothing and lose nothing: their link says so"),
        EventType::EnvelopeArtifactReady => Nothing("the documents of a refusal are for the sender"),
        EventType::EnvelopeDeadlineChanged => {
            Nothing("a longer deadline asks nothing of anybody; the next mail names it")
        }
        EventType::EnvelopeReplaced => Nothing("a new draft: its recipients are invited when it is sent"),
        EventType::RecipientViewed | EventType::RecipientFilled => Nothing("who acts will see it"),
        EventType::RecipientBounced => Nothing("their mailbox is the one that does not exist; the sender sees it"),
        EventType::RecipientMuted => Nothing("they said so themselves"),
        EventType::EnvelopePurgeDue | EventType::EnvelopeRetentionChanged | EventType::EnvelopeErasureRefused => {
            Nothing("how long it is kept is the sender's matter, who has the webhook and the stream")
        }
        EventType::EnvelopePurged => Nothing("nobody knows any more who they were"),
        EventType::EndpointTest => Nothing("in webhooks only"),
        EventType::EndpointDisabled => {
            Nothing("in webhooks only; the mail `endpoint_disabled` follows from the endpoint, not from this event")
        }
    }
}
