//! Keeps nothing for longer than it should be: announces purges, purges what has been kept long enough, discards drafts that
//! nobody has touched for long, forgets uploads. It only executes: the rules decide, at the lock. Any number of replicas may do
//! it at once. Bytes are not its business: they go by `removal`, after the purge is committed.

use chrono::TimeDelta;
use countersign_chassis::ticker::Progress;

use crate::domain::command::{Actor, By, Command};
use crate::domain::decide::Verdict;
use crate::domain::id::{AccountId, EnvelopeId};
use crate::domain::personal::Personal;
use crate::domain::refusal::Why;
use crate::execute::{Ask, Executor};
use crate::store::Scope;

/// Envelopes of one tick …
const BATCH_MAX: i64 = 100;
/// … drawn from so many whose time came first.
const WINDOW: i64 = 2_000;
/// Discarded drafts, and uploads, of one tick.
const ROWS_MAX: i64 = 200;

/// How long a discarded draft keeps what it held: as long as replies that tell of it are kept for their idempotency keys.
const DISCARDED_HOURS: i64 = 48;

/// Does what is due.
pub async fn tick(executor: &Executor, upload_lifetime: TimeDelta) -> anyhow::Result<Progress> {
    let store = executor.store();
    let now = store.clock().now();
    let mut done = 0;
    for (account, envelope) in store.keeping_due(now, BATCH_MAX, WINDOW).await? {
        match step(executor, account, envelope).await {
            Ok(stepped) => done += usize::from(stepped),
            // One for which it cannot be done must not keep the others for ever.
            Err(error) => {
                let envelope = envelope.to_string();
                tracing::error!(envelope, error = format!("{error:#}"), "kept for too long");
            }
        }
    }
    done += store.purge_discarded(now - TimeDelta::hours(DISCARDED_HOURS), now, ROWS_MAX).await?;
    let forgotten = store.forget_uploads(now - upload_lifetime, now, ROWS_MAX).await?;
    Ok(if done > 0 || forgotten > 0 { Progress::Busy } else { Progress::Idle })
}

async fn step(executor: &Executor, account: AccountId, id: EnvelopeId) -> anyhow::Result<bool> {
    let (scope, by, command) = (Scope::any_mode(account), By::system(), Command::Keep);
    let ask = Ask { scope, id, by, command, expected: None, billing: None };
    let outcome = executor.execute(ask, |_| true).await?;
    Ok(outcome.is_some_and(|outcome| outcome.answer == Verdict::Done))
}

/// Purges what had been purged before the database was restored from an older backup; none: it is purged now, else why not.
pub async fn purge_again(
    executor: &Executor,
    account: AccountId,
    id: EnvelopeId,
) -> anyhow::Result<Option<&'static str>> {
    let reason = Some(Personal::new("Purged before the database was restored from a backup."));
    let by = By { actor: Actor::Operator, ..By::system() };
    let (scope, command) = (Scope::any_mode(account), Command::Erase { reason });
    let ask = Ask { scope, id, by, command, expected: None, billing: None };
    Ok(match executor.execute(ask, |_| true).await?.map(|outcome| outcome.answer) {
        // It was discarded, or made after the backup: nothing of it is there.
        None | Some(Verdict::Done | Verdict::AlreadyDone) => None,
        Some(Verdict::Refused(refusal)) if refusal.why == Why::Held => Some("a legal hold keeps it"),
        Some(Verdict::Refused(_)) => Some("it has not ended yet"),
    })
}
