//! Headers that owners of endpoints have sent along: which are allowed, and how their values are kept.
//!
//! Must never let through a header by which a receiver, or a proxy before it, would take us for somebody else. Values are
//! encrypted under a key derived from the master key and bound to their endpoint.

use countersign_chassis::keys::{Key, random};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::id::{AccountId, EndpointId};

/// Headers of an endpoint.
pub const HEADERS_MAX: usize = 10;
/// Longest name and value.
const CHARS_MAX: (usize, usize) = (64, 1_024);
const NONCE_BYTES: usize = 12;

/// Headers that begin with `x-` and are acted upon on the way to a receiver.
const REFUSED: [&str; 14] = [
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-remote-",
    "x-original-",
    "x-originating-ip",
    "x-http-method",
    "x-method-override",
    "x-host",
    "x-rewrite-",
    "x-accel-",
    "x-sendfile",
    "x-envoy-",
];

/// What is wrong with a header's name, if anything.
#[must_use]
pub fn wrong_name(name: &str) -> Option<&'static str> {
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > CHARS_MAX.0 || !name.bytes().all(token) {
        return Some("must be 1 to 64 lower-case letters, digits and hyphens");
    }
    let allowed = name == "authorization" || name.strip_prefix("x-").is_some_and(|rest| !rest.is_empty());
    if !allowed || REFUSED.iter().any(|refused| name.starts_with(refused)) {
        return Some("is not one that may be sent along: `authorization` and `x-…`, but for what proxies act upon");
    }
    None
}

/// What is wrong with a header's value, if anything.
#[must_use]
pub fn wrong_value(value: &str) -> Option<&'static str> {
    let visible = value.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    if value.is_empty() || value.len() > CHARS_MAX.1 || !visible || value.trim() != value {
        return Some("must be 1 to 1024 visible ASCII characters, with spaces inside only");
    }
    None
}

/// Encrypts and decrypts the values.
pub struct Seal(LessSafeKey);

impl Seal {
    /// From the master key.
    pub fn new(master: &Key) -> anyhow::Result<Self> {
        let key = master.derive("webhook-headers").mac(&[b"chacha20-poly1305"]);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| anyhow::anyhow!("no key for headers"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// The headers as they are kept; nothing for none.
    #[must_use]
    pub fn close(&self, account: AccountId, endpoint: EndpointId, headers: &[(String, String)]) -> Option<Vec<u8>> {
        if headers.is_empty() {
            return None;
        }
        let nonce: [u8; NONCE_BYTES] = random();
        let mut bytes = serde_json::to_vec(headers).ok()?;
        let bound = Aad::from(bound(account, endpoint));
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut bytes).ok()?;
        Some([nonce.as_slice(), &bytes].concat())
    }

    /// The headers again; nothing if they are not that endpoint's, or were made under another master key.
    #[must_use]
    pub fn open(&self, account: AccountId, endpoint: EndpointId, sealed: &[u8]) -> Option<Vec<(String, String)>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let mut bytes = rest.to_vec();
        let bound = Aad::from(bound(account, endpoint));
        let open = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), bound, &mut bytes).ok()?;
        serde_json::from_slice(open).ok()
    }
}

fn bound(account: AccountId, endpoint: EndpointId) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(account.uuid().as_bytes());
    bytes[16..].copy_from_slice(endpoint.uuid().as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_of_the_owners_own_may_be_sent_along() {
        for good in ["authorization", "x-api-key", "x-a", "x-1-b"] {
            assert_eq!(wrong_name(good), None, "{good}");
        }
        let long = format!("x-{}", "a".repeat(63));
        for bad in [
            "",
            "x-",
            "X-Api-Key",
            "host",
            "content-type",
            "content-length",
            "transfer-encoding",
            "connection",
            "cookie",
            "te",
            "upgrade",
            "webhook-id",
            "webhook-signature",
            "countersign-signature",
            "proxy-authorization",
            "expect",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded",
            "x-real-ip",
            "x-http-method-override",
            "x-original-url",
            "x-rewrite-url",
            "x-client-ip",
            "x-method-override",
            "x a",
            "x-a:",
            "x-a\r\n",
            "x-ä",
            &long,
        ] {
            assert!(wrong_name(bad).is_some(), "{bad:?}");
        }
        assert_eq!(wrong_value("Bearer a b"), None);
        assert_eq!(wrong_value(&"v".repeat(1_024)), None);
        for bad in ["", " a", "a ", "a\r\nhost: b", "a\0", "a\tb", "ä", &"v".repeat(1_025)] {
            assert!(wrong_value(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_endpoint_only() {
        let seal = |byte: &str| Seal::new(&Key::master(&byte.repeat(32).into()).unwrap()).unwrap();
        let (account, endpoint) = (AccountId::new(), EndpointId::new());
        let headers = vec![("x-api-key".to_owned(), "very secret".to_owned())];
        let sealed = seal("07").close(account, endpoint, &headers).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(seal("07").close(account, endpoint, &headers).unwrap(), sealed, "never the same twice");
        assert_eq!(seal("07").open(account, endpoint, &sealed), Some(headers));
        assert_eq!(seal("08").open(account, endpoint, &sealed), None);
        assert_eq!(seal("07").open(AccountId::new(), endpoint, &sealed), None);
        assert_eq!(seal("07").open(account, EndpointId::new(), &sealed), None);
        assert_eq!(seal("07").close(account, endpoint, &[]), None);
        assert_eq!(seal("07").open(account, endpoint, &sealed[..8]), None);
    }
}
