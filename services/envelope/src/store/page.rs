//! Pages of the feed, and what of it a consumer wants. Never reads more than it was told to, and never passes over what has
//! been cut off as if it had not been there.

use std::time::Duration;

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::feed::{Heads, Parts, Position, Positions};
use super::history::entry;
use super::{Store, corrupt};
use crate::domain::id::{AccountId, EnvelopeId};
use crate::domain::verify::Entry;

/// Positions that a page may pass over in search of what a sieve lets through.
const SEARCHED_MAX: i64 = 2_048;
/// How long a page waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// What an event in the feed is about, as far as consumers choose by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Whose envelope.
    pub account: AccountId,
    /// Its mode.
    pub livemode: bool,
    /// The envelope.
    pub envelope: EnvelopeId,
    /// The number of the event's kind.
    pub kind: i16,
}

/// Which events a consumer wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sieve {
    /// Of this account alone.
    pub account: Option<AccountId>,
    /// Of this mode alone.
    pub livemode: Option<bool>,
    /// Of this envelope alone.
    pub envelope: Option<EnvelopeId>,
    /// Of these kinds alone; all if there are none.
    pub kinds: Vec<i16>,
}

impl Sieve {
    /// True if it lets such an event through.
    #[must_use]
    pub fn admits(&self, about: &About) -> bool {
        self.account.is_none_or(|account| account == about.account)
            && self.livemode.is_none_or(|livemode| livemode == about.livemode)
            && self.envelope.is_none_or(|envelope| envelope == about.envelope)
            && (self.kinds.is_empty() || self.kinds.contains(&about.kind))
    }

    /// Where there can be such events.
    #[must_use]
    pub fn parts(&self) -> Parts {
        self.envelope.map_or(Parts::ALL, Parts::of)
    }

    fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// A stretch of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The partition.
    pub part: usize,
    /// From behind this position …
    pub after: i64,
    /// … up to this one.
    pub upto: i64,
}

impl Wanted {
    /// What a reader at `positions` has not read of some partitions.
    #[must_use]
    pub fn next(positions: &Positions, heads: &Heads, parts: Parts) -> Vec<Self> {
        let stretches = parts.iter().filter_map(|part| {
            let (after, upto) = (*positions.get(part)?, *heads.last.get(part)?);
            (after < upto).then_some(Self { part, after, upto })
        });
        stretches.collect()
    }
}

/// An event in the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// Where.
    pub position: Position,
    /// About what.
    pub about: About,
    /// What.
    pub stored: Entry,
    /// When, for a merge of the partitions.
    pub occurred_at: DateTime<Utc>,
    /// In which trace.
    pub traceparent: Option<String>,
}

/// Some of the feed.
#[derive(Debug, Default)]
pub struct Page {
    /// The events, in order of each partition.
    pub events: Vec<FeedEvent>,
    /// Up to where everything has been read.
    pub reached: Vec<Position>,
    /// True if something of what was wanted is not kept any more: the page is not to be used.
    pub cut_off: bool,
}

/// A line for each stretch, also where it holds nothing. The floor is read under the same snapshot as the events: whatever
/// is cut off meanwhile is noticed. Lateral all the way down, so that every plan is a walk along the indexes.
const PAGE: &str = "
SELECT wanted.part, head.floor_position > wanted.after AS cut_off, f.*
FROM unnest($1, $2, $3) AS wanted (part, after, upto)
JOIN feed_head AS head ON head.part = wanted.part
LEFT JOIN LATERAL (
    SELECT feed.position, feed.account_id, feed.livemode, feed.envelope_id, feed.sequence, e.*
    FROM feed
    CROSS JOIN LATERAL (
        SELECT kind, record, prev_hash, hash, occurred_at, traceparent FROM event
        WHERE event.account_id = feed.account_id AND event.envelope_id = feed.envelope_id
            AND event.sequence = feed.sequence
        LIMIT 1
    ) AS e
    WHERE feed.part = wanted.part AND feed.position > wanted.after AND feed.position <= wanted.upto
        AND ($4 IS NULL OR feed.account_id = $4) AND ($5 IS NULL OR feed.livemode = $5)
        AND ($6 IS NULL OR feed.envelope_id = $6) AND ($7 IS NULL OR e.kind = ANY($7))
    ORDER BY feed.position LIMIT $8
) AS f ON true";

enum ReadPage {}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SmallInt)]
    part: i16,
    #[diesel(sql_type = Bool)]
    cut_off: bool,
    #[diesel(sql_type = Nullable<BigInt>)]
    position: Option<i64>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    account_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Bool>)]
    livemode: Option<bool>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    envelope_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    sequence: Option<i64>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    kind: Option<i16>,
    #[diesel(sql_type = Nullable<Bytea>)]
    record: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    prev_hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    occurred_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    traceparent: Option<String>,
}

