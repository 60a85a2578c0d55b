//! Reads a CMS with one signer and checks that its signature is about given content.
//!
//! It must never call a signature good whose certificate could be exchanged for another of the same key.

use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Decode, Encode, SliceReader};
use ring::digest;
use x509_cert::Certificate;
use x509_cert::attr::Attributes;
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use super::ess::SigningCertificateV2;
use super::{Fault, algorithm, oid};

/// A hash that is strong enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(crate) fn named(oid: ObjectIdentifier) -> Option<Self> {
        match oid {
            oid::SHA256 => Some(Self::Sha256),
            oid::SHA384 => Some(Self::Sha384),
            oid::SHA512 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The hash of the parts one after the other.
    pub(crate) fn of(self, parts: &[&[u8]]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        let mut context = digest::Context::new(algorithm);
        parts.iter().for_each(|part| context.update(part));
        context.finish().as_ref().to_vec()
    }
}

/// Certificates that are looked at.
const CERTIFICATES_MAX: usize = 32;

/// A CMS that was read but not yet checked.
#[derive(Debug)]
pub(crate) struct SignedContent {
    content_type: ObjectIdentifier,
    content: Option<Any>,
    signer: SignerInfo,
    certificate: Certificate,
    certificates: Vec<Certificate>,
}

impl SignedContent {
    /// Reads it. What follows it may only be zeros, as where room was left for it.
    pub(crate) fn open(bytes: &[u8]) -> Result<Self, Fault> {
        let unreadable = |_| Fault::UnreadableSignature;
        let mut reader = SliceReader::new(bytes).map_err(unreadable)?;
        let info = ContentInfo::decode(&mut reader).map_err(unreadable)?;
        let end = usize::try_from(der::Reader::position(&reader)).unwrap_or(bytes.len());
        let behind = bytes[end.min(bytes.len())..].iter().fold(0, |all, byte| all | byte);
        if info.content_type != oid::SIGNED_DATA || behind != 0 {
            return Err(Fault::UnreadableSignature);
        }
        let signed: SignedData = info.content.decode_as().map_err(unreadable)?;
        let mut signers = signed.signer_infos.0.into_vec();
        let signer = signers.pop().filter(|_| signers.is_empty()).ok_or(Fault::UnreadableSignature)?;
        let all = signed.certificates.map(|set| set.0.into_vec()).unwrap_or_default();
        let certificates: Vec<Certificate> = all
            .into_iter()
            .filter_map(|choice| match choice {
                CertificateChoices::Certificate(certificate) => Some(certificate),
                CertificateChoices::Other(_) => None,
            })
            .take(CERTIFICATES_MAX)
            .collect();
        let certificate = certificates.iter().find(|certificate| is_of(&signer.sid, certificate));
        let certificate = certificate.cloned().ok_or(Fault::NoCertificate)?;
        let encapsulated = signed.encap_content_info;
        let (content_type, content) = (encapsulated.econtent_type, encapsulated.econtent);
        Ok(Self { content_type, content, signer, certificate, certificates })
    }

    pub(crate) fn signer(&self) -> &Certificate {
        &self.certificate
    }

    pub(crate) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    pub(crate) fn signature(&self) -> &[u8] {
        self.signer.signature.as_bytes()
    }

    pub(crate) fn content_type(&self) -> ObjectIdentifier {
        self.content_type
    }

    /// The content that it brings along.
    pub(crate) fn own_content(&self) -> Option<OctetString> {
        self.content.as_ref()?.decode_as().ok()
    }

    /// The timestamp of the signature, if it has one.
    pub(crate) fn timestamp(&self) -> Option<Vec<u8>> {
        single(self.signer.unsigned_attrs.as_ref()?, oid::TIMESTAMP_TOKEN)?.to_der().ok()
    }

    /// Whether the signature is the certificate's and about content with that hash.
    pub(crate) fn check(&self, content_hash: impl Fn(Hash) -> Vec<u8>) -> Result<(), Fault> {
        let hash = Hash::named(self.signer.digest_alg.oid).ok_or(Fault::WeakAlgorithm)?;
        let attributes = self.signer.signed_attrs.as_ref().ok_or(Fault::NotBound)?;
        let declared = single(attributes, oid::CONTENT_TYPE).and_then(|value| value.decode_as().ok());
        if declared != Some(self.content_type) {
            return Err(Fault::NotBound);
        }
        let digest = single(attributes, oid::MESSAGE_DIGEST).and_then(|value| value.decode_as::<OctetString>().ok());
        let digest = digest.ok_or(Fault::NotBound)?;
        let message = attributes.to_der().map_err(|_| Fault::UnreadableSignature)?;
        let key = &self.certificate.tbs_certificate.subject_public_key_info;
        if !algorithm::holds(key, &self.signer.signature_algorithm, Some(hash), &message, self.signature()) {
            return Err(Fault::WrongSignature);
        }
        self.check_certificate(attributes)?;
        if digest.as_bytes() == content_hash(hash) { Ok(()) } else { Err(Fault::ContentChanged) }
    }

