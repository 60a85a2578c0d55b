//! What a token says of itself, and what of it is believed. Reads; never fetches and never checks a signature.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::keys::sha256;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use uuid::Builder;

use super::Identity;
use crate::domain::id::{AccountId, KeyId};

/// Longest token, in octets.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest subject, in characters (OpenID Connect Core, section 2).
const SUBJECT_CHARS_MAX: usize = 255;
/// By how much the clocks of the issuer and of ours may differ.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// What a header may call the token (RFC 7519 and RFC 9068).
const TYPES: [&str; 2] = ["JWT", "at+jwt"];

/// What is not three parts of base64url with JSON objects in the first two.
const MALFORMED: &str = "The token is not a JWT.";

/// A token, of which nothing is believed yet.
pub(super) struct Token<'a> {
    /// What is signed.
    pub message: &'a [u8],
    /// The signature, as it came.
    pub signature: &'a str,
    /// With what it claims to be signed: one of those we allow.
    pub algorithm: Algorithm,
    /// Name of the key with which it claims to be signed.
    pub key_id: Option<String>,
    claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Takes it apart.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err("The token is longer than 8192 octets.");
        }
        let (message, signature) = text.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, claims) = message.split_once('.').ok_or(MALFORMED)?;
        let header = object(header).ok_or(MALFORMED)?;
        let claims = object(claims).ok_or(MALFORMED)?;
        // Whatever else the header brings (`jwk`, `jku`, `x5c`, …) is not even looked at.
        if header.contains_key("crit") {
            return Err("The token asks for an extension that is not known here.");
        }
        if let Some(kind) = header.get("typ")
            && !kind.as_str().is_some_and(is_known_type)
        {
            return Err("The token is not of the type JWT or at+jwt.");
        }
        let name = header.get("alg").and_then(Value::as_str);
        let algorithm = name.and_then(algorithm).ok_or("The token's algorithm is not allowed.")?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(key_id)) => Some(key_id.clone()),
            Some(_) => return Err(MALFORMED),
        };
        Ok(Self { message: message.as_bytes(), signature, algorithm, key_id, claims })
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

fn is_known_type(kind: &str) -> bool {
    // RFC 7515, section 4.1.9: names are media types, from which `application/` may be left off.
    let short = match kind.split_at_checked("application/".len()) {
        Some((front, rest)) if front.eq_ignore_ascii_case("application/") => rest,
        _ => kind,
    };
    TYPES.iter().any(|known| short.eq_ignore_ascii_case(known))
}

/// The algorithms that are allowed: signatures alone. A shared secret (HS…) could be the text of a public key, and `none`
/// is none.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// What a token has to say to be believed.
pub(super) struct Expected {
    pub issuer: String,
    pub audience: String,
    pub account_claim: String,
    pub mode_claim: String,
}

impl Expected {
    /// That it claims to be the issuer's.
    pub fn issued(&self, token: &Token<'_>) -> Result<(), &'static str> {
        let issuer = token.claims.get("iss").and_then(Value::as_str);
        if issuer == Some(&self.issuer) { Ok(()) } else { Err("The token is of another issuer.") }
    }

    /// Who comes with it at `now`. For a token whose signature is right.
    pub fn identity(&self, token: &Token<'_>, now: DateTime<Utc>) -> Result<Identity, &'static str> {
        self.issued(token)?;
        let claims = &token.claims;
        if !names(claims.get("aud"), &self.audience) {
            return Err("The token is for another audience.");
        }
        let expires_at = time(claims.get("exp").ok_or("The token has no expiry.")?);
        let expires_at = expires_at.ok_or("The token's expiry is not a time.")?;
        if now - LEEWAY >= expires_at {
            return Err("The token has expired.");
        }
        if let Some(not_before) = claims.get("nbf") {
            let not_before = time(not_before).ok_or("The token's beginning is not a time.")?;
            if now + LEEWAY < not_before {
                return Err("The token is not valid yet.");
            }
        }
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if subject.is_empty() || subject.chars().count() > SUBJECT_CHARS_MAX {
            return Err("The token needs a subject of 1 to 255 characters.");
        }
        let account = claims.get(&self.account_claim).ok_or("The token names no account.")?;
        let account = account.as_str().and_then(|account| account.parse::<AccountId>().ok());
        let account = account.ok_or("The token's account is not the id of an account.")?;
        let livemode = match claims.get(&self.mode_claim) {
            None => false,
            Some(Value::Bool(livemode)) => *livemode,
            Some(_) => return Err("The token's mode is neither true nor false."),
        };
        let scopes = scopes(claims)?;
        Ok(Identity {
            account,
            livemode,
            scopes,
            key: pseudonym(&self.issuer, subject),
            expires_at: expires_at + LEEWAY,
        })
    }
}

/// True if `aud` is `audience` or a list that has it.
fn names(aud: Option<&Value>, audience: &str) -> bool {
    match aud {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// A NumericDate (RFC 7519, section 2): seconds, perhaps with a fraction, which is dropped.
fn time(value: &Value) -> Option<DateTime<Utc>> {
    // A float beyond the bounds of i64 becomes its bound, for which there is no date.
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64))?;
    DateTime::from_timestamp(seconds, 0)
}

/// `scope` (RFC 9068), or else `scp`, as some issuers have it. Duplicates are one.
fn scopes(claims: &Map<String, Value>) -> Result<BTreeSet<String>, &'static str> {
    const UNREADABLE: &str = "The token's scopes cannot be read.";
    let split = |text: &str| text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    match (claims.get("scope"), claims.get("scp")) {
        (Some(Value::String(text)), _) | (None, Some(Value::String(text))) => Ok(split(text)),
        (None, Some(Value::Array(list))) => {
            list.iter().map(|scope| scope.as_str().map(str::to_owned).ok_or(UNREADABLE)).collect()
        }
        (None, None) => Ok(BTreeSet::new()),
        _ => Err(UNREADABLE),
    }
}

/// The key by which a subject is known: UUIDv8 of a hash, so that it is never one of our own keys (UUIDv7) and does not
/// say who it is.
fn pseudonym(issuer: &str, subject: &str) -> KeyId {
    let mut named = Vec::with_capacity(16 + issuer.len() + subject.len());
    for part in [issuer, subject] {
        // With the lengths no other pair makes the same octets.
        named.extend_from_slice(&(part.len() as u64).to_be_bytes());
        named.extend_from_slice(part.as_bytes());
    }
    let digest = sha256(&named);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    KeyId::from_uuid(Builder::from_custom_bytes(bytes).into_uuid())
}
