//! TLS of a client: whom it believes, and what it shows of itself.
//!
//! Its files are read for each connection: whoever renews them has nothing to start anew. Must never connect by files that do
//! not belong together: while they do not, those of the last connection serve on.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Endpoint;
use tower::Service;

use super::{HTTP2, PemFile, pair};
use crate::config::SettingError;
use crate::grpc::install_tls_provider;

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Where `https://` leads without a port.
const PORT: u16 = 443;

/// The two ways in which a client of ours calls over TLS.
pub struct Clients {
    /// Showing no certificate: for what is asked in somebody else's name, whose token then is the only credential.
    pub anonymous: ClientTls,
    /// Showing the client's own certificate, if the settings name one.
    pub identified: Option<ClientTls>,
}

/// TLS for a client that believes in the CAs of `ca`, or else in the platform's, and bears `cert` with `key`.
pub fn client(ca: PemFile, cert: PemFile, key: PemFile) -> Result<Clients, SettingError> {
    install_tls_provider();
    let bears = cert.path.is_some() || key.path.is_some();
    let anonymous = Files { ca, own: None };
    let own = bears.then(|| Files { ca: anonymous.ca.clone(), own: Some((cert, key)) });
    let identified = own.map(ClientTls::open).transpose()?;
    Ok(Clients { anonymous: ClientTls::open(anonymous)?, identified })
}

/// The files of a client.
struct Files {
    ca: PemFile,
    /// The client's own certificate and its key.
    own: Option<(PemFile, PemFile)>,
}

impl Files {
    fn read(&self) -> Result<Arc<ClientConfig>, SettingError> {
        let own = self.own.as_ref().map(|(cert, key)| pair(cert, key)).transpose()?.flatten();
        let roots = match self.ca.roots()? {
            Some(roots) => roots.store,
            None => platform(&self.ca)?,
        };
        let client = ClientConfig::builder().with_root_certificates(roots);
        let mut client = match own {
            Some(pair) => client.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair.certified))),
            None => client.with_no_client_auth(),
        };
        client.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Arc::new(client))
    }
}

fn platform(ca: &PemFile) -> Result<RootCertStore, SettingError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        return Err(ca.refused("is needed: the platform has no CAs"));
    }
    Ok(store)
}

/// TLS of a client.
#[derive(Clone)]
pub struct ClientTls(Arc<Renewed>);

struct Renewed {
    files: Files,
    /// As they were when they last belonged together.
    last: Mutex<Arc<ClientConfig>>,
}

impl ClientTls {
    fn open(files: Files) -> Result<Self, SettingError> {
        let last = Mutex::new(files.read()?);
        Ok(Self(Arc::new(Renewed { files, last })))
    }

    /// An endpoint for an `https://` address, and what connects it; the server's certificate has to bear `name`, or else the
    /// address's host. None, if no certificate can bear that.
    ///
    /// tonic's own TLS stays with the files of its first connection. So to tonic the endpoint is one without TLS, and the
    /// connector is what secures it.
    #[must_use]
    pub fn endpoint(&self, address: &Uri, name: Option<&str>) -> Option<(Endpoint, Connector)> {
        let host = address.host()?;
        let name = name.unwrap_or_else(|| host.trim_matches(['[', ']']));
        let name = ServerName::try_from(name.to_owned()).ok()?;
        let reached: Uri = format!("http://{host}:{}", address.port_u16().unwrap_or(PORT)).parse().ok()?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        Some((Endpoint::from(reached).origin(address.clone()), Connector { tcp, tls: self.clone(), name }))
    }

    /// For the next connection.
    async fn current(&self) -> Arc<ClientConfig> {
        let tls = self.clone();
        let read = tokio::task::spawn_blocking(move || tls.0.files.read()).await.map_err(|cut| cut.to_string());
        let read = read.and_then(|read| read.map_err(|refused| refused.to_string()));
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(read) => *last = read,
            Err(error) => tracing::warn!(error, "the former certificates stay in use"),
        }
        Arc::clone(&last)
    }
}

/// Reaches a server and greets it by TLS.
#[derive(Clone)]
pub struct Connector {
    tcp: HttpConnector,
    tls: ClientTls,
    name: ServerName<'static>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_ready(context).map_err(io::Error::other)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let (reached, tls, name) = (self.tcp.call(address), self.tls.clone(), self.name.clone());
        let connect = async move {
            let stream = reached.await.map_err(io::Error::other)?.into_inner();
            let greeting = TlsConnector::from(tls.current().await).connect(name, stream);
            let stream = tokio::time::timeout(HANDSHAKE_MAX, greeting).await??;
            if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
                return Err(io::Error::other("the server speaks no HTTP/2"));
            }
            Ok(TokioIo::new(stream))
        };
        connect.boxed()
    }
}
