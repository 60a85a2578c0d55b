//! Asks for what a mail needs: whether there still is a reason, the link, names, addresses and documents. They are asked for
//! at the moment of sending and kept nowhere.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use countersign::v1::{Account, Document, DocumentVersion, Envelope};
use countersign_chassis::wire::datetime;
use secrecy::SecretString;
use tonic::{Code, Status};

use super::color::Color;
use super::due::is_due;
use super::language::Language;
use super::letter::{Documents, Duty, Ending, Letter, Matter, Reader, Sender};
use super::message::Attachment;
use super::plan::{About, Addressee, Mail, MailKind};
use super::{Mailer, is_outage};
use crate::id::{EndpointId, EnvelopeId};
use crate::store::ClaimedMail;

/// Documents are attached up to this size together; above it the mail says where to get them. In base64 they are a third
/// larger, and many servers take 10,240,000 bytes.
const ATTACHED_BYTES_MAX: u64 = 7 * 1024 * 1024;

/// What was found.
pub(super) enum Asked {
    /// All that the mail needs.
    Found(Box<Found>),
    /// There is no reason for it any more.
    NoReason,
    /// Nobody could be asked: an outage, which is waited for.
    CannotAsk(Code),
}

/// All that a mail needs.
pub(super) struct Found {
    pub letter: Letter,
    pub matter: Matter,
    pub reader: Reader,
    pub sender: Sender,
    pub attachments: Vec<Attachment>,
}

/// A file that goes with a mail.
struct Wanted {
    id: String,
    name: String,
    version: DocumentVersion,
    size_bytes: u64,
}

