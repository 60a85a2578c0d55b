//! API keys, signing tokens and user tokens: made, parsed, recognised. None can be made from what the database holds.
//!
//! All are Base58Check (a checksum tells a mistyped one from a wrong one without a look-up) behind a prefix by which
//! secret scanners find them.

use countersign_chassis::keys::{KEY_BYTES, Key, random, same, sha256};
use uuid::Uuid;

use crate::domain::envelope::Digest;
use crate::domain::id::{AccountId, EnvelopeId, RecipientId, UserId};
use crate::domain::recipient::Credential;

/// Prefix of live API keys.
const LIVE: &str = "cs_live_";
/// Prefix of test API keys.
const TEST: &str = "cs_test_";
/// Prefix of signing tokens.
const SIGNING: &str = "cst_";
/// Prefix of user tokens.
const USER: &str = "csu_";
/// Length of the stamp at the end of a credential.
const STAMP_BYTES: usize = 8;
/// Length of an id in a credential.
const ID_BYTES: usize = 16;

/// What credentials are made and recognised with.
pub struct Keyring {
    api: Key,
    signing: Key,
    /// For page tokens and resume tokens.
    pub cursor: Key,
}

/// An API key as it is shown once.
pub struct ApiKey {
    /// The text that the owner keeps.
    pub text: String,
    /// What the service keeps.
    pub hash: Digest,
}

/// An API key as it is presented. Its `Debug` says only whose it claims to be.
#[derive(Clone, Copy)]
pub struct Presented {
    /// Whose it claims to be.
    pub account: AccountId,
    /// What the service should have kept.
    pub hash: Digest,
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Presented({})", self.account)
    }
}

/// A user token as it is shown once.
pub struct UserToken {
    /// The text that the user keeps.
    pub text: String,
    /// What the service keeps.
    pub hash: Digest,
}

/// A user token as it is presented.
#[derive(Clone, Copy)]
pub struct PresentedUser {
    /// Of which account.
    pub account: AccountId,
    /// Whose it claims to be.
    pub user: UserId,
    /// What the service should have kept.
    pub hash: Digest,
}

/// A signing token as it is presented.
#[derive(Clone, Copy)]
pub struct SigningToken {
    /// Whose envelope.
    pub account: AccountId,
    /// Which envelope.
    pub envelope: EnvelopeId,
    /// Which recipient.
    pub recipient: RecipientId,
    hash: Digest,
}

impl Keyring {
    /// From the master key.
    #[must_use]
    pub fn new(master: &Key) -> Self {
        Self { api: master.derive("api-key"), signing: master.derive("signing-token"), cursor: master.derive("cursor") }
    }

    /// A new API key.
    #[must_use]
    pub fn new_api_key(&self, account: AccountId, livemode: bool) -> ApiKey {
        let secret: [u8; KEY_BYTES] = random();
        let mut payload = account.uuid().into_bytes().to_vec();
        payload.extend(secret);
        payload.extend(stamp(&self.api, &payload));
        let prefix = if livemode { LIVE } else { TEST };
        let text = format!("{prefix}{}", bs58::encode(payload).with_check().into_string());
        ApiKey { text, hash: self.api_hash(account, &secret) }
    }

    /// Reads an API key; `None` if it cannot be one.
    #[must_use]
    pub fn parse_api_key(&self, text: &str) -> Option<Presented> {
        let payload = text.strip_prefix(LIVE).or_else(|| text.strip_prefix(TEST))?;
        let payload = bs58::decode(payload).with_check(None).into_vec().ok()?;
        let (account, secret) = stamped(&self.api, &payload)?.split_first_chunk::<ID_BYTES>()?;
        if secret.len() != KEY_BYTES {
            return None;
        }
        let account = AccountId::from_uuid(Uuid::from_bytes(*account));
        Some(Presented { account, hash: self.api_hash(account, secret) })
    }

    fn api_hash(&self, account: AccountId, secret: &[u8]) -> Digest {
        self.api.mac(&[account.uuid().as_bytes(), secret])
    }

    /// A new token for a user.
    #[must_use]
    pub fn new_user_token(&self, account: AccountId, user: UserId) -> UserToken {
        let secret: [u8; KEY_BYTES] = random();
        let mut payload = account.uuid().into_bytes().to_vec();
        payload.extend(user.uuid().into_bytes());
        payload.extend(secret);
        payload.extend(stamp(&self.api, &payload));
        let text = format!("{USER}{}", bs58::encode(payload).with_check().into_string());
        UserToken { text, hash: self.user_hash(user, &secret) }
    }

    /// Reads a user token; `None` if it cannot be one.
    #[must_use]
    pub fn parse_user_token(&self, text: &str) -> Option<PresentedUser> {
        let payload = bs58::decode(text.strip_prefix(USER)?).with_check(None).into_vec().ok()?;
        let (account, rest) = stamped(&self.api, &payload)?.split_first_chunk::<ID_BYTES>()?;
        let (user, secret) = rest.split_first_chunk::<ID_BYTES>()?;
        let user = UserId::from_uuid(Uuid::from_bytes(*user));
        (secret.len() == KEY_BYTES).then(|| PresentedUser {
            account: AccountId::from_uuid(Uuid::from_bytes(*account)),
            user,
            hash: self.user_hash(user, secret),
        })
    }

    fn user_hash(&self, user: UserId, secret: &[u8]) -> Digest {
        self.api.mac(&[b"user", user.uuid().as_bytes(), secret])
    }

