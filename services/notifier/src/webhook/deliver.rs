//! Posts webhooks. At least once: after a crash or a lost answer the same bytes come again under the same `webhook-id`.
//!
//! Each attempt is a task of its own in one of a bounded number of places, so that nobody waits for somebody else's receiver.
//! Must never post inside a transaction, or record what another process has the say about.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::EventType;
use countersign_chassis::failpoint;
use countersign_chassis::ticker::Progress;
use countersign_chassis::{propagation, telemetry};
use opentelemetry::trace::Status;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::{NoContext, Timestamp, Uuid};

use crate::id::{AccountId, EventId};
use crate::measure;
use crate::schedule::{breaker, pause, throttle};
use crate::store::{ClaimedDelivery, Disabled, FAILING, Outcome, Room, Settled, Store, Told};
use crate::webhook::courier::{Answer, Courier, Letter};
use crate::webhook::plan::{body, endpoint_event};
use crate::webhook::signature::{KeyMissing, Secret, Secrets};
use crate::webhook::together::Together;

/// Attempts of one process at a time.
const PLACES: u32 = 64;
/// Of these, for one account while others wait, and in any case.
const ACCOUNT_MAX: (i64, i64) = (PLACES as i64 / 4, PLACES as i64 * 3 / 4);
/// Of these, for endpoints that took nothing yet, or not the last time: whoever hangs leaves the rest to those who are well.
const SUSPECTS: i64 = PLACES as i64 / 2;
/// How long a claim holds: longer than any attempt.
const LEASE_SECONDS: i64 = 30;

/// What waits for nobody is looked for that often even if there is always something to post.
const ORPHANS_SECONDS: i64 = 10;
/// Claims are at least so far apart: places that get free one after the other are filled together.
const APART: Duration = Duration::from_millis(2);
/// How long nothing goes to an endpoint that is gone; it is switched off meanwhile.
const GONE_REST: Duration = Duration::from_secs(60);
/// How long an endpoint is left alone whose secret cannot be made, because a master key is missing.
const KEY_REST: Duration = Duration::from_secs(60);

/// Posts webhooks. What it has begun is cut when the last copy is dropped.
#[derive(Clone)]
pub struct Deliverer {
    post: Arc<Post>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// What an attempt works with.
struct Post {
    store: Store,
    together: Together,
    secrets: Arc<Secrets>,
    courier: Arc<Courier>,
    wake: Arc<Notify>,
    places: Arc<Semaphore>,
    busy: Mutex<Busy>,
    /// When what waits for nobody was looked for while there was other work.
    looked_at: Mutex<DateTime<Utc>>,
}

/// What is in flight.
#[derive(Default)]
struct Busy {
    accounts: HashMap<AccountId, i64>,
    suspects: i64,
}

/// A place in use. Dropping it lets the next attempt in.
struct Place {
    post: Arc<Post>,
    account: AccountId,
    suspect: bool,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut busy = self.post.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.suspects -= i64::from(self.suspect);
        let left = busy.accounts.get(&self.account).map_or(0, |count| count - 1);
        if left <= 0 {
            busy.accounts.remove(&self.account);
        } else {
            busy.accounts.insert(self.account, left);
        }
        drop(busy);
        // What waited for this place, or for this delivery, need not wait for the next look.
        self.post.wake.notify_one();
    }
}

impl Deliverer {
    /// With those secrets, by that courier; `wake` is notified when a place gets free.
    #[must_use]
    pub fn new(store: Store, secrets: Arc<Secrets>, courier: Arc<Courier>, wake: Arc<Notify>) -> Self {
        let places = Arc::new(Semaphore::new(PLACES as usize));
        let (together, busy, looked_at) = (Together::new(store.clone()), Mutex::default(), Mutex::default());
        let post = Post { store, together, secrets, courier, wake, places, busy, looked_at };
        Self { post: Arc::new(post), tasks: Arc::default() }
    }

