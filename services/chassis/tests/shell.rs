//! The shell around all calls, against real connections: deadlines, turns, ages, health, and the way down.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use countersign::v1::GetCallerIdentityRequest;
use countersign::v1::account_service_client::AccountServiceClient;
use countersign_chassis::accept::Leaving;
use countersign_chassis::config::{ConnectionBounds, ListenConfig};
use countersign_chassis::grpc;
use countersign_hostile::{Kind, Pace, flood};
use countersign_test_support::raw::{crumbled, refused, withheld};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use tower::Service;

const NAME: &str = "countersign.v1.AccountService";

/// Answers every call with ABORTED and the caller's port, after as long as the call asks for, once its request is whole.
#[derive(Clone, Default)]
struct Slow {
    /// That have begun to come in, and that have come in.
    begun: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl NamedService for Slow {
    const NAME: &'static str = NAME;
}

impl Service<Request<Body>> for Slow {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let wait = header("x-wait").unwrap_or_default();
        let port = request.extensions().get::<TcpConnectInfo>().unwrap().remote_addr().unwrap().port();
        let leaving = request.extensions().get::<Leaving>().unwrap().0.clone();
        let (calls, body) = (Arc::clone(&self.calls), request.into_body());
        self.begun.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            // As tonic's own handlers do.
            if let Err(refused) = body.collect().await {
                return Ok(refused.into_http());
            }
            calls.fetch_add(1, Ordering::Relaxed);
            match wait.as_str() {
                "" => {}
                "leaving" => leaving.cancelled().await,
                "panic" => panic!("as asked"),
                wait => tokio::time::sleep(Duration::from_millis(wait.parse().unwrap())).await,
            }
            Ok(Status::aborted(port.to_string()).into_http())
        })
    }
}

struct Stand {
    address: String,
    able: Arc<AtomicBool>,
    begun: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Stand {
    async fn start(config: ListenConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (able, stop) = (Arc::new(AtomicBool::new(true)), CancellationToken::new());
        let slow = Slow::default();
        let (begun, calls) = (Arc::clone(&slow.begun), Arc::clone(&slow.calls));
        let running = tokio::spawn({
            let (able, stop) = (Arc::clone(&able), stop.clone());
            let able = move || std::future::ready(able.load(Ordering::Relaxed));
            async move { grpc::serve(listener, Routes::new(slow), &[NAME], able, None, &config, stop).await }
        });
        Self { address, able, begun, calls, stop, running }
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(self.address.clone()).unwrap().connect_lazy()
    }

    async fn is_serving(&self, service: &str) -> bool {
        let request = HealthCheckRequest { service: service.to_owned() };
        HealthClient::new(self.channel()).check(request).await.unwrap().into_inner().status == 1
    }
}

/// The port from which the call came, or why it was refused.
async fn call(channel: &Channel, headers: &[(&'static str, &str)]) -> Result<u16, Status> {
    let mut request = tonic::Request::new(GetCallerIdentityRequest {});
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let status = AccountServiceClient::new(channel.clone()).get_caller_identity(request).await.unwrap_err();
    if status.code() == Code::Aborted { Ok(status.message().parse().unwrap()) } else { Err(status) }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

/// tonic's own answer is CANCELLED, as if the caller had gone.
#[tokio::test]
async fn a_deadline_that_passes_is_deadline_exceeded() {
    let stand = Stand::start(ListenConfig::default()).await;
    let channel = stand.channel();
    let began = Instant::now();
    let path = format!("/{NAME}/GetCallerIdentity");
    let address = stand.address.trim_start_matches("http://");
    let status = refused(address, &path, &[("x-wait", "60000"), ("grpc-timeout", "100m")]).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert!(began.elapsed() < Duration::from_secs(30));
    call(&channel, &[("x-wait", "10"), ("grpc-timeout", "1M")]).await.unwrap();
    let status = call(&channel, &[("x-wait", "panic")]).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "INTERNAL"));
}

/// Whoever finds no turn is told at once, before anything is done of the call, and when to come again; health has a turn always.
#[tokio::test]
async fn what_is_too_much_is_refused_at_once() {
    let stand = Stand::start(ListenConfig { calls_max: 4, ..ListenConfig::default() }).await;
    let channel = stand.channel();
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move { call(&channel, &[("x-wait", "leaving")]).await })
        })
        .collect();
    while stand.calls.load(Ordering::Relaxed) < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = call(&channel, &[]).await.expect_err("no fifth turn");
    assert_eq!(stand.begun.load(Ordering::Relaxed), 4, "nobody behind the shell hears of it");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    let delay = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!((Duration::from_millis(500)..Duration::from_millis(1_000)).contains(&delay), "{delay:?}");
    assert!(stand.is_serving(NAME).await);
    stand.stop.cancel();
    for slow in slow {
        slow.await.unwrap().expect("those who had a turn are answered");
    }
    stand.running.await.unwrap().unwrap();
}

