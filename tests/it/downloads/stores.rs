//! The store behind the downloads: away for a while, sealed, in a bucket, and how much memory it takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;
use countersign::v1::{DocumentBundle, DocumentVersion, DownloadDocumentRequest, EnvelopeStatus, EventType, Routing};
use countersign_chassis::clock::Clock;
use countersign_test_support::binary::{Process, memory_bytes};
use countersign_test_support::bucket::{Bucket, Protocol};
use countersign_test_support::service::{SERVICE_TOKEN, config};
use countersign_test_support::{Caller, Database, Errors as _, Service};
use tonic::transport::Endpoint;
use tonic_types::StatusExt as _;

use super::{download, hash, large, large_pdf, of, whole, with_documents};
use crate::steps::{count, epoch};

/// Downloads are not ended for being taken slowly.
const SLOW: (&str, &str) = ("COUNTERSIGN_STREAM_STALL_SECONDS", "300");

/// A document folder that is away: a file is in its place, so that nobody can make it anew.
pub struct Away {
    place: PathBuf,
    beside: PathBuf,
}

impl Away {
    pub fn of(service: &Service) -> Self {
        Self::at(service.documents.path())
    }

    pub fn at(folder: &Path) -> Self {
        let place = folder.to_owned();
        let beside = place.with_extension("away");
        std::fs::rename(&place, &beside).unwrap();
        std::fs::write(&place, b"not a folder").unwrap();
        Self { place, beside }
    }

    pub fn end(self) {
        std::fs::remove_file(&self.place).unwrap();
        std::fs::rename(&self.beside, &self.place).unwrap();
    }
}

/// Calls are told to come again; people sign on; the documents are there afterwards, once.
#[tokio::test(flavor = "multi_thread")]
async fn c25_a_store_that_is_away_delays_documents_and_nothing_else() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Sequential).await;
    let away = Away::of(&service);
    let refused = whole(&sender, of(&story.envelope, DocumentVersion::Original)).await.unwrap_err();
    assert_eq!(refused.reason(), "UNAVAILABLE");
    assert!(refused.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
    story.signer(0).sign(&story.envelope).await.unwrap();
    let now = story.now().await;
    sender.signer_of(&now.id, &now.recipients[1].id).await.unwrap().sign(&now).await.unwrap();
    let tried = "SELECT coalesce(max(attempts), 0)::bigint FROM artifact_job";
    for _ in 0..600 {
        service.clock.advance(TimeDelta::minutes(6));
        if service.database.number(tried).await >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(service.database.number(tried).await >= 3, "it is tried again and again");
    let sealing = story.now().await;
    assert!(sealing.all_acted_at.is_some() && sealing.status() == EnvelopeStatus::PartiallySigned);
    away.end();
    for _ in 0..600 {
        service.clock.advance(TimeDelta::minutes(6));
        if story.now().await.status() == EnvelopeStatus::Completed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    whole(&sender, of(&story.envelope, DocumentVersion::Signed)).await.unwrap();
    assert_eq!(count(&sender, &story.envelope.id, EventType::EnvelopeCompleted).await, 1);
    assert_eq!(service.database.number("SELECT count(*) FROM artifact WHERE version = 2").await, 1);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Nothing of a contract lies in the clear, before and after a rotation of keys; without the key it is said, by its name only.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_at_rest_is_read_by_the_service_alone() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let key = |id: &str| format!("{id}={}", id.repeat(32));
    let mut settings = config(&database, &documents);
    settings.document_keys = Some(key("a1").into());
    let service = Service::start_with(database, Clock::database(), documents, settings.clone()).await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    let envelope = story.until(EnvelopeStatus::Completed).await;
    let stored = files(service.documents.path());
    assert_eq!(stored.len(), 3);
    for file in stored {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(5).any(|it| it == b"%PDF-") && !bytes.windows(5).any(|it| it == b"%%EOF"), "{file:?}");
    }
    let (_, signed) = whole(&sender, of(&envelope, DocumentVersion::Signed)).await.unwrap();
    for (ring, is_read) in [(format!("{},{}", key("b2"), key("a1")), true), (key("b2"), false), (key("a1"), true)] {
        let mut settings = settings.clone();
        settings.document_keys = Some(ring.into());
        // Another replica, with other keys, on the same database and folder.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = tokio_util::sync::CancellationToken::new();
        let serving = countersign_envelope::serve::serve(settings, Clock::database(), listener, stop.clone());
        let running = tokio::spawn(serving);
        let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
        let there = Caller { channel, ..sender.clone() };
        match whole(&there, of(&envelope, DocumentVersion::Signed)).await {
            Ok((_, bytes)) => assert!(is_read && bytes == signed),
            Err(refused) => {
                assert!(!is_read && refused.reason() == "UNAVAILABLE", "{refused:?}");
                assert!(!refused.message().contains("a1"), "the inside is for the log");
            }
        }
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}

/// The most that it has had, counted anew from now on.
fn peak_bytes(process: u32) -> usize {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
    memory_bytes(process, "VmHWM:")
}

/// Sixteen downloads of 25 MiB at a time take a few megabytes of the service's memory, sealed at rest or not.
#[tokio::test(flavor = "multi_thread")]
async fn downloads_take_the_same_memory_whatever_their_size() {
    const DOCUMENT: usize = 25 * 1024 * 1024 - 1_000;
    const MOST: usize = 40 * 1024 * 1024;
    for keys in [String::new(), format!("a={}", "a1".repeat(32))] {
        let (seed, documents) = (Service::start().await, tempfile::tempdir().unwrap());
        let sender = seed.account(false).await;
        let settings = [SLOW, ("COUNTERSIGN_DOCUMENT_KEYS", keys.as_str())];
        let settings = if keys.is_empty() { &settings[..1] } else { &settings };
        let process = Process::beside(&seed, documents.path(), settings).await;
        let there = || process.caller(&sender);
        let (envelope, bytes) = large(&there(), DOCUMENT).await;
        let expected = hash(&bytes);
        let id = process.child.id().unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = peak_bytes(id);
        let downloads = (0..16).map(|_| {
            let (caller, request) = (there(), of(&envelope, DocumentVersion::Original));
            async move { hash(&whole(&caller, request).await.unwrap().1) }
        });
        assert!(futures_util::future::join_all(downloads).await.iter().all(|hash| *hash == expected));
        let took = memory_bytes(id, "VmHWM:").saturating_sub(before);
        assert!(took < MOST, "{took} bytes for 16 downloads of {DOCUMENT}, keys {}", !keys.is_empty());
        process.kill().await;
    }
}

/// What was put into one PDF waits on the disk for whoever is slow to take it: however many do, the memory is not theirs.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_combined_takes_no_memory_while_it_is_taken() {
    const DOCUMENT: usize = 24 * 1024 * 1024;
    let (seed, documents) = (Service::start().await, tempfile::tempdir().unwrap());
    let sender = seed.account(false).await;
    let process = Process::beside(&seed, documents.path(), &[SLOW]).await;
    let (envelope, _) = large(&process.caller(&sender), DOCUMENT).await;
    let request = of(&envelope, DocumentVersion::Original);
    let request = DownloadDocumentRequest { bundle: DocumentBundle::Pdf.into(), ..request };
    let (info, bytes) = whole(&process.caller(&sender), request.clone()).await.unwrap();
    let rest = DownloadDocumentRequest { offset_bytes: 20_000_000, if_etag: info.etag, ..request.clone() };
    assert!(whole(&process.caller(&sender), rest).await.unwrap().1 == bytes[20_000_000..]);
    let id = process.child.id().unwrap();
    let before = memory_bytes(id, "VmRSS:");
    let mut held = Vec::new();
    for _ in 0..16 {
        let there = process.caller(&sender);
        let mut stream = there.envelopes().download_document(request.clone()).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        held.push(stream);
    }
    let took = memory_bytes(id, "VmRSS:").saturating_sub(before);
    // What some bundles took while they were made comes back late from the allocator.
    assert!(took < 11 * DOCUMENT, "{took} bytes for 16 bundles of {DOCUMENT}");
    drop(held);
    process.kill().await;
}

/// The real service with its documents in a bucket, as an operator sets it up: by an address and the provider's own variables.
#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_is_completed_with_its_documents_in_a_bucket() {
    for protocol in Protocol::ALL {
        if let Some(bucket) = Bucket::start(protocol) {
            completed_in(bucket).await;
        }
    }
}

