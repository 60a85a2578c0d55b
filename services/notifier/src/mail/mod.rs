//! Writes and sends mails. At least once: a repeat has the same Message-ID, and in a folder the same name.
//!
//! Names, addresses and links are asked for at the moment of sending and are nowhere kept or logged.

mod compose;
pub mod plan;
mod send;
pub mod sink;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::{DocumentVersion, Envelope, Recipient, RecipientRole, RecipientStatus};
use countersign_chassis::ticker::Progress;
use countersign_chassis::wire::datetime;
use secrecy::SecretString;
use tonic::{Code, Status};

use self::compose::{Attachment, Documents, Letter, Reader, compose};
use self::plan::{Addressee, Mail, MailKind};
pub use self::send::Outbox;
use crate::envelopes::Envelopes;
use crate::schedule::pause;
use crate::store::{ClaimedMail, MailState, Store};

/// Mails of one tick.
const BATCH_MAX: i64 = 16;
/// How long a claim holds.
const LEASE_SECONDS: i64 = 120;
/// Documents are attached up to this size together; above it the mail says where to get them.
const ATTACHED_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// How long to wait where the envelope service cannot be asked.
const CANNOT_ASK_PAUSE_SECONDS: i64 = 5;

/// What came of a mail.
enum Sent {
    /// It is in that state now.
    As(MailState),
    /// Whether there still is a reason for it could not be asked.
    CannotAsk(Code),
}

/// Writes and sends mails.
#[derive(Clone)]
pub struct Mailer {
    /// What waits.
    pub store: Store,
    /// Where names, addresses and links are.
    pub envelopes: Envelopes,
    /// Where mails go.
    pub outbox: Outbox,
}

impl Mailer {
    /// Sends what is due.
    pub async fn tick(&self) -> anyhow::Result<Progress> {
        let now = self.store.clock().now();
        let due = self.store.claim_mails(now, now + TimeDelta::seconds(LEASE_SECONDS), BATCH_MAX).await?;
        for claimed in &due {
            self.deliver(claimed).await?;
        }
        Ok(if due.is_empty() { Progress::Idle } else { Progress::Busy })
    }

    async fn deliver(&self, claimed: &ClaimedMail) -> anyhow::Result<()> {
        let now = self.store.clock().now();
        let (event, kind) = (claimed.mail.event.to_string(), claimed.mail.kind.name());
        let (state, next_at, attempted) = match self.send(&claimed.mail, now).await {
            Ok(Sent::As(state)) => (state, now, true),
            Ok(Sent::CannotAsk(code)) => {
                // The mail itself has not been tried: a short outage must not cost a long pause.
                tracing::info!(event, kind, code = format!("{code:?}"), "the envelope service cannot be asked");
                (MailState::Pending, now + TimeDelta::seconds(CANNOT_ASK_PAUSE_SECONDS), false)
            }
            Err(error) => {
                let attempts = claimed.attempts + 1;
                tracing::warn!(event, kind, attempts, error = format!("{error:#}"), "a mail could not be sent");
                match pause(attempts, None) {
                    Some(pause) => (MailState::Pending, now + TimeDelta::from_std(pause)?, true),
                    None => (MailState::Dead, now, true),
                }
            }
        };
        self.store.settle_mail(claimed, state, next_at, attempted).await?;
        Ok(())
    }

    /// Sends a mail if there still is a reason to.
    async fn send(&self, mail: &Mail, now: DateTime<Utc>) -> anyhow::Result<Sent> {
        let suppressed = Ok(Sent::As(MailState::Suppressed));
        // The link comes before the address: between the two questions the place may be given to somebody else. Then the
        // old link goes to the new person, to whom it is of no use; never the new link to the old person.
        let link = match self.link(mail).await {
            Ok(link) => link,
            // The envelope has ended, or it is not their turn.
            Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => return suppressed,
            Err(status) => return cannot_ask(&status),
        };
        let envelope = match self.envelopes.get(mail.account, mail.envelope).await {
            Ok(envelope) => envelope,
            Err(status) if status.code() == Code::NotFound => return suppressed,
            Err(status) => return cannot_ask(&status),
        };
        let Some((reader, role)) = reader(mail, &envelope) else { return suppressed };
        let letter = match (mail.kind, link) {
            (MailKind::Invitation, Some(link)) => Letter::Invitation { role, link },
            (MailKind::ExpiryWarning, Some(link)) => Letter::ExpiryWarning { role, link },
            (MailKind::Invitation | MailKind::ExpiryWarning, None) => return suppressed,
            (MailKind::Copy, _) => Letter::Copy { documents: self.originals(mail, &envelope).await? },
            (MailKind::FellThrough, _) => Letter::FellThrough,
            (MailKind::Completed, _) => Letter::Completed { documents: self.signed(mail, &envelope).await? },
        };
        let message = compose(mail, &envelope, &reader, &letter, self.outbox.from(), now)?;
        self.outbox.send(mail, message).await.map(Sent::As)
    }

