//! The issuer's keys, and which of them a token is to be checked with. Takes in public keys for signatures alone; what it
//! does not know it passes over, as RFC 7517 asks.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::token::{Token, algorithm};

/// Keys in a set.
pub(super) const KEYS_MAX: usize = 100;
/// Size of an RSA key, in bits: less is weak (RFC 7518, section 3.3), more is slow and not taken by the crate.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;
/// Longest public exponent of an RSA key, in octets.
const RSA_EXPONENT_BYTES_MAX: usize = 4;
/// Length of an Ed25519 key, in octets.
const ED25519_BYTES: usize = 32;

/// For which algorithms a key is good by its kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn fits(self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        match self {
            Self::Rsa => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            Self::P256 => algorithm == ES256,
            Self::P384 => algorithm == ES384,
            Self::Ed25519 => algorithm == EdDSA,
        }
    }
}

/// A key of the issuer.
pub(super) struct Key {
    id: Option<String>,
    kind: Kind,
    /// The one algorithm for which the issuer means it, if it says so.
    only: Option<Algorithm>,
    public: DecodingKey,
}

impl Key {
    /// The key that a member of the set describes, if it is one for checking signatures that we know.
    fn parse(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if jwk.get("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations.as_array()?.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let only = match jwk.get("alg") {
            None => None,
            Some(name) => Some(algorithm(name.as_str()?)?),
        };
        let id = match jwk.get("kid") {
            None => None,
            Some(id) => Some(id.as_str()?.to_owned()),
        };
        // The crate looks at neither curve nor length, and an Ed25519 key that is too short makes it panic.
        let (kind, public) = match (text("kty")?, text("crv")) {
            ("RSA", _) => (Kind::Rsa, rsa(text("n")?, text("e")?)?),
            ("EC", Some("P-256")) => (Kind::P256, point(text("x")?, text("y")?, 32)?),
            ("EC", Some("P-384")) => (Kind::P384, point(text("x")?, text("y")?, 48)?),
            ("OKP", Some("Ed25519")) => {
                let public = decode(text("x")?).filter(|public| public.len() == ED25519_BYTES)?;
                (Kind::Ed25519, DecodingKey::from_ed_der(&public))
            }
            _ => return None,
        };
        Some(Self { id, kind, only, public })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.kind.fits(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    /// True if this key signed `message` by `algorithm`.
    pub fn signed(&self, message: &[u8], signature: &str, algorithm: Algorithm) -> bool {
        // An error is a key or a signature that makes no sense: as good as a wrong one.
        self.fits(algorithm)
            && jsonwebtoken::crypto::verify(signature, message, &self.public, algorithm).unwrap_or(false)
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn rsa(modulus: &str, exponent: &str) -> Option<DecodingKey> {
    let (modulus, exponent) = (decode(modulus)?, decode(exponent)?);
    let leading = modulus.iter().position(|byte| *byte != 0)?;
    let bits = (modulus.len() - leading) * 8 - modulus.get(leading)?.leading_zeros() as usize;
    let odd = exponent.last().is_some_and(|last| last % 2 == 1);
    // With an exponent of 1 every message is its own signature.
    let one = exponent.iter().rev().skip(1).all(|byte| *byte == 0) && exponent.last() == Some(&1);
    let good = RSA_BITS.contains(&bits) && exponent.len() <= RSA_EXPONENT_BYTES_MAX && odd && !one;
    good.then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn point(x: &str, y: &str, length: usize) -> Option<DecodingKey> {
    let (x, y) = (decode(x)?, decode(y)?);
    // As SEC 1 writes an uncompressed point.
    let octets = [&[4], x.as_slice(), y.as_slice()].concat();
    (x.len() == length && y.len() == length).then(|| DecodingKey::from_ec_der(&octets))
}

/// What was found for a token.
pub(super) enum Found {
    /// The key to check it with.
    Key(Arc<Key>),
    /// No key has the name that the token gives, or, where it gives none, none fits: there may be newer ones.
    Unknown,
    /// None that may be used, and newer ones would change nothing.
    Unfit(&'static str),
}

/// The issuer's keys.
pub(super) struct KeySet(Vec<Arc<Key>>);

impl KeySet {
    /// The keys of a JWK set, or what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, &'static str> {
        let set: Value = serde_json::from_slice(json).map_err(|_| "the keys are not JSON")?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("the keys are not a JWK set")?;
        if keys.len() > KEYS_MAX {
            return Err("there are more keys than are taken");
        }
        Ok(Self(keys.iter().filter_map(Key::parse).map(Arc::new).collect()))
    }

    /// The key for `token`: the one of its name and kind, or the only one of its kind if it gives no name.
    pub fn find(&self, token: &Token<'_>) -> Found {
        let named = || self.0.iter().filter(|key| token.key_id.is_none() || key.id == token.key_id);
        let mut fitting = named().filter(|key| key.fits(token.algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Found::Key(Arc::clone(key)),
            (Some(_), Some(_)) => Found::Unfit("The token does not say which of the issuer's keys signed it."),
            (None, _) if token.key_id.is_some() && named().next().is_some() => {
                Found::Unfit("The token's algorithm does not fit its key.")
            }
            (None, _) => Found::Unknown,
        }
    }
}
