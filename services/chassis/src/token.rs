//! Opaque tokens: something of ours that a caller brings back, good for nothing but what it was made for.
//!
//! A token is authentic, not secret: whoever has it can read its content.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::keys::{Key, Ring, same};

/// Length of the MAC in a token: 128 bits.
const MAC_BYTES: usize = 16;

/// A token for `content`, good for what it is bound to alone.
#[must_use]
pub fn seal(ring: &Ring, bound: &[&[u8]], content: &[u8]) -> String {
    let mut bytes = content.to_vec();
    bytes.extend(mac(ring.current(), bound, content));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The content of a token, or `None` if no key of ours made it for that. One of more than `chars_max` is not looked at.
#[must_use]
pub fn open(ring: &Ring, bound: &[&[u8]], token: &str, chars_max: usize) -> Option<Vec<u8>> {
    if token.len() > chars_max {
        return None;
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let given = bytes.split_off(bytes.len().checked_sub(MAC_BYTES)?);
    ring.iter().any(|key| same(&given, &mac(key, bound, &bytes))).then_some(bytes)
}

fn mac(key: &Key, bound: &[&[u8]], content: &[u8]) -> [u8; MAC_BYTES] {
    let mac = key.mac(&[bound, &[content]].concat());
    let mut short = [0; MAC_BYTES];
    short.copy_from_slice(&mac[..MAC_BYTES]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: &str) -> Key {
        Key::master(&byte.repeat(32).into()).unwrap()
    }

    #[test]
    fn a_token_of_a_former_key_is_good_as_long_as_that_is_in_the_ring() {
        let [old, new] = [&["07"][..], &["08", "07"]].map(|bytes| {
            let mut keys = bytes.iter().map(|byte| key(byte));
            Ring::new(keys.next().unwrap(), keys.collect())
        });
        let (before, after) = (seal(&old, &[b"list"], b"content"), seal(&new, &[b"list"], b"content"));
        assert_ne!(before, after, "new ones are made by the first");
        assert!(open(&new, &[b"list"], &before, 64).is_some() && open(&new, &[b"list"], &after, 64).is_some());
        assert_eq!(open(&Ring::from(key("08")), &[b"list"], &before, 64), None);
        assert_eq!(open(&new, &[b"other"], &before, 64), None);
    }

    #[test]
    fn a_token_is_good_for_what_it_is_bound_to() {
        let key = Ring::from(key("07"));
        let token = seal(&key, &[b"list", b"account"], b"content");
        assert_eq!(open(&key, &[b"list", b"account"], &token, 64).as_deref(), Some(b"content".as_slice()));
        let others: [&[&[u8]]; 4] = [&[b"list", b"other"], &[b"lista", b"ccount"], &[b"list"], &[]];
        for bound in others {
            assert_eq!(open(&key, bound, &token, 64), None);
        }
        let long = seal(&key, &[b"list", b"account"], &[7; 64]);
        for text in ["", "a", "!!!!", &token[1..], &long] {
            assert_eq!(open(&key, &[b"list", b"account"], text, 64), None, "{text}");
        }
    }
}
