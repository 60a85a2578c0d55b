//! Endpoints: where events are posted to, and how they stand. What changes them is in `endpoint_change.rs`.
//!
//! Must never read a header's value: what is sealed stays sealed here.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Flight, acquire, prepared};
use countersign_chassis::keys::Fingerprint;
use countersign_chassis::once::{Once, claimed};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::once::end;
use super::{Store, column};
use crate::id::{AccountId, EndpointId, EnvelopeId};
use crate::webhook::signature::Generation;

/// For how long a disabled endpoint still gets notes of what it misses, in days: as long as deliveries are kept.
const MISSED_DAYS: i32 = 30;

/// How an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its challenge is still to be answered.
    Unverified,
    /// It hears of what happens.
    Active,
    /// What happens waits.
    Paused,
    /// It gets nothing.
    Disabled,
}

/// Why an endpoint was switched off. The numbers are those of the database and of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disabled {
    /// It answered that it is gone.
    Gone = 1,
    /// It failed for days.
    Failing = 2,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct Endpoint {
    pub account: AccountId,
    pub id: EndpointId,
    pub livemode: bool,
    pub url: String,
    pub description: String,
    pub types: Vec<i16>,
    pub header_names: Vec<String>,
    pub headers_sealed: Option<Vec<u8>>,
    pub envelope: Option<EnvelopeId>,
    pub generation: Generation,
    pub created_at: DateTime<Utc>,
    pub verified_at: Option<DateTime<Utc>>,
    pub paused_at: Option<DateTime<Utc>>,
    pub disabled_at: Option<DateTime<Utc>>,
    pub disabled_reason: Option<i16>,
    pub consecutive_failures: i32,
    pub last_success_at: Option<DateTime<Utc>>,
    pub last_failure_at: Option<DateTime<Utc>>,
}

impl Endpoint {
    /// A new one that wants everything, whose secret is made under that master key.
    #[must_use]
    pub fn new(
        account: AccountId,
        id: EndpointId,
        livemode: bool,
        url: String,
        key: Fingerprint,
        at: DateTime<Utc>,
    ) -> Self {
        Self {
            account,
            id,
            livemode,
            url,
            description: String::new(),
            types: Vec::new(),
            header_names: Vec::new(),
            headers_sealed: None,
            envelope: None,
            generation: Generation::first(key),
            created_at: at,
            verified_at: None,
            paused_at: None,
            disabled_at: None,
            disabled_reason: None,
            consecutive_failures: 0,
            last_success_at: None,
            last_failure_at: None,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (self.disabled_at, self.verified_at, self.paused_at) {
            (Some(_), _, _) => Standing::Disabled,
            (None, None, _) => Standing::Unverified,
            (None, Some(_), Some(_)) => Standing::Paused,
            (None, Some(_), None) => Standing::Active,
        }
    }
}

/// The columns of an [`EndpointRow`].
pub(super) const COLUMNS: &str = "account_id, id, livemode, url, description, types, header_names, headers_sealed, \
    envelope_id, generation, generation_key, previous_key, previous_until, created_at, verified_at, paused_at, disabled_at, disabled_reason, \
    consecutive_failures, last_success_at, last_failure_at";

#[derive(QueryableByName, Clone)]
pub(super) struct GenerationRow {
    #[diesel(sql_type = SmallInt)]
    generation: i16,
    #[diesel(sql_type = BigInt)]
    generation_key: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    previous_key: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    previous_until: Option<DateTime<Utc>>,
}

impl From<GenerationRow> for Generation {
    fn from(row: GenerationRow) -> Self {
        Self {
            number: row.generation.unsigned_abs(),
            key: Fingerprint(row.generation_key),
            previous_key: row.previous_key.map(Fingerprint),
            previous_until: row.previous_until,
        }
    }
}

#[derive(QueryableByName, Clone)]
pub(super) struct EndpointRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Bool)]
    livemode: bool,
    #[diesel(sql_type = Text)]
    url: String,
    #[diesel(sql_type = Text)]
    description: String,
    #[diesel(sql_type = Array<SmallInt>)]
    types: Vec<i16>,
    #[diesel(sql_type = Array<Text>)]
    header_names: Vec<String>,
    #[diesel(sql_type = Nullable<Bytea>)]
    headers_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    envelope_id: Option<Uuid>,
    #[diesel(embed)]
    generation: GenerationRow,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    verified_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    paused_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    disabled_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    disabled_reason: Option<i16>,
    #[diesel(sql_type = Integer)]
    consecutive_failures: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_success_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_failure_at: Option<DateTime<Utc>>,
}

