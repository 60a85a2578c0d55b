//! Accounts and their API keys. Of a key only a keyed hash is kept.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, acquire};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::schema::{account, account_user, api_key};
use super::{Scope, Store};
use crate::domain::envelope::Digest;
use crate::domain::id::{AccountId, KeyId, UserId};
use crate::domain::personal::Personal;

/// A key that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// Its mode.
    pub livemode: bool,
}

/// A user of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// Their id.
    pub id: UserId,
    /// Their address.
    pub email: Personal,
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

    /// Keeps a user with the hash of their token.
    pub async fn create_user(
        &self,
        scope: Scope,
        user: &UserRow,
        hash: &Digest,
        at: DateTime<Utc>,
    ) -> Result<(), DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        diesel::insert_into(account_user::table)
            .values((
                account_user::account_id.eq(scope.account.uuid()),
                account_user::id.eq(user.id.uuid()),
                account_user::livemode.eq(scope.livemode.unwrap_or(true)),
                account_user::email.eq(user.email.reveal()),
                account_user::token_hash.eq(hash.as_slice()),
                account_user::created_at.eq(at),
            ))
            .execute(&mut *conn)
            .await?;
        Ok(())
    }

    /// The user with that token, unless it is revoked.
    pub async fn user(&self, scope: Scope, id: UserId, hash: &Digest) -> Result<Option<UserRow>, DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        let email: Option<String> = account_user::table
            .filter(account_user::account_id.eq(scope.account.uuid()))
            .filter(account_user::id.eq(id.uuid()))
            .filter(account_user::livemode.eq(scope.livemode.unwrap_or(true)))
            .filter(account_user::token_hash.eq(hash.as_slice()))
            .filter(account_user::revoked_at.is_null())
            .select(account_user::email)
            .first(&mut *conn)
            .await
            .optional()?;
        Ok(email.map(|email| UserRow { id, email: Personal::new(email) }))
    }

    /// Ends a user's token. False if the account has no such user.
    pub async fn revoke_user(&self, scope: Scope, id: UserId, at: DateTime<Utc>) -> Result<bool, DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        let user = account_user::table
            .filter(account_user::account_id.eq(scope.account.uuid()))
            .filter(account_user::id.eq(id.uuid()))
            .filter(account_user::livemode.eq(scope.livemode.unwrap_or(true)));
        let changed = diesel::update(user).set(account_user::revoked_at.eq(at)).execute(&mut *conn).await?;
        Ok(changed == 1)
    }
}