    /// The link of a mail that holds one.
    async fn link(&self, mail: &Mail) -> Result<Option<SecretString>, Status> {
        match (mail.kind, mail.addressee) {
            (MailKind::Invitation | MailKind::ExpiryWarning, Addressee::Recipient(recipient)) => {
                self.envelopes.signing_link(mail.account, mail.envelope, recipient).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn signed(&self, mail: &Mail, envelope: &Envelope) -> anyhow::Result<Documents> {
        if matches!(mail.addressee, Addressee::Watcher(_)) {
            return Ok(Documents::Withheld);
        }
        let artifacts = envelope.documents.iter().filter_map(|document| {
            let artifact = document.artifacts.first()?;
            Some((document.id.as_str(), document.name.as_str(), artifact.size_bytes))
        });
        self.documents(mail, DocumentVersion::Signed, artifacts.collect()).await
    }

    async fn originals(&self, mail: &Mail, envelope: &Envelope) -> anyhow::Result<Documents> {
        let documents = envelope.documents.iter();
        let documents = documents.map(|document| (document.id.as_str(), document.name.as_str(), document.size_bytes));
        self.documents(mail, DocumentVersion::Original, documents.collect()).await
    }

    /// Fetches documents, given by id, name and size, unless they are too large for a mail.
    async fn documents(
        &self,
        mail: &Mail,
        version: DocumentVersion,
        documents: Vec<(&str, &str, u64)>,
    ) -> anyhow::Result<Documents> {
        let sizes = documents.iter().map(|(_, _, size)| *size);
        if documents.is_empty() || sizes.fold(0, u64::saturating_add) > ATTACHED_BYTES_MAX {
            return Ok(Documents::TooLarge);
        }
        let envelope = mail.envelope.to_string();
        let mut attachments = Vec::new();
        for (id, name, _) in documents {
            let bytes = self.envelopes.download(mail.account, &envelope, id, version).await;
            let bytes = bytes.ok().context("a document could not be fetched")?;
            attachments.push(Attachment { name: name.to_owned(), bytes });
        }
        Ok(Documents::Attached(attachments))
    }
}

/// An outage is waited for; anything else that the envelope service says is a failed attempt.
fn cannot_ask(status: &Status) -> anyhow::Result<Sent> {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Ok(Sent::CannotAsk(status.code())),
        code => anyhow::bail!("the envelope service answered {code:?}"),
    }
}

/// Who gets the mail as the envelope has them now, or nobody if there is no reason for it any more.
fn reader(mail: &Mail, envelope: &Envelope) -> Option<(Reader, RecipientRole)> {
    match mail.addressee {
        Addressee::Recipient(id) => {
            let id = id.to_string();
            let recipient = envelope.recipients.iter().find(|recipient| recipient.id == id)?;
            let reader = || Reader { name: recipient.name.clone(), email: recipient.email.clone() };
            due(mail, envelope, recipient).then(|| (reader(), recipient.role()))
        }
        Addressee::Watcher(id) => {
            let id = id.to_string();
            let watcher = envelope.watchers.iter().find(|watcher| watcher.id == id)?;
            // Of a watcher no name is known.
            Some((Reader { name: String::new(), email: watcher.email.clone() }, RecipientRole::Unspecified))
        }
    }
}

/// Whether there still is a reason for a mail. Who had never been invited hears nothing of the end.
fn due(mail: &Mail, envelope: &Envelope, recipient: &Recipient) -> bool {
    let is_released = recipient.status() == RecipientStatus::Released;
    match mail.kind {
        // If there is a newer invitation, perhaps to somebody else in their place, then that one is on its way.
        MailKind::Invitation | MailKind::Copy => {
            is_released && !is_before(mail, recipient.invited_at.as_ref().and_then(datetime))
        }
        // A deadline that was moved is warned of anew.
        MailKind::ExpiryWarning => {
            let warned_at = envelope.expiry_warned_at.as_ref().and_then(datetime);
            is_released && warned_at.is_some() && !is_before(mail, warned_at)
        }
        MailKind::FellThrough => {
            recipient.released_at.is_some() && (envelope.tell_acted_recipients || recipient.signed_at.is_none())
        }
        MailKind::Completed => recipient.role() != RecipientRole::Viewer || recipient.released_at.is_some(),
    }
}

/// True if the mail is about something earlier than that. In microseconds: the database keeps no more.
fn is_before(mail: &Mail, at: Option<DateTime<Utc>>) -> bool {
    at.is_some_and(|at| mail.occurred_at.timestamp_micros() < at.timestamp_micros())
}
