//! The mail folder, read as the recipients' mail programs would.
//! Must never find a signing link anywhere but in the text of a mail.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use countersign_chassis::keys::sha256;
use mail_parser::MessageParser;

use super::wait::until;

/// What every signing token begins with.
const TOKEN_PREFIX: &str = "cst_";

/// A mail as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    pub event_id: String,
    pub recipient_id: String,
    pub kind: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    /// SHA-256 of each attached file, in hexadecimal digits.
    pub attached: Vec<String>,
    pub file: PathBuf,
}

/// All mails of everybody.
pub(super) struct Mailbox {
    folder: PathBuf,
}

impl Mailbox {
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// All mails so far, in the order of their names.
    pub fn all(&self) -> Result<Vec<Mail>> {
        let entries = std::fs::read_dir(&self.folder).with_context(|| format!("no {}", self.folder.display()))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
        files.sort();
        files
            .iter()
            .map(|file| read(file).with_context(|| format!("cannot read the mail {}", file.display())))
            .collect()
    }

    /// Waits for a mail of this kind to this recipient.
    pub async fn wait(&self, kind: &str, recipient_id: &str, name: &str) -> Result<Mail> {
        let wanted = |mail: &Mail| mail.kind == kind && mail.recipient_id == recipient_id;
        until(&format!("the {kind} mail to {name}"), || Ok(self.all()?.into_iter().find(wanted))).await
    }
}

/// `<event id>.<recipient id>.<kind>.eml`
fn read(file: &Path) -> Result<Mail> {
    let name = file.file_name().and_then(|name| name.to_str()).context("an odd name")?;
    let parts: Vec<&str> = name.split('.').collect();
    let [event_id, recipient_id, kind, "eml"] = parts[..] else { anyhow::bail!("an odd name") };
    let bytes = std::fs::read(file)?;
    let message = MessageParser::default().parse(&bytes).context("no mail")?;
    let to = message.to().and_then(|to| to.first()).and_then(|to| to.address()).context("no address")?;
    Ok(Mail {
        event_id: event_id.to_owned(),
        recipient_id: recipient_id.to_owned(),
        kind: kind.to_owned(),
        to: to.to_owned(),
        subject: message.subject().context("no subject")?.to_owned(),
        attached: message.attachments().map(|part| hex::encode(sha256(part.contents()))).collect(),
        text: message.body_text(0).context("no text")?.into_owned(),
        file: file.to_path_buf(),
    })
}

impl Mail {
    /// The token from the link in the text: what stands behind the `#`.
    pub fn token(&self) -> Result<&str> {
        let link = self.text.split_whitespace().find(|word| word.starts_with("https://") && word.contains('#'));
        let token = link.and_then(|link| link.split_once('#')).map(|(_, token)| token);
        token.filter(|token| token.starts_with(TOKEN_PREFIX)).context("the mail has no signing link")
    }
}
