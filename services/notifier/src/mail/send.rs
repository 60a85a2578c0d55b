//! Where mails go: an SMTP server, or a folder. What is only a test never leaves for the outside.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use lettre::Message;

use super::message::{Origin, address};
use super::plan::Mail;
use super::smtp::{Failure, Meaning, Smtp};
use crate::config::Config;

/// After a server was found away nobody asks it for so long.
const AWAY: TimeDelta = TimeDelta::seconds(15);

/// Where mails go.
#[derive(Clone)]
pub struct Outbox {
    origin: Origin,
    smtp: Option<Arc<Smtp>>,
    timeout: Duration,
    folder: Option<PathBuf>,
    /// Until when the server is left alone.
    away_until: Arc<std::sync::Mutex<Option<DateTime<Utc>>>>,
}

impl Outbox {
    /// As the settings say.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        if config.smtp_url.is_none() && config.mail_folder.is_none() {
            tracing::warn!("neither an SMTP server nor a mail folder is set: no mail will be written");
        }
        let from = config.mail_from.parse().ok().context("mail from: not an address")?;
        let unsubscribe = config.mail.unsubscribe_mailto.as_deref();
        let unsubscribe =
            unsubscribe.map(|to| address(to).context("unsubscribe mailto: not an address")).transpose()?;
        let ca = config.mail.smtp_ca.as_ref();
        let ca = ca.map(std::fs::read).transpose().context("smtp ca")?;
        let timeout = Duration::from_millis(config.mail.smtp_timeout_ms);
        let smtp = config.smtp_url.as_ref().map(|url| Smtp::new(url, ca.as_deref(), timeout)).transpose()?;
        if let Some(folder) = &config.mail_folder {
            std::fs::create_dir_all(folder).with_context(|| format!("mail folder {}", folder.display()))?;
        }
        let origin = Origin { from, unsubscribe };
        let folder = config.mail_folder.clone();
        Ok(Self { origin, smtp: smtp.map(Arc::new), timeout, folder, away_until: Arc::default() })
    }

    /// Who sends.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How long sending a mail may take: all that is said before its first byte, and twice as long for its bytes.
    pub(super) fn send_max(&self) -> Duration {
        self.timeout * 3
    }

    /// The server by which a mail leaves, if it does.
    pub(super) fn outside(&self, mail: &Mail) -> Option<Outside<'_>> {
        let smtp = self.smtp.as_ref().filter(|_| mail.livemode)?;
        Some(Outside { smtp, outbox: self })
    }

    /// False while the server is left alone.
    pub(super) fn reaches_outside(&self, now: DateTime<Utc>) -> bool {
        self.away_until.lock().ok().and_then(|until| *until).is_none_or(|until| until <= now)
    }

    /// Puts a mail into the folder; false if there is none.
    pub(super) async fn put(&self, mail: &Mail, message: &Message) -> anyhow::Result<bool> {
        let Some(folder) = &self.folder else { return Ok(false) };
        let name = format!("{}.{}.{}.eml", mail.event, mail.addressee, mail.kind.name());
        let (path, half) = (folder.join(&name), folder.join(format!(".{name}.half")));
        tokio::fs::write(&half, message.formatted()).await.context("mail folder")?;
        tokio::fs::rename(&half, &path).await.context("mail folder")?;
        Ok(true)
    }
}

/// The way out.
pub(super) struct Outside<'a> {
    smtp: &'a Smtp,
    outbox: &'a Outbox,
}

impl Outside<'_> {
    /// Sends a mail.
    pub(super) async fn send(&self, message: &Message, now: DateTime<Utc>) -> Result<(), Failure> {
        let sent = self.smtp.send(message).await;
        if sent.is_err_and(|failure| failure.meaning == Meaning::Away)
            && let Ok(mut until) = self.outbox.away_until.lock()
        {
            *until = Some(now + AWAY);
        }
        sent
    }
}
