//! Where mails go: an SMTP server, or a folder.

use std::path::PathBuf;

use anyhow::Context as _;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use secrecy::ExposeSecret as _;

use crate::config::Config;
use crate::plan::Mail;
use crate::store::MailState;

/// Where mails go.
#[derive(Clone)]
pub struct Outbox {
    from: Mailbox,
    smtp: Option<AsyncSmtpTransport<Tokio1Executor>>,
    folder: Option<PathBuf>,
}

impl Outbox {
    /// As the settings say.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let from = config.mail_from.parse().ok().context("mail from: not an address")?;
        let smtp = config.smtp_url.as_ref();
        let smtp = smtp.map(|url| AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret()));
        let smtp = smtp
            .transpose()
            .ok()
            .context("smtp url: not an address")?
            .map(lettre::transport::smtp::AsyncSmtpTransportBuilder::build);
        if let Some(folder) = &config.mail_folder {
            std::fs::create_dir_all(folder).with_context(|| format!("mail folder {}", folder.display()))?;
        }
        Ok(Self { from, smtp, folder: config.mail_folder.clone() })
    }

    pub(super) fn from(&self) -> &Mailbox {
        &self.from
    }

    /// Sends a mail. What is only a test never leaves for the outside.
    pub(super) async fn send(&self, mail: &Mail, message: Message) -> anyhow::Result<MailState> {
        if let (true, Some(smtp)) = (mail.livemode, &self.smtp) {
            // The server's words may quote addresses: only the kind of failure is told.
            let sent = smtp.send(message).await;
            return sent.map(|_| MailState::Sent).map_err(|error| {
                anyhow::anyhow!(
                    "the mail server refused it: {}",
                    if error.is_permanent() { "for good" } else { "for now" }
                )
            });
        }
        let Some(folder) = &self.folder else { return Ok(MailState::Suppressed) };
        let name = format!("{}.{}.{}.eml", mail.event, mail.recipient, mail.kind.name());
        let (path, half) = (folder.join(&name), folder.join(format!(".{name}.half")));
        tokio::fs::write(&half, message.formatted()).await.context("mail folder")?;
        tokio::fs::rename(&half, &path).await.context("mail folder")?;
        Ok(MailState::Sent)
    }
}
