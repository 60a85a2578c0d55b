//! Opaque tokens: something of ours that a caller brings back, good for nothing but what it was made for.
//!
//! A token is authentic, not secret: whoever has it can read its content.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::keys::{Key, same};

/// Length of the MAC in a token: 128 bits.
const MAC_BYTES: usize = 16;

/// A token for `content`, good for what it is bound to alone.
#[must_use]
pub fn seal(key: &Key, bound: &[&[u8]], content: &[u8]) -> String {
    let mut bytes = content.to_vec();
    bytes.extend(mac(key, bound, content));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The content of a token, or `None` if we did not make it for that. One of more than `chars_max` is not looked at.
#[must_use]
pub fn open(key: &Key, bound: &[&[u8]], token: &str, chars_max: usize) -> Option<Vec<u8>> {
    if token.len() > chars_max {
        return None;
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let given = bytes.split_off(bytes.len().checked_sub(MAC_BYTES)?);
    same(&given, &mac(key, bound, &bytes)).then_some(bytes)
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

    #[test]
    fn a_token_is_good_for_what_it_is_bound_to() {
        let key = Key::master(&"07".repeat(32).into()).unwrap();
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