    /// Begins to post what is due, as far as there are places. Waits for no receiver.
    pub async fn tick(&self) -> anyhow::Result<Progress> {
        while let Some(ended) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                tracing::error!("an attempt broke; its claim runs out");
            }
        }
        let (store, now) = (&self.post.store, self.post.store.clock().now());
        let free = i64::try_from(self.post.places.available_permits()).unwrap_or_default();
        if free == 0 {
            return Ok(Progress::Idle);
        }
        let room = self.post.room(free);
        let claimed = store.claim_deliveries(now, now + TimeDelta::seconds(LEASE_SECONDS), &room).await?;
        if claimed.is_empty() || self.post.looks(now) {
            let cancelled = store.cancel_orphans(now).await?;
            if claimed.is_empty() {
                return Ok(if cancelled == 0 { Progress::Idle } else { Progress::Busy });
            }
        }
        for claimed in claimed {
            let permit = Arc::clone(&self.post.places).acquire_owned().await?;
            let mut busy = self.post.busy.lock().unwrap_or_else(PoisonError::into_inner);
            *busy.accounts.entry(claimed.account).or_default() += 1;
            busy.suspects += i64::from(claimed.suspect);
            drop(busy);
            let (account, suspect) = (claimed.account, claimed.suspect);
            let place = Place { post: Arc::clone(&self.post), account, suspect, _permit: permit };
            let span = span(&claimed);
            let attempt = async move {
                if let Err(error) = place.post.deliver(&claimed).await {
                    tracing::warn!(error = format!("{error:#}"), "an attempt was not written down; its claim runs out");
                }
            };
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(attempt.instrument(span));
        }
        tokio::time::sleep(APART).await;
        Ok(Progress::Busy)
    }

    /// Until nothing is being posted any more.
    pub async fn finished(&self) {
        // Never closed, so this cannot fail.
        let _ = self.post.places.acquire_many(PLACES).await;
    }
}

impl Post {
    /// Whether it is time again to look for what waits for nobody, though there is other work.
    fn looks(&self, now: DateTime<Utc>) -> bool {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = now - *looked_at >= TimeDelta::seconds(ORPHANS_SECONDS);
        if due {
            *looked_at = now;
        }
        due
    }

    fn room(&self, free: i64) -> Room {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let accounts = busy.accounts.iter().map(|(account, count)| (*account, *count)).collect();
        Room { free, suspects: SUSPECTS - busy.suspects, busy: accounts, account_max: ACCOUNT_MAX }
    }

    async fn deliver(&self, claimed: &ClaimedDelivery) -> anyhow::Result<()> {
        let (at, began) = (self.store.clock().now(), Instant::now());
        if at + TimeDelta::from_std(self.courier.longest())? >= claimed.until {
            // The process stood still: by the end of the attempt another one may be posting the same.
            tracing::info!(event = claimed.event.to_string(), "a claim is too old to begin with; it runs out");
            return Ok(());
        }
        let signing = self.secrets.alive(claimed.account, claimed.endpoint, &claimed.generation, at);
        let secrets = match signing.and_then(|it| self.courier.check(claimed.headers_sealed.as_deref()).map(|()| it)) {
            Ok(secrets) => secrets,
            Err(missing) => return self.put_off(claimed, missing, at).await,
        };
        failpoint!("webhook.claimed");
        let answered = self.attempt(claimed, &secrets, at).await;
        failpoint!("webhook.answered");
        let duration_ms = i32::try_from(began.elapsed().as_millis()).unwrap_or(i32::MAX);
        let (outcome, settled) = judge(claimed, &answered, at, duration_ms)?;
        tell(began.elapsed(), &outcome, settled);
        let (event, endpoint) = (claimed.event.to_string(), claimed.endpoint.to_string());
        if settled != Settled::Delivered {
            let (status, failure, tries) = (outcome.status_code, outcome.failure, claimed.tries + 1);
            tracing::warn!(event, endpoint, status, failure, tries, "a webhook was not taken");
        }
        let held = match settled {
            Settled::Delivered => self.together.settle(claimed, &outcome).await?,
            _ => self.store.settle_delivery(claimed, &outcome, settled).await?,
        };
        if !held {
            tracing::info!(event, endpoint, "the claim ran out meanwhile; another process has the say");
            return Ok(());
        }
        failpoint!("webhook.settled");
        match given_up(claimed, settled, at) {
            Some(reason) => self.disable(claimed, reason, at).await,
            None => Ok(()),
        }
    }

    /// What cannot be signed as its owner expects is not posted at all. It costs them no attempt: the key is ours to find. The claim
    /// runs out by itself.
    async fn put_off(&self, claimed: &ClaimedDelivery, missing: KeyMissing, at: DateTime<Utc>) -> anyhow::Result<()> {
        let (endpoint, error) = (claimed.endpoint.to_string(), missing.to_string());
        tracing::error!(endpoint, error, "a webhook cannot be signed; it waits");
        let until = at + TimeDelta::from_std(KEY_REST)?;
        Ok(self.store.rest_endpoint((claimed.account, claimed.endpoint), until).await?)
    }

