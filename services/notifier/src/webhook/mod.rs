//! Webhooks: planned, signed, guarded and posted.

pub mod courier;
pub mod deliver;
pub mod headers;
pub mod plan;
pub mod signature;
mod together;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::DateTime;
use countersign::v1::{Event, EventType};
use countersign_chassis::database::DatabaseError;
use countersign_chassis::guard::Guard;
use countersign_chassis::keys::Fingerprint;
use diesel_async::AsyncPgConnection;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Notify;
use tonic::Code;
use url::{Origin, Url};

use self::plan::{Delivery, Listener, plan};
use crate::envelopes::Envelopes;
use crate::event::each;
use crate::id::{AccountId, EndpointId, EnvelopeId};
use crate::sink::{Sink, Traces, Work};
use crate::store::{Endpoint, MasterKeys, Store, keep_deliveries, keep_endpoints};

/// Envelopes that are asked about at a time.
const ASKED_MAX: usize = 8;

/// The sink of endpoints.
pub struct Webhooks {
    /// Where endpoints and deliveries are kept.
    pub store: Store,
    /// Who knows the own addresses of envelopes.
    pub envelopes: Envelopes,
    /// Where webhooks may go.
    pub guard: Guard,
    /// Whether endpoints have to prove that they want webhooks.
    pub challenge: bool,
    /// The master key under which new secrets are made.
    pub newest_key: Fingerprint,
    /// Notified when there are new deliveries.
    pub wake: Arc<Notify>,
}

struct Deliveries {
    /// Addresses of envelopes, and whether they are verified: by what is known now.
    endpoints: Vec<Endpoint>,
    rows: Vec<Delivery>,
    traces: Traces,
    store: Store,
    wake: Arc<Notify>,
}

#[tonic::async_trait]
impl Sink for Webhooks {
    async fn plan(&self, events: &[Event], traces: &Traces) -> anyhow::Result<Box<dyn Work>> {
        let mut accounts: Vec<AccountId> = events.iter().filter_map(|event| event.account_id.parse().ok()).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let now = self.store.clock().now();
        let listening = if accounts.is_empty() { Vec::new() } else { self.store.listeners(accounts, now).await? };
        let mut endpoints = self.own_addresses(events).await?;
        for own in &mut endpoints {
            own.verified_at = self.verified(own, &listening).then_some(now);
        }
        let mut listeners: Vec<_> = listening.iter().map(listener).collect();
        listeners.extend(endpoints.iter().map(|endpoint| self.own_listener(endpoint)));
        let rows = each(events, |event, head| plan(event, head, &listeners));
        let traces = traces.clone();
        Ok(Box::new(Deliveries { endpoints, rows, traces, store: self.store.clone(), wake: Arc::clone(&self.wake) }))
    }
}

fn listener(endpoint: &Endpoint) -> Listener {
    Listener {
        account: endpoint.account,
        endpoint: endpoint.id,
        livemode: endpoint.livemode,
        since: endpoint.verified_at.unwrap_or(DateTime::<chrono::Utc>::MAX_UTC),
        types: endpoint.types.clone(),
        envelope: None,
        cause: endpoint.disabled_at.map(|_| "endpoint_disabled"),
    }
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<Origin> {
    Url::parse(url).ok().map(|url| url.origin())
}

impl Webhooks {
    /// The own addresses of the envelopes that have one, as they are now.
    async fn own_addresses(&self, events: &[Event]) -> anyhow::Result<Vec<Endpoint>> {
        let mut wanted: BTreeMap<(AccountId, EnvelopeId), (bool, bool)> = BTreeMap::new();
        for event in events.iter().filter(|event| event.state.as_ref().is_some_and(|state| state.has_webhook)) {
            if let (Ok(account), Ok(envelope)) = (event.account_id.parse(), event.envelope_id.parse()) {
                // A draft's address may be changed.
                let changed = event.r#type() == EventType::EnvelopeUpdated;
                wanted.entry((account, envelope)).or_insert((event.livemode, false)).1 |= changed;
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<_> = wanted.keys().copied().collect();
        let mut own = self.store.envelope_endpoints(&keys).await?;
        let known: HashSet<_> = own.iter().filter_map(|it| Some((it.account, it.envelope?))).collect();
        let unknown = wanted.into_iter().filter(|(key, (_, changed))| *changed || !known.contains(key));
        let unknown: Vec<_> = unknown.collect();
        if unknown.is_empty() {
            return Ok(own);
        }
        let keys = self.store.master_keys(self.newest_key).await?;
        let asked = futures_util::stream::iter(unknown)
            .map(|((account, envelope), (livemode, _))| self.ask(account, envelope, livemode, &keys))
            .buffered(ASKED_MAX);
        let found: Vec<Endpoint> = asked.try_filter_map(async |found| Ok(found)).try_collect().await?;
        for new in &found {
            match own.iter_mut().find(|it| (it.account, it.id) == (new.account, new.id)) {
                Some(old) => old.url.clone_from(&new.url),
                None => own.push(new.clone()),
            }
        }
        Ok(own)
    }

    /// An envelope's own address. One that cannot be read any more must not keep all others from everybody.
    async fn ask(
        &self,
        account: AccountId,
        envelope: EnvelopeId,
        livemode: bool,
        keys: &MasterKeys,
    ) -> anyhow::Result<Option<Endpoint>> {
        let url = match self.envelopes.get(account, envelope).await {
            Ok(envelope) => envelope.webhook_url,
            Err(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied | Code::InvalidArgument) => {
                return Ok(None);
            }
            Err(status) => anyhow::bail!("an envelope's address cannot be asked for: {:?}", status.code()),
        };
        if url.is_empty() {
            return Ok(None);
        }
        let (id, now) = (EndpointId::from_uuid(envelope.uuid()), self.store.clock().now());
        let mut endpoint = Endpoint::new(account, id, livemode, url, keys.of(envelope), now);
        endpoint.envelope = Some(envelope);
        Ok(Some(endpoint))
    }

    /// With the challenge on, an envelope's address must be where its account has proved that it wants webhooks.
    fn verified(&self, endpoint: &Endpoint, listening: &[Endpoint]) -> bool {
        let proves = |other: &&Endpoint| {
            (other.account, other.livemode) == (endpoint.account, endpoint.livemode) && other.disabled_at.is_none()
        };
        let wanted = origin(&endpoint.url);
        !self.challenge
            || (wanted.is_some() && listening.iter().filter(proves).any(|other| origin(&other.url) == wanted))
    }

    fn own_listener(&self, endpoint: &Endpoint) -> Listener {
        let cause = if self.guard.check(&endpoint.url).is_err() {
            Some("address_not_allowed")
        } else if endpoint.verified_at.is_none() {
            Some("origin_not_verified")
        } else {
            endpoint.disabled_at.map(|_| "endpoint_disabled")
        };
        let since = DateTime::<chrono::Utc>::MIN_UTC;
        Listener { envelope: endpoint.envelope, since, cause, ..listener(endpoint) }
    }
}

#[tonic::async_trait]
impl Work for Deliveries {
    async fn keep(&self, connection: &AsyncPgConnection) -> Result<(), DatabaseError> {
        let now = self.store.clock().now();
        if !self.endpoints.is_empty() {
            keep_endpoints(connection, &self.endpoints, now).await?;
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        keep_deliveries(connection, &self.rows, &self.traces, now).await
    }

    fn kept(&self) {
        if !self.rows.is_empty() {
            self.wake.notify_one();
        }
    }
}
