//! How often and how long documents are tried, by whom, and how many at a time.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;
use countersign::v1::document_source::Source;
use countersign::v1::{CreateEnvelopeRequest, EnvelopeStatus, IngestFaultReason, IngestStatus};
use countersign_chassis::clock::Clock;
use countersign_envelope::config::IngestConfig;
use countersign_test_support::client::pdf;
use countersign_test_support::docx::docx;
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Service, binary};

use super::markers::{marked, paper};
use super::server::{Answer, Running};
use super::{new, service, service_with, until_read, upload};
use crate::steps::{epoch, until, until_status};

fn away() -> Answer {
    Answer::Of(503, Vec::new())
}

/// By a clock that is set by hand, with this in LibreOffice's place.
async fn by_hand(converter: Option<PathBuf>) -> Service {
    let ingest = IngestConfig { fetch_allow_private: true, converter, ..IngestConfig::default() };
    service_with(ingest, Clock::manual(epoch())).await
}

/// A program that notes that it was started.
fn program(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("program");
    std::fs::write(&path, format!("#!/bin/sh\necho started >> {}\n{text}\n", folder.join("log").display())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn lines(folder: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// Lets time pass until that is so.
async fn as_time_passes(service: &Service, by: TimeDelta, what: &str, mut is: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        service.clock.advance(by);
    }
    panic!("waited for {what}");
}

async fn is_settled(sender: &Caller, id: &str) -> bool {
    sender.get(id).await.unwrap().fields_status() != IngestStatus::Processing
}

/// T-69: what other tries were lost to does not count against the converter, nor the other way round: it may die twice.
#[tokio::test(flavor = "multi_thread")]
async fn t69_only_conversions_count_as_conversions() {
    let (folder, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, good) = (folder.path().join("log"), made.path().join("good.pdf"));
    std::fs::write(&good, pdf()).unwrap();
    let text = format!(
        "[ $(wc -l < {}) -ge 3 ] || exit 1\nwhile [ \"$1\" != --outdir ]; do shift; done; cp {} \"$2/document.pdf\"",
        log.display(),
        good.display()
    );
    let service = by_hand(Some(program(folder.path(), &text))).await;
    let (server, sender) = (Running::start().await, service.account(false).await);
    let bytes = docx(&["after all"]);
    let url = server.at("doc", vec![away(), away(), away(), away(), Answer::Of(200, bytes)]);
    let sent = sender.create(new(Source::Url(url), true)).await.unwrap().id;
    as_time_passes(&service, TimeDelta::seconds(20), "the document", async || is_settled(&sender, &sent).await).await;
    let sent = until_status(&sender, &sent, EnvelopeStatus::Sent).await;
    assert_eq!((sent.fields_status(), lines(folder.path()).len()), (IngestStatus::Ready, 3));
    assert_eq!(server.asked("doc"), 5, "and is not fetched again for it");
}

/// T-69: a document on which the converter always dies is given to it three times.
#[tokio::test(flavor = "multi_thread")]
async fn t69_a_converter_dies_three_times_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let service = by_hand(Some(program(folder.path(), "exit 1"))).await;
    let sender = service.account(false).await;
    let sent = sender.create(new(Source::Content(docx(&["never"]).into()), true)).await.unwrap().id;
    as_time_passes(&service, TimeDelta::seconds(20), "the document", async || is_settled(&sender, &sent).await).await;
    let voided = until_status(&sender, &sent, EnvelopeStatus::Voided).await;
    let fault = voided.documents[0].ingest_fault.clone().unwrap();
    assert_eq!((fault.reason(), lines(folder.path()).len()), (IngestFaultReason::ConversionFailed, 3));
}

/// T-69: a document that waited long for its first try has all of its tries before it.
#[tokio::test(flavor = "multi_thread")]
async fn t69_waiting_is_not_trying() {
    let (service, server) = (by_hand(None).await, Running::start().await);
    let sender = service.account(false).await;
    // A backlog.
    let behind = "CREATE FUNCTION behind() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.due_at := NEW.due_at + interval '2 days'; RETURN NEW; END $$;
        CREATE TRIGGER behind BEFORE INSERT ON ingest_job FOR EACH ROW EXECUTE FUNCTION behind()";
    service.database.connect().await.batch_execute(behind).await.unwrap();
    let url = server.at("doc", vec![away(), away(), Answer::Of(200, pdf())]);
    let new = new(Source::Url(url), true);
    let expires_at = Some(crate::steps::ahead(&service, TimeDelta::days(20)));
    let sent = sender.create(CreateEnvelopeRequest { expires_at, ..new }).await.unwrap().id;
    service.clock.advance(TimeDelta::days(2));
    until(&sender, &sent, "the first try", |_| server.asked("doc") >= 1).await;
    // Nor does a pause of the service itself count as trying.
    tokio::time::sleep(Duration::from_millis(300)).await;
    service.clock.advance(TimeDelta::days(2));
    until(&sender, &sent, "the second try", |_| server.asked("doc") >= 2).await;
    as_time_passes(&service, TimeDelta::seconds(20), "the document", async || is_settled(&sender, &sent).await).await;
    until_status(&sender, &sent, EnvelopeStatus::Sent).await;
}

/// T-69: whatever stands in the way, also behind the reading, is judged: nothing waits for ever.
#[tokio::test(flavor = "multi_thread")]
async fn t69_nothing_is_tried_for_ever() {
    let (service, server) = (by_hand(None).await, Running::start().await);
    let sender = service.account(false).await;
    let stuck = "CREATE FUNCTION stuck() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'stuck'; END $$;
        CREATE TRIGGER stuck BEFORE UPDATE ON document FOR EACH ROW WHEN (NEW.ingest = 2) EXECUTE FUNCTION stuck()";
    service.database.connect().await.batch_execute(stuck).await.unwrap();
    let new = new(Source::Url(server.holds("doc", pdf())), true);
    let expires_at = Some(crate::steps::ahead(&service, TimeDelta::days(300)));
    let sent = sender.create(CreateEnvelopeRequest { expires_at, ..new }).await.unwrap().id;
    as_time_passes(&service, TimeDelta::hours(7), "an end", async || is_settled(&sender, &sent).await).await;
    let voided = until_status(&sender, &sent, EnvelopeStatus::Voided).await;
    assert_eq!(voided.documents[0].ingest_fault.clone().unwrap().reason(), IngestFaultReason::Unavailable);
    assert_eq!(server.asked("doc"), 1);
}

/// T-69: whose claim another process has taken over neither puts the document off nor notes what it has got.
#[tokio::test(flavor = "multi_thread")]
async fn t69_a_lost_claim_changes_nothing() {
    let (service, server) = (service().await, Running::start().await);
    let (sender, client) = (service.account(false).await, service.database.connect().await);
    for (path, status, body) in [("away", 503, Vec::new()), ("good", 200, pdf())] {
        let url = server.at(path, vec![Answer::Late(Duration::from_secs(3), status, body)]);
        let draft = sender.create(new(Source::Url(url), false)).await.unwrap().id;
        until(&sender, &draft, "the try", |_| server.asked(path) >= 1).await;
        let taken = "UPDATE ingest_job SET attempts = attempts + 1, due_at = now() + interval '1 hour'";
        client.batch_execute(taken).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let untouched = "SELECT count(*) FROM ingest_job WHERE got IS NULL AND due_at > now() + interval '50 minutes'";
        assert_eq!(service.database.number(untouched).await, 1, "{path}");
        assert_eq!(sender.get(&draft).await.unwrap().fields_status(), IngestStatus::Processing);
        client.batch_execute("DELETE FROM ingest_job").await.unwrap();
    }
}

/// S1.28: sources that never answer keep the documents of no other account waiting.
#[tokio::test(flavor = "multi_thread")]
async fn s1_28_one_account_does_not_stop_the_others() {
    let (service, server) = (service().await, Running::start().await);
    let (hostile, other) = (service.account(false).await, service.account(false).await);
    let never = server.at("never", vec![Answer::Never]);
    for _ in 0..20 {
        hostile.create(new(Source::Url(never.clone()), false)).await.unwrap();
    }
    while server.asked("never") < 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let url = server.holds("good", pdf());
    let began = std::time::Instant::now();
    let draft = other.create(new(Source::Url(url), false)).await.unwrap().id;
    assert_eq!(until_read(&other, &draft).await.fields_status(), IngestStatus::Ready);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(server.asked("never"), 4, "as many of one account as may be");
}

/// S1.35: however many documents of uploads a small request names, only a few are held and read at a time.
#[tokio::test(flavor = "multi_thread")]
async fn s1_35_uploads_take_turns() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let (mut config, folder) = (config(&database, &documents), tempfile::tempdir().unwrap());
    let worker = binary::path("countersign-envelope").await;
    let text = format!("sleep 0.5; {} \"$@\"\necho ended >> {}", worker.display(), folder.path().join("log").display());
    (config.paper_worker, config.paper_workers) = (Some(program(folder.path(), &text)), Some(10));
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let sender = service.account(false).await;
    let kept = upload(&sender, &paper("{{signature:Buyer}}")).await.unwrap();
    let one = marked(Source::UploadId(kept.upload_id), false);
    let ten = CreateEnvelopeRequest { documents: vec![one.documents[0].clone(); 10], ..one };
    let created = sender.create(ten).await.unwrap();
    assert_eq!((created.documents.len(), created.fields.len()), (10, 10));
    let (mut now, mut most) = (0, 0);
    for line in lines(folder.path()) {
        now += if line == "started" { 1 } else { -1 };
        most = most.max(now);
    }
    assert!((2..=4).contains(&most), "{most} at a time");
}
