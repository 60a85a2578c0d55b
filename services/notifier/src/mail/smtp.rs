//! Talks SMTP: a few connections that are used again, and each mail told stage by stage, so that a server that is away is
//! not taken for one that refuses the mail. Must never tell or log what a server answers: answers quote addresses.

use std::error::Error as _;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::{Error, SUBMISSION_PORT, SUBMISSIONS_PORT};
use lettre::{Address, Message};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant as Deadline, timeout_at};
use url::Url;

/// How long a connection waits for its next mail.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// Connections that wait at most.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// For a mail and the answer to its last dot a server may take so many times what it may take before.
const DATA_SHARE: u32 = 2;

/// Where in the talk something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connection, greeting, TLS, login and sender: nothing of the mail has been said.
    Session,
    /// Its recipient.
    Recipient,
    /// Its beginning.
    Data,
    /// Its bytes, and the answer to them. The server may have taken it, whatever is heard.
    Content,
}

/// What it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The server cannot be used; of the mail it says nothing.
    Away,
    /// The mail has not been taken this time.
    NotTaken,
    /// The server takes no mail so large.
    TooLarge,
    /// There is no such mailbox.
    NoMailbox,
}

/// Why a mail was not sent. Holds nothing of what the server said but its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub meaning: Meaning,
    /// Where it happened.
    pub stage: Stage,
    /// The server's answer, if there was one.
    pub code: Option<u16>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { meaning, stage, code } = self;
        write!(f, "{meaning:?} at {stage:?}, answer {code:?}")
    }
}

/// Whether and how a connection is encrypted.
enum Security {
    Plain,
    /// If the server offers it.
    Offered(TlsParameters),
    /// Or nothing is sent.
    Required(TlsParameters),
    /// From the first byte.
    Wrapped(TlsParameters),
}

/// A server.
pub struct Smtp {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    hello: ClientId,
    timeout: Duration,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

/// True if a signing link cannot cross a network in the clear: TLS is asked for, or the server is this machine.
fn protects(url: &Url) -> bool {
    let asks = url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    url.scheme() == "smtps" || asks || here
}

impl Smtp {
    /// The server at that address, by the CAs in `ca` besides the platform's. Connects when it is first used.
    pub fn new(url: &SecretString, ca: Option<&[u8]>, timeout: Duration) -> anyhow::Result<Self> {
        let url = Url::parse(url.expose_secret()).ok().context("smtp url: not an address")?;
        anyhow::ensure!(protects(&url), "smtp url: use smtps://, or smtp:// with ?tls=required");
        let host = url.host_str().context("smtp url: no host")?.trim_matches(['[', ']']).to_owned();
        let tls = || {
            let builder = TlsParameters::builder(host.clone());
            let roots = ca.map(Certificate::from_pem).transpose().ok().context("smtp ca: no certificates")?;
            let builder = roots.into_iter().fold(builder, |builder, root| builder.add_root_certificate(root));
            builder.build().ok().context("smtp url: no server name for TLS")
        };
        let asked = url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value.into_owned());
        let (security, port) = match (url.scheme(), asked.as_deref()) {
            ("smtps", _) => (Security::Wrapped(tls()?), SUBMISSIONS_PORT),
            ("smtp", Some("required")) => (Security::Required(tls()?), SUBMISSION_PORT),
            ("smtp", Some("opportunistic")) => (Security::Offered(tls()?), SUBMISSION_PORT),
            ("smtp", None) => (Security::Plain, lettre::transport::smtp::SMTP_PORT),
            _ => anyhow::bail!("smtp url: must begin with smtps:// or smtp://, and tls is required or opportunistic"),
        };
        let decoded = |text: &str| Some(percent_encoding::percent_decode_str(text).decode_utf8().ok()?.into_owned());
        let credentials = url.password().map(|password| {
            let pair = decoded(url.username()).zip(decoded(password));
            pair.map(|(user, password)| Credentials::new(user, password)).context("smtp url: user or password")
        });
        let name = url.path().trim_matches('/');
        let hello = if name.is_empty() { ClientId::default() } else { ClientId::Domain(name.to_owned()) };
        let port = url.port().unwrap_or(port);
        Ok(Self { host, port, security, credentials: credentials.transpose()?, hello, timeout, idle: Mutex::default() })
    }

