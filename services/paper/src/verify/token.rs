//! Reads and checks a timestamp token (RFC 3161).
//!
//! It must never believe a token whose certificate was not made for timestamps.

use der::asn1::{Any, ObjectIdentifier, OctetString, Uint};
use der::{Reader, Sequence, SliceReader, Tag, Tagged};
use x509_cert::Certificate;
use x509_cert::ext::pkix::ExtendedKeyUsage;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::cms::{Hash, SignedContent};
use super::{Fault, oid};

/// What is wrong with a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum TokenFault {
    /// The authority did not grant it; the status that it gave.
    #[error("the authority did not grant a timestamp: status {0}")]
    Rejected(u32),
    /// It cannot be read.
    #[error("the timestamp is unreadable")]
    Unreadable,
    /// It has more bytes than the 16 KiB for which there is room.
    #[error("the timestamp has {0} bytes, and there is room for 16384")]
    TooLarge(usize),
    /// It is about something else.
    #[error("the timestamp is about something else")]
    Imprint,
    /// It answers another request.
    #[error("the timestamp answers another request")]
    Nonce,
    /// Its certificate is not for timestamps and nothing else, or was not valid at that time.
    #[error("the timestamp's certificate is not one for timestamps")]
    Certificate,
    /// It says another time than it was asked for at.
    #[error("the timestamp's time is more than five minutes from ours")]
    Time,
    /// Its certificate leads to none that is trusted.
    #[error("the timestamp's certificate leads to no CA that is trusted")]
    Untrusted,
    /// Its signature does not hold.
    #[error("the timestamp's signature does not hold: {0}")]
    Signature(Fault),
}

/// What a token is about.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(crate) struct Imprint {
    pub(crate) hash_algorithm: AlgorithmIdentifierOwned,
    pub(crate) hashed_message: OctetString,
}

/// A token that was read but not yet checked.
#[derive(Debug)]
pub(crate) struct Token {
    signed: SignedContent,
    content: OctetString,
    imprint: Imprint,
    at_unix_s: u64,
    nonce: Option<Vec<u8>>,
}

impl Token {
    pub(crate) fn open(bytes: &[u8]) -> Result<Self, TokenFault> {
        let signed = SignedContent::open(bytes).map_err(|_| TokenFault::Unreadable)?;
        let content = signed.own_content().filter(|_| signed.content_type() == oid::TSTINFO);
        let content = content.ok_or(TokenFault::Unreadable)?;
        let (imprint, at_unix_s, nonce) = info(content.as_bytes()).ok_or(TokenFault::Unreadable)?;
        Ok(Self { signed, content, imprint, at_unix_s, nonce })
    }

    pub(crate) fn at_unix_s(&self) -> u64 {
        self.at_unix_s
    }

    pub(crate) fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    pub(crate) fn authority(&self) -> &Certificate {
        self.signed.signer()
    }

    pub(crate) fn certificates(&self) -> &[Certificate] {
        self.signed.certificates()
    }

    /// Whether it holds and is about what has that hash.
    pub(crate) fn check(&self, stamped_hash: impl Fn(Hash) -> Vec<u8>) -> Result<(), TokenFault> {
        let hash = Hash::named(self.imprint.hash_algorithm.oid).ok_or(TokenFault::Imprint)?;
        if self.imprint.hashed_message.as_bytes() != stamped_hash(hash) {
            return Err(TokenFault::Imprint);
        }
        self.signed.check(|hash| hash.of(&[self.content.as_bytes()])).map_err(TokenFault::Signature)?;
        if is_for_timestamps(self.authority(), self.at_unix_s) { Ok(()) } else { Err(TokenFault::Certificate) }
    }
}

fn is_for_timestamps(certificate: &Certificate, at_unix_s: u64) -> bool {
    let own = &certificate.tbs_certificate;
    let purposes = own.get::<ExtendedKeyUsage>().ok().flatten();
    let only_timestamps = purposes.is_some_and(|(critical, usage)| critical && usage.0 == [oid::TIME_STAMPING]);
    let validity = &own.validity;
    let since = validity.not_before.to_unix_duration().as_secs();
    only_timestamps && (since..=validity.not_after.to_unix_duration().as_secs()).contains(&at_unix_s)
}

/// The imprint, the time and the nonce of what is signed.
fn info(bytes: &[u8]) -> Option<(Imprint, u64, Option<Vec<u8>>)> {
    const VERSION: u8 = 1;
    let mut reader = SliceReader::new(bytes).ok()?;
    let parts = reader.sequence(|inner| {
        let version: u8 = inner.decode()?;
        let _policy: ObjectIdentifier = inner.decode()?;
        let imprint: Imprint = inner.decode()?;
        let _serial: Any = inner.decode()?;
        let at: Any = inner.decode()?;
        let mut nonce = None;
        while !inner.is_finished() {
            let next: Any = inner.decode()?;
            if next.tag() == Tag::Integer {
                nonce = Some(next.decode_as::<Uint>()?.as_bytes().to_vec());
            }
        }
        Ok((version, imprint, at, nonce))
    });
    let (version, imprint, at, nonce) = parts.ok()?;
    reader.finish(()).ok()?;
    let is_time = at.tag() == Tag::GeneralizedTime;
    let at = at_unix_s(at.value()).filter(|_| is_time && version == VERSION)?;
    Some((imprint, at, nonce))
}

/// `YYYYMMDDhhmmss[.fraction]Z`; the type of the library knows no fractions.
fn at_unix_s(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let part = |from: usize, to: usize| whole[from..to].parse::<u16>().ok();
    let small = |from: usize| part(from, from + 2).and_then(|part| u8::try_from(part).ok());
    let at = der::DateTime::new(part(0, 4)?, small(4)?, small(6)?, small(8)?, small(10)?, small(12)?).ok()?;
    Some(at.unix_duration().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_fractions_are_read() {
        assert_eq!(at_unix_s(b"20261121175338Z"), Some(1_795_283_618));
        assert_eq!(at_unix_s(b"20261121175338.25Z"), Some(1_795_283_618));
        for wrong in [&b"20261121175338"[..], b"20261321175338Z", b"2026112117533Z", b"20261121175338.x5Z", b"Z"] {
            assert_eq!(at_unix_s(wrong), None);
        }
    }
}
