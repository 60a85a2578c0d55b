//! Writes and sends mails. At least once: a repeat has the same Message-ID, and in a folder the same name.
//!
//! Names, addresses and links are asked for at the moment of sending and are nowhere kept or logged.

mod compose;
mod send;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::{Envelope, Recipient, RecipientStatus};
use countersign_chassis::ticker::Progress;
use tonic::{Code, Status};

use self::compose::{Attachment, Letter, compose};
pub use self::send::Outbox;
use crate::envelopes::Envelopes;
use crate::plan::{Mail, MailKind};
use crate::schedule::pause;
use crate::store::{ClaimedMail, MailState, Store};

/// Mails of one tick.
const BATCH_MAX: i64 = 16;
/// How long a claim holds.
const LEASE_SECONDS: i64 = 120;
/// Signed documents are attached up to this size together; above it the mail says where to get them.
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
        let envelope = match self.envelopes.get(mail.account, mail.envelope).await {
            Ok(envelope) => envelope,
            Err(status) if status.code() == Code::NotFound => return suppressed,
            Err(status) => return cannot_ask(&status),
        };
        let id = mail.recipient.to_string();
        let Some(recipient) = envelope.recipients.iter().find(|recipient| recipient.id == id) else {
            return suppressed;
        };
        if !due(mail.kind, recipient) {
            return suppressed;
        }
        let letter = match mail.kind {
            MailKind::Invitation => {
                match self.envelopes.signing_link(mail.account, mail.envelope, mail.recipient).await {
                    Ok(link) => Letter::Invitation { link },
                    // The envelope ended between the two questions.
                    Err(status) if status.code() == Code::FailedPrecondition => return suppressed,
                    Err(status) => return cannot_ask(&status),
                }
            }
            MailKind::FellThrough => Letter::FellThrough,
            MailKind::Completed => Letter::Completed { attachments: self.attachments(mail, &envelope).await? },
        };
        let message = compose(mail, &envelope, recipient, &letter, self.outbox.from(), now)?;
        self.outbox.send(mail, message).await.map(Sent::As)
    }

    async fn attachments(&self, mail: &Mail, envelope: &Envelope) -> anyhow::Result<Vec<Attachment>> {
        let artifacts =
            || envelope.documents.iter().filter_map(|document| Some((document, document.artifacts.first()?)));
        if artifacts().map(|(_, artifact)| artifact.size_bytes).sum::<u64>() > ATTACHED_BYTES_MAX {
            return Ok(Vec::new());
        }
        let mut attachments = Vec::new();
        for (document, _) in artifacts() {
            let bytes = self.envelopes.signed(mail.account, &envelope.id, &document.id).await;
            let bytes = bytes.ok().context("a signed document could not be fetched")?;
            attachments.push(Attachment { name: document.name.clone(), bytes });
        }
        Ok(attachments)
    }
}

/// An outage is waited for; anything else that the envelope service says is a failed attempt.
fn cannot_ask(status: &Status) -> anyhow::Result<Sent> {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Ok(Sent::CannotAsk(status.code())),
        code => anyhow::bail!("the envelope service answered {code:?}"),
    }
}

/// Whether there still is a reason for a mail. Who had never been invited hears nothing of the end.
fn due(kind: MailKind, recipient: &Recipient) -> bool {
    match kind {
        MailKind::Invitation => recipient.status() == RecipientStatus::Released,
        MailKind::FellThrough => recipient.released_at.is_some(),
        MailKind::Completed => true,
    }
}
