//! Two hundred receivers that trickle, hang, send without end, reset, redirect and break TLS, beside a few that are well.
//! Must never take longer than half a minute: the time of an attempt is shortened by the courier's bounds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use countersign::v1::EventType;
use countersign_chassis::guard::Guard;
use countersign_chassis::keys::{Key, Ring};
use countersign_chassis::ticker;
use countersign_notifier::id::{AccountId, EnvelopeId};
use countersign_notifier::webhook::courier::{Bounds, Courier};
use countersign_notifier::webhook::deliver::Deliverer;
use countersign_notifier::webhook::headers::Seal;
use countersign_notifier::webhook::signature::Secrets;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::receiver::until;
use crate::stand::Stand;

/// How long an attempt may take here, and how much of an answer is read.
const BOUNDS: Bounds =
    Bounds { connect: Duration::from_secs(1), total: Duration::from_secs(2), answer_bytes_max: 16 * 1024 };
const HOSTILE: usize = 200;
const HEALTHY: usize = 5;
/// What a socket's buffers may hold of an answer that nobody reads.
const BUFFERS_BYTES: usize = 12 * 1024 * 1024;

const KINDS: [&str; 10] =
    ["trickle", "silent", "half", "hang", "endless", "reset", "redirect", "tls", "headers", "bomb"];

/// The most that one connection was made to take.
type Sent = Arc<AtomicUsize>;

async fn misbehave(kind: &str, mut stream: TcpStream, sent: &Sent) -> std::io::Result<()> {
    let pause = Duration::from_millis(100);
    if kind == "reset" {
        stream.set_zero_linger()?;
        return Ok(());
    }
    if kind != "silent" {
        let _ = stream.read(&mut [0; 4096]).await?;
    }
    let answer: &[u8] = match kind {
        "half" => b"HTTP/1.1 200 O",
        "hang" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc",
        "redirect" => b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        "tls" => b"this is not TLS, and not HTTP either\r\n\r\n",
        "bomb" => b"HTTP/1.1 500 Oh\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n",
        "endless" => b"HTTP/1.1 500 Oh\r\ncontent-length: 10000000000\r\n\r\n",
        "headers" => b"HTTP/1.1 200 OK\r\n",
        _ => b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
    };
    if kind != "silent" {
        stream.write_all(answer).await?;
    }
    let mut total = 0;
    loop {
        match kind {
            "trickle" => {
                stream.write_all(b"a").await?;
                tokio::time::sleep(pause).await;
            }
            "endless" => total += stream.write(&[b'x'; 65_536]).await?,
            "headers" => total += stream.write(format!("x-{total}: {}\r\n", "y".repeat(1_000)).as_bytes()).await?,
            // Zeros, compressed a thousandfold: whoever unpacks them loses.
            "bomb" => {
                let chunk = [b"10000\r\n".as_slice(), &[0; 65_536], b"\r\n"].concat();
                total += stream.write(&chunk).await?;
            }
            "redirect" | "tls" => return Ok(()),
            _ => tokio::time::sleep(pause).await,
        }
        sent.fetch_max(total, Ordering::Relaxed);
        if matches!(kind, "silent" | "half" | "hang") && stream.read(&mut [0; 1]).await? == 0 {
            return Ok(());
        }
    }
}

async fn hostile(kind: &'static str, sent: &Sent) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if kind == "tls" { "https" } else { "http" };
    let url = format!("{scheme}://{}/{kind}", listener.local_addr().unwrap());
    let sent = Arc::clone(sent);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sent = Arc::clone(&sent);
            tokio::spawn(async move { misbehave(kind, stream, &sent).await });
        }
    });
    url
}

/// A receiver that is well; says when each event came.
async fn healthy() -> (String, Came) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let came = Came::default();
    let kept = Arc::clone(&came);
    let take = move |headers: axum::http::HeaderMap| {
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        kept.lock().unwrap().push((id, Instant::now()));
        async { axum::http::StatusCode::NO_CONTENT }
    };
    let router = axum::Router::new().fallback(axum::routing::post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, came)
}

/// When which event came.
type Came = Arc<Mutex<Vec<(String, Instant)>>>;

