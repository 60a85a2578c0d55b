//! API keys, signing tokens and user tokens: made, parsed, recognised. None can be made from what the database holds.
//!
//! All are Base58Check (a checksum tells a mistyped one from a wrong one without a look-up) behind a prefix by which
//! secret scanners find them. New ones are made under the first master key of the ring; the stamp at the end of each tells under
//! which it was made.

use countersign_chassis::keys::{KEY_BYTES, Key, Ring, random, same, sha256};
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
    api: Ring,
    signing: Ring,
    /// For page tokens and resume tokens.
    pub cursor: Ring,
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
    /// From the master keys.
    #[must_use]
    pub fn new(master: &Ring) -> Self {
        Self { api: master.derive("api-key"), signing: master.derive("signing-token"), cursor: master.derive("cursor") }
    }

    /// A new API key.
    #[must_use]
    pub fn new_api_key(&self, account: AccountId, livemode: bool) -> ApiKey {
        let secret: [u8; KEY_BYTES] = random();
        let mut payload = account.uuid().into_bytes().to_vec();
        payload.extend(secret);
        let key = self.api.current();
        payload.extend(stamp(key, &payload));
        let prefix = if livemode { LIVE } else { TEST };
        let text = format!("{prefix}{}", bs58::encode(payload).with_check().into_string());
        ApiKey { text, hash: api_hash(key, account, &secret) }
    }

    /// Reads an API key; `None` if it cannot be one.
    #[must_use]
    pub fn parse_api_key(&self, text: &str) -> Option<Presented> {
        let payload = text.strip_prefix(LIVE).or_else(|| text.strip_prefix(TEST))?;
        let payload = bs58::decode(payload).with_check(None).into_vec().ok()?;
        let (key, payload) = stamped(&self.api, &payload)?;
        let (account, secret) = payload.split_first_chunk::<ID_BYTES>()?;
        if secret.len() != KEY_BYTES {
            return None;
        }
        let account = AccountId::from_uuid(Uuid::from_bytes(*account));
        Some(Presented { account, hash: api_hash(key, account, secret) })
    }

    /// A new token for a user.
    #[must_use]
    pub fn new_user_token(&self, account: AccountId, user: UserId) -> UserToken {
        let secret: [u8; KEY_BYTES] = random();
        let mut payload = account.uuid().into_bytes().to_vec();
        payload.extend(user.uuid().into_bytes());
        payload.extend(secret);
        let key = self.api.current();
        payload.extend(stamp(key, &payload));
        let text = format!("{USER}{}", bs58::encode(payload).with_check().into_string());
        UserToken { text, hash: user_hash(key, user, &secret) }
    }

    /// Reads a user token; `None` if it cannot be one.
    #[must_use]
    pub fn parse_user_token(&self, text: &str) -> Option<PresentedUser> {
        let payload = bs58::decode(text.strip_prefix(USER)?).with_check(None).into_vec().ok()?;
        let (key, payload) = stamped(&self.api, &payload)?;
        let (account, rest) = payload.split_first_chunk::<ID_BYTES>()?;
        let (user, secret) = rest.split_first_chunk::<ID_BYTES>()?;
        let user = UserId::from_uuid(Uuid::from_bytes(*user));
        (secret.len() == KEY_BYTES).then(|| PresentedUser {
            account: AccountId::from_uuid(Uuid::from_bytes(*account)),
            user,
            hash: user_hash(key, user, secret),
        })
    }

    /// A credential of that generation.
    #[must_use]
    pub fn credential(&self, recipient: RecipientId, generation: u32) -> Credential {
        let salt = random();
        let hash = sha256(&secret(self.signing.current(), recipient, generation, &salt));
        Credential { generation, salt, hash }
    }

    /// The signing token of a credential: the same each time, so that a mail can be written again. None if the key under which
    /// the credential was made is in the ring no more: any other's would be a link that nobody takes.
    #[must_use]
    pub fn signing_token(
        &self,
        account: AccountId,
        envelope: EnvelopeId,
        recipient: RecipientId,
        credential: &Credential,
    ) -> Option<String> {
        let Credential { generation, salt, hash } = credential;
        let (key, secret) = self.signing.iter().find_map(|key| {
            let secret = secret(key, recipient, *generation, salt);
            same(&sha256(&secret), hash).then_some((key, secret))
        })?;
        let mut payload = account.uuid().into_bytes().to_vec();
        payload.extend(envelope.uuid().into_bytes());
        payload.extend(recipient.uuid().into_bytes());
        payload.extend(secret);
        payload.extend(stamp(key, &payload));
        Some(format!("{SIGNING}{}", bs58::encode(payload).with_check().into_string()))
    }

    /// Reads a signing token; `None` if it cannot be one.
    #[must_use]
    pub fn parse_signing_token(&self, text: &str) -> Option<SigningToken> {
        let payload = bs58::decode(text.strip_prefix(SIGNING)?).with_check(None).into_vec().ok()?;
        let (_, payload) = stamped(&self.signing, &payload)?;
        let (account, rest) = payload.split_first_chunk::<ID_BYTES>()?;
        let (envelope, rest) = rest.split_first_chunk::<ID_BYTES>()?;
        let (recipient, secret) = rest.split_first_chunk::<ID_BYTES>()?;
        (secret.len() == KEY_BYTES).then(|| SigningToken {
            account: AccountId::from_uuid(Uuid::from_bytes(*account)),
            envelope: EnvelopeId::from_uuid(Uuid::from_bytes(*envelope)),
            recipient: RecipientId::from_uuid(Uuid::from_bytes(*recipient)),
            hash: sha256(secret),
        })
    }
}

