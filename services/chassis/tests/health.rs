//! Health as a probe asks for it: of a server of ours in plain text and over TLS, and of what is none.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use countersign_chassis::config::{ListenConfig, TlsConfig};
use countersign_chassis::grpc;
use countersign_chassis::health::{HealthConfig, check};
use countersign_test_support::certificates::{Authority, Use, write};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

const SERVICE: &str = "countersign.v1.EnvelopeService";
/// The name that the certificate bears; nobody's address.
const NAME: &str = "envelope.prod.svc";

fn question(url: String) -> HealthConfig {
    HealthConfig { url, service: String::new(), timeout_ms: 5_000, ca: None, server_name: None }
}

/// A server without services that tells of one, and its port.
async fn server(tls: TlsConfig) -> (u16, CancellationToken) {
    let config = ListenConfig { drain_ms: 1_000, reflection: false, tls, ..ListenConfig::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, stop) = (listener.local_addr().unwrap().port(), CancellationToken::new());
    let stopped = stop.clone();
    tokio::spawn(async move {
        grpc::serve(listener, Routes::default(), &[SERVICE], || std::future::ready(true), None, &config, stopped).await
    });
    (port, stop)
}

async fn refused(config: &HealthConfig) -> String {
    format!("{:#}", check(config).await.expect_err("not well"))
}

#[tokio::test]
async fn a_service_that_serves_is_well_and_nothing_else_is() {
    let (port, stop) = server(TlsConfig::default()).await;
    let whole = question(format!("http://127.0.0.1:{port}"));
    check(&whole).await.unwrap();
    check(&HealthConfig { service: SERVICE.into(), ..whole.clone() }).await.unwrap();
    let unknown = HealthConfig { service: "countersign.v1.Nothing".into(), ..whole.clone() };
    let why = refused(&unknown).await;
    assert!(why.starts_with("NotFound: "), "{why}");
    stop.cancel();
    let gone = async { while check(&whole).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("a service that stops is not well");
    for wrong in ["127.0.0.1:50051", "ftp://127.0.0.1"] {
        let why = refused(&question(wrong.to_owned())).await;
        assert!(why.contains("--url"), "{wrong}: {why}");
    }
}

/// What answers, and says that it does not serve, is not well.
#[tokio::test]
async fn a_service_that_says_so_is_not_well() {
    let (health, answers) = tonic_health::server::health_reporter();
    health.set_service_status(SERVICE, ServingStatus::NotServing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let whole = question(format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(Server::builder().add_service(answers).serve_with_incoming(TcpIncoming::from(listener)));
    check(&whole).await.unwrap();
    assert_eq!(refused(&HealthConfig { service: SERVICE.into(), ..whole }).await, "NOT_SERVING");
}

/// Who takes the connection and says nothing is not well, and not for longer than was asked.
#[tokio::test]
async fn silence_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let why = refused(&HealthConfig { timeout_ms: 200, ..question(url) }).await;
    assert!(why.contains("no answer within 200 ms"), "{why}");
}

#[tokio::test]
async fn over_tls_the_certificate_is_verified() {
    let (ca, other, folder) = (Authority::new("ours"), Authority::new("theirs"), tempfile::tempdir().unwrap());
    let (cert, key) = ca.issue(Use::Server, &[&format!("dns:{NAME}")]).write(folder.path(), "server");
    let tls = TlsConfig { tls_cert: Some(cert), tls_key: Some(key), tls_client_ca: None };
    let (port, _stop) = server(tls).await;
    let file = |name: &str, of: &Authority| -> PathBuf { write(folder.path(), name, &of.pem) };
    let (ours, theirs) = (file("ours.pem", &ca), file("theirs.pem", &other));
    let url = format!("https://127.0.0.1:{port}");
    let asked = |ca: &PathBuf, name: Option<&str>| HealthConfig {
        ca: Some(ca.clone()),
        server_name: name.map(str::to_owned),
        ..question(url.clone())
    };
    check(&asked(&ours, Some(NAME))).await.unwrap();
    refused(&asked(&ours, None)).await;
    refused(&asked(&theirs, Some(NAME))).await;
    refused(&question(format!("http://127.0.0.1:{port}"))).await;
    let why = refused(&asked(&folder.path().join("none.pem"), Some(NAME))).await;
    assert!(why.contains("--ca"), "{why}");
}
