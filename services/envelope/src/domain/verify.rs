//! Whether a history is what was written.

use super::envelope::Digest;
use super::id::EnvelopeId;
use super::particulars::commit;
use super::personal::Salt;
use super::record::{Record, link};

/// A stored event as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub sequence: u64,
    /// The record.
    pub record: Vec<u8>,
    /// The hash of the event before, as stored.
    pub prev_hash: Digest,
    /// Its hash, as stored.
    pub hash: Digest,
    /// What is personal about it with its salt, unless it was erased.
    pub kept: Option<(Salt, Vec<u8>)>,
}

/// What is wrong with an entry. The numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flaw {
    /// It is missing.
    Missing = 1,
    /// It does not follow the entry before.
    Unlinked = 2,
    /// Its bytes are not those that were hashed.
    Changed = 3,
    /// Its record says that it belongs elsewhere, or cannot be read.
    Misplaced = 4,
    /// What is personal about it is not what was committed to.
    ParticularsChanged = 5,
    /// The envelope's own mark of its last event is another.
    Head = 6,
}

/// Follows a chain from its beginning.
#[derive(Clone, Debug)]
pub struct Verifier {
    envelope: EnvelopeId,
    sequence: u64,
    hash: Digest,
}

impl Verifier {
    /// Before the first entry of an envelope.
    #[must_use]
    pub fn new(envelope: EnvelopeId) -> Self {
        Self { envelope, sequence: 0, hash: [0; 32] }
    }

    /// Entries that were right so far.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The hash of the last of them.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// Checks the next entry.
    pub fn follow(&mut self, entry: &Entry) -> Result<(), Flaw> {
        let sequence = self.sequence + 1;
        if entry.sequence != sequence {
            return Err(Flaw::Missing);
        }
        if entry.prev_hash != self.hash {
            return Err(Flaw::Unlinked);
        }
        if entry.hash != link(sequence, &entry.prev_hash, &entry.record) {
            return Err(Flaw::Changed);
        }
        let record: Record = serde_json::from_slice(&entry.record).map_err(|_| Flaw::Misplaced)?;
        if record.sequence != sequence || record.envelope != self.envelope {
            return Err(Flaw::Misplaced);
        }
        let promised = record.evidence.and_then(|evidence| evidence.particulars);
        let kept = entry.kept.as_ref().map(|(salt, bytes)| commit(salt, bytes));
        if kept.is_some() && kept != promised {
            return Err(Flaw::ParticularsChanged);
        }
        (self.sequence, self.hash) = (sequence, entry.hash);
        Ok(())
    }

    /// Checks that the last entry is the one that the envelope knows as its last.
    pub fn finish(&self, sequence: u64, chain: &Digest) -> Result<(), Flaw> {
        if self.sequence < sequence {
            Err(Flaw::Missing)
        } else if self.sequence == sequence && self.hash == *chain {
            Ok(())
        } else {
            Err(Flaw::Head)
        }
    }
}
