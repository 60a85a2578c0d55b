//! What is fetched from addresses, from servers that behave and that do not. Must never leave this machine.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use countersign_chassis::grpc::install_tls_provider;
use countersign_chassis::guard::{Guard, Lookup};
use countersign_envelope::fetch::{Bounds, FetchError, Fetcher};
use tokio::net::TcpListener;

const BYTES_MAX: usize = 100_000;

/// Every name is this machine.
struct Here;

#[tonic::async_trait]
impl Lookup for Here {
    async fn lookup(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

fn bounds() -> Bounds {
    Bounds { connect: Duration::from_secs(1), total: Duration::from_secs(2) }
}

fn open() -> Fetcher {
    install_tls_provider();
    Fetcher::new(Guard::new(true, Vec::new(), Vec::new()), bounds()).unwrap()
}

fn answer(status: u16, location: Option<&str>, body: Body) -> Response<Body> {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    if let Some(location) = location {
        response = response.header("location", location);
    }
    response.body(body).unwrap()
}

/// Somebody's server.
async fn server() -> String {
    let endless = || {
        let chunk = || futures_util::future::ready(Some((Ok::<_, std::io::Error>(vec![b'x'; 10_000]), ())));
        answer(200, None, Body::from_stream(futures_util::stream::unfold((), move |()| chunk())))
    };
    let hanging = || {
        let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        answer(200, None, Body::from_stream(never))
    };
    let redirect = |to: &'static str| get(move || async move { answer(302, Some(to), Body::empty()) });
    let status = |status: u16| get(move || async move { answer(status, None, Body::from("no")) });
    let routes = Router::new()
        .route("/good", get(|| async { answer(200, None, Body::from("%PDF-1.7")) }))
        .route("/most", get(|| async { answer(200, None, Body::from(vec![b'x'; BYTES_MAX])) }))
        .route("/more", get(|| async { answer(200, None, Body::from(vec![b'x'; BYTES_MAX + 1])) }))
        .route("/endless", get(move || async move { endless() }))
        .route("/hanging", get(move || async move { hanging() }))
        .route("/one", redirect("/good"))
        .route("/three", redirect("/two"))
        .route("/two", redirect("/one"))
        .route("/four", redirect("/three"))
        .route("/loop", redirect("/loop"))
        .route("/nowhere", get(|| async { answer(302, None, Body::empty()) }))
        .route("/file", redirect("file:///etc/passwd"))
        .route("/user", redirect("http://user:secret@127.0.0.1/good"))
        .route("/404", status(404))
        .route("/204", status(204))
        .route("/401", status(401))
        .route("/429", status(429))
        .route("/500", status(500));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// S1.28: what is at the address, and nothing without bound.
#[tokio::test]
async fn s1_28_addresses_are_fetched_within_bounds() {
    let (server, fetcher) = (server().await, open());
    let fetch = async |path: &str| match fetcher.fetch(&format!("{server}{path}"), BYTES_MAX).await {
        Ok(fetched) => Ok(fetched.read().await.unwrap()),
        Err(why) => Err(why),
    };
    assert_eq!(fetch("/good").await.unwrap(), "%PDF-1.7");
    assert_eq!(fetch("/most").await.unwrap().len(), BYTES_MAX);
    assert_eq!(fetch("/more").await.unwrap_err(), FetchError::TooLarge);
    assert_eq!(fetch("/endless").await.unwrap_err(), FetchError::TooLarge);
    let began = Instant::now();
    assert_eq!(fetch("/hanging").await.unwrap_err(), FetchError::Away("timeout"));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(fetch("/three").await.unwrap(), "%PDF-1.7");
    for path in ["/four", "/loop", "/nowhere"] {
        assert_eq!(fetch(path).await.unwrap_err(), FetchError::Redirects, "{path}");
    }
    for path in ["/file", "/user"] {
        assert_eq!(fetch(path).await.unwrap_err(), FetchError::NotAllowed, "{path}");
    }
    for (path, status) in [("/404", 404), ("/401", 401), ("/204", 204)] {
        assert_eq!(fetch(path).await.unwrap_err(), FetchError::Status(status), "{path}");
    }
    for path in ["/429", "/500"] {
        assert_eq!(fetch(path).await.unwrap_err(), FetchError::Away("status"), "{path}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = fetcher.fetch(&format!("http://{closed}/"), BYTES_MAX).await.unwrap_err();
    assert_eq!(refused, FetchError::Away("no_connection"));
}

/// The guard is asked for every address, those of redirects too, and for what names come to.
#[tokio::test]
async fn private_addresses_are_not_fetched() {
    let server = server().await;
    let port = server.rsplit(':').next().unwrap().parse().unwrap();
    install_tls_provider();
    let guarded = Fetcher::new(Guard::with(false, vec![port], Vec::new(), Box::new(Here)), bounds()).unwrap();
    let named = format!("https://files.example.com:{port}/good");
    assert_eq!(guarded.check(&named), Ok(()));
    assert_eq!(guarded.fetch(&named, BYTES_MAX).await.unwrap_err(), FetchError::NotAllowed, "it comes to this machine");
    for address in [format!("{server}/good"), format!("https://127.0.0.1:{port}/"), "ftp://example.com/".to_owned()] {
        assert!(guarded.check(&address).is_err(), "{address}");
        assert_eq!(guarded.fetch(&address, BYTES_MAX).await.unwrap_err(), FetchError::NotAllowed, "{address}");
    }
}

/// What went wrong is a class: no address and no word from outside.
#[test]
fn errors_tell_no_address() {
    let errors = [FetchError::NotAllowed, FetchError::Status(404), FetchError::TooLarge, FetchError::Redirects];
    for error in errors {
        let told = error.to_string();
        assert!(!told.contains("http:") && !told.contains("127."), "{told}");
    }
}
