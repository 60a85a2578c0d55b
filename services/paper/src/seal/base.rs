//! What is known of the bytes of a base, so that sealing it needs none of them again.
//!
//! It must never say more than the bytes do: whoever keeps it keeps it beside the base's own hash.

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};

/// The hash of a base that can go on with what follows it.
#[derive(Clone)]
pub struct BaseDigest {
    state: Sha256,
    base_bytes: usize,
    ends_line: bool,
}

const LENGTH_BYTES: usize = 8;

impl BaseDigest {
    /// Of those bytes.
    #[must_use]
    pub fn of(base: &[u8]) -> Self {
        Self { state: Sha256::new_with_prefix(base), base_bytes: base.len(), ends_line: base.ends_with(b"\n") }
    }

    /// The hash of the base itself.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.state.clone().finalize().into()
    }

    /// How long the base is.
    #[must_use]
    pub fn base_bytes(&self) -> usize {
        self.base_bytes
    }

    pub(super) fn ends_line(&self) -> bool {
        self.ends_line
    }

    /// A hash that goes on behind the base.
    pub(super) fn begin(&self) -> Sha256 {
        self.state.clone()
    }

    /// As a few hundred bytes to keep.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = (self.base_bytes as u64).to_be_bytes().to_vec();
        bytes.push(u8::from(self.ends_line));
        bytes.extend_from_slice(&self.state.serialize());
        bytes
    }

    /// From what [`Self::to_bytes`] gave.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_at_checked(LENGTH_BYTES)?;
        let (ends_line, state) = rest.split_first()?;
        let base_bytes = usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?;
        let state = SerializedState::<Sha256>::try_from(state).ok()?;
        Some(Self { state: Sha256::deserialize(&state).ok()?, base_bytes, ends_line: *ends_line == 1 })
    }
}

impl std::fmt::Debug for BaseDigest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BaseDigest").field("base_bytes", &self.base_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_kept_digest_goes_on_where_it_was() {
        let base: Vec<u8> = (0..=255).cycle().take(1_003).collect();
        let kept = BaseDigest::from_bytes(&BaseDigest::of(&base).to_bytes()).unwrap();
        assert_eq!((kept.base_bytes(), kept.ends_line(), kept.sha256()), (1_003, false, Sha256::digest(&base).into()));
        let whole = [&base[..], b"and more"].concat();
        assert_eq!(kept.begin().chain_update(b"and more").finalize(), Sha256::digest(whole));
        assert!(BaseDigest::from_bytes(&BaseDigest::of(&base).to_bytes()[1..]).is_none());
    }
}
