//! WebhookService: parse, act, render. Knows no SQL.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign::v1;
use countersign::v1::webhook_service_server::{WebhookService, WebhookServiceServer};
use countersign::v1::{ErrorReason, Scope};
use countersign_chassis::database::DatabaseError;
use countersign_chassis::keys::sha256;
use countersign_chassis::once::{self, Caller, Claimed, Keyed, Once, Onces};
use countersign_chassis::problem::Problem;
use countersign_chassis::wire::timestamp;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;
use uuid::{NoContext, Timestamp, Uuid};

use crate::envelopes::Envelopes;
use crate::id::{AccountId, EndpointId};
use crate::store::{Endpoint, Store};
use crate::webhook::guard::Guard;
use crate::webhook::signature::Secrets;

/// The services of this process, for health by name.
pub const SERVICES: [&str; 1] = ["countersign.v1.WebhookService"];
/// Endpoints of an account and mode.
const ENDPOINTS_MAX: i64 = 20;
/// How long a caller who reads is believed without asking again; one who changes something never is.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// Remembered callers.
const REMEMBERED_MAX: usize = 10_000;

/// Whose credential came with a call.
#[derive(Clone, Copy)]
struct Sender {
    account: AccountId,
    livemode: bool,
    may_read: bool,
    may_write: bool,
    suspended: bool,
}

/// What the handlers work with.
pub struct Handler {
    /// The database.
    pub store: Store,
    /// Who knows the callers.
    pub envelopes: Envelopes,
    /// The endpoints' secrets.
    pub secrets: Arc<Secrets>,
    /// Where webhooks may go.
    pub guard: Guard,
    onces: Onces,
    remembered: Mutex<HashMap<[u8; 32], (Instant, Sender)>>,
}

impl Handler {
    /// On those parts.
    #[must_use]
    pub fn new(store: Store, envelopes: Envelopes, secrets: Arc<Secrets>, guard: Guard, onces: Onces) -> Self {
        Self { store, envelopes, secrets, guard, onces, remembered: Mutex::default() }
    }

    /// All services.
    #[must_use]
    pub fn routes(self) -> Routes {
        Routes::new(WebhookServiceServer::new(self))
    }

    /// Somebody who may read.
    async fn reader(&self, metadata: &MetadataMap) -> Result<Sender, Status> {
        let sender = self.sender(metadata, true).await?;
        require(sender.may_read, "webhooks.read")?;
        Ok(sender)
    }

    /// Somebody who may change something.
    async fn writer(&self, metadata: &MetadataMap) -> Result<Sender, Status> {
        let sender = self.sender(metadata, false).await?;
        require(sender.may_write, "webhooks.write")?;
        if sender.suspended {
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

fn render(endpoint: &Endpoint) -> v1::WebhookEndpoint {
    v1::WebhookEndpoint {
        id: endpoint.id.to_string(),
        url: endpoint.url.clone(),
        livemode: endpoint.livemode,
        created_at: Some(timestamp(endpoint.created_at)),
    }
}

impl Handler {
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

    async fn create(
        &self,
        sender: Sender,
        claimed: Option<&Claimed>,
        request: &v1::CreateWebhookEndpointRequest,
    ) -> Result<v1::CreateWebhookEndpointResponse, Status> {
        let url = self.guard.check(&request.url).map_err(|why| {
            Status::from(Problem::new(ErrorReason::InvalidField, format!("url: {why}")).field("url", why))
        })?;
        let now = self.store.clock().now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        let id = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()));
        let endpoint = Endpoint {
            account: sender.account,
            id: EndpointId::from_uuid(id),
            livemode: sender.livemode,
            url: url.into(),
            generation: 1,
            created_at: now,
        };
        let reply = v1::CreateWebhookEndpointResponse { endpoint: Some(render(&endpoint)), secret: String::new() };
        // The secret is not kept: it is shown this once.
        let kept = claimed.map(|claimed| (claimed.once.clone(), reply.encode_to_vec()));
        let held =
            self.store.create_endpoint(&endpoint, ENDPOINTS_MAX, kept).await.map_err(|error| database(&error))?;
        if held >= ENDPOINTS_MAX {
            let message = format!("An account has at most {ENDPOINTS_MAX} endpoints in each mode.");
            return Err(Problem::new(ErrorReason::OutOfScopeV1, message)
                .with("limit", "endpoints_max")
                .with("actual", (held + 1).to_string())
                .with("allowed", ENDPOINTS_MAX.to_string())
                .into());
        }
        let secret = self.secrets.of(endpoint.account, endpoint.id, endpoint.generation).text();
        Ok(v1::CreateWebhookEndpointResponse { secret, ..reply })
    }

    async fn delete(
        &self,
        sender: Sender,
        claimed: Option<&Claimed>,
        request: &v1::DeleteWebhookEndpointRequest,
    ) -> Result<v1::DeleteWebhookEndpointResponse, Status> {
        let why = "must be an id of the form whe_…";
        let id: EndpointId = request.endpoint_id.parse().map_err(|_| {
            Status::from(
                Problem::new(ErrorReason::InvalidField, format!("endpoint_id: {why}")).field("endpoint_id", why),
            )
        })?;
        let kept = claimed.map(|claimed| (claimed.once.clone(), Vec::new()));
        let gone = self.store.delete_endpoint(sender.account, sender.livemode, id, kept).await;
        if !gone.map_err(|error| database(&error))? {
            return Err(Problem::not_found().into());
        }
        Ok(v1::DeleteWebhookEndpointResponse {})
    }
}

/// Refuses what the sender's credential is not for.
fn require(holds: bool, scope: &str) -> Result<(), Status> {
    if holds {
        return Ok(());
    }
    let message = "This credential lacks the scope that the call needs.";
    Err(Problem::new(ErrorReason::PermissionDenied, message).with("scope", scope).into())
}

#[tonic::async_trait]
impl WebhookService for Handler {
    async fn create_webhook_endpoint(
        &self,
        request: Request<v1::CreateWebhookEndpointRequest>,
    ) -> Result<Response<v1::CreateWebhookEndpointResponse>, Status> {
        let sender = self.writer(request.metadata()).await?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, sender)?;
        let made = self.once(claimed.as_ref(), self.create(sender, claimed.as_ref(), &message)).await?;
        once::shown_once(made, |reply| reply.endpoint.as_ref().map(|it| it.id.clone()).unwrap_or_default())
    }

    async fn list_webhook_endpoints(
        &self,
        request: Request<v1::ListWebhookEndpointsRequest>,
    ) -> Result<Response<v1::ListWebhookEndpointsResponse>, Status> {
        let sender = self.reader(request.metadata()).await?;
        let listed = self.store.endpoints(sender.account, sender.livemode).await.map_err(|error| database(&error))?;
        Ok(Response::new(v1::ListWebhookEndpointsResponse { endpoints: listed.iter().map(render).collect() }))
    }

    async fn delete_webhook_endpoint(
        &self,
        request: Request<v1::DeleteWebhookEndpointRequest>,
    ) -> Result<Response<v1::DeleteWebhookEndpointResponse>, Status> {
        let sender = self.writer(request.metadata()).await?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, sender)?;
        self.once(claimed.as_ref(), self.delete(sender, claimed.as_ref(), &message)).await
    }
}
