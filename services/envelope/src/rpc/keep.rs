//! How long contents are kept, and their removal: UpdateRetention, SetLegalHold, DeleteEnvelopeContent.

use countersign::v1;
use countersign_chassis::once::Keyed;
use tonic::{Request, Response, Status};

use super::Handler;
use super::auth::{owner, sender};
use super::envelope::rendered;
use super::parse::Faults;
use super::source::source;
use super::steer::Call;
use super::terms::retention_days;
use crate::domain::command::{By, Command};
use crate::domain::decide::Verdict;
use crate::domain::envelope::Envelope;
use crate::domain::personal::Personal;

impl Handler {
    pub(super) async fn retain(
        &self,
        request: Request<v1::UpdateRetentionRequest>,
    ) -> Result<Response<v1::UpdateRetentionResponse>, Status> {
        let (sender, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::default();
            let id = faults.id("envelope_id", &message.envelope_id);
            let days = retention_days(message.retention_days, "", &sender.account.settings, &mut faults);
            faults.finish()?;
            let told = |after: &Envelope, _: &Verdict| v1::UpdateRetentionResponse { envelope: rendered(after) };
            self.command(&call, id, message.if_revision, Command::Retain { days }, told).await
        })
        .await
    }

    pub(super) async fn hold(
        &self,
        request: Request<v1::SetLegalHoldRequest>,
    ) -> Result<Response<v1::SetLegalHoldResponse>, Status> {
        let call = self.owned(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::within(&call.limits);
            let id = faults.id("envelope_id", &message.envelope_id);
            let reason = reason(&message.reason, &mut faults);
            faults.finish()?;
            let command = Command::Hold { hold: message.hold, reason };
            let told = |after: &Envelope, _: &Verdict| v1::SetLegalHoldResponse { envelope: rendered(after) };
            self.command(&call, id, message.if_revision, command, told).await
        })
        .await
    }

    pub(super) async fn erase(
        &self,
        request: Request<v1::DeleteEnvelopeContentRequest>,
    ) -> Result<Response<v1::DeleteEnvelopeContentResponse>, Status> {
        let call = self.owned(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::within(&call.limits);
            let id = faults.id("envelope_id", &message.envelope_id);
            let reason = reason(&message.reason, &mut faults);
            faults.finish()?;
            let told = |after: &Envelope, _: &Verdict| v1::DeleteEnvelopeContentResponse { envelope: rendered(after) };
            self.command(&call, id, message.if_revision, Command::Erase { reason }, told).await
        })
        .await
    }

    /// A call of the sender or the operator.
    fn owned<T: Keyed>(&self, request: Request<T>) -> Result<Call<T>, Status> {
        let owner = owner(request.extensions())?;
        let limits = sender(request.extensions()).map(|sender| sender.account.settings.limits.clone());
        let limits = limits.unwrap_or_default();
        let by = By { actor: owner.actor, source: source(&request, &self.0.trusted_peers) };
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, owner.scope)?;
        Ok(Call { scope: owner.scope, by, message, claimed, limits })
    }
}

/// What is kept for ever, or destroyed, is so for a reason.
fn reason(given: &str, faults: &mut Faults) -> Option<Personal> {
    let reason = faults.personal("reason", given);
    if reason.is_none() {
        faults.add("reason", "must be there");
    }
    reason
}
