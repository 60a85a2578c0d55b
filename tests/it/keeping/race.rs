//! The same bytes wanted by one and let go by another, at the same moment; and a document that goes while somebody takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign::v1::document_part::Part;
use countersign_envelope::removal;
use countersign_test_support::Errors as _;
use countersign_test_support::client::pdf;
use tonic::{Code, Status, Streaming};

use super::bytes::{Hands, idle};
use super::{DocumentVersion, TimeDelta, download, erase, kept_for};
use crate::downloads::{large, of};

/// Rounds of a usual run.
const ROUNDS: usize = 1_000;

/// T-60: a thousand times an envelope is made of the very bytes of which the last one is being purged. Whoever is told that
/// it was made can read it.
#[tokio::test(flavor = "multi_thread")]
async fn t60_new_envelopes_of_bytes_that_are_being_removed_have_them() {
    let service = idle().await;
    let sender = service.account(false).await;
    let hands = Arc::new(Hands::of(&service).await);
    let stop = Arc::new(AtomicBool::new(false));
    let erased = Arc::new(AtomicUsize::new(0));
    let remover = tokio::spawn({
        let (hands, stop, erased) = (Arc::clone(&hands), Arc::clone(&stop), Arc::clone(&erased));
        let clock = service.clock.clone();
        async move {
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                // The pause for readers is over as soon as something is erased; no claim runs out while it is used.
                let now = erased.load(Ordering::Relaxed);
                if now != seen {
                    clock.advance(TimeDelta::minutes(11));
                    seen = now;
                }
                removal::tick(&hands.store, &hands.blobs).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut last: Option<String> = None;
    let (mut made, mut put_off) = (0, 0);
    while made < ROUNDS {
        let (created, ()) = tokio::join!(sender.create(kept_for(30)), async {
            if let Some(id) = &last {
                erase(&sender, id).await.unwrap();
                erased.fetch_add(1, Ordering::Relaxed);
            }
        });
        let Ok(envelope) = created else {
            put_off += 1;
            last = None;
            assert!(put_off < ROUNDS, "it never works");
            continue;
        };
        assert_eq!(download(&sender, &envelope.id, DocumentVersion::Original).await.unwrap(), pdf(), "{made}");
        sender.void(&envelope.id, "").await.unwrap();
        (made, last) = (made + 1, Some(envelope.id));
    }
    stop.store(true, Ordering::Relaxed);
    remover.await.unwrap();
    let lifted = service.database.number("SELECT count(*) FROM blob_removal").await;
    assert!(lifted <= 1, "{lifted} of one document");
    eprintln!("{made} made, {put_off} put off");
    assert!(put_off < ROUNDS / 20, "{put_off} were put off");
}

/// Takes the rest of a document, and says how it ended.
async fn rest(mut stream: Streaming<countersign::v1::DownloadDocumentResponse>) -> (Vec<u8>, Result<(), Status>) {
    let mut bytes = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                if let Some(Part::Chunk(chunk)) = message.part.and_then(|part| part.part) {
                    bytes.extend_from_slice(&chunk);
                }
            }
            Ok(None) => return (bytes, Ok(())),
            Err(status) => return (bytes, Err(status)),
        }
    }
}

/// T-60: whoever takes a document when its purge comes has ten minutes for it and gets it whole; later it breaks off with an error,
/// and never as if what came were all of it.
#[tokio::test(flavor = "multi_thread")]
async fn t60_a_download_under_way_is_whole_or_ends_with_an_error() {
    let service = idle().await;
    let sender = service.account(false).await;
    let hands = Hands::of(&service).await;
    for (minutes, is_whole) in [(9, true), (11, false)] {
        // More than all buffers on its way hold.
        let (envelope, bytes) = large(&sender, 20 * 1024 * 1024 + minutes).await;
        sender.void(&envelope.id, "").await.unwrap();
        let original = of(&envelope, DocumentVersion::Original);
        let mut stream = sender.envelopes().download_document(original).await.unwrap().into_inner();
        let Some(Part::Info(info)) = stream.message().await.unwrap().unwrap().part.unwrap().part else { panic!() };
        assert_eq!(info.size_bytes, bytes.len() as u64);
        erase(&sender, &envelope.id).await.unwrap();
        service.clock.advance(TimeDelta::minutes(minutes.try_into().unwrap()));
        hands.remove().await;
        let (read, ended) = rest(stream).await;
        assert_eq!((ended.is_ok(), read == bytes), (is_whole, is_whole));
        if let Err(status) = ended {
            assert_eq!((status.code(), status.reason().as_str()), (Code::Unavailable, "UNAVAILABLE"));
            assert!(bytes.starts_with(&read), "what came was true");
        }
        let again = download(&sender, &envelope.id, DocumentVersion::Original).await.unwrap_err();
        assert_eq!(again.reason(), "CONTENT_PURGED");
    }
}