fn api_hash(key: &Key, account: AccountId, secret: &[u8]) -> Digest {
    key.mac(&[account.uuid().as_bytes(), secret])
}

fn user_hash(key: &Key, user: UserId, secret: &[u8]) -> Digest {
    key.mac(&[b"user", user.uuid().as_bytes(), secret])
}

/// What a signing token proves. Needs the key, which is not in the database, and the salt, which is nowhere else.
fn secret(key: &Key, recipient: RecipientId, generation: u32, salt: &[u8]) -> [u8; KEY_BYTES] {
    key.mac(&[recipient.uuid().as_bytes(), &generation.to_be_bytes(), salt])
}

/// What tells a credential of ours from one that was made up, before the database is asked.
fn stamp(key: &Key, payload: &[u8]) -> [u8; STAMP_BYTES] {
    let mut stamp = [0; STAMP_BYTES];
    stamp.copy_from_slice(&key.mac(&[b"stamp", payload])[..STAMP_BYTES]);
    stamp
}

/// The payload before a right stamp, and the key that made it.
fn stamped<'r, 'p>(ring: &'r Ring, payload: &'p [u8]) -> Option<(&'r Key, &'p [u8])> {
    let (payload, given) = payload.split_last_chunk::<STAMP_BYTES>()?;
    let key = ring.iter().find(|key| same(given, &stamp(key, payload)))?;
    Some((key, payload))
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
        keyring_of(&["07"])
    }

    /// By those keys, the first of which makes what is new.
    fn keyring_of(bytes: &[&str]) -> Keyring {
        let mut keys = bytes.iter().map(|byte| Key::master(&byte.repeat(32).into()).unwrap());
        Keyring::new(&Ring::new(keys.next().unwrap(), keys.collect()))
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
        let text = ring.signing_token(account, envelope, recipient, &credential).unwrap();
        assert_eq!(text, ring.signing_token(account, envelope, recipient, &credential).unwrap());
        let token = ring.parse_signing_token(&text).unwrap();
        assert_eq!((token.account, token.envelope, token.recipient), (account, envelope, recipient));
        assert!(token.proves(&credential));
        assert!(!token.proves(&ring.credential(recipient, 1)));
        // Neither the database (salt, hash) under another key nor the key with another salt gives the token.
        let other = keyring_of(&["08"]);
        assert_eq!(other.signing_token(account, envelope, recipient, &credential), None);
        // What we did not make never gets as far as the database.
        let forged = other.signing_token(account, envelope, recipient, &other.credential(recipient, 1)).unwrap();
        assert!(ring.parse_signing_token(&forged).is_none());
        assert!(ring.parse_api_key(&other.new_api_key(account, true).text).is_none());
    }

    #[test]
    fn credentials_of_a_former_key_are_what_they_were_until_it_goes() {
        let (before, rotated, after) =
            (keyring_of(&["07"]), keyring_of(&["09", "08", "07"]), keyring_of(&["09", "08"]));
        let (account, envelope, recipient, user) =
            (AccountId::new(), EnvelopeId::new(), RecipientId::new(), UserId::new());
        let key = before.new_api_key(account, true);
        assert_eq!(rotated.parse_api_key(&key.text).unwrap().hash, key.hash);
        assert!(after.parse_api_key(&key.text).is_none());
        let token = before.new_user_token(account, user);
        assert_eq!(rotated.parse_user_token(&token.text).unwrap().hash, token.hash);
        assert!(after.parse_user_token(&token.text).is_none());

        let credential = before.credential(recipient, 1);
        let link = before.signing_token(account, envelope, recipient, &credential).unwrap();
        assert_eq!(rotated.signing_token(account, envelope, recipient, &credential).as_ref(), Some(&link));
        assert!(rotated.parse_signing_token(&link).unwrap().proves(&credential));
        assert_eq!(after.signing_token(account, envelope, recipient, &credential), None, "no dead link is given out");
        assert!(after.parse_signing_token(&link).is_none());

        // What is new is made under the first.
        let credential = rotated.credential(recipient, 2);
        assert!(after.signing_token(account, envelope, recipient, &credential).is_some());
        assert!(before.parse_api_key(&rotated.new_api_key(account, true).text).is_none());
        assert!(before.parse_user_token(&rotated.new_user_token(account, user).text).is_none());
    }
}
