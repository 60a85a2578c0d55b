//! Sources that are slow, gone, or not what was hoped for; and services that die over them.

use countersign::v1::document_source::Source;
use countersign::v1::{
    Cause, CreateEnvelopeRequest, DeclineRecipientRequest, DocumentBundle, DocumentVersion, DownloadDocumentRequest,
    Envelope, EnvelopeStatus, EventType, IngestFaultReason, IngestStatus,
};
use countersign_chassis::clock::Clock;
use countersign_envelope::config::IngestConfig;
use countersign_test_support::client::pdf;
use countersign_test_support::docx::{docx, zipped};
use countersign_test_support::service::config;
use countersign_test_support::{Service, client};

use super::server::{Answer, Running};
use super::{converts, new, of, service, service_with, until_read};
use crate::certificates::words;
use crate::downloads::whole;
use crate::steps::{count, epoch, kinds, until, until_status};

fn fault(envelope: &Envelope) -> IngestFaultReason {
    assert_eq!(envelope.fields_status(), IngestStatus::Failed);
    let fault = envelope.documents[0].ingest_fault.clone().unwrap();
    assert!(!fault.message.is_empty() && !fault.message.contains("127.0.0.1"), "{}", fault.message);
    fault.reason()
}

/// S1.28, T-69: what a source does not give fails the document with its reason, and ends what waits for it; money comes back.
#[tokio::test(flavor = "multi_thread")]
async fn s1_28_bad_sources_fail_the_document() {
    let (service, server) = (service().await, Running::start().await);
    let sender = service.account(true).await;
    use IngestFaultReason::*;
    let sheet = zipped(&[("xl/workbook.xml", b"<x/>")]);
    let large = vec![b'x'; 26 * 1024 * 1024];
    for (url, reason) in [
        (format!("{}/absent", server.address), SourceFailed),
        (server.at("gone", vec![Answer::Of(410, Vec::new())]), SourceFailed),
        (server.holds("words", b"no PDF".to_vec()), Unreadable),
        (server.holds("sheet", sheet), UnsupportedType),
        (server.holds("large", large), OverLimit),
    ] {
        let created = sender.create(new(Source::Url(url.clone()), true)).await.unwrap();
        assert_eq!(created.status(), EnvelopeStatus::Pending);
        let voided = until_status(&sender, &created.id, EnvelopeStatus::Voided).await;
        assert_eq!((voided.cause(), fault(&voided)), (Cause::IngestFailed, reason), "{url}");
        assert!(voided.charge.is_some_and(|charge| charge.refunded.is_some()), "{url}");
        let history = sender.history(&created.id).await.unwrap();
        let failed = history[history.len() - 2].event.clone().unwrap();
        assert_eq!(failed.r#type(), EventType::EnvelopeDocumentFailed);
        assert_eq!(failed.state.unwrap().documents[0].ingest_fault_reason(), reason);
        // In a draft it stands in the way and no more.
        let draft = sender.create(new(Source::Url(url), false)).await.unwrap();
        let draft = until_read(&sender, &draft.id).await;
        assert_eq!((draft.status(), fault(&draft)), (EnvelopeStatus::Draft, reason));
    }
    assert_eq!(service.database.number("SELECT count(*) FROM ingest_job").await, 0);
    let addresses = "SELECT count(*) FROM event WHERE convert_from(record, 'UTF8') LIKE '%127.0.0.1%'";
    assert_eq!(service.database.number(addresses).await, 0);
    let kept = "SELECT count(*) FROM document WHERE awaits IS NOT NULL";
    assert_eq!(service.database.number(kept).await, 0, "addresses are forgotten");
}

/// What may pass is tried again, and not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn s1_28_a_source_that_is_away_is_tried_again() {
    let ingest = IngestConfig { fetch_allow_private: true, ..IngestConfig::default() };
    let (service, server) = (service_with(ingest, Clock::manual(epoch())).await, Running::start().await);
    let sender = service.account(false).await;
    let away = || Answer::Of(503, Vec::new());
    let back = server.at("back", vec![away(), away(), Answer::Of(200, pdf())]);
    let never = server.at("never", vec![away()]);
    let back = sender.create(new(Source::Url(back), true)).await.unwrap();
    let never = sender.create(new(Source::Url(never), true)).await.unwrap();
    for tries in 1..=2 {
        until(&sender, &never.id, "another try", |_| server.asked("back") >= tries && server.asked("never") >= tries)
            .await;
        until(&sender, &never.id, "it to be put off", |_| true).await;
        assert_eq!(sender.get(&back.id).await.unwrap().status(), EnvelopeStatus::Pending);
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        service.clock.advance(chrono::TimeDelta::minutes(6));
    }
    until_status(&sender, &back.id, EnvelopeStatus::Sent).await;
    assert_eq!(server.asked("back"), 3, "and no more once it is there");
    for tries in 3..=4 {
        until(&sender, &never.id, "another try", |_| server.asked("never") >= tries).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        service.clock.advance(chrono::TimeDelta::minutes(6));
    }
    let voided = until_status(&sender, &never.id, EnvelopeStatus::Voided).await;
    assert_eq!(fault(&voided), IngestFaultReason::SourceFailed);
}

