//! Documents under encryption: the ring of keys, and the form in which a document lies in a store.
//!
//! `header ‖ chunks ‖ trailer`. Each document has a key of its own, derived from the ring's key and the salt in its header; 64 KiB
//! chunks are sealed with AES-256-GCM under their number and whether they are the last, so that any of them can be read
//! alone and none can be cut off, moved or taken from another document. The trailer binds all of it to the document's
//! SHA-256, which nobody knows before the last byte has come. Must never show a key.

use std::collections::BTreeSet;

use bytes::{BufMut as _, BytesMut};
use countersign_chassis::config::SettingError;
use countersign_chassis::keys::random;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};

use crate::domain::envelope::Digest;

/// What a chunk holds before it is sealed.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// What sealing adds to a chunk.
pub(super) const TAG_BYTES: usize = 16;
/// What stands before the chunks: a mark, the key's id and the salt.
pub(super) const HEADER_BYTES: usize = 64;
/// A chunk as it is stored.
pub(super) const SEALED_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

const MARK: [u8; 6] = *b"CSDOC\x01";
/// Where the salt begins.
const SALT_AT: usize = 32;
const ID_CHARS_MAX: usize = SALT_AT - MARK.len() - 1;
const KEYS_MAX: usize = 16;
const SETTING: &str = "--document-keys (COUNTERSIGN_DOCUMENT_KEYS)";
/// The last of a nonce's bytes says what is sealed under it.
const MIDDLE: u8 = 0;
const LAST: u8 = 1;
const TRAILER: u8 = 2;

/// The keys of documents. New ones are sealed with the first; all of them are read.
pub struct DocumentKeys(Vec<(String, SecretBox<[u8; 32]>)>);

impl DocumentKeys {
    /// Reads `id=64 hexadecimal digits, …`. Never quotes what it was given.
    pub fn parse(text: &SecretString) -> Result<Self, SettingError> {
        let wrong = |why: &str| SettingError::new(SETTING, why);
        let mut keys = Vec::new();
        let mut ids = BTreeSet::new();
        for entry in text.expose_secret().split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (id, digits) = entry.split_once('=').ok_or_else(|| wrong("must be `id=key` with commas between"))?;
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if id.is_empty() || id.len() > ID_CHARS_MAX || !id.chars().all(plain) {
                return Err(wrong("an id must be 1 to 25 letters, digits, dots, hyphens or underscores"));
            }
            if !ids.insert(id) {
                return Err(wrong("names an id twice"));
            }
            let mut key = [0; 32];
            hex::decode_to_slice(digits, &mut key).map_err(|_| wrong("each key must be 64 hexadecimal digits"))?;
            keys.push((id.to_owned(), SecretBox::new(Box::new(key))));
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(wrong("must hold 1 to 16 keys"));
        }
        Ok(Self(keys))
    }

    /// Begins a new document under the first key.
    pub(super) fn seal(&self) -> Option<Sealer> {
        let (id, secret) = self.0.first()?;
        let mut header = [0; HEADER_BYTES];
        let (named, salt) = header.split_at_mut_checked(SALT_AT)?;
        salt.copy_from_slice(&random::<32>());
        let name = MARK.iter().copied().chain([u8::try_from(id.len()).ok()?]).chain(id.bytes());
        named.iter_mut().zip(name).for_each(|(place, byte)| *place = byte);
        let key = derive(secret, &header)?;
        Some(Sealer { key, header, begun: false, counter: 0, pending: Vec::with_capacity(SEALED_BYTES), size: 0 })
    }

    /// What opens the document with that header.
    pub(super) fn open(&self, header: &[u8]) -> Result<Opener, Unopened> {
        let header: [u8; HEADER_BYTES] = header.try_into().map_err(|_| Unopened::NoHeader)?;
        let id = key_id(&header).ok_or(Unopened::NoHeader)?;
        let known = self.0.iter().find(|(known, _)| known == id);
        let (_, secret) = known.ok_or_else(|| Unopened::NoKey(id.to_owned()))?;
        let key = derive(secret, &header).ok_or(Unopened::NoHeader)?;
        Ok(Opener { key, header })
    }
}

