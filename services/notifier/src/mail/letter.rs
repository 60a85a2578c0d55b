//! What each kind of mail says, by the keys of its texts. Must never hold a word of any language.

use chrono::{DateTime, Utc};
use countersign::v1::{Cause, Envelope, EnvelopeStatus, RecipientRole};
use secrecy::SecretString;

use super::color::Color;
use super::language::Language;
use crate::store::Disabled;

/// A letter with what only it has.
pub enum Letter {
    /// It is your turn.
    Invitation {
        /// What they are asked to do.
        duty: Duty,
        /// The signing link.
        link: SecretString,
    },
    /// You still owe it.
    Reminder {
        /// What they are asked to do.
        duty: Duty,
        /// The signing link.
        link: SecretString,
        /// How many reminders there were, this one included; 0 if nobody counts.
        count: u32,
    },
    /// The deadline is near.
    ExpiryWarning {
        /// What they are asked to do.
        duty: Duty,
        /// The signing link.
        link: SecretString,
    },
    /// Others were asked; this is for you to know. Where the original documents are.
    Copy(Documents),
    /// It fell through.
    FellThrough(Ending),
    /// All that was required is done. Where the signed documents are.
    Completed(Documents),
    /// A webhook endpoint gets nothing any more.
    EndpointDisabled {
        /// Which.
        endpoint: String,
        /// Since when.
        since: DateTime<Utc>,
        /// Why.
        reason: Disabled,
    },
}

/// What somebody is asked to do. Nobody but a signer is asked to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Sign.
    Sign,
    /// Approve.
    Approve,
    /// Fill in fields of a signer.
    Fill,
    /// Read.
    Read,
}

/// Where documents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Documents {
    /// They are attached.
    Attached,
    /// They are too large for a mail.
    TooLarge,
    /// They are not for this reader.
    Withheld,
}

/// How an envelope fell through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A signer refused.
    SignatureRefused,
    /// An approver refused.
    ApprovalRefused,
    /// The sender took it back.
    TakenBack,
    /// The operator took it back.
    TakenBackByOperator,
    /// A document could not be read.
    DocumentUnreadable,
    /// The deadline passed.
    Expired,
}

/// Who reads a mail.
pub struct Reader {
    /// Their name; empty if it is not known.
    pub name: String,
    /// Their address.
    pub email: String,
    /// What they read.
    pub language: Language,
    /// By which clocks they live: a zone of the IANA database.
    pub zone: String,
}

/// In whose name a mail is.
pub struct Sender {
    /// The brand's name.
    pub name: String,
    /// Its colour.
    pub color: Color,
    /// Its picture: an address of `https`; empty: none.
    pub logo: String,
}

/// What a mail is about.
#[derive(Clone, Debug, Default)]
pub struct Matter {
    /// The envelope's subject.
    pub subject: String,
    /// The sender's note to the recipients.
    pub message: String,
    /// Until when something can be done.
    pub deadline: Option<DateTime<Utc>>,
    /// True if it is only a test.
    pub test: bool,
}

/// The keys of a letter's texts.
pub(super) struct Script {
    pub subject: String,
    pub lines: Vec<String>,
    /// Whether the sender's note goes with it.
    pub with_message: bool,
    /// Whether it says until when.
    pub with_deadline: bool,
    pub button: Option<String>,
    pub notes: Vec<String>,
}

impl From<RecipientRole> for Duty {
    fn from(role: RecipientRole) -> Self {
        match role {
            RecipientRole::Unspecified | RecipientRole::Signer => Self::Sign,
            RecipientRole::Approver => Self::Approve,
            RecipientRole::Assistant => Self::Fill,
            RecipientRole::Viewer | RecipientRole::Cc => Self::Read,
        }
    }
}

impl Duty {
    const fn key(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Approve => "approve",
            Self::Fill => "fill",
            Self::Read => "read",
        }
    }

    /// Of what an envelope waits for there are two: the others are never reminded or warned.
    const fn owed(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Sign | Self::Fill | Self::Read => "sign",
        }
    }
}