/// S2.4, S4.11: who refuses while documents are still on their way does so for good: the evidence is of what there is.
#[tokio::test(flavor = "multi_thread")]
async fn s2_4_a_refusal_does_not_wait_for_documents_that_never_come() {
    let (service, server) = (service().await, Running::start().await);
    let sender = service.account(false).await;
    let never = server.at("never", vec![Answer::Never]);
    let lonely = new(Source::Url(never.clone()), true);
    let here = ["here", "too"].map(|_| of(Source::Content(pdf().into())));
    let among = CreateEnvelopeRequest { documents: [&lonely.documents[..], &here].concat(), ..lonely.clone() };
    for (request, watermarked) in [(lonely, 0), (among, 2)] {
        let pending = sender.create(request).await.unwrap();
        assert_eq!(pending.status(), EnvelopeStatus::Pending);
        let decline = DeclineRecipientRequest {
            envelope_id: pending.id.clone(),
            recipient_id: pending.recipients[0].id.clone(),
            ..Default::default()
        };
        sender.envelopes().decline_recipient(decline).await.unwrap();
        let certified = |now: &Envelope| !now.documents[0].artifacts.is_empty();
        let declined = until(&sender, &pending.id, "the evidence of a refusal", certified).await;
        let made = |of: DocumentVersion| {
            let all = declined.documents.iter().flat_map(|document| &document.artifacts);
            all.filter(|artifact| artifact.version() == of).count()
        };
        assert_eq!((made(DocumentVersion::Declined), made(DocumentVersion::Certificate)), (watermarked, 1));
        assert_eq!(declined.documents[0].artifacts[0].version(), DocumentVersion::Certificate);
        assert_eq!(count(&sender, &declined.id, EventType::EnvelopeArtifactReady).await, 1);
        let bundle = |version: DocumentVersion| DownloadDocumentRequest {
            envelope_id: declined.id.clone(),
            version: version.into(),
            bundle: DocumentBundle::Pdf.into(),
            ..Default::default()
        };
        let said = words(&whole(&sender, bundle(DocumentVersion::Certificate)).await.unwrap().1);
        assert!(said.is_none_or(|said| said.contains("not read") && !said.contains("000000000000")));
        assert_eq!(whole(&sender, bundle(DocumentVersion::Declined)).await.is_ok(), watermarked > 0);
    }
    assert_eq!(service.database.number("SELECT count(*) FROM envelope WHERE keeping_at IS NULL").await, 0);
}