async fn completed_in(mut bucket: Bucket) {
    let seed = Service::start().await;
    let sender = seed.account(false).await;
    let (master, keys) = ("5c".repeat(32), format!("a={}", "a1".repeat(32)));
    // The seed's own loops would look for the documents in its folder.
    let (database, _documents) = seed.stop().await;
    let place = format!("{}/some/prefix", bucket.url());
    let mut settings = vec![
        ("COUNTERSIGN_DATABASE_URL", database.url.as_str()),
        ("COUNTERSIGN_MASTER_KEY", &master),
        ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
        ("COUNTERSIGN_UNSEALED", "true"),
        ("COUNTERSIGN_DOCUMENTS", &place),
        ("COUNTERSIGN_DOCUMENT_KEYS", &keys),
    ];
    settings.extend(bucket.variables());
    let process = Process::start("countersign-envelope", &settings).await;
    let channel = Endpoint::from_shared(format!("http://{}", process.address)).unwrap().connect_lazy();
    let sender = Caller { channel, ..sender };
    let documents = vec![("a.pdf", countersign_test_support::client::pdf()), ("b.pdf", large_pdf(3_000_000))];
    let story = sender.story_of(with_documents(1, documents.clone())).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    let done = story.until(EnvelopeStatus::Completed).await;
    for (document, (_, bytes)) in done.documents.iter().zip(&documents) {
        let request = |version| DownloadDocumentRequest { document_id: document.id.clone(), ..of(&done, version) };
        assert!(whole(&sender, request(DocumentVersion::Original)).await.unwrap().1 == *bytes);
        whole(&sender, request(DocumentVersion::Signed)).await.unwrap();
    }
    let zip = DownloadDocumentRequest { bundle: DocumentBundle::Zip.into(), ..of(&done, DocumentVersion::Signed) };
    download(&sender, zip).await.unwrap().ended.unwrap();
    let keys = bucket.keys();
    // Two originals, two signed, one certificate.
    assert!(
        keys.len() == 5 && keys.iter().all(|key| key.starts_with("some/prefix/") && key.ends_with(".aes")),
        "{keys:?}"
    );
    process.kill().await;
}
