//! Certificates for tests, made when they are needed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};

/// A CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

/// A certificate with its key, in PEM.
pub struct Issued {
    pub cert: String,
    pub key: String,
}

/// What a certificate is made for.
#[derive(Clone, Copy)]
pub enum Use {
    Server,
    Client,
    /// Of a client, and over since long ago.
    ExpiredClient,
}

impl Authority {
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate with those names: `dns:name`, an IP address, or a URI.
    #[must_use]
    pub fn issue(&self, purpose: Use, names: &[&str]) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "spiffe://corp/common-name");
        params.subject_alt_names = names.iter().map(|name| alternative(name)).collect();
        params.extended_key_usages = vec![match purpose {
            Use::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Use::Client | Use::ExpiredClient => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        if matches!(purpose, Use::ExpiredClient) {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
        }
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { cert, key: key.serialize_pem() }
    }
}

fn alternative(name: &str) -> SanType {
    if let Some(name) = name.strip_prefix("dns:") {
        return SanType::DnsName(name.try_into().unwrap());
    }
    match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        // The mark makes a URI of what would be a DNS name here.
        Err(_) => SanType::URI(name.strip_prefix("uri=").unwrap_or(name).try_into().unwrap()),
    }
}

impl Issued {
    /// Writes both into files of that name.
    #[must_use]
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let cert = write(folder, &format!("{name}.cert.pem"), &self.cert);
        (cert, write(folder, &format!("{name}.key.pem"), &self.key))
    }
}

/// Writes a file.
#[must_use]
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
