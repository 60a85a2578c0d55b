//! Places at which a test makes the process die, panic or stand still: `failpoint!("change.locked")`. Only builds with debug
//! assertions have them; to an optimised one the macro is nothing, and this file is not in it.
//!
//! The file that `COUNTERSIGN_FAILPOINTS` names is looked at each time that a place is reached, so a running process can be armed
//! and disarmed. It says `name[:nth][=abort|panic|sleep:milliseconds]`; what is reached first disarms it.
//!
//! `COUNTERSIGN_SABOTAGE` names guards, with commas between, that a test takes out of a process to see that somebody misses them.
//!
//! The file that `COUNTERSIGN_CLOCK` names says by how many seconds the machine's clock is wrong; it can jump at any time.
//!
//! Must never be anything that an operator can set.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;

static FILE: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| std::env::var_os("COUNTERSIGN_FAILPOINTS").map(PathBuf::from));
static CLOCK: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("COUNTERSIGN_CLOCK").map(PathBuf::from));
static OUT: LazyLock<Vec<String>> = LazyLock::new(|| {
    let named = std::env::var_os("COUNTERSIGN_SABOTAGE").unwrap_or_default();
    named.to_string_lossy().split(',').map(str::to_owned).collect()
});
/// How often each place was reached since it was armed.
static REACHED: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Mutex::default);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Abort,
    Panic,
    Sleep(Duration),
}

/// Does there what the file says.
pub async fn reach(name: &str) {
    let Some(action) = armed(name) else { return };
    #[expect(clippy::print_stderr, reason = "a test reads it, and nobody else is ever told")]
    {
        eprintln!("failpoint {name}: {action:?}");
    }
    match action {
        Action::Abort => std::process::abort(),
        #[expect(clippy::panic, reason = "it is to panic")]
        Action::Panic => panic!("failpoint {name}"),
        Action::Sleep(long) => tokio::time::sleep(long).await,
    }
}

/// Whether that guard is taken out.
#[must_use]
pub fn is_out(guard: &str) -> bool {
    OUT.iter().any(|out| out == guard)
}

/// By how much the machine's clock is wrong now.
pub(crate) fn clock_is_wrong_by() -> TimeDelta {
    let told = CLOCK.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
    let seconds = told.and_then(|told| told.trim().parse().ok()).unwrap_or(0);
    TimeDelta::try_seconds(seconds).unwrap_or_default()
}

/// What is to happen at that place now.
fn armed(name: &str) -> Option<Action> {
    let file = FILE.as_ref()?;
    let told = std::fs::read_to_string(file).ok()?;
    let (wanted, nth, action) = parse(told.trim())?;
    if wanted != name {
        return None;
    }
    let mut reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
    let times = reached.entry(told.clone()).or_default();
    *times += 1;
    if *times < nth {
        return None;
    }
    reached.remove(&told);
    // Before anything happens: whoever is started again with the file goes on.
    std::fs::write(file, "").ok()?;
    Some(action)
}

/// The place, the how-manieth time, and what is to happen.
fn parse(told: &str) -> Option<(&str, u32, Action)> {
    let (place, action) = told.split_once('=').unwrap_or((told, "abort"));
    let (name, nth) = place.split_once(':').unwrap_or((place, "1"));
    let action = match action.split_once(':') {
        None if action == "abort" => Action::Abort,
        None if action == "panic" => Action::Panic,
        Some(("sleep", milliseconds)) => Action::Sleep(Duration::from_millis(milliseconds.parse().ok()?)),
        _ => return None,
    };
    (!name.is_empty()).then_some((name, nth.parse().ok()?, action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(parse("change.locked"), Some(("change.locked", 1, Action::Abort)));
        assert_eq!(parse("change.locked:3=panic"), Some(("change.locked", 3, Action::Panic)));
        assert_eq!(parse("a.b=sleep:20"), Some(("a.b", 1, Action::Sleep(Duration::from_millis(20)))));
        for nothing in ["", "=abort", "a.b=", "a.b=explode", "a.b=sleep:", "a.b:x"] {
            assert_eq!(parse(nothing), None, "{nothing}");
        }
    }
}