    /// Whether the signature says by which certificate it is; if rightly, [`Self::check`] finds out.
    pub(crate) fn names_certificate(&self) -> bool {
        let attributes = self.signer.signed_attrs.iter().flat_map(|attributes| attributes.iter());
        attributes.into_iter().any(|attribute| attribute.oid == oid::SIGNING_CERTIFICATE_V2)
    }

    /// The signed attribute that names the certificate, where there is one.
    fn check_certificate(&self, attributes: &Attributes) -> Result<(), Fault> {
        if !self.names_certificate() {
            return Ok(());
        }
        let named = single(attributes, oid::SIGNING_CERTIFICATE_V2);
        let named = named.and_then(|value| value.decode_as::<SigningCertificateV2>().ok()).ok_or(Fault::NotBound)?;
        let first = named.certs.first().ok_or(Fault::NotBound)?;
        let hash = first.hash_algorithm.as_ref().map_or(Some(Hash::Sha256), |algorithm| Hash::named(algorithm.oid));
        let certificate = self.certificate.to_der().map_err(|_| Fault::UnreadableSignature)?;
        let actual = hash.ok_or(Fault::WeakAlgorithm)?.of(&[&certificate]);
        if first.cert_hash.as_bytes() == actual { Ok(()) } else { Err(Fault::NotBound) }
    }
}

/// The one value of the one attribute of that kind.
fn single(attributes: &Attributes, oid: ObjectIdentifier) -> Option<&Any> {
    let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
    let attribute = found.next().filter(|_| found.next().is_none())?;
    attribute.values.get(0).filter(|_| attribute.values.len() == 1)
}

fn is_of(signer: &SignerIdentifier, certificate: &Certificate) -> bool {
    let own = &certificate.tbs_certificate;
    match signer {
        SignerIdentifier::IssuerAndSerialNumber(id) => id.issuer == own.issuer && id.serial_number == own.serial_number,
        SignerIdentifier::SubjectKeyIdentifier(id) => {
            own.get::<SubjectKeyIdentifier>().is_ok_and(|found| found.is_some_and(|(_, found)| found == *id))
        }
    }
}

/// The bytes that hexadecimal digits stand for.
pub(crate) fn hex_bytes(digits: &[u8]) -> Option<Vec<u8>> {
    const NO_DIGIT: u8 = 0xf0;
    const VALUES: [u8; 256] = {
        let (mut values, mut value) = ([NO_DIGIT; 256], 0);
        while value < 16 {
            values[b"0123456789abcdef"[value] as usize] = value as u8;
            values[b"0123456789ABCDEF"[value] as usize] = value as u8;
            value += 1;
        }
        values
    };
    // A hole for a signature may end with tens of thousands of zeros: they are not looked at one by one.
    const ZEROS: [u8; 64] = [b'0'; 64];
    let mut said = digits;
    while let Some(rest) = said.strip_suffix(&ZEROS) {
        said = rest;
    }
    let pairs = said.chunks_exact(2);
    let mut all = if pairs.remainder().is_empty() { 0 } else { NO_DIGIT };
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    bytes.extend(pairs.map(|pair| {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        all |= high | low;
        high << 4 | low
    }));
    bytes.resize(digits.len() / 2, 0);
    (all & NO_DIGIT == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::hex_bytes;

    #[test]
    fn digits_are_read_with_all_their_zeros() {
        let padded = |text: &str, zeros: usize| format!("{text}{}", "0".repeat(zeros));
        let read = |text: &str| hex_bytes(text.as_bytes());
        for zeros in [0, 2, 62, 64, 66, 128, 1_000] {
            let expected = [&[0xab, 0x10, 0x0f][..], &vec![0; zeros / 2]].concat();
            assert_eq!(read(&padded("aB100f", zeros)), Some(expected), "{zeros}");
            assert_eq!(read(&padded("aB100", zeros)), None, "half a byte and {zeros}");
            assert_eq!(read(&padded("aB100g", zeros)), None, "no digit and {zeros}");
        }
        assert_eq!(read(&padded("", 128)), Some(vec![0; 64]));
    }
}
