//! Where a consumer of the feed stands and what of it they want, for the stream and for the list alike.

use std::sync::Arc;

use countersign::v1;
use countersign_chassis::problem::Problem;
use tonic::Status;
use uuid::Uuid;

use super::auth::Sender;
use super::parse::Faults;
use super::status::database;
use super::{Context, cursor};
use crate::domain::id::{AccountId, EnvelopeId};
use crate::store::{Heads, PARTS, Parts, Positions, Scope, Sieve};
use crate::tail::Told;

/// Kinds of events that a consumer may name.
const KINDS_MAX: usize = 100;

/// Where a consumer stands.
pub(super) struct Reading {
    /// Who reads; nobody in particular sees all accounts.
    pub sender: Option<Sender>,
    pub positions: Positions,
    scope: Option<Scope>,
    parts: Parts,
    sieve: Sieve,
    incarnation: Uuid,
}

/// The next that a consumer reads.
pub(super) struct Next {
    /// The events; dealt with one by one, each moves the consumer's place to itself.
    pub told: Vec<Arc<Told>>,
    /// Where the consumer stands after all of them.
    pub reached: Positions,
    /// True if there is nothing more just now.
    pub caught_up: bool,
}

impl Reading {
    /// Where a request says to begin, and with what.
    pub fn new(
        context: &Context,
        sender: Option<Sender>,
        request: &v1::WatchStatusChangesRequest,
        heads: &Heads,
    ) -> Result<Self, Status> {
        let scope = sender.as_ref().map(|sender| sender.scope);
        let mut faults = Faults::default();
        let parts = parts(&request.partitions, &mut faults);
        let mut sieve = wanted(request, &mut faults);
        let (mut incarnation, mut positions) = (heads.incarnation, heads.last);
        if !request.resume_token.is_empty() {
            let content = cursor::open(&context.keyring.cursor, &purpose(parts), scope, &request.resume_token);
            match content.and_then(|content| cursor::read_positions(&content, parts)) {
                Some(read) => (incarnation, positions) = read,
                None => faults
                    .add("resume_token", "is not one that the service gave to this credential for these partitions"),
            }
        } else {
            match v1::WatchStart::try_from(request.start) {
                Ok(v1::WatchStart::Unspecified | v1::WatchStart::Now) => {}
                Ok(v1::WatchStart::Oldest) => positions = heads.floor,
                Err(_) => faults.add("start", "is not a value that the service knows"),
            }
        }
        faults.finish()?;
        if let Some(scope) = scope {
            // Another's account looks like none, and so does the other mode.
            let foreign = sieve.account.is_some_and(|account| account != scope.account)
                || sieve.livemode.zip(scope.livemode).is_some_and(|(named, own)| named != own);
            if foreign {
                return Err(Problem::not_found().into());
            }
            sieve = Sieve { account: Some(scope.account), livemode: scope.livemode, ..sieve };
        }
        Ok(Self { sender, positions, scope, parts, sieve, incarnation })
    }

    /// Refuses a place that cannot be read on from. A feed that was restored may give a position again to another event;
    /// what is cut off cannot be read.
    pub async fn check(&self, context: &Context, heads: &Heads) -> Result<(), Status> {
        if self.is_within(heads) && self.keeps_up(context, heads).is_ok() {
            return Ok(());
        }
        // Another replica's token may lie beyond what this one has seen of the feed: look before refusing.
        let heads = context.store.heads_now().await.map_err(|error| database(&error))?;
        if self.is_within(&heads) { self.keeps_up(context, &heads) } else { Err(restored()) }
    }

    fn is_within(&self, heads: &Heads) -> bool {
        self.parts.iter().all(|part| at(&self.positions, part) <= at(&heads.last, part))
    }

    /// The same for a stream that is open: it may have come from a replica that had seen more of the feed.
    fn keeps_up(&self, context: &Context, heads: &Heads) -> Result<(), Status> {
        if self.incarnation != heads.incarnation {
            return Err(restored());
        }
        if self.parts.iter().any(|part| at(&self.positions, part) < at(&heads.floor, part)) {
            return Err(self.too_old(context, heads));
        }
        Ok(())
    }

    /// Says where the consumer could go on: at the oldest that is kept, and nowhere before their own place.
    fn too_old(&self, context: &Context, heads: &Heads) -> Status {
        let mut floor = heads.floor;
        floor.iter_mut().zip(self.positions).for_each(|(floor, at)| *floor = at.max(*floor));
        let message = "Events after this token are not kept any more: list the envelopes, or go on at the floor.";
        Problem::new(v1::ErrorReason::ResumeTokenTooOld, message)
            .with("floor_resume_token", self.token_at(context, &floor))
            .into()
    }

    /// The token for where the consumer stands.
    pub fn token(&self, context: &Context) -> String {
        self.token_at(context, &self.positions)
    }

    fn token_at(&self, context: &Context, positions: &Positions) -> String {
        let content = cursor::write_positions(self.incarnation, positions, self.parts);
        cursor::seal(&context.keyring.cursor, &purpose(self.parts), self.scope, &content)
    }

