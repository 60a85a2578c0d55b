//! What mails say. Text from outside is escaped in HTML and encoded in headers.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use countersign::v1::{Cause, Envelope, EnvelopeStatus, RecipientRole};
use lettre::Message;
use lettre::message::header::ContentType;
use lettre::message::{Attachment as Part, Mailbox, MultiPart, SinglePart};
use minijinja::{AutoEscape, Environment, context};
use secrecy::{ExposeSecret as _, SecretString};

use super::plan::Mail;

/// Who reads a mail.
pub struct Reader {
    /// Their name; empty if it is not known.
    pub name: String,
    /// Their address.
    pub email: String,
}

/// A letter with what only it has.
pub enum Letter {
    /// It is your turn.
    Invitation {
        /// What they are asked to do.
        role: RecipientRole,
        /// The signing link.
        link: SecretString,
    },
    /// The deadline is near.
    ExpiryWarning {
        /// What they are asked to do.
        role: RecipientRole,
        /// The signing link.
        link: SecretString,
    },
    /// Others were asked; this is for you to know.
    Copy {
        /// The original documents.
        documents: Documents,
    },
    /// It fell through.
    FellThrough,
    /// All that was required is done.
    Completed {
        /// The signed documents.
        documents: Documents,
    },
}

/// The documents that go with a mail.
pub enum Documents {
    /// They are attached.
    Attached(Vec<Attachment>),
    /// They are too large for a mail.
    TooLarge,
    /// They are not for this reader.
    Withheld,
}

impl Documents {
    /// Where they are, as a sentence.
    fn place(&self, which: &str) -> String {
        match self {
            Self::Attached(_) => format!("The {which} are attached."),
            Self::TooLarge => format!("The {which} are too large for a mail: the sender can give them to you."),
            Self::Withheld => format!("The {which} are with the sender."),
        }
    }
}

/// A document.
pub struct Attachment {
    /// File name.
    pub name: String,
    /// The PDF.
    pub bytes: Vec<u8>,
}

/// What a role is asked to do, in the words of a mail.
struct Duty {
    /// "Please …", "you are asked to …", "you can …".
    act: &'static str,
    /// What comes behind the subject of the envelope.
    suffix: &'static str,
    /// "The envelope still waits for …".
    owed: &'static str,
    /// What the button says.
    button: &'static str,
    /// "Whoever has the link can …".
    power: &'static str,
}

/// In English; nobody but a signer is asked to sign.
fn duty(role: RecipientRole) -> Duty {
    match role {
        RecipientRole::Unspecified | RecipientRole::Signer => Duty {
            act: "sign",
            suffix: "",
            owed: "your signature",
            button: "Review and sign",
            power: "sign in your name",
        },
        RecipientRole::Approver => Duty {
            act: "approve",
            suffix: "",
            owed: "your approval",
            button: "Review and approve",
            power: "approve in your name",
        },
        RecipientRole::Assistant => Duty {
            act: "fill in",
            suffix: ": there are fields to prepare for the signer, who can still change them",
            owed: "your entries",
            button: "Fill in",
            power: "fill in fields in your name",
        },
        RecipientRole::Viewer | RecipientRole::Cc => {
            Duty { act: "read", suffix: "", owed: "you", button: "Read", power: "read the documents in your name" }
        }
    }
}

const TEXT: &str = "Hello{% if name %} {{ name }}{% endif %},

{% for line in lines %}{{ line }}

{% endfor %}{% if message %}The sender writes:

{{ message }}

{% endif %}{% if link %}{{ link }}

This link is yours alone: whoever has it can {{ power }}. Do not pass it on.
{% endif %}";

const HTML: &str = r##"<!doctype html>
<html><body style="margin:0;background:#f4f4f2;font-family:Helvetica,Arial,sans-serif;color:#222">
<div style="max-width:34em;margin:2em auto;padding:2em;background:#fff;border-radius:6px">
<p>Hello{% if name %} {{ name }}{% endif %},</p>
{% for line in lines %}<p>{{ line }}</p>
{% endfor %}{% if message %}<blockquote style="margin:1.5em 0;padding-left:1em;border-left:3px solid #ccc;white-space:pre-line">{{ message }}</blockquote>
{% endif %}{% if link %}<p style="margin:2em 0"><a href="{{ link }}" style="background:#1d4ed8;color:#fff;padding:.8em 1.6em;border-radius:4px;text-decoration:none">{{ button }}</a></p>
<p style="color:#777;font-size:.85em">This link is yours alone: whoever has it can {{ power }}. Do not pass it on.</p>
{% endif %}</div></body></html>
"##;

