//! TLS: certificates and keys out of PEM files, and the names that a caller's verified certificate bears.
//!
//! Must never decide what a name may do: that is each service's own. No byte of a key reaches an error; errors name the
//! setting and the file.

mod client;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

pub use self::client::{ClientTls, Clients, Connector, client};
use crate::accept::PeerCertificates;
use crate::config::{SettingError, TlsConfig};
use crate::grpc::install_tls_provider;

/// Names that a certificate may bear. One with more has none: a part of its names could say something else than all.
pub const NAMES_MAX: usize = 20;
/// Largest PEM file. All public CAs together take a quarter of it.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// How often the files are looked at again.
const RENEW: Duration = Duration::from_secs(5);
/// What is spoken over TLS, as ALPN names it.
const HTTP2: &[u8] = b"h2";
/// What a DNS name is told by, so that it is never taken for a URI.
const DNS: &str = "dns:";

/// The settings of [`TlsConfig`] as people know them.
const CERT: &str = "--tls-cert (COUNTERSIGN_TLS_CERT)";
const KEY: &str = "--tls-key (COUNTERSIGN_TLS_KEY)";
const CLIENT_CA: &str = "--tls-client-ca (COUNTERSIGN_TLS_CLIENT_CA)";

/// A PEM file and the setting that names it.
#[derive(Clone, Debug)]
pub struct PemFile {
    setting: &'static str,
    path: Option<PathBuf>,
}

impl PemFile {
    /// The file that a setting names, `--flag (VARIABLE)`, or none.
    #[must_use]
    pub fn new(setting: &'static str, path: Option<&Path>) -> Self {
        Self { setting, path: path.map(Path::to_owned) }
    }

    fn refused(&self, why: impl AsRef<str>) -> SettingError {
        let path = self.path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default();
        SettingError::new(self.setting, format!("{path}{}", why.as_ref()))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, SettingError> {
        let mut pem = Vec::new();
        File::open(path)
            .and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut pem))
            .map_err(|error| self.refused(format!("cannot be read: {error}")))?;
        if pem.len() as u64 > PEM_BYTES_MAX {
            return Err(self.refused(format!("is larger than {PEM_BYTES_MAX} bytes")));
        }
        Ok(pem)
    }

    /// At least one certificate.
    fn certificates(&self, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SettingError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|_| self.refused("is not PEM"))?;
        if certificates.is_empty() {
            return Err(self.refused("holds no certificate in PEM"));
        }
        Ok(certificates)
    }

    /// The CAs that the file holds, if the setting is there.
    pub(crate) fn roots(&self) -> Result<Option<Roots>, SettingError> {
        let Some(path) = &self.path else { return Ok(None) };
        let pem = self.read(path)?;
        // Whoever reads the bundle later leaves out what is none, so it is looked at here.
        let mut store = RootCertStore::empty();
        for certificate in self.certificates(&pem)? {
            store.add(certificate).map_err(|_| self.refused("holds something that is no certificate"))?;
        }
        Ok(Some(Roots { pem, store }))
    }
}

/// CAs, and the file that they come from.
pub(crate) struct Roots {
    pem: Vec<u8>,
    pub(crate) store: RootCertStore,
}

/// A certificate with its key, and the files that they come from.
struct Pair {
    cert_pem: Vec<u8>,
    key_pem: Vec<u8>,
    certified: CertifiedKey,
}

/// A certificate with its key, if the settings are there: both or none.
fn pair(cert: &PemFile, key: &PemFile) -> Result<Option<Pair>, SettingError> {
    let (cert_path, key_path) = match (&cert.path, &key.path) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(key.refused(format!("is needed with {}", cert.setting))),
        (None, Some(_)) => return Err(cert.refused(format!("is needed with {}", key.setting))),
    };
    let (cert_pem, key_pem) = (cert.read(cert_path)?, key.read(key_path)?);
    let chain = cert.certificates(&cert_pem)?;
    let private = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|_| key.refused("holds no private key in PEM (PKCS #8, PKCS #1 or SEC 1, not encrypted)"))?;
    let certified = CertifiedKey::from_der(chain, private, &ring::default_provider())
        .map_err(|_| key.refused(format!("is not the key of the first certificate of {}", cert.setting)))?;
    Ok(Some(Pair { cert_pem, key_pem, certified }))
}

