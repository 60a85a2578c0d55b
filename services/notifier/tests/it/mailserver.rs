//! A mail server that takes what it is sent, or does at each stage what a test wants: refuses, hangs, drops the connection.
//! Must never be more polite than a real one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::task::AbortOnDropHandle;

/// Where in the talk the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    Greeting,
    Hello,
    Sender,
    Recipient,
    Data,
    /// While the mail's bytes come.
    Bytes,
    /// After the last dot, before the mail is taken.
    Dot,
    /// After the mail is taken, before that is said.
    Taken,
}

/// What it does instead of what is usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Say(String),
    Drop,
    Hang,
}

/// Decides by stage, the mail's address as far as it is known, and how often that was asked before.
pub type Rule = Arc<dyn Fn(Stage, &str, usize) -> Option<Act> + Send + Sync>;

/// A mail that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Who gets it.
    pub to: String,
    pub text: String,
}

struct Shared {
    rule: Mutex<Rule>,
    asked: Mutex<HashMap<(Stage, String), usize>>,
    taken: Mutex<Vec<Taken>>,
    connections: Mutex<usize>,
    tls: Option<TlsAcceptor>,
    utf8: bool,
}

/// A running server. Ends when dropped.
pub struct MailServer {
    pub url: String,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

impl MailServer {
    /// `refusal` is said to every `RCPT TO`; the address is quoted behind it.
    pub async fn start(refusal: Option<&'static str>) -> Self {
        Self::with(Arc::new(move |stage, address, _| match stage {
            Stage::Recipient => refusal.map(|refusal| Act::Say(format!("{refusal} <{address}>"))),
            _ => None,
        }))
        .await
    }

    pub async fn with(rule: Rule) -> Self {
        Self::listening(rule, None, false).await
    }

    /// One that carries addresses in other letters.
    pub async fn international() -> Self {
        Self::listening(Arc::new(|_, _, _| None), None, true).await
    }

    /// One that talks about nothing before STARTTLS, with that certificate and key.
    pub async fn encrypted((certificate, key): (PathBuf, PathBuf)) -> Self {
        let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self::listening(Arc::new(|_, _, _| None), Some(TlsAcceptor::from(Arc::new(config))), false).await
    }

    async fn listening(rule: Rule, tls: Option<TlsAcceptor>, utf8: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            rule: Mutex::new(rule),
            asked: Mutex::default(),
            taken: Mutex::default(),
            connections: Mutex::default(),
            tls,
            utf8,
        });
        let served = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                *served.connections.lock().unwrap() += 1;
                tokio::spawn(begin(socket, Arc::clone(&served)));
            }
        });
        Self { url, shared, _task: AbortOnDropHandle::new(task) }
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// How often it was asked at that stage.
    pub fn asked(&self, stage: Stage) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|((at, _), _)| *at == stage).map(|(_, count)| count).sum()
    }

    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// From now on.
    pub fn rules(&self, rule: Rule) {
        *self.shared.rule.lock().unwrap() = rule;
    }
}

impl Shared {
    fn decide(&self, stage: Stage, address: &str) -> Option<Act> {
        let mut asked = self.asked.lock().unwrap();
        let count = asked.entry((stage, address.to_owned())).or_default();
        *count += 1;
        let rule = Arc::clone(&self.rule.lock().unwrap());
        rule(stage, address, *count - 1)
    }
}

async fn begin<S: AsyncRead + AsyncWrite + Unpin + Send>(mut socket: S, shared: Arc<Shared>) {
    if !said(&mut socket, shared.decide(Stage::Greeting, ""), "220 test ESMTP").await {
        return;
    }
    let Some(socket) = talk(socket, &shared, shared.tls.is_some()).await else { return };
    let Ok(socket) = shared.tls.as_ref().unwrap().accept(socket).await else { return };
    talk(socket, &shared, false).await;
}

/// Says what is usual, or what the test wants. False when the connection is over.
async fn said<S: AsyncWrite + Unpin>(socket: &mut S, act: Option<Act>, usual: &str) -> bool {
    let answer = match act {
        None => usual.to_owned(),
        Some(Act::Say(answer)) => answer,
        Some(Act::Drop) => return false,
        Some(Act::Hang) => std::future::pending().await,
    };
    socket.write_all(format!("{answer}\r\n").as_bytes()).await.is_ok()
}

/// Talks to the end; returns the bare connection when TLS is to begin.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(socket: S, shared: &Shared, bare: bool) -> Option<S> {
    let mut socket = BufReader::new(socket);
    let (mut line, mut address) = (String::new(), String::new());
    loop {
        line.clear();
        if socket.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let word = line.split([' ', ':', '\r']).next().unwrap_or_default().to_ascii_uppercase();
        let (stage, usual) = match word.as_str() {
            "EHLO" if bare => (Stage::Hello, "250-test\r\n250 STARTTLS"),
            "EHLO" if shared.utf8 => (Stage::Hello, "250-test\r\n250-8BITMIME\r\n250 SMTPUTF8"),
            "EHLO" => (Stage::Hello, "250-test\r\n250 8BITMIME"),
            "STARTTLS" if bare => {
                socket.write_all(b"220 go on\r\n").await.ok()?;
                return Some(socket.into_inner());
            }
            _ if bare => (Stage::Hello, "530 5.7.0 first STARTTLS"),
            "MAIL" => {
                address.clear();
                (Stage::Sender, "250 ok")
            }
            "RCPT" => {
                address = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                (Stage::Recipient, "250 ok")
            }
            "DATA" => {
                mail(&mut socket, shared, &address).await?;
                continue;
            }
            "QUIT" => return None,
            _ => (Stage::Hello, "250 ok"),
        };
        if !said(&mut socket, shared.decide(stage, &address), usual).await {
            return None;
        }
    }
}

/// Takes a mail; nothing when the connection is over.
async fn mail<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut BufReader<S>,
    shared: &Shared,
    address: &str,
) -> Option<()> {
    let act = shared.decide(Stage::Data, address);
    let refused = act.is_some();
    if !said(socket, act, "354 go on").await {
        return None;
    }
    if refused {
        return Some(());
    }
    let (mut text, mut line, mut lines) = (String::new(), String::new(), 0);
    loop {
        line.clear();
        if socket.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        lines += 1;
        if lines == 10
            && let Some(act) = shared.decide(Stage::Bytes, address)
        {
            return said(socket, Some(act), "").await.then_some(());
        }
        if line == ".\r\n" {
            break;
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
    if let Some(act) = shared.decide(Stage::Dot, address) {
        return said(socket, Some(act), "").await.then_some(());
    }
    shared.taken.lock().unwrap().push(Taken { to: address.to_owned(), text });
    said(socket, shared.decide(Stage::Taken, address), "250 taken").await.then_some(())
}