    /// A credential of that generation.
    #[must_use]
    pub fn credential(&self, recipient: RecipientId, generation: u32) -> Credential {
        let salt = random();
        let hash = sha256(&self.secret(recipient, generation, &salt));
        Credential { generation, salt, hash }
    }

    /// The signing token of a credential: the same each time, so that a mail can be written again.
    #[must_use]
    pub fn signing_token(
        &self,
        account: AccountId,
        envelope: EnvelopeId,
        recipient: RecipientId,
        credential: &Credential,
    ) -> String {
        let mut payload = account.uuid().into_bytes().to_vec();
        payload.extend(envelope.uuid().into_bytes());
        payload.extend(recipient.uuid().into_bytes());
        payload.extend(self.secret(recipient, credential.generation, &credential.salt));
        payload.extend(stamp(&self.signing, &payload));
        format!("{SIGNING}{}", bs58::encode(payload).with_check().into_string())
    }

    /// Reads a signing token; `None` if it cannot be one.
    #[must_use]
    pub fn parse_signing_token(&self, text: &str) -> Option<SigningToken> {
        let payload = bs58::decode(text.strip_prefix(SIGNING)?).with_check(None).into_vec().ok()?;
        let (account, rest) = stamped(&self.signing, &payload)?.split_first_chunk::<ID_BYTES>()?;
        let (envelope, rest) = rest.split_first_chunk::<ID_BYTES>()?;
        let (recipient, secret) = rest.split_first_chunk::<ID_BYTES>()?;
        (secret.len() == KEY_BYTES).then(|| SigningToken {
            account: AccountId::from_uuid(Uuid::from_bytes(*account)),
            envelope: EnvelopeId::from_uuid(Uuid::from_bytes(*envelope)),
            recipient: RecipientId::from_uuid(Uuid::from_bytes(*recipient)),
            hash: sha256(secret),
        })
    }

    /// Needs the key, which is not in the database, and the salt, which is nowhere else.
    fn secret(&self, recipient: RecipientId, generation: u32, salt: &[u8]) -> [u8; KEY_BYTES] {
        self.signing.mac(&[recipient.uuid().as_bytes(), &generation.to_be_bytes(), salt])
    }
}

/// What tells a credential of ours from one that was made up, before the database is asked.
fn stamp(key: &Key, payload: &[u8]) -> [u8; STAMP_BYTES] {
    let mut stamp = [0; STAMP_BYTES];
    stamp.copy_from_slice(&key.mac(&[b"stamp", payload])[..STAMP_BYTES]);
    stamp
}

/// The payload before a right stamp.
fn stamped<'a>(key: &Key, payload: &'a [u8]) -> Option<&'a [u8]> {
    let (payload, given) = payload.split_last_chunk::<STAMP_BYTES>()?;
    same(given, &stamp(key, payload)).then_some(payload)
}

impl SigningToken {
    /// True if it is the token of that credential.
    #[must_use]
    pub fn proves(&self, credential: &Credential) -> bool {
        same(&self.hash, &credential.hash)
    }

    /// Tells this token from every other, and is none.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        sha256(&[self.recipient.uuid().as_bytes().as_slice(), &self.hash].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        Keyring::new(&Key::master(&"07".repeat(32).into()).unwrap())
    }

    #[test]
    fn api_keys_are_recognised_and_their_modes_told_apart() {
        let (ring, account) = (keyring(), AccountId::new());
        for livemode in [true, false] {
            let key = ring.new_api_key(account, livemode);
            assert!(key.text.starts_with(if livemode { "cs_live_" } else { "cs_test_" }));
            let presented = ring.parse_api_key(&key.text).unwrap();
            assert_eq!((presented.account, presented.hash), (account, key.hash));
        }
    }

    #[test]
    fn a_mistyped_credential_is_none() {
        let ring = keyring();
        let key = ring.new_api_key(AccountId::new(), true).text;
        for index in 8..key.len() {
            let mut typed = key.clone().into_bytes();
            typed[index] = if typed[index] == b'x' { b'y' } else { b'x' };
            assert!(ring.parse_api_key(&String::from_utf8(typed).unwrap()).is_none(), "{index}");
        }
        for text in ["", "cs_live_", "cs_live_0OIl", "cst_", "cst_abc", "bearer"] {
            assert!(ring.parse_api_key(text).is_none() && ring.parse_signing_token(text).is_none());
        }
    }

    #[test]
    fn a_signing_token_proves_its_own_credential_only() {
        let ring = keyring();
        let (account, envelope, recipient) = (AccountId::new(), EnvelopeId::new(), RecipientId::new());
        let credential = ring.credential(recipient, 1);
        let text = ring.signing_token(account, envelope, recipient, &credential);
        assert_eq!(text, ring.signing_token(account, envelope, recipient, &credential));
        let token = ring.parse_signing_token(&text).unwrap();
        assert_eq!((token.account, token.envelope, token.recipient), (account, envelope, recipient));
        assert!(token.proves(&credential));
        assert!(!token.proves(&ring.credential(recipient, 1)));
        // Neither the database (salt, hash) under another key nor the key with another salt gives the token.
        let other = Keyring::new(&Key::master(&"08".repeat(32).into()).unwrap());
        assert_ne!(text, other.signing_token(account, envelope, recipient, &credential));
        // What we did not make never gets as far as the database.
        let forged = other.signing_token(account, envelope, recipient, &credential);
        assert!(ring.parse_signing_token(&forged).is_none());
        assert!(ring.parse_api_key(&other.new_api_key(account, true).text).is_none());
    }
}
