//! Judges a revocation list (RFC 5280).
//!
//! It must never take one that may leave out what it is asked for: of changes only, of some reasons, of other certificates.

use der::Decode;
use x509_cert::Certificate;
use x509_cert::crl::TbsCertList;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::IssuingDistributionPoint;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::{Finding, Good, Issued, Signed, Unfit, full_name, until};
use crate::verify::oid;

impl Issued {
    /// What a list of the issuer says of the certificate at that time.
    ///
    /// # Errors
    ///
    /// [`Unfit`] says why it is worth nothing.
    pub fn judge_crl(&self, list: &[u8], now_unix_s: u64) -> Result<Finding, Unfit> {
        let signed = Signed::from_der(list).map_err(|_| Unfit::Unreadable)?;
        let content: TbsCertList = signed.content.decode_as().map_err(|_| Unfit::Unreadable)?;
        if content.issuer != self.issuer.tbs_certificate.subject {
            return Err(Unfit::Other);
        }
        let same_algorithm = content.signature == signed.algorithm && signed.certificates.is_none();
        if !same_algorithm || !makes_lists(&self.issuer) || !signed.is_by(&self.issuer) {
            return Err(Unfit::Stranger);
        }
        self.check_conditions(&content)?;
        let next = content.next_update.map(|time| time.to_unix_duration().as_secs());
        let since_unix_s = content.this_update.to_unix_duration().as_secs();
        let until_unix_s = until(since_unix_s, next, now_unix_s)?;
        let number = &self.certificate.tbs_certificate.serial_number;
        match content.revoked_certificates.iter().flatten().any(|entry| entry.serial_number == *number) {
            true => Ok(Finding::Revoked { since_unix_s }),
            false => Ok(Finding::Good(Good { since_unix_s, until_unix_s, responder: None })),
        }
    }

    /// Whether the list is the whole of what its issuer has to say of such certificates.
    fn check_conditions(&self, content: &TbsCertList) -> Result<(), Unfit> {
        for extension in content.crl_extensions.iter().flatten() {
            let is_understood = match extension.extn_id {
                oid::ISSUING_DISTRIBUTION_POINT => self.is_in_scope(extension),
                oid::DELTA_CRL => false,
                _ => !extension.critical,
            };
            if !is_understood {
                return Err(Unfit::Conditions);
            }
        }
        let mut entries = content.revoked_certificates.iter().flatten();
        let is_strange = |extension: &Extension| extension.critical;
        match entries.any(|entry| entry.crl_entry_extensions.iter().flatten().any(is_strange)) {
            true => Err(Unfit::Conditions),
            false => Ok(()),
        }
    }

    fn is_in_scope(&self, extension: &Extension) -> bool {
        let Ok(point) = IssuingDistributionPoint::from_der(extension.extn_value.as_bytes()) else { return false };
        let is_whole = !point.indirect_crl && !point.only_contains_attribute_certs && point.only_some_reasons.is_none();
        let constraints = self.certificate.tbs_certificate.get::<BasicConstraints>().ok().flatten();
        let is_ca = constraints.is_some_and(|(_, constraints)| constraints.ca);
        let is_of_kind = if is_ca { !point.only_contains_user_certs } else { !point.only_contains_ca_certs };
        let is_named = point.distribution_point.is_none_or(|name| {
            let (own, names) = (self.list_names(), full_name(name).unwrap_or_default());
            names.iter().any(|name| own.contains(name))
        });
        is_whole && is_of_kind && is_named
    }
}

fn makes_lists(issuer: &Certificate) -> bool {
    match issuer.tbs_certificate.get::<KeyUsage>() {
        Ok(Some((_, usage))) => usage.crl_sign(),
        Ok(None) => true,
        Err(_) => false,
    }
}
