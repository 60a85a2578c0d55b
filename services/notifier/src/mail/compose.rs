//! What a mail says, as text and as HTML. Text from outside is made harmless, and in HTML escaped.

use minijinja::context;
use secrecy::ExposeSecret;
use url::Url;

use super::language::Moment;
use super::letter::{Letter, Matter, Reader, Sender};
use super::text::{block, line};
use super::words::{Facts, Form, Words};

/// A mail before it has an address.
pub struct Composed {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// HTML.
    pub html: String,
}

/// Writes a letter to a reader. `service` is who sends mails in the name of others.
pub fn compose(
    words: &Words,
    letter: &Letter,
    matter: &Matter,
    reader: &Reader,
    sender: &Sender,
    service: &str,
) -> anyhow::Result<Composed> {
    let script = letter.script();
    let (name, brand) = (line(&reader.name), line(&sender.name));
    let mut facts = Facts::default()
        .foreign("subject", &line(&matter.subject))
        .foreign("sender", &brand)
        .foreign("service", &line(service))
        .foreign("name", &name);
    if let Letter::Reminder { count, .. } = letter {
        facts = facts.own("count", count.to_string());
    }
    if let Letter::EndpointDisabled { endpoint, since, .. } = letter {
        facts = facts.own("endpoint", endpoint.as_str()).moment("since", Moment::at(*since, &reader.zone));
    }
    let mut lines = script.lines;
    if let Some(deadline) = matter.deadline.filter(|_| script.with_deadline) {
        facts = facts.moment("deadline", Moment::at(deadline, &reader.zone));
        lines.push("deadline".to_owned());
    }
    let say = |key: &str, form| words.say(reader.language, key, &facts, form);
    let title = say(&script.subject, Form::Text)?;
    let message = if script.with_message { block(&matter.message) } else { String::new() };
    let body = |form| -> anyhow::Result<String> {
        let all =
            |keys: &[String]| keys.iter().map(|key| said(say(key, form)?, form)).collect::<anyhow::Result<Vec<_>>>();
        let one = |key: &str| said(say(key, form)?, form);
        let greeting = if name.is_empty() { "greeting" } else { "greeting_name" };
        let context = context! {
            lang => reader.language.tag(),
            dir => reader.language.direction(),
            title => &title,
            color => sender.color.html(),
            on_color => sender.color.words_on_it(),
            logo => logo(&sender.logo),
            brand => &brand,
            test => if matter.test { Some(one("test")?) } else { None },
            greeting => one(greeting)?,
            lines => all(&lines)?,
            message_intro => one("message")?,
            message => &message,
            link => letter.link().map(ExposeSecret::expose_secret),
            button => script.button.as_deref().map(one).transpose()?,
            open => one("open")?,
            notes => all(&script.notes)?,
            automatic => one("automatic")?,
        };
        words.body(form, context)
    };
    let (text, html) = (body(Form::Text)?, body(Form::Html)?);
    let test = if matter.test { "[TEST] " } else { "" };
    Ok(Composed { subject: format!("{test}{title}"), text, html })
}

/// What was said in HTML is escaped already.
fn said(text: String, form: Form) -> anyhow::Result<minijinja::Value> {
    Ok(match form {
        Form::Text => text.into(),
        Form::Html => minijinja::Value::from_safe_string(text),
    })
}

/// The address of a picture, if it is one of `https`: nothing else is ever put into a mail.
fn logo(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    (url.scheme() == "https" && url.host_str().is_some() && url.username().is_empty() && url.password().is_none())
        .then(|| url.into())
}
