//! TLS: certificates and keys out of PEM files, and the names that a caller's verified certificate bears.
//!
//! Must never decide what a name may do: that is each service's own. No byte of a key reaches an error; errors name the
//! setting and the file.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::config::{SettingError, TlsConfig};
use crate::grpc::install_tls_provider;

/// Names that a certificate may bear. One with more has none: a part of its names could say something else than all.
pub const NAMES_MAX: usize = 20;
/// Largest PEM file. All public CAs together take a quarter of it.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// How long a handshake may take: who connects and says nothing holds nothing for longer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// What a DNS name is told by, so that it is never taken for a URI.
const DNS: &str = "dns:";

/// The settings of [`TlsConfig`] as people know them.
const CERT: &str = "--tls-cert (COUNTERSIGN_TLS_CERT)";
const KEY: &str = "--tls-key (COUNTERSIGN_TLS_KEY)";
const CLIENT_CA: &str = "--tls-client-ca (COUNTERSIGN_TLS_CLIENT_CA)";

/// A PEM file and the setting that names it.
#[derive(Clone, Copy, Debug)]
pub struct PemFile<'a> {
    setting: &'static str,
    path: Option<&'a Path>,
}

impl<'a> PemFile<'a> {
    /// The file that a setting names, `--flag (VARIABLE)`, or none.
    #[must_use]
    pub fn new(setting: &'static str, path: Option<&'a Path>) -> Self {
        Self { setting, path }
    }

    fn refused(&self, why: impl AsRef<str>) -> SettingError {
        let path = self.path.map(|path| format!("{}: ", path.display())).unwrap_or_default();
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
    fn authorities(&self) -> Result<Option<Certificate>, SettingError> {
        let Some(path) = self.path else { return Ok(None) };
        let pem = self.read(path)?;
        // Whoever reads the bundle later leaves out what is none, so it is looked at here.
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(&pem)? {
            roots.add(certificate).map_err(|_| self.refused("holds something that is no certificate"))?;
        }
        Ok(Some(Certificate::from_pem(pem)))
    }
}

/// A certificate with its key, if the settings are there: both or none.
fn identity(cert: PemFile<'_>, key: PemFile<'_>) -> Result<Option<Identity>, SettingError> {
    let (cert_path, key_path) = match (cert.path, key.path) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(key.refused(format!("is needed with {}", cert.setting))),
        (None, Some(_)) => return Err(cert.refused(format!("is needed with {}", key.setting))),
    };
    let (cert_pem, key_pem) = (cert.read(cert_path)?, key.read(key_path)?);
    let chain = cert.certificates(&cert_pem)?;
    let private = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|_| key.refused("holds no private key in PEM (PKCS #8, PKCS #1 or SEC 1, not encrypted)"))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider())
        .map_err(|_| key.refused(format!("is not the key of the first certificate of {}", cert.setting)))?;
    Ok(Some(Identity::from_pem(cert_pem, key_pem)))
}

/// TLS for a server as its settings say; `None` is plain text.
pub fn server(config: &TlsConfig) -> Result<Option<ServerTlsConfig>, SettingError> {
    install_tls_provider();
    let cert = PemFile::new(CERT, config.tls_cert.as_deref());
    let key = PemFile::new(KEY, config.tls_key.as_deref());
    let authorities = PemFile::new(CLIENT_CA, config.tls_client_ca.as_deref()).authorities()?;
    match (identity(cert, key)?, authorities) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(cert.refused(format!("is needed with {CLIENT_CA}"))),
        (Some(identity), authorities) => {
            let tls = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_MAX);
            Ok(Some(match authorities {
                // Optional: people's applications have bearer tokens and no certificates.
                Some(authorities) => tls.client_ca_root(authorities).client_auth_optional(true),
                None => tls,
            }))
        }
    }
}

/// The two ways in which a client of ours calls over TLS.
pub struct Clients {
    /// Showing no certificate: for what is asked in somebody else's name, whose token then is the only credential.
    pub anonymous: ClientTlsConfig,
    /// Showing the client's own certificate, if the settings name one.
    pub identified: Option<ClientTlsConfig>,
}

/// TLS for a client that believes in the CAs of `ca`, or else in the platform's, and bears `cert` with `key`.
pub fn client(ca: PemFile<'_>, cert: PemFile<'_>, key: PemFile<'_>) -> Result<Clients, SettingError> {
    install_tls_provider();
    let anonymous = ClientTlsConfig::new().timeout(HANDSHAKE_MAX);
    let anonymous = match ca.authorities()? {
        Some(authorities) => anonymous.ca_certificate(authorities),
        None => anonymous.with_native_roots(),
    };
    let identified = identity(cert, key)?.map(|identity| anonymous.clone().identity(identity));
    Ok(Clients { anonymous, identified })
}

/// The names of the service at the other end of a call's connection, by its verified certificate; none without one.
#[must_use]
pub fn identities(extensions: &http::Extensions) -> Vec<String> {
    let verified = extensions.get::<TlsConnectInfo<TcpConnectInfo>>().and_then(TlsConnectInfo::peer_certs);
    verified.and_then(|chain| chain.first().map(names)).unwrap_or_default()
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
