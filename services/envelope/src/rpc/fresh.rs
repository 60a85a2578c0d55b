//! GetEnvelope and ListEnvelopes: answers as fresh as asked for, from memory, a replica or the database.
//!
//! Must never answer with less than the caller has seen: whoever does not show that yet is passed over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use countersign::v1;
use countersign_chassis::keys::sha256;
use countersign_chassis::problem::Problem;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::auth::{overview, sender};
use super::envelope::{page_start, rendered};
use super::parse::{Faults, page_size};
use super::people::address;
use super::status::database;
use super::terms::{instant, metadata};
use super::{Handler, cursor, render};
use crate::domain::envelope::Envelope;
use crate::domain::id::EnvelopeId;
use crate::domain::limits::Limits;
use crate::domain::status::Status as EnvelopeStatus;
use crate::store::{Filter, Listed, Scope, Shown, Summary};

/// How long a read waits for a revision.
const REVISION_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const REVISION_POLL: Duration = Duration::from_millis(50);
/// Envelopes on a page of a list: default and most.
const ENVELOPES: (i64, i64) = (50, 100);

/// What a list must show at least.
#[derive(Clone, Copy)]
struct Seen {
    id: EnvelopeId,
    revision: u64,
}

/// A page that is asked for.
struct Asked {
    filter: Filter,
    seen: Option<Seen>,
    cached: bool,
    /// Of which time the page before was: one of an earlier time may lack what that one passed over.
    of: Option<DateTime<Utc>>,
}

/// Where a page ended, and of which time it was.
#[derive(Clone, Copy)]
struct Place {
    last: EnvelopeId,
    of: DateTime<Utc>,
}

impl Place {
    fn write(self) -> Vec<u8> {
        [self.last.uuid().as_bytes().as_slice(), &self.of.timestamp_micros().to_be_bytes()].concat()
    }

    fn read(content: &[u8]) -> Option<Self> {
        let (last, of) = content.split_first_chunk::<16>()?;
        let of = DateTime::from_timestamp_micros(i64::from_be_bytes(of.try_into().ok()?))?;
        Some(Self { last: EnvelopeId::from_uuid(uuid::Uuid::from_bytes(*last)), of })
    }
}

impl Handler {
    pub(super) async fn get(
        &self,
        request: Request<v1::GetEnvelopeRequest>,
    ) -> Result<Response<v1::GetEnvelopeResponse>, Status> {
        let scope = overview(request.extensions())?;
        let request = request.into_inner();
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &request.envelope_id);
        let cached = is_cached(&mut faults, request.freshness);
        faults.finish()?;
        let (envelope, age) = self.fresh(scope, id, cached, request.min_revision).await?;
        Ok(Response::new(v1::GetEnvelopeResponse { envelope: rendered(&envelope), age: told(age) }))
    }

    /// An envelope as fresh as asked for, and how old the answer is.
    async fn fresh(
        &self,
        scope: Scope,
        id: EnvelopeId,
        cached: bool,
        min_revision: u64,
    ) -> Result<(Arc<Envelope>, Duration), Status> {
        if cached && let Some(known) = self.known(scope, id, min_revision).await? {
            return Ok(known);
        }
        let began = Instant::now();
        loop {
            let asked = Instant::now();
            let envelope = Arc::new(self.find(scope, id).await?);
            if envelope.revision >= min_revision {
                if cached || self.0.store.has_replica() || self.0.cache.knows(scope.account, id) {
                    self.0.cache.put(Arc::clone(&envelope), asked);
                }
                return Ok((envelope, Duration::ZERO));
            }
            wait(began, "min_revision", envelope.revision).await?;
        }
    }

    /// What memory or the replica knows, if that is enough.
    async fn known(
        &self,
        scope: Scope,
        id: EnvelopeId,
        min_revision: u64,
    ) -> Result<Option<(Arc<Envelope>, Duration)>, Status> {
        let is_seen = |envelope: &Envelope| scope.livemode.is_none_or(|mode| mode == envelope.livemode);
        let seen = self.0.cache.get(scope.account, id);
        if let Some(seen) = seen.filter(|seen| is_seen(&seen.envelope) && seen.envelope.revision >= min_revision) {
            if seen.envelope.facts.discarded_at.is_some() {
                return Err(Problem::not_found().into());
            }
            return Ok(Some((seen.envelope, seen.at.elapsed())));
        }
        let asked = Instant::now();
        let shown = self.0.store.envelope_shown(scope, id).await;
        let Some(Shown { what, age, .. }) = shown.filter(|shown| shown.what.revision >= min_revision) else {
            return Ok(None);
        };
        let envelope = Arc::new(what);
        self.0.cache.put(Arc::clone(&envelope), asked.checked_sub(age).unwrap_or(asked));
        Ok(Some((envelope, age)))
    }

    pub(super) async fn list(
        &self,
        request: Request<v1::ListEnvelopesRequest>,
    ) -> Result<Response<v1::ListEnvelopesResponse>, Status> {
        let sender = sender(request.extensions())?;
        let (scope, limits) = (sender.scope, &sender.account.settings.limits);
        let request = request.into_inner();
        let mut faults = Faults::default();
        let limit = page_size(&mut faults, request.page_size, ENVELOPES.0, ENVELOPES.1);
        let cached = is_cached(&mut faults, request.freshness);
        let seen = request.seen.as_ref().map(|seen| seen_of(seen, &mut faults));
        let purpose = purpose(&request);
        let key = &self.0.keyring.cursor;
        let from = page_start(&mut faults, &request.page_token, |token| {
            Place::read(&cursor::open(key, &purpose, Some(scope), token)?)
        });
        // One more than asked for tells whether there is a next page.
        let before = from.map(|place| place.last);
        let filter = Filter { before, limit: limit + 1, ..filter(&request, limits, &mut faults) };
        faults.finish()?;
        let asked = Asked { filter, seen, cached, of: from.map(|place| place.of) };
        let Shown { what: mut page, of, age } = self.fresh_page(scope, &asked).await?;
        let more = page.len() > usize::try_from(limit).unwrap_or_default();
        page.truncate(usize::try_from(limit).unwrap_or_default());
        let last = page.last().filter(|_| more).map(|summary| Place { last: summary.id, of }.write());
        Ok(Response::new(v1::ListEnvelopesResponse {
            envelopes: page.into_iter().map(render::summary).collect(),
            next_page_token: last.map(|place| cursor::seal(key, &purpose, Some(scope), &place)).unwrap_or_default(),
            age: told(age),
        }))
    }

    async fn fresh_page(&self, scope: Scope, asked: &Asked) -> Result<Shown<Vec<Summary>>, Status> {
        let Asked { filter, seen, cached, of } = asked;
        let (store, id) = (&self.0.store, seen.map(|seen| seen.id));
        let shows = |listed: &Listed| seen.is_none_or(|seen| listed.seen.is_some_and(|shown| shown >= seen.revision));
        if *cached
            && let Some(shown) = store.envelopes_shown(scope, filter.clone(), id).await
            && of.is_none_or(|of| shown.of >= of)
            && shows(&shown.what)
        {
            return Ok(Shown { what: shown.what.page, of: shown.of, age: shown.age });
        }
        let began = Instant::now();
        loop {
            let of = store.clock().now();
            let listed = store.envelopes(scope, filter.clone(), id).await.map_err(|error| database(&error))?;
            if shows(&listed) {
                return Ok(Shown { what: listed.page, of, age: Duration::ZERO });
            }
            let Some(revision) = listed.seen else { return Err(Problem::not_found().into()) };
            wait(began, "seen.revision", revision).await?;
        }
    }
}

