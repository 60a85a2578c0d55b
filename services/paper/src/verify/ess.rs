//! The attribute by which a signature names its certificate (RFC 5035), as it is written.

use cms::cert::x509::ext::pkix::name::GeneralNames;
use der::Sequence;
use der::asn1::{Any, OctetString};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// The certificates, the signer's first.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(crate) struct SigningCertificateV2 {
    pub(crate) certs: Vec<EssCertIdV2>,
    #[asn1(optional = "true")]
    pub(crate) policies: Option<Any>,
}

/// One certificate by its hash. Without an algorithm it is SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(crate) struct EssCertIdV2 {
    #[asn1(optional = "true")]
    pub(crate) hash_algorithm: Option<AlgorithmIdentifierOwned>,
    pub(crate) cert_hash: OctetString,
    #[asn1(optional = "true")]
    pub(crate) issuer_serial: Option<IssuerSerial>,
}

/// The same certificate by its issuer and number.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(crate) struct IssuerSerial {
    pub(crate) issuer: GeneralNames,
    pub(crate) serial_number: SerialNumber,
}
