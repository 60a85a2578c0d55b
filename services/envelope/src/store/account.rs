//! Accounts and their API keys. Of a key only a keyed hash is kept.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Store;
use super::schema::{account, api_key};
use crate::domain::envelope::Digest;
use crate::domain::id::{AccountId, KeyId};

/// A key that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// Its mode.
    pub livemode: bool,
}

impl Store {
    /// Makes an account.
    pub async fn create_account(&self, id: AccountId, name: &str, at: DateTime<Utc>) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        diesel::insert_into(account::table)
            .values((account::id.eq(id.uuid()), account::name.eq(name), account::created_at.eq(at)))
            .execute(&mut *conn)
            .await?;
        Ok(())
    }

    /// Gives an account a key.
    pub async fn create_key(
        &self,
        account: AccountId,
        key: KeyRow,
        hash: &Digest,
        at: DateTime<Utc>,
    ) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        diesel::insert_into(api_key::table)
            .values((
                api_key::account_id.eq(account.uuid()),
                api_key::id.eq(key.id.uuid()),
                api_key::livemode.eq(key.livemode),
                api_key::hash.eq(hash.as_slice()),
                api_key::created_at.eq(at),
            ))
            .execute(&mut *conn)
            .await?;
        Ok(())
    }

    /// The key with that hash, unless it is revoked.
    pub async fn key(&self, account: AccountId, hash: &Digest) -> Result<Option<KeyRow>, DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        let row: Option<(Uuid, bool)> = api_key::table
            .filter(api_key::account_id.eq(account.uuid()))
            .filter(api_key::hash.eq(hash.as_slice()))
            .filter(api_key::revoked_at.is_null())
            .select((api_key::id, api_key::livemode))
            .first(&mut *conn)
            .await
            .optional()?;
        Ok(row.map(|(id, livemode)| KeyRow { id: KeyId::from_uuid(id), livemode }))
    }
}
