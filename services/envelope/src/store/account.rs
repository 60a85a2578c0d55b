//! Accounts, their keys and their users. Of a secret only a keyed hash is kept.

use chrono::{DateTime, Utc};
use countersign_chassis::database::DatabaseError;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt as _;
use serde_json::Value as Json;
use uuid::Uuid;

use super::ledger::{Kind, NewEntry, enter, open_balance, open_ledger};
use super::schema::{account, account_user, api_key};
use super::settings::{settings, settings_of};
use super::{Keep, Scope, Store, int8};
use crate::domain::account::{Account, ApiKey, Permission, Permissions};
use crate::domain::credit::{Amount, Unit};
use crate::domain::envelope::Digest;
use crate::domain::id::{AccountId, KeyId, LedgerId, UserId};
use crate::domain::limits::FREE_CREDITS;
use crate::domain::personal::Personal;

/// A user of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// Their id.
    pub id: UserId,
    /// Their address.
    pub email: Personal,
}

/// What became of a key that was to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewKey {
    /// It was; with the key that it replaces, if any.
    Made(Box<(ApiKey, Option<ApiKey>)>),
    /// The account has as many as it may have.
    TooMany(usize),
    /// There is no such key to be replaced, or none that can still be used.
    NoSuchKey,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = account)]
struct AccountRow {
    id: Uuid,
    name: String,
    created_at: DateTime<Utc>,
    suspended_at: Option<DateTime<Utc>>,
    revision: i64,
    settings: Json,
}

impl AccountRow {
    fn account(self) -> QueryResult<Account> {
        Ok(Account {
            id: AccountId::from_uuid(self.id),
            name: self.name,
            created_at: self.created_at,
            suspended_at: self.suspended_at,
            revision: self.revision.unsigned_abs(),
            settings: settings_of(self.settings)?,
        })
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = api_key)]
struct KeyRow {
    id: Uuid,
    livemode: bool,
    name: String,
    permissions: Vec<i16>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    overlap_until: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    replaced_by: Option<Uuid>,
}

impl From<KeyRow> for ApiKey {
    fn from(row: KeyRow) -> Self {
        // A number that means nothing any more permits nothing.
        let known = |number: &i16| Permission::ALL.into_iter().find(|permission| *permission as i16 == *number);
        Self {
            id: KeyId::from_uuid(row.id),
            name: row.name,
            livemode: row.livemode,
            permissions: row.permissions.iter().filter_map(known).collect::<Permissions>(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            overlap_until: row.overlap_until,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
            replaced_by: row.replaced_by.map(KeyId::from_uuid),
        }
    }
}

async fn lock(mut conn: &AsyncPgConnection, id: AccountId) -> QueryResult<Option<Account>> {
    let row = account::table
        .filter(account::id.eq(id.uuid()))
        .select(AccountRow::as_select())
        .for_no_key_update()
        .get_result(&mut conn)
        .await
        .optional()?;
    row.map(AccountRow::account).transpose()
}

async fn insert_key(mut conn: &AsyncPgConnection, owner: AccountId, new: &ApiKey, hash: &Digest) -> QueryResult<usize> {
    diesel::insert_into(api_key::table)
        .values((
            api_key::account_id.eq(owner.uuid()),
            api_key::id.eq(new.id.uuid()),
            api_key::livemode.eq(new.livemode),
            api_key::name.eq(&new.name),
            api_key::permissions.eq(new.permissions.iter().map(|it| it as i16).collect::<Vec<_>>()),
            api_key::hash.eq(hash.as_slice()),
            api_key::created_at.eq(new.created_at),
            api_key::expires_at.eq(new.expires_at),
        ))
        .execute(&mut conn)
        .await
}

async fn one_key(mut conn: &AsyncPgConnection, owner: AccountId, id: KeyId, lock: bool) -> QueryResult<Option<ApiKey>> {
    let key = api_key::table.filter(api_key::account_id.eq(owner.uuid())).filter(api_key::id.eq(id.uuid()));
    let key = key.select(KeyRow::as_select());
    let row = if lock { key.for_update().get_result(&mut conn).await } else { key.get_result(&mut conn).await };
    Ok(row.optional()?.map(ApiKey::from))
}

impl Store {
    /// Makes an account with its free credits and, if given, a first key.
    pub async fn create_account(
        &self,
        new: Account,
        credits: LedgerId,
        key: Option<(ApiKey, Digest)>,
        keep: Option<Keep<Account>>,
    ) -> Result<Account, DatabaseError> {
        // The operator's own keys are no account's: the wall would keep the reply out.
        self.write_across(new.id, keep, move |mut conn| {
            async move {
                let row = (
                    account::id.eq(new.id.uuid()),
                    account::name.eq(&new.name),
                    account::created_at.eq(new.created_at),
                    account::revision.eq(int8(new.revision)),
                    account::settings.eq(settings(&new.settings)),
                );
                diesel::insert_into(account::table).values(row).execute(&mut conn).await?;
                if let Some((key, hash)) = &key {
                    insert_key(conn, new.id, key, hash).await?;
                }
                open_ledger(conn, new.id).await?;
                open_balance(conn, new.id, Unit::Credit.to_string()).await?;
                let grant = NewEntry {
                    account: new.id,
                    id: credits,
                    kind: Kind::Grant,
                    amount: Amount { unit: Unit::Credit, value: FREE_CREDITS },
                    at: new.created_at,
                    envelope: None,
                    reference: "signup",
                    charged: None,
                };
                enter(conn, &grant).await?;
                Ok(new)
            }
            .boxed()
        })
        .await
    }