    /// Sends a mail. In the worst case it takes three times the timeout.
    pub async fn send(&self, message: &Message) -> Result<(), Failure> {
        let bytes = message.formatted();
        let before = Deadline::now() + self.timeout;
        let envelope = message.envelope();
        let mut connection = self.session(envelope, &bytes, before).await?;
        for to in envelope.to() {
            step(Stage::Recipient, before, connection.command(Rcpt::new(to.clone(), Vec::new()))).await?;
        }
        step(Stage::Data, before, connection.command(Data)).await?;
        let until = Deadline::now() + self.timeout * DATA_SHARE;
        step(Stage::Content, until, connection.message(&bytes)).await?;
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < IDLE_CONNECTIONS_MAX
        {
            idle.push((connection, Instant::now()));
        }
        Ok(())
    }

    /// A connection that knows from whom the mail is: one that waits, as long as there is one that still lives.
    async fn session(
        &self,
        envelope: &Envelope,
        bytes: &[u8],
        until: Deadline,
    ) -> Result<AsyncSmtpConnection, Failure> {
        while let Some(mut connection) = self.waiting() {
            let sender = sender(&connection, envelope, bytes)?;
            if step(Stage::Session, until, connection.command(sender)).await.is_ok() {
                return Ok(connection);
            }
        }
        let mut connection = self.connect(until).await?;
        let sender = sender(&connection, envelope, bytes)?;
        step(Stage::Session, until, connection.command(sender)).await?;
        Ok(connection)
    }

    fn waiting(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock().ok()?;
        idle.retain(|(_, since)| since.elapsed() < IDLE_MAX);
        idle.pop().map(|(connection, _)| connection)
    }

    async fn connect(&self, until: Deadline) -> Result<AsyncSmtpConnection, Failure> {
        let session = async {
            let wrapped = match &self.security {
                Security::Wrapped(tls) => Some(tls.clone()),
                Security::Plain | Security::Offered(_) | Security::Required(_) => None,
            };
            let server = (self.host.as_str(), self.port);
            let mut connection =
                AsyncSmtpConnection::connect_tokio1(server, Some(self.timeout), &self.hello, wrapped, None).await?;
            match &self.security {
                Security::Required(tls) => connection.starttls(tls.clone(), &self.hello).await?,
                Security::Offered(tls) if connection.can_starttls() => {
                    connection.starttls(tls.clone(), &self.hello).await?;
                }
                Security::Offered(_) | Security::Plain | Security::Wrapped(_) => {}
            }
            if let Some(credentials) = &self.credentials {
                connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
            }
            Ok(connection)
        };
        step(Stage::Session, until, session).await
    }
}

/// How the sender is told: with what the mail needs. A server that cannot carry the address cannot reach the mailbox.
fn sender(connection: &AsyncSmtpConnection, envelope: &Envelope, bytes: &[u8]) -> Result<Mail, Failure> {
    let mut needs = Vec::new();
    let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
    if !envelope.to().iter().chain(envelope.from()).all(is_ascii) {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(Failure { meaning: Meaning::NoMailbox, stage: Stage::Session, code: None });
        }
        needs.push(MailParameter::SmtpUtfEight);
    }
    if !bytes.is_ascii() {
        needs.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(Mail::new(envelope.from().cloned(), needs))
}

async fn step<T>(stage: Stage, until: Deadline, talk: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    let answered = timeout_at(until, talk).await;
    let late = if stage == Stage::Session { Meaning::Away } else { Meaning::NotTaken };
    let answered = answered.map_err(|_| Failure { meaning: late, stage, code: None })?;
    answered.map_err(|error| {
        let code = error.status().map(u16::from);
        let words = error.source().map(ToString::to_string).unwrap_or_default();
        Failure { meaning: meaning(stage, code, enhanced(&words)), stage, code }
    })
}

/// The enhanced status (RFC 3463) at the beginning of an answer.
fn enhanced(words: &str) -> Option<(u16, u16, u16)> {
    let mut numbers = words.split_whitespace().next()?.split('.').map(|number| number.parse().ok());
    let status = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(status)
}

