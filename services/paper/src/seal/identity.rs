//! As whom a paper is sealed: the certificate of the key, and what the signed attributes and the CMS say of it.
//!
//! It must never see the key.

use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use der::asn1::{Any, Null, ObjectIdentifier, OctetString, SetOfVec};
use der::{Decode, Encode};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::attr::{Attribute, Attributes};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::SealError;
use crate::verify::ess::{EssCertIdV2, IssuerSerial, SigningCertificateV2};
use crate::verify::{algorithm, chain, oid};

/// How the key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA of 2,048 bits or more, PKCS #1 v1.5, SHA-256.
    RsaSha256,
    /// ECDSA on P-256, SHA-256; the signature in its DER form.
    P256Sha256,
}

impl Algorithm {
    fn oid(self) -> ObjectIdentifier {
        match self {
            Self::RsaSha256 => oid::RSA_SHA256,
            Self::P256Sha256 => oid::ECDSA_SHA256,
        }
    }
}

/// Certificates that a chain may have.
const CHAIN_MAX: usize = 8;
const RSA_BITS_MIN: usize = 2_048;
const RSA_BITS_MAX: usize = 4_096;
/// Two integers of 33 bytes, and what DER puts before them.
const P256_SIGNATURE_BYTES_MAX: usize = 72;

/// Why a chain of certificates cannot be sealed with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    /// There are none, or too many.
    #[error("a chain of 1 to 8 certificates is needed, there are {0}")]
    Length(usize),
    /// One cannot be read.
    #[error("certificate {0} of the chain is unreadable")]
    Unreadable(usize),
    /// One did not issue the one before it.
    #[error("certificate {0} of the chain did not issue the one before it")]
    Order(usize),
    /// One stands there before.
    #[error("certificate {0} of the chain stands in it twice")]
    Twice(usize),
    /// The key's own certificate was not made for signatures.
    #[error("the certificate is not one for signatures: its key usage allows none")]
    Purpose,
    /// Its key is of a kind that is not supported.
    #[error("the certificate's key must be RSA of 2,048 to 4,096 bits or ECDSA on P-256")]
    Key,
}

/// The chain of certificates by which a seal is known, the key's own first.
#[derive(Debug, Clone)]
pub struct Identity {
    chain: Vec<Certificate>,
    leaf_sha256: [u8; 32],
    algorithm: Algorithm,
    ess: Vec<u8>,
    /// The most that a CMS takes without a timestamp.
    cms_bytes_max: usize,
}

impl Identity {
    /// From certificates in DER, the key's own first.
    ///
    /// # Errors
    ///
    /// [`BadChain`] says what is wrong with them.
    pub fn new(chain: &[Vec<u8>]) -> Result<Self, BadChain> {
        if chain.is_empty() || chain.len() > CHAIN_MAX {
            return Err(BadChain::Length(chain.len()));
        }
        let parsed = chain
            .iter()
            .enumerate()
            .map(|(index, der)| Certificate::from_der(der).map_err(|_| BadChain::Unreadable(index + 1)));
        let parsed: Vec<Certificate> = parsed.collect::<Result<_, _>>()?;
        if let Some(twice) = (1..parsed.len()).find(|index| parsed[..*index].contains(&parsed[*index])) {
            return Err(BadChain::Twice(twice + 1));
        }
        for (below, pair) in parsed.windows(2).enumerate() {
            if !chain::issued(&pair[1], &pair[0], below) {
                return Err(BadChain::Order(below + 2));
            }
        }
        if !chain::signs(&parsed[0]) {
            return Err(BadChain::Purpose);
        }
        let leaf_sha256: [u8; 32] = Sha256::digest(&chain[0]).into();
        let (algorithm, signature_bytes_max) = algorithm_of(&parsed[0]).ok_or(BadChain::Key)?;
        let ess = signing_certificate(&parsed[0], &leaf_sha256).map_err(|_| BadChain::Unreadable(1))?;
        let mut identity = Self { chain: parsed, leaf_sha256, algorithm, ess, cms_bytes_max: 0 };
        // What is signed has always as many bytes: only the signature may have less.
        let longest = identity
            .attributes(leaf_sha256)
            .and_then(|signed| identity.signed_data(signed, &vec![0; signature_bytes_max], None));
        identity.cms_bytes_max = longest.map_err(|_| BadChain::Unreadable(1))?.len();
        Ok(identity)
    }

    /// How the key has to sign.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The SHA-256 of the key's certificate.
    #[must_use]
    pub fn leaf_sha256(&self) -> [u8; 32] {
        self.leaf_sha256
    }

    /// From when to when the key's certificate is valid, in seconds since 1970.
    #[must_use]
    pub fn validity_unix_s(&self) -> (u64, u64) {
        let validity = &self.chain[0].tbs_certificate.validity;
        (validity.not_before.to_unix_duration().as_secs(), validity.not_after.to_unix_duration().as_secs())
    }

    /// Whether the key made this signature of that message.
    #[must_use]
    pub fn made(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = &self.leaf().tbs_certificate.subject_public_key_info;
        let algorithm = AlgorithmIdentifierOwned { oid: self.algorithm.oid(), parameters: None };
        algorithm::holds(key, &algorithm, None, message, signature)
    }

