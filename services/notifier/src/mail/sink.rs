//! The sink of mails: who gets one is written down with the feed's place.

use std::sync::Arc;

use countersign::v1::Event;
use countersign_chassis::database::DatabaseError;
use diesel_async::AsyncPgConnection;
use tokio::sync::Notify;

use super::plan::{Mail, plan};
use crate::event::each;
use crate::sink::{Sink, Traces, Work};
use crate::store::{MAILS_KEPT, Store, keep_mails};

/// The sink of people's mailboxes.
pub struct Mails {
    /// Where mails are kept.
    pub store: Store,
    /// Notified when there are new mails.
    pub wake: Arc<Notify>,
}

struct Planned {
    rows: Vec<Mail>,
    traces: Traces,
    store: Store,
    wake: Arc<Notify>,
}

#[tonic::async_trait]
impl Sink for Mails {
    async fn plan(&self, events: &[Event], traces: &Traces) -> anyhow::Result<Box<dyn Work>> {
        let mut rows = each(events, plan);
        let (planned, oldest) = (rows.len(), self.store.clock().now() - MAILS_KEPT);
        // Whether they had their mail nobody knows any more: it could be the second.
        rows.retain(|mail| mail.occurred_at > oldest);
        if rows.len() < planned {
            tracing::error!(count = planned - rows.len(), "mails about what happened long ago are not written");
        }
        Ok(Box::new(Planned { rows, traces: traces.clone(), store: self.store.clone(), wake: Arc::clone(&self.wake) }))
    }
}

#[tonic::async_trait]
impl Work for Planned {
    async fn keep(&self, connection: &AsyncPgConnection) -> Result<(), DatabaseError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        keep_mails(connection, &self.rows, &self.traces, self.store.clock().now()).await
    }

    fn kept(&self) {
        if !self.rows.is_empty() {
            self.wake.notify_one();
        }
    }
}
