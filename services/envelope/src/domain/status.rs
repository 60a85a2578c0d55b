//! The status of an envelope, derived from facts by one function. The database derives it by the same rule.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// When what happened. Absent means that it has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Created.
    pub created_at: DateTime<Utc>,
    /// Dispatched: frozen and charged.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// First recipients released.
    pub sent_at: Option<DateTime<Utc>>,
    /// First signature.
    pub first_signed_at: Option<DateTime<Utc>>,
    /// Last required act.
    pub all_acted_at: Option<DateTime<Utc>>,
    /// Completed.
    pub completed_at: Option<DateTime<Utc>>,
    /// Declined.
    pub declined_at: Option<DateTime<Utc>>,
    /// Voided.
    pub voided_at: Option<DateTime<Utc>>,
    /// Expired.
    pub expired_at: Option<DateTime<Utc>>,
    /// Thrown away as a draft: nobody sees it any more.
    pub discarded_at: Option<DateTime<Utc>>,
}

/// Where an envelope stands. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Nothing dispatched.
    Draft = 1,
    /// Dispatched, nobody released.
    Pending = 2,
    /// First recipients released.
    Sent = 3,
    /// At least one signed.
    PartiallySigned = 4,
    /// Terminal: all signed and the signed documents stored.
    Completed = 5,
    /// Terminal: a recipient refused.
    Declined = 6,
    /// Terminal: the sender took it back.
    Voided = 7,
    /// Terminal: the deadline passed.
    Expired = 8,
}

impl Status {
    /// All, in order.
    pub const ALL: [Self; 8] = [
        Self::Draft,
        Self::Pending,
        Self::Sent,
        Self::PartiallySigned,
        Self::Completed,
        Self::Declined,
        Self::Voided,
        Self::Expired,
    ];

    /// True where nothing changes the status any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Draft | Self::Pending | Self::Sent | Self::PartiallySigned => false,
            Self::Completed | Self::Declined | Self::Voided | Self::Expired => true,
        }
    }

    /// The name in errors and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::Pending => "PENDING",
            Self::Sent => "SENT",
            Self::PartiallySigned => "PARTIALLY_SIGNED",
            Self::Completed => "COMPLETED",
            Self::Declined => "DECLINED",
            Self::Voided => "VOIDED",
            Self::Expired => "EXPIRED",
        }
    }
}

impl Facts {
    /// The facts of an envelope that has just been created.
    #[must_use]
    pub fn created(at: DateTime<Utc>) -> Self {
        Self {
            created_at: at,
            dispatched_at: None,
            sent_at: None,
            first_signed_at: None,
            all_acted_at: None,
            completed_at: None,
            declined_at: None,
            voided_at: None,
            expired_at: None,
            discarded_at: None,
        }
    }

    /// The status that follows from these facts.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.completed_at.is_some() {
            Status::Completed
        } else if self.declined_at.is_some() {
            Status::Declined
        } else if self.voided_at.is_some() {
            Status::Voided
        } else if self.expired_at.is_some() {
            Status::Expired
        } else if self.first_signed_at.is_some() {
            Status::PartiallySigned
        } else if self.sent_at.is_some() {
            Status::Sent
        } else if self.dispatched_at.is_some() {
            Status::Pending
        } else {
            Status::Draft
        }
    }

    /// True while people may act and the sender may void: dispatched, not ended, last act not done.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.dispatched_at.is_some() && self.all_acted_at.is_none() && !self.status().is_terminal()
    }
}
