//! Seals what the service makes, with the key that was configured.
//!
//! It must never change what happened: a seal that cannot be made is tried again by whoever asked for it. It must never
//! show the key or its passphrase.

mod config;
mod http;
mod key;
mod revocation;
mod tsa;

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::SettingError;
use countersign_paper::{
    self as paper, AlreadySigned, Identity, Level, Path, Roots, SealOptions, Sealed, Unsealed, Validation,
};
use sha2::{Digest as _, Sha256};

use self::config::{KEY, UNSEALED};
pub use self::config::{RevocationPolicy, SealConfig, TsaPolicy};
pub use self::key::{FileKey, SealKey};
pub use self::revocation::Revocation;
pub use self::tsa::Tsa;
use crate::domain::envelope::{Digest, SealLevel};

/// A certificate that ends within so many days is warned of at the start.
const ENDS_SOON_DAYS: i64 = 30;
const SECONDS_OF_DAY: i64 = 86_400;
/// Who seals, for people who look at the signature in a reader.
const NAME: &str = "Countersign";
const REASON: &str = "Sealed as it was when the envelope ended";

/// Seals documents, and knows the seals.
#[derive(Clone)]
pub struct Sealer {
    key: Arc<dyn SealKey>,
    identity: Arc<Identity>,
    tsa: Option<Arc<Tsa>>,
    policy: TsaPolicy,
    revocation: Option<Arc<Revocation>>,
    /// Whether a document waits until nothing of it is missing.
    requires_revocation: bool,
    clock: Clock,
}

/// By whom a seal counts as one of this service, and whom else it trusts.
#[derive(Clone, Debug, Default)]
pub struct Recognised {
    ours: HashSet<Digest>,
    roots: Roots,
}

impl Recognised {
    /// Whether a seal with that certificate is one of this service, of now or of before.
    #[must_use]
    pub fn is_ours(&self, certificate: &Digest) -> bool {
        self.ours.contains(certificate)
    }

    /// Who is trusted.
    #[must_use]
    pub fn roots(&self) -> &Roots {
        &self.roots
    }
}

impl SealConfig {
    /// What seals documents, if something does, and whom to recognise. The key is tried out before anything depends on it.
    ///
    /// # Errors
    ///
    /// The setting that the service cannot start with.
    pub async fn open(&self, clock: &Clock) -> Result<(Option<Sealer>, Recognised), SettingError> {
        let trusted = self.trusted()?;
        let mut recognised = Recognised::default();
        recognised.ours.extend(self.former()?.iter().map(|der| Digest::from(Sha256::digest(der))));
        let Some(key) = self.key()? else {
            recognised.roots = Roots::new(&trusted);
            return Ok((None, recognised));
        };
        let is_choosy = !trusted.is_empty();
        let others: Vec<Vec<u8>> = trusted.into_iter().chain(key.chain().last().cloned()).collect();
        recognised.roots = Roots::new(&others);
        let tsa = self.tsa(clock, is_choosy.then(|| recognised.roots.clone()))?;
        let sealer = Sealer::new(key, tsa, self.seal_tsa_policy, clock.clone());
        let mut sealer = sealer.map_err(|error| SettingError::new(KEY, format!("{error:#}")))?;
        sealer.revocation = self.revocation(&sealer.identity, others, clock)?.map(Arc::new);
        sealer.requires_revocation = self.seal_revocation == RevocationPolicy::Require;
        sealer.probe().await.map_err(|error| SettingError::new(KEY, format!("{error:#}")))?;
        recognised.ours.insert(sealer.identity.leaf_sha256());
        Ok((Some(sealer), recognised))
    }

    /// Whether it is clear if documents are sealed.
    ///
    /// # Errors
    ///
    /// The setting that is missing, or one too many.
    pub fn check(&self) -> Result<(), SettingError> {
        match (&self.seal_pkcs12, self.unsealed) {
            (None, false) => {
                let why = format!("is needed; without it documents cannot be sealed, unless {UNSEALED} says so");
                Err(SettingError::new(KEY, why))
            }
            (Some(_), true) => Err(SettingError::new(UNSEALED, format!("contradicts {KEY}"))),
            (None, true) | (Some(_), false) => Ok(()),
        }
    }
}

impl Sealer {
    /// With that key.
    ///
    /// # Errors
    ///
    /// If its certificates cannot be sealed with.
    pub fn new(key: Arc<dyn SealKey>, tsa: Option<Tsa>, policy: TsaPolicy, clock: Clock) -> anyhow::Result<Self> {
        let identity = Arc::new(Identity::new(key.chain())?);
        anyhow::ensure!(
            key.algorithm() == identity.algorithm(),
            "the key is not of the kind that its certificate says"
        );
        let tsa = tsa.map(Arc::new);
        Ok(Self { key, identity, tsa, policy, revocation: None, requires_revocation: false, clock })
    }

    /// Signs something and looks whether the certificate's key did, and whether the certificate is valid now.
    async fn probe(&self) -> anyhow::Result<()> {
        const PROBE: &[u8] = b"countersign: does this key belong to this certificate?";
        let now = self.clock.now();
        self.check_validity(now)?;
        let ends_at = self.ends_at();
        let left_days = (ends_at - now.timestamp()) / SECONDS_OF_DAY;
        if left_days < ENDS_SOON_DAYS {
            tracing::warn!(left_days, "the certificate of the seals ends soon: bring a new one, {KEY}");
        }
        let signature = self.key.sign(PROBE).await.context("the key does not sign")?;
        anyhow::ensure!(self.identity.made(PROBE, &signature), "the key is not the one of the first certificate");
        Ok(())
    }

