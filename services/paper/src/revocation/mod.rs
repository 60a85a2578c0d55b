//! Whether certificates were revoked: where to ask, what to ask, and what an answer is worth.
//!
//! It must never believe an answer that is not signed by the certificate's issuer or on its behalf, not about that
//! certificate, or not of now, and never ask anybody itself.

mod crl;
mod ocsp;
mod proof;

use der::asn1::{Any, BitString};
use der::{Decode, Encode, Sequence};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{AuthorityInfoAccessSyntax, CrlDistributionPoints};
use x509_cert::spki::AlgorithmIdentifierOwned;

pub(crate) use proof::Proof;

use crate::seal::Identity;
use crate::verify::token::Token;
use crate::verify::{algorithm, chain, oid};

/// Certificates above one that are looked at.
const DEPTH_MAX: usize = 8;
/// How far clocks may be apart.
const APART_SECONDS_MAX: u64 = 300;
/// How long an answer counts that does not say until when it does.
const UNLIMITED_SECONDS_MAX: u64 = 3_600;
/// Places that are named for one certificate; whoever names more is asked at these.
const PLACES_MAX: usize = 2;

/// What shows later that the certificates of a seal and of its timestamp were good, each in DER.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Validation {
    /// Certificates up to the roots.
    pub certificates: Vec<Vec<u8>>,
    /// Answers of OCSP responders.
    pub ocsps: Vec<Vec<u8>>,
    /// Revocation lists.
    pub crls: Vec<Vec<u8>>,
}

/// What an answer says of a certificate.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// It is not revoked.
    Good(Good),
    /// It is.
    Revoked {
        /// Since when that is known, in seconds since 1970.
        since_unix_s: u64,
    },
}

/// What comes with the good news.
#[derive(Debug, Clone, PartialEq)]
pub struct Good {
    /// When that was so, in seconds since 1970.
    pub since_unix_s: u64,
    /// Until when that counts, in seconds since 1970.
    pub until_unix_s: u64,
    /// Who answered on behalf of the issuer, if whether that certificate is revoked has to be asked, too.
    pub responder: Option<Box<Issued>>,
}

/// Why an answer is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It cannot be read.
    #[error("the answer is unreadable")]
    Unreadable,
    /// The responder gave none.
    #[error("the responder does not answer that")]
    Refused,
    /// It is about another certificate.
    #[error("the answer is about another certificate")]
    Other,
    /// The responder does not know the certificate.
    #[error("the responder does not know the certificate")]
    Unknown,
    /// It is not signed by the issuer or by somebody whom the issuer made a responder.
    #[error("the answer is not signed by the issuer or on its behalf")]
    Stranger,
    /// It is of another time.
    #[error("the answer is not of now")]
    Time,
    /// It is a list of some changes, reasons or issuers only, or carries conditions that are not understood.
    #[error("the answer carries conditions that are not understood")]
    Conditions,
}

/// A certificate with the one that issued it.
#[derive(Debug, Clone, PartialEq)]
pub struct Issued {
    certificate: Certificate,
    issuer: Certificate,
}

/// A certificate and all above it, as far as they are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// From the first certificate on.
    pub steps: Vec<Issued>,
    /// Whether it ends at one that issued itself: nobody can say of that one that it was revoked.
    pub ends_at_root: bool,
}

impl Path {
    /// Of a timestamp with the help of `others`, in DER.
    #[must_use]
    pub fn of_token(token: &[u8], others: &[Vec<u8>]) -> Option<Self> {
        let token = Token::open(token).ok()?;
        let others: Vec<Certificate> = token.certificates().iter().cloned().chain(readable(others)).collect();
        Some(Self::of(token.authority(), &others))
    }

    /// Of the key of a seal with the help of `others`, in DER.
    #[must_use]
    pub fn of_identity(identity: &Identity, others: &[Vec<u8>]) -> Self {
        let others: Vec<Certificate> = identity.chain().iter().cloned().chain(readable(others)).collect();
        Self::of(identity.leaf(), &others)
    }

    pub(crate) fn of(first: &Certificate, others: &[Certificate]) -> Self {
        let mut path = Self { steps: Vec::new(), ends_at_root: false };
        let mut current = first;
        for depth in 0..DEPTH_MAX {
            let issuers = || others.iter().filter(|candidate| chain::issued(candidate, current, depth));
            let Some(issuer) = issuers().find(|issuer| chain::is_self_signed(issuer)).or_else(|| issuers().next())
            else {
                break;
            };
            path.steps.push(Issued { certificate: current.clone(), issuer: issuer.clone() });
            current = issuer;
            if chain::is_self_signed(issuer) {
                path.ends_at_root = true;
                break;
            }
        }
        path
    }

