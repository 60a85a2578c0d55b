//! The check that operators run: finds nothing where all is well, and each invariant that is broken by hand, and that alone.

mod broken;
mod scene;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use countersign_envelope::config::Check;
use countersign_test_support::{Database, binary, check};

use self::broken::{ENVELOPE, NOTIFIER};
use self::scene::Scene;

/// Behind everybody's back: no trigger and no key is asked.
async fn by_hand(database: &Database, sql: &str) {
    let client = database.connect().await;
    client.batch_execute("SET session_replication_role = replica").await.unwrap();
    client.batch_execute(sql).await.unwrap_or_else(|why| panic!("{sql}: {why:?}"));
}

fn invariants(found: &[countersign_chassis::check::Finding]) -> BTreeSet<&'static str> {
    found.iter().map(|finding| finding.invariant).collect()
}

/// Invariants that the sources name.
fn named(sources: &[&str]) -> BTreeSet<String> {
    let is_one = |word: &&str| {
        let parts: Vec<_> = word.split('.').collect();
        parts.len() == 2 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|it| it.is_ascii_lowercase()))
    };
    let text = |file: &&str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let words = |text: String| text.split('"').skip(1).step_by(2).filter(is_one).map(str::to_owned).collect::<Vec<_>>();
    sources.iter().map(text).flat_map(words).collect()
}

/// Each invariant of both services is broken by SQL on a copy of a database on which all is well, and found, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn every_invariant_that_is_broken_is_found() {
    let scene = Scene::set().await;
    let (envelopes, notices) = scene.rest().await;
    assert_eq!(check::envelope(&envelopes).await, Vec::new());
    assert_eq!(check::notifier(&notices).await, Vec::new());
    for (whole, breaks, is_notifier) in [(&envelopes, ENVELOPE, false), (&notices, NOTIFIER, true)] {
        for (expected, sql) in breaks {
            let copy = whole.copy().await;
            by_hand(&copy, sql).await;
            let found = if is_notifier { check::notifier(&copy).await } else { check::envelope(&copy).await };
            assert_eq!(invariants(&found), BTreeSet::from_iter(expected.iter().copied()), "{sql}: {found:#?}");
            for finding in &found {
                assert!(!finding.text().contains('@'), "{finding:?} is personal");
            }
        }
    }
    let tried = |breaks: &[(&[&'static str], &str)]| -> BTreeSet<String> {
        breaks.iter().flat_map(|(found, _)| found.iter().map(|it| (*it).to_owned())).collect()
    };
    let folder = "services/envelope/src";
    let files = ["store/check.rs", "domain/audit.rs", "check.rs"].map(|file| format!("{folder}/{file}"));
    let mut of_envelopes = named(&files.each_ref().map(String::as_str));
    assert!(of_envelopes.remove("bytes.stored"), "found by another test");
    assert_eq!(of_envelopes, tried(ENVELOPE));
    assert_eq!(named(&["services/notifier/src/store/check.rs"]), tried(NOTIFIER));
}

/// Bytes that are gone, or are not what they were, are found if they are looked for, each with whose they are.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_gone_are_found() {
    let scene = Scene::set().await;
    let documents = scene.service.documents.path().to_owned();
    let config = countersign_chassis::check::CheckConfig {
        database: scene.service.database.config(),
        account: Some(scene.test.account.clone()),
        json: false,
    };
    let place = Some(documents.clone().into());
    let task = Check { check: config, blobs: true, documents: place, document_keys: None };
    assert_eq!(check::look(&task).await, Vec::new());
    let mut files = Vec::new();
    let mut folders = vec![documents];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    std::fs::remove_file(&files[0]).unwrap();
    std::fs::write(&files[1], b"half").unwrap();
    let found = check::look(&task).await;
    assert!(found.len() >= 2 && invariants(&found) == BTreeSet::from(["bytes.stored"]), "{found:#?}");
    let says = |what: &str| found.iter().any(|finding| finding.detail.contains(what) && finding.subject.is_some());
    assert!(says("are not in the store") && says("have another size"), "{found:#?}");
}

/// As operators run it, while the service serves: what is printed, with which status it ends, and that it changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_what_is_wrong() {
    let scene = Scene::set().await;
    let (envelope, notifier) = (binary::path("countersign-envelope").await, binary::path("countersign-notifier").await);
    let run = async |program: &Path, url: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.arg("check").args(arguments).env("COUNTERSIGN_DATABASE_URL", url);
        let told = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (told.status.code().unwrap(), text(told.stdout), text(told.stderr))
    };
    let (ours, theirs) = (&scene.service.database, &scene.notifier.database);
    let (code, said, _) = run(&envelope, &ours.url, &[]).await;
    assert!(code == 0 && said.starts_with("0 findings in ") && said.contains(" envelopes, "), "{said}");
    let (code, said, _) = run(&notifier, &theirs.url, &["--json"]).await;
    let summary: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(code == 0 && summary["findings"] == 0 && summary["looked_at"]["deliveries"].as_u64() > Some(0), "{said}");

    by_hand(ours, "UPDATE ledger_balance SET available = available + 1").await;
    let (code, said, _) = run(&envelope, &ours.url, &["--account", &scene.live.account]).await;
    let lines: Vec<_> = said.lines().collect();
    assert!(code == 1 && lines[0].starts_with(&format!("ledger.balance account={} ", scene.live.account)), "{said}");
    assert!(lines.len() == 2 && lines[1].starts_with("1 findings in 1 accounts, "), "{said}");
    let (code, said, _) = run(&envelope, &ours.url, &["--json", "--account", &scene.live.account]).await;
    let finding: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!((code, finding["invariant"].as_str()), (1, Some("ledger.balance")));

    let empty = Database::empty("unmigrated").await;
    let (code, said, why) = run(&envelope, &empty.url, &[]).await;
    assert!(code == 2 && said.is_empty() && why.starts_with("could not be checked: "), "{why}");
    assert_eq!(run(&envelope, &ours.url, &["--account", "nobody"]).await.0, 2);
    assert_eq!(run(&envelope, &ours.url, &["--blobs"]).await.0, 2, "bytes are looked for where they lie");
}
