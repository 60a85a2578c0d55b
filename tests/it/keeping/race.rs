//! The same bytes wanted by one and let go by another, at the same moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign_envelope::removal;
use countersign_test_support::client::pdf;

use super::bytes::{Hands, idle};
use super::{DocumentVersion, TimeDelta, download, erase, kept_for};

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
