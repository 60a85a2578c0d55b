//! Does what time asks for: sends what was scheduled, reminds, warns of deadlines, ends envelopes whose deadline has passed. It
//! only executes: the time itself decides, at the lock. Any number of replicas may do it at once.

use std::sync::Mutex;

use chrono::{DateTime, Utc};
use countersign_chassis::ticker::Progress;

use crate::domain::command::{By, Command};
use crate::domain::decide::Verdict;
use crate::domain::envelope::Envelope;
use crate::execute::{Ask, Executor};
use crate::measure;
use crate::store::{BEGINNING, Due, Duty, Lows, Scope};

/// Envelopes of one tick, for each duty …
const BATCH_MAX: i64 = 100;
/// … drawn from so many whose time came first.
const WINDOW: i64 = 2_000;
/// Of so many looks one begins at the beginning of time: something may have come late to where nothing was left.
const WHOLE_LOOKS: u32 = 20;

/// Looks for what is due, and executes it.
pub struct Sweeper {
    executor: Executor,
    seen: Mutex<Seen>,
}

/// Up to where everything has been done.
struct Seen {
    looks: u32,
    at: DateTime<Utc>,
    lows: Lows,
}

impl Seen {
    /// From where to look now.
    fn lows(&mut self, now: DateTime<Utc>) -> Lows {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(WHOLE_LOOKS) || now < self.at {
            self.lows = BEGINNING;
        }
        self.at = now;
        self.lows
    }

    fn looked(&mut self, now: DateTime<Utc>, due: &[Due]) {
        for (duty, low) in Duty::ALL.into_iter().zip(&mut self.lows) {
            *low = due.iter().find(|due| due.duty == duty).map_or(now, |due| due.first);
        }
    }
}

impl Sweeper {
    /// Over the envelopes of that executor.
    #[must_use]
    pub fn new(executor: Executor) -> Self {
        let seen = Seen { looks: 0, at: DateTime::UNIX_EPOCH, lows: BEGINNING };
        Self { executor, seen: Mutex::new(seen) }
    }

    /// Does what is due.
    pub async fn tick(&self) -> anyhow::Result<Progress> {
        let store = self.executor.store();
        let now = store.clock().now();
        let lows = self.with_seen(|seen| seen.lows(now));
        let due = store.due(now, lows, BATCH_MAX, WINDOW).await?;
        self.with_seen(|seen| seen.looked(now, &due));
        measure::due(now, &due);
        let mut done = 0;
        for due in &due {
            match self.execute(due).await {
                Ok(()) => done += 1,
                // One for which it cannot be done must not keep the others waiting.
                Err(error) => {
                    let (envelope, duty) = (due.envelope.to_string(), due.duty);
                    tracing::error!(envelope, duty = ?duty, error = error.to_string(), "not done");
                }
            }
        }
        anyhow::ensure!(done > 0 || due.is_empty(), "nothing could be done for {} envelopes", due.len());
        Ok(if due.len() < usize::try_from(BATCH_MAX)? { Progress::Idle } else { Progress::Busy })
    }

    async fn execute(&self, due: &Due) -> anyhow::Result<()> {
        let command = match due.duty {
            Duty::Expire => Command::Expire,
            Duty::Release => Command::Release,
            Duty::Warn => Command::Warn,
            Duty::Remind => Command::Prompt,
        };
        let (scope, id, by) = (Scope::any_mode(due.account), due.envelope, By::system());
        let ask = Ask { scope, id, by, command, expected: None, billing: None };
        let outcome = self.executor.execute(ask, |_| true).await?;
        match outcome {
            // It is not the time, though it was looked for: it need not be looked for until then.
            Some(outcome) if due.duty == Duty::Remind && outcome.answer == Verdict::AlreadyDone => {
                self.postpone(&outcome.envelope, due.at).await
            }
            _ => Ok(()),
        }
    }

    async fn postpone(&self, envelope: &Envelope, looked_for: DateTime<Utc>) -> anyhow::Result<()> {
        let store = self.executor.store();
        let now = store.clock().now();
        let next = envelope.recipients.iter().filter_map(|own| envelope.reminder_from(own, now)).min();
        // None at all any more, perhaps by another release's calendar: nobody need look.
        if next.is_none_or(|next| next > looked_for) {
            store.postpone(envelope, next).await?;
        }
        Ok(())
    }

    fn with_seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