    /// An account.
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, DatabaseError> {
        let row: Option<AccountRow> = self
            .read_one(id, move |mut conn| {
                let row = account::table.filter(account::id.eq(id.uuid())).select(AccountRow::as_select());
                async move { row.get_result(&mut conn).await.optional() }.boxed()
            })
            .await?;
        Ok(row.map(AccountRow::account).transpose()?)
    }

    /// Changes an account under its lock. `None`: there is no such account; `change` says `None` where it does not want to.
    pub async fn change_account<T: Send + 'static>(
        &self,
        id: AccountId,
        change: impl FnOnce(&mut Account) -> Option<T> + Send + 'static,
        keep: Option<Keep<Option<(Account, Option<T>)>>>,
    ) -> Result<Option<(Account, Option<T>)>, DatabaseError> {
        self.write(id, keep, move |mut conn| {
            async move {
                let Some(mut changed) = lock(conn, id).await? else { return Ok(None) };
                let before = changed.clone();
                let answer = change(&mut changed);
                if answer.is_some() && changed != before {
                    changed.revision += 1;
                    let row = (
                        account::suspended_at.eq(changed.suspended_at),
                        account::revision.eq(int8(changed.revision)),
                        account::settings.eq(settings(&changed.settings)),
                    );
                    let this = account::table.filter(account::id.eq(id.uuid()));
                    diesel::update(this).set(row).execute(&mut conn).await?;
                }
                Ok(Some((changed, answer)))
            }
            .boxed()
        })
        .await
    }

    /// Gives an account a key, unless it has `keys_max` that can be used; in the place of `replaced`, which then ends at
    /// `overlap_until` at the latest.
    pub async fn create_key(
        &self,
        owner: AccountId,
        (new, hash): (ApiKey, Digest),
        replaced: Option<(KeyId, DateTime<Utc>)>,
        keys_max: usize,
        keep: Option<Keep<NewKey>>,
    ) -> Result<NewKey, DatabaseError> {
        self.write(owner, keep, move |mut conn| {
            async move {
                // One after the other, so that two at once do not both take the last place.
                lock(conn, owner).await?;
                let now = new.created_at;
                // The one that is replaced makes room for its successor; the modes do not take each other's places.
                let usable = api_key::table
                    .filter(api_key::account_id.eq(owner.uuid()))
                    .filter(api_key::livemode.eq(new.livemode))
                    .filter(api_key::id.ne(replaced.map_or(Uuid::nil(), |(old, _)| old.uuid())))
                    .filter(api_key::revoked_at.is_null())
                    .filter(api_key::expires_at.is_null().or(api_key::expires_at.gt(now)))
                    .filter(api_key::overlap_until.is_null().or(api_key::overlap_until.gt(now)))
                    .count();
                let held: i64 = usable.get_result(&mut conn).await?;
                let held = usize::try_from(held).unwrap_or_default();
                if held >= keys_max {
                    return Ok(NewKey::TooMany(held + 1));
                }
                let Some((old, overlap_until)) = replaced else {
                    insert_key(conn, owner, &new, &hash).await?;
                    return Ok(NewKey::Made(Box::new((new, None))));
                };
                let Some(mut old) = one_key(conn, owner, old, true).await?.filter(|old| old.is_usable(now)) else {
                    return Ok(NewKey::NoSuchKey);
                };
                // A key that ends gives no key that goes on for longer.
                let expires_at = [old.expires_at, new.expires_at].into_iter().flatten().min();
                let name = old.name.clone();
                let new = ApiKey { name, livemode: old.livemode, permissions: old.permissions, expires_at, ..new };
                old.overlap_until = Some(old.overlap_until.map_or(overlap_until, |end| end.min(overlap_until)));
                old.replaced_by = Some(new.id);
                insert_key(conn, owner, &new, &hash).await?;
                let row = (api_key::overlap_until.eq(old.overlap_until), api_key::replaced_by.eq(new.id.uuid()));
                let this = api_key::table.find((owner.uuid(), old.id.uuid()));
                diesel::update(this).set(row).execute(&mut conn).await?;
                Ok(NewKey::Made(Box::new((new, Some(old)))))
            }
            .boxed()
        })
        .await
    }

    /// The key with that hash.
    pub async fn key(&self, owner: AccountId, hash: Digest) -> Result<Option<ApiKey>, DatabaseError> {
        let row: Option<KeyRow> = self
            .read_one(owner, move |mut conn| {
                let key = api_key::table
                    .filter(api_key::account_id.eq(owner.uuid()))
                    .filter(api_key::hash.eq(hash.to_vec()))
                    .select(KeyRow::as_select());
                async move { key.get_result(&mut conn).await.optional() }.boxed()
            })
            .await?;
        Ok(row.map(ApiKey::from))
    }

