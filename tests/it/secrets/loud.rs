//! The real process told to log all that it can: the crates beneath ours are not to say what ours do not.

use std::process::Stdio;
use std::time::Duration;

use countersign::v1::Routing;
use countersign_envelope::serve::{NewAccount, create_account};
use countersign_test_support::client::request;
use countersign_test_support::service::{SERVICE_TOKEN, keys};
use countersign_test_support::{Caller, Database, binary};
use tonic::transport::Endpoint;

use super::search::holds;

/// Who signs, at which address, and why not.
const NAME: &str = "Ottoline Quirk";
const EMAIL: &str = "ottoline.quirk@hidden.example";
const REASON: &str = "The rent is far too dear";

/// How bytes are shown by who shows a list of them.
fn in_decimals(text: &str) -> String {
    text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ")
}

/// A name, an address and a reason go through a service that listens there.
async fn refuse(database: &Database, address: &str) -> Vec<String> {
    let NewAccount { id, api_key } = create_account(&database.config(), &keys(), "Tests Ltd", false).await.unwrap();
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let sender = Caller { account: id.to_string(), token: api_key, channel };
    let mut new = request(1, Routing::Parallel, true);
    new.recipients[0].name = NAME.into();
    new.recipients[0].email = EMAIL.into();
    for _ in 0..200 {
        if sender.get("x").await.unwrap_err().code() != tonic::Code::Unavailable {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let story = sender.story_of(new).await;
    story.signer(0).decline(REASON).await.unwrap();
    vec![sender.token, story.signer(0).token.clone()]
}

/// T-58: an operator who asks for every log line gets neither secrets nor personal data. Fails now: the database's driver
/// shows the parameters of each statement.
#[tokio::test(flavor = "multi_thread")]
async fn t58_a_process_that_logs_all_it_can_tells_nothing_personal() {
    let (database, folder) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let log = folder.path().join("log");
    let mut command = tokio::process::Command::new(binary::path("countersign-envelope").await);
    command.arg("serve").kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(&log).unwrap()).envs([
        ("COUNTERSIGN_LISTEN", address.as_str()),
        ("COUNTERSIGN_LOG", "trace"),
        ("COUNTERSIGN_DATABASE_URL", &database.url),
        ("COUNTERSIGN_MASTER_KEY", &"5c".repeat(32)),
        ("COUNTERSIGN_DOCUMENTS", folder.path().to_str().unwrap()),
        ("COUNTERSIGN_UNSEALED", "true"),
        ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
    ]);
    let mut process = command.spawn().unwrap();
    let secrets = refuse(&database, &address).await;
    process.kill().await.unwrap();
    let log = std::fs::read(&log).unwrap();
    assert!(holds(&log, "SignerService/Decline"), "it logs all it can");
    let mut told = Vec::new();
    for text in [NAME, EMAIL, REASON].into_iter().chain(secrets.iter().map(|secret| &secret[40..])) {
        told.extend([text.to_owned(), in_decimals(text)].into_iter().filter(|form| holds(&log, form)));
    }
    assert!(told.is_empty(), "the log holds {told:?}");
}
