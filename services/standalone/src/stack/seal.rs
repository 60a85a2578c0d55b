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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use countersign_chassis::clock::Clock;
    use countersign_envelope::seal::SealConfig;

    use super::*;

    #[tokio::test]
    async fn a_folder_has_one_development_key_that_seals() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(Some(&place.path().join("stack")), None).unwrap();
        ensure(&folder).unwrap();
        let made = std::fs::read(folder.seal()).unwrap();
        ensure(&folder).unwrap();
        assert!(made == std::fs::read(folder.seal()).unwrap(), "made once");
        assert_eq!(folder.seal().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let public = std::fs::read_to_string(folder.seal_ca()).unwrap();
        assert!(public.starts_with("-----BEGIN CERTIFICATE-----") && !public.contains("PRIVATE"));
        let config = SealConfig { seal_pkcs12: Some(folder.seal()), ..SealConfig::default() };
        let clock = Clock::manual(chrono::DateTime::from_timestamp(1_795_283_618, 0).unwrap());
        assert!(config.open(&clock).await.unwrap().0.is_some());
    }
}