/// Why a document cannot be opened at all.
pub(super) enum Unopened {
    /// It does not begin as ours do.
    NoHeader,
    /// It needs the key of this id.
    NoKey(String),
}

/// The id of the key that a header names.
pub(super) fn key_id(header: &[u8]) -> Option<&str> {
    let named = header.strip_prefix(&MARK)?;
    let (length, rest) = named.split_first()?;
    std::str::from_utf8(rest.get(..usize::from(*length)).filter(|id| id.len() <= ID_CHARS_MAX)?).ok()
}

fn derive(secret: &SecretBox<[u8; 32]>, header: &[u8; HEADER_BYTES]) -> Option<LessSafeKey> {
    let (named, salt) = header.split_at_checked(SALT_AT)?;
    let extracted = Salt::new(HKDF_SHA256, salt).extract(secret.expose_secret());
    let info = [b"countersign/document".as_slice(), named];
    Some(LessSafeKey::new(UnboundKey::from(extracted.expand(&info, &AES_256_GCM).ok()?)))
}

fn nonce(counter: u32, what: u8) -> Nonce {
    let mut bytes = [0; 12];
    let (_, end) = bytes.split_at_mut(7);
    end.iter_mut().zip(counter.to_be_bytes().into_iter().chain([what])).for_each(|(place, byte)| *place = byte);
    Nonce::assume_unique_for_key(bytes)
}

/// What a trailer is about.
fn bound(header: &[u8; HEADER_BYTES], digest: &Digest, size: u64) -> Aad<Vec<u8>> {
    Aad::from([header.as_slice(), digest, &size.to_be_bytes()].concat())
}

/// Seals one document as it comes.
pub(super) struct Sealer {
    key: LessSafeKey,
    header: [u8; HEADER_BYTES],
    begun: bool,
    counter: u32,
    /// Not sealed before it is known whether it is the last.
    pending: Vec<u8>,
    size: u64,
}

/// The cipher does not go on: more chunks than it can number.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Sealer {
    /// Takes bytes and gives what is sealed of them so far.
    pub fn push(&mut self, mut bytes: &[u8], sealed: &mut BytesMut) -> Result<(), Exhausted> {
        self.begin(sealed);
        while !bytes.is_empty() {
            if self.pending.len() == CHUNK_BYTES {
                self.seal(MIDDLE, sealed)?;
            }
            let room = CHUNK_BYTES - self.pending.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            self.size += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Gives the rest, bound to what all of it was.
    pub fn finish(mut self, digest: &Digest, sealed: &mut BytesMut) -> Result<(), Exhausted> {
        self.begin(sealed);
        self.seal(LAST, sealed)?;
        let about = bound(&self.header, digest, self.size);
        let tag = self.key.seal_in_place_separate_tag(nonce(0, TRAILER), about, &mut []).map_err(|_| Exhausted)?;
        sealed.put_slice(tag.as_ref());
        Ok(())
    }

    fn begin(&mut self, sealed: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            sealed.put_slice(&self.header);
        }
    }

    fn seal(&mut self, what: u8, sealed: &mut BytesMut) -> Result<(), Exhausted> {
        let at = nonce(self.counter, what);
        let tag = self.key.seal_in_place_separate_tag(at, Aad::empty(), &mut self.pending).map_err(|_| Exhausted)?;
        sealed.put_slice(&self.pending);
        sealed.put_slice(tag.as_ref());
        self.pending.clear();
        self.counter = self.counter.checked_add(1).ok_or(Exhausted)?;
        Ok(())
    }
}

/// Opens the chunks of one document.
pub(super) struct Opener {
    key: LessSafeKey,
    header: [u8; HEADER_BYTES],
}

