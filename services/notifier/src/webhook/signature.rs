//! How webhooks are signed: Standard Webhooks 1.0.0, and `Countersign-Signature` besides.
//!
//! An endpoint's secret is derived from a master key, so that there is none to steal from the database; the endpoint has the name
//! of the key. Must never sign with a secret that is not the one its owner was shown: rather not at all.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use countersign_chassis::keys::{Fingerprint, KEY_BYTES, Key, Ring};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::id::{AccountId, EndpointId};

/// Makes the secrets of endpoints.
pub struct Secrets {
    /// The master key under which new ones are made.
    newest: Fingerprint,
    /// For each master key what is derived from it.
    keys: Vec<(Fingerprint, Key)>,
}

/// What is kept of an endpoint's secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1.
    pub number: u16,
    /// The master key under which it was made.
    pub key: Fingerprint,
    /// The one under which the generation before was made, if there was one.
    pub previous_key: Option<Fingerprint>,
    /// Until when that one signs too.
    pub previous_until: Option<DateTime<Utc>>,
}

/// A master key that something needs and that is not in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the master key {0} is not in the ring")]
pub struct KeyMissing(pub Fingerprint);

/// The secret of one endpoint.
pub struct Secret([u8; KEY_BYTES]);

impl Secrets {
    /// From the master keys.
    #[must_use]
    pub fn new(master: &Ring) -> Self {
        let keys = master.iter().map(|key| (key.fingerprint(), key.derive("webhook"))).collect();
        Self { newest: master.current().fingerprint(), keys }
    }

    /// The master key under which new secrets are made.
    #[must_use]
    pub fn newest(&self) -> Fingerprint {
        self.newest
    }

    /// All master keys that are there.
    #[must_use]
    pub fn known(&self) -> Vec<Fingerprint> {
        self.keys.iter().map(|(name, _)| *name).collect()
    }

    /// The secrets of an endpoint that sign now, the newest first. One from before whose key is missing is left out: its owner
    /// has the new one.
    pub fn alive(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        generation: &Generation,
        now: DateTime<Utc>,
    ) -> Result<Vec<Secret>, KeyMissing> {
        let Generation { number, key, previous_key, previous_until } = *generation;
        let mut alive = vec![self.of(account, endpoint, number, key)?];
        let previous = previous_key.filter(|_| number > 1 && previous_until.is_some_and(|until| now < until));
        alive.extend(previous.and_then(|key| self.of(account, endpoint, number - 1, key).ok()));
        Ok(alive)
    }

    /// The secret of an endpoint.
    pub fn of(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        generation: u16,
        key: Fingerprint,
    ) -> Result<Secret, KeyMissing> {
        let (_, key) = self.keys.iter().find(|(name, _)| *name == key).ok_or(KeyMissing(key))?;
        Ok(Secret(key.mac(&[account.uuid().as_bytes(), endpoint.uuid().as_bytes(), &generation.to_be_bytes()])))
    }
}

impl Generation {
    /// The first, made under that key.
    #[must_use]
    pub fn first(key: Fingerprint) -> Self {
        Self { number: 1, key, previous_key: None, previous_until: None }
    }
}

/// The values of `webhook-signature` and `Countersign-Signature` by all secrets that live.
#[must_use]
pub fn signatures(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> (String, String) {
    let standard: Vec<_> = secrets.iter().map(|secret| secret.standard(id, timestamp, body)).collect();
    let countersign: Vec<_> = secrets.iter().map(|secret| secret.countersign(timestamp, body)).collect();
    (standard.join(" "), format!("t={timestamp},{}", countersign.join(",")))
}

impl Secret {
    /// As its owner keeps it: `whsec_` and base64.
    #[must_use]
    pub fn text(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.0))
    }

    /// What one secret puts into `webhook-signature` for one attempt: HMAC-SHA256 over `id.timestamp.body`.
    #[must_use]
    pub fn standard(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signed = self.hmac(&[id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body]);
        format!("v1,{}", STANDARD.encode(signed))
    }

    /// What one secret puts into `Countersign-Signature` for one attempt: HMAC-SHA256 over `timestamp.body`.
    #[must_use]
    pub fn countersign(&self, timestamp: i64, body: &[u8]) -> String {
        let signed = self.hmac(&[timestamp.to_string().as_bytes(), b".", body]);
        format!("v1={}", hex::encode(signed))
    }

    /// The answer to a challenge: HMAC-SHA256 over its text.
    #[must_use]
    pub fn response(&self, challenge: &str) -> String {
        hex::encode(self.hmac(&[challenge.as_bytes()]))
    }

    fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        // HMAC takes keys of any length, so this cannot fail.
        let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return [0; 32] };
        parts.iter().for_each(|part| hmac.update(part));
        hmac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn secrets(bytes: &[&str]) -> Secrets {
        let mut keys = bytes.iter().map(|byte| Key::master(&byte.repeat(32).into()).unwrap());
        Secrets::new(&Ring::new(keys.next().unwrap(), keys.collect()))
    }

    #[test]
    fn a_secret_stays_what_it_was_until_its_key_goes() {
        let (before, rotated, after) = (secrets(&["07"]), secrets(&["08", "07"]), secrets(&["08"]));
        let (account, endpoint, now) = (AccountId::new(), EndpointId::new(), DateTime::UNIX_EPOCH);
        let texts = |secrets: &Secrets, generation: &Generation| {
            let alive = secrets.alive(account, endpoint, generation, now);
            alive.map(|alive| alive.iter().map(Secret::text).collect::<Vec<_>>())
        };
        let old = Generation::first(before.newest());
        let shown = texts(&before, &old).unwrap();
        assert_eq!(texts(&rotated, &old).unwrap(), shown);
        assert_eq!(texts(&after, &old), Err(KeyMissing(before.newest())), "never by another key");

        let (previous_key, previous_until) = (Some(old.key), Some(now + TimeDelta::hours(1)));
        let new = Generation { number: 2, key: rotated.newest(), previous_key, previous_until };
        let both = texts(&rotated, &new).unwrap();
        assert_eq!((both.len(), &both[1]), (2, &shown[0]));
        assert_eq!(texts(&after, &new).unwrap(), both[..1], "who has rotated needs the former key no more");
        let over = Generation { previous_until: Some(now), ..new };
        assert_eq!(texts(&rotated, &over).unwrap(), both[..1]);
    }
}