/// Writes a mail.
pub fn compose(
    mail: &Mail,
    envelope: &Envelope,
    reader: &Reader,
    letter: &Letter,
    from: &Mailbox,
    now: DateTime<Utc>,
) -> anyhow::Result<Message> {
    let (subject, lines) = words(envelope, letter);
    let test = if envelope.livemode { "" } else { "[TEST] " };
    let message = match letter {
        Letter::Invitation { .. } | Letter::Copy { .. } => envelope.message.as_str(),
        Letter::ExpiryWarning { .. } | Letter::FellThrough | Letter::Completed { .. } => "",
    };
    let (duty, link) = match letter {
        Letter::Invitation { role, link } | Letter::ExpiryWarning { role, link } => (duty(*role), link.expose_secret()),
        Letter::Copy { .. } | Letter::FellThrough | Letter::Completed { .. } => (duty(RecipientRole::Cc), ""),
    };
    let name = line(&reader.name);
    let context = context! { name => &name, lines, message, link, button => duty.button, power => duty.power };
    let text = render(TEXT, AutoEscape::None, &context)?;
    let html = render(HTML, AutoEscape::Html, &context)?;
    // The cause is not shown: it might quote the address.
    let address = reader.email.parse().ok().context("the reader's address cannot be used")?;
    let bodies = MultiPart::alternative_plain_html(text, html);
    let content = match letter {
        Letter::Completed { documents: Documents::Attached(files) }
        | Letter::Copy { documents: Documents::Attached(files) } => {
            let mut mixed = MultiPart::mixed().multipart(bodies);
            for file in files {
                mixed = mixed.singlepart(pdf(file)?);
            }
            mixed
        }
        _ => bodies,
    };
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(Some(name).filter(|name| !name.is_empty()), address))
        .subject(format!("{test}{subject}"))
        .message_id(Some(format!("<{}.{}.{}@countersign>", mail.event, mail.addressee, mail.kind.name())))
        .date(now.into())
        .multipart(content)
        .ok()
        .context("the mail cannot be written")
}

/// The subject of a mail, and what it says line by line.
fn words(envelope: &Envelope, letter: &Letter) -> (String, Vec<String>) {
    let subject = &line(&envelope.subject);
    let deadline = envelope.expires_at.as_ref().and_then(countersign_chassis::wire::datetime);
    let until = deadline.map(|at| format!("You can do so until {} UTC.", at.format("%-d %B %Y, %H:%M")));
    match letter {
        Letter::Invitation { role, .. } => {
            let Duty { act, suffix, .. } = duty(*role);
            let mut lines = vec![format!("You are asked to {act} “{subject}”{suffix}.")];
            lines.extend(until);
            (format!("Please {act}: {subject}"), lines)
        }
        Letter::ExpiryWarning { role, .. } => {
            let Duty { act, owed, .. } = duty(*role);
            let mut lines = vec![format!("“{subject}” still waits for {owed}, and its deadline is near.")];
            lines.extend(until);
            (format!("Deadline is near, please {act}: {subject}"), lines)
        }
        Letter::Copy { documents } => {
            let what = format!("“{subject}” has been sent out, and you get a copy. You need not do anything.");
            (format!("Copy: {subject}"), vec![what, documents.place("documents")])
        }
        Letter::FellThrough => {
            let lines = vec![
                format!("The request to sign “{subject}” has fallen through: {}.", how(envelope)),
                "You need not do anything. Signatures already given are kept on record, but bind nobody.".to_owned(),
            ];
            (format!("Fell through: {subject}"), lines)
        }
        Letter::Completed { documents } => {
            let what = format!("“{subject}” is completed: all required signatures and approvals are given.");
            (format!("Completed: {subject}"), vec![what, documents.place("signed documents")])
        }
    }
}

/// How an envelope fell through.
fn how(envelope: &Envelope) -> &'static str {
    match (envelope.status(), envelope.cause()) {
        (EnvelopeStatus::Voided, Cause::Operator) => "the operator of the service has taken it back",
        (EnvelopeStatus::Voided, Cause::IngestFailed) => "a document could not be read",
        (EnvelopeStatus::Voided, _) => "the sender has taken it back",
        (EnvelopeStatus::Expired, _) => "its deadline has passed",
        (_, Cause::ApprovalRefused) => "a recipient has declined to approve",
        _ => "a recipient has declined to sign",
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
