//! The envelope and what belongs to it, as one value.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::credit::Charge;
use super::field::Field;
use super::id::{AccountId, DocumentId, EnvelopeId, RecipientId};
pub use super::ingest::Ingest;
use super::ingest::{Awaited, IngestFault, Original, Reading};
use super::keeping::Keeping;
use super::personal::Personal;
use super::recipient::{Recipient, RecipientState};
use super::reminder::{self, Notices};
use super::status::{Facts, Status};
use super::terms::Terms;

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
    /// What the sender set.
    pub terms: Terms,
    /// What has happened.
    pub facts: Facts,
    /// The first instant at which nobody can act any more.
    pub expires_at: DateTime<Utc>,
    /// When those who owe an act were warned of this deadline.
    pub warned_at: Option<DateTime<Utc>>,
    /// How it came to an end other than completion.
    pub end: Option<End>,
    /// Why it was voided.
    pub void_reason: Option<Personal>,
    /// The sender owes a replacement.
    pub requires_replacement: bool,
    /// The ended envelope in whose place this one is.
    pub replaces: Option<EnvelopeId>,
    /// The envelope in the place of this one.
    pub replaced_by: Option<EnvelopeId>,
    /// What it has cost.
    pub charge: Option<Charge>,
    /// How its content is kept.
    pub keeping: Keeping,
    /// In the sender's order.
    pub recipients: Vec<Recipient>,
    /// In the sender's order.
    pub documents: Vec<Document>,
    /// In the sender's order.
    pub fields: Vec<Field>,
}

/// How an envelope came to an end other than completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub cause: Cause,
    /// Who refused.
    pub by: Option<RecipientId>,
}

/// Why an envelope came to an end other than completion. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A signer refused.
    SignatureRefused = 1,
    /// An approver refused.
    ApprovalRefused = 2,
    /// The sender took it back.
    Sender = 3,
    /// The operator took it back.
    Operator = 4,
    /// A document turned out to be none that can be signed.
    IngestFailed = 5,
    /// The deadline passed.
    Deadline = 6,
}

impl Cause {
    /// All, in order.
    pub const ALL: [Self; 6] = [
        Self::SignatureRefused,
        Self::ApprovalRefused,
        Self::Sender,
        Self::Operator,
        Self::IngestFailed,
        Self::Deadline,
    ];

    /// The name in errors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SignatureRefused => "SIGNATURE_REFUSED",
            Self::ApprovalRefused => "APPROVAL_REFUSED",
            Self::Sender => "SENDER",
            Self::Operator => "OPERATOR",
            Self::IngestFailed => "INGEST_FAILED",
            Self::Deadline => "DEADLINE",
        }
    }
}

/// A document in an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its id.
    pub id: DocumentId,
    /// File name.
    pub name: String,
    /// Of the PDF that people see and sign. Zeros until it was read, as the two below.
    pub sha256: Digest,
    /// Of that PDF.
    pub size_bytes: u64,
    /// Of that PDF.
    pub page_count: u32,
    /// Whether it can be signed.
    pub ingest: Ingest,
    /// What came, where that PDF was, or is to be, made of it.
    pub original: Option<Original>,
    /// What is still to be read.
    pub awaits: Option<Awaited>,
    /// Why it cannot be signed.
    pub fault: Option<IngestFault>,
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
    /// The certificate alone, of the whole envelope; it is kept with the first document.
    Certificate = 4,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Signed, Self::Declined, Self::Certificate];
}

/// How much the seal of a PDF proves. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealLevel {
    /// It has none.
    None = 1,
    /// Who sealed it, and that nothing has changed since.
    Basic = 2,
    /// Also when.
    Timestamped = 3,
    /// It also brings along what shows that no certificate was revoked by then.
    LongTerm = 4,
}

impl SealLevel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Basic, Self::Timestamped, Self::LongTerm];
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
    /// How much its seal proves.
    pub seal: SealLevel,
    /// Whether nothing was drawn on it, so that signatures that it came with stay valid.
    pub is_bare: bool,
}

impl Document {
    /// Whether its PDF is known: it was read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.page_count > 0
    }

    /// That of what the service made of it, if it has.
    #[must_use]
    pub fn artifact(&self, version: Version) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.version == version)
    }

    /// Takes in what came of reading it; what it awaited is forgotten.
    pub fn take(&mut self, reading: &Reading) {
        self.awaits = None;
        match reading {
            Reading::Ready(read) => {
                (self.sha256, self.size_bytes, self.page_count) = (read.sha256, read.size_bytes, read.page_count);
                (self.ingest, self.original) = (Ingest::Ready, read.original);
            }
            Reading::Failed(fault) => (self.ingest, self.fault) = (Ingest::Failed, Some(fault.clone())),
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

    /// Whether all documents can be signed, or one never can.
    #[must_use]
    pub fn ingest(&self) -> Ingest {
        let all = || self.documents.iter().map(|document| document.ingest);
        if all().any(|ingest| ingest == Ingest::Failed) {
            Ingest::Failed
        } else if all().any(|ingest| ingest == Ingest::Processing) {
            Ingest::Processing
        } else {
            Ingest::Ready
        }
    }

    /// True while nothing has been dispatched and the sender has not thrown it away.
    #[must_use]
    pub fn is_draft(&self) -> bool {
        self.status() == Status::Draft && self.facts.discarded_at.is_none()
    }

    /// When those who owe an act are to be warned of the deadline: never if that was before they were asked at all.
    #[must_use]
    pub fn warning_at(&self) -> Option<DateTime<Utc>> {
        let at = self.expires_at.checked_sub_signed(self.terms.expiry_warning?)?;
        self.facts.sent_at.filter(|sent| self.facts.is_open() && self.warned_at.is_none() && *sent < at).map(|_| at)
    }

    /// When this recipient is reminded next, if ever: while they owe an act and their address is good, and never at or
    /// after the deadline.
    #[must_use]
    pub fn reminder_of(&self, own: &Recipient) -> Option<DateTime<Utc>> {
        let Notices { muted_at: None, bounced_at: None, .. } = own.notices else { return None };
        let RecipientState::Released { at } = own.state else { return None };
        let at = reminder::due(&self.terms.reminders, own.id, at, &own.notices, self.zone_of(own))?;
        (self.facts.is_open() && own.role.gates() && at < self.expires_at).then_some(at)
    }

    /// The same as it looks then: one that is overdue waits for the end of quiet hours.
    #[must_use]
    pub fn reminder_from(&self, own: &Recipient, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (at, zone) = (self.reminder_of(own)?, self.zone_of(own));
        let quiet = self.terms.reminders.quiet.filter(|quiet| at <= now && quiet.hold(now, zone));
        Some(quiet.map_or(at, |quiet| quiet.end(now, zone)))
    }

    /// The first reminder that is due, whosever.
    #[must_use]
    pub fn reminder_at(&self) -> Option<DateTime<Utc>> {
        self.recipients.iter().filter_map(|own| self.reminder_of(own)).min()
    }

    /// By which clock a recipient lives, as far as anybody has said.
    #[must_use]
    pub fn zone_of(&self, own: &Recipient) -> Tz {
        own.person.locality.zone.or(self.terms.locality.zone).unwrap_or(Tz::UTC)
    }
}
