//! Whose documents are being read in this process. Must never let those of one account, however slow they are, keep the others'
//! waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::id::AccountId;

/// Documents that are read at the same time: most of them wait for the other side, or for their turn.
const AT_ONCE_MAX: usize = 16;
/// Of one account.
const OF_ACCOUNT_MAX: usize = 4;

/// How many of each account.
#[derive(Default)]
pub(super) struct Places(Arc<Mutex<HashMap<AccountId, usize>>>);

/// The place of one document, given back when it is dropped.
pub(super) struct Place {
    taken: Arc<Mutex<HashMap<AccountId, usize>>>,
    account: AccountId,
}

impl Places {
    /// The accounts for which there is no place; none if there is no place at all.
    pub(super) fn without(&self) -> Option<Vec<AccountId>> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full =
            || taken.iter().filter(|(_, of_it)| **of_it >= OF_ACCOUNT_MAX).map(|(account, _)| *account).collect();
        (taken.values().sum::<usize>() < AT_ONCE_MAX).then(full)
    }

    /// A place for a document of that account.
    pub(super) fn take(&self, account: AccountId) -> Place {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(account).or_default() += 1;
        Place { taken: Arc::clone(&self.0), account }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_it) = taken.get_mut(&self.account) {
            *of_it = of_it.saturating_sub(1);
        }
        taken.retain(|_, of_it| *of_it > 0);
    }
}
