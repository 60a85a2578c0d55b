//! Calls about endpoints: parse, act, render.

use std::time::Duration;

use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::ErrorReason;
use countersign_chassis::once::{Claimed, Once};
use countersign_chassis::problem::Problem;
use prost::Message as _;
use tonic::Status;
use uuid::{NoContext, Timestamp, Uuid};

use super::caller::Sender;
use super::cursor::{self, Purpose};
use super::parse::{Faults, endpoint_id, envelope_id};
use super::{Handler, database, key_missing, render};
use crate::id::{AccountId, EndpointId};
use crate::store::{Endpoint, EndpointChanges, Named};
use crate::webhook::signature::Generation;

/// Endpoints of an account and mode, but for those of envelopes.
const ENDPOINTS_MAX: i64 = 20;
/// For how long an old secret signs too: usually, and at most.
const OVERLAP: (Duration, Duration) = (Duration::from_secs(24 * 3600), Duration::from_secs(7 * 24 * 3600));
/// Endpoints on a page.
const PAGE_MAX: u32 = 100;
/// Deliveries that are replayed at once.
const REPLAYED_MAX: i64 = 1_000;

fn named(sender: Sender, given: &str) -> Result<Named, Status> {
    Ok(Named { account: sender.account, livemode: sender.livemode, id: endpoint_id(given)? })
}

fn once(claimed: Option<&Claimed>) -> Option<&Once> {
    claimed.map(|claimed| &claimed.once)
}

fn found<T>(found: Option<T>) -> Result<T, Status> {
    found.ok_or_else(|| Problem::not_found().into())
}

