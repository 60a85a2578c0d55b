//! Tokens of an issuer that runs here: what is believed of them, what is not, and how often the issuer is asked. Never
//! reaches beyond this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod issuer;
mod keys;
mod random;
mod signer;
mod tokens;

use chrono::{DateTime, Utc};
use countersign_chassis::clock::Clock;
use countersign_envelope::oidc::{Identity, Oidc, OidcConfig, Rejected};
use serde_json::{Value, json};

use crate::issuer::Issuer;

const AUDIENCE: &str = "https://countersign.example.com";
const ACCOUNT: &str = "acc_01h455vb4pex5vsknk084sn02q";
/// When the clock of a test starts, in seconds.
const START: i64 = 1_800_000_000;

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(START, 0).unwrap()
}

fn config(issuer: &Issuer) -> OidcConfig {
    OidcConfig { oidc_issuer: Some(issuer.url.clone()), oidc_audience: Some(AUDIENCE.into()), ..OidcConfig::default() }
}

/// Who verifies the tokens of `issuer`, and the clock to move.
fn verifier(issuer: &Issuer) -> (Oidc, Clock) {
    verifier_by(&config(issuer))
}

fn verifier_by(config: &OidcConfig) -> (Oidc, Clock) {
    countersign_chassis::grpc::install_tls_provider();
    let clock = Clock::manual(start());
    (Oidc::new(config, clock.clone()).unwrap().unwrap(), clock)
}

/// Claims that are believed.
fn claims(issuer: &Issuer) -> Value {
    json!({
        "iss": issuer.url,
        "aud": AUDIENCE,
        "sub": "billing-service",
        "exp": START + 300,
        "iat": START,
        "countersign_account": ACCOUNT,
        "scope": "envelopes.read envelopes.write",
    })
}

/// The answer for a token, after a look at whether it quotes any of it.
async fn verify(oidc: &Oidc, token: &str) -> Result<Identity, Rejected> {
    let answer = oidc.verify(token).await;
    if let Err(rejected) = &answer {
        let said = format!("{rejected} {rejected:?}");
        for part in token.split('.').filter(|part| part.len() > 3) {
            assert!(!said.contains(part), "{said} quotes {part}");
        }
        for secret in ["billing-service", ACCOUNT, "mallory"] {
            assert!(!said.contains(secret), "{said} quotes {secret}");
        }
    }
    answer
}

async fn refused(oidc: &Oidc, token: &str) -> &'static str {
    match verify(oidc, token).await {
        Err(Rejected::Invalid(reason)) => reason,
        Err(Rejected::Unavailable) => panic!("the keys are out of reach"),
        Ok(_) => panic!("believed: {token}"),
    }
}