    async fn attempt(
        &self,
        claimed: &ClaimedDelivery,
        secrets: &[Secret],
        at: DateTime<Utc>,
    ) -> Result<Answer, &'static str> {
        let letter = Letter {
            account: claimed.account,
            endpoint: claimed.endpoint,
            url: &claimed.url,
            id: &claimed.event.to_string(),
            body: &claimed.body,
            secrets,
            headers_sealed: claimed.headers_sealed.as_deref(),
            at,
        };
        self.courier.post(&letter).await
    }

    async fn disable(&self, claimed: &ClaimedDelivery, reason: Disabled, at: DateTime<Utc>) -> anyhow::Result<()> {
        let (account, endpoint) = (claimed.account, claimed.endpoint);
        let id = event_id(at);
        let event = endpoint_event(EventType::EndpointDisabled, (account, claimed.livemode), endpoint, id, at);
        let told = Told { event: id, kind: EventType::EndpointDisabled as i16, body: body(&event)? };
        if self.store.disable_endpoint((account, endpoint, &claimed.url), reason, at, &told).await? {
            measure::disabled(reason);
            tracing::warn!(
                endpoint = endpoint.to_string(),
                reason = format!("{reason:?}"),
                "an endpoint is switched off"
            );
        }
        Ok(())
    }
}

/// The span of an attempt: in the trace of what happened, however long ago.
fn span(claimed: &ClaimedDelivery) -> Span {
    let span = tracing::info_span!(
        target: telemetry::ROOT,
        "deliver",
        otel.name = "POST webhook",
        otel.kind = "client",
        http.request.method = "POST",
        http.request.resend_count = claimed.tries,
    );
    propagation::go_on(&span, claimed.traceparent.as_deref());
    span
}

/// Tells what came of an attempt: never where, or to whom.
fn tell(took: Duration, outcome: &Outcome, settled: Settled) {
    measure::attempted(took, outcome.status_code, outcome.failure);
    let span = Span::current();
    if let Some(status) = outcome.status_code {
        span.set_attribute("http.response.status_code", i64::from(status));
    }
    if settled != Settled::Delivered {
        let error = outcome.status_code.map(|status| status.to_string());
        let error = error.map_or_else(|| Cow::from(outcome.failure.unwrap_or("_OTHER")), Cow::from);
        span.set_attribute("error.type", error);
        span.set_status(Status::error(""));
    }
}

/// An id for an event of an endpoint.
#[must_use]
pub fn event_id(at: DateTime<Utc>) -> EventId {
    let seconds = u64::try_from(at.timestamp()).unwrap_or_default();
    EventId::from_uuid(Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, at.timestamp_subsec_nanos())))
}

/// What is written down about an attempt, and what becomes of its delivery.
fn judge(
    claimed: &ClaimedDelivery,
    answered: &Result<Answer, &'static str>,
    at: DateTime<Utc>,
    duration_ms: i32,
) -> anyhow::Result<(Outcome, Settled)> {
    let answer = answered.as_ref().ok();
    let wished = answer.and_then(|answer| answer.retry_after);
    let pause = pause(claimed.tries + 1, wished);
    let settled = match answer.map(|answer| answer.status) {
        Some(200..=299) => Settled::Delivered,
        Some(410) => Settled::Gone,
        _ => match pause {
            Some(pause) => Settled::Again(at + TimeDelta::from_std(pause)?),
            None => Settled::Dead,
        },
    };
    let mut rest_until = None;
    if settled != Settled::Delivered {
        let throttled = answer.and_then(|answer| throttle(answer.status, wished, pause));
        let gone = (settled == Settled::Gone).then_some(GONE_REST);
        let rest = throttled.max(breaker(claimed.consecutive_failures + 1)).max(gone);
        rest_until = rest.map(TimeDelta::from_std).transpose()?.map(|rest| at + rest);
    }
    let outcome = Outcome {
        at,
        duration_ms,
        status_code: answer.map(|answer| answer.status),
        failure: answered.as_ref().err().copied(),
        answer: answer.map(Answer::text).unwrap_or_default(),
        rest_until,
    };
    Ok((outcome, settled))
}

/// Whether the endpoint is to be switched off, and why: by how it stood when this delivery was claimed. How it stands now is
/// looked at again when it is done.
fn given_up(claimed: &ClaimedDelivery, settled: Settled, at: DateTime<Utc>) -> Option<Disabled> {
    if settled == Settled::Gone {
        return Some(Disabled::Gone);
    }
    let (first, last) = (claimed.first_failed_at?, claimed.last_failure_at?);
    let days = at - first >= TimeDelta::days(FAILING.0.into()) && last - first >= TimeDelta::hours(FAILING.1.into());
    (settled != Settled::Delivered && days).then_some(Disabled::Failing)
}