/// Whoever holds back the rest of a request holds no turn, and not for ever.
#[tokio::test]
async fn a_request_that_does_not_arrive_holds_no_turn() {
    let stand = Stand::start(ListenConfig { calls_max: 1, ..ListenConfig::default() }).await;
    let address = stand.address.trim_start_matches("http://").to_owned();
    let withheld: Vec<_> = (0..3)
        .map(|_| {
            let (address, path) = (address.clone(), format!("/{NAME}/GetCallerIdentity"));
            tokio::spawn(async move { withheld(&address, &path).await })
        })
        .collect();
    let channel = stand.channel();
    while !withheld.iter().all(JoinHandle::is_finished) {
        call(&channel, &[]).await.expect("the one turn is free");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for withheld in withheld {
        assert_eq!(withheld.await.unwrap().code(), Code::DeadlineExceeded);
    }
}

/// Whoever says what is of no use, again and again, is heard at a pace; a request in small pieces comes through.
#[tokio::test]
async fn what_is_of_no_use_is_heard_later() {
    const SECONDS: u64 = 3;
    /// Bytes of the answer to a PING.
    const ANSWER: u64 = 9 + 8;
    let stand = Stand::start(ListenConfig::default()).await;
    let address = stand.address.trim_start_matches("http://");
    let pace = Pace { at_once: 1_000, pause: Duration::from_millis(1) };
    let asked = flood(address, Kind::Ping, pace, Duration::from_secs(SECONDS)).await.unwrap();
    assert!(!asked.is_ended, "nobody is cut off for that");
    // 4,000 in a second, what may come at once, and what was read with it.
    let answered = asked.taken / ANSWER;
    assert!((500..5_000 * SECONDS + 3_000).contains(&answered), "{answered} of {} answered", asked.turns);
    let crumbled = crumbled(address, &format!("/{NAME}/GetCallerIdentity"), 3_000).await;
    assert_eq!(crumbled.code(), Code::Aborted, "{crumbled:?}");
}

/// A connection that is old takes no more calls; those that it has are answered, and no caller notices.
#[tokio::test]
async fn connections_end_with_age_under_no_call() {
    let stand = Stand::start(ListenConfig { connection_age_seconds: 1, ..ListenConfig::default() }).await;
    let channel = stand.channel();
    let (mut ports, began) = (BTreeSet::new(), Instant::now());
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, &[("x-wait", "leaving")]).await }
    });
    while began.elapsed() < Duration::from_secs(30) && ports.len() < 3 {
        match call(&channel, &[("x-wait", "20")]).await {
            Ok(port) => _ = ports.insert(port),
            // What the client had taken and not sent yet when its connection ended, it may send again.
            Err(lost) => assert!(format!("{lost:?}").contains("hyper::Error(Canceled"), "{lost:?}"),
        }
    }
    assert!(ports.len() >= 3, "{ports:?}");
    let first = waiting.await.unwrap().expect("a stream hears that it should end");
    assert!(ports.contains(&first));
    stand.stop.cancel();
    stand.running.await.unwrap().unwrap();
}

/// A connection without calls ends, one with calls does not.
#[tokio::test]
async fn idle_connections_end() {
    let bounds = ConnectionBounds { idle: Duration::from_secs(2), ..ConnectionBounds::default() };
    let stand = Stand::start(ListenConfig { bounds, ..ListenConfig::default() }).await;
    let (idle, busy) = (stand.channel(), stand.channel());
    let (idle_port, busy_port) = (call(&idle, &[]).await.unwrap(), call(&busy, &[]).await.unwrap());
    // It is looked at for the first time when its greeting should be over.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(9) {
        assert_eq!(call(&busy, &[("x-wait", "100")]).await.unwrap(), busy_port);
    }
    assert_ne!(call(&idle, &[]).await.unwrap(), idle_port);
}

