//! What hostile peers send over raw HTTP/2, beside a caller who keeps to the rules. Never more than a few seconds of each, and
//! only to this machine. How long honest callers wait meanwhile is measured by the benchmark: a debug build on a busy machine
//! cannot say it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::v1::GetCallerIdentityRequest;
use countersign_hostile::{Kind, PREFACE, Pace, flood, greeted, silent};
use countersign_test_support::binary::{Process, memory_bytes};
use countersign_test_support::{Caller, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long one kind of abuse goes on at most.
const LONGEST: Duration = Duration::from_secs(8);
/// Memory that all abuse together may take.
const MEMORY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Calls again and again, one after the other; how long each took.
async fn honest(caller: Caller, over: Arc<AtomicBool>) -> Vec<Duration> {
    let mut took = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        caller.accounts().get_caller_identity(GetCallerIdentityRequest {}).await.expect("honest callers are served");
        took.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    took.sort();
    took
}

/// Whoever breaks the rules of HTTP/2, or keeps them in bad faith, is cut off, and costs others nothing.
#[tokio::test(flavor = "multi_thread")]
async fn abuse_from_raw_http2_ends_by_itself() {
    let (seed, documents) = (Service::start().await, tempfile::tempdir().unwrap());
    let sender = seed.account(false).await;
    let pool = [("COUNTERSIGN_DATABASE_POOL_MAX", "8")];
    let process = Process::beside(&seed, documents.path(), &pool).await;
    let (database, documents_too) = seed.stop().await;
    let id = process.child.id().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let calling = tokio::spawn(honest(process.caller(&sender), Arc::clone(&over)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = memory_bytes(id, "VmRSS:");

    for kind in Kind::ENDED {
        let peers = (0..8).map(|_| flood(&process.address, kind, Pace::UNBOUND, LONGEST));
        let ended = futures_util::future::join_all(peers).await;
        assert!(ended.iter().all(|peer| peer.as_ref().unwrap().is_ended), "{kind:?}: {ended:?}");
    }
    // Questions that have to be answered: whoever does not take the answers is not asked for more.
    for kind in [Kind::Ping, Kind::Settings] {
        let peers = (0..8).map(|_| async {
            let mut peer = greeted(&process.address).await.unwrap();
            let (many, began) = (kind.frames(0).repeat(1_000), Instant::now());
            while began.elapsed() < Duration::from_secs(2) {
                let sent = tokio::time::timeout(Duration::from_millis(200), peer.write_all(&many)).await;
                if sent.is_err() || sent.is_ok_and(|sent| sent.is_err()) {
                    break;
                }
            }
        });
        futures_util::future::join_all(peers).await;
    }
    over.store(true, Ordering::Relaxed);
    let took = calling.await.unwrap();
    eprintln!("honest calls: {}, median {:?}, longest {:?}", took.len(), took[took.len() / 2], took[took.len() - 1]);
    let grown = memory_bytes(id, "VmRSS:").saturating_sub(before);
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes more");
    let backends =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'";
    // Two pools of eight, the pulse, and the one that asks.
    assert!(database.number(backends).await <= 18);
    process.kill().await;
    drop(documents_too);
}

/// Who connects and says nothing, or begins and does not go on, is gone after five seconds; who comes too often, at once.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_hold_nothing() {
    let (seed, documents) = (Service::start().await, tempfile::tempdir().unwrap());
    let sender = seed.account(false).await;
    let bounds = [("COUNTERSIGN_CONNECTIONS_PER_PEER_MAX", "50")];
    let process = Process::beside(&seed, documents.path(), &bounds).await;
    let honest = process.caller(&sender);
    honest.accounts().get_caller_identity(GetCallerIdentityRequest {}).await.unwrap();
    let (began, at_once) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let peers = (0..200).map(|number| {
        let (address, at_once) = (process.address.clone(), Arc::clone(&at_once));
        async move {
            // Some say half a greeting.
            let silent = silent(&address, number % PREFACE.len(), Duration::from_secs(30)).await;
            // Who is turned away may find it out while it speaks.
            assert!(silent.is_ok_and(|silent| silent.is_ended) || began.elapsed() < Duration::from_secs(4));
            if began.elapsed() < Duration::from_secs(4) {
                at_once.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let peers = tokio::spawn(futures_util::future::join_all(peers));
    while !peers.is_finished() {
        honest.accounts().get_caller_identity(GetCallerIdentityRequest {}).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    peers.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(25), "those who had a place are gone as well");
    // One place is the honest caller's.
    assert!(at_once.load(Ordering::Relaxed) >= 200 - 49, "{at_once:?}");
    // The places are free again.
    let mut peer = greeted(&process.address).await.unwrap();
    assert!(peer.read(&mut [0; 1_024]).await.unwrap() > 0, "the service greets back");
    process.kill().await;
}
