//! Where mails go: an SMTP server, or a folder.

use std::path::PathBuf;

use anyhow::Context as _;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use secrecy::ExposeSecret as _;
use url::Url;

use super::plan::Mail;
use crate::config::Config;
use crate::store::MailState;

/// Answers that say that a mailbox does not exist (RFC 5321 §4.2.3); all others may be different tomorrow.
const FINAL: [&str; 3] = ["550", "551", "553"];

/// True if a signing link cannot cross a network in the clear: TLS is asked for, or the server is this machine.
fn protects(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let asks = url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    url.scheme() == "smtps" || asks || here
}

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
        if let Some(url) = &config.smtp_url {
            anyhow::ensure!(protects(url.expose_secret()), "smtp url: use smtps://, or smtp:// with ?tls=required");
        }
        if config.smtp_url.is_none() && config.mail_folder.is_none() {
            tracing::warn!("neither an SMTP server nor a mail folder is set: no mail will be written");
        }
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
            return match sent {
                Ok(_) => Ok(MailState::Sent),
                Err(error) if error.status().is_some_and(|code| FINAL.contains(&code.to_string().as_str())) => {
                    tracing::warn!(event = mail.event.to_string(), "the mail server knows no such mailbox");
                    Ok(MailState::Dead)
                }
                Err(error) if error.is_permanent() => anyhow::bail!("the mail server refused it"),
                Err(_) => anyhow::bail!("the mail server cannot take it now"),
            };
        }
        let Some(folder) = &self.folder else { return Ok(MailState::Suppressed) };
        let name = format!("{}.{}.{}.eml", mail.event, mail.addressee, mail.kind.name());
        let (path, half) = (folder.join(&name), folder.join(format!(".{name}.half")));
        tokio::fs::write(&half, message.formatted()).await.context("mail folder")?;
        tokio::fs::rename(&half, &path).await.context("mail folder")?;
        Ok(MailState::Sent)
    }
}
