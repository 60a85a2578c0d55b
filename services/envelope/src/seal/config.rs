//! With what documents are sealed: flags and environment variables, and the files that they name.
//!
//! It must never quote what is in a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::SettingError;
use countersign_paper::{Identity, Roots};
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::key::{FileKey, SealKey};
use super::revocation::Revocation;
use super::tsa::Tsa;

pub(super) const KEY: &str = "--seal-pkcs12 (COUNTERSIGN_SEAL_PKCS12)";
pub(super) const UNSEALED: &str = "--unsealed (COUNTERSIGN_UNSEALED)";
const TRUST: &str = "--seal-trust (COUNTERSIGN_SEAL_TRUST)";
const FORMER: &str = "--seal-former (COUNTERSIGN_SEAL_FORMER)";
const PASSPHRASE: &str = "--seal-passphrase (COUNTERSIGN_SEAL_PASSPHRASE)";
const PASSPHRASE_FILE: &str = "--seal-passphrase-file (COUNTERSIGN_SEAL_PASSPHRASE_FILE)";
pub(super) const REVOCATION: &str = "--seal-revocation (COUNTERSIGN_SEAL_REVOCATION)";
const TSA_URLS: &str = "--seal-tsa-urls (COUNTERSIGN_SEAL_TSA_URLS)";

/// Size of a file with keys or certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Timestamping authorities that are asked one after the other.
const TSA_URLS_MAX: usize = 8;

/// What happens when no timestamping authority answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TsaPolicy {
    /// The document is not sealed yet; it is tried again until there is a timestamp.
    #[default]
    Fail,
    /// The document is sealed without one.
    Degrade,
}

/// Whether a seal brings along what shows that its certificates were not revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RevocationPolicy {
    /// As far as it is to be had; the document does not wait for it.
    #[default]
    WhereReachable,
    /// The document is not sealed yet; it is tried again until all of it is there.
    Require,
    /// It is not asked for. A revoked certificate goes unnoticed.
    Off,
}

/// With what documents are sealed.
#[derive(Args, Clone, Debug, Default)]
pub struct SealConfig {
    /// File with the key of the seals and its certificates: PKCS#12, or PEM with a key in PKCS#8 and then the certificates,
    /// the key's own first. RSA of 2,048 to 4,096 bits or ECDSA on P-256.
    #[arg(long, env = "COUNTERSIGN_SEAL_PKCS12")]
    pub seal_pkcs12: Option<PathBuf>,
    /// Passphrase of the PKCS#12 file.
    #[arg(long, env = "COUNTERSIGN_SEAL_PASSPHRASE", hide_env_values = true)]
    pub seal_passphrase: Option<SecretString>,
    /// File with that passphrase, in place of the passphrase itself.
    #[arg(long, env = "COUNTERSIGN_SEAL_PASSPHRASE_FILE", conflicts_with = "seal_passphrase")]
    pub seal_passphrase_file: Option<PathBuf>,
    /// Serve without a key: documents are not sealed, and nobody can tell later whether they were changed.
    #[arg(long, env = "COUNTERSIGN_UNSEALED", default_value_t = false, action = clap::ArgAction::Set)]
    pub unsealed: bool,
    /// Addresses of timestamping authorities (RFC 3161), asked in this order until one answers. Without one seals bear no
    /// proven time.
    #[arg(long, env = "COUNTERSIGN_SEAL_TSA_URLS", value_delimiter = ',')]
    pub seal_tsa_urls: Vec<Url>,
    /// What happens when none of them answers.
    #[arg(long, env = "COUNTERSIGN_SEAL_TSA_POLICY", value_enum, default_value_t = TsaPolicy::Fail)]
    pub seal_tsa_policy: TsaPolicy,
    /// Whether seals bring along what shows that no certificate was revoked (OCSP answers and revocation lists), from where the
    /// certificates say that it is to be had.
    #[arg(long, env = "COUNTERSIGN_SEAL_REVOCATION", value_enum, default_value_t = RevocationPolicy::WhereReachable)]
    pub seal_revocation: RevocationPolicy,
    /// PEM file with CAs that VerifyDocument trusts besides the last certificate of the key. With it, timestamping authorities
    /// have to lead to one of them, too; without it nobody is asked whether their certificates are revoked.
    #[arg(long, env = "COUNTERSIGN_SEAL_TRUST")]
    pub seal_trust: Option<PathBuf>,
    /// PEM file with the certificates of earlier keys, so that what was sealed with them is still known.
    #[arg(long, env = "COUNTERSIGN_SEAL_FORMER")]
    pub seal_former: Option<PathBuf>,
}

impl SealConfig {
    /// The key, wherever it is. Another kind of place is another setting and another [`SealKey`], chosen here.
    pub(super) fn key(&self) -> Result<Option<Arc<dyn SealKey>>, SettingError> {
        self.check()?;
        let Some(path) = &self.seal_pkcs12 else { return Ok(None) };
        let bytes = read(KEY, path)?;
        let key = match pem(&bytes) {
            Some(blocks) => from_pem(&blocks),
            None => from_pkcs12(&bytes, &self.passphrase()?),
        };
        Ok(Some(Arc::new(key.map_err(|why| SettingError::new(KEY, why))?)))
    }

    fn passphrase(&self) -> Result<SecretString, SettingError> {
        match (&self.seal_passphrase, &self.seal_passphrase_file) {
            (Some(passphrase), _) => Ok(passphrase.clone()),
            (None, Some(path)) => {
                let text = String::from_utf8(read(PASSPHRASE_FILE, path)?);
                let text = text.map_err(|_| SettingError::new(PASSPHRASE_FILE, "is no text"))?;
                Ok(text.trim_end_matches(['\r', '\n']).to_owned().into())
            }
            (None, None) => Err(SettingError::new(PASSPHRASE, format!("is needed for the file of {KEY}"))),
        }
    }

