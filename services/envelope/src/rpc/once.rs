//! Changes that are made once for each idempotency key.

use std::future::Future;

use countersign_chassis::once::{self, Caller, Claimed, Keyed, Once};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};
use uuid::Uuid;

use super::Handler;
use super::status::database;
use crate::credential::SigningToken;
use crate::store::{Keep, Scope};

impl Handler {
    /// The key of a sender's request, or of the operator's for an account.
    pub(super) fn claim<T: Keyed>(
        &self,
        metadata: &MetadataMap,
        request: &mut T,
        scope: Scope,
    ) -> Result<Option<Claimed>, Status> {
        let caller = Caller { account: scope.account.uuid(), livemode: scope.livemode, within: &[] };
        self.0.onces.claim(metadata, request, caller, self.0.store.clock().now())
    }

    /// The key of a request of the operator's that is about no account.
    pub(super) fn claim_alone<T: Keyed>(
        &self,
        metadata: &MetadataMap,
        request: &mut T,
    ) -> Result<Option<Claimed>, Status> {
        let caller = Caller { account: Uuid::nil(), livemode: None, within: &[] };
        self.0.onces.claim(metadata, request, caller, self.0.store.clock().now())
    }

    /// The key of a recipient's request. It belongs to the credential: nobody else gets the reply, not even who has the
    /// same place later.
    pub(super) fn claim_by<T: Keyed>(
        &self,
        metadata: &MetadataMap,
        request: &mut T,
        token: &SigningToken,
    ) -> Result<Option<Claimed>, Status> {
        let caller = Caller { account: token.account.uuid(), livemode: None, within: &token.fingerprint() };
        self.0.onces.claim(metadata, request, caller, self.0.store.clock().now())
    }

    /// Runs a change, or answers with the reply that is kept for its key.
    pub(super) async fn once<R: Message + Default>(
        &self,
        claimed: Option<&Claimed>,
        change: impl Future<Output = Result<R, Status>>,
    ) -> Result<Response<R>, Status> {
        let kept = async |once: &Once| self.0.store.kept(once.clone()).await.map_err(|error| database(&error));
        once::run(claimed, change, kept).await
    }
}

/// What to keep of a change whose reply is known beforehand.
pub(super) fn keep<T>(claimed: Option<&Claimed>, reply: &impl Message) -> Option<Keep<T>> {
    keep_as(claimed, {
        let reply = reply.encode_to_vec();
        move |_| Some(reply)
    })
}

/// What to keep of a change, worded from what came of it.
pub(super) fn keep_as<T>(
    claimed: Option<&Claimed>,
    reply: impl FnOnce(&T) -> Option<Vec<u8>> + Send + 'static,
) -> Option<Keep<T>> {
    claimed.map(|claimed| Keep { once: claimed.once.clone(), reply: Box::new(reply) })
}
