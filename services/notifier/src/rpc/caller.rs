//! Who calls: the envelope service knows the keys, and is asked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign::v1::{ErrorReason, Scope};
use countersign_chassis::keys::sha256;
use countersign_chassis::problem::Problem;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::access::Access;
use crate::envelopes::Envelopes;
use crate::id::AccountId;

/// How long a caller who reads is believed without asking again; one who changes something never is.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// Remembered callers.
const REMEMBERED_MAX: usize = 10_000;

/// Whose credential came with a call.
#[derive(Clone, Copy)]
pub(super) struct Sender {
    pub account: AccountId,
    pub livemode: bool,
    may_read: bool,
    may_write: bool,
    suspended: bool,
}

impl Sender {
    /// The rows that the credential may see.
    pub fn scope(self) -> (AccountId, bool) {
        (self.account, self.livemode)
    }
}

/// Tells callers apart.
pub(super) struct Callers {
    pub envelopes: Envelopes,
    remembered: Mutex<HashMap<[u8; 32], (Instant, Sender)>>,
}

impl Callers {
    /// By that envelope service's word.
    pub fn new(envelopes: Envelopes) -> Self {
        Self { envelopes, remembered: Mutex::default() }
    }

    /// Somebody who may make that call.
    pub async fn let_in(&self, metadata: &MetadataMap, access: Access) -> Result<Sender, Status> {
        let sender = self.sender(metadata, !access.writes).await?;
        let (holds, scope) = match access.writes {
            true => (sender.may_write, "webhooks.write"),
            false => (sender.may_read, "webhooks.read"),
        };
        if !holds {
            let message = "This credential lacks the scope that the call needs.";
            return Err(Problem::new(ErrorReason::PermissionDenied, message).with("scope", scope).into());
        }
        if access.changes && sender.suspended {
            let message = "The account is suspended: its keys only read.";
            return Err(Problem::new(ErrorReason::AccountSuspended, message).into());
        }
        Ok(sender)
    }

    async fn sender(&self, metadata: &MetadataMap, from_memory: bool) -> Result<Sender, Status> {
        let Some(authorization) = metadata.get("authorization") else {
            let message = "A bearer token is needed: metadata `authorization: Bearer …`.";
            return Err(Problem::new(ErrorReason::AuthenticationRequired, message).into());
        };
        let name = sha256(authorization.as_encoded_bytes());
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
        if let Some((since, sender)) = remembered
            && from_memory
            && since.elapsed() < KNOWN_FOR
        {
            return Ok(sender);
        }
        let known = self.envelopes.identify(authorization.clone()).await.map_err(|status| unidentified(&status))?;
        let account = known.account_id.parse().map_err(|_| Status::from(Problem::internal()))?;
        let has = |scope: Scope| known.scopes.contains(&scope.into());
        let (may_read, may_write) = (has(Scope::WebhooksRead), has(Scope::WebhooksWrite));
        let suspended = known.account_suspended;
        let sender = Sender { account, livemode: known.livemode, may_read, may_write, suspended };
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(name, (Instant::now(), sender));
        Ok(sender)
    }
}

/// The envelope service's word on the credential, or that it could not be asked.
fn unidentified(status: &Status) -> Status {
    match status.code() {
        Code::Unauthenticated | Code::NotFound => {
            Problem::new(ErrorReason::AuthenticationRequired, "The bearer token is not known.").into()
        }
        Code::PermissionDenied => {
            Problem::new(ErrorReason::PermissionDenied, "This credential is not for this call.").into()
        }
        // With the envelope service's own details: which limit, and when to come again.
        Code::ResourceExhausted => status.clone(),
        code => {
            let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
            tracing::warn!(code = format!("{code:?}"), reason, "the envelope service cannot identify a caller");
            Problem::unavailable().into()
        }
    }
}
