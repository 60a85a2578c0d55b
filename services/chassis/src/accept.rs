//! Takes connections in and ends them: so many, so many of one peer, each with a deadline for its greeting, for doing nothing,
//! and for its age.
//!
//! It must never wait for one peer before it looks at the next, and never end a connection under a call that it still gives
//! time: it says GOAWAY first.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower::{Service, ServiceExt as _};

use crate::call::STANDARD;
use crate::config::{ConnectionBounds, ListenConfig};
use crate::heard::Heard;
use crate::metrics::{self, OpenConnection};
use crate::ticker::jittered;
use crate::tls::ServerTls;

/// Calls at a time on one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 100;
/// Size of all headers of a call.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Streams that were reset for what the peer did wrong, before the connection ends.
const LOCAL_RESETS_MAX: usize = 128;
/// How often a connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// A larger HTTP/2 window lets a document travel without a stop at every 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// How long the handshake and the first frame may take: who connects and says nothing holds nothing for longer.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// The preface of HTTP/2 and the header of the first frame (RFC 9113, 3.4 and 4.1).
const GREETING_BYTES: u64 = 24 + 9;
/// How long a connection that was told to end may go on when it has no call: its peer may be gone.
const QUIET: Duration = Duration::from_secs(2);
/// Places beyond all others for who has no connection yet, so that those who ask for health are heard in a crowd.
const RESERVED: usize = 16;
/// How long nobody is taken in when the machine has no room for another.
const BREATH: Duration = Duration::from_millis(100);

/// The certificates by which the peer of a call is known: verified, its own first.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// Says when the connection of a call is told to end: calls that would go on for long had better end as well.
#[derive(Clone, Debug)]
pub struct Leaving(pub CancellationToken);

/// Serves connections until `stop`, then tells all of them to end and gives their calls the time of the settings.
pub(crate) async fn serve<S>(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    service: S,
    config: &ListenConfig,
    stop: &CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let (places, tracker, cut) = (Places::new(config), TaskTracker::new(), CancellationToken::new());
    let age = Duration::from_secs(config.connection_age_seconds);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_the_peers(&error) {
                    tracing::error!(error = error.to_string(), "no connection can be taken in");
                    tokio::time::sleep(BREATH).await;
                }
                continue;
            }
        };
        // Whoever finds no place is told at once, by a closed connection, and goes elsewhere.
        let Some(place) = places.take(peer.ip()) else {
            metrics::turned_away();
            continue;
        };
        let open = OpenConnection::new();
        let (age, bounds) = (jittered(age), config.bounds);
        let taken_in = Connection { service: service.clone(), age, bounds, stop: stop.clone(), cut: cut.clone() };
        let tls = tls.clone();
        tracker.spawn(async move {
            taken_in.run(stream, peer, tls).await;
            drop((place, open));
        });
    }
    drop(listener);
    tracker.close();
    if timeout(config.drain(), tracker.wait()).await.is_err() {
        tracing::warn!(
            connections = tracker.len(),
            "connections with calls that were still open at the end of the drain were cut"
        );
        cut.cancel();
        tracker.wait().await;
    }
}

/// Errors of a connection that ended before it was taken in.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Places for connections.
struct Places {
    all: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    of_peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_peer_max: usize,
}

/// A connection's place. Free again when dropped.
struct Place {
    peer: IpAddr,
    of_peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _one_of_all: OwnedSemaphorePermit,
}

impl Places {
    fn new(config: &ListenConfig) -> Self {
        let all = Arc::new(Semaphore::new(config.connections_max as usize));
        let reserved = Arc::new(Semaphore::new(RESERVED));
        Self { all, reserved, of_peers: Arc::default(), per_peer_max: config.connections_per_peer_max as usize }
    }

    fn take(&self, peer: IpAddr) -> Option<Place> {
        let peer = network(peer);
        let mut of_peers = self.of_peers.lock().unwrap_or_else(PoisonError::into_inner);
        let own = of_peers.get(&peer).copied().unwrap_or_default();
        if own >= self.per_peer_max {
            return None;
        }
        let one_of_all = Arc::clone(&self.all).try_acquire_owned().ok();
        let reserved = || Arc::clone(&self.reserved).try_acquire_owned().ok().filter(|_| own == 0);
        let one_of_all = one_of_all.or_else(reserved)?;
        of_peers.insert(peer, own + 1);
        Some(Place { peer, of_peers: Arc::clone(&self.of_peers), _one_of_all: one_of_all })
    }
}

/// Whose an address is: of IPv6, one household or machine has all that begin alike.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(peer) => IpAddr::V6(Ipv6Addr::from_bits(peer.to_bits() & (u128::MAX << 64))),
        peer => peer,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of_peers = self.of_peers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = of_peers.get_mut(&self.peer) else { return };
        *own -= 1;
        if *own == 0 {
            of_peers.remove(&self.peer);
        }
    }
}

