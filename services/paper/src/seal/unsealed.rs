//! A paper with a hole where its seal will be, and the seal put into it.
//!
//! It must never cut a signature to make it fit, and never give back one that does not hold.

use der::Encode;
use sha2::{Digest, Sha256};
use x509_cert::attr::Attributes;

use super::base::BaseDigest;
use super::dictionary::{Gap, range_text};
use super::identity::Identity;
use super::store::Places;
use super::timestamp::{self, TimestampRequest};
use super::{Algorithm, SealError};
use crate::verify::cms::{self as check, Hash};

/// How much a seal proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Level {
    /// Who sealed it and that nothing changed (PAdES B-B).
    Basic,
    /// Also when, by an authority of its own (PAdES B-T).
    Timestamped,
    /// It also brings along what shows that no certificate of the two was revoked by then (PAdES B-LT).
    LongTerm,
}

/// A paper that is ready to be sealed.
#[derive(Debug)]
pub struct Unsealed {
    base: BaseDigest,
    /// What stands between the base and the update if the base had to be written anew.
    rewritten: Option<Vec<u8>>,
    delta: Vec<u8>,
    gap: Gap,
    validation: Places,
    identity: Identity,
    attributes: Attributes,
    to_be_signed: Vec<u8>,
    content_sha256: [u8; 32],
}

/// A sealed paper, as what follows its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// How many bytes of the base come before the delta: all, or none if the paper had to be written anew.
    pub base_bytes: usize,
    /// What follows them.
    pub delta: Vec<u8>,
    /// The SHA-256 of the whole file.
    pub sha256: [u8; 32],
    /// How much the seal proves.
    pub level: Level,
}

impl Sealed {
    /// The size of the whole file.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.base_bytes + self.delta.len()
    }

    /// The whole file, given the base that was sealed.
    #[must_use]
    pub fn whole(&self, base: &[u8]) -> Vec<u8> {
        [&base[..self.base_bytes.min(base.len())], &self.delta].concat()
    }
}

impl Unsealed {
    pub(super) fn new(
        base: BaseDigest,
        mut delta: Vec<u8>,
        gap: Gap,
        identity: &Identity,
        validation: Places,
    ) -> Result<Self, SealError> {
        let opens = base.base_bytes() + gap.contents.start - 1;
        let closes = base.base_bytes() + gap.contents.end + 1;
        let range = range_text([opens, closes, base.base_bytes() + delta.len() - closes]);
        if range.len() != gap.range.len() {
            return Err(SealError::compose("the file is larger than a range can say"));
        }
        delta[gap.range.clone()].copy_from_slice(&range);
        let content_sha256 = content_sha256(&base, &delta, &gap);
        let attributes = identity.attributes(content_sha256).map_err(SealError::compose)?;
        let to_be_signed = attributes.to_der().map_err(SealError::compose)?;
        let identity = identity.clone();
        Ok(Self { base, rewritten: None, delta, gap, validation, identity, attributes, to_be_signed, content_sha256 })
    }

    /// The same where the base was not what was given, but had to be written anew.
    pub(super) fn behind(mut self, rewritten: Vec<u8>) -> Self {
        self.rewritten = Some(rewritten);
        self
    }

    /// What the key signs: hash it with the algorithm's hash, or give it to a signer who does.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// How the key has to sign it.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.identity.algorithm()
    }

    /// What to ask a timestamping authority for, once there is a signature. The nonce must not have been used before.
    ///
    /// # Errors
    ///
    /// [`SealError::Compose`] if the request cannot be written.
    pub fn timestamp_request(signature: &[u8], nonce: u64) -> Result<TimestampRequest, SealError> {
        TimestampRequest::new(Sha256::digest(signature).into(), nonce).map_err(SealError::compose)
    }

    /// Puts the signature in its place, with a timestamp of it if there is one, and checks the result.
    ///
    /// # Errors
    ///
    /// [`SealError::TooLarge`] if it does not fit, as no timestamp does unless the options asked for room, [`SealError::DoesNotHold`] if the signature is not one of the identity's
    /// key or the token not one of that signature.
    pub fn finish(mut self, signature: &[u8], timestamp: Option<&[u8]>) -> Result<Sealed, SealError> {
        let attributes = std::mem::take(&mut self.attributes);
        let cms = self.identity.cms(attributes, signature, timestamp)?;
        let room_bytes = self.gap.contents.len() / 2;
        if cms.len() > room_bytes {
            return Err(SealError::TooLarge { actual_bytes: cms.len(), max_bytes: room_bytes });
        }
        put_hex(&mut self.delta[self.gap.contents.clone()], &cms);
        let level = self.check(signature, timestamp)?;
        let sha256 = self.base.begin().chain_update(&self.delta).finalize().into();
        let (base_bytes, delta) = match self.rewritten {
            Some(mut whole) => {
                whole.extend_from_slice(&self.delta);
                (0, whole)
            }
            None => (self.base.base_bytes(), self.delta),
        };
        Ok(Sealed { base_bytes, delta, sha256, level })
    }

    /// Reads the seal back from where it was put, as a stranger would, and says how much it proves.
    fn check(&self, signature: &[u8], timestamp: Option<&[u8]>) -> Result<Level, SealError> {
        let does_not_hold = |what: &str| SealError::DoesNotHold(what.to_owned());
        let read =
            check::hex_bytes(&self.delta[self.gap.contents.clone()]).ok_or_else(|| does_not_hold("no digits"))?;
        let content = content_sha256(&self.base, &self.delta, &self.gap);
        let opened = check::SignedContent::open(&read).map_err(|fault| SealError::DoesNotHold(fault.to_string()))?;
        opened
            .check(|hash| if hash == Hash::Sha256 { content.to_vec() } else { Vec::new() })
            .map_err(|fault| SealError::DoesNotHold(fault.to_string()))?;
        if content != self.content_sha256 || opened.signer() != self.identity.leaf() {
            return Err(does_not_hold("it is not about this file or not by this certificate"));
        }
        let Some(token) = timestamp else { return Ok(Level::Basic) };
        let token = timestamp::check(token, &Sha256::digest(signature), None)
            .map_err(|fault| does_not_hold(&fault.to_string()))?;
        let (proof, at_unix_s) = (self.validation.read(&self.delta), token.at_unix_s());
        let is_shown = proof.covers(opened.signer(), opened.certificates(), at_unix_s)
            && proof.covers(token.authority(), token.certificates(), at_unix_s);
        Ok(if is_shown { Level::LongTerm } else { Level::Timestamped })
    }
}

/// The hash of everything but the hole.
fn content_sha256(base: &BaseDigest, delta: &[u8], gap: &Gap) -> [u8; 32] {
    let (before, after) = (&delta[..gap.contents.start - 1], &delta[gap.contents.end + 1..]);
    let hash: Sha256 = base.begin().chain_update(before).chain_update(after);
    hash.finalize().into()
}

fn put_hex(hole: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (digits, byte) in hole.chunks_exact_mut(2).zip(bytes) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
}
