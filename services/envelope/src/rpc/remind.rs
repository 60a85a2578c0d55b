//! RemindRecipients and ReportBounce: a sender's chase by hand, and what the notifier found out about an address.

use countersign::v1;
use tonic::{Request, Response, Status};

use super::Handler;
use super::auth::notifier;
use super::envelope::rendered;
use super::parse::Faults;
use super::steer::{Call, named};
use crate::domain::command::{By, Command};
use crate::domain::decide::Verdict;
use crate::domain::envelope::Envelope;
use crate::domain::limits::Limits;
use crate::domain::recipient::Recipient;

impl Handler {
    /// Tells also who is reminded.
    pub(super) async fn remind(
        &self,
        request: Request<v1::RemindRecipientsRequest>,
    ) -> Result<Response<v1::RemindRecipientsResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let (id, recipients) = named(&message.envelope_id, &message.recipient_ids)?;
            let told = |after: &Envelope, _: &Verdict| {
                let now = |other: &&Recipient| other.notices.last_reminder_at == Some(after.last_event_at);
                let recipient_ids = after.recipients.iter().filter(now).map(|other| other.id.to_string()).collect();
                v1::RemindRecipientsResponse { envelope: rendered(after), recipient_ids }
            };
            self.command(&call, id, message.if_revision, Command::Remind { recipients }, told).await
        })
        .await
    }

    pub(super) async fn bounced(
        &self,
        request: Request<v1::ReportBounceRequest>,
    ) -> Result<Response<v1::ReportBounceResponse>, Status> {
        let scope = notifier(request.extensions())?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, scope)?;
        let call = Call { scope, by: By::system(), message, claimed, limits: Limits::default() };
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::default();
            let id = faults.id("envelope_id", &message.envelope_id);
            let recipient = faults.id("recipient_id", &message.recipient_id);
            let address = faults.digest("address_sha256", &message.address_sha256);
            faults.finish()?;
            let told =
                |_: &Envelope, verdict: &Verdict| v1::ReportBounceResponse { recorded: *verdict == Verdict::Done };
            self.command(&call, id, 0, Command::Bounce { recipient, address }, told).await
        })
        .await
    }
}