impl Row {
    /// The event of the line, if it has one.
    fn event(self) -> QueryResult<Option<FeedEvent>> {
        let Some(position) = self.position else { return Ok(None) };
        let lacking = || corrupt("feed");
        let about = About {
            account: AccountId::from_uuid(self.account_id.ok_or_else(lacking)?),
            livemode: self.livemode.ok_or_else(lacking)?,
            envelope: EnvelopeId::from_uuid(self.envelope_id.ok_or_else(lacking)?),
            kind: self.kind.ok_or_else(lacking)?,
        };
        let record = self.record.ok_or_else(lacking)?;
        let (prev_hash, hash) = (self.prev_hash.ok_or_else(lacking)?, self.hash.ok_or_else(lacking)?);
        Ok(Some(FeedEvent {
            position: Position { part: usize::from(self.part.unsigned_abs()), position },
            about,
            stored: entry((self.sequence.ok_or_else(lacking)?, record, prev_hash, hash, None, None))?,
            occurred_at: self.occurred_at.ok_or_else(lacking)?,
            traceparent: self.traceparent,
        }))
    }
}

impl Store {
    /// At most `events_max` of the events in those stretches that the sieve lets through, for a consumer who is behind. With
    /// an account, the database hides all others' rows.
    pub async fn feed(
        &self,
        wall: Option<AccountId>,
        sieve: &Sieve,
        wanted: &[Wanted],
        events_max: usize,
    ) -> Result<Page, DatabaseError> {
        let turns = if wall.is_some() { &self.pages } else { &self.pages_across };
        // Who waits says nothing to their consumer meanwhile: rather they come again, perhaps to another replica.
        let turn = tokio::time::timeout(TURN_WAIT, turns.acquire()).await;
        let _turn = turn.ok().and_then(Result::ok).ok_or(DatabaseError::Busy)?;
        self.page(wall, sieve, wanted, events_max).await
    }

    /// The same of all accounts, for the one who follows the end of the feed for all: it waits for nobody.
    pub async fn feed_end(&self, wanted: &[Wanted], events_max: usize) -> Result<Page, DatabaseError> {
        self.page(None, &Sieve::default(), wanted, events_max).await
    }

    async fn page(
        &self,
        wall: Option<AccountId>,
        sieve: &Sieve,
        wanted: &[Wanted],
        events_max: usize,
    ) -> Result<Page, DatabaseError> {
        let among = i64::try_from(wanted.len().max(1)).unwrap_or(i64::MAX);
        let each = (i64::try_from(events_max).unwrap_or(i64::MAX) / among).max(1);
        let far = if sieve.is_open() { each } else { each.max(SEARCHED_MAX / among) };
        let upto = |wanted: &Wanted| wanted.upto.min(wanted.after.saturating_add(far));
        let part = |wanted: &Wanted| i16::try_from(wanted.part).unwrap_or_default();
        let kinds = (!sieve.kinds.is_empty()).then(|| sieve.kinds.clone());
        let query = diesel::sql_query(PAGE)
            .bind::<Array<SmallInt>, _>(wanted.iter().map(part).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(wanted.iter().map(|wanted| wanted.after).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(wanted.iter().map(upto).collect::<Vec<_>>())
            .bind::<Nullable<SqlUuid>, _>(sieve.account.map(|account| account.uuid()))
            .bind::<Nullable<Bool>, _>(sieve.livemode)
            .bind::<Nullable<SqlUuid>, _>(sieve.envelope.map(|envelope| envelope.uuid()))
            .bind::<Nullable<Array<SmallInt>>, _>(kinds)
            .bind::<BigInt, _>(each);
        let query = prepared::<ReadPage, _>(query);
        let rows: Vec<Row> = match wall {
            Some(account) => {
                self.read_one(account, move |mut conn| async move { query.load(&mut conn).await }.boxed()).await?
            }
            None => query.load(&mut *acquire(&self.across_accounts).await?).await?,
        };
        let cut_off = rows.iter().any(|row| row.cut_off);
        let events: QueryResult<Vec<Option<FeedEvent>>> = rows.into_iter().map(Row::event).collect();
        let mut events: Vec<FeedEvent> = events?.into_iter().flatten().collect();
        events.sort_by_key(|event| (event.position.part, event.position.position));
        let reached = wanted.iter().map(|wanted| {
            let found = events.iter().filter(|event| event.position.part == wanted.part);
            let (found, last) = found.fold((0, None), |(found, _), event| (found + 1, Some(event.position.position)));
            // A stretch that gave as many as were asked for may hold more.
            let position = last.filter(|_| found >= each).unwrap_or_else(|| upto(wanted));
            Position { part: wanted.part, position }
        });
        Ok(Page { reached: reached.collect(), events, cut_off })
    }
}