/// A call that does not end with its old connection is cut, but not before its grace is over.
#[tokio::test]
async fn calls_on_old_connections_have_their_grace() {
    let grace = Duration::from_secs(3);
    let bounds = ConnectionBounds { grace, ..ConnectionBounds::default() };
    let config = ListenConfig { connection_age_seconds: 1, bounds, ..ListenConfig::default() };
    let stand = Stand::start(config).await;
    let (channel, began) = (stand.channel(), Instant::now());
    let (kept, cut) = tokio::join!(call(&channel, &[("x-wait", "2500")]), call(&channel, &[("x-wait", "60000")]));
    kept.expect("it ended in its time");
    assert!(cut.unwrap_err().get_details_error_info().is_none(), "nobody says anything");
    assert!((grace..Duration::from_secs(30)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

/// One connection more than there may be is closed, and there is room again when another goes.
#[tokio::test]
async fn connections_are_bounded() {
    let stand = Stand::start(ListenConfig { connections_max: 3, ..ListenConfig::default() }).await;
    let mut channels: Vec<_> = (0..3).map(|_| stand.channel()).collect();
    for channel in &channels {
        call(channel, &[]).await.unwrap();
    }
    let refused = call(&stand.channel(), &[]).await.unwrap_err();
    assert!(refused.get_details_error_info().is_none(), "the connection was closed: {refused:?}");
    channels.pop();
    let mut served = false;
    for _ in 0..500 {
        served = call(&stand.channel(), &[]).await.is_ok();
        if served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(served, "a place is free again");
}

/// A connection has a hundred calls at a time. A client that keeps to the protocol sends the next one when one of them ends.
#[tokio::test]
async fn calls_on_a_connection_are_bounded() {
    const CALLS: usize = 100;
    let stand = Stand::start(ListenConfig::default()).await;
    let channel = stand.channel();
    let spawn = |wait: &'static str| {
        let channel = channel.clone();
        tokio::spawn(async move { call(&channel, &[("x-wait", wait)]).await })
    };
    let open: Vec<_> = (0..CALLS).map(|_| spawn("60000")).collect();
    while stand.calls.load(Ordering::Relaxed) < CALLS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let next = spawn("0");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!next.is_finished() && stand.calls.load(Ordering::Relaxed) == CALLS, "it waits its turn");
    call(&stand.channel(), &[]).await.expect("another connection has room of its own");
    open[0].abort();
    tokio::time::timeout(Duration::from_secs(10), next).await.expect("there is room").unwrap().unwrap();
    open.iter().for_each(JoinHandle::abort);
}

/// Headers beyond 16 KiB are refused as HTTP has it; the connection and its other calls go on.
#[tokio::test]
async fn headers_are_bounded() {
    let stand = Stand::start(ListenConfig::default()).await;
    let channel = stand.channel();
    let port = call(&channel, &[("x-fill", &"x".repeat(12 * 1024))]).await.unwrap();
    let refused = call(&channel, &[("x-fill", &"x".repeat(20 * 1024))]).await.unwrap_err();
    assert!(refused.message().contains("431"), "{refused:?}");
    assert_eq!(refused.code(), Code::Unknown, "gRPC knows no such status of HTTP");
    assert_eq!(stand.calls.load(Ordering::Relaxed), 1, "nobody was asked");
    assert_eq!(call(&channel, &[]).await.unwrap(), port);
}

/// How many services reflection names, in one of its versions.
macro_rules! reflected {
    ($version:ident, $stand:expr) => {{
        use tonic_reflection::pb::$version::ServerReflectionRequest;
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let question = tokio_stream::once(ServerReflectionRequest { host: String::new(), message_request });
        match ServerReflectionClient::new($stand.channel()).server_reflection_info(question).await {
            Ok(answer) => match answer.into_inner().message().await.unwrap().unwrap().message_response {
                Some(MessageResponse::ListServicesResponse(list)) => Ok(list.service.len()),
                other => panic!("{other:?}"),
            },
            Err(status) => Err(status),
        }
    }};
}

/// Reflection is answered unless the settings say otherwise; then there is no such service.
#[tokio::test]
async fn reflection_is_off_where_the_settings_say_so() {
    let on = Stand::start(ListenConfig::default()).await;
    let off = Stand::start(ListenConfig { reflection: false, ..ListenConfig::default() }).await;
    for listed in [reflected!(v1, on), reflected!(v1alpha, on)] {
        assert!(listed.unwrap() > 0);
    }
    for listed in [reflected!(v1, off), reflected!(v1alpha, off)] {
        assert_eq!(listed.unwrap_err().code(), Code::Unimplemented);
    }
    assert!(off.is_serving(NAME).await, "health is told all the same");
}

/// Readiness follows what the service needs, with patience; liveness does not.
#[tokio::test]
async fn health_tells_of_readiness_and_life() {
    let stand = Stand::start(ListenConfig::default()).await;
    let until = async |ready: bool| {
        for _ in 0..600 {
            if stand.is_serving(NAME).await == ready {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never {ready}");
    };
    until(true).await;
    let began = Instant::now();
    stand.able.store(false, Ordering::Relaxed);
    until(false).await;
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(stand.is_serving("").await, "it lives");
    stand.able.store(true, Ordering::Relaxed);
    until(true).await;
}

/// Told to end, it says so first and serves on for as long as those who send calls need to hear of it.
#[tokio::test]
async fn the_way_down_is_announced() {
    let config = ListenConfig { drain_delay_ms: 4_000, drain_ms: 1_000, ..ListenConfig::default() };
    let stand = Stand::start(config).await;
    let channel = stand.channel();
    call(&channel, &[]).await.unwrap();
    let (open, stuck) = ((channel.clone(), "leaving"), (stand.channel(), "60000"));
    let [open, stuck] =
        [open, stuck].map(|(channel, wait)| tokio::spawn(async move { call(&channel, &[("x-wait", wait)]).await }));
    while stand.calls.load(Ordering::Relaxed) < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let began = Instant::now();
    stand.stop.cancel();
    while stand.is_serving(NAME).await {
        assert!(began.elapsed() < Duration::from_secs(3));
    }
    call(&stand.channel(), &[]).await.expect("served during the delay, also on new connections");
    open.await.unwrap().expect("it ended when it was told to");
    assert!(began.elapsed() >= Duration::from_secs(4));
    stand.running.await.unwrap().unwrap();
    assert!((Duration::from_secs(5)..Duration::from_secs(30)).contains(&began.elapsed()));
    stuck.await.unwrap().expect_err("what does not end is cut");
}
