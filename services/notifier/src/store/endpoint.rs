//! Endpoints: where events are posted to.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, Flight, acquire, prepared};
use countersign_chassis::once::{self, Kept, Once, claimed};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Store;
use crate::id::{AccountId, EndpointId};
use crate::webhook::plan::Listener;

/// A registered endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the contract's WebhookEndpoint")]
pub struct Endpoint {
    pub account: AccountId,
    pub id: EndpointId,
    pub livemode: bool,
    pub url: String,
    pub generation: u16,
    pub created_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct EndpointRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Bool)]
    livemode: bool,
    #[diesel(sql_type = Text)]
    url: String,
    #[diesel(sql_type = SmallInt)]
    generation: i16,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct ListenerRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Bool)]
    livemode: bool,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
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
WITH held AS (SELECT count(*) AS count FROM endpoint WHERE account_id = $1 AND livemode = $3),
new AS (
    INSERT INTO endpoint (account_id, id, livemode, url, generation, created_at)
    SELECT $1, $2, $3, $4, $5, $6 FROM held WHERE held.count < $7
)
SELECT count FROM held";

const DELETE: &str = "
WITH gone AS (DELETE FROM endpoint WHERE account_id = $1 AND id = $2 AND livemode = $3 RETURNING id),
cancelled AS (
    UPDATE delivery SET state = 4 FROM gone WHERE account_id = $1 AND endpoint_id = gone.id AND state = 1
)
SELECT count(*) AS count FROM gone";

/// Commits, with the reply to be kept.
async fn end(flight: Flight, kept: Option<(Once, Vec<u8>)>) -> Result<(), DatabaseError> {
    let keep = async {
        match kept {
            Some((once, reply)) => once::keep(flight.connection(), &once, reply).await.map(drop),
            None => Ok(()),
        }
    };
    let (kept, committed) = futures_util::join!(keep, flight.commit());
    kept?;
    committed?;
    flight.close();
    Ok(())
}

impl Store {
    /// The reply that is kept for a key.
    pub async fn kept(&self, once: &Once) -> Result<Option<Kept>, DatabaseError> {
        let conn = acquire(&self.pool).await?;
        Ok(once::find(&conn, once).await?)
    }

    /// Forgets the replies whose time is over, at most `limit`; says how many.
    pub async fn forget_replies(&self, now: DateTime<Utc>, limit: i64) -> Result<usize, DatabaseError> {
        let conn = acquire(&self.pool).await?;
        Ok(once::forget(&conn, now, limit).await?)
    }

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
            .bind::<SqlUuid, _>(new.account.uuid())
            .bind::<SqlUuid, _>(new.id.uuid())
            .bind::<Bool, _>(new.livemode)
            .bind::<Text, _>(&new.url)
            .bind::<SmallInt, _>(new.generation.cast_signed())
            .bind::<Timestamptz, _>(new.created_at)
            .bind::<BigInt, _>(most);
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

    /// The endpoints of an account and mode, oldest first.
    pub async fn endpoints(&self, account: AccountId, livemode: bool) -> Result<Vec<Endpoint>, DatabaseError> {
        let list = "SELECT account_id, id, livemode, url, generation, created_at FROM endpoint \
                    WHERE account_id = $1 AND livemode = $2 ORDER BY id";
        let query = diesel::sql_query(list).bind::<SqlUuid, _>(account.uuid()).bind::<Bool, _>(livemode);
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<EndpointRow> = query.load(&mut *conn).await?;
        let endpoint = |row: EndpointRow| Endpoint {
            account: AccountId::from_uuid(row.account_id),
            id: EndpointId::from_uuid(row.id),
            livemode: row.livemode,
            url: row.url,
            generation: row.generation.unsigned_abs(),
            created_at: row.created_at,
        };
        Ok(rows.into_iter().map(endpoint).collect())
    }

    /// Removes an endpoint and cancels what waits for it. False if there was none.
    pub async fn delete_endpoint(
        &self,
        account: AccountId,
        livemode: bool,
        id: EndpointId,
        kept: Option<(Once, Vec<u8>)>,
    ) -> Result<bool, DatabaseError> {
        enum Delete {}
        let query = diesel::sql_query(DELETE)
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<SqlUuid, _>(id.uuid())
            .bind::<Bool, _>(livemode);
        let flight = Flight::open(&self.pool).await?;
        let mut conn = flight.connection();
        let once = kept.as_ref().map(|(once, _)| once);
        let delete = prepared::<Delete, _>(query).get_result::<Count>(&mut conn);
        let (begun, claimed, gone) = futures_util::join!(flight.begin(), claimed(flight.connection(), once), delete);
        begun?;
        if let Err(error) = claimed {
            flight.rollback().await?;
            return Err(error.into());
        }
        let gone = gone?.count == 1;
        end(flight, kept.filter(|_| gone)).await?;
        Ok(gone)
    }

    /// The endpoints in use of those accounts.
    pub async fn listeners(&self, accounts: Vec<AccountId>) -> Result<Vec<Listener>, DatabaseError> {
        enum Listeners {}
        let list = "SELECT account_id, id, livemode, created_at FROM endpoint WHERE account_id = ANY($1) AND disabled_at IS NULL";
        let accounts: Vec<Uuid> = accounts.into_iter().map(|account| account.uuid()).collect();
        let query = prepared::<Listeners, _>(diesel::sql_query(list).bind::<Array<SqlUuid>, _>(accounts));
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<ListenerRow> = query.load(&mut *conn).await?;
        let listener = |row: ListenerRow| Listener {
            account: AccountId::from_uuid(row.account_id),
            endpoint: EndpointId::from_uuid(row.id),
            livemode: row.livemode,
            since: row.created_at,
        };
        Ok(rows.into_iter().map(listener).collect())
    }
}
