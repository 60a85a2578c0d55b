//! What a changed master key leaves to be done: the new one is noted, headers are sealed anew under it, and it is said which keys
//! endpoints still need and nobody has given.

use std::sync::Arc;
use std::time::Duration;

use countersign_chassis::ticker::Progress;

use crate::store::{SealedHeaders, Store};
use crate::webhook::headers::Seal;
use crate::webhook::signature::Secrets;

/// How often it is looked.
pub const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Endpoints whose headers are sealed anew at a time.
const BATCH_MAX: i64 = 100;

/// Looks after what is kept under master keys.
#[derive(Clone)]
pub struct Rotation {
    store: Store,
    secrets: Arc<Secrets>,
    seal: Arc<Seal>,
}

impl Rotation {
    /// With those keys.
    #[must_use]
    pub fn new(store: Store, secrets: Arc<Secrets>, seal: Arc<Seal>) -> Self {
        Self { store, secrets, seal }
    }

    /// Seals some headers anew, or says what is missing if none are left that can be.
    pub async fn tick(&self) -> anyhow::Result<Progress> {
        self.store.master_keys(self.secrets.newest()).await?;
        let mut after = None;
        loop {
            let former = self.store.sealed_headers(self.seal.former(), after, BATCH_MAX).await?;
            let mut renewed = 0;
            for headers in &former {
                renewed += usize::from(self.renew(headers).await?);
            }
            if renewed > 0 {
                tracing::info!(endpoints = renewed, "headers are sealed under the new master key");
                return Ok(Progress::Busy);
            }
            // Behind those that cannot be opened there may be others that can.
            let Some(last) = former.last() else { break };
            after = Some((last.account, last.endpoint));
        }
        for (key, endpoints) in self.store.missing_keys(&self.secrets.known()).await? {
            tracing::error!(key = key.to_string(), endpoints, "endpoints need a master key that is not in the ring");
        }
        Ok(Progress::Idle)
    }

    async fn renew(&self, headers: &SealedHeaders) -> anyhow::Result<bool> {
        let SealedHeaders { account, endpoint, sealed } = headers;
        let Some(renewed) = self.seal.renewed(*account, *endpoint, sealed) else {
            tracing::error!(endpoint = endpoint.to_string(), "the headers of an endpoint cannot be opened");
            return Ok(false);
        };
        self.store.reseal_headers(headers, renewed).await?;
        Ok(true)
    }
}