    fn ends_at(&self) -> i64 {
        i64::try_from(self.identity.validity_unix_s().1).unwrap_or(i64::MAX)
    }

    fn check_validity(&self, now: DateTime<Utc>) -> anyhow::Result<()> {
        let since = i64::try_from(self.identity.validity_unix_s().0).unwrap_or(i64::MAX);
        anyhow::ensure!(since <= now.timestamp(), "the certificate is not valid yet");
        anyhow::ensure!(now.timestamp() <= self.ends_at(), "the certificate has ended");
        Ok(())
    }

    /// As whom it seals.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How a paper is sealed now, with that below the seal.
    fn options(&self, validation: Validation) -> SealOptions {
        SealOptions {
            sealed_at_unix_s: u64::try_from(self.clock.now().timestamp()).unwrap_or_default(),
            name: Some(NAME.to_owned()),
            reason: Some(REASON.to_owned()),
            // What came in signed was let in as it is; nothing may keep a completed envelope from its documents now.
            already_signed: AlreadySigned::Flatten,
            timestamped: self.tsa.is_some(),
            validation,
            ..SealOptions::default()
        }
    }

    /// Signs what was prepared, has it timestamped if that is configured, and gives what follows the base, and whose timestamp
    /// it is.
    ///
    /// # Errors
    ///
    /// If the certificate is not valid now, the key does not sign, or there is no timestamp and there has to be one.
    async fn finish(&self, unsealed: Unsealed) -> anyhow::Result<(Sealed, Option<Path>)> {
        self.check_validity(self.clock.now())?;
        let signature = self.key.sign(unsealed.to_be_signed()).await.context("the key does not sign")?;
        let token = match &self.tsa {
            None => None,
            Some(tsa) => match tsa.token(&signature).await {
                Ok(token) => Some(token),
                Err(error) if self.policy == TsaPolicy::Degrade => {
                    tracing::warn!(error = format!("{error:#}"), "sealed without a timestamp");
                    None
                }
                Err(error) => return Err(error.context("no timestamp")),
            },
        };
        let authority = self.revocation.as_ref().zip(token.as_ref());
        let authority = authority.and_then(|(revocation, token)| revocation.learn(token));
        let finish = move || unsealed.finish(&signature, token.as_deref());
        Ok((tokio::task::spawn_blocking(finish).await.context("sealing was cut")??, authority))
    }

    /// Draws on a paper and seals it, in one update. Where nothing is to be drawn, earlier signatures stay as good as they are.
    ///
    /// # Errors
    ///
    /// If the certificate is not valid now, the key does not sign, or there is no timestamp and there has to be one; if the paper
    /// cannot be drawn on or sealed; if a certificate is revoked, or it cannot be shown that none is and has to be.
    pub async fn complete(&self, base: &Bytes, completion: paper::Completion) -> anyhow::Result<Sealed> {
        let Some(revocation) = &self.revocation else {
            return Ok(self.complete_with(base, &completion, Validation::default()).await?.0);
        };
        let evidence = revocation.likely().await?;
        let (mut sealed, authority) = self.complete_with(base, &completion, evidence.validation.clone()).await?;
        // Whose timestamp it is, is known only once it is there: at the first document, and when another authority answers.
        if sealed.level == Level::Timestamped {
            let now = revocation.evidence(authority.as_ref()).await?;
            if now.is_complete && now != evidence {
                match self.complete_with(base, &completion, now.validation).await {
                    Ok((again, _)) if again.level > sealed.level => sealed = again,
                    Ok(_) => {}
                    // The first one is as good as was promised.
                    Err(error) => tracing::info!(error = format!("{error:#}"), "there is no second, better seal"),
                }
            }
        }
        if sealed.level < Level::LongTerm {
            anyhow::ensure!(!self.requires_revocation, "it cannot be shown now that no certificate is revoked");
            if self.tsa.is_some() {
                revocation.warn();
            }
        }
        Ok(sealed)
    }

    async fn complete_with(
        &self,
        base: &Bytes,
        completion: &paper::Completion,
        validation: Validation,
    ) -> anyhow::Result<(Sealed, Option<Path>)> {
        let (identity, bytes, mut options) = (Arc::clone(&self.identity), base.clone(), self.options(validation));
        let completion = completion.clone();
        if completion == paper::Completion::default() {
            options.already_signed = AlreadySigned::Preserve;
        }
        let prepare = move || paper::seal_complete(&bytes, &completion, &identity, &options);
        let unsealed = tokio::task::spawn_blocking(prepare).await.context("sealing was cut")??;
        self.finish(unsealed).await
    }
}

/// The level of a seal in the words of the domain.
#[must_use]
pub fn level(level: Level) -> SealLevel {
    match level {
        Level::Basic => SealLevel::Basic,
        Level::Timestamped => SealLevel::Timestamped,
        Level::LongTerm => SealLevel::LongTerm,
    }
}