impl From<EndpointRow> for Endpoint {
    fn from(row: EndpointRow) -> Self {
        Self {
            account: AccountId::from_uuid(row.account_id),
            id: EndpointId::from_uuid(row.id),
            livemode: row.livemode,
            url: row.url,
            description: row.description,
            types: row.types,
            header_names: row.header_names,
            headers_sealed: row.headers_sealed,
            envelope: row.envelope_id.map(EnvelopeId::from_uuid),
            generation: row.generation.into(),
            created_at: row.created_at,
            verified_at: row.verified_at,
            paused_at: row.paused_at,
            disabled_at: row.disabled_at,
            disabled_reason: row.disabled_reason,
            consecutive_failures: row.consecutive_failures,
            last_success_at: row.last_success_at,
            last_failure_at: row.last_failure_at,
        }
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// One after the other for each account, so that two at once do not both take the last place. A statement of its own: the
/// next one's snapshot shows what was committed while this one waited.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('endpoint/' || $1::text, 0))::text AS lock";

const CREATE: &str = "
WITH held AS (
    SELECT count(*) AS count FROM endpoint WHERE account_id = $1 AND livemode = $3 AND envelope_id IS NULL
), new AS (
    INSERT INTO endpoint (account_id, id, livemode, url, generation, created_at, description, types, header_names,
        headers_sealed, verified_at, generation_key)
    SELECT $1, $2, $3, $4, $5, $6, $8, $9, $10, $11, $12, $13 FROM held WHERE held.count < $7
)
SELECT count FROM held";

/// The address of an envelope that is still a draft may change; whether its origin is verified, at any time. What is known of
/// the old address says nothing of a new one. The secret stays what it is.
const KEEP: &str = "
INSERT INTO endpoint (account_id, id, livemode, url, generation, created_at, description, types, header_names, verified_at,
    envelope_id, generation_key)
SELECT account, envelope, live, url, 1, $5, '', '{}', '{}', CASE WHEN verified THEN $5 END, envelope, key
FROM unnest($1, $2, $3, $4, $6, $7) AS e(account, envelope, live, url, verified, key)
ON CONFLICT (account_id, id) DO UPDATE SET url = EXCLUDED.url, verified_at = EXCLUDED.verified_at,
    consecutive_failures = CASE WHEN endpoint.url = EXCLUDED.url THEN endpoint.consecutive_failures ELSE 0 END,
    first_failed_at = CASE WHEN endpoint.url = EXCLUDED.url THEN endpoint.first_failed_at END,
    resting_until = CASE WHEN endpoint.url = EXCLUDED.url THEN endpoint.resting_until END
WHERE endpoint.url <> EXCLUDED.url OR (endpoint.verified_at IS NULL) <> (EXCLUDED.verified_at IS NULL)";

/// Writes down the own addresses of envelopes, and whether webhooks may go there, in the caller's transaction.
pub(crate) async fn keep_endpoints(
    mut connection: &AsyncPgConnection,
    endpoints: &[Endpoint],
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    enum Keep {}
    let query = diesel::sql_query(KEEP)
        .bind::<Array<SqlUuid>, _>(column(endpoints, |e| e.account.uuid()))
        .bind::<Array<SqlUuid>, _>(column(endpoints, |e| e.id.uuid()))
        .bind::<Array<Bool>, _>(column(endpoints, |e| e.livemode))
        .bind::<Array<Text>, _>(column(endpoints, |e| e.url.clone()))
        .bind::<Timestamptz, _>(now)
        .bind::<Array<Bool>, _>(column(endpoints, |e| e.verified_at.is_some()))
        .bind::<Array<BigInt>, _>(column(endpoints, |e| e.generation.key.0));
    prepared::<Keep, _>(query).execute(&mut connection).await?;
    Ok(())
}

impl Store {
    /// Registers an endpoint unless the account has `most` already; says how many it had.
    pub async fn create_endpoint(
        &self,
        new: &Endpoint,
        most: i64,
        kept: Option<(Once, Vec<u8>)>,
    ) -> Result<i64, DatabaseError> {
        enum Lock {}
        enum Create {}
        let create = diesel::sql_query(CREATE)
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(new.account.uuid())
            .bind::<SqlUuid, _>(new.id.uuid())
            .bind::<Bool, _>(new.livemode)
            .bind::<Text, _>(&new.url)
            .bind::<SmallInt, _>(new.generation.number.cast_signed())
            .bind::<Timestamptz, _>(new.created_at)
            .bind::<BigInt, _>(most)
            .bind::<Text, _>(&new.description)
            .bind::<Array<SmallInt>, _>(&new.types)
            .bind::<Array<Text>, _>(&new.header_names)
            .bind::<Nullable<Bytea>, _>(&new.headers_sealed)
            .bind::<Nullable<Timestamptz>, _>(new.verified_at)
            .bind::<BigInt, _>(new.generation.key.0);
        let lock = diesel::sql_query(LOCK).bind::<SqlUuid, _>(new.account.uuid());
        let flight = Flight::open(&self.pool).await?;
        let (mut one, mut two) = (flight.connection(), flight.connection());
        let lock = prepared::<Lock, _>(lock).execute(&mut one);
        let create = prepared::<Create, _>(create).get_result::<Count>(&mut two);
        let once = kept.as_ref().map(|(once, _)| once);
        let (begun, claimed, locked, created) =
            futures_util::join!(flight.begin(), claimed(flight.connection(), once), lock, create);
        begun?;
        if let Err(error) = claimed.and(locked.map(drop)) {
            flight.rollback().await?;
            return Err(error.into());
        }
        let held = created?.count;
        end(flight, kept.filter(|_| held < most)).await?;
        Ok(held)
    }

    /// The endpoints of an account and mode behind that one, oldest first.
    pub async fn endpoints(
        &self,
        (account, livemode): (AccountId, bool),
        with_envelopes: bool,
        after: Option<EndpointId>,
        limit: i64,
    ) -> Result<Vec<Endpoint>, DatabaseError> {
        let list = format!(
            "SELECT {COLUMNS} FROM endpoint WHERE account_id = $1 AND livemode = $2 AND (envelope_id IS NULL OR $3) \
             AND ($4 IS NULL OR id > $4) ORDER BY id LIMIT $5"
        );
        let query = diesel::sql_query(list)
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<Bool, _>(livemode)
            .bind::<Bool, _>(with_envelopes)
            .bind::<Nullable<SqlUuid>, _>(after.map(|id| id.uuid()))
            .bind::<BigInt, _>(limit);
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<EndpointRow> = query.load(&mut *conn).await?;
        Ok(rows.into_iter().map(Endpoint::from).collect())
    }

    /// One endpoint of an account and mode.
    pub async fn endpoint(
        &self,
        (account, livemode): (AccountId, bool),
        id: EndpointId,
    ) -> Result<Option<Endpoint>, DatabaseError> {
        let one = format!("SELECT {COLUMNS} FROM endpoint WHERE account_id = $1 AND livemode = $2 AND id = $3");
        let query = diesel::sql_query(one)
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<Bool, _>(livemode)
            .bind::<SqlUuid, _>(id.uuid());
        let mut conn = acquire(&self.pool).await?;
        let row: Option<EndpointRow> = query.get_result(&mut *conn).await.optional()?;
        Ok(row.map(Endpoint::from))
    }

    /// The endpoints of those accounts for which events are planned, but for those of single envelopes.
    pub async fn listeners(
        &self,
        accounts: Vec<AccountId>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Endpoint>, DatabaseError> {
        let list = format!(
            "SELECT {COLUMNS} FROM endpoint WHERE account_id = ANY($1) AND envelope_id IS NULL \
             AND verified_at IS NOT NULL AND (disabled_at IS NULL OR disabled_at > $2 - make_interval(days => $3))"
        );
        let accounts: Vec<Uuid> = accounts.into_iter().map(|account| account.uuid()).collect();
        let query = diesel::sql_query(list)
            .bind::<Array<SqlUuid>, _>(accounts)
            .bind::<Timestamptz, _>(now)
            .bind::<Integer, _>(MISSED_DAYS);
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<EndpointRow> = query.load(&mut *conn).await?;
        Ok(rows.into_iter().map(Endpoint::from).collect())
    }

    /// The own addresses of those envelopes that are known.
    pub async fn envelope_endpoints(
        &self,
        envelopes: &[(AccountId, EnvelopeId)],
    ) -> Result<Vec<Endpoint>, DatabaseError> {
        let list = format!(
            "SELECT {COLUMNS} FROM endpoint WHERE envelope_id IS NOT NULL \
             AND (account_id, envelope_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))"
        );
        let query = diesel::sql_query(list)
            .bind::<Array<SqlUuid>, _>(column(envelopes, |(account, _)| account.uuid()))
            .bind::<Array<SqlUuid>, _>(column(envelopes, |(_, envelope)| envelope.uuid()));
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<EndpointRow> = query.load(&mut *conn).await?;
        Ok(rows.into_iter().map(Endpoint::from).collect())
    }
}
