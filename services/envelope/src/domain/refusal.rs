//! Why a command is refused, and what would be possible instead.

use chrono::{DateTime, TimeDelta, Utc};

use super::decide::{delegable, invited_again, lacks, may_fill, remindable, reminded_again};
use super::envelope::{Cause, Envelope};
use super::field::Wrong;
use super::id::{DocumentId, FieldId};
use super::limits::EXPIRY_DAYS_MAX;
use super::recipient::{Recipient, Role};
use super::routing::is_asked;
use super::status::Status;

macro_rules! transitions {
    ($($kind:ident = $number:literal $name:literal $doc:literal),+ $(,)?) => {
        /// What may happen to an envelope. The numbers are those of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Transition {$(
            #[doc = $doc]
            $kind = $number,
        )+}

        impl Transition {
            /// All, in order.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The name in errors and documents.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

transitions! {
    Send = 1 "SEND" "To be sent.",
    Sign = 2 "SIGN" "A signer signs.",
    Decline = 3 "DECLINE" "A recipient refuses.",
    Void = 4 "VOID" "The sender or the operator takes it back.",
    Expire = 5 "EXPIRE" "The deadline passes.",
    Complete = 6 "COMPLETE" "The artefacts are stored.",
    Approve = 7 "APPROVE" "An approver approves.",
    Fill = 8 "FILL" "An assistant puts values in.",
    View = 9 "VIEW" "A recipient sees the documents.",
    Delegate = 10 "DELEGATE" "A recipient passes their place on.",
    Discard = 11 "DISCARD" "A draft is thrown away.",
    Update = 12 "UPDATE" "A draft is changed.",
    Reassign = 13 "REASSIGN" "Somebody else takes a recipient's place.",
    Resend = 14 "RESEND" "Invitations go out again.",
    Extend = 15 "EXTEND" "The deadline is moved.",
    Replace = 16 "REPLACE" "A draft is made in its place.",
    Release = 17 "RELEASE" "The time to send has come.",
    Warn = 18 "WARN" "The deadline is near.",
    Ingest = 19 "INGEST" "A document was read.",
    Remind = 20 "REMIND" "Somebody is reminded by hand.",
    Mute = 21 "MUTE" "A recipient wants no reminders.",
    Bounce = 22 "BOUNCE" "A mail to a recipient came back.",
    Prompt = 23 "PROMPT" "A reminder is due.",
    Purge = 25 "PURGE" "The content is removed.",
    Hold = 26 "HOLD" "A legal hold is set or lifted.",
    Retain = 27 "RETAIN" "The content is kept for another time.",
}

impl Transition {
    /// True for what is never in a list of what is allowed: what the service does by itself, and the making of a
    /// replacement and the keeping of the content, which leave the ended envelope as it ended.
    #[must_use]
    pub fn is_unlisted(self) -> bool {
        match self {
            Self::Expire | Self::Complete | Self::Release | Self::Warn | Self::Ingest | Self::Replace => true,
            Self::Bounce | Self::Prompt | Self::Purge | Self::Hold | Self::Retain => true,
            Self::Send | Self::Sign | Self::Decline | Self::Void | Self::Approve | Self::Fill | Self::View => false,
            Self::Delegate | Self::Discard | Self::Update | Self::Reassign | Self::Resend | Self::Extend => false,
            Self::Remind | Self::Mute => false,
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
    /// How it ended, if it did.
    pub cause: Option<Cause>,
    /// Its revision.
    pub revision: u64,
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
    /// The envelope is not as the caller expects it.
    Revision,
    /// The content is gone.
    Purged,
    /// A legal hold keeps the content.
    Held,
    /// The recipient's turn has not come.
    NotYourTurn,
    /// The recipient has acted.
    AlreadyActed,
    /// Enough others have acted.
    NotNeeded,
    /// The recipient's role does not allow it.
    Role,
    /// Refusing is not allowed.
    DeclineNotAllowed,
    /// Passing the place on is not allowed, or not any more.
    DelegationNotAllowed,
    /// The recipient wants no reminders.
    Muted,
    /// The last invitation or reminder is too fresh.
    TooSoon(DateTime<Utc>),
    /// A draft lacks something.
    Incomplete(Vec<&'static str>),
    /// A document is not as it was seen.
    DocumentChanged(DocumentId),
    /// An assistant has changed a field since it was seen.
    FieldsChanged,
    /// What was sent does not fit: in which place, and why.
    Invalid(Vec<(Place, Wrong)>),
    /// The envelope would have that many fields.
    TooManyFields {
        /// As many as there would be.
        actual: usize,
        /// As many as there may be.
        allowed: usize,
    },
    /// The envelope has no such recipient.
    NoSuchRecipient,
    /// The envelope has no such field.
    NoSuchField,
    /// The envelope has no such document.
    NoSuchDocument,
}

/// A place in a command that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The consent.
    Consent,
    /// The list of seen documents as a whole.
    SeenDocuments,
    /// The revision that was seen.
    SeenRevision,
    /// The values as a whole.
    Values,
    /// The value of that index.
    Value(usize),
    /// A field for which no value came.
    Missing(FieldId),
    /// The reason.
    Reason,
    /// The address of a person.
    Email,
    /// The deadline.
    ExpiresAt,
    /// The retention.
    RetentionDays,
    /// The document, which lacks the page of this field.
    Page(FieldId),
}

/// What somebody could do right now: exactly those transitions for which some command would be accepted.
#[must_use]
pub fn allowed(envelope: &Envelope, now: DateTime<Utc>) -> Vec<Transition> {
    let allowed = |transition: &Transition| is_allowed(envelope, *transition, now);
    Transition::ALL.iter().copied().filter(allowed).collect()
}

/// What this recipient could do right now with their own token.
#[must_use]
pub fn allowed_to(envelope: &Envelope, own: &Recipient, now: DateTime<Utc>) -> Vec<Transition> {
    let theirs = [
        Transition::Sign,
        Transition::Approve,
        Transition::Decline,
        Transition::Fill,
        Transition::View,
        Transition::Delegate,
        Transition::Mute,
    ];
    let open = envelope.facts.is_open() && now < envelope.expires_at && own.is_released();
    theirs.into_iter().filter(|transition| open && concerns(envelope, own, *transition, now)).collect()
}

/// Whether a transition is possible for this recipient of an open envelope, by their own token or by the sender.
fn concerns(envelope: &Envelope, own: &Recipient, transition: Transition, now: DateTime<Utc>) -> bool {
    match transition {
        Transition::Sign => own.role == Role::Signer && own.is_released(),
        Transition::Approve => own.role == Role::Approver && own.is_released(),
        Transition::Decline => own.owes() && own.decline.unwrap_or(envelope.terms.decline).enabled,
        Transition::View => own.role != Role::Cc && own.is_released() && own.viewed_at.is_none(),
        Transition::Fill => may_fill(envelope, own),
        Transition::Delegate => delegable(envelope, own),
        Transition::Reassign => own.is_open(),
        Transition::Resend => is_asked(envelope, own) && invited_again(own) <= now,
        Transition::Remind => remindable(own).is_ok() && reminded_again(own) <= now,
        Transition::Mute => own.role.gates() && own.is_released() && own.notices.muted_at.is_none(),
        _ => false,
    }
}

fn is_allowed(envelope: &Envelope, transition: Transition, now: DateTime<Utc>) -> bool {
    let draft = envelope.is_draft();
    let open = envelope.facts.is_open() && now < envelope.expires_at;
    let somebody = || envelope.recipients.iter().any(|own| concerns(envelope, own, transition, now));
    match transition {
        Transition::Send => draft && lacks(envelope, now).is_empty(),
        Transition::Update => draft,
        Transition::Discard => draft && envelope.keeping.held_at.is_none(),
        Transition::Reassign => (draft || open) && somebody(),
        Transition::Sign
        | Transition::Approve
        | Transition::Decline
        | Transition::View
        | Transition::Fill
        | Transition::Delegate
        | Transition::Resend
        | Transition::Remind
        | Transition::Mute => open && somebody(),
        Transition::Extend => open && envelope.expires_at < now + TimeDelta::days(EXPIRY_DAYS_MAX),
        Transition::Void => open,
        Transition::Replace
        | Transition::Expire
        | Transition::Complete
        | Transition::Release
        | Transition::Warn
        | Transition::Ingest
        | Transition::Bounce
        | Transition::Prompt
        | Transition::Purge
        | Transition::Hold
        | Transition::Retain => false,
    }
}
