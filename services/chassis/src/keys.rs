//! Keys derived from a master key that lives outside the database, and the HMAC over them; and rings of such keys, so that the
//! master key can be changed while what was made under the one before is still understood.
//!
//! Secrets are never shown: no `Debug`, no `Display`.

use std::fmt;

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Length of the master key and of all derived keys.
pub const KEY_BYTES: usize = 32;
/// Length of a fingerprint.
pub const FINGERPRINT_BYTES: usize = 8;

/// A key for one purpose.
pub struct Key(SecretBox<[u8; KEY_BYTES]>);

impl Key {
    /// Reads the master key from its 64 hexadecimal digits.
    pub fn master(text: &SecretString) -> anyhow::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        hex::decode_to_slice(text.expose_secret().trim(), &mut bytes).ok().context("must be 64 hexadecimal digits")?;
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

    /// The name of a master key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut name = [0; FINGERPRINT_BYTES];
        name.copy_from_slice(&self.derive("fingerprint").0.expose_secret()[..FINGERPRINT_BYTES]);
        Fingerprint(i64::from_be_bytes(name))
    }
}

/// Names a master key and tells nothing of it: it may be kept, logged and shown. A number, as the database has one of that size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub i64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// The master key and those that were it before, or what is derived from each of them for one purpose. By the first everything new
/// is made; what was made by any of them is understood.
pub struct Ring {
    first: Key,
    former: Vec<Key>,
}

impl From<Key> for Ring {
    fn from(first: Key) -> Self {
        Self { first, former: Vec::new() }
    }
}

impl Ring {
    /// Of the master key and former ones, which must all be different.
    #[must_use]
    pub fn new(first: Key, former: Vec<Key>) -> Self {
        Self { first, former }
    }

    /// The keys for a purpose, in the same order.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        Self { first: self.first.derive(purpose), former: self.former.iter().map(|key| key.derive(purpose)).collect() }
    }

    /// By which everything new is made.
    #[must_use]
    pub fn current(&self) -> &Key {
        &self.first
    }

    /// By which things were made, in the order of the setting.
    #[must_use]
    pub fn former(&self) -> &[Key] {
        &self.former
    }

    /// All, the first first: what is looked for is most often there, and then nothing is computed by the others.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.former)
    }

    /// Says by their names which master keys are there, for those who rotate them.
    pub fn tell(&self) {
        let former: Vec<_> = self.former.iter().map(Key::fingerprint).collect();
        tracing::info!(first = self.first.fingerprint().to_string(), former = format!("{former:?}"), "master keys");
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(byte: &str) -> Key {
        Key::master(&byte.repeat(32).into()).unwrap()
    }

    #[test]
    fn a_ring_derives_in_order_and_begins_with_the_first() {
        let ring = Ring::new(key("07"), vec![key("08"), key("09")]).derive("purpose");
        let macs: Vec<_> = ring.iter().map(|key| key.mac(&[b"x"])).collect();
        let expected = ["07", "08", "09"].map(|byte| key(byte).derive("purpose").mac(&[b"x"]));
        assert_eq!(macs, expected);
        assert_eq!(ring.current().mac(&[b"x"]), expected[0]);
        assert_eq!(ring.former().len(), 2);
    }

    #[test]
    fn a_fingerprint_names_one_key_and_is_no_part_of_it() {
        let names = ["07", "08"].map(|byte| key(byte).fingerprint());
        assert_eq!(names[0], key("07").fingerprint());
        assert_ne!(names[0], names[1]);
        assert_eq!(names[0].to_string().len(), 16);
        assert!(!"07".repeat(32).contains(&names[0].to_string()));
        assert_eq!(Fingerprint(-1).to_string(), "ffffffffffffffff");
    }
}
