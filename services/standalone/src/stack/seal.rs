//! The development key of the seals: made once with a CA of its own, which nobody else trusts.
//! Must never be made anew for a folder that has one, and never keep the CA's own key.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::folder::Folder;
use crate::private_file;

const ORGANIZATION: &str = "Countersign development, not for production";
/// Signing documents, by the usage that Adobe's and other readers know for it.
const DOCUMENT_SIGNING: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 36];
/// The clock of a stack may be moved; a development key must not end because of that.
const YEARS: (i32, i32) = (2000, 2100);

/// Makes the key of the folder unless it is there.
pub(super) fn ensure(folder: &Folder) -> Result<()> {
    if folder.seal().exists() {
        return Ok(());
    }
    make(folder).context("cannot make the development key of the seals")
}

fn make(folder: &Folder) -> Result<()> {
    let mut ca = params("Countersign development CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let mut leaf = params("Countersign development seal");
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    // Readers built on Mozilla's library trust a signature only if its certificate is one for e-mail.
    leaf.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::EmailProtection, ExtendedKeyUsagePurpose::Other(DOCUMENT_SIGNING.to_vec())];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&key, &ca)?;
    std::fs::write(folder.seal_ca(), ca.pem())?;
    private_file::write_text(&folder.seal(), &[key.serialize_pem(), leaf.pem(), ca.pem()].concat())
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(YEARS.0, 1, 1);
    params.not_after = date_time_ymd(YEARS.1, 1, 1);
    params
}