/// Accounts with a receiver that is well.
async fn well(stand: &mut Stand) -> Vec<(AccountId, Came)> {
    let mut receivers = Vec::new();
    for _ in 0..HEALTHY {
        let (account, (url, came)) = (AccountId::new(), healthy().await);
        stand.endpoint_of(account, &url).await;
        receivers.push((account, came));
    }
    // They have taken something before.
    for (account, _) in &receivers {
        stand.account = *account;
        stand.happens(EventType::EnvelopeSent, 1);
    }
    stand.follow().await;
    stand.deliver().await;
    receivers.iter().for_each(|(_, came)| came.lock().unwrap().clear());
    receivers
}

/// Accounts with every kind of receiver, and events for them.
async fn hostile_ones(stand: &mut Stand, sent: &Sent) {
    for _ in 0..HOSTILE / KINDS.len() {
        let account = AccountId::new();
        for kind in KINDS {
            stand.endpoint_of(account, &hostile(kind, sent).await).await;
        }
        stand.account = account;
        for sequence in 1..=2 {
            stand.happens(EventType::EnvelopeSent, sequence);
        }
    }
    stand.follow().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hostile_receivers_hold_up_nobody_and_end_in_time() {
    let mut stand = Stand::new().await;
    let sent = Sent::default();
    let own = stand.account;
    let receivers = well(&mut stand).await;
    hostile_ones(&mut stand, &sent).await;
    let master = Ring::from(Key::master(&"5c".repeat(32).into()).unwrap());
    let guard = Guard::new(true, Vec::new(), Vec::new());
    let courier = Courier::new(guard, Arc::new(Seal::new(&master).unwrap()), BOUNDS).unwrap();
    let wake = Arc::default();
    let secrets = Arc::new(Secrets::new(&master));
    let deliverer = Deliverer::new(stand.notifier.store.clone(), secrets, Arc::new(courier), Arc::clone(&wake));
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (deliverer, stop) = (deliverer.clone(), stop.clone());
        ticker::run("deliver", Duration::from_millis(20), wake, stop, move || {
            let deliverer = deliverer.clone();
            async move { deliverer.tick().await }
        })
    });
    // While the hostile ones are at it, something happens to the healthy ones again and again.
    let mut due = Vec::new();
    for round in 0..40 {
        for (account, _) in &receivers {
            (stand.account, stand.envelope) = (*account, EnvelopeId::new());
            due.push((stand.happens(EventType::EnvelopeSent, round + 1).id, Instant::now()));
        }
        stand.follow().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until(async || receivers.iter().map(|(_, came)| came.lock().unwrap().len()).sum::<usize>() == due.len()).await;
    stand.account = own;
    let came: std::collections::HashMap<_, _> =
        receivers.iter().flat_map(|(_, came)| came.lock().unwrap().clone()).collect();
    assert_eq!(came.len(), due.len(), "each once");
    let mut took: Vec<_> = due.iter().map(|(id, since)| came[id].duration_since(*since)).collect();
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    until(async || stand.number("SELECT count(DISTINCT (endpoint_id)) FROM attempt").await >= 205).await;
    stop.cancel();
    running.await.unwrap();
    deliverer.finished().await;
    let longest = stand.number("SELECT max(duration_ms)::bigint FROM attempt").await;
    let most = sent.load(Ordering::Relaxed);
    println!(
        "healthy: median {:?}, p99 {p99:?}; longest attempt {longest} ms; most sent in one {most} bytes",
        took[took.len() / 2]
    );
    assert!(p99 < Duration::from_secs(5), "{p99:?}");
    assert!(longest <= i64::try_from(BOUNDS.total.as_millis()).unwrap() + 1_500, "{longest} ms");
    assert!(most < BUFFERS_BYTES, "{most} bytes were taken from one that sends without end");
    let ways = "SELECT count(DISTINCT coalesce(failure, status_code::text)) FROM attempt";
    assert!(stand.number(ways).await >= 5);
    assert_eq!(stand.number("SELECT count(*) FROM attempt WHERE octet_length(answer) > 4096").await, 0);
    stand.later(TimeDelta::seconds(1));
}
