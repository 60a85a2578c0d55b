//! What hostile peers send over raw HTTP/2, beside a caller who keeps to the rules. Never more than a few seconds of each, and
//! only to this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::v1::GetCallerIdentityRequest;
use countersign_test_support::binary::{Process, memory_bytes};
use countersign_test_support::{Caller, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types and flags of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What is sent for the stream of that number.
type Flood = fn(u32) -> Vec<u8>;

/// How long one kind of abuse goes on at most.
const LONGEST: Duration = Duration::from_secs(8);
/// Memory that all abuse together may take.
const MEMORY_BYTES_MAX: usize = 128 * 1024 * 1024;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a call, in HPACK without its compression (RFC 7541, 6).
fn call(path: &str) -> Vec<u8> {
    let literal = |name: &[u8], value: &str| [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    let indexed = [0x83, 0x86];
    [
        &indexed[..],
        &literal(&[0x04], path),
        &literal(&[0x01], "localhost"),
        &literal(&[0x0f, 0x10], "application/grpc"),
        &literal(b"\x00\x02te", "trailers"),
    ]
    .concat()
}

fn identity() -> Vec<u8> {
    call("/countersign.v1.AccountService/GetCallerIdentity")
}

/// A peer that has said hello.
async fn greeted(address: &str) -> TcpStream {
    let mut peer = TcpStream::connect(address).await.unwrap();
    peer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    peer
}

/// Sends the same again and again; true if the service ended the connection in time.
async fn flood(peer: TcpStream, mut next: impl FnMut(u32) -> Vec<u8> + Send) -> bool {
    let (mut from, mut to) = peer.into_split();
    let sending = async {
        for stream in (1..).step_by(2) {
            if to.write_all(&next(stream)).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = async {
        let mut told = vec![0; 64 * 1024];
        while let Ok(bytes @ 1..) = from.read(&mut told).await {
            // The service may also say so and wait for the peer to leave.
            if told[..bytes].windows(9).any(|header| header[..2] == [0, 0] && header[3..9] == [GOAWAY, 0, 0, 0, 0, 0]) {
                return;
            }
        }
    };
    tokio::select! {
        () = sending => false,
        () = ended => true,
        () = tokio::time::sleep(LONGEST) => false,
    }
}

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

    let kinds: [(&str, Flood); 4] = [
        ("rapid reset", |stream| {
            let call = frame(HEADERS, END_HEADERS | END_STREAM, stream, &identity());
            [call, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        }),
        ("CONTINUATION without end", |stream| {
            if stream == 1 {
                frame(HEADERS, 0, 1, &identity())
            } else {
                frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b'])
            }
        }),
        ("frames that say nothing", |stream| {
            if stream == 1 { frame(HEADERS, END_HEADERS, 1, &identity()) } else { frame(DATA, 0, 1, &[]) }
        }),
        ("streams that do not exist", |stream| frame(DATA, END_STREAM, stream + 1_000, b"x")),
    ];
    for (kind, next) in kinds {
        let peers = (0..8).map(|_| async { flood(greeted(&process.address).await, next).await });
        let ended = futures_util::future::join_all(peers).await;
        assert_eq!(ended.iter().filter(|ended| **ended).count(), 8, "{kind}: {ended:?}");
    }
    // Questions that have to be answered: whoever does not take the answers is not asked for more.
    for kind in [PING, SETTINGS] {
        let payload: &[u8] = if kind == PING { &[0; 8] } else { &[] };
        let peers = (0..8).map(|_| async {
            let mut peer = greeted(&process.address).await;
            let (many, began) = (frame(kind, 0, 0, payload).repeat(1_000), Instant::now());
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
            let mut peer = TcpStream::connect(address).await.unwrap();
            // Some say half a greeting.
            let _ = peer.write_all(&PREFACE[..number % PREFACE.len()]).await;
            let ended = tokio::time::timeout(Duration::from_secs(30), peer.read(&mut [0; 1_024])).await;
            let ended = ended.expect("the service ends it");
            if began.elapsed() < Duration::from_secs(4) {
                at_once.fetch_add(1, Ordering::Relaxed);
            }
            ended
        }
    });
    let peers = tokio::spawn(futures_util::future::join_all(peers));
    while !peers.is_finished() {
        honest.accounts().get_caller_identity(GetCallerIdentityRequest {}).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    peers.await.unwrap();
    // One place is the honest caller's.
    assert!(at_once.load(Ordering::Relaxed) >= 200 - 49, "{at_once:?}");
    // The places are free again.
    let mut peer = greeted(&process.address).await;
    assert!(peer.read(&mut [0; 1_024]).await.unwrap() > 0, "the service greets back");
    process.kill().await;
}
