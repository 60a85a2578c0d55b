//! Asks an OCSP responder and judges what it answers (RFC 6960).
//!
//! It must never take the word of a responder that the issuer did not make one.

use der::asn1::{Null, OctetString};
use der::{Decode, Encode};
use ring::digest;
use x509_cert::Certificate;
use x509_cert::ext::pkix::ExtendedKeyUsage;
use x509_cert::ext::{Extension, Extensions};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse, OcspResponseStatus, Request, ResponderId,
    ResponseData, SingleResponse, TbsRequest,
};

use super::{Finding, Good, Issued, Signed, Unfit, until};
use crate::verify::{chain, oid};

/// Certificates of an answer that are looked at.
const CERTIFICATES_MAX: usize = 8;

impl Issued {
    /// What to send to a responder, as `application/ocsp-request`.
    ///
    /// # Errors
    ///
    /// If the certificates cannot be written.
    pub fn ocsp_request(&self) -> Result<Vec<u8>, Unfit> {
        // All responders know the certificate by this hash; nothing depends on its strength.
        let hash = AlgorithmIdentifierOwned { oid: oid::SHA1, parameters: Some(Null.into()) };
        let request_list = vec![Request { req_cert: self.ocsp_id(hash)?, single_request_extensions: None }];
        let request = TbsRequest { request_list, ..TbsRequest::default() };
        let request = OcspRequest { tbs_request: request, optional_signature: None };
        request.to_der().map_err(|_| Unfit::Unreadable)
    }

    /// How the certificate is named in questions and answers.
    fn ocsp_id(&self, hash_algorithm: AlgorithmIdentifierOwned) -> Result<CertId, Unfit> {
        let algorithm = match hash_algorithm.oid {
            oid::SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            oid::SHA256 => &digest::SHA256,
            oid::SHA384 => &digest::SHA384,
            oid::SHA512 => &digest::SHA512,
            _ => return Err(Unfit::Other),
        };
        let hash = |bytes: &[u8]| OctetString::new(digest::digest(algorithm, bytes).as_ref());
        let issuer = &self.issuer.tbs_certificate;
        let name = issuer.subject.to_der().and_then(|name| hash(&name));
        Ok(CertId {
            hash_algorithm,
            issuer_name_hash: name.map_err(|_| Unfit::Unreadable)?,
            issuer_key_hash: hash(issuer.subject_public_key_info.subject_public_key.raw_bytes())
                .map_err(|_| Unfit::Unreadable)?,
            serial_number: self.certificate.tbs_certificate.serial_number.clone(),
        })
    }

    /// What a responder's answer says of the certificate at that time.
    ///
    /// # Errors
    ///
    /// [`Unfit`] says why it is worth nothing.
    pub fn judge_ocsp(&self, answer: &[u8], now_unix_s: u64) -> Result<Finding, Unfit> {
        let signed = basic(answer)?;
        let data: ResponseData = signed.content.decode_as().map_err(|_| Unfit::Unreadable)?;
        let responder = self.responder(&signed, &data.responder_id, now_unix_s)?;
        if has_strange_conditions(data.response_extensions.as_ref()) {
            return Err(Unfit::Conditions);
        }
        let single = data.responses.iter().find(|single| self.is_about(single)).ok_or(Unfit::Other)?;
        if has_strange_conditions(single.single_extensions.as_ref()) {
            return Err(Unfit::Conditions);
        }
        let since_unix_s = unix_s(&single.this_update);
        let until_unix_s = until(since_unix_s, single.next_update.as_ref().map(unix_s), now_unix_s)?;
        match single.cert_status {
            CertStatus::Good(_) => Ok(Finding::Good(Good { since_unix_s, until_unix_s, responder })),
            CertStatus::Revoked(_) => Ok(Finding::Revoked { since_unix_s }),
            CertStatus::Unknown(_) => Err(Unfit::Unknown),
        }
    }

    fn is_about(&self, single: &SingleResponse) -> bool {
        let id = &single.cert_id;
        // Some write the hash's parameters and some do not.
        self.ocsp_id(id.hash_algorithm.clone()).is_ok_and(|own| own == *id)
    }

    /// Who signed it: the issuer, or a responder that the issuer made; the latter only if it has to be asked about, too.
    fn responder(&self, signed: &Signed, id: &ResponderId, now_unix_s: u64) -> Result<Option<Box<Self>>, Unfit> {
        if is_named(id, &self.issuer) && signed.is_by(&self.issuer) {
            return Ok(None);
        }
        let brought = signed.certificates.iter().flatten().take(CERTIFICATES_MAX);
        let is_responder = |it: &&Certificate| {
            is_named(id, it)
                && answers(it)
                && chain::is_valid_at(it, now_unix_s)
                && chain::issued(&self.issuer, it, 0)
                && signed.is_by(it)
        };
        let found = brought.into_iter().find(is_responder).ok_or(Unfit::Stranger)?;
        let extensions = found.tbs_certificate.extensions.iter().flatten();
        let counts_unasked = extensions.into_iter().any(|extension| extension.extn_id == oid::OCSP_NO_CHECK);
        Ok((!counts_unasked).then(|| Box::new(Self { certificate: found.clone(), issuer: self.issuer.clone() })))
    }
}

/// The one kind of answer that there is.
fn basic(answer: &[u8]) -> Result<Signed, Unfit> {
    let answer = OcspResponse::from_der(answer).map_err(|_| Unfit::Unreadable)?;
    if answer.response_status != OcspResponseStatus::Successful {
        return Err(Unfit::Refused);
    }
    let bytes = answer.response_bytes.filter(|bytes| bytes.response_type == oid::OCSP_BASIC);
    Signed::from_der(bytes.ok_or(Unfit::Unreadable)?.response.as_bytes()).map_err(|_| Unfit::Unreadable)
}

/// Whether a certificate was made for answers.
fn answers(certificate: &Certificate) -> bool {
    let purposes = certificate.tbs_certificate.get::<ExtendedKeyUsage>().ok().flatten();
    purposes.is_some_and(|(_, usage)| usage.0.contains(&oid::OCSP_SIGNING))
        && chain::signs(certificate)
        && !chain::has_strange_conditions(certificate)
}

fn is_named(id: &ResponderId, certificate: &Certificate) -> bool {
    let own = &certificate.tbs_certificate;
    match id {
        ResponderId::ByName(name) => *name == own.subject,
        ResponderId::ByKey(hash) => {
            let key = own.subject_public_key_info.subject_public_key.raw_bytes();
            hash.as_bytes() == digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key).as_ref()
        }
    }
}

fn has_strange_conditions(extensions: Option<&Extensions>) -> bool {
    let is_critical = |extension: &Extension| extension.critical;
    extensions.into_iter().flatten().any(is_critical)
}

fn unix_s(time: &OcspGeneralizedTime) -> u64 {
    time.0.to_unix_duration().as_secs()
}
