//! The one way from a command to a change: lock, decide, seal, save, commit.

use chrono::{DateTime, Utc};
use countersign_chassis::database::DatabaseError;
use tracing::Instrument as _;
use uuid::{NoContext, Timestamp, Uuid};

use crate::domain::command::{Actor, Command};
use crate::domain::decide::{Verdict, decide};
use crate::domain::envelope::Envelope;
use crate::domain::id::EnvelopeId;
use crate::domain::record::seal;
use crate::store::{Change, Changed, Scope, Store};

/// What became of a command: the envelope as it is now, and what the caller is told.
pub type Outcome = Changed<Verdict>;

/// Executes a command on an envelope of the scope, if `may` says that the caller may touch it. `None`: no such envelope.
///
/// Runs in a task of its own: a caller who hangs up must not cut a transaction in two.
pub async fn execute(
    store: &Store,
    scope: Scope,
    id: EnvelopeId,
    actor: Actor,
    command: Command,
    may: impl Fn(&Envelope) -> bool + Send + Sync + 'static,
) -> Result<Option<Outcome>, DatabaseError> {
    let (store, name) = (store.clone(), name(&command));
    let change = async move {
        let decide = |before: &Envelope, now: DateTime<Utc>| {
            if !may(before) {
                return Change { after: before.clone(), events: Vec::new(), answer: None };
            }
            let decision = decide(before, &command, now);
            let mut after = before.clone();
            let events = seal(&mut after, &decision.events, actor, now, || new_id(now));
            Change { after, events, answer: Some(decision.verdict) }
        };
        let changed = store.change(name, scope, id, decide).await?;
        Ok(changed.and_then(|Changed { envelope, answer }| Some(Changed { envelope, answer: answer? })))
    };
    match tokio::spawn(change.in_current_span()).await {
        Ok(changed) => changed,
        Err(cut) if cut.is_panic() => std::panic::resume_unwind(cut.into_panic()),
        // The runtime is shutting down.
        Err(_) => Err(DatabaseError::Busy),
    }
}

/// A fresh UUIDv7 of that time.
#[must_use]
pub fn new_id(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Send => "send",
        Command::Sign(_) => "sign",
        Command::Decline(_) => "decline",
        Command::Void { .. } => "void",
        Command::Expire => "expire",
        Command::Store { .. } => "store",
    }
}
