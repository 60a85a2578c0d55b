//! What changes endpoints: their owners' wishes, challenges, and being switched off.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire};
use countersign_chassis::keys::Fingerprint;
use countersign_chassis::once::Once;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::Store;
use super::endpoint::{COLUMNS, Disabled, Endpoint, EndpointRow};
use crate::id::{AccountId, EndpointId, EventId};

/// Deliveries that are counted when their endpoint goes.
const COUNTED_MAX: i64 = 10_000;
/// An endpoint is switched off after failing for so many days, with so many hours between failures.
pub const FAILING: (i32, i32) = (5, 12);

/// Whose endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct Named {
    pub account: AccountId,
    pub livemode: bool,
    pub id: EndpointId,
}

/// New values; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointChanges {
    /// The address.
    pub url: Option<String>,
    /// Whether a new address counts as verified without a challenge.
    pub trusted: bool,
    /// What its owner says.
    pub description: Option<String>,
    /// What it wants.
    pub types: Option<Vec<i16>>,
    /// Names and sealed values of headers.
    pub headers: Option<(Vec<String>, Option<Vec<u8>>)>,
    /// Whether deliveries wait.
    pub paused: Option<bool>,
}

/// An event that others are told when an endpoint is switched off.
pub struct Told {
    /// The event.
    pub event: EventId,
    /// Its type, as the contract numbers it.
    pub kind: i16,
    /// Its bytes.
    pub body: Vec<u8>,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName, Clone)]
struct Enabled {
    #[diesel(embed)]
    endpoint: EndpointRow,
    #[diesel(sql_type = BigInt)]
    replayed: i64,
}

const UPDATE: &str = "
UPDATE endpoint SET
    url = coalesce($5, url),
    verified_at = CASE WHEN $5 IS NULL OR $5 = url THEN verified_at WHEN $6 THEN $4 END,
    resting_until = CASE WHEN $5 IS NULL OR $5 = url THEN resting_until END,
    consecutive_failures = CASE WHEN $5 IS NULL OR $5 = url THEN consecutive_failures ELSE 0 END,
    first_failed_at = CASE WHEN $5 IS NULL OR $5 = url THEN first_failed_at END,
    description = coalesce($7, description),
    types = coalesce($8, types),
    header_names = coalesce($9, header_names),
    headers_sealed = CASE WHEN $9 IS NULL THEN headers_sealed ELSE $10 END,
    paused_at = CASE WHEN $11 IS NULL THEN paused_at WHEN $11 THEN coalesce(paused_at, $4) END
WHERE account_id = $1 AND livemode = $2 AND id = $3 AND envelope_id IS NULL RETURNING ";

/// The generation before signs until then; one before that signs no more.
const ROTATE: &str = "
UPDATE endpoint SET generation = generation + 1, generation_key = $5, previous_key = generation_key, previous_until = $4
WHERE account_id = $1 AND livemode = $2 AND id = $3 AND envelope_id IS NULL RETURNING ";

const CHALLENGE: &str = "
UPDATE endpoint SET challenged_at = $4
WHERE account_id = $1 AND livemode = $2 AND id = $3 AND envelope_id IS NULL
    AND (challenged_at IS NULL OR challenged_at <= $4 - make_interval(secs => $5))
RETURNING ";

/// Only the address that was asked.
const VERIFIED: &str = "
UPDATE endpoint SET verified_at = coalesce(verified_at, $4)
WHERE account_id = $1 AND livemode = $2 AND id = $3 AND url = $5 RETURNING ";

/// Until whoever notes just now what the endpoint misses is done. A statement of its own: the next one sees the notes.
const LOCK: &str = "SELECT id FROM endpoint WHERE account_id = $1 AND id = $2 FOR UPDATE";

/// What an envelope's address missed is posted only where the account has proved that it wants webhooks.
const ENABLE: &str = "
enabled AS (
    UPDATE endpoint SET disabled_at = NULL, disabled_reason = NULL, consecutive_failures = 0, first_failed_at = NULL,
        resting_until = NULL
    WHERE account_id = $1 AND livemode = $2 AND id = $3 AND disabled_at IS NOT NULL RETURNING *
), standing AS (
    SELECT * FROM enabled
    UNION ALL
    SELECT * FROM endpoint WHERE account_id = $1 AND livemode = $2 AND id = $3 AND disabled_at IS NULL
), missed AS (
    SELECT d.account_id, d.endpoint_id, d.event_id FROM delivery AS d JOIN standing ON standing.id = d.endpoint_id
    WHERE d.account_id = $1 AND d.state IN (3, 4) AND d.created_at >= $5 AND d.attempts >= 0
        AND (standing.envelope_id IS NULL OR standing.verified_at IS NOT NULL)
    ORDER BY d.created_at, d.sequence LIMIT $6
), again AS (
    UPDATE delivery AS d SET state = 1, cause = NULL, tries = 0, first_tried_at = NULL, next_at = $4, lease_until = NULL,
        lease_epoch = d.lease_epoch + 1
    FROM missed
    WHERE (d.account_id, d.endpoint_id, d.event_id) = (missed.account_id, missed.endpoint_id, missed.event_id)
    RETURNING d.event_id
)";

