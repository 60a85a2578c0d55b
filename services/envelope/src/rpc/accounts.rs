//! Accounts as they were a moment ago.

use std::sync::Arc;

use moka::sync::Cache;

use super::auth::{KNOWN_FOR, REMEMBERED_MAX};
use crate::domain::account::Account;
use crate::domain::id::AccountId;
use crate::store::{DatabaseError, Store};

/// Accounts as they were a moment ago.
#[derive(Clone)]
pub struct Accounts {
    store: Store,
    known: Cache<AccountId, Arc<Account>>,
}

impl Accounts {
    /// Of that store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, known: Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(KNOWN_FOR).build() }
    }

    /// An account.
    pub async fn get(&self, id: AccountId) -> Result<Option<Arc<Account>>, DatabaseError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(Some(known));
        }
        let Some(account) = self.store.account(id).await?.map(Arc::new) else { return Ok(None) };
        self.known.insert(id, Arc::clone(&account));
        Ok(Some(account))
    }

    /// Has it looked up anew: it was changed here.
    pub fn forget(&self, id: AccountId) {
        self.known.invalidate(&id);
    }
}
