//! When people are reminded: pure, and never twice for one occasion. A reminder is due by what has been issued, not by what
//! a clock says has passed: whoever issues one changes what the next is counted from, so a clock that jumps, or a service
//! that was away for weeks, brings one reminder and not several.

use chrono::{DateTime, DurationRound as _, NaiveTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;
use sha2::{Digest as _, Sha256};

use super::id::RecipientId;
use super::limits::{REMINDER_DAYS_DEFAULT, REMINDERS_DEFAULT};

/// A reminder comes later than it could by at most one in so many parts of the interval …
const JITTER_SHARE: i32 = 10;
/// … and at most so many minutes, so that not all go out at once.
const JITTER_MINUTES_MAX: i64 = 15;
/// Clocks are set at quarters of an hour: between two of them the time of day only goes on.
const STEP_MINUTES: i64 = 15;
/// Steps within which quiet hours end: three days of them.
const STEPS_MAX: u32 = 3 * 24 * 4 * 2;

/// When those whose turn it is are reminded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReminderPolicy {
    /// Whether anybody is.
    pub enabled: bool,
    /// From release to the first.
    pub first_after: TimeDelta,
    /// From one to the next.
    pub every: TimeDelta,
    /// How many a recipient gets at most.
    pub at_most: u16,
    /// When nobody is reminded.
    pub quiet: Option<QuietHours>,
}

impl Default for ReminderPolicy {
    fn default() -> Self {
        let days = TimeDelta::days(REMINDER_DAYS_DEFAULT);
        Self { enabled: true, first_after: days, every: days, at_most: REMINDERS_DEFAULT, quiet: None }
    }
}

/// A part of the day, by the clock where the recipient is: from the first quiet minute to the first that is not any more,
/// over midnight if that is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietHours {
    /// The first quiet minute of the day.
    pub from_minute: u16,
    /// The first that is not quiet any more.
    pub until_minute: u16,
}

impl QuietHours {
    /// Whether it is quiet then, in that zone.
    #[must_use]
    pub fn hold(&self, at: DateTime<Utc>, zone: Tz) -> bool {
        let (from, until) = (u32::from(self.from_minute), u32::from(self.until_minute));
        let minute = at.with_timezone(&zone).time().num_seconds_from_midnight() / 60;
        if from < until { (from..until).contains(&minute) } else { minute >= from || minute < until }
    }

    /// The first instant from then on at which it is not quiet: by the clock there, whichever way it is set meanwhile.
    #[must_use]
    pub fn end(&self, at: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
        let until = NaiveTime::from_num_seconds_from_midnight_opt(u32::from(self.until_minute) * 60, 0);
        let mut at = at;
        for _ in 0..STEPS_MAX {
            if !self.hold(at, zone) {
                break;
            }
            let left = until.unwrap_or_default() - at.with_timezone(&zone).time();
            let left = if left <= TimeDelta::zero() { left + TimeDelta::days(1) } else { left };
            let quarter = at.duration_trunc(TimeDelta::minutes(STEP_MINUTES)).unwrap_or(at);
            at = (at + left).min(quarter + TimeDelta::minutes(STEP_MINUTES));
        }
        at
    }
}

/// What a recipient has been told besides their invitation, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Reminders since it became their turn, by hand too; an invitation that went out again counts as one.
    pub reminders: u16,
    /// The last of them.
    pub last_reminder_at: Option<DateTime<Utc>>,
    /// Since when they want none.
    pub muted_at: Option<DateTime<Utc>>,
    /// When a mail to their address came back.
    pub bounced_at: Option<DateTime<Utc>>,
}

/// When the next reminder of somebody is due whose turn has come then; none if they get no more.
#[must_use]
pub fn due(
    policy: &ReminderPolicy,
    whose: RecipientId,
    released_at: DateTime<Utc>,
    notices: &Notices,
    zone: Tz,
) -> Option<DateTime<Utc>> {
    if !policy.enabled || notices.reminders >= policy.at_most {
        return None;
    }
    // A reminder by hand puts the next one off, but never before the first that the policy has.
    let first = released_at.checked_add_signed(policy.first_after)?;
    let next = notices.last_reminder_at.map(|last| last + policy.every);
    let interval = if next.is_some() { policy.every } else { policy.first_after };
    let late = jitter(whose, notices.reminders, interval);
    let at = first.max(next.unwrap_or(first)) + late;
    Some(policy.quiet.filter(|quiet| quiet.hold(at, zone)).map_or(at, |quiet| {
        // All who wait for the same hour are not told in the same second either.
        let end = quiet.end(at, zone);
        if quiet.hold(end + late, zone) { end } else { end + late }
    }))
}

/// The same for the same reminder, whoever asks and how often.
fn jitter(whose: RecipientId, number: u16, interval: TimeDelta) -> TimeDelta {
    let most = (interval / JITTER_SHARE).min(TimeDelta::minutes(JITTER_MINUTES_MAX)).num_milliseconds();
    let hash = Sha256::new().chain_update(whose.uuid()).chain_update(number.to_be_bytes()).finalize();
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
    let drawn = i64::from(u32::from_be_bytes([a, b, c, d])) * most / i64::from(u32::MAX);
    TimeDelta::milliseconds(drawn)
}