/// Why there is nothing.
enum Missing {
    Reason,
    Answer(Code),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Missing {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// An outage is waited for; anything else that the envelope service says is a failed attempt.
impl From<Status> for Missing {
    fn from(status: Status) -> Self {
        match status.code() {
            code if is_outage(code) => Self::Answer(code),
            code => Self::Failed(anyhow::anyhow!("the envelope service answered {code:?}")),
        }
    }
}

/// The same, where some answers say that the mail is about nothing any more.
fn or_no_reason(codes: &'static [Code]) -> impl Fn(Status) -> Missing {
    move |status| if codes.contains(&status.code()) { Missing::Reason } else { status.into() }
}

impl Mailer {
    pub(super) async fn gather(&self, claimed: &ClaimedMail, now: DateTime<Utc>) -> anyhow::Result<Asked> {
        let mail = &claimed.mail;
        let found = match mail.about {
            About::Envelope(envelope) => self.about_envelope(claimed, envelope, now).await,
            About::Endpoint(endpoint) => self.about_endpoint(mail, endpoint).await,
        };
        match found {
            Ok(found) => Ok(Asked::Found(Box::new(found))),
            Err(Missing::Reason) => Ok(Asked::NoReason),
            Err(Missing::Answer(code)) => Ok(Asked::CannotAsk(code)),
            Err(Missing::Failed(error)) => Err(error),
        }
    }

    async fn about_endpoint(&self, mail: &Mail, endpoint: EndpointId) -> Result<Found, Missing> {
        let reason = self.store.disabled_for(mail.account, endpoint, mail.occurred_at).await;
        let reason = reason.context("the database")?.ok_or(Missing::Reason)?;
        let account = self.account(mail).await?;
        let settings = account.settings.clone().unwrap_or_default();
        if settings.contact_email.is_empty() {
            return Err(Missing::Reason);
        }
        let letter = Letter::EndpointDisabled { endpoint: endpoint.to_string(), since: mail.occurred_at, reason };
        let reader = Reader {
            name: String::new(),
            email: settings.contact_email,
            language: Language::of(&settings.locale),
            zone: settings.time_zone,
        };
        let matter = Matter { test: !mail.livemode, ..Matter::default() };
        Ok(Found { letter, matter, reader, sender: self.sender(account), attachments: Vec::new() })
    }

    async fn about_envelope(
        &self,
        claimed: &ClaimedMail,
        id: EnvelopeId,
        now: DateTime<Utc>,
    ) -> Result<Found, Missing> {
        let mail = &claimed.mail;
        // The link comes before the address: between the two questions the place may be given to somebody else. Then the
        // old link goes to the new person, to whom it is of no use; never the new link to the old person.
        let link = self.link(mail, id).await?;
        let envelope = self.envelopes.get(mail.account, id).await.map_err(or_no_reason(&[Code::NotFound]))?;
        if envelope.purged_at.is_some() {
            // Nobody knows any more to whom it was to go.
            return Err(Missing::Reason);
        }
        let Some((person, duty)) = reader(mail, &envelope, now) else { return Err(Missing::Reason) };
        let account = self.account(mail).await?;
        let settings = account.settings.as_ref();
        let or = |own: &str, usual: Option<&String>| {
            if own.is_empty() { usual.cloned().unwrap_or_default() } else { own.to_owned() }
        };
        let reader = Reader {
            language: Language::of(&or(&person.locale, settings.map(|settings| &settings.locale))),
            zone: or(&person.time_zone, settings.map(|settings| &settings.time_zone)),
            name: person.name,
            email: person.email,
        };
        let (mut attachments, mut documents) = (Vec::new(), Documents::Withheld);
        if let Some(files) = wanted(mail, &envelope) {
            (documents, attachments) = self.documents(claimed, id, files).await?;
        }
        let letter = match (mail.kind, link) {
            (MailKind::Invitation, Some(link)) => Letter::Invitation { duty, link },
            (MailKind::Reminder, Some(link)) => Letter::Reminder { duty, link, count: person.reminders },
            (MailKind::ExpiryWarning, Some(link)) => Letter::ExpiryWarning { duty, link },
            (MailKind::Copy, _) => Letter::Copy(documents),
            (MailKind::FellThrough, _) => Letter::FellThrough(Ending::of(&envelope)),
            (MailKind::Completed, _) => Letter::Completed(documents),
            (MailKind::Invitation | MailKind::Reminder | MailKind::ExpiryWarning | MailKind::EndpointDisabled, _) => {
                return Err(Missing::Reason);
            }
        };
        let matter = Matter {
            deadline: envelope.expires_at.as_ref().and_then(datetime),
            test: !envelope.livemode,
            subject: envelope.subject,
            message: envelope.message,
        };
        Ok(Found { letter, matter, reader, sender: self.sender(account), attachments })
    }

    /// The link of a mail that holds one. There is none if the envelope has ended, or it is not their turn.
    async fn link(&self, mail: &Mail, envelope: EnvelopeId) -> Result<Option<SecretString>, Missing> {
        match (mail.kind, mail.addressee) {
            (MailKind::Invitation | MailKind::Reminder | MailKind::ExpiryWarning, Addressee::Recipient(recipient)) => {
                let link = self.envelopes.signing_link(mail.account, envelope, recipient).await;
                link.map(Some).map_err(or_no_reason(&[Code::NotFound, Code::FailedPrecondition]))
            }
            _ => Ok(None),
        }
    }

    /// In whose name. An envelope service that does not tell costs a mail its colours, not its way.
    async fn account(&self, mail: &Mail) -> Result<Account, Missing> {
        match self.envelopes.account(mail.account).await {
            Ok(account) => Ok(account),
            Err(status) if matches!(status.code(), Code::PermissionDenied | Code::Unimplemented) => {
                tracing::warn!("the envelope service does not tell how the account's mails look");
                Ok(Account::default())
            }
            Err(status) => Err(status.into()),
        }
    }

    fn sender(&self, account: Account) -> Sender {
        let brand = account.settings.and_then(|settings| settings.brand).unwrap_or_default();
        let names = [brand.name, account.name, self.outbox.origin().service().to_owned()];
        let name = names.into_iter().find(|name| !name.trim().is_empty()).unwrap_or_default();
        Sender { name, color: Color::of_brand(&brand.color), logo: brand.logo_url }
    }

    /// Fetches the files, unless they are too large for a mail.
    async fn documents(
        &self,
        claimed: &ClaimedMail,
        envelope: EnvelopeId,
        files: Vec<Wanted>,
    ) -> Result<(Documents, Vec<Attachment>), Missing> {
        let sizes = files.iter().map(|wanted| wanted.size_bytes);
        let mut room = ATTACHED_BYTES_MAX;
        if claimed.is_too_large || files.is_empty() || sizes.fold(0, u64::saturating_add) > room {
            return Ok((Documents::TooLarge, Vec::new()));
        }
        let mut attachments = Vec::with_capacity(files.len());
        for wanted in files {
            attachments.push(self.file(claimed, envelope, &wanted, &mut room).await?);
        }
        Ok((Documents::Attached, attachments))
    }

    async fn file(
        &self,
        claimed: &ClaimedMail,
        envelope: EnvelopeId,
        wanted: &Wanted,
        room: &mut u64,
    ) -> Result<Attachment, Missing> {
        let (account, envelope) = (claimed.mail.account, envelope.to_string());
        let found = self.envelopes.download(account, &envelope, &wanted.id, wanted.version, *room).await?;
        *room = room.saturating_sub(found.bytes.len() as u64);
        // The name says which version it is.
        let name = if found.name.is_empty() { wanted.name.clone() } else { found.name };
        Ok(Attachment { name, bytes: found.bytes })
    }
}

/// The files that go with a mail. A watcher gets none.
fn wanted(mail: &Mail, envelope: &Envelope) -> Option<Vec<Wanted>> {
    match (mail.kind, mail.addressee) {
        (MailKind::Copy, _) => {
            let original = |document: &Document| Wanted {
                id: document.id.clone(),
                name: document.name.clone(),
                version: DocumentVersion::Original,
                size_bytes: document.size_bytes,
            };
            Some(envelope.documents.iter().map(original).collect())
        }
        (MailKind::Completed, Addressee::Recipient(_)) => {
            let made = |version| envelope.documents.iter().filter_map(move |document| artifact(document, version));
            let mut artifacts = envelope.documents.iter().flat_map(|document| &document.artifacts);
            // Such a document does not show what was signed.
            let is_apart = artifacts.any(|artifact| artifact.values_on_certificate);
            let certificate = made(DocumentVersion::Certificate).take(usize::from(is_apart));
            Some(made(DocumentVersion::Signed).chain(certificate).collect())
        }
        _ => None,
    }
}

/// What the service made of a document, if it did.
fn artifact(document: &Document, version: DocumentVersion) -> Option<Wanted> {
    let artifact = document.artifacts.iter().find(|it| it.version() == version)?;
    Some(Wanted { id: document.id.clone(), name: document.name.clone(), version, size_bytes: artifact.size_bytes })
}

/// A person as the envelope has them now.
struct Person {
    name: String,
    email: String,
    locale: String,
    time_zone: String,
    reminders: u32,
}

/// Who gets the mail, or nobody if there is no reason for it any more.
fn reader(mail: &Mail, envelope: &Envelope, now: DateTime<Utc>) -> Option<(Person, Duty)> {
    match mail.addressee {
        Addressee::Recipient(id) => {
            let id = id.to_string();
            let it = envelope.recipients.iter().find(|recipient| recipient.id == id)?;
            let person = || Person {
                name: it.name.clone(),
                email: it.email.clone(),
                locale: it.locale.clone(),
                time_zone: it.time_zone.clone(),
                reminders: it.reminders,
            };
            is_due(mail, envelope, it, now).then(|| (person(), it.role().into()))
        }
        Addressee::Watcher(id) => {
            let id = id.to_string();
            let email = envelope.watchers.iter().find(|watcher| watcher.id == id)?.email.clone();
            // Of a watcher nothing but the address is known.
            let (name, locale, time_zone) = Default::default();
            Some((Person { name, email, locale, time_zone, reminders: 0 }, Duty::Read))
        }
        Addressee::Contact(_) => None,
    }
}
