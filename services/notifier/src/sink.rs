//! Where events go from here: each sink says what follows for it, and the feed keeps that together with its place.
//!
//! A sink never acts while it plans: what is to be done is a row first, and whoever does it may be another process.

use std::collections::HashMap;

use countersign::v1::Event;
use countersign_chassis::database::DatabaseError;
use diesel_async::AsyncPgConnection;

use crate::id::EventId;

/// In which traces the events of a batch happened, as far as they did in any.
pub type Traces = HashMap<EventId, String>;

/// A way by which events reach somebody: by webhook, by mail, to a broker.
#[tonic::async_trait]
pub trait Sink: Send + Sync {
    /// What follows from these events of one partition, in their order. Reads at most: a plan may be dropped, and the same
    /// events may come again.
    async fn plan(&self, events: &[Event], traces: &Traces) -> anyhow::Result<Box<dyn Work>>;
}

/// What is to be done for a batch of events.
#[tonic::async_trait]
pub trait Work: Send + Sync {
    /// Writes it down, in the transaction that moves the feed's place. What is there already stays as it is: the same events
    /// may have come before.
    async fn keep(&self, connection: &AsyncPgConnection) -> Result<(), DatabaseError>;

    /// It is committed: wakes those who do it.
    fn kept(&self);
}