    /// What comes next, at most so many events: from memory at the end of the feed, from the database before it.
    pub async fn next(&self, context: &Context, events_max: usize) -> Result<Next, Status> {
        let searched = self.parts.and(self.sieve.parts());
        let take = |most| context.tail.take(&self.positions, searched, &self.sieve, most);
        let mut taken = take(events_max).ok_or_else(|| Status::from(Problem::unavailable()))?;
        self.keeps_up(context, &taken.heads)?;
        if !taken.behind.is_empty() {
            let wall = self.scope.map(|scope| scope.account);
            let page = context.store.feed(wall, &self.sieve, &taken.behind, events_max).await;
            let page = page.map_err(|error| database(&error))?;
            if page.cut_off {
                let heads = context.store.heads_now().await.map_err(|error| database(&error))?;
                return Err(self.keeps_up(context, &heads).err().unwrap_or_else(|| Problem::unavailable().into()));
            }
            let told = page.events.iter().map(|event| Arc::new(Told::new(event)));
            // Those who are behind come first; what memory holds besides is taken as far as there is room.
            taken.told.truncate(0);
            taken.reached = self.positions;
            let room = events_max.saturating_sub(page.events.len());
            if let Some(besides) = take(room).filter(|_| room > 0) {
                taken = besides;
            }
            taken.told.extend(told);
            for reached in page.reached {
                if let Some(position) = taken.reached.get_mut(reached.part) {
                    *position = reached.position;
                }
            }
        }
        for part in self.parts.iter().filter(|part| !searched.iter().any(|other| other == *part)) {
            // Where nothing can be of what is wanted, nothing has to be read.
            if let (Some(position), last) = (taken.reached.get_mut(part), at(&taken.heads.last, part)) {
                *position = last.max(*position);
            }
        }
        let caught_up = self.parts.iter().all(|part| at(&taken.reached, part) >= at(&taken.heads.last, part));
        Ok(Next { told: in_time(taken.told), reached: taken.reached, caught_up })
    }
}

fn at(positions: &Positions, part: usize) -> i64 {
    positions.get(part).copied().unwrap_or_default()
}

/// What resume tokens are made for.
fn purpose(parts: Parts) -> String {
    format!("watch/{:04x}", parts.bits())
}

fn restored() -> Status {
    let message = "The feed has been restored since this token was given: list the envelopes, then watch anew.";
    Problem::new(v1::ErrorReason::FeedIncarnation, message).into()
}

/// The partitions that a request names; all if it names none.
fn parts(named: &[u32], faults: &mut Faults) -> Parts {
    if named.is_empty() {
        return Parts::ALL;
    }
    let mut parts = Parts::none();
    for (index, part) in named.iter().enumerate() {
        if *part >= u32::from(PARTS) {
            faults.add(format!("partitions[{index}]"), format!("must be 0 to {}", PARTS - 1));
        } else if let Some(more) = parts.with(*part) {
            parts = more;
        } else {
            faults.add(format!("partitions[{index}]"), "is named twice");
        }
    }
    parts
}

/// The events that a request names.
fn wanted(request: &v1::WatchStatusChangesRequest, faults: &mut Faults) -> Sieve {
    if request.types.len() > KINDS_MAX {
        faults.add("types", format!("must not be more than {KINDS_MAX}"));
    }
    let mut kinds = Vec::new();
    for (index, number) in request.types.iter().take(KINDS_MAX).enumerate() {
        let known = v1::EventType::try_from(*number).is_ok_and(|known| known != v1::EventType::Unspecified);
        match i16::try_from(*number).ok().filter(|_| known) {
            Some(kind) if kinds.contains(&kind) => {}
            Some(kind) => kinds.push(kind),
            None => faults.add(format!("types[{index}]"), "is not a value that the service knows"),
        }
    }
    let envelope: Option<EnvelopeId> =
        (!request.envelope_id.is_empty()).then(|| faults.id("envelope_id", &request.envelope_id));
    let account: Option<AccountId> =
        (!request.account_id.is_empty()).then(|| faults.id("account_id", &request.account_id));
    Sieve { account, livemode: request.livemode, envelope, kinds }
}

/// Partitions merged by time. Each keeps its own order, whatever its times say.
fn in_time(told: Vec<Arc<Told>>) -> Vec<Arc<Told>> {
    let mut stretches: [Vec<Arc<Told>>; PARTS as usize] = Default::default();
    let mut merged = Vec::with_capacity(told.len());
    for one in told {
        if let Some(stretch) = stretches.get_mut(one.at.part) {
            stretch.push(one);
        }
    }
    let mut stretches = stretches.map(|stretch| stretch.into_iter().peekable());
    loop {
        let times =
            stretches.iter_mut().enumerate().filter_map(|(part, stretch)| Some((stretch.peek()?.occurred_at, part)));
        let Some((_, part)) = times.min() else { return merged };
        merged.extend(stretches.get_mut(part).and_then(Iterator::next));
    }
}
