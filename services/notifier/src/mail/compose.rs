//! What mails say. Text from outside is escaped in HTML and encoded in headers.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use countersign::v1::{Envelope, EnvelopeStatus, Recipient};
use lettre::Message;
use lettre::message::header::ContentType;
use lettre::message::{Attachment as Part, Mailbox, MultiPart, SinglePart};
use minijinja::{AutoEscape, Environment, context};
use secrecy::{ExposeSecret as _, SecretString};

use crate::plan::Mail;

/// A letter with what only it has.
pub enum Letter {
    /// It is your turn.
    Invitation {
        /// The signing link.
        link: SecretString,
    },
    /// It fell through.
    FellThrough,
    /// All have signed.
    Completed {
        /// The signed documents; none if they are too large for a mail.
        attachments: Vec<Attachment>,
    },
}

/// A signed document.
pub struct Attachment {
    /// File name.
    pub name: String,
    /// The PDF.
    pub bytes: Vec<u8>,
}

const TEXT: &str = "Hello {{ name }},

{% for line in lines %}{{ line }}

{% endfor %}{% if message %}The sender writes:

{{ message }}

{% endif %}{% if link %}{{ link }}

This link is yours alone: whoever has it can sign in your name. Do not pass it on.
{% endif %}";

const HTML: &str = r##"<!doctype html>
<html><body style="margin:0;background:#f4f4f2;font-family:Helvetica,Arial,sans-serif;color:#222">
<div style="max-width:34em;margin:2em auto;padding:2em;background:#fff;border-radius:6px">
<p>Hello {{ name }},</p>
{% for line in lines %}<p>{{ line }}</p>
{% endfor %}{% if message %}<blockquote style="margin:1.5em 0;padding-left:1em;border-left:3px solid #ccc;white-space:pre-line">{{ message }}</blockquote>
{% endif %}{% if link %}<p style="margin:2em 0"><a href="{{ link }}" style="background:#1d4ed8;color:#fff;padding:.8em 1.6em;border-radius:4px;text-decoration:none">Review and sign</a></p>
<p style="color:#777;font-size:.85em">This link is yours alone: whoever has it can sign in your name. Do not pass it on.</p>
{% endif %}</div></body></html>
"##;

/// Writes a mail.
pub fn compose(
    mail: &Mail,
    envelope: &Envelope,
    recipient: &Recipient,
    letter: &Letter,
    from: &Mailbox,
    now: DateTime<Utc>,
) -> anyhow::Result<Message> {
    let (subject, lines) = words(envelope, letter);
    let test = if envelope.livemode { "" } else { "[TEST] " };
    let (message, link) = match letter {
        Letter::Invitation { link } => (envelope.message.as_str(), link.expose_secret()),
        Letter::FellThrough | Letter::Completed { .. } => ("", ""),
    };
    let context = context! { name => line(&recipient.name), lines, message, link };
    let text = render(TEXT, AutoEscape::None, &context)?;
    let html = render(HTML, AutoEscape::Html, &context)?;
    // The cause is not shown: it might quote the address.
    let address = recipient.email.parse().ok().context("the recipient's address cannot be used")?;
    let bodies = MultiPart::alternative_plain_html(text, html);
    let content = match letter {
        Letter::Completed { attachments } if !attachments.is_empty() => {
            let mut mixed = MultiPart::mixed().multipart(bodies);
            for attachment in attachments {
                mixed = mixed.singlepart(pdf(attachment)?);
            }
            mixed
        }
        _ => bodies,
    };
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(Some(line(&recipient.name)), address))
        .subject(format!("{test}{subject}"))
        .message_id(Some(format!("<{}.{}.{}@countersign>", mail.event, mail.recipient, mail.kind.name())))
        .date(now.into())
        .multipart(content)
        .ok()
        .context("the mail cannot be written")
}

fn words(envelope: &Envelope, letter: &Letter) -> (String, Vec<String>) {
    let subject = &line(&envelope.subject);
    match letter {
        Letter::Invitation { .. } => {
            let mut lines = vec![format!("You are asked to sign “{subject}”.")];
            let deadline = envelope.expires_at.as_ref().and_then(countersign_chassis::wire::datetime);
            lines.extend(deadline.map(|at| format!("You can do so until {} UTC.", at.format("%-d %B %Y, %H:%M"))));
            (format!("Please sign: {subject}"), lines)
        }
        Letter::FellThrough => {
            let how = match envelope.status() {
                EnvelopeStatus::Voided => "the sender has taken it back",
                EnvelopeStatus::Expired => "its deadline has passed",
                _ => "a recipient has declined to sign",
            };
            let lines = vec![
                format!("The request to sign “{subject}” has fallen through: {how}."),
                "You need not do anything. Signatures already given are kept on record, but bind nobody.".to_owned(),
            ];
            (format!("Fell through: {subject}"), lines)
        }
        Letter::Completed { attachments } => {
            let place = if attachments.is_empty() {
                "The signed documents are too large for a mail: the sender can give them to you."
            } else {
                "The signed documents are attached."
            };
            (format!("Completed: {subject}"), vec![format!("Everybody has signed “{subject}”."), place.to_owned()])
        }
    }
}

/// Text from outside as one line: a line break would panic in the mail library.
fn line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn render(template: &str, escape: AutoEscape, context: &minijinja::Value) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(move |_| escape.clone());
    // The cause is not shown: it might quote the context.
    environment.render_str(template, context).ok().context("the mail's text cannot be made")
}

fn pdf(attachment: &Attachment) -> anyhow::Result<SinglePart> {
    let kind = ContentType::parse("application/pdf").context("media type")?;
    Ok(Part::new(line(&attachment.name)).body(attachment.bytes.clone(), kind))
}