/// A service that dies over a document: the next one goes on, and what happens, happens once.
#[tokio::test(flavor = "multi_thread")]
async fn t69_a_service_that_dies_over_a_document_is_no_loss() {
    let (first, server) = (service().await, Running::start().await);
    let sender = first.account(false).await;
    let url = server.at("doc", vec![Answer::Never, Answer::Of(200, pdf())]);
    let pending = sender.create(new(Source::Url(url), true)).await.unwrap();
    while server.asked("doc") == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let database = first.database.clone();
    let documents = first.cut().await;
    // Its claim runs out.
    let client = database.connect().await;
    client.batch_execute("UPDATE ingest_job SET due_at = now() - interval '1 second'").await.unwrap();
    let mut config = config(&database, &documents);
    config.ingest.fetch_allow_private = true;
    let second = Service::start_with(database, Clock::database(), documents, config).await;
    let sender = client::Caller { channel: second.channel.clone(), ..sender };
    let sent = until_status(&sender, &pending.id, EnvelopeStatus::Sent).await;
    assert_eq!(count(&sender, &sent.id, EventType::EnvelopeDocumentReady).await, 1);
    assert_eq!(second.database.number("SELECT count(*) FROM ingest_job").await, 0);
}

/// Many documents, two replicas: each is read once.
#[tokio::test(flavor = "multi_thread")]
async fn t69_replicas_share_the_documents() {
    let (first, server) = (service().await, Running::start().await);
    let sender = first.account(false).await;
    let mut config = config(&first.database, &first.documents);
    config.ingest.fetch_allow_private = true;
    let folder = tempfile::tempdir().unwrap();
    let second = Service::start_with(first.database.clone(), Clock::database(), folder, config).await;
    let mut made = Vec::new();
    for number in 0..12 {
        let url = server.holds(&format!("doc{number}"), pdf());
        made.push(sender.create(new(Source::Url(url), true)).await.unwrap().id);
    }
    for (number, id) in made.iter().enumerate() {
        until_status(&sender, id, EnvelopeStatus::Sent).await;
        assert_eq!(server.asked(&format!("doc{number}")), 1, "{number}");
        use EventType::*;
        let expected = [EnvelopeCreated, EnvelopeDispatched, EnvelopeDocumentReady, EnvelopeSent, RecipientReleased];
        assert_eq!(kinds(&sender, id).await, expected);
    }
    drop(second);
}

/// The store of documents away for a while: the document is read when it is back, and is not fetched again for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn t69_a_store_that_is_away_delays_and_no_more() {
    let (service, server) = (service().await, Running::start().await);
    let sender = service.account(false).await;
    let away = service.documents.path().with_extension("away");
    std::fs::rename(service.documents.path(), &away).unwrap();
    std::fs::write(service.documents.path(), b"in the way").unwrap();
    let draft = sender.create(new(Source::Url(server.holds("doc", pdf())), false)).await.unwrap();
    while server.asked("doc") == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(sender.get(&draft.id).await.unwrap().fields_status(), IngestStatus::Processing);
    std::fs::remove_file(service.documents.path()).unwrap();
    std::fs::rename(&away, service.documents.path()).unwrap();
    assert_eq!(until_read(&sender, &draft.id).await.fields_status(), IngestStatus::Ready);
}

/// A DOCX is converted once: what was made is noted before the envelope is told, and a repeat takes it from there.
#[tokio::test(flavor = "multi_thread")]
async fn t69_a_docx_is_converted_once() {
    if !converts() {
        return;
    }
    let service = service().await;
    let sender = service.account(false).await;
    let client = service.database.connect().await;
    // The envelope cannot be told: its row is held.
    let draft = sender.create(new(Source::Content(docx(&["Once"]).into()), false)).await.unwrap();
    client.batch_execute("BEGIN; SELECT FROM envelope FOR UPDATE").await.unwrap();
    let noted = "SELECT count(*) FROM ingest_job WHERE got -> 'pdf' IS NOT NULL";
    for _ in 0..1_200 {
        if service.database.number(noted).await == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let made = client.query_one("SELECT got -> 'pdf' -> 'size_bytes' FROM ingest_job", &[]).await.is_ok();
    assert!(made, "it was noted before the envelope was told");
    client.batch_execute("COMMIT").await.unwrap();
    let ready = until_read(&sender, &draft.id).await;
    assert_eq!(ready.fields_status(), IngestStatus::Ready);
    let files = walk(service.documents.path());
    assert_eq!(files, 2, "the DOCX and one PDF");
}

fn walk(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}
