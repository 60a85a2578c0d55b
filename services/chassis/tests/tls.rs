//! TLS against real connections and certificates made here: who is served, who is refused, and by which names a caller
//! is known.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use countersign::v1::GetCallerIdentityRequest;
use countersign::v1::account_service_client::AccountServiceClient;
use countersign_chassis::config::{ListenConfig, TlsConfig};
use countersign_chassis::grpc;
use countersign_chassis::tls::{self, ClientTls, Clients, NAMES_MAX, PemFile, ServerTls, identities, names};
use countersign_test_support::certificates::{Authority, Issued, Use, write};
use http::{Request, Response};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::Service;

/// Whatever is refused is refused within this time, and does not hang.
const SOON: Duration = Duration::from_secs(5);
const NOTIFIER: &str = "spiffe://corp/notifier";

/// Answers every call with ABORTED and the names of its caller, as a layer before all handlers sees them.
#[derive(Clone)]
struct Names;

impl NamedService for Names {
    const NAME: &'static str = "countersign.v1.AccountService";
}

impl Service<Request<Body>> for Names {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The peer's address is known with TLS as it is without.
        let peer = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        let status = match peer {
            Some(_) => Status::aborted(identities(request.extensions()).join(" ")),
            None => Status::internal("no address"),
        };
        ready(Ok(status.into_http()))
    }
}