impl Opener {
    /// Whether the trailer says that this is the document, of that size.
    pub fn is(&self, digest: &Digest, size: u64, trailer: &[u8]) -> bool {
        let about = bound(&self.header, digest, size);
        let mut trailer = trailer.to_vec();
        trailer.len() == TAG_BYTES && self.key.open_in_place(nonce(0, TRAILER), about, &mut trailer).is_ok()
    }

    /// What a chunk holds; none if it is not the one that was sealed there.
    pub fn chunk<'a>(&self, number: u64, is_last: bool, sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let at = nonce(u32::try_from(number).ok()?, if is_last { LAST } else { MIDDLE });
        self.key.open_in_place(at, Aad::empty(), sealed).ok().map(|plain| &*plain)
    }
}

/// How large a document is that takes so much room when it is sealed; none if no document does.
pub(super) fn plain_size(stored: u64) -> Option<u64> {
    let (tag, sealed) = (TAG_BYTES as u64, SEALED_BYTES as u64);
    let body = stored.checked_sub(HEADER_BYTES as u64 + tag)?;
    let chunks = body.div_ceil(sealed);
    let last = body.checked_sub(chunks.checked_sub(1)? * sealed)?;
    (last > tag || (chunks == 1 && last == tag)).then(|| body - chunks * tag)
}

/// How many chunks a document of that size has.
pub(super) fn chunks(size: u64) -> u64 {
    size.div_ceil(CHUNK_BYTES as u64).max(1)
}

#[cfg(test)]
mod tests {
    use countersign_chassis::keys::sha256;

    use super::*;

    fn keys(text: &str) -> Result<DocumentKeys, SettingError> {
        DocumentKeys::parse(&text.to_owned().into())
    }

    fn ring() -> DocumentKeys {
        keys(&format!("b={},a={}", "b2".repeat(32), "a1".repeat(32))).unwrap()
    }

    fn sealed(ring: &DocumentKeys, plain: &[u8], step: usize) -> Vec<u8> {
        let (mut sealer, mut out) = (ring.seal().unwrap(), BytesMut::new());
        plain.chunks(step.max(1)).for_each(|some| sealer.push(some, &mut out).unwrap());
        sealer.finish(&sha256(plain), &mut out).unwrap();
        out.to_vec()
    }

    fn opened(ring: &DocumentKeys, digest: &Digest, stored: &[u8]) -> Option<Vec<u8>> {
        let size = plain_size(stored.len() as u64)?;
        let opener = ring.open(stored.get(..HEADER_BYTES)?).ok()?;
        let (body, trailer) = stored[HEADER_BYTES..].split_at(stored.len() - HEADER_BYTES - TAG_BYTES);
        if !opener.is(digest, size, trailer) {
            return None;
        }
        let mut plain = Vec::new();
        for (number, chunk) in body.chunks(SEALED_BYTES).enumerate() {
            let is_last = number as u64 + 1 == chunks(size);
            plain.extend_from_slice(opener.chunk(number as u64, is_last, &mut chunk.to_vec())?);
        }
        Some(plain)
    }

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    #[test]
    fn what_is_sealed_in_any_steps_is_opened() {
        for size in [0, 1, 15, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5] {
            let plain = content(size);
            for step in [1_000, CHUNK_BYTES - 1, CHUNK_BYTES, 5 * CHUNK_BYTES] {
                let stored = sealed(&ring(), &plain, step);
                assert_eq!(plain_size(stored.len() as u64), Some(size as u64));
                assert_eq!(opened(&ring(), &sha256(&plain), &stored).as_ref(), Some(&plain), "{size} in {step}");
            }
        }
    }

