//! Does what time asks for: sends what was scheduled, warns of deadlines, ends envelopes whose deadline has passed. It only
//! executes: the time itself decides, at the lock.

use countersign_chassis::ticker::Progress;

use crate::domain::command::{By, Command};
use crate::execute::{Ask, Executor};
use crate::store::{Due, Duty, Scope};

/// Envelopes of one tick, for each duty.
const BATCH_MAX: i64 = 100;

/// Does what is due.
pub async fn tick(executor: &Executor) -> anyhow::Result<Progress> {
    let store = executor.store();
    let due = store.due(store.clock().now(), BATCH_MAX).await?;
    let mut done = 0;
    for Due { account, envelope, duty } in &due {
        let command = match duty {
            Duty::Expire => Command::Expire,
            Duty::Release => Command::Release,
            Duty::Warn => Command::Warn,
        };
        let ask = Ask {
            scope: Scope::any_mode(*account),
            id: *envelope,
            by: By::system(),
            command,
            expected: None,
            billing: None,
        };
        match executor.execute(ask, |_| true).await {
            Ok(_) => done += 1,
            // One for which it cannot be done must not keep the others waiting.
            Err(error) => {
                tracing::error!(envelope = envelope.to_string(), duty = ?duty, error = error.to_string(), "not done");
            }
        }
    }
    anyhow::ensure!(done > 0 || due.is_empty(), "nothing could be done for {} envelopes", due.len());
    Ok(if due.len() < usize::try_from(BATCH_MAX)? { Progress::Idle } else { Progress::Busy })
}