/// A CA with a server of its own, and a folder for files.
struct Stand {
    ca: Authority,
    folder: TempDir,
    address: String,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Stand {
    /// A server that asks clients for certificates of its CA.
    async fn start() -> Self {
        Self::start_with(true).await
    }

    async fn start_with(asks: bool) -> Self {
        let (ca, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
        let (cert, key) = ca.issue(Use::Server, &["127.0.0.1"]).write(folder.path(), "server");
        let client_ca = write(folder.path(), "ca.pem", &ca.pem);
        let tls = TlsConfig { tls_cert: Some(cert), tls_key: Some(key), tls_client_ca: asks.then_some(client_ca) };
        let config = ListenConfig { drain_ms: 1_000, reflection: false, tls, ..ListenConfig::default() };
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let serve = {
            let stop = stop.clone();
            async move { grpc::serve(listener, Routes::new(Names), &[], || ready(true), None, &config, stop).await }
        };
        Self { ca, folder, address, stop, running: tokio::spawn(serve) }
    }

    /// TLS as a client has it that believes in a CA and may have a certificate.
    fn client(&self, ca: &Authority, certificate: Option<&Issued>) -> ClientTls {
        let ca = write(self.folder.path(), "believed.pem", &ca.pem);
        let files = certificate.map(|certificate| certificate.write(self.folder.path(), "client"));
        let (cert, key) = files.unzip();
        let Clients { anonymous, identified } = tls::client(
            PemFile::new("CA", Some(&ca)),
            PemFile::new("CERT", cert.as_deref()),
            PemFile::new("KEY", key.as_deref()),
        )
        .unwrap();
        assert_eq!(identified.is_some(), certificate.is_some());
        identified.unwrap_or(anonymous)
    }

    /// The names by which the server knows a caller with that certificate, or why it does not serve them.
    async fn names(&self, certificate: Option<&Issued>) -> Result<Vec<String>, Status> {
        self.ask(self.client(&self.ca, certificate)).await
    }

    /// The same on a new connection of that client.
    async fn ask(&self, tls: ClientTls) -> Result<Vec<String>, Status> {
        let address = format!("https://{}", self.address).parse().unwrap();
        let (endpoint, connector) = tls.endpoint(&address, None).unwrap();
        ask(endpoint.connect_with_connector_lazy(connector)).await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().expect("a clean end");
    }
}

async fn ask(channel: Channel) -> Result<Vec<String>, Status> {
    let mut client = AccountServiceClient::new(channel);
    let answer = tokio::time::timeout(SOON, client.get_caller_identity(GetCallerIdentityRequest {}));
    let status = answer.await.expect("an answer in time").unwrap_err();
    match status.code() {
        Code::Aborted => Ok(status.message().split_whitespace().map(str::to_owned).collect()),
        _ => Err(status),
    }
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_served_and_has_no_name() {
    let stand = Stand::start().await;
    assert!(stand.names(None).await.unwrap().is_empty());
    stand.stop().await;
}

#[tokio::test]
async fn a_verified_certificate_tells_its_names() {
    let stand = Stand::start().await;
    let certificate = stand.ca.issue(Use::Client, &[NOTIFIER, "dns:Ops.corp"]);
    assert_eq!(stand.names(Some(&certificate)).await.unwrap(), [NOTIFIER, "dns:ops.corp"]);
    stand.stop().await;
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_ends_the_connection() {
    let stand = Stand::start().await;
    let other = Authority::new("ours").issue(Use::Client, &[NOTIFIER]);
    let expired = stand.ca.issue(Use::ExpiredClient, &[NOTIFIER]);
    let servers = stand.ca.issue(Use::Server, &[NOTIFIER]);
    for (what, certificate) in [("another CA's", other), ("expired", expired), ("for servers", servers)] {
        let refused = stand.names(Some(&certificate)).await.expect_err(what);
        assert!(matches!(refused.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{what}: {refused:?}");
    }
    stand.stop().await;
}

#[tokio::test]
async fn without_a_client_ca_no_certificate_says_anything() {
    let stand = Stand::start_with(false).await;
    let certificate = stand.ca.issue(Use::Client, &[NOTIFIER]);
    assert!(stand.names(Some(&certificate)).await.unwrap().is_empty());
    stand.stop().await;
}

#[tokio::test]
async fn plain_text_to_a_tls_server_fails_at_once() {
    let stand = Stand::start().await;
    let plain = Endpoint::from_shared(format!("http://{}", stand.address)).unwrap().connect_lazy();
    assert!(ask(plain).await.is_err());
    stand.stop().await;
}

/// Fails after the time that a handshake may take, so it is slow.
#[tokio::test]
async fn who_connects_and_says_nothing_is_let_go() {
    let stand = Stand::start().await;
    let mut silent = TcpStream::connect(&stand.address).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(15), silent.read(&mut [0; 1])).await;
    assert!(matches!(ended.expect("an end in time"), Ok(0) | Err(_)));
    stand.stop().await;
}

#[tokio::test]
async fn a_client_refuses_a_server_of_another_ca() {
    let stand = Stand::start().await;
    let certificate = stand.ca.issue(Use::Client, &[NOTIFIER]);
    for certificate in [None, Some(&certificate)] {
        let refused = stand.ask(stand.client(&Authority::new("ours"), certificate)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
    }
    stand.stop().await;
}

/// A client's files are those of the moment in which it connects, as soon as they belong together.
#[tokio::test]
async fn a_client_shows_and_believes_what_its_files_say_now() {
    const RENEWED: &str = "spiffe://corp/renewed";
    let stand = Stand::start().await;
    let tls = stand.client(&stand.ca, Some(&stand.ca.issue(Use::Client, &[NOTIFIER])));
    let (ask, put) = (|| stand.ask(tls.clone()), |name, text: &str| write(stand.folder.path(), name, text));
    assert_eq!(ask().await.unwrap(), [NOTIFIER]);
    let renewed = stand.ca.issue(Use::Client, &[RENEWED]);
    let _ = put("client.cert.pem", &renewed.cert);
    assert_eq!(ask().await.unwrap(), [NOTIFIER], "the key is not its own yet");
    let _ = put("client.key.pem", &renewed.key);
    assert_eq!(ask().await.unwrap(), [RENEWED]);
    let believed = put("believed.pem", &Authority::new("ours").pem);
    assert_eq!(ask().await.unwrap_err().code(), Code::Unavailable);
    std::fs::remove_file(believed).unwrap();
    assert_eq!(ask().await.unwrap_err().code(), Code::Unavailable, "what was read stays in use");
    let _ = put("believed.pem", &stand.ca.pem);
    assert_eq!(ask().await.unwrap(), [RENEWED]);
    stand.stop().await;
}

#[test]
fn names_are_the_alternative_names_alone() {
    let ca = Authority::new("ours");
    let told = |alternatives: &[&str]| {
        let issued = ca.issue(Use::Client, alternatives);
        names(&CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap())
    };
    assert!(told(&[]).is_empty(), "the common name is no name");
    assert!(told(&["127.0.0.1"]).is_empty(), "an address is no name");
    assert_eq!(told(&["SPIFFE://Corp/A", "dns:A.Corp"]), ["SPIFFE://Corp/A", "dns:a.corp"]);
    assert_eq!(told(&["dns:*.corp"]), ["dns:*.corp"]);
    assert_eq!(told(&["uri=dns:ops.corp", "uri=DNS:ops.corp", NOTIFIER]), [NOTIFIER], "a URI is no DNS name");
    let many: Vec<_> = (0..=NAMES_MAX).map(|number| format!("dns:n{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(told(&many[1..]).len(), NAMES_MAX);
    assert!(told(&many).is_empty());
    let issued = ca.issue(Use::Client, &[NOTIFIER]);
    let whole = CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap().to_vec();
    for cut in 0..whole.len() {
        assert!(names(&whole[..cut].to_vec().into()).is_empty());
    }
    assert!(names(&[whole, vec![0]].concat().into()).is_empty());
}

/// What the settings are refused with.
fn refused(cert: Option<&PathBuf>, key: Option<&PathBuf>, ca: Option<&PathBuf>) -> String {
    let [tls_cert, tls_key, tls_client_ca] = [cert, key, ca].map(Option::<&PathBuf>::cloned);
    ServerTls::open(&TlsConfig { tls_cert, tls_key, tls_client_ca }).err().expect("refused").to_string()
}

fn assert_names(error: &str, setting: &str, why: &str, path: Option<&Path>) {
    let start = format!("--tls-{} (COUNTERSIGN_TLS_{}): ", setting, setting.replace('-', "_").to_uppercase());
    assert!(error.starts_with(&start) && error.contains(why), "{error}");
    assert!(path.is_none_or(|path| error.contains(path.to_str().unwrap())), "{error}");
}

#[test]
fn settings_that_do_not_hold_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new("ours");
    let (cert, key) = ca.issue(Use::Server, &["127.0.0.1"]).write(folder.path(), "server");
    let (_, other) = ca.issue(Use::Server, &["127.0.0.1"]).write(folder.path(), "other");
    let bundle = write(folder.path(), "ca.pem", &ca.pem);
    let (cert, key, other, bundle) = (Some(&cert), Some(&key), Some(&other), Some(&bundle));
    let text = write(folder.path(), "text", "no PEM");
    let broken = write(folder.path(), "broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let open = write(folder.path(), "open", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let missing = folder.path().join("missing");
    let large = write(folder.path(), "large", &" ".repeat(1_024 * 1_024 + 1));

    assert_names(&refused(cert, None, None), "key", "is needed with --tls-cert (COUNTERSIGN_TLS_CERT)", None);
    assert_names(&refused(None, key, None), "cert", "is needed with --tls-key", None);
    assert_names(&refused(None, None, bundle), "cert", "is needed with --tls-client-ca", None);
    assert_names(&refused(cert, other, None), "key", "is not the key of", other.map(PathBuf::as_path));
    assert_names(&refused(cert, cert, None), "key", "holds no private key", None);
    assert_names(&refused(key, key, None), "cert", "holds no certificate", None);
    let unread = [
        (&missing, "cannot be read"),
        (&folder.path().to_owned(), "cannot be read"),
        (&large, "larger"),
        (&text, "holds no"),
    ];
    for (path, why) in unread {
        assert_names(&refused(Some(path), key, None), "cert", why, Some(path));
        assert_names(&refused(cert, Some(path), None), "key", why, Some(path));
        assert_names(&refused(cert, key, Some(path)), "client-ca", why, Some(path));
    }
    assert_names(&refused(cert, key, Some(&broken)), "client-ca", "no certificate", Some(&broken));
    assert_names(&refused(cert, key, Some(&open)), "client-ca", "is not PEM", Some(&open));
    assert!(ServerTls::open(&TlsConfig::default()).unwrap().is_none(), "plain text");
}

/// Greets a server as somebody who connects now, with that certificate: the certificate that it shows, or why it takes none of
/// it.
async fn greet(
    tls: &ServerTls,
    ca: &Authority,
    certificate: Option<&Issued>,
) -> std::io::Result<CertificateDer<'static>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots);
    let client = match certificate {
        Some(Issued { cert, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
            client.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
        None => client.with_no_client_auth(),
    };
    let (near, far) = tokio::io::duplex(64 * 1_024);
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
    let name = "127.0.0.1".try_into().unwrap();
    let (client, server) = tokio::join!(connector.connect(name, near), tls.acceptor().accept(far));
    server?;
    Ok(client?.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
}

async fn shown(tls: &ServerTls, ca: &Authority) -> CertificateDer<'static> {
    greet(tls, ca, None).await.unwrap()
}

/// Whose certificates are believed is renewed, too: those of the new CA are from then on, and those of the former no longer.
#[tokio::test]
async fn a_renewed_client_ca_is_used_from_then_on() {
    let (ca, next, folder) = (Authority::new("ours"), Authority::new("ours"), tempfile::tempdir().unwrap());
    let (cert, key) = ca.issue(Use::Server, &["127.0.0.1"]).write(folder.path(), "server");
    let bundle = write(folder.path(), "ca.pem", &ca.pem);
    let config = TlsConfig { tls_cert: Some(cert), tls_key: Some(key), tls_client_ca: Some(bundle.clone()) };
    let tls = ServerTls::open(&config).unwrap().unwrap();
    let clients = [&ca, &next].map(|of| of.issue(Use::Client, &[NOTIFIER]));
    let taken = async || {
        let [former, renewed] = &clients;
        [greet(&tls, &ca, Some(former)).await.is_ok(), greet(&tls, &ca, Some(renewed)).await.is_ok()]
    };
    assert_eq!(taken().await, [true, false]);
    // As it is done without anybody being refused: both, and then the new one alone.
    for (pem, expected) in [([ca.pem.as_str(), &next.pem].concat(), [true, true]), (next.pem.clone(), [false, true])] {
        std::fs::write(&bundle, pem).unwrap();
        assert!(tls.look().unwrap());
        assert_eq!(taken().await, expected);
    }
    std::fs::write(&bundle, "no PEM").unwrap();
    assert!(tls.look().is_err());
    assert_eq!(taken().await, [false, true], "what was read stays in use");
}

/// Files that are renewed are used without a new start; files that do not belong together yet are not.
#[tokio::test]
async fn renewed_files_are_used_from_then_on() {
    let (ca, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let issue = || ca.issue(Use::Server, &["127.0.0.1"]);
    let (cert, key) = issue().write(folder.path(), "server");
    let config = TlsConfig { tls_cert: Some(cert.clone()), tls_key: Some(key.clone()), tls_client_ca: None };
    let tls = ServerTls::open(&config).unwrap().unwrap();
    let first = shown(&tls, &ca).await;
    assert!(!tls.look().unwrap(), "they are the same");
    let renewed = issue();
    std::fs::write(&cert, &renewed.cert).unwrap();
    let error = tls.look().unwrap_err().to_string();
    assert!(error.contains("is not the key of"), "{error}");
    assert_eq!(shown(&tls, &ca).await, first);
    std::fs::write(&key, &renewed.key).unwrap();
    assert!(tls.look().unwrap());
    assert!(shown(&tls, &ca).await != first);
    std::fs::remove_file(&cert).unwrap();
    assert!(tls.look().is_err());
    assert!(shown(&tls, &ca).await != first, "what was read stays in use");
}
