//! Which master keys have made secrets, since when, and which are still needed. Knows the keys by their fingerprints alone.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::database::{DatabaseError, acquire, prepared};
use countersign_chassis::keys::Fingerprint;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Store, column};
use crate::id::{AccountId, EndpointId, EnvelopeId};

/// A new master key makes the secrets of envelopes that are so much younger: of those that were there before it nobody was told
/// anything else, also where the clocks of the two databases differ.
const BEGINS: TimeDelta = TimeDelta::minutes(1);

/// The master keys under which secrets were made, and since when: the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeys(Vec<(DateTime<Utc>, Fingerprint)>, Fingerprint);

impl MasterKeys {
    /// The one under which the secret of an envelope's own address is made: that of the envelope's time, so that it is the same
    /// whether its owner asks for it or something happens first.
    #[must_use]
    pub fn of(&self, envelope: EnvelopeId) -> Fingerprint {
        let Self(keys, newest) = self;
        let made = envelope.uuid().get_timestamp().and_then(|at| {
            let (seconds, nanos) = at.to_unix();
            DateTime::from_timestamp(seconds.try_into().ok()?, nanos)
        });
        let then = keys.iter().rev().find(|(since, _)| made.is_some_and(|made| *since <= made));
        then.or(keys.split_first().map(|(first, _)| first)).map_or(*newest, |(_, key)| *key)
    }
}

/// Headers as they are kept.
pub struct SealedHeaders {
    /// Whose endpoint.
    pub account: AccountId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Names and values.
    pub sealed: Vec<u8>,
}

#[derive(QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = BigInt)]
    fingerprint: i64,
    #[diesel(sql_type = Timestamptz)]
    since: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct NeededRow {
    #[diesel(sql_type = BigInt)]
    fingerprint: i64,
    #[diesel(sql_type = BigInt)]
    endpoints: i64,
}

#[derive(QueryableByName)]
struct SealedRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Bytea)]
    headers_sealed: Vec<u8>,
}

const MASTER_KEYS: &str = "
WITH new AS (
    INSERT INTO master_key (fingerprint, since) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING fingerprint, since
)
SELECT fingerprint, since FROM master_key UNION SELECT fingerprint, since FROM new ORDER BY since, fingerprint";

/// Of generations before the present one nobody knows: they sign for some days, and then nothing asks for their keys.
const MISSING: &str = "
SELECT fingerprint, count(*) AS endpoints FROM (
    SELECT account_id, id, generation_key AS fingerprint FROM endpoint
    UNION
    SELECT account_id, id, ('x' || encode(substring(headers_sealed FOR 8), 'hex'))::bit(64)::bigint FROM endpoint
    WHERE headers_sealed IS NOT NULL
) AS needed
WHERE fingerprint <> ALL ($1) GROUP BY fingerprint ORDER BY fingerprint";

const SEALED: &str = "
SELECT account_id, id, headers_sealed FROM endpoint
WHERE headers_sealed IS NOT NULL AND substring(headers_sealed FOR 8) = ANY ($1) AND (account_id, id) > ($2, $3)
ORDER BY account_id, id LIMIT $4";

/// Unless their owner has given others meanwhile.
const RESEAL: &str = "
UPDATE endpoint SET headers_sealed = $4 WHERE account_id = $1 AND id = $2 AND headers_sealed = $3";

impl Store {
    /// The master keys that have made secrets, with the one that does so now: it is noted if it is new.
    pub async fn master_keys(&self, newest: Fingerprint) -> Result<MasterKeys, DatabaseError> {
        enum Keys {}
        let query = diesel::sql_query(MASTER_KEYS)
            .bind::<BigInt, _>(newest.0)
            .bind::<Timestamptz, _>(self.clock.now() + BEGINS);
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<KeyRow> = prepared::<Keys, _>(query).load(&mut *conn).await?;
        Ok(MasterKeys(rows.into_iter().map(|row| (row.since, Fingerprint(row.fingerprint))).collect(), newest))
    }

    /// The master keys that endpoints need and that are none of these, and for how many.
    pub async fn missing_keys(&self, known: &[Fingerprint]) -> Result<Vec<(Fingerprint, i64)>, DatabaseError> {
        let query = diesel::sql_query(MISSING).bind::<Array<BigInt>, _>(column(known, |key| key.0));
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<NeededRow> = query.load(&mut *conn).await?;
        Ok(rows.into_iter().map(|row| (Fingerprint(row.fingerprint), row.endpoints)).collect())
    }

    /// Headers that begin with one of these, behind those of an endpoint, at most `limit`.
    pub async fn sealed_headers(
        &self,
        beginnings: Vec<Vec<u8>>,
        after: Option<(AccountId, EndpointId)>,
        limit: i64,
    ) -> Result<Vec<SealedHeaders>, DatabaseError> {
        let (account, endpoint) =
            after.map_or((Uuid::nil(), Uuid::nil()), |(account, endpoint)| (account.uuid(), endpoint.uuid()));
        let query = diesel::sql_query(SEALED)
            .bind::<Array<Bytea>, _>(beginnings)
            .bind::<SqlUuid, _>(account)
            .bind::<SqlUuid, _>(endpoint)
            .bind::<BigInt, _>(limit);
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<SealedRow> = query.load(&mut *conn).await?;
        let read = |row: SealedRow| SealedHeaders {
            account: AccountId::from_uuid(row.account_id),
            endpoint: EndpointId::from_uuid(row.id),
            sealed: row.headers_sealed,
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Puts the same headers, sealed anew, in the place of those.
    pub async fn reseal_headers(&self, old: &SealedHeaders, renewed: Vec<u8>) -> Result<(), DatabaseError> {
        let query = diesel::sql_query(RESEAL)
            .bind::<SqlUuid, _>(old.account.uuid())
            .bind::<SqlUuid, _>(old.endpoint.uuid())
            .bind::<Bytea, _>(&old.sealed)
            .bind::<Bytea, _>(renewed);
        let mut conn = acquire(&self.pool).await?;
        query.execute(&mut *conn).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::{NoContext, Timestamp};

    use super::*;

    #[test]
    fn the_secret_of_an_envelope_is_of_the_key_of_its_time() {
        let at = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap();
        let [old, new] = [Fingerprint(1), Fingerprint(2)];
        let keys = MasterKeys(vec![(at(1_000), old), (at(2_000), new)], new);
        let of =
            |seconds: u64| keys.of(EnvelopeId::from_uuid(Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0))));
        assert_eq!([500, 1_000, 1_999, 2_000, 9_000].map(of), [old, old, old, new, new]);
        // An id without a time, and keys that nobody has noted yet.
        assert_eq!(keys.of(EnvelopeId::from_uuid(Uuid::nil())), old);
        assert_eq!(MasterKeys(Vec::new(), new).of(EnvelopeId::from_uuid(Uuid::nil())), new);
    }
}
