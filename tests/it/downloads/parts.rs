//! Downloads that go on where they broke off, that nobody takes, and that find something damaged.

use std::time::Duration;

use countersign::v1::document_part::Part;
use countersign::v1::{
    DocumentVersion, DownloadDocumentRequest, DownloadDocumentResponse, Envelope, Routing,
    SignerServiceDownloadDocumentRequest,
};
use countersign_chassis::clock::Clock;
use countersign_test_support::client::pdf;
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Errors as _, Service};
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::{Download, download, hash, large, of, whole};

fn original(envelope: &Envelope) -> DownloadDocumentRequest {
    of(envelope, DocumentVersion::Original)
}

/// From every place around the borders of parts and windows, sealed at rest or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_from_any_byte() {
    for keys in [None, Some(format!("a={}", "a1".repeat(32)))] {
        let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
        let mut settings = config(&database, &documents);
        settings.document_keys = keys.map(Into::into);
        let service = Service::start_with(database, Clock::database(), documents, settings).await;
        let sender = service.account(false).await;
        let (envelope, bytes) = large(&sender, 1_300_000).await;
        let (info, all) = whole(&sender, original(&envelope)).await.unwrap();
        assert!(all == bytes && info.etag == hash(&bytes));
        let size = bytes.len() as u64;
        for offset in [0, 1, 65_535, 65_536, 65_537, 524_287, 524_288, 524_289, 1_000_000, size - 1, size] {
            let request =
                DownloadDocumentRequest { offset_bytes: offset, if_etag: info.etag.clone(), ..original(&envelope) };
            let (told, rest) = whole(&sender, request).await.unwrap();
            assert_eq!((told.offset_bytes, told.size_bytes, &told.sha256), (offset, size, &info.sha256));
            assert!(rest == bytes[offset as usize..], "{offset}");
        }
        let beyond = DownloadDocumentRequest { offset_bytes: size + 1, ..original(&envelope) };
        let refused = whole(&sender, beyond).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason().as_str()), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
        assert_eq!(refused.fact("size_bytes"), size.to_string());
        // What the recipient reads goes on in the same way.
        let signer = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
        let request = SignerServiceDownloadDocumentRequest { offset_bytes: size - 10, ..Default::default() };
        let mut stream = signer.signer().download_document(request).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        let Some(Part::Chunk(end)) = stream.message().await.unwrap().unwrap().part.unwrap().part else { panic!() };
        assert!(end == bytes[bytes.len() - 10..]);
    }
}

/// A download of something else by now does not go on.
#[tokio::test(flavor = "multi_thread")]
async fn t70_a_download_goes_on_with_the_same_bytes_only() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    let stale = DownloadDocumentRequest { offset_bytes: 10, if_etag: hash(b"another"), ..original(&story.envelope) };
    let refused = whole(&sender, stale).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::Aborted, "DOCUMENT_CHANGED"));
    let odd = DownloadDocumentRequest { if_etag: "\"weak\"".into(), ..original(&story.envelope) };
    assert_eq!(whole(&sender, odd).await.unwrap_err().fields(), ["if_etag"]);
    let own = DownloadDocumentRequest { if_etag: hash(&pdf()), ..original(&story.envelope) };
    assert_eq!(whole(&sender, own).await.unwrap().1, pdf());
}