    /// All its certificates in DER, the first one first.
    #[must_use]
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        let first = self.steps.first().map(|step| &step.certificate);
        let all = first.into_iter().chain(self.steps.iter().map(|step| &step.issuer));
        all.filter_map(|certificate| certificate.to_der().ok()).collect()
    }
}

fn readable(certificates: &[Vec<u8>]) -> impl Iterator<Item = Certificate> {
    certificates.iter().filter_map(|der| Certificate::from_der(der).ok())
}

impl Issued {
    /// The SHA-256 of the certificate and of the one that issued it.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        let der = |certificate: &Certificate| certificate.to_der().unwrap_or_default();
        Sha256::new().chain_update(der(&self.certificate)).chain_update(der(&self.issuer)).finalize().into()
    }

    /// The issuer's certificate in DER.
    #[must_use]
    pub fn issuer_der(&self) -> Vec<u8> {
        self.issuer.to_der().unwrap_or_default()
    }

    /// Where OCSP responders are that know it, as the certificate says.
    #[must_use]
    pub fn ocsp_urls(&self) -> Vec<String> {
        let access = self.certificate.tbs_certificate.get::<AuthorityInfoAccessSyntax>().ok().flatten();
        let places = access.into_iter().flat_map(|(_, access)| access.0);
        let responders = places.filter(|place| place.access_method == oid::OCSP).map(|place| place.access_location);
        responders.filter_map(|name| url(&name)).take(PLACES_MAX).collect()
    }

    /// Where lists are that would name it, as the certificate says.
    #[must_use]
    pub fn crl_urls(&self) -> Vec<String> {
        self.list_names().iter().filter_map(url).take(PLACES_MAX).collect()
    }

    /// The names of the lists of its issuer for all reasons.
    fn list_names(&self) -> Vec<GeneralName> {
        let points = self.certificate.tbs_certificate.get::<CrlDistributionPoints>().ok().flatten();
        let points = points.into_iter().flat_map(|(_, points)| points.0);
        let whole = points.filter(|point| point.reasons.is_none() && point.crl_issuer.is_none());
        whole.filter_map(|point| full_name(point.distribution_point?)).flatten().collect()
    }
}

fn full_name(name: DistributionPointName) -> Option<Vec<GeneralName>> {
    match name {
        DistributionPointName::FullName(names) => Some(names),
        DistributionPointName::NameRelativeToCRLIssuer(_) => None,
    }
}

fn url(name: &GeneralName) -> Option<String> {
    let GeneralName::UniformResourceIdentifier(url) = name else { return None };
    let is_web = url.as_str().starts_with("http://") || url.as_str().starts_with("https://");
    is_web.then(|| url.to_string())
}

/// An answer as it is signed. What is signed stays as it came.
#[derive(Sequence)]
struct Signed {
    content: Any,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    certificates: Option<Vec<Certificate>>,
}

impl Signed {
    fn is_by(&self, signer: &Certificate) -> bool {
        let (Ok(message), Some(signature)) = (self.content.to_der(), self.signature.as_bytes()) else { return false };
        let key = &signer.tbs_certificate.subject_public_key_info;
        algorithm::holds(key, &self.algorithm, None, &message, signature)
    }
}

/// Until when something counts that was said then, if it counts now.
fn until(since_unix_s: u64, next_unix_s: Option<u64>, now_unix_s: u64) -> Result<u64, Unfit> {
    let until = next_unix_s.unwrap_or(since_unix_s.saturating_add(UNLIMITED_SECONDS_MAX));
    let is_now = since_unix_s <= now_unix_s.saturating_add(APART_SECONDS_MAX)
        && now_unix_s <= until.saturating_add(APART_SECONDS_MAX);
    if is_now { Ok(until) } else { Err(Unfit::Time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_counts_for_its_time_and_for_clocks_that_differ() {
        assert_eq!(until(1_000, Some(2_000), 1_500), Ok(2_000));
        assert_eq!(until(1_000, Some(2_000), 700), Ok(2_000));
        assert_eq!(until(1_000, Some(2_000), 699), Err(Unfit::Time));
        assert_eq!(until(1_000, Some(2_000), 2_300), Ok(2_000));
        assert_eq!(until(1_000, Some(2_000), 2_301), Err(Unfit::Time));
        assert_eq!(until(1_000, None, 4_900), Ok(4_600));
        assert_eq!(until(1_000, None, 4_901), Err(Unfit::Time));
    }
}