    /// The authorities, which have to lead to one of `roots`, if there are any.
    pub(super) fn tsa(&self, clock: &Clock, roots: Option<Roots>) -> Result<Option<Tsa>, SettingError> {
        if self.seal_tsa_urls.is_empty() {
            return Ok(None);
        }
        let known = self.seal_tsa_urls.iter().all(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        if !known || self.seal_tsa_urls.len() > TSA_URLS_MAX {
            let why = format!("must be at most {TSA_URLS_MAX} addresses that begin with http:// or https://");
            return Err(SettingError::new(TSA_URLS, why));
        }
        if roots.is_none() {
            tracing::warn!("any authority's timestamps count, whoever vouches for it: bring its CA, {TRUST}");
        }
        let tsa = Tsa::new(self.seal_tsa_urls.clone(), clock.clone(), roots);
        tsa.map(Some).map_err(|_| SettingError::new(TSA_URLS, "there is no HTTP client to be had"))
    }

    /// What asks whether certificates are revoked. `others` complete their chains.
    pub(super) fn revocation(
        &self,
        identity: &Identity,
        others: Vec<Vec<u8>>,
        clock: &Clock,
    ) -> Result<Option<Revocation>, SettingError> {
        let (policy, refused) = (self.seal_revocation, |why: String| Err(SettingError::new(REVOCATION, why)));
        if policy == RevocationPolicy::Off {
            return Ok(None);
        }
        let revocation = Revocation::new(identity, others, self.seal_trust.is_some(), clock.clone());
        let revocation = revocation.map_err(|_| SettingError::new(REVOCATION, "there is no HTTP client to be had"))?;
        match revocation.never() {
            _ if policy != RevocationPolicy::Require => Ok(Some(revocation)),
            _ if self.seal_tsa_urls.is_empty() => refused(format!("cannot be required without {TSA_URLS}")),
            _ if self.seal_tsa_policy == TsaPolicy::Degrade => {
                refused("cannot be required of seals without a timestamp, which the other policy allows".to_owned())
            }
            // Whose certificates are asked about has to be somebody of whom the operator knows.
            _ if self.seal_trust.is_none() => refused(format!("cannot be required without {TRUST}")),
            Some(why) => refused(format!("cannot be required: {why}")),
            None => Ok(Some(revocation)),
        }
    }

    pub(super) fn trusted(&self) -> Result<Vec<Vec<u8>>, SettingError> {
        certificates(TRUST, self.seal_trust.as_deref())
    }

    pub(super) fn former(&self) -> Result<Vec<Vec<u8>>, SettingError> {
        certificates(FORMER, self.seal_former.as_deref())
    }
}

/// The certificates of a PEM file.
fn certificates(setting: &str, path: Option<&Path>) -> Result<Vec<Vec<u8>>, SettingError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let blocks = pem(&read(setting, path)?).unwrap_or_default();
    let found: Vec<Vec<u8>> =
        blocks.into_iter().filter(|block| block.label == "CERTIFICATE").map(|block| block.der).collect();
    if found.is_empty() {
        return Err(SettingError::new(setting, "holds no certificate in PEM"));
    }
    Ok(found)
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, SettingError> {
    let unreadable = |error: std::io::Error| SettingError::new(setting, format!("cannot be read: {}", error.kind()));
    let size_bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if size_bytes > FILE_BYTES_MAX {
        return Err(SettingError::new(setting, format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(unreadable)
}

struct Block {
    label: String,
    der: Vec<u8>,
}

/// The blocks of a PEM file; nothing if it is none.
fn pem(bytes: &[u8]) -> Option<Vec<Block>> {
    const BEGIN: &str = "-----BEGIN ";
    let text = std::str::from_utf8(bytes).ok()?;
    let blocks = text.split(BEGIN).skip(1).map(|block| {
        let (label, rest) = block.split_once("-----")?;
        let (content, _) = rest.split_once("-----END ")?;
        let content: String = content.split_whitespace().collect();
        Some(Block { label: label.to_owned(), der: STANDARD.decode(content).ok()? })
    });
    let blocks: Vec<Block> = blocks.collect::<Option<_>>()?;
    (!blocks.is_empty()).then_some(blocks)
}

fn from_pem(blocks: &[Block]) -> Result<FileKey, String> {
    let of = |label: &str| blocks.iter().filter(|block| block.label == label).map(|block| block.der.clone()).collect();
    let keys: Vec<Vec<u8>> = of("PRIVATE KEY");
    let [key] = keys.as_slice() else {
        return Err("must hold one key as `BEGIN PRIVATE KEY` (PKCS#8, not encrypted)".to_owned());
    };
    FileKey::new(key, of("CERTIFICATE"))
}

fn from_pkcs12(bytes: &[u8], passphrase: &SecretString) -> Result<FileKey, String> {
    let store = KeyStore::from_pkcs12(bytes, passphrase.expose_secret(), Pkcs12ImportPolicy::Strict);
    // What the reader says of it might quote it.
    let store = store.map_err(|_| "is no PKCS#12 file that opens with that passphrase".to_owned())?;
    let (_, chain) = store.private_key_chain().ok_or("holds no key with its certificate")?;
    let certificates = chain.certs().iter().map(|certificate| certificate.as_der().to_vec()).collect();
    FileKey::new(chain.key().as_der(), certificates)
}