/// What a refusal, or a silence, means. Whatever happens before the recipient is named says nothing of the mail: it is the same
/// for all. What names the mailbox as the fault is final; all else may be different tomorrow.
fn meaning(stage: Stage, code: Option<u16>, enhanced: Option<(u16, u16, u16)>) -> Meaning {
    if stage == Stage::Session {
        return Meaning::Away;
    }
    match (enhanced, code) {
        // No such mailbox or system, moved, disabled (RFC 3463 §3.2, §3.3). 5.1.7 and 5.1.8 are about the sender.
        (Some((5, 1, 0..=4 | 6 | 10) | (5, 2, 1)), _) => Meaning::NoMailbox,
        // More than the mailbox, or the system, takes in one mail (RFC 3463 §3.3, §3.4). 5.2.2 is a mailbox that is full.
        (Some((5, 2, 3) | (5, 3, 4)), _) => Meaning::TooLarge,
        (Some(_), _) => Meaning::NotTaken,
        // Without one, RFC 5321 §4.2.3 has these for mailboxes, where they are named, and this for room, where bytes are.
        (None, Some(550 | 551 | 553)) if stage == Stage::Recipient => Meaning::NoMailbox,
        (None, Some(552)) if stage != Stage::Recipient => Meaning::TooLarge,
        (None, _) => Meaning::NotTaken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mailbox_that_does_not_exist_is_final() {
        use Meaning::{Away, NoMailbox, NotTaken, TooLarge};
        use Stage::{Content, Data, Recipient, Session};
        for (stage, code, words, expected) in [
            (Recipient, Some(550), "5.1.1 no such user", NoMailbox),
            (Recipient, Some(550), "no such user", NoMailbox),
            (Recipient, Some(551), "moved", NoMailbox),
            (Recipient, Some(553), "5.1.3 bad address", NoMailbox),
            (Recipient, Some(554), "5.1.10 null mx", NoMailbox),
            (Recipient, Some(550), "5.7.1 blocked by policy", NotTaken),
            (Recipient, Some(553), "5.1.8 sender's domain", NotTaken),
            (Recipient, Some(552), "5.2.2 full", NotTaken),
            (Recipient, Some(552), "full", NotTaken),
            (Recipient, Some(552), "5.3.4 too big", TooLarge),
            (Data, Some(552), "5.2.3 too long", TooLarge),
            (Content, Some(552), "5.3.4 too big", TooLarge),
            (Content, Some(552), "too big", TooLarge),
            (Content, Some(554), "5.3.4 too big", TooLarge),
            (Content, Some(552), "5.2.2 full", NotTaken),
            (Content, Some(452), "4.3.4 too big today", NotTaken),
            (Recipient, Some(450), "4.2.1 later", NotTaken),
            (Recipient, Some(421), "closing", NotTaken),
            (Recipient, Some(554), "no", NotTaken),
            (Recipient, None, "", NotTaken),
            (Data, Some(554), "no", NotTaken),
            (Content, Some(550), "spam", NotTaken),
            (Content, Some(550), "5.1.1 no such user", NoMailbox),
            (Content, Some(451), "", NotTaken),
            (Session, Some(554), "no service", Away),
            (Session, Some(550), "5.1.1 who are you", Away),
            (Session, None, "", Away),
        ] {
            assert_eq!(meaning(stage, code, enhanced(words)), expected, "{stage:?} {code:?} {words}");
        }
    }

    #[test]
    fn a_link_crosses_no_network_in_the_clear() {
        let smtp = |url: &str| Smtp::new(&url.into(), None, Duration::from_secs(1)).map(|_| ());
        for url in
            ["smtps://a:b@mail.example", "smtp://mail.example?tls=required", "smtp://127.0.0.1:25", "smtp://[::1]"]
        {
            assert!(smtp(url).is_ok(), "{url}");
        }
        for url in ["smtp://mail.example", "smtp://mail.example?tls=opportunistic", "http://mail.example", "smtp:", "x"]
        {
            assert!(smtp(url).is_err(), "{url}");
        }
    }
}