impl Handler {
    pub(super) async fn create(
        &self,
        sender: Sender,
        claimed: Option<&Claimed>,
        request: &v1::CreateWebhookEndpointRequest,
    ) -> Result<v1::CreateWebhookEndpointResponse, Status> {
        let mut faults = Faults::default();
        let url = self.url("url", &request.url, &mut faults);
        let description = faults.description("description", &request.description);
        let types = faults.types("types", &request.types);
        let headers = faults.headers("headers", &request.headers);
        faults.finish()?;
        let now = self.store.clock().now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        let id = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()));
        let id = EndpointId::from_uuid(id);
        let mut endpoint = Endpoint::new(sender.account, id, sender.livemode, url, self.secrets.newest(), now);
        endpoint.description = description;
        endpoint.types = types;
        endpoint.headers_sealed = self.sealed(sender.account, id, &headers)?;
        endpoint.header_names = headers.into_iter().map(|(name, _)| name).collect();
        endpoint.verified_at = (!self.challenge).then_some(now);
        let shown = Some(render::endpoint(&endpoint));
        let reply = v1::CreateWebhookEndpointResponse { endpoint: shown, secret: String::new() };
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
        Ok(v1::CreateWebhookEndpointResponse { secret: self.secret(&endpoint)?, ..reply })
    }

    /// As its owner is shown it.
    fn secret(&self, endpoint: &Endpoint) -> Result<String, Status> {
        let Generation { number, key, .. } = endpoint.generation;
        let secret = self.secrets.of(endpoint.account, endpoint.id, number, key).map_err(key_missing)?;
        Ok(secret.text())
    }

    fn url(&self, path: &str, given: &str, faults: &mut Faults) -> String {
        match self.guard.check(given) {
            Ok(url) => url.into(),
            Err(why) => {
                faults.add(path, why);
                String::new()
            }
        }
    }

    fn sealed(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        headers: &[(String, String)],
    ) -> Result<Option<Vec<u8>>, Status> {
        let sealed = self.seal.close(account, endpoint, headers);
        if sealed.is_none() && !headers.is_empty() {
            tracing::error!("headers cannot be sealed");
            return Err(Problem::internal().into());
        }
        Ok(sealed)
    }

    pub(super) async fn get(&self, sender: Sender, given: &str) -> Result<Endpoint, Status> {
        let id = endpoint_id(given)?;
        found(self.store.endpoint(sender.scope(), id).await.map_err(|error| database(&error))?)
    }

    pub(super) async fn list(
        &self,
        sender: Sender,
        request: &v1::ListWebhookEndpointsRequest,
    ) -> Result<v1::ListWebhookEndpointsResponse, Status> {
        let mut faults = Faults::default();
        let limit = faults.page_size(request.page_size, PAGE_MAX, PAGE_MAX);
        let filter = [u8::from(request.with_envelopes)];
        let purpose = Purpose { call: "endpoints", scope: sender.scope(), filter: &filter };
        let after = self
            .page_start(&purpose, &request.page_token, &mut faults)
            .and_then(|content| Uuid::from_slice(&content).ok().map(EndpointId::from_uuid));
        faults.finish()?;
        let listed = self.store.endpoints(sender.scope(), request.with_envelopes, after, limit + 1).await;
        let mut listed = listed.map_err(|error| database(&error))?;
        let more = listed.len() > usize::try_from(limit).unwrap_or_default();
        listed.truncate(usize::try_from(limit).unwrap_or_default());
        let last = listed.last().filter(|_| more);
        let next_page_token =
            last.map(|it| cursor::seal(&self.pages, &purpose, it.id.uuid().as_bytes())).unwrap_or_default();
        let endpoints = listed.iter().map(render::endpoint).collect();
        Ok(v1::ListWebhookEndpointsResponse { endpoints, next_page_token })
    }

    pub(super) async fn update(
        &self,
        sender: Sender,
        claimed: Option<&Claimed>,
        request: &v1::UpdateWebhookEndpointRequest,
    ) -> Result<v1::UpdateWebhookEndpointResponse, Status> {
        let named = named(sender, &request.endpoint_id)?;
        let given = request.changes.clone().unwrap_or_default();
        let mask = request.update_mask.clone().unwrap_or_default().paths;
        let mut faults = Faults::default();
        let mut changes = EndpointChanges { trusted: !self.challenge, ..EndpointChanges::default() };
        if mask.is_empty() || mask.len() > 5 {
            faults.add("update_mask", "must name 1 to 5 fields");
        }
        for path in mask.iter().take(5) {
            match path.as_str() {
                "url" => changes.url = Some(self.url("changes.url", &given.url, &mut faults)),
                "description" => {
                    changes.description = Some(faults.description("changes.description", &given.description));
                }
                "types" => changes.types = Some(faults.types("changes.types", &given.types)),
                "headers" => {
                    let headers = faults.headers("changes.headers", &given.headers);
                    let sealed = self.sealed(named.account, named.id, &headers)?;
                    changes.headers = Some((headers.into_iter().map(|(name, _)| name).collect(), sealed));
                }
                "paused" => changes.paused = Some(given.paused),
                _ => faults.add("update_mask", "names something that `changes` does not have"),
            }
        }
        faults.finish()?;
        let reply =
            |endpoint: &Endpoint| v1::UpdateWebhookEndpointResponse { endpoint: Some(render::endpoint(endpoint)) };
        let kept = |endpoint: &Endpoint| reply(endpoint).encode_to_vec();
        let changed = self.store.update_endpoint(named, changes, once(claimed), kept).await;
        found(changed.map_err(|error| database(&error))?).map(|endpoint| reply(&endpoint))
    }

    pub(super) async fn rotate(
        &self,
        sender: Sender,
        claimed: Option<&Claimed>,
        request: &v1::RotateWebhookSecretRequest,
    ) -> Result<v1::RotateWebhookSecretResponse, Status> {
        let named = named(sender, &request.endpoint_id)?;
        let mut faults = Faults::default();
        let overlap = faults.duration("overlap", request.overlap.as_ref(), OVERLAP.0, OVERLAP.1);
        faults.finish()?;
        let overlap = TimeDelta::from_std(overlap).unwrap_or_default();
        let until = (overlap > TimeDelta::zero()).then(|| self.store.clock().now() + overlap);
        // The secret is not kept: it is shown this once.
        let reply = |endpoint: &Endpoint| v1::RotateWebhookSecretResponse {
            endpoint: Some(render::endpoint(endpoint)),
            secret: String::new(),
        };
        let kept = |endpoint: &Endpoint| reply(endpoint).encode_to_vec();
        let rotated = self.store.rotate_secret(named, self.secrets.newest(), until, once(claimed), kept).await;
        let endpoint = found(rotated.map_err(|error| database(&error))?)?;
        Ok(v1::RotateWebhookSecretResponse { secret: self.secret(&endpoint)?, ..reply(&endpoint) })
    }

    pub(super) async fn enable(
        &self,
        sender: Sender,
        claimed: Option<&Claimed>,
        request: &v1::EnableWebhookEndpointRequest,
    ) -> Result<v1::EnableWebhookEndpointResponse, Status> {
        let named = named(sender, &request.endpoint_id)?;
        let mut faults = Faults::default();
        let since = faults.time("replay_since", request.replay_since.as_ref());
        faults.finish()?;
        let reply = |endpoint: &Endpoint, replayed: u32| v1::EnableWebhookEndpointResponse {
            endpoint: Some(render::endpoint(endpoint)),
            replayed,
        };
        let kept = |endpoint: &Endpoint, replayed: u32| reply(endpoint, replayed).encode_to_vec();
        let enabled = self.store.enable_endpoint(named, (since, REPLAYED_MAX), once(claimed), kept).await;
        let (endpoint, replayed) = found(enabled.map_err(|error| database(&error))?)?;
        self.wake.notify_one();
        Ok(reply(&endpoint, replayed))
    }

    pub(super) async fn delete(
        &self,
        sender: Sender,
        claimed: Option<&Claimed>,
        request: &v1::DeleteWebhookEndpointRequest,
    ) -> Result<v1::DeleteWebhookEndpointResponse, Status> {
        let named = named(sender, &request.endpoint_id)?;
        let kept = |cancelled: u32| v1::DeleteWebhookEndpointResponse { cancelled }.encode_to_vec();
        let gone = self.store.delete_endpoint(named, once(claimed), kept).await;
        let cancelled = found(gone.map_err(|error| database(&error))?)?;
        // What waited is cancelled by the loop.
        self.wake.notify_one();
        Ok(v1::DeleteWebhookEndpointResponse { cancelled })
    }

    pub(super) async fn envelope_secret(
        &self,
        sender: Sender,
        request: &v1::GetEnvelopeWebhookSecretRequest,
    ) -> Result<v1::GetEnvelopeWebhookSecretResponse, Status> {
        let envelope = envelope_id(&request.envelope_id)?;
        let known =
            self.callers.envelopes.get(sender.account, envelope).await.map_err(|status| match status.code() {
                tonic::Code::NotFound => Status::from(Problem::not_found()),
                _ => Problem::unavailable().into(),
            })?;
        if known.livemode != sender.livemode {
            return Err(Problem::not_found().into());
        }
        let keys = self.store.master_keys(self.secrets.newest()).await.map_err(|error| database(&error))?;
        let endpoint = EndpointId::from_uuid(envelope.uuid());
        // Secrets of envelopes are not rotated.
        let secret = self.secrets.of(sender.account, endpoint, 1, keys.of(envelope)).map_err(key_missing)?;
        Ok(v1::GetEnvelopeWebhookSecretResponse { secret: secret.text(), endpoint_id: endpoint.to_string() })
    }
}