const DELETE: &str = "
WITH gone AS (
    DELETE FROM endpoint WHERE account_id = $1 AND livemode = $2 AND id = $3 AND envelope_id IS NULL RETURNING id
), waiting AS (
    SELECT d.event_id FROM delivery AS d JOIN gone ON gone.id = d.endpoint_id
    WHERE d.account_id = $1 AND d.state = 1 LIMIT $4
)
SELECT (SELECT count(*) FROM waiting) AS count FROM gone";

/// Once: whoever comes second finds it switched off already. What speaks against it must do so still: one that has recovered,
/// was switched on or got another address meanwhile is left on.
const DISABLE: &str = "
WITH disabled AS (
    UPDATE endpoint SET disabled_at = $3, disabled_reason = $4
    WHERE account_id = $1 AND id = $2 AND disabled_at IS NULL AND url = $10 AND ($4 = 1
        OR (first_failed_at <= $3 - make_interval(days => $8) AND last_failure_at - first_failed_at >= make_interval(hours => $9)))
    RETURNING account_id, id, livemode, envelope_id
), noted AS (
    INSERT INTO endpoint_notice (account_id, endpoint_id, livemode, disabled_at, reason)
    SELECT account_id, id, livemode, $3, $4 FROM disabled WHERE envelope_id IS NULL
), told AS (
    INSERT INTO delivery (account_id, endpoint_id, event_id, livemode, type, sequence, body, state, attempts, tries, next_at,
        lease_epoch, created_at)
    SELECT other.account_id, other.id, $5, other.livemode, $6, 0, $7, 1, 0, 0, $3, 0, $3
    FROM disabled JOIN endpoint AS other ON other.account_id = disabled.account_id AND other.livemode = disabled.livemode
    WHERE other.id <> disabled.id AND other.envelope_id IS NULL AND other.verified_at IS NOT NULL
        AND other.disabled_at IS NULL AND (other.types = '{}' OR $6 = ANY(other.types))
)
SELECT count(*) AS count FROM disabled";

impl Store {
    /// Changes an endpoint as its owner says.
    pub async fn update_endpoint(
        &self,
        named: Named,
        changes: EndpointChanges,
        once: Option<&Once>,
        reply: impl Fn(&Endpoint) -> Vec<u8>,
    ) -> Result<Option<Endpoint>, DatabaseError> {
        let (names, sealed) = changes.headers.map_or((None, None), |(names, sealed)| (Some(names), sealed));
        let query = statement(UPDATE, named)
            .bind::<Timestamptz, _>(self.clock.now())
            .bind::<Nullable<Text>, _>(changes.url)
            .bind::<Bool, _>(changes.trusted)
            .bind::<Nullable<Text>, _>(changes.description)
            .bind::<Nullable<Array<SmallInt>>, _>(changes.types)
            .bind::<Nullable<Array<Text>>, _>(names)
            .bind::<Nullable<Bytea>, _>(sealed)
            .bind::<Nullable<Bool>, _>(changes.paused);
        self.changed(once, query, reply).await
    }

    /// Gives it the next generation of secrets, made under that master key.
    pub async fn rotate_secret(
        &self,
        named: Named,
        key: Fingerprint,
        previous_until: Option<DateTime<Utc>>,
        once: Option<&Once>,
        reply: impl Fn(&Endpoint) -> Vec<u8>,
    ) -> Result<Option<Endpoint>, DatabaseError> {
        let query = statement(ROTATE, named).bind::<Nullable<Timestamptz>, _>(previous_until).bind::<BigInt, _>(key.0);
        self.changed(once, query, reply).await
    }

    /// Notes that it is challenged now, if the last time is so long ago.
    pub async fn challenge(&self, named: Named, seconds: f64) -> Result<Option<Endpoint>, DatabaseError> {
        let query = statement(CHALLENGE, named)
            .bind::<Timestamptz, _>(self.clock.now())
            .bind::<diesel::sql_types::Double, _>(seconds);
        self.changed(None, query, |_| Vec::new()).await
    }

