//! Callers who come with a JWT of an OpenID Connect issuer in place of an API key.
//!
//! A token is believed for its signature by a key that the issuer publishes, and for the claims under it; never for a key,
//! an address or an algorithm that it brings along. What is wrong with one is said in fixed texts: no part of a token
//! reaches an answer or a log. How long an issuer lets its tokens live is its own affair: `exp` is all that counts here,
//! so a token that was taken back goes on until then.

mod jwks;
mod source;
mod token;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::Args;
use countersign_chassis::clock::Clock;

use self::source::Source;
use self::token::{Expected, Token};
use crate::domain::id::{AccountId, KeyId};

/// Longest setting, in octets.
const SETTING_BYTES_MAX: usize = 2_048;

/// Name of the claim that bears the account, unless another is set.
const ACCOUNT_CLAIM: &str = "countersign_account";
/// Name of the claim that bears the mode, unless another is set.
const MODE_CLAIM: &str = "countersign_livemode";

/// Whose tokens are believed. Nobody's without an issuer.
#[derive(Args, Clone, Debug)]
pub struct OidcConfig {
    /// Issuer whose JWTs are believed besides API keys, exactly as in the claim `iss`. Its keys are found by discovery.
    #[arg(long, env = "COUNTERSIGN_OIDC_ISSUER")]
    pub oidc_issuer: Option<String>,
    /// What a JWT's claim `aud` has to name: this service, and nothing else. Needed with an issuer.
    #[arg(long, env = "COUNTERSIGN_OIDC_AUDIENCE")]
    pub oidc_audience: Option<String>,
    /// Address of the issuer's keys, in place of discovery.
    #[arg(long, env = "COUNTERSIGN_OIDC_JWKS_URL")]
    pub oidc_jwks_url: Option<String>,
    /// Claim that bears the account for which a caller acts, as `acc_…`.
    #[arg(long, env = "COUNTERSIGN_OIDC_ACCOUNT_CLAIM", default_value = ACCOUNT_CLAIM)]
    pub oidc_account_claim: String,
    /// Claim that is `true` where a caller acts in live mode. Without the claim they act in test mode.
    #[arg(long, env = "COUNTERSIGN_OIDC_MODE_CLAIM", default_value = MODE_CLAIM)]
    pub oidc_mode_claim: String,
}

impl Default for OidcConfig {
    fn default() -> Self {
        Self {
            oidc_issuer: None,
            oidc_audience: None,
            oidc_jwks_url: None,
            oidc_account_claim: ACCOUNT_CLAIM.to_owned(),
            oidc_mode_claim: MODE_CLAIM.to_owned(),
        }
    }
}

/// What a believed token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Account for which the caller acts.
    pub account: AccountId,
    /// The mode in which they act; test mode unless the token says otherwise.
    pub livemode: bool,
    /// What they may do, as the token names it.
    pub scopes: BTreeSet<String>,
    /// Pseudonym by which histories and rate limits know the caller: always the same for a subject of an issuer.
    pub key: KeyId,
    /// When the token ends, the leeway for clocks included.
    pub expires_at: DateTime<Utc>,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// For this, which is one of a few fixed texts.
    #[error("{0}")]
    Invalid(&'static str),
    /// The issuer's keys are out of reach, so that nothing is known of the token.
    #[error("The issuer's keys cannot be reached.")]
    Unavailable,
}

/// Verifies tokens. Clones share the keys.
#[derive(Clone)]
pub struct Oidc {
    expected: Arc<Expected>,
    source: Arc<Source>,
    clock: Clock,
}

impl Oidc {
    /// By these settings and by `clock`; `None` if no issuer is set. Reaches for nothing yet. The TLS provider of the
    /// process has to be installed.
    pub fn new(config: &OidcConfig, clock: Clock) -> anyhow::Result<Option<Self>> {
        let Some(issuer) = set(config.oidc_issuer.as_deref()) else { return Ok(None) };
        let audience = set(config.oidc_audience.as_deref()).context(
            "COUNTERSIGN_OIDC_ISSUER is set, so COUNTERSIGN_OIDC_AUDIENCE is needed: what `aud` has to name",
        )?;
        let claims = [&config.oidc_account_claim, &config.oidc_mode_claim];
        anyhow::ensure!(claims.iter().all(|name| !name.is_empty()), "the name of a claim must not be empty");
        anyhow::ensure!(claims[0] != claims[1], "the account and the mode need claims of their own");
        let jwks_url = set(config.oidc_jwks_url.as_deref());
        let sizes = [Some(issuer), Some(audience), jwks_url, Some(claims[0]), Some(claims[1])];
        let fit = sizes.iter().flatten().all(|text| text.len() <= SETTING_BYTES_MAX);
        anyhow::ensure!(fit, "a setting of COUNTERSIGN_OIDC_… is longer than {SETTING_BYTES_MAX} octets");
        let source = Source::new(issuer, jwks_url, clock.clone())?;
        let expected = Expected {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            account_claim: config.oidc_account_claim.clone(),
            mode_claim: config.oidc_mode_claim.clone(),
        };
        Ok(Some(Self { expected: Arc::new(expected), source: Arc::new(source), clock }))
    }

    /// Who comes with `token`, or why it is not believed.
    ///
    /// The issuer's name is looked at first, so that tokens of others never send us for keys; all else counts only
    /// once the signature does.
    pub async fn verify(&self, token: &str) -> Result<Identity, Rejected> {
        let token = Token::parse(token).map_err(Rejected::Invalid)?;
        self.expected.issued(&token).map_err(Rejected::Invalid)?;
        let key = self.source.key(&token).await?;
        if !key.signed(token.message, token.signature, token.algorithm) {
            return Err(Rejected::Invalid("The token's signature is wrong."));
        }
        self.expected.identity(&token, self.clock.now()).map_err(Rejected::Invalid)
    }
}

/// A setting that is there: an empty one counts as none, as deployments pass them on.
fn set(setting: Option<&str>) -> Option<&str> {
    setting.filter(|text| !text.is_empty())
}
