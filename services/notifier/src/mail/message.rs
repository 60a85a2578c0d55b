//! A mail as it travels: headers, bodies and attachments. Must never put text from outside into a header that it could leave.

use std::convert::Infallible;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use countersign_chassis::propagation;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Attachment as Part, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};

use super::compose::Composed;
use super::plan::{Mail, MailKind};
use super::text::line;

/// Longest name in a header, in characters.
const NAME_CHARS_MAX: usize = 100;
/// The domain of ids where the service's address has none that can be written in ASCII.
const NO_DOMAIN: &str = "countersign.invalid";

/// A document that goes with a mail.
pub struct Attachment {
    /// File name.
    pub name: String,
    /// The PDF.
    pub bytes: Vec<u8>,
}

/// What the headers of all mails have in common.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who sends.
    pub from: Mailbox,
    /// Where people write who want no more reminders.
    pub unsubscribe: Option<Address>,
}

impl Origin {
    /// The name of who sends.
    #[must_use]
    pub fn service(&self) -> &str {
        self.from.name.as_deref().unwrap_or_else(|| self.from.email.domain())
    }

    /// In whose name a mail is, and through whom. A name that could be taken for an address stays in the body.
    fn on_behalf_of(&self, brand: &str) -> Mailbox {
        let brand = name(brand);
        let service = self.service();
        if brand.is_empty() || brand == service || brand.contains('@') {
            return self.from.clone();
        }
        Mailbox::new(Some(format!("{brand} via {service}")), self.from.email.clone())
    }

    /// The same for the same mail, however often it is sent.
    fn message_id(&self, mail: &Mail) -> String {
        let domain = idna::domain_to_ascii(self.from.email.domain());
        let domain = domain.as_deref().unwrap_or(NO_DOMAIN);
        format!("<{}.{}.{}@{domain}>", mail.event, mail.addressee, mail.kind.name())
    }
}

macro_rules! header {
    ($kind:ident, $name:literal) => {
        #[derive(Clone)]
        struct $kind(String);
        impl Header for $kind {
            fn name() -> HeaderName {
                HeaderName::new_from_ascii_str($name)
            }
            fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Ok::<_, Infallible>(Self(text.to_owned())).map_err(Into::into)
            }
            fn display(&self) -> HeaderValue {
                HeaderValue::new(Self::name(), self.0.clone())
            }
        }
    };
}

header!(AutoSubmitted, "Auto-Submitted");
header!(AutoResponseSuppress, "X-Auto-Response-Suppress");
header!(ListUnsubscribe, "List-Unsubscribe");
header!(TraceParent, "Traceparent");

/// An address that a mail can be sent to. Its domain is written in ASCII, which every server takes; what stands before it may
/// need one that knows SMTPUTF8.
#[must_use]
pub fn address(text: &str) -> Option<Address> {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return None;
    }
    let (user, domain) = text.rsplit_once('@')?;
    let domain = idna::domain_to_ascii(domain).ok()?;
    Address::new(user, domain).ok()
}

/// An address as the quotas count it: however it is written, and with whatever behind a `+`.
#[must_use]
pub fn mailbox_of(address: &Address) -> String {
    let user = address.user().split('+').next().unwrap_or_default();
    format!("{user}@{}", address.domain()).to_lowercase()
}

/// Puts a mail together.
pub fn message(
    mail: &Mail,
    composed: Composed,
    attachments: Vec<Attachment>,
    to: (&str, Address),
    brand: &str,
    origin: &Origin,
    now: DateTime<Utc>,
) -> anyhow::Result<Message> {
    let Composed { subject, text, html } = composed;
    let reader = Some(name(to.0)).filter(|name| !name.is_empty());
    let mut builder = Message::builder()
        .from(origin.on_behalf_of(brand))
        .to(Mailbox::new(reader, to.1))
        .subject(unencoded(&line(&subject)))
        .message_id(Some(origin.message_id(mail)))
        .date(now.into())
        .header(AutoSubmitted("auto-generated".to_owned()))
        .header(AutoResponseSuppress("All".to_owned()));
    if let (MailKind::Reminder, Some(unsubscribe)) = (mail.kind, &origin.unsubscribe) {
        // Whom it is about, by an id that opens nothing.
        builder = builder.header(ListUnsubscribe(format!("<mailto:{unsubscribe}?subject={}>", mail.addressee)));
    }
    // For whoever handles mails that come back: random digits, which say nothing of anybody.
    if let Some(traceparent) = propagation::current() {
        builder = builder.header(TraceParent(traceparent));
    }
    let bodies = MultiPart::alternative_plain_html(text, html);
    let content = if attachments.is_empty() {
        bodies
    } else {
        let mixed = MultiPart::mixed().multipart(bodies);
        attachments.into_iter().try_fold(mixed, |mixed, file| anyhow::Ok(mixed.singlepart(pdf(file)?)))?
    };
    // The cause is not shown: it might quote an address.
    builder.multipart(content).ok().context("the mail cannot be written")
}

/// A name as a header takes it.
fn name(text: &str) -> String {
    let name: String = unencoded(&line(text)).chars().take(NAME_CHARS_MAX).collect();
    name.trim_end().to_owned()
}

/// What looks like an encoded word (RFC 2047) would be decoded by who reads it, and what it hides with it.
fn unencoded(text: &str) -> String {
    text.replace("=?", "= ?")
}

/// Whatever it is called, it is a PDF in no folder.
fn pdf(attachment: Attachment) -> anyhow::Result<SinglePart> {
    let kind = ContentType::parse("application/pdf").context("media type")?;
    let name = line(&attachment.name).replace(['/', '\\'], "_");
    let name = if name.to_lowercase().ends_with(".pdf") { name } else { format!("{name}.pdf") };
    Ok(Part::new(name).body(attachment.bytes, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_other_letters_can_be_used() {
        let written = |text: &str| address(text).map(|address| address.to_string());
        assert_eq!(written("zoe@bücher.example").as_deref(), Some("zoe@xn--bcher-kva.example"));
        assert_eq!(written("用户@例え.テスト").as_deref(), Some("用户@xn--r8jz45g.xn--zckzah"));
        for text in ["", "a", "a@", "@b.example", "a b@c.example", "a@b.example\r\nBcc: c@d.example", "a\0@b.example"] {
            assert_eq!(written(text), None, "{text:?}");
        }
    }

    #[test]
    fn quotas_know_a_mailbox_by_all_its_spellings() {
        let mailbox = |text: &str| mailbox_of(&address(text).unwrap());
        assert_eq!(mailbox("Zoe+2@Example.COM"), "zoe@example.com");
        assert_eq!(mailbox("zoe@bücher.example"), mailbox("ZOE+x@xn--bcher-kva.example"));
    }
}