impl Documents {
    const fn key(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::TooLarge => "large",
            Self::Withheld => "withheld",
        }
    }
}

impl Ending {
    /// How an envelope ended.
    #[must_use]
    pub fn of(envelope: &Envelope) -> Self {
        match (envelope.status(), envelope.cause()) {
            (EnvelopeStatus::Voided, Cause::Operator) => Self::TakenBackByOperator,
            (EnvelopeStatus::Voided, Cause::IngestFailed) => Self::DocumentUnreadable,
            (EnvelopeStatus::Voided, _) => Self::TakenBack,
            (EnvelopeStatus::Expired, _) => Self::Expired,
            (_, Cause::ApprovalRefused) => Self::ApprovalRefused,
            _ => Self::SignatureRefused,
        }
    }

    const fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::SignatureRefused => ("declined_subject", "declined_sign"),
            Self::ApprovalRefused => ("declined_subject", "declined_approve"),
            Self::TakenBack => ("voided_subject", "voided_sender"),
            Self::TakenBackByOperator => ("voided_subject", "voided_operator"),
            Self::DocumentUnreadable => ("voided_subject", "voided_document"),
            Self::Expired => ("expired_subject", "expired"),
        }
    }
}

impl Letter {
    /// The signing link, if it holds one.
    pub(super) fn link(&self) -> Option<&SecretString> {
        match self {
            Self::Invitation { link, .. } | Self::Reminder { link, .. } | Self::ExpiryWarning { link, .. } => {
                Some(link)
            }
            Self::Copy(_) | Self::FellThrough(_) | Self::Completed(_) | Self::EndpointDisabled { .. } => None,
        }
    }

    /// Which texts it is made of.
    pub(super) fn script(&self) -> Script {
        match self {
            Self::Invitation { duty, .. } => {
                let lines = vec![format!("invitation_{}", duty.key())];
                asking(*duty, format!("invitation_subject_{}", duty.key()), lines, true)
            }
            Self::Reminder { duty, count, .. } => {
                let mut lines = vec![format!("reminder_{}", duty.owed())];
                lines.extend((*count > 0).then(|| "reminder_count".to_owned()));
                let mut script = asking(*duty, format!("reminder_subject_{}", duty.owed()), lines, false);
                script.notes.push("mute".to_owned());
                script
            }
            Self::ExpiryWarning { duty, .. } => {
                let lines = vec![format!("warning_{}", duty.owed())];
                asking(*duty, format!("warning_subject_{}", duty.owed()), lines, false)
            }
            Self::Copy(documents) => {
                let place = match documents {
                    Documents::Attached => "originals_attached",
                    Documents::TooLarge | Documents::Withheld => "originals_large",
                };
                Script { with_message: true, ..telling("copy_subject", &["copy", place]) }
            }
            Self::FellThrough(ending) => {
                let (subject, line) = ending.keys();
                telling(subject, &[line, "nothing_to_do"])
            }
            Self::Completed(documents) => {
                telling("completed_subject", &["completed", &format!("signed_{}", documents.key())])
            }
            Self::EndpointDisabled { reason, .. } => {
                let why = match reason {
                    Disabled::Gone => "endpoint_gone",
                    Disabled::Failing => "endpoint_failing",
                };
                telling("endpoint_subject", &["endpoint", why, "endpoint_next"])
            }
        }
    }
}

/// A letter that holds the link and says until when something can be done.
fn asking(duty: Duty, subject: String, lines: Vec<String>, with_message: bool) -> Script {
    Script {
        subject,
        lines,
        with_message,
        with_deadline: true,
        button: Some(format!("button_{}", duty.key())),
        notes: vec![format!("secret_{}", duty.key())],
    }
}

/// A letter for somebody to know.
fn telling(subject: &str, lines: &[&str]) -> Script {
    Script {
        subject: subject.to_owned(),
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        with_message: false,
        with_deadline: false,
        button: None,
        notes: Vec::new(),
    }
}