    /// It has answered, at that address.
    pub async fn verified(
        &self,
        named: Named,
        url: &str,
        once: Option<&Once>,
        reply: impl Fn(&Endpoint) -> Vec<u8>,
    ) -> Result<Option<Endpoint>, DatabaseError> {
        let query = statement(VERIFIED, named).bind::<Timestamptz, _>(self.clock.now()).bind::<Text, _>(url.to_owned());
        self.changed(once, query, reply).await
    }

    /// Switches it on, and puts what it missed into the queue; says how much.
    pub async fn enable_endpoint(
        &self,
        named: Named,
        (since, most): (Option<DateTime<Utc>>, i64),
        once: Option<&Once>,
        reply: impl Fn(&Endpoint, u32) -> Vec<u8>,
    ) -> Result<Option<(Endpoint, u32)>, DatabaseError> {
        let text = format!("WITH {ENABLE} SELECT {COLUMNS}, (SELECT count(*) FROM again) AS replayed FROM standing");
        let query = diesel::sql_query(text)
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(named.account.uuid())
            .bind::<Bool, _>(named.livemode)
            .bind::<SqlUuid, _>(named.id.uuid())
            .bind::<Timestamptz, _>(self.clock.now())
            .bind::<Nullable<Timestamptz>, _>(since)
            .bind::<BigInt, _>(most);
        let read = |row: Enabled| (Endpoint::from(row.endpoint), u32::try_from(row.replayed).unwrap_or(u32::MAX));
        let told = |row: &Enabled| {
            let (endpoint, replayed) = read(row.clone());
            reply(&endpoint, replayed)
        };
        let lock = diesel::sql_query(LOCK)
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(named.account.uuid())
            .bind::<SqlUuid, _>(named.id.uuid());
        Ok(self.change_behind(Some(lock), once, query, told).await?.map(read))
    }

    /// Removes it; says how much waited for it. Nothing if there was none.
    pub async fn delete_endpoint(
        &self,
        named: Named,
        once: Option<&Once>,
        reply: impl Fn(u32) -> Vec<u8>,
    ) -> Result<Option<u32>, DatabaseError> {
        let query = diesel::sql_query(DELETE)
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(named.account.uuid())
            .bind::<Bool, _>(named.livemode)
            .bind::<SqlUuid, _>(named.id.uuid())
            .bind::<BigInt, _>(COUNTED_MAX);
        let cancelled = |row: &Count| u32::try_from(row.count).unwrap_or(u32::MAX);
        let row = self.change(once, query, |row| reply(cancelled(row))).await?;
        Ok(row.as_ref().map(cancelled))
    }

    /// Switches it off, notes that its owner has to hear of it, and plans the event for the account's other endpoints.
    /// False if it was off already, or is elsewhere now.
    pub async fn disable_endpoint(
        &self,
        (account, endpoint, url): (AccountId, EndpointId, &str),
        reason: Disabled,
        at: DateTime<Utc>,
        told: &Told,
    ) -> Result<bool, DatabaseError> {
        let query = diesel::sql_query(DISABLE)
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<SqlUuid, _>(endpoint.uuid())
            .bind::<Timestamptz, _>(at)
            .bind::<SmallInt, _>(reason as i16)
            .bind::<SqlUuid, _>(told.event.uuid())
            .bind::<SmallInt, _>(told.kind)
            .bind::<Bytea, _>(&told.body)
            .bind::<Integer, _>(FAILING.0)
            .bind::<Integer, _>(FAILING.1)
            .bind::<Text, _>(url);
        let mut conn = acquire(&self.pool).await?;
        let count: Count = query.get_result(&mut *conn).await?;
        Ok(count.count == 1)
    }

    async fn changed(
        &self,
        once: Option<&Once>,
        query: Statement,
        reply: impl Fn(&Endpoint) -> Vec<u8>,
    ) -> Result<Option<Endpoint>, DatabaseError> {
        let row = self.change(once, query, |row: &EndpointRow| reply(&Endpoint::from(row.clone()))).await?;
        Ok(row.map(Endpoint::from))
    }
}

type Statement = diesel::query_builder::BoxedSqlQuery<'static, Pg, diesel::query_builder::SqlQuery>;

/// A statement about one endpoint, which returns it.
fn statement(text: &str, named: Named) -> Statement {
    diesel::sql_query(format!("{text}{COLUMNS}"))
        .into_boxed::<Pg>()
        .bind::<SqlUuid, _>(named.account.uuid())
        .bind::<Bool, _>(named.livemode)
        .bind::<SqlUuid, _>(named.id.uuid())
}
