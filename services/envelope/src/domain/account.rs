//! An account: whose envelopes they are, how they are made, what they cost and how many there may be of everything.

use chrono::{DateTime, Utc};

use super::credit::Billing;
use super::id::{AccountId, KeyId};
use super::keeping::Retention;
use super::limits::Limits;
use super::locality::Locality;
use super::personal::Personal;
use super::reminder::ReminderPolicy;
use super::terms::DeclinePolicy;

/// A tenant of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name, for people.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when its keys only read.
    pub suspended_at: Option<DateTime<Utc>>,
    /// Grows with every change.
    pub revision: u64,
    /// What it set, and what the operator set for it.
    pub settings: Settings,
}

/// How an account's envelopes are made. What of it matters to an envelope is frozen with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How a refusal is taken where a sender says nothing.
    pub decline: DeclinePolicy,
    /// Whether recipients who have acted are told when an envelope falls through.
    pub tell_acted: bool,
    /// What envelopes cost.
    pub billing: Billing,
    /// How many there may be of everything.
    pub limits: Limits,
    /// When recipients are reminded where a sender says nothing.
    pub reminders: ReminderPolicy,
    /// How mails look.
    pub brand: Brand,
    /// Language and time zone of people for whom none is given.
    pub locality: Locality,
    /// Whom to tell when something is wrong with the account's endpoints.
    pub contact: Option<Personal>,
    /// How long envelopes are kept.
    pub retention: Retention,
}

/// How mails look; what is empty is the service's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brand {
    /// In whose name they are sent.
    pub name: String,
    /// The colour of buttons and lines: `#rrggbb`.
    pub color: String,
    /// The address of a picture at the top.
    pub logo_url: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            decline: DeclinePolicy::default(),
            tell_acted: true,
            billing: Billing::default(),
            limits: Limits::default(),
            reminders: ReminderPolicy::default(),
            brand: Brand::default(),
            locality: Locality::default(),
            contact: None,
            retention: Retention::default(),
        }
    }
}

/// What a key may be used for. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Read envelopes.
    EnvelopesRead = 1,
    /// Make and change drafts.
    EnvelopesWrite = 2,
    /// Send envelopes and steer them.
    EnvelopesSend = 3,
    /// Watch the stream.
    EventsRead = 4,
    /// Have users act, and give them tokens.
    UsersWrite = 5,
    /// Read the account.
    AccountRead = 6,
    /// Change the account and its keys.
    AccountWrite = 7,
    /// Read endpoints.
    WebhooksRead = 8,
    /// Make and remove endpoints.
    WebhooksWrite = 9,
    /// Set and lift legal holds.
    EnvelopesHold = 10,
    /// Remove contents.
    EnvelopesErase = 11,
}

impl Permission {
    /// All, in order.
    pub const ALL: [Self; 11] = [
        Self::EnvelopesRead,
        Self::EnvelopesWrite,
        Self::EnvelopesSend,
        Self::EventsRead,
        Self::UsersWrite,
        Self::AccountRead,
        Self::AccountWrite,
        Self::WebhooksRead,
        Self::WebhooksWrite,
        Self::EnvelopesHold,
        Self::EnvelopesErase,
    ];

    /// The name in errors and in tokens of identity providers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EnvelopesRead => "envelopes.read",
            Self::EnvelopesWrite => "envelopes.write",
            Self::EnvelopesSend => "envelopes.send",
            Self::EventsRead => "events.read",
            Self::UsersWrite => "users.write",
            Self::AccountRead => "account.read",
            Self::AccountWrite => "account.write",
            Self::WebhooksRead => "webhooks.read",
            Self::WebhooksWrite => "webhooks.write",
            Self::EnvelopesHold => "envelopes.hold",
            Self::EnvelopesErase => "envelopes.erase",
        }
    }
}

/// Several permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u16);

impl Permissions {
    /// All there are.
    #[must_use]
    pub fn all() -> Self {
        Permission::ALL.into_iter().collect()
    }

    /// Whether this is among them.
    #[must_use]
    pub fn has(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u16) != 0
    }

    /// Whether all of these are among them.
    #[must_use]
    pub fn covers(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One after another, in order.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.has(*permission))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | 1 << permission as u16))
    }
}

/// An API key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// Its name, for people.
    pub name: String,
    /// Live or test.
    pub livemode: bool,
    /// What it may be used for.
    pub permissions: Permissions,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Its own deadline.
    pub expires_at: Option<DateTime<Utc>>,
    /// Until when it goes on beside the key in its place.
    pub overlap_until: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, roughly.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The key in its place.
    pub replaced_by: Option<KeyId>,
}

impl ApiKey {
    /// Whether it opens anything at that time.
    #[must_use]
    pub fn is_usable(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.ends_at().is_none_or(|end| now < end)
    }

    /// The first instant at which it cannot be used any more.
    #[must_use]
    pub fn ends_at(&self) -> Option<DateTime<Utc>> {
        [self.expires_at, self.overlap_until].into_iter().flatten().min()
    }
}
