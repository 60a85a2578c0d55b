//! Webhooks: planned, signed, guarded and posted.

pub mod deliver;
pub mod guard;
pub mod plan;
pub mod signature;

use std::sync::Arc;

use countersign::v1::Event;
use countersign_chassis::database::DatabaseError;
use diesel_async::AsyncPgConnection;
use tokio::sync::Notify;

use self::plan::{Delivery, plan};
use crate::event::each;
use crate::id::AccountId;
use crate::sink::{Sink, Work};
use crate::store::{Store, keep_deliveries};

/// The sink of endpoints.
pub struct Webhooks {
    /// Where endpoints and deliveries are kept.
    pub store: Store,
    /// Notified when there are new deliveries.
    pub wake: Arc<Notify>,
}

struct Deliveries {
    rows: Vec<Delivery>,
    store: Store,
    wake: Arc<Notify>,
}

#[tonic::async_trait]
impl Sink for Webhooks {
    async fn plan(&self, events: &[Event]) -> anyhow::Result<Box<dyn Work>> {
        let mut accounts: Vec<AccountId> = events.iter().filter_map(|event| event.account_id.parse().ok()).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let listeners = if accounts.is_empty() { Vec::new() } else { self.store.listeners(accounts).await? };
        let rows = each(events, |event, head| plan(event, head, &listeners));
        Ok(Box::new(Deliveries { rows, store: self.store.clone(), wake: Arc::clone(&self.wake) }))
    }
}

#[tonic::async_trait]
impl Work for Deliveries {
    async fn keep(&self, connection: &AsyncPgConnection) -> Result<(), DatabaseError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        keep_deliveries(connection, &self.rows, self.store.clock().now()).await
    }

    fn kept(&self) {
        if !self.rows.is_empty() {
            self.wake.notify_one();
        }
    }
}
