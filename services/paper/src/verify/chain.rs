//! Judges whether a certificate leads to one that is trusted.
//!
//! It must never take a certificate as an issuer that was not made to be one. Whether one was revoked it does not know.

use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

use super::algorithm;

/// Issuers between the signer's certificate and a root.
const DEPTH_MAX: usize = 8;
/// Critical extensions that are understood here: basic constraints, key usage, extended key usage, policies, alternative
/// name. A chain with others is not trusted.
const UNDERSTOOD: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
    ObjectIdentifier::new_unwrap("2.5.29.32"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
];

/// What the certificate of a document's signer may be for, if it says so: mail, documents (RFC 9336, and as Adobe and Microsoft
/// said it before), anything.
const OF_DOCUMENTS: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.36"),
    ObjectIdentifier::new_unwrap("1.2.840.113583.1.1.5"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.10.3.12"),
    ObjectIdentifier::new_unwrap("2.5.29.37.0"),
];

/// Where a certificate leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Trust {
    /// To a certificate that is trusted; all on the way were valid at the time.
    Trusted,
    /// Nowhere that is trusted.
    UnknownIssuer,
    /// To a trusted one, but one on the way was not valid at the time, or no longer.
    NotValidThen,
    /// It was not made for signatures, or carries conditions that are not understood.
    NotForThis,
}

/// Certificates in DER that are trusted.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Vec<Vec<u8>>", into = "Vec<Vec<u8>>")]
pub struct Roots(Vec<Certificate>);

impl Roots {
    /// Those of them that can be read.
    #[must_use]
    pub fn new(certificates: &[Vec<u8>]) -> Self {
        Self(certificates.iter().filter_map(|der| Certificate::from_der(der).ok()).collect())
    }
}

impl From<Vec<Vec<u8>>> for Roots {
    fn from(certificates: Vec<Vec<u8>>) -> Self {
        Self::new(&certificates)
    }
}

impl From<Roots> for Vec<Vec<u8>> {
    fn from(roots: Roots) -> Self {
        roots.0.iter().filter_map(|certificate| certificate.to_der().ok()).collect()
    }
}

/// Where `signer` leads with the help of `others`, at that time.
pub(crate) fn judge(signer: &Certificate, others: &[Certificate], roots: &Roots, at_unix_s: u64) -> Trust {
    let (mut current, mut is_valid) = (signer, true);
    if !signs(signer) {
        return Trust::NotForThis;
    }
    for depth in 0..DEPTH_MAX {
        if has_strange_conditions(current) {
            return Trust::NotForThis;
        }
        is_valid &= is_valid_at(current, at_unix_s);
        if roots.0.contains(current) {
            return if is_valid { Trust::Trusted } else { Trust::NotValidThen };
        }
        let issuers = roots.0.iter().chain(others).filter(|candidate| issued(candidate, current, depth));
        match issuers.into_iter().next() {
            Some(issuer) => current = issuer,
            None => return Trust::UnknownIssuer,
        }
    }
    Trust::UnknownIssuer
}

/// Whether `issuer` may issue, with that many issuers below it, and has issued `certificate`.
pub(crate) fn issued(issuer: &Certificate, certificate: &Certificate, issuers_below: usize) -> bool {
    let (own, theirs) = (&issuer.tbs_certificate, &certificate.tbs_certificate);
    if own.subject != theirs.issuer || issuer == certificate {
        return false;
    }
    let Ok(Some((_, constraints))) = own.get::<BasicConstraints>() else { return false };
    let long_enough = constraints.path_len_constraint.is_none_or(|length| usize::from(length) >= issuers_below);
    let may_issue = own.get::<KeyUsage>().ok().flatten().is_none_or(|(_, usage)| usage.key_cert_sign());
    constraints.ca && long_enough && may_issue && signed(issuer, certificate)
}

/// Whether it is the end of a chain.
pub(crate) fn is_self_signed(certificate: &Certificate) -> bool {
    certificate.tbs_certificate.subject == certificate.tbs_certificate.issuer && signed(certificate, certificate)
}

fn signed(issuer: &Certificate, certificate: &Certificate) -> bool {
    let (own, theirs) = (&issuer.tbs_certificate, &certificate.tbs_certificate);
    let (Ok(message), Some(signature)) = (theirs.to_der(), certificate.signature.as_bytes()) else { return false };
    let same_algorithm = theirs.signature == certificate.signature_algorithm;
    same_algorithm
        && algorithm::holds(&own.subject_public_key_info, &certificate.signature_algorithm, None, &message, signature)
}

pub(crate) fn signs(certificate: &Certificate) -> bool {
    match certificate.tbs_certificate.get::<KeyUsage>() {
        Ok(Some((_, usage))) => usage.digital_signature() || usage.non_repudiation(),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Whether it may sign documents and not only, say, be a web server.
pub(crate) fn is_for_documents(certificate: &Certificate) -> bool {
    match certificate.tbs_certificate.get::<ExtendedKeyUsage>() {
        Ok(Some((_, usage))) => usage.0.iter().any(|purpose| OF_DOCUMENTS.contains(purpose)),
        Ok(None) => true,
        Err(_) => false,
    }
}

pub(crate) fn has_strange_conditions(certificate: &Certificate) -> bool {
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    extensions.into_iter().any(|extension| extension.critical && !UNDERSTOOD.contains(&extension.extn_id))
}

pub(crate) fn is_valid_at(certificate: &Certificate, at_unix_s: u64) -> bool {
    let validity = &certificate.tbs_certificate.validity;
    let since = validity.not_before.to_unix_duration().as_secs();
    (since..=validity.not_after.to_unix_duration().as_secs()).contains(&at_unix_s)
}
