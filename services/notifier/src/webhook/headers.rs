//! Headers that owners of endpoints have sent along: which are allowed, and how their values are kept.
//!
//! Must never let through a header by which a receiver, or a proxy before it, would take us for somebody else. Values are
//! encrypted under a key derived from the master key and bound to their endpoint; before them stands the name of the master key.

use countersign_chassis::keys::{FINGERPRINT_BYTES, Fingerprint, Key, Ring, random};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::id::{AccountId, EndpointId};
use crate::webhook::signature::KeyMissing;

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
pub struct Seal {
    newest: (Fingerprint, LessSafeKey),
    former: Vec<(Fingerprint, LessSafeKey)>,
}

fn key_of(master: &Key) -> anyhow::Result<(Fingerprint, LessSafeKey)> {
    let key = master.derive("webhook-headers").mac(&[b"chacha20-poly1305"]);
    let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| anyhow::anyhow!("no key for headers"))?;
    Ok((master.fingerprint(), LessSafeKey::new(key)))
}

/// The master key that headers were sealed under, and the rest.
fn named(sealed: &[u8]) -> Option<(Fingerprint, &[u8])> {
    let (name, rest) = sealed.split_first_chunk::<FINGERPRINT_BYTES>()?;
    Some((Fingerprint(i64::from_be_bytes(*name)), rest))
}

impl Seal {
    /// From the master keys.
    pub fn new(master: &Ring) -> anyhow::Result<Self> {
        let former = master.former().iter().map(key_of).collect::<anyhow::Result<_>>()?;
        Ok(Self { newest: key_of(master.current())?, former })
    }

    fn key(&self, wanted: Fingerprint) -> Result<&LessSafeKey, KeyMissing> {
        let found = std::iter::once(&self.newest).chain(&self.former).find(|(name, _)| *name == wanted);
        found.map(|(_, key)| key).ok_or(KeyMissing(wanted))
    }

    /// Fails where the master key of headers is missing.
    pub fn check(&self, sealed: Option<&[u8]>) -> Result<(), KeyMissing> {
        sealed.and_then(named).map_or(Ok(()), |(name, _)| self.key(name).map(drop))
    }

    /// The same headers sealed under the newest key; nothing if they cannot be opened.
    #[must_use]
    pub fn renewed(&self, account: AccountId, endpoint: EndpointId, sealed: &[u8]) -> Option<Vec<u8>> {
        self.close(account, endpoint, &self.open(account, endpoint, sealed)?)
    }

    /// How what is sealed under former keys begins.
    #[must_use]
    pub fn former(&self) -> Vec<Vec<u8>> {
        self.former.iter().map(|(name, _)| name.0.to_be_bytes().to_vec()).collect()
    }

    /// The headers as they are kept; nothing for none.
    #[must_use]
    pub fn close(&self, account: AccountId, endpoint: EndpointId, headers: &[(String, String)]) -> Option<Vec<u8>> {
        if headers.is_empty() {
            return None;
        }
        let nonce: [u8; NONCE_BYTES] = random();
        let mut bytes = serde_json::to_vec(headers).ok()?;
        let (bound, (name, key)) = (Aad::from(bound(account, endpoint)), &self.newest);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut bytes).ok()?;
        Some([name.0.to_be_bytes().as_slice(), &nonce, &bytes].concat())
    }

    /// The headers again; nothing if they are not that endpoint's, or were made under a master key that is missing.
    #[must_use]
    pub fn open(&self, account: AccountId, endpoint: EndpointId, sealed: &[u8]) -> Option<Vec<(String, String)>> {
        let (name, rest) = named(sealed)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let mut bytes = rest.to_vec();
        let bound = Aad::from(bound(account, endpoint));
        let open = self.key(name).ok()?.open_in_place(Nonce::assume_unique_for_key(*nonce), bound, &mut bytes).ok()?;
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
        let key = |byte: &str| Key::master(&byte.repeat(32).into()).unwrap();
        let seal = |byte: &str| Seal::new(&key(byte).into()).unwrap();
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

        let rotated = Seal::new(&Ring::new(key("08"), vec![key("07")])).unwrap();
        let headers = rotated.open(account, endpoint, &sealed);
        assert!(headers.is_some() && sealed.starts_with(&rotated.former()[0]));
        let renewed = rotated.renewed(account, endpoint, &sealed).unwrap();
        assert_eq!((seal("08").open(account, endpoint, &renewed), seal("08").check(Some(&renewed))), (headers, Ok(())));
        assert_eq!(seal("08").check(Some(&sealed)), Err(KeyMissing(key("07").fingerprint())));
        assert_eq!(seal("07").check(None), Ok(()));
    }
}
