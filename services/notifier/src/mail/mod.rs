//! Writes and sends mails. At least once: a repeat has the same Message-ID, and in a folder the same name.
//!
//! Names, addresses and links are asked for at the moment of sending and are nowhere kept or logged.

mod compose;
mod send;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::{Envelope, Recipient, RecipientStatus};
use countersign_chassis::ticker::Progress;
use tonic::Code;

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
        let (state, next_at) = match self.send(&claimed.mail, now).await {
            Ok(state) => (state, now),
            Err(error) => {
                let (event, kind, attempts) =
                    (claimed.mail.event.to_string(), claimed.mail.kind.name(), claimed.attempts + 1);
                tracing::warn!(event, kind, attempts, error = format!("{error:#}"), "a mail could not be sent");
                match pause(claimed.attempts + 1, None) {
                    Some(pause) => (MailState::Pending, now + TimeDelta::from_std(pause)?),
                    None => (MailState::Dead, now),
                }
            }
        };
        self.store.settle_mail(claimed, state, next_at).await?;
        Ok(())
    }

    /// Sends a mail if there still is a reason to.
    async fn send(&self, mail: &Mail, now: DateTime<Utc>) -> anyhow::Result<MailState> {
        let envelope = match self.envelopes.get(mail.account, mail.envelope).await {
            Ok(envelope) => envelope,
            Err(status) if status.code() == Code::NotFound => return Ok(MailState::Suppressed),
            Err(status) => anyhow::bail!("the envelope service answered {:?}", status.code()),
        };
        let id = mail.recipient.to_string();
        let Some(recipient) = envelope.recipients.iter().find(|recipient| recipient.id == id) else {
            return Ok(MailState::Suppressed);
        };
        if !due(mail.kind, recipient) {
            return Ok(MailState::Suppressed);
        }
        let letter = match mail.kind {
            MailKind::Invitation => {
                match self.envelopes.signing_link(mail.account, mail.envelope, mail.recipient).await {
                    Ok(link) => Letter::Invitation { link },
                    // The envelope ended between the two questions.
                    Err(status) if status.code() == Code::FailedPrecondition => return Ok(MailState::Suppressed),
                    Err(status) => anyhow::bail!("the envelope service answered {:?}", status.code()),
                }
            }
            MailKind::FellThrough => Letter::FellThrough,
            MailKind::Completed => Letter::Completed { attachments: self.attachments(mail, &envelope).await? },
        };
        let message = compose(mail, &envelope, recipient, &letter, self.outbox.from(), now)?;
        self.outbox.send(mail, message).await
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

/// Whether there still is a reason for a mail. Who had never been invited hears nothing of the end.
fn due(kind: MailKind, recipient: &Recipient) -> bool {
    match kind {
        MailKind::Invitation => recipient.status() == RecipientStatus::Released,
        MailKind::FellThrough => recipient.released_at.is_some(),
        MailKind::Completed => true,
    }
}
