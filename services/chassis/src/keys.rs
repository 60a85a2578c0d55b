//! Keys derived from one master key that lives outside the database, and the HMAC over them.
//!
//! Secrets are never shown: no `Debug`, no `Display`.

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Length of the master key and of all derived keys.
pub const KEY_BYTES: usize = 32;

/// A key for one purpose.
pub struct Key(SecretBox<[u8; KEY_BYTES]>);

impl Key {
    /// Reads the master key from its 64 hexadecimal digits.
    pub fn master(text: &SecretString) -> anyhow::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        hex::decode_to_slice(text.expose_secret().trim(), &mut bytes)
            .ok()
            .context("the master key must be 64 hexadecimal digits")?;
        Ok(Self(SecretBox::new(Box::new(bytes))))
    }

    /// The key for a purpose: HMAC-SHA256 of its name. A key for one purpose says nothing about another's.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        Self(SecretBox::new(Box::new(self.mac(&[b"countersign/", purpose.as_bytes()]))))
    }

    /// HMAC-SHA256 over the parts, each preceded by its length so that no two lists of parts look alike.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        // HMAC takes keys of any length, so this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose_secret()) else { return [0; 32] };
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Compares without telling by its duration where the difference lies.
#[must_use]
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// Random bytes from the operating system.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    rand::random()
}
