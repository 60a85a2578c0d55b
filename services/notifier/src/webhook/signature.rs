//! How webhooks are signed: Standard Webhooks 1.0.0, and `Countersign-Signature` besides.
//!
//! An endpoint's secret is derived from the master key, so that there is none to steal from the database.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use countersign_chassis::keys::{KEY_BYTES, Key};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::id::{AccountId, EndpointId};

/// Makes the secrets of endpoints.
pub struct Secrets(Key);

/// The secret of one endpoint.
pub struct Secret([u8; KEY_BYTES]);

impl Secrets {
    /// From the master key.
    #[must_use]
    pub fn new(master: &Key) -> Self {
        Self(master.derive("webhook"))
    }

    /// The secrets of an endpoint that sign now, the newest first.
    #[must_use]
    pub fn alive(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        generation: u16,
        previous_until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Vec<Secret> {
        let mut alive = vec![self.of(account, endpoint, generation)];
        if generation > 1 && previous_until.is_some_and(|until| now < until) {
            alive.push(self.of(account, endpoint, generation - 1));
        }
        alive
    }

    /// The secret of an endpoint.
    #[must_use]
    pub fn of(&self, account: AccountId, endpoint: EndpointId, generation: u16) -> Secret {
        Secret(self.0.mac(&[account.uuid().as_bytes(), endpoint.uuid().as_bytes(), &generation.to_be_bytes()]))
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
