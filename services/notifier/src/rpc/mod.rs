//! WebhookService: parse, act, render. Knows no SQL.

pub mod access;
mod caller;
mod challenge;
mod cursor;
mod delivery;
mod endpoint;
mod parse;
mod render;

use std::sync::Arc;

use countersign::v1;
use countersign::v1::webhook_service_server::{WebhookService, WebhookServiceServer};
use countersign_chassis::database::DatabaseError;
use countersign_chassis::guard::Guard;
use countersign_chassis::keys::Ring;
use countersign_chassis::once::{self, Caller, Claimed, Keyed, Once, Onces};
use countersign_chassis::problem::Problem;
use prost::Message;
use tokio::sync::{Notify, Semaphore};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use self::access::Access;
use self::caller::{Callers, Sender};
use self::cursor::Purpose;
use self::parse::Faults;
use crate::envelopes::Envelopes;
use crate::store::Store;
use crate::webhook::courier::Courier;
use crate::webhook::headers::Seal;
use crate::webhook::signature::{KeyMissing, Secrets};

/// The services of this process, for health by name.
pub const SERVICES: [&str; 1] = ["countersign.v1.WebhookService"];

/// What the handlers work with, as the process gives it.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Who knows the callers.
    pub envelopes: Envelopes,
    /// The endpoints' secrets.
    pub secrets: Arc<Secrets>,
    /// The endpoints' headers.
    pub seal: Arc<Seal>,
    /// Where webhooks may go.
    pub guard: Guard,
    /// Who asks endpoints.
    pub courier: Arc<Courier>,
    /// Whether endpoints have to prove that they want webhooks.
    pub challenge: bool,
    /// Notified when there are new deliveries.
    pub wake: Arc<Notify>,
}

/// Size of a request: the largest names some hundred events.
const REQUEST_BYTES_MAX: usize = 256 * 1024;

/// Answers calls.
pub struct Handler {
    store: Store,
    callers: Callers,
    secrets: Arc<Secrets>,
    seal: Arc<Seal>,
    guard: Guard,
    courier: Arc<Courier>,
    challenge: bool,
    wake: Arc<Notify>,
    onces: Onces,
    pages: Ring,
    challenges: Semaphore,
}

impl Handler {
    /// On those parts.
    #[must_use]
    pub fn new(parts: Parts, master: &Ring) -> Self {
        let Parts { store, envelopes, secrets, seal, guard, courier, challenge, wake } = parts;
        Self {
            store,
            callers: Callers::new(envelopes),
            secrets,
            seal,
            guard,
            courier,
            challenge,
            wake,
            onces: Onces::new(master),
            pages: master.derive("pages"),
            challenges: Semaphore::new(challenge::AT_ONCE),
        }
    }

    /// All services.
    #[must_use]
    pub fn routes(self) -> Routes {
        Routes::new(WebhookServiceServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX))
    }

    /// A call that only reads: who makes it, and what they ask.
    async fn reading<T>(&self, request: Request<T>, access: Access) -> Result<(Sender, T), Status> {
        let sender = self.callers.let_in(request.metadata(), access).await?;
        Ok((sender, request.into_inner()))
    }

    /// A call that changes something: who makes it, its idempotency key, and what they ask.
    async fn changing<T: Keyed>(
        &self,
        request: Request<T>,
        access: Access,
    ) -> Result<(Sender, Option<Claimed>, T), Status> {
        let sender = self.callers.let_in(request.metadata(), access).await?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, sender)?;
        Ok((sender, claimed, message))
    }

    fn claim<T: Keyed>(
        &self,
        metadata: &MetadataMap,
        request: &mut T,
        sender: Sender,
    ) -> Result<Option<Claimed>, Status> {
        let caller = Caller { account: sender.account.uuid(), livemode: Some(sender.livemode), within: &[] };
        self.onces.claim(metadata, request, caller, self.store.clock().now())
    }

    /// Runs a change, or answers with the reply that is kept for its key.
    async fn once<R: Message + Default>(
        &self,
        claimed: Option<&Claimed>,
        change: impl Future<Output = Result<R, Status>>,
    ) -> Result<Response<R>, Status> {
        let kept = async |once: &Once| self.store.kept(once).await.map_err(|error| database(&error));
        once::run(claimed, change, kept).await
    }

    /// Where a page starts: nowhere without a token, and a foreign or damaged token is a fault.
    fn page_start(&self, purpose: &Purpose<'_>, token: &str, faults: &mut Faults) -> Option<Vec<u8>> {
        if token.is_empty() {
            return None;
        }
        let start = cursor::open(&self.pages, purpose, token);
        if start.is_none() {
            faults.add("page_token", "is not one that the service gave for this list");
        }
        start
    }
}

/// The operator's to mend, and nothing that the caller asked for wrongly.
fn key_missing(missing: KeyMissing) -> Status {
    tracing::error!(error = missing.to_string(), "a secret cannot be made");
    Problem::unavailable().into()
}

fn database(error: &DatabaseError) -> Status {
    if matches!(error, DatabaseError::KeyUsed | DatabaseError::KeyInUse) {
        return once::in_progress();
    }
    if error.is_transient() {
        tracing::warn!(error = error.to_string(), "the database is away or too busy");
        return Problem::unavailable().into();
    }
    tracing::error!(error = error.to_string(), "the database refused a statement of ours");
    Problem::internal().into()
}