/// TLS of a server. Its files are read again while it serves.
pub struct ServerTls {
    config: TlsConfig,
    current: Mutex<Current>,
}

struct Current {
    /// The files as they were read.
    digest: [u8; 32],
    acceptor: TlsAcceptor,
}

impl ServerTls {
    /// As the settings say; `None` is plain text.
    pub fn open(config: &TlsConfig) -> Result<Option<Self>, SettingError> {
        install_tls_provider();
        let current = Current::read(config)?;
        Ok(current.map(|current| Self { config: config.clone(), current: Mutex::new(current) }))
    }

    /// For the next connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).acceptor.clone()
    }

    /// Looks at the files again and again until `stop`: whoever renews them has nothing to start anew.
    pub async fn renew(self: Arc<Self>, stop: CancellationToken) {
        let mut told = None;
        while stop.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_some() {
            let tls = Arc::clone(&self);
            let Ok(renewed) = tokio::task::spawn_blocking(move || tls.look()).await else { continue };
            match renewed {
                Ok(true) => tracing::info!("the certificate and key of the files are used from now on"),
                Ok(false) => {}
                // Once: between two files that are written one after the other they do not belong together.
                Err(error) => {
                    let why = error.to_string();
                    if told.as_ref() != Some(&why) {
                        tracing::warn!(error = why, "the former certificate stays in use");
                        told = Some(why);
                    }
                    continue;
                }
            }
            told = None;
        }
    }

    /// Takes the files as they are now. True if they are others than before.
    pub fn look(&self) -> Result<bool, SettingError> {
        let Some(read) = Current::read(&self.config)? else { return Ok(false) };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = current.digest != read.digest;
        if renewed {
            *current = read;
        }
        Ok(renewed)
    }
}

impl Current {
    fn read(config: &TlsConfig) -> Result<Option<Self>, SettingError> {
        let cert = PemFile::new(CERT, config.tls_cert.as_deref());
        let key = PemFile::new(KEY, config.tls_key.as_deref());
        let authorities = PemFile::new(CLIENT_CA, config.tls_client_ca.as_deref());
        let roots = authorities.roots()?;
        let Some(pair) = pair(&cert, &key)? else {
            return if roots.is_some() { Err(cert.refused(format!("is needed with {CLIENT_CA}"))) } else { Ok(None) };
        };
        let mut digest = Sha256::new();
        for part in [Some(&pair.cert_pem), Some(&pair.key_pem), roots.as_ref().map(|roots| &roots.pem)] {
            digest.update(Sha256::digest(part.map_or(&[][..], Vec::as_slice)));
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = match roots {
            // Optional: people's applications have bearer tokens and no certificates.
            Some(roots) => WebPkiClientVerifier::builder_with_provider(Arc::new(roots.store), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|_| authorities.refused("cannot be used"))?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| cert.refused("cannot be used"))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair.certified)));
        server.alpn_protocols = vec![HTTP2.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Ok(Some(Self { digest: digest.finalize().into(), acceptor }))
    }
}

/// The names of the service at the other end of a call's connection, by its verified certificate; none without one.
#[must_use]
pub fn identities(extensions: &http::Extensions) -> Vec<String> {
    let verified = extensions.get::<PeerCertificates>();
    verified.and_then(|chain| chain.0.first().map(names)).unwrap_or_default()
}

/// The subject alternative names of a certificate: URIs as they are, DNS names as `dns:name` in lower case.
///
/// Whatever else it says of its subject is nobody's name, and so is all of it that cannot be read with certainty.
#[must_use]
pub fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(([], certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return Vec::new() };
    if alternatives.value.general_names.len() > NAMES_MAX {
        return Vec::new();
    }
    let names = alternatives.value.general_names.iter().filter_map(|name| match name {
        // A URI that would read like a DNS name says nothing about the holder of that DNS name.
        GeneralName::URI(uri) if !uri.to_ascii_lowercase().starts_with(DNS) => Some((*uri).to_owned()),
        GeneralName::DNSName(name) => Some(format!("{DNS}{}", name.to_ascii_lowercase())),
        _ => None,
    });
    names.collect()
}