    /// Cut off, turned round, moved, taken from another document, one bit other: never opened.
    #[test]
    fn what_is_not_as_it_was_sealed_is_not_opened() {
        let (plain, ring) = (content(3 * CHUNK_BYTES), ring());
        let (digest, stored) = (sha256(&plain), sealed(&ring, &plain, 4_096));
        let fails = |stored: &[u8], why: &str| assert_eq!(opened(&ring, &digest, stored), None, "{why}");
        let body = HEADER_BYTES..stored.len() - TAG_BYTES;
        for cut in [1, TAG_BYTES, SEALED_BYTES, SEALED_BYTES + TAG_BYTES] {
            fails(&stored[..stored.len() - cut], "cut off");
        }
        let end = stored.len() - TAG_BYTES;
        fails(&[&stored[..end - SEALED_BYTES], &stored[end..]].concat(), "a chunk cut out before the trailer");
        let mut turned = stored.clone();
        turned[body.start..body.start + 2 * SEALED_BYTES].rotate_left(SEALED_BYTES);
        fails(&turned, "two chunks in the wrong order");
        let mut other = sealed(&ring, &plain, 4_096);
        other[body.start..body.start + SEALED_BYTES].copy_from_slice(&stored[body.start..body.start + SEALED_BYTES]);
        fails(&other, "a chunk of the same document sealed another time");
        for at in [0, 5, 6, 7, 40, body.start, body.start + SEALED_BYTES + 9, body.end - 1, stored.len() - 1] {
            let mut flipped = stored.clone();
            flipped[at] ^= 1;
            fails(&flipped, &format!("a flipped bit at {at}"));
        }
        let opener = ring.open(&stored[..HEADER_BYTES]).ok().unwrap();
        let mut first = stored[body.start..body.start + SEALED_BYTES].to_vec();
        assert!(opener.chunk(0, true, &mut first.clone()).is_none(), "one in the middle is not the last");
        assert!(opener.chunk(1, false, &mut first.clone()).is_none(), "nor another");
        assert!(opener.chunk(0, false, &mut first).is_some());
        let another = content(3 * CHUNK_BYTES + 1);
        fails(&sealed(&ring, &another, 4_096), "another document in its place");
        let same_size: Vec<u8> = plain.iter().map(|byte| byte ^ 1).collect();
        fails(&sealed(&ring, &same_size, 4_096), "another document of the same size in its place");
    }

    #[test]
    fn keys_are_rotated_by_putting_a_new_one_first() {
        let (plain, old) = (content(10), keys(&format!("a={}", "a1".repeat(32))).unwrap());
        let (digest, stored) = (sha256(&plain), sealed(&old, &plain, 10));
        assert!(opened(&ring(), &digest, &stored).is_some(), "the old key is in the new ring");
        let newer = sealed(&ring(), &plain, 10);
        assert_eq!((key_id(&stored), key_id(&newer)), (Some("a"), Some("b")));
        assert!(matches!(old.open(&newer[..HEADER_BYTES]), Err(Unopened::NoKey(id)) if id == "b"));
        let wrong = keys(&format!("a={}", "a2".repeat(32))).unwrap();
        assert_eq!(opened(&wrong, &digest, &stored), None, "another key of the same name");
    }

    #[test]
    fn wrong_rings_are_refused_without_being_quoted() {
        let key = "0f".repeat(32);
        let long = "i".repeat(ID_CHARS_MAX + 1);
        let many: Vec<_> = (0..=KEYS_MAX).map(|id| format!("{id}={key}")).collect();
        for wrong in [
            "",
            ",",
            &key,
            &format!("={key}"),
            &format!("a={key},a={key}"),
            "a=0f",
            &format!("a b={key}"),
            &many.join(","),
        ] {
            let told = keys(wrong).err().expect(wrong).to_string();
            assert!(told.starts_with(SETTING) && !told.contains("0f"), "{told}");
        }
        assert!(keys(&format!("{long}={key}")).is_err());
        assert!(keys(&format!(" {}={key} ,b={key}", &long[1..])).is_ok());
    }

    #[test]
    fn no_document_takes_just_any_room() {
        let least = (HEADER_BYTES + 2 * TAG_BYTES) as u64;
        assert_eq!((plain_size(least - 1), plain_size(least), plain_size(least + 1)), (None, Some(0), Some(1)));
        let full = least + CHUNK_BYTES as u64;
        assert_eq!((plain_size(full), plain_size(full + TAG_BYTES as u64)), (Some(CHUNK_BYTES as u64), None));
    }
}