    pub(super) fn cms_bytes_max(&self) -> usize {
        self.cms_bytes_max
    }

    pub(crate) fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    pub(crate) fn leaf(&self) -> &Certificate {
        &self.chain[0]
    }

    /// What is signed: the attributes that bind the content and the certificate, as the DER of a SET OF. There is no
    /// signing time among them: the baseline forbids it, and the key knows none.
    pub(super) fn attributes(&self, content_sha256: [u8; 32]) -> der::Result<Attributes> {
        let content = Any::encode_from(&oid::DATA)?;
        let digest = Any::encode_from(&OctetString::new(content_sha256)?)?;
        let ess = Any::from_der(&self.ess)?;
        SetOfVec::try_from(vec![
            attribute(oid::CONTENT_TYPE, content)?,
            attribute(oid::MESSAGE_DIGEST, digest)?,
            attribute(oid::SIGNING_CERTIFICATE_V2, ess)?,
        ])
    }

    /// The CMS with that signature and, if there is one, a timestamp of it.
    pub(super) fn cms(
        &self,
        attributes: Attributes,
        signature: &[u8],
        timestamp: Option<&[u8]>,
    ) -> Result<Vec<u8>, SealError> {
        self.signed_data(attributes, signature, timestamp).map_err(SealError::compose)
    }

    fn signed_data(&self, attributes: Attributes, signature: &[u8], timestamp: Option<&[u8]>) -> der::Result<Vec<u8>> {
        let sha256 = AlgorithmIdentifierOwned { oid: oid::SHA256, parameters: None };
        let parameters = match self.algorithm {
            Algorithm::RsaSha256 => Some(Any::encode_from(&Null)?),
            Algorithm::P256Sha256 => None,
        };
        let signature_algorithm = AlgorithmIdentifierOwned { oid: self.algorithm.oid(), parameters };
        let unsigned = match timestamp {
            Some(token) => Some(SetOfVec::try_from(vec![attribute(oid::TIMESTAMP_TOKEN, Any::from_der(token)?)?])?),
            None => None,
        };
        let leaf = &self.chain[0].tbs_certificate;
        let signer = SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: leaf.issuer.clone(),
                serial_number: leaf.serial_number.clone(),
            }),
            digest_alg: sha256.clone(),
            signed_attrs: Some(attributes),
            signature_algorithm,
            signature: OctetString::new(signature)?,
            unsigned_attrs: unsigned,
        };
        let certificates = self.chain.iter().cloned().map(CertificateChoices::Certificate).collect::<Vec<_>>();
        let signed = SignedData {
            version: CmsVersion::V1,
            digest_algorithms: SetOfVec::try_from(vec![sha256])?,
            encap_content_info: EncapsulatedContentInfo { econtent_type: oid::DATA, econtent: None },
            certificates: Some(CertificateSet::try_from(certificates)?),
            crls: None,
            signer_infos: SignerInfos::try_from(vec![signer])?,
        };
        ContentInfo { content_type: oid::SIGNED_DATA, content: Any::encode_from(&signed)? }.to_der()
    }
}

fn attribute(oid: ObjectIdentifier, value: Any) -> der::Result<Attribute> {
    Ok(Attribute { oid, values: SetOfVec::try_from(vec![value])? })
}

/// The attribute that says which certificate the signature is to be judged by, so that no other can be put in its place.
fn signing_certificate(leaf: &Certificate, sha256: &[u8]) -> der::Result<Vec<u8>> {
    let issuer_serial = IssuerSerial {
        issuer: vec![GeneralName::DirectoryName(leaf.tbs_certificate.issuer.clone())],
        serial_number: leaf.tbs_certificate.serial_number.clone(),
    };
    let id =
        EssCertIdV2 { hash_algorithm: None, cert_hash: OctetString::new(sha256)?, issuer_serial: Some(issuer_serial) };
    SigningCertificateV2 { certs: vec![id], policies: None }.to_der()
}

/// How its key signs, and how long a signature can be.
fn algorithm_of(leaf: &Certificate) -> Option<(Algorithm, usize)> {
    let key = &leaf.tbs_certificate.subject_public_key_info;
    if key.algorithm.oid == oid::RSA {
        let bits = rsa_bits(key.subject_public_key.as_bytes()?)?;
        return (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits).then_some((Algorithm::RsaSha256, bits.div_ceil(8)));
    }
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as().ok());
    (key.algorithm.oid == oid::EC && curve == Some(oid::P256))
        .then_some((Algorithm::P256Sha256, P256_SIGNATURE_BYTES_MAX))
}

fn rsa_bits(key: &[u8]) -> Option<usize> {
    #[derive(der::Sequence)]
    struct RsaKey {
        modulus: der::asn1::Uint,
        exponent: der::asn1::Uint,
    }
    let key = RsaKey::from_der(key).ok()?;
    let _ = key.exponent;
    let modulus = key.modulus.as_bytes();
    Some(modulus.len() * 8 - modulus.first()?.leading_zeros() as usize)
}
