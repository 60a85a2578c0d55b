//! For how long an envelope's content is kept, what keeps it longer, and what is left of it afterwards.
//!
//! Nothing here touches what stays for ever: ids, times, states, hashes and the history.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::envelope::{Document, Envelope};
use super::field::{Field, Rules};
use super::limits::{DRAFT_DAYS_DEFAULT, PURGE_WARNING_DAYS_DEFAULT, RETENTION_DAYS_DEFAULT};
use super::locality::Locality;
use super::personal::Personal;
use super::recipient::{Recipient, RecipientState};
use super::status::Status;

/// How long an account's envelopes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Days from the end to the purge, where a sender says nothing.
    pub days: u32,
    /// Days from the warning to the purge.
    pub warning_days: u16,
    /// Days from the last change of a draft until it is discarded.
    pub draft_days: u16,
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: RETENTION_DAYS_DEFAULT, warning_days: PURGE_WARNING_DAYS_DEFAULT, draft_days: DRAFT_DAYS_DEFAULT }
    }
}

/// How an envelope is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// For how long: as the sender and the account said when it was made, or as it was changed since.
    pub retention: Retention,
    /// When the present time of the purge was announced.
    pub warned_at: Option<DateTime<Utc>>,
    /// Since when a legal hold keeps it.
    pub held_at: Option<DateTime<Utc>>,
    /// When its content was purged.
    pub purged_at: Option<DateTime<Utc>>,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Discard a draft that nobody has touched for long.
    Discard,
    /// Announce the purge.
    Warn,
    /// Purge.
    Purge,
}

impl Keeping {
    /// Of a new envelope.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self { retention, warned_at: None, held_at: None, purged_at: None }
    }

    /// Whether the content is gone.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        self.purged_at.is_some()
    }
}

impl Envelope {
    /// When it ended.
    #[must_use]
    pub fn ended_at(&self) -> Option<DateTime<Utc>> {
        let facts = &self.facts;
        facts.completed_at.or(facts.declined_at).or(facts.voided_at).or(facts.expired_at)
    }

    /// When its content is to be purged, whatever keeps it longer. None before the end, and none afterwards.
    #[must_use]
    pub fn purge_at(&self) -> Option<DateTime<Utc>> {
        self.purge_at_after(self.keeping.retention.days)
    }

    /// The same if it were kept for so many days.
    #[must_use]
    pub fn purge_at_after(&self, days: u32) -> Option<DateTime<Utc>> {
        let ended_at = self.ended_at().filter(|_| !self.keeping.is_purged())?;
        ended_at.checked_add_signed(TimeDelta::days(days.into()))
    }

    /// What is to be done next to keep it no longer than it should be, and when. Nothing while a hold keeps it, nor while the
    /// evidence of a refusal is still being made.
    #[must_use]
    pub fn next_step(&self) -> Option<(DateTime<Utc>, Step)> {
        let Keeping { retention, warned_at, held_at, .. } = &self.keeping;
        if held_at.is_some() || self.is_making_evidence() {
            return None;
        }
        if self.is_draft() {
            let at = self.last_event_at.checked_add_signed(TimeDelta::days(retention.draft_days.into()))?;
            return Some((at, Step::Discard));
        }
        let purge_at = self.purge_at()?;
        match warned_at {
            Some(_) => Some((purge_at, Step::Purge)),
            None => Some((purge_at - TimeDelta::days(retention.warning_days.into()), Step::Warn)),
        }
    }

    /// Whether the documents of a refusal are still to come.
    fn is_making_evidence(&self) -> bool {
        self.status() == Status::Declined && self.documents.iter().all(|document| document.artifacts.is_empty())
    }

    /// Takes out what is personal or said by anybody. The database does the same by `store/keep.rs`.
    pub fn forget_content(&mut self) {
        let terms = &mut self.terms;
        (terms.subject, terms.message, terms.external_reference, terms.webhook_url) = Default::default();
        terms.metadata = BTreeMap::new();
        terms.watchers.iter_mut().for_each(|watcher| watcher.email = Personal::new(""));
        self.void_reason = None;
        self.recipients.iter_mut().for_each(forget_recipient);
        self.documents.iter_mut().for_each(forget_document);
        self.fields.iter_mut().for_each(forget_field);
    }
}

fn forget_document(document: &mut Document) {
    document.name.clear();
    // An address may hold secrets, a fault quotes markers.
    (document.awaits, document.fault) = (None, None);
}

fn forget_recipient(recipient: &mut Recipient) {
    recipient.person.name = Personal::new("");
    recipient.person.email = Personal::new("");
    recipient.person.locality = Locality::default();
    recipient.label.clear();
    if let RecipientState::Declined { reason, note, .. } = &mut recipient.state {
        (*reason, *note) = (None, None);
    }
}

fn forget_field(field: &mut Field) {
    field.name.clear();
    field.rules = Rules::default();
    (field.preset, field.value) = (None, None);
}
