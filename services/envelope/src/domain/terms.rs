//! What the sender sets: free to change while the envelope is a draft, frozen when it is dispatched.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::id::WatcherId;
use super::locality::Locality;
use super::personal::Personal;
use super::reminder::ReminderPolicy;

/// What the sender sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it is about.
    pub subject: String,
    /// The sender's note.
    pub message: String,
    /// The sender's own name for it.
    pub external_reference: String,
    /// The sender's own facts about it.
    pub metadata: BTreeMap<String, String>,
    /// Who else is told how it ends.
    pub watchers: Vec<Watcher>,
    /// Who acts when.
    pub routing: Routing,
    /// Groups of which fewer than all are needed.
    pub quorums: Vec<Quorum>,
    /// When the first recipients are released; at once if none.
    pub scheduled_send_at: Option<DateTime<Utc>>,
    /// How a refusal is taken, unless the recipient has a rule of their own.
    pub decline: DeclinePolicy,
    /// How often a recipient's place may be passed on.
    pub delegations_max: u16,
    /// How long before the deadline those who owe an act are warned; never if none.
    pub expiry_warning: Option<TimeDelta>,
    /// Whether recipients who have acted are told when it falls through.
    pub tell_acted: bool,
    /// When recipients are reminded.
    pub reminders: ReminderPolicy,
    /// Language and time zone of recipients who have none of their own: the account's when the envelope was made.
    pub locality: Locality,
    /// Where its events are posted besides; empty: nowhere.
    pub webhook_url: String,
}

/// An address that is told how the envelope ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watcher {
    /// Its id.
    pub id: WatcherId,
    /// The address.
    pub email: Personal,
}

/// Who acts when. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// All at once.
    Parallel = 1,
    /// One after another.
    Sequential = 2,
    /// By the groups that the sender has numbered.
    Groups = 3,
}

/// How many of a group have to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The group's number.
    pub group: u16,
    /// At least one, at most all.
    pub needed: u16,
}

/// How a refusal is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclinePolicy {
    /// Whether anybody may refuse.
    pub enabled: bool,
    /// Whether a reason is taken.
    pub reason: ReasonRule,
    /// What a refusal does.
    pub effect: DeclineEffect,
}

/// Whether a refusal has a reason. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonRule {
    /// Takes none.
    Disabled = 1,
    /// May have one.
    Optional = 2,
    /// Needs one.
    Required = 3,
}

/// What a refusal does to the envelope. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclineEffect {
    /// Ends it.
    Abort = 1,
    /// Nothing, while enough others of the group are left; else ends it.
    Continue = 2,
    /// Ends it and makes a draft of its replacement.
    ReturnForCorrection = 3,
}

impl Default for DeclinePolicy {
    fn default() -> Self {
        Self { enabled: true, reason: ReasonRule::Optional, effect: DeclineEffect::Abort }
    }
}

/// A change of a draft's terms: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of Terms")]
pub struct Changes {
    pub subject: Option<String>,
    pub message: Option<String>,
    pub external_reference: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub watchers: Option<Vec<Watcher>>,
    pub scheduled_send_at: Option<Option<DateTime<Utc>>>,
    pub decline: Option<DeclinePolicy>,
    pub delegations_max: Option<u16>,
    pub expiry_warning: Option<Option<TimeDelta>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub reminders: Option<ReminderPolicy>,
    pub webhook_url: Option<String>,
    pub retention_days: Option<u32>,
}

impl Changes {
    /// The names of what it changes.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        [
            (self.subject.is_some(), "subject"),
            (self.message.is_some(), "message"),
            (self.external_reference.is_some(), "external_reference"),
            (self.metadata.is_some(), "metadata"),
            (self.watchers.is_some(), "watchers"),
            (self.scheduled_send_at.is_some(), "scheduled_send_at"),
            (self.decline.is_some(), "decline_policy"),
            (self.delegations_max.is_some(), "delegations_max"),
            (self.expiry_warning.is_some(), "expiry_warning"),
            (self.expires_at.is_some(), "expires_at"),
            (self.reminders.is_some(), "reminder_policy"),
            (self.webhook_url.is_some(), "webhook_url"),
            (self.retention_days.is_some(), "retention_days"),
        ]
        .into_iter()
        .filter_map(|(changed, name)| changed.then_some(name))
        .collect()
    }
}

impl Terms {
    /// Takes a change over, but for the deadline and the retention, which are the envelope's.
    pub fn change(&mut self, changes: &Changes) {
        fn set<T: Clone>(into: &mut T, from: Option<&T>) {
            if let Some(from) = from {
                into.clone_from(from);
            }
        }
        set(&mut self.subject, changes.subject.as_ref());
        set(&mut self.message, changes.message.as_ref());
        set(&mut self.external_reference, changes.external_reference.as_ref());
        set(&mut self.metadata, changes.metadata.as_ref());
        set(&mut self.watchers, changes.watchers.as_ref());
        set(&mut self.scheduled_send_at, changes.scheduled_send_at.as_ref());
        set(&mut self.decline, changes.decline.as_ref());
        set(&mut self.delegations_max, changes.delegations_max.as_ref());
        set(&mut self.expiry_warning, changes.expiry_warning.as_ref());
        set(&mut self.reminders, changes.reminders.as_ref());
        set(&mut self.webhook_url, changes.webhook_url.as_ref());
    }
}