    /// A key by its id.
    pub async fn key_by_id(&self, owner: AccountId, id: KeyId) -> Result<Option<ApiKey>, DatabaseError> {
        self.read_one(owner, move |conn| one_key(conn, owner, id, false).boxed()).await
    }

    /// A page of an account's keys, newest first; `livemode` limits them to a mode.
    pub async fn keys(
        &self,
        owner: AccountId,
        livemode: Option<bool>,
        before: Option<KeyId>,
        limit: i64,
    ) -> Result<Vec<ApiKey>, DatabaseError> {
        let rows: Vec<KeyRow> = self
            .read_one(owner, move |mut conn| {
                let modes: Vec<bool> = livemode.map_or_else(|| vec![true, false], |mode| vec![mode]);
                api_key::table
                    .filter(api_key::account_id.eq(owner.uuid()))
                    .filter(api_key::livemode.eq_any(modes))
                    .filter(api_key::id.lt(before.map_or(Uuid::max(), |id| id.uuid())))
                    .order(api_key::id.desc())
                    .limit(limit)
                    .select(KeyRow::as_select())
                    .load(&mut conn)
                    .boxed()
            })
            .await?;
        Ok(rows.into_iter().map(ApiKey::from).collect())
    }

    /// Ends a key. `None`: the account has no such key.
    pub async fn revoke_key(
        &self,
        owner: AccountId,
        id: KeyId,
        at: DateTime<Utc>,
        keep: Option<Keep<Option<ApiKey>>>,
    ) -> Result<Option<ApiKey>, DatabaseError> {
        self.write(owner, keep, move |mut conn| {
            async move {
                let Some(mut key) = one_key(conn, owner, id, true).await? else { return Ok(None) };
                if key.revoked_at.is_none() {
                    key.revoked_at = Some(at);
                    let this = api_key::table.find((owner.uuid(), id.uuid()));
                    diesel::update(this).set(api_key::revoked_at.eq(at)).execute(&mut conn).await?;
                }
                Ok(Some(key))
            }
            .boxed()
        })
        .await
    }

    /// Notes that a key was used.
    pub async fn touch_key(&self, owner: AccountId, id: KeyId, at: DateTime<Utc>) -> Result<(), DatabaseError> {
        self.write(owner, None, move |mut conn| {
            let this = api_key::table.find((owner.uuid(), id.uuid()));
            let older = this.filter(api_key::last_used_at.is_null().or(api_key::last_used_at.lt(at)));
            async move { diesel::update(older).set(api_key::last_used_at.eq(at)).execute(&mut conn).await.map(drop) }
                .boxed()
        })
        .await
    }

    /// Keeps a user with the hash of their token.
    pub async fn create_user(
        &self,
        scope: Scope,
        user: UserRow,
        hash: Digest,
        at: DateTime<Utc>,
        keep: Option<Keep<()>>,
    ) -> Result<(), DatabaseError> {
        self.write(scope.account, keep, move |mut conn| {
            async move {
                let row = (
                    account_user::account_id.eq(scope.account.uuid()),
                    account_user::id.eq(user.id.uuid()),
                    account_user::livemode.eq(scope.livemode.unwrap_or(true)),
                    account_user::email.eq(user.email.reveal()),
                    account_user::token_hash.eq(hash.as_slice()),
                    account_user::created_at.eq(at),
                );
                diesel::insert_into(account_user::table).values(row).execute(&mut conn).await.map(drop)
            }
            .boxed()
        })
        .await
    }

    /// The user with that token, unless it is revoked.
    pub async fn user(&self, scope: Scope, id: UserId, hash: Digest) -> Result<Option<UserRow>, DatabaseError> {
        let email: Option<String> = self
            .read_one(scope.account, move |mut conn| {
                let user = account_user::table
                    .filter(account_user::account_id.eq(scope.account.uuid()))
                    .filter(account_user::id.eq(id.uuid()))
                    .filter(account_user::livemode.eq(scope.livemode.unwrap_or(true)))
                    .filter(account_user::token_hash.eq(hash.to_vec()))
                    .filter(account_user::revoked_at.is_null())
                    .select(account_user::email);
                async move { user.get_result(&mut conn).await.optional() }.boxed()
            })
            .await?;
        Ok(email.map(|email| UserRow { id, email: Personal::new(email) }))
    }

    /// Ends a user's token. False if the account has no such user.
    pub async fn revoke_user(
        &self,
        scope: Scope,
        id: UserId,
        at: DateTime<Utc>,
        keep: Option<Keep<bool>>,
    ) -> Result<bool, DatabaseError> {
        self.write(scope.account, keep, move |mut conn| {
            let user = account_user::table
                .filter(account_user::account_id.eq(scope.account.uuid()))
                .filter(account_user::id.eq(id.uuid()))
                .filter(account_user::livemode.eq(scope.livemode.unwrap_or(true)));
            async move {
                let changed = diesel::update(user).set(account_user::revoked_at.eq(at)).execute(&mut conn).await?;
                Ok(changed == 1)
            }
            .boxed()
        })
        .await
    }
}
