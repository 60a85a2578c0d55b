//! The one way from a command to a change: lock, decide, seal, save, commit.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use countersign_chassis::database::DatabaseError;
use countersign_chassis::keys::random;
use countersign_chassis::once::Once;
use tracing::Instrument as _;
use uuid::{NoContext, Timestamp, Uuid};

use crate::credential::Keyring;
use crate::domain::account::{Account, ApiKey, Permissions, Settings};
use crate::domain::command::{Actor, By, Command};
use crate::domain::credit::{Billing, settle};
use crate::domain::decide::{Verdict, decide};
use crate::domain::envelope::Envelope;
use crate::domain::event::Event;
use crate::domain::id::{AccountId, EnvelopeId, KeyId};
use crate::domain::personal::Salt;
use crate::domain::record::{Mint, Recorded, seal};
use crate::domain::replace::copy;
use crate::store::{Change, Changed, Scope, Store, joined};

/// What became of a command: the envelope as it is now, and what the caller is told.
pub type Outcome = Changed<Verdict>;

/// A command for one envelope.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Whose envelopes the caller may touch.
    pub scope: Scope,
    /// Which.
    pub id: EnvelopeId,
    /// Who asks.
    pub by: By,
    /// What.
    pub command: Command,
    /// The revision that the envelope must have.
    pub expected: Option<u64>,
    /// What it costs to send, where a sender asks.
    pub billing: Option<Billing>,
}

/// Words the reply from the envelope as it is to be, an envelope that comes to be with it, and what the caller is told;
/// `None` where it is not kept.
pub type Reply = Arc<dyn Fn(&Envelope, Option<&Envelope>, &Verdict) -> Option<Vec<u8>> + Send + Sync>;

/// Executes commands.
#[derive(Clone)]
pub struct Executor {
    store: Store,
    keyring: Arc<Keyring>,
}

impl Executor {
    /// On that store, with credentials from that ring.
    #[must_use]
    pub fn new(store: Store, keyring: Arc<Keyring>) -> Self {
        Self { store, keyring }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Executes a command if `may` says that the caller may touch the envelope. `None`: no such envelope.
    ///
    /// Runs in a task of its own: a caller who hangs up must not cut a transaction in two.
    pub async fn execute(
        &self,
        ask: Ask,
        may: impl Fn(&Envelope) -> bool + Send + Sync + 'static,
    ) -> Result<Option<Outcome>, DatabaseError> {
        self.execute_once(ask, None, may).await
    }

    /// The same, once: the reply is kept under the key in the same transaction.
    pub async fn execute_once(
        &self,
        ask: Ask,
        kept: Option<(Once, Reply)>,
        may: impl Fn(&Envelope) -> bool + Send + Sync + 'static,
    ) -> Result<Option<Outcome>, DatabaseError> {
        let executor = self.clone();
        let change = async move {
            let name = ask.command.transition().name();
            let decide = |before: &Envelope, now: DateTime<Utc>| {
                let mut change = if may(before) {
                    executor.decide(&ask, before, now)
                } else {
                    Change {
                        after: before.clone(),
                        events: Vec::new(),
                        also: None,
                        movement: None,
                        reply: None,
                        answer: None,
                    }
                };
                if let (Some((_, reply)), Some(verdict @ (Verdict::Done | Verdict::AlreadyDone))) =
                    (&kept, &change.answer)
                {
                    change.reply = reply(&change.after, change.also.as_ref().map(|(also, _)| also), verdict);
                }
                change
            };
            let once = kept.as_ref().map(|(once, _)| once);
            let changed = executor.store.change(name, ask.scope, ask.id, once, decide).await?;
            Ok(changed
                .and_then(|Changed { envelope, reply, answer }| Some(Changed { envelope, reply, answer: answer? })))
        };
        joined(tokio::spawn(change.in_current_span()).await)
    }

    fn decide(&self, ask: &Ask, before: &Envelope, now: DateTime<Utc>) -> Change<Option<Verdict>> {
        let decision = decide(before, &ask.command, ask.expected, now);
        let mut after = before.clone();
        let events = seal(&mut after, &decision.events, &ask.by, now, &mut Fresh(now));
        for (old, new) in before.recipients.iter().zip(&mut after.recipients) {
            if new.credential.generation != old.credential.generation {
                new.credential = self.keyring.credential(new.id, new.credential.generation);
            }
        }
        let also = decision.events.iter().find_map(|event| match event {
            Event::Replaced { by } => Some(self.replacement(before, *by, &ask.by, now)),
            _ => None,
        });
        let movement = settle(Some(before), &mut after, ask.billing.as_ref(), now);
        Change { after, events, also, movement, reply: None, answer: Some(decision.verdict) }
    }

    fn replacement(&self, ended: &Envelope, id: EnvelopeId, by: &By, now: DateTime<Utc>) -> (Envelope, Vec<Recorded>) {
        let mut draft = copy(ended, id, now, &mut Fresh(now));
        for recipient in &mut draft.recipients {
            recipient.credential = self.keyring.credential(recipient.id, 1);
        }
        // Who refuses does not make the sender's draft.
        let actor = if matches!(by.actor, Actor::Sender(_)) { by.actor } else { Actor::System };
        let by = By { actor, ..By::system() };
        let events = seal(&mut draft, &[Event::Created], &by, now, &mut Fresh(now));
        (draft, events)
    }
}

/// Ids of that time, and random salts.
pub struct Fresh(pub DateTime<Utc>);

impl Mint for Fresh {
    fn id(&mut self) -> Uuid {
        new_id(self.0)
    }

    fn salt(&mut self) -> Salt {
        random()
    }
}

/// A fresh UUIDv7 of that time.
#[must_use]
pub fn new_id(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
}

/// A new account with the usual settings.
#[must_use]
pub fn account(name: String, now: DateTime<Utc>) -> Account {
    let id = AccountId::from_uuid(new_id(now));
    Account { id, name, created_at: now, suspended_at: None, revision: 1, settings: Settings::default() }
}

/// A new API key.
#[must_use]
pub fn api_key(name: String, livemode: bool, permissions: Permissions, now: DateTime<Utc>) -> ApiKey {
    ApiKey {
        id: KeyId::from_uuid(new_id(now)),
        name,
        livemode,
        permissions,
        created_at: now,
        expires_at: None,
        overlap_until: None,
        revoked_at: None,
        last_used_at: None,
        replaced_by: None,
    }
}