/// One connection.
struct Connection<S> {
    service: S,
    age: Duration,
    bounds: ConnectionBounds,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl<S> Connection<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    async fn run(self, stream: TcpStream, peer: SocketAddr, tls: Option<Arc<ServerTls>>) {
        let greeted_by = Instant::now() + GREETING_MAX;
        // Without it small answers wait for 40 ms.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let info = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(peer) };
        let Some(tls) = tls else { return self.speak(stream, info, None, greeted_by).await };
        let handshake = tokio::select! {
            handshake = tokio::time::timeout_at(greeted_by, tls.acceptor().accept(stream)) => handshake,
            () = self.stop.cancelled() => return,
        };
        match handshake {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let certificates = certificates.map(|chain| chain.iter().cloned().map(CertificateDer::into_owned));
                let certificates = certificates.map(|chain| PeerCertificates(chain.collect()));
                self.speak(stream, info, certificates, greeted_by).await;
            }
            Ok(Err(error)) => tracing::debug!(error = error.to_string(), "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn speak(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        info: TcpConnectInfo,
        certificates: Option<PeerCertificates>,
        greeted_by: Instant,
    ) {
        let (heard, open, leaving) = (Arc::new(AtomicU64::new(0)), Arc::new(Open::new()), self.stop.child_token());
        let serve = service_fn({
            let (service, open, leaving) = (self.service, Arc::clone(&open), Leaving(leaving.clone()));
            move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(info.clone());
                request.extensions_mut().insert(leaving.clone());
                if let Some(certificates) = &certificates {
                    request.extensions_mut().insert(certificates.clone());
                }
                // Health and reflection may be watched for ever: nobody waits for that.
                let call = (!request.uri().path().starts_with(STANDARD)).then(|| open.call());
                let answer = service.clone().oneshot(request);
                // It goes on until the last of its answer has left.
                let held = move |frame| {
                    let _ = &call;
                    frame
                };
                async move { answer.await.map(|answer| answer.map(|body| body.map_frame(held))) }
            }
        });
        let stream = TokioIo::new(Heard::new(stream, Arc::clone(&heard)));
        let mut connection = pin!(http().serve_connection(stream, serve));
        let (mut look_at, old_at, mut told_at) = (greeted_by, Instant::now() + self.age, None::<Instant>);
        loop {
            tokio::select! {
                ended = &mut connection => {
                    if let Err(error) = ended {
                        tracing::debug!(error = error.to_string(), "a connection broke");
                    }
                    return;
                }
                () = sleep_until(look_at) => {
                    if heard.load(Ordering::Relaxed) < GREETING_BYTES {
                        return;
                    }
                    look_at = Instant::now() + if told_at.is_some() { QUIET / 4 } else { self.bounds.idle / 10 };
                    match told_at {
                        // Its peer may be gone: then nobody takes leave.
                        Some(told_at) if told_at.elapsed() >= QUIET && open.idle() >= QUIET => return,
                        None if open.idle() >= self.bounds.idle => {}
                        _ => continue,
                    }
                }
                () = sleep_until(told_at.map_or(old_at, |told_at| told_at + self.bounds.grace)) => {
                    if told_at.is_some() {
                        return;
                    }
                }
                () = self.stop.cancelled(), if told_at.is_none() => {}
                () = self.cut.cancelled() => return,
            }
            leaving.cancel();
            connection.as_mut().graceful_shutdown();
            told_at = Some(Instant::now());
            look_at = Instant::now() + QUIET / 4;
        }
    }
}

/// HTTP/2 with its bounds. What the protocol's library bounds itself stays as it has it: resets before a call is taken up,
/// CONTINUATION frames, DATA frames without a byte. Frames of little use that it takes are `heard`'s.
fn http() -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(4 * STREAM_WINDOW_BYTES);
    http
}

/// The open calls of a connection, and when the last of them ended.
struct Open {
    calls: AtomicUsize,
    born: Instant,
    ended_after_ms: AtomicU64,
}

/// One of them.
struct OpenCall(Arc<Open>);

impl Open {
    fn new() -> Self {
        Self { calls: AtomicUsize::new(0), born: Instant::now(), ended_after_ms: AtomicU64::new(0) }
    }

    fn call(self: &Arc<Self>) -> OpenCall {
        self.calls.fetch_add(1, Ordering::Relaxed);
        OpenCall(Arc::clone(self))
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// For how long there has been no call.
    fn idle(&self) -> Duration {
        if self.calls.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(self.age_ms().saturating_sub(self.ended_after_ms.load(Ordering::Relaxed)))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.ended_after_ms.store(self.0.age_ms(), Ordering::Relaxed);
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}
