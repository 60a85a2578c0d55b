//! The real processes, killed at any moment: nothing acknowledged is lost, nothing is told differently twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::http::StatusCode;
use countersign::v1::Routing;
use countersign_notifier::id::{EventId, RecipientId};
use countersign_test_support::binary::Process;
use countersign_test_support::notifier::{database, mails, register};
use countersign_test_support::service::SERVICE_TOKEN;
use countersign_test_support::{Caller, Database, Receiver, Service, Story};
use tonic::transport::Endpoint;

/// kill -9s of the notifier.
const KILLS: u32 = 12;

/// The notifier as an operator starts it.
pub async fn notifier(database: &Database, service: &str, mails: &tempfile::TempDir) -> Process {
    notifier_with(database, service, mails, &[]).await
}

/// The same with settings of its own.
pub async fn notifier_with(
    database: &Database,
    service: &str,
    mails: &tempfile::TempDir,
    more: &[(&str, &str)],
) -> Process {
    let (master, url) = ("5c".repeat(32), format!("http://{service}"));
    let mut settings = vec![
        ("COUNTERSIGN_DATABASE_URL", database.url.as_str()),
        ("COUNTERSIGN_MASTER_KEY", &master),
        ("COUNTERSIGN_ENVELOPE_URL", &url),
        ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
        ("COUNTERSIGN_WEBHOOK_ALLOW_PRIVATE", "true"),
        ("COUNTERSIGN_WEBHOOK_CHALLENGE", "false"),
        ("COUNTERSIGN_MAIL_FOLDER", mails.path().to_str().unwrap()),
        ("COUNTERSIGN_DELIVERY_POLL_MS", "100"),
        ("COUNTERSIGN_LEASE_SECONDS", "3"),
    ];
    settings.extend(more);
    Process::start("countersign-notifier", &settings).await
}

/// Every event of the account, by id.
pub async fn happened(sender: &Caller, stories: &[Story]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for story in stories {
        ids.extend(sender.history(&story.envelope.id).await.unwrap().into_iter().map(|entry| entry.event.unwrap().id));
    }
    ids
}

/// The mails in that state, as their files begin: event and recipient, who alone are written to here.
async fn noted(notices: &Database, state: i16) -> BTreeSet<String> {
    let query = "SELECT event_id, addressee_id FROM mail WHERE state = $1 AND addressee_kind = 1";
    let rows = notices.connect().await.query(query, &[&state]).await.unwrap();
    rows.iter()
        .map(|row| format!("{}.{}", EventId::from_uuid(row.get(0)), RecipientId::from_uuid(row.get(1))))
        .collect()
}

