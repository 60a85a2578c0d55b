//! How the notifier shows the envelope service who it is: by a token, by a certificate, and never by its certificate where
//! it asks for somebody else. And which settings it does not start with.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use countersign::v1;
use countersign_chassis::config::TlsConfig;
use countersign_notifier::config::{Cli, Config, Task};
use countersign_notifier::envelopes::Envelopes;
use countersign_notifier::id::{AccountId, EnvelopeId};
use countersign_test_support::certificates::{Authority, Use, write};
use tonic::Code;

use crate::double::Double;

const TOKEN: [&str; 2] = ["--service-token", "0123456789abcdef0123456789abcdef"];
const NOTIFIER: &str = "spiffe://corp/notifier";

/// What is needed whatever else is set.
fn arguments<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let needed = ["countersign-notifier", "serve", "--database-url", "postgres://x", "--master-key"];
    let key = "5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c";
    [&needed[..], &[key, "--envelope-url", url], more].concat()
}

fn config(url: &str, more: &[&str]) -> Config {
    match Cli::try_parse_from(arguments(url, more)).unwrap().command {
        Task::Serve(config) => config,
        Task::Migrate(_) | Task::Health(_) | Task::Check(_) => panic!("serve"),
    }
}

/// A CA, an envelope service with a certificate of it, and the notifier's own certificate.
struct Secured {
    double: Double,
    folder: tempfile::TempDir,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Secured {
    async fn start() -> Self {
        let (ca, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
        let (cert, key) = ca.issue(Use::Server, &["127.0.0.1"]).write(folder.path(), "server");
        let file = write(folder.path(), "ca.pem", &ca.pem);
        let config = TlsConfig { tls_cert: Some(cert), tls_key: Some(key), tls_client_ca: Some(file.clone()) };
        let double = Double::start_over(config).await;
        let (cert, key) = ca.issue(Use::Client, &[NOTIFIER]).write(folder.path(), "notifier");
        Self { double, folder, ca: file, cert, key }
    }

    fn believing(&self, ca: &Path, more: &[&str]) -> Envelopes {
        let more = [&["--envelope-ca", text(ca)], more].concat();
        Envelopes::new(&config(&self.double.url, &more)).unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn over_tls_a_certificate_stands_for_the_token() {
    let stand = Secured::start().await;
    let (account, envelope) = (AccountId::new(), EnvelopeId::new());
    let certificate = ["--client-cert", text(&stand.cert), "--client-key", text(&stand.key)];
    let bearer = format!("Bearer {}", TOKEN[1]);
    for (more, authorization, shown) in [
        (certificate.to_vec(), "", vec![NOTIFIER.to_owned()]),
        (TOKEN.to_vec(), bearer.as_str(), vec![]),
        ([&certificate[..], &TOKEN[..]].concat(), bearer.as_str(), vec![NOTIFIER.to_owned()]),
    ] {
        let envelopes = stand.believing(&stand.ca, &more);
        assert_eq!(envelopes.get(account, envelope).await.unwrap_err().code(), Code::NotFound, "it was asked");
        let mut script = stand.double.script();
        assert_eq!(script.asked_by.pop().unwrap(), (authorization.to_owned(), account.to_string()));
        assert_eq!(script.shown.pop().unwrap(), shown);
    }
}

#[tokio::test]
async fn whose_key_it_is_is_asked_without_the_certificate() {
    let stand = Secured::start().await;
    let who = v1::GetCallerIdentityResponse::default();
    stand.double.script().keys.insert("Bearer somebody".to_owned(), who);
    let envelopes = stand.believing(&stand.ca, &["--client-cert", text(&stand.cert), "--client-key", text(&stand.key)]);
    envelopes.identify("Bearer somebody".parse().unwrap()).await.unwrap();
    assert_eq!(envelopes.identify("Bearer nobody".parse().unwrap()).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(stand.double.script().shown, [Vec::<String>::new(), Vec::new()]);
}

#[tokio::test]
async fn an_envelope_service_of_another_ca_is_not_asked() {
    let stand = Secured::start().await;
    let other = write(stand.folder.path(), "other.pem", &Authority::new("ours").pem);
    let refused = stand.believing(&other, &TOKEN).get(AccountId::new(), EnvelopeId::new()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(stand.double.script().asked_by.is_empty());
}

#[tokio::test]
async fn settings_that_do_not_hold_are_named() {
    let stand = Secured::start().await;
    let (cert, key) = (text(&stand.cert), text(&stand.key));
    let missing = stand.folder.path().join("missing");
    let cases: [(&str, Vec<&str>, &str); 10] = [
        ("https://e", vec![], "--service-token (COUNTERSIGN_SERVICE_TOKEN): is needed"),
        ("http://e", vec![], "--service-token (COUNTERSIGN_SERVICE_TOKEN): is needed"),
        ("https://e", vec!["--client-cert", cert], "--client-key (COUNTERSIGN_CLIENT_KEY): is needed"),
        (
            "https://e",
            [&["--client-key", key], &TOKEN[..]].concat(),
            "--client-cert (COUNTERSIGN_CLIENT_CERT): is needed",
        ),
        ("https://e", vec!["--client-cert", cert, "--client-key", cert], "--client-key (COUNTERSIGN_CLIENT_KEY): "),
        (
            "https://e",
            [&["--envelope-ca", text(&missing)], &TOKEN[..]].concat(),
            "--envelope-ca (COUNTERSIGN_ENVELOPE_CA): ",
        ),
        ("http://e", vec!["--client-cert", cert, "--client-key", key], "needs an https:// address"),
        ("http://e", [&["--envelope-ca", text(&stand.ca)], &TOKEN[..]].concat(), "needs an https:// address"),
        ("ftp://e", TOKEN.to_vec(), "--envelope-url (COUNTERSIGN_ENVELOPE_URL): must begin"),
        ("no address", TOKEN.to_vec(), "--envelope-url (COUNTERSIGN_ENVELOPE_URL): is not an address"),
    ];
    for (url, more, expected) in cases {
        let refused = Envelopes::new(&config(url, &more)).err().expect(expected).to_string();
        assert!(refused.contains(expected), "{refused}");
        assert!(!refused.contains(TOKEN[1]), "{refused}");
    }
}

#[test]
fn the_process_ends_with_status_2() {
    let notifier = |more: &[&str]| {
        let arguments = arguments("http://127.0.0.1:9", more);
        let ended = Command::new(env!("CARGO_BIN_EXE_countersign-notifier")).args(&arguments[1..]).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let listen = [&TOKEN[..], &["--listen", "127.0.0.1:0", "--tls-cert", "/nowhere/cert.pem"]].concat();
    for (more, setting) in [(vec![], "COUNTERSIGN_SERVICE_TOKEN"), (listen, "COUNTERSIGN_TLS_KEY")] {
        let (status, told) = notifier(&more);
        assert!(status == Some(2) && told.contains(setting), "{status:?} {told}");
    }
}