/// Who takes nothing is cut off with an error, and goes on later; who hangs up leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn t36_a_slow_reader_holds_neither_place_nor_memory() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut settings = config(&database, &documents);
    settings.stream_stall_seconds = 1;
    let service = Service::start_with(database, Clock::database(), documents, settings).await;
    let sender = service.account(false).await;
    let (envelope, bytes) = large(&sender, 12_000_000).await;
    let mut slow = sender.envelopes().download_document(original(&envelope)).await.unwrap().into_inner();
    let first = slow.message().await.unwrap().unwrap();
    assert!(matches!(first.part.unwrap().part, Some(Part::Info(_))));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut got = Vec::new();
    let ended = loop {
        match slow.message().await {
            Ok(Some(message)) => {
                let Some(Part::Chunk(chunk)) = message.part.unwrap().part else { panic!() };
                got.extend_from_slice(&chunk);
            }
            Ok(None) => panic!("it must not look like the end"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.reason(), "UNAVAILABLE");
    assert!(got.len() < bytes.len() && bytes.starts_with(&got), "{} bytes", got.len());
    let rest = DownloadDocumentRequest { offset_bytes: got.len() as u64, ..original(&envelope) };
    got.extend(whole(&sender, rest).await.unwrap().1);
    assert!(got == bytes);
}

/// Begins a download on a connection of its own: on one of them the unread bytes of several would keep each other waiting.
async fn begin(
    service: &Service,
    sender: &Caller,
    envelope: &Envelope,
) -> Result<Streaming<DownloadDocumentResponse>, Status> {
    let channel = Endpoint::from_shared(format!("http://{}", service.address)).unwrap().connect_lazy();
    let caller = Caller { channel, ..sender.clone() };
    Ok(caller.envelopes().download_document(original(envelope)).await?.into_inner())
}

/// Waits for a place, and says the last refusal if there never is one.
async fn until_begun(service: &Service, sender: &Caller, envelope: &Envelope) {
    for attempt in 0.. {
        match begin(service, sender, envelope).await {
            Ok(_) => break,
            Err(status) => assert!(attempt < 250 && status.reason() == "RATE_LIMIT_EXCEEDED", "{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Many at a time are too many, and each that ends makes room.
#[tokio::test(flavor = "multi_thread")]
async fn t36_one_credential_has_so_many_downloads_at_a_time() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (envelope, _) = large(&sender, 12_000_000).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(begin(&service, &sender, &envelope).await.unwrap());
    }
    let refused = begin(&service, &sender, &envelope).await.unwrap_err();
    assert_eq!((refused.reason().as_str(), refused.fact("allowed").as_str()), ("RATE_LIMIT_EXCEEDED", "20"));
    let colleague = service.key_of(&sender, false).await;
    drop(begin(&service, &colleague, &envelope).await.unwrap());
    held.clear();
    until_begun(&service, &sender, &envelope).await;
}

/// Who takes nothing gives the place back, also if the connection stays: nobody would ever look at what was said at the end.
#[tokio::test(flavor = "multi_thread")]
async fn t36_a_reader_who_takes_nothing_holds_no_place() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut settings = config(&database, &documents);
    settings.stream_stall_seconds = 1;
    let service = Service::start_with(database, Clock::database(), documents, settings).await;
    let sender = service.account(false).await;
    let (envelope, _) = large(&sender, 12_000_000).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(begin(&service, &sender, &envelope).await.unwrap());
    }
    until_begun(&service, &sender, &envelope).await;
    drop(held);
}

/// Changed, cut off, exchanged: a sound beginning at most, and the error says what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_document_ends_with_data_loss() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (envelope, bytes) = large(&sender, 2_000_000).await;
    let name = hash(&bytes);
    let file = service.documents.path().join(&name[..2]).join(&name[2..]);
    for (damage, before_the_first_byte) in [("flipped", false), ("cut", true), ("exchanged", true)] {
        let stored = match damage {
            "flipped" => [&bytes[..1_000_000], b"!", &bytes[1_000_001..]].concat(),
            "cut" => bytes[..1_000_000].to_vec(),
            _ => pdf(),
        };
        std::fs::write(&file, stored).unwrap();
        let (got, told) = match download(&sender, original(&envelope)).await {
            Ok(Download { bytes, ended, .. }) => (bytes.len(), ended.unwrap_err()),
            Err(refused) => (0, refused),
        };
        assert_eq!((told.code(), told.reason().as_str()), (Code::DataLoss, "DOCUMENT_DAMAGED"), "{damage}");
        assert!(got < bytes.len() && (got == 0) == before_the_first_byte, "{damage}: {got} bytes");
        assert!(!told.message().contains(&name), "nothing of the inside is told");
    }
    std::fs::remove_file(&file).unwrap();
    let gone = whole(&sender, original(&envelope)).await.unwrap_err();
    assert_eq!(gone.reason(), "UNAVAILABLE", "the store may come back");
    assert!(gone.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
}