/// Waits for a revision, for so long.
async fn wait(since: Instant, field: &str, revision: u64) -> Result<(), Status> {
    if since.elapsed() >= REVISION_WAIT {
        let message = format!("The envelope has not reached `{field}`.");
        let problem = Problem::new(v1::ErrorReason::RevisionNotReached, message);
        return Err(problem.with("revision", revision.to_string()).into());
    }
    tokio::time::sleep(REVISION_POLL).await;
    Ok(())
}

fn told(age: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(age).ok()
}

fn is_cached(faults: &mut Faults, freshness: i32) -> bool {
    if v1::Freshness::try_from(freshness).is_err() {
        faults.add("freshness", "is not a value that the service knows");
    }
    freshness == i32::from(v1::Freshness::Cached)
}

fn seen_of(given: &v1::EnvelopeRevision, faults: &mut Faults) -> Seen {
    let id = faults.id("seen.envelope_id", &given.envelope_id);
    if given.revision == 0 {
        faults.add("seen.revision", "must be at least 1");
    }
    Seen { id, revision: given.revision }
}

/// A token of a page leads to the next one of the same list only.
fn purpose(request: &v1::ListEnvelopesRequest) -> String {
    let (page_size, page_token, freshness, seen) = Default::default();
    let filters = v1::ListEnvelopesRequest { page_size, page_token, freshness, seen, ..request.clone() };
    format!("envelopes/{}", hex::encode(sha256(&filters.encode_to_vec())))
}

fn filter(request: &v1::ListEnvelopesRequest, limits: &Limits, faults: &mut Faults) -> Filter {
    let status = EnvelopeStatus::ALL.into_iter().find(|status| render::status(*status) == request.status);
    if status.is_none() && request.status != 0 {
        faults.add("status", "is not a value that the service knows");
    }
    let mut time = |path: &str, given: Option<&prost_types::Timestamp>| {
        let time = given.map(|given| instant(given).ok_or(()));
        time.transpose().unwrap_or_else(|()| {
            faults.add(path, "must be a time from 0001-01-01 to 9999-12-31");
            None
        })
    };
    let created_from = time("created_from", request.created_from.as_ref());
    let created_before = time("created_before", request.created_before.as_ref());
    let recipient = Some(&request.recipient_email).filter(|email| !email.is_empty());
    Filter {
        status,
        requires_replacement: request.requires_replacement,
        created_from,
        created_before,
        recipient: recipient.map(|email| address("recipient_email", email, faults)),
        metadata: metadata(&request.metadata, "", limits, faults),
        ..Filter::default()
    }
}