#[tonic::async_trait]
impl WebhookService for Handler {
    async fn create_webhook_endpoint(
        &self,
        request: Request<v1::CreateWebhookEndpointRequest>,
    ) -> Result<Response<v1::CreateWebhookEndpointResponse>, Status> {
        let (sender, claimed, message) = self.changing(request, access::CREATE).await?;
        let made = self.once(claimed.as_ref(), self.create(sender, claimed.as_ref(), &message)).await?;
        once::shown_once(made, |reply| reply.endpoint.as_ref().map(|it| it.id.clone()).unwrap_or_default())
    }

    async fn get_webhook_endpoint(
        &self,
        request: Request<v1::GetWebhookEndpointRequest>,
    ) -> Result<Response<v1::GetWebhookEndpointResponse>, Status> {
        let (sender, message) = self.reading(request, access::GET).await?;
        let endpoint = self.get(sender, &message.endpoint_id).await?;
        Ok(Response::new(v1::GetWebhookEndpointResponse { endpoint: Some(render::endpoint(&endpoint)) }))
    }

    async fn list_webhook_endpoints(
        &self,
        request: Request<v1::ListWebhookEndpointsRequest>,
    ) -> Result<Response<v1::ListWebhookEndpointsResponse>, Status> {
        let (sender, message) = self.reading(request, access::LIST).await?;
        self.list(sender, &message).await.map(Response::new)
    }

    async fn update_webhook_endpoint(
        &self,
        request: Request<v1::UpdateWebhookEndpointRequest>,
    ) -> Result<Response<v1::UpdateWebhookEndpointResponse>, Status> {
        let (sender, claimed, message) = self.changing(request, access::UPDATE).await?;
        self.once(claimed.as_ref(), self.update(sender, claimed.as_ref(), &message)).await
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<v1::RotateWebhookSecretRequest>,
    ) -> Result<Response<v1::RotateWebhookSecretResponse>, Status> {
        let (sender, claimed, message) = self.changing(request, access::ROTATE).await?;
        let made = self.once(claimed.as_ref(), self.rotate(sender, claimed.as_ref(), &message)).await?;
        once::shown_once(made, |reply| reply.endpoint.as_ref().map(|it| it.id.clone()).unwrap_or_default())
    }

    async fn verify_webhook_endpoint(
        &self,
        request: Request<v1::VerifyWebhookEndpointRequest>,
    ) -> Result<Response<v1::VerifyWebhookEndpointResponse>, Status> {
        let (sender, claimed, message) = self.changing(request, access::VERIFY).await?;
        self.once(claimed.as_ref(), self.verify(sender, claimed.as_ref(), &message)).await
    }

    async fn enable_webhook_endpoint(
        &self,
        request: Request<v1::EnableWebhookEndpointRequest>,
    ) -> Result<Response<v1::EnableWebhookEndpointResponse>, Status> {
        let (sender, claimed, message) = self.changing(request, access::ENABLE).await?;
        self.once(claimed.as_ref(), self.enable(sender, claimed.as_ref(), &message)).await
    }

    async fn delete_webhook_endpoint(
        &self,
        request: Request<v1::DeleteWebhookEndpointRequest>,
    ) -> Result<Response<v1::DeleteWebhookEndpointResponse>, Status> {
        let (sender, claimed, message) = self.changing(request, access::DELETE).await?;
        self.once(claimed.as_ref(), self.delete(sender, claimed.as_ref(), &message)).await
    }

    async fn send_test_event(
        &self,
        request: Request<v1::SendTestEventRequest>,
    ) -> Result<Response<v1::SendTestEventResponse>, Status> {
        let (sender, claimed, message) = self.changing(request, access::TEST).await?;
        self.once(claimed.as_ref(), self.test(sender, claimed.as_ref(), &message)).await
    }

    async fn list_deliveries(
        &self,
        request: Request<v1::ListDeliveriesRequest>,
    ) -> Result<Response<v1::ListDeliveriesResponse>, Status> {
        let (sender, message) = self.reading(request, access::LIST_DELIVERIES).await?;
        self.deliveries(sender, &message).await.map(Response::new)
    }

    async fn get_delivery(
        &self,
        request: Request<v1::GetDeliveryRequest>,
    ) -> Result<Response<v1::GetDeliveryResponse>, Status> {
        let (sender, message) = self.reading(request, access::GET_DELIVERY).await?;
        self.delivery(sender, &message).await.map(Response::new)
    }

    async fn redeliver_events(
        &self,
        request: Request<v1::RedeliverEventsRequest>,
    ) -> Result<Response<v1::RedeliverEventsResponse>, Status> {
        let (sender, claimed, message) = self.changing(request, access::REDELIVER).await?;
        self.once(claimed.as_ref(), self.redeliver(sender, claimed.as_ref(), &message)).await
    }

    async fn get_envelope_webhook_secret(
        &self,
        request: Request<v1::GetEnvelopeWebhookSecretRequest>,
    ) -> Result<Response<v1::GetEnvelopeWebhookSecretResponse>, Status> {
        let (sender, message) = self.reading(request, access::ENVELOPE_SECRET).await?;
        self.envelope_secret(sender, &message).await.map(Response::new)
    }
}
