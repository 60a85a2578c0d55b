//! The page for operators, held to what runs: its SQL, its commands, and the health that a probe asks for.

use std::path::Path;
use std::process::Command;

use clap::CommandFactory as _;
use countersign_test_support::binary::{Process, path};
use countersign_test_support::service::SERVICE_TOKEN;
use countersign_test_support::{Database, Service, notifier};

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")).unwrap()
}

/// The blocks of a language on the page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let opened = format!("```{language}\n");
    page.split(&opened).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// What the page asks the databases runs as the role that serves, and finds nothing wrong where all is well.
#[tokio::test(flavor = "multi_thread")]
async fn the_questions_to_the_databases_run() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let request = countersign_test_support::client::request(1, countersign::v1::Routing::Parallel, true);
    sender.create(request).await.unwrap();
    let (envelopes, notices) = (&service.database, notifier::database().await);
    let questions = blocks(&page(), "sql");
    assert_eq!(questions.len(), 2);
    for question in questions {
        let database: &Database = match question.lines().next().unwrap() {
            "-- envelope" => envelopes,
            "-- notifier" => &notices,
            other => panic!("{other} names no database"),
        };
        let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        for statement in question.split(';').filter(|it| !it.trim().is_empty()) {
            client.simple_query(statement).await.unwrap_or_else(|why| panic!("{statement}: {why}"));
        }
    }
}

/// Every command of ours on the page is one, with flags that it has.
#[test]
fn the_commands_are_commands() {
    let known = [countersign_envelope::config::Cli::command(), countersign_notifier::config::Cli::command()];
    let mut found = 0;
    for block in blocks(&page(), "sh") {
        for words in block.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
            let Some(at) = words.iter().rposition(|word| known.iter().any(|it| it.get_name() == *word)) else {
                continue;
            };
            // A Secret of that name, whose particulars follow.
            if words[at + 1] == "\\" {
                continue;
            }
            let program = known.iter().find(|it| it.get_name() == words[at]).unwrap();
            let task = program.find_subcommand(words[at + 1]);
            let task = task.unwrap_or_else(|| panic!("{} has no {}", words[at], words[at + 1]));
            for flag in words[at + 2..].iter().filter_map(|word| word.strip_prefix("--")) {
                assert!(task.get_arguments().any(|it| it.get_long() == Some(flag)), "{words:?}: no --{flag}");
            }
            found += 1;
        }
    }
    assert!(found >= 8, "{found}");
}

/// Symptoms are found by what the log says: each message that the page quotes is one.
#[test]
fn the_messages_are_said() {
    let page = page();
    let (_, symptoms) = page.split_once("## Alerts").unwrap();
    let (symptoms, _) = symptoms.split_once("## How the chart").unwrap();
    let mut sources = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("services")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension() {
                Some(extension) if extension == "rs" => sources.push_str(&std::fs::read_to_string(&path).unwrap()),
                None if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    let quoted: Vec<_> = symptoms.split('`').skip(1).step_by(2).collect();
    let messages = quoted.iter().filter(|text| text.matches(' ').count() >= 2 && !text.contains(['=', '…']));
    let mut found = 0;
    for message in messages {
        let plain = sources.contains(*message) || sources.contains(&message.replace("run migrate", "run `migrate`"));
        assert!(plain, "nobody says `{message}`");
        found += 1;
    }
    assert!(found >= 12, "{found}");
}

/// The program in the image is all that a probe and `helm test` need.
#[tokio::test(flavor = "multi_thread")]
async fn the_programs_tell_whether_a_service_is_well() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let key = "5c".repeat(32);
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", database.url.as_str()),
        ("COUNTERSIGN_MASTER_KEY", &key),
        ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
        ("COUNTERSIGN_DOCUMENTS", documents.path().to_str().unwrap()),
        ("COUNTERSIGN_UNSEALED", "true"),
    ];
    let service = Process::start("countersign-envelope", &settings).await;
    let url = format!("--url=http://{}", service.address);
    let asked = async |program: &str, arguments: Vec<String>| {
        let mut command = Command::new(path(program).await);
        command.arg("health").args(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap().status.code()).await.unwrap()
    };
    for program in ["countersign-envelope", "countersign-notifier"] {
        assert_eq!(asked(program, vec![url.clone()]).await, Some(0), "{program}");
        let service = "--service=countersign.v1.EnvelopeService".to_owned();
        assert_eq!(asked(program, vec![url.clone(), service]).await, Some(0), "{program}");
        let other = "--service=countersign.v1.WebhookService".to_owned();
        assert_eq!(asked(program, vec![url.clone(), other]).await, Some(1), "{program}");
    }
    service.kill().await;
    assert_eq!(asked("countersign-envelope", vec![url]).await, Some(1));
}