/// T-29, D3: each event reaches the endpoint whatever is killed; a duplicate has the same id and the same bytes.
#[tokio::test(flavor = "multi_thread")]
async fn d3_killing_the_notifier_loses_no_webhook() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (database, folder) = (database().await, tempfile::tempdir().unwrap());
    // One in five answers is a failure after the body has been taken: the attempt counts as failed.
    let answer = |number: usize| if number % 5 == 4 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let receiver = Receiver::start(answer).await;
    let mut process = notifier(&database, &service.address, &folder).await;
    let channel = Endpoint::from_shared(format!("http://{}", process.address)).unwrap().connect_lazy();
    register(&channel, &sender, &receiver.url).await.unwrap();

    let mut stories = Vec::new();
    for kill in 0..KILLS {
        for _ in 0..3 {
            let story = sender.story(2, Routing::Parallel).await;
            story.signer(0).sign(&story.envelope).await.unwrap();
            story.signer(1).decline("no").await.unwrap();
            stories.push(story);
        }
        tokio::time::sleep(Duration::from_millis(u64::from(kill) * 37 % 220)).await;
        process.kill().await;
        process = notifier(&database, &service.address, &folder).await;
    }
    // Claims of the dead run out and the schedule's pauses pass, here at once.
    let pass = "WITH rested AS (UPDATE endpoint SET resting_until = NULL) \
                UPDATE delivery SET next_at = next_at - interval '2 days', lease_until = NULL WHERE state = 1";
    let client = database.connect().await;
    let arrived = || receiver.received().iter().map(|one| one.header("webhook-id").to_owned()).collect::<BTreeSet<_>>();
    for story in &stories {
        story.until_artifact().await;
    }
    let expected = happened(&sender, &stories).await;
    assert_eq!(expected.len(), stories.len() * 8);
    for _ in 0..400 {
        if arrived().is_superset(&expected) {
            break;
        }
        client.execute(pass, &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let missing: Vec<_> = expected.difference(&arrived()).cloned().collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    let mut bodies: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for one in receiver.received() {
        bodies.entry(one.header("webhook-id").to_owned()).or_default().insert(one.body);
    }
    let changed: Vec<_> = bodies.iter().filter(|(_, bodies)| bodies.len() > 1).collect();
    assert!(changed.is_empty(), "told differently twice: {changed:?}");
    assert_eq!(bodies.len(), stories.len() * 8, "nothing was told that did not happen");

    // Mails: each invitation is a file of its own name, written once or again, never lost.
    let age = "UPDATE mail SET next_at = next_at - interval '2 days', lease_until = NULL WHERE state = 1";
    for _ in 0..200 {
        client.execute(age, &[]).await.unwrap();
        if database.number("SELECT count(*) FROM mail WHERE state = 1").await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(database.number("SELECT count(*) FROM mail WHERE state IN (1, 4)").await, 0);
    let files: BTreeSet<_> =
        mails(&folder).into_iter().map(|(name, _)| name.rsplitn(3, '.').last().unwrap().to_owned()).collect();
    let (sent, suppressed) = (noted(&database, 2).await, noted(&database, 3).await);
    let lost: Vec<_> = sent.difference(&files).collect();
    assert!(lost.is_empty() && !sent.is_empty(), "noted and not written: {lost:?}");
    // One that was written and not noted may have lost its reason until it was looked at again.
    let stray: Vec<_> = files.iter().filter(|file| !sent.contains(*file) && !suppressed.contains(*file)).collect();
    assert!(stray.is_empty(), "written and never noted: {stray:?}");
    process.kill().await;
}

/// T-72: the envelope service killed while it commits: what was acknowledged is there, and it comes back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn t72_killing_the_envelope_service_loses_nothing_acknowledged() {
    let (seed, documents) = (Service::start().await, tempfile::tempdir().unwrap());
    let sender = seed.account(false).await;
    let database = seed.database.clone();
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", database.url.as_str()),
        ("COUNTERSIGN_MASTER_KEY", &"5c".repeat(32)),
        ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
        ("COUNTERSIGN_DOCUMENTS", documents.path().to_str().unwrap()),
        ("COUNTERSIGN_UNSEALED", "true"),
    ];
    let mut acknowledged = Vec::new();
    for kill in 0..6_u64 {
        let process = Process::start("countersign-envelope", &settings).await;
        let channel = Endpoint::from_shared(format!("http://{}", process.address)).unwrap().connect_lazy();
        let sender = Caller { channel, ..sender.clone() };
        let (made, mut enough) = tokio::sync::watch::channel(0);
        let work = async {
            loop {
                let new = countersign_test_support::client::request(1, Routing::Parallel, true);
                match sender.create(new).await {
                    Ok(envelope) => acknowledged.push(envelope.id),
                    Err(_) => break,
                }
                made.send_modify(|made| *made += 1);
            }
        };
        let moment = async {
            enough.wait_for(|made| *made >= 2).await.unwrap();
            tokio::time::sleep(Duration::from_millis(kill * 37)).await;
        };
        tokio::select! {
            () = work => {}
            () = moment => {}
        }
        process.kill().await;
    }
    assert!(acknowledged.len() >= 12, "{} created", acknowledged.len());
    for id in &acknowledged {
        seed_has(&sender, id).await;
    }
    // What was not acknowledged is there as a whole or not at all.
    let halves = "SELECT count(*) FROM envelope e WHERE (SELECT count(*) FROM event v WHERE v.envelope_id = e.id) <> 3 \
                  OR NOT EXISTS (SELECT FROM recipient r WHERE r.envelope_id = e.id)";
    assert_eq!(database.number(halves).await, 0);
    seed.stop().await;
}

async fn seed_has(sender: &Caller, id: &str) {
    sender.get(id).await.expect("what was acknowledged is there");
}

/// S1.38: what an operator does first: migrate, make an account, and use the key that is printed; a bad setting is named.
#[tokio::test(flavor = "multi_thread")]
async fn s1_38_an_operator_makes_an_account() {
    let (database, documents) = (Database::empty("operator").await, tempfile::tempdir().unwrap());
    let envelope = countersign_test_support::binary::path("countersign-envelope").await;
    let run = |arguments: &[&str], master_key: &str| {
        let mut command = std::process::Command::new(&envelope);
        command
            .args(arguments)
            .env("COUNTERSIGN_DATABASE_URL", &database.url)
            .env("COUNTERSIGN_MASTER_KEY", master_key);
        command.output().unwrap()
    };
    let key = "5c".repeat(32);
    let early = run(&["create-account", "--name", "Tests"], &key);
    assert!(!early.status.success() && String::from_utf8_lossy(&early.stderr).contains("migrate"));
    assert!(run(&["migrate"], &key).status.success());
    let made = run(&["create-account", "--name", "Tests"], &key);
    let said = String::from_utf8(made.stdout).unwrap();
    let value = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (account, token) = (value("account"), value("key"));
    let bad = run(&["create-account", "--name", "Tests"], "5c5c is not a key");
    let named = String::from_utf8(bad.stderr).unwrap();
    assert!(bad.status.code() == Some(2) && named.contains("--master-key"), "{named}");
    assert!(!named.contains("5c5c"), "no secret is quoted");

    let settings = [
        ("COUNTERSIGN_DATABASE_URL", database.url.as_str()),
        ("COUNTERSIGN_MASTER_KEY", &key),
        ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
        ("COUNTERSIGN_DOCUMENTS", documents.path().to_str().unwrap()),
        ("COUNTERSIGN_UNSEALED", "true"),
    ];
    let process = Process::start("countersign-envelope", &settings).await;
    let channel = Endpoint::from_shared(format!("http://{}", process.address)).unwrap().connect_lazy();
    let caller = Caller { account: account.clone(), token, channel };
    let request = countersign::v1::GetCallerIdentityRequest {};
    let identity = caller.accounts().get_caller_identity(request).await.unwrap().into_inner();
    assert_eq!((identity.account_id, identity.livemode), (account, false));
}
