//! Processes that die at each place on the way of a change: started again, and asked again with the same key, they leave one
//! effect, and all that must hold holds.
//!
//! The places are the `failpoint!`s of the sources; one that no test reaches fails `every_place_is_reached`.

mod calls;
mod loops;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_test_support::binary::{self, Process};
use countersign_test_support::{Database, check};
use tempfile::TempDir;

/// How long a process may take to die of what it was armed with.
const DEATH_MAX: Duration = Duration::from_secs(20);

/// Where a process is told at which place to die.
struct Arms(TempDir);

impl Arms {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> String {
        self.0.path().join("armed").to_str().unwrap().to_owned()
    }

    fn set(&self, place: &str) {
        std::fs::write(self.file(), place).unwrap();
    }

    fn are_set(&self) -> bool {
        std::fs::read_to_string(self.file()).is_ok_and(|told| !told.is_empty())
    }
}

/// Waits until a process has aborted.
async fn died(process: &mut Process) {
    use std::os::unix::process::ExitStatusExt as _;
    let ended = tokio::time::timeout(DEATH_MAX, process.child.wait()).await.expect("it dies of it").unwrap();
    assert_eq!(ended.signal(), Some(6), "it aborted");
}

/// Asserts that nothing is found in either database.
async fn assert_sound(envelopes: &Database, notices: &Database, after: &str) {
    assert_eq!(check::envelope(envelopes).await, Vec::new(), "after {after}");
    assert_eq!(check::notifier(notices).await, Vec::new(), "after {after}");
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The places that the sources name, and how often.
fn places() -> Vec<String> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("services"), &mut files);
    let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    let named = |text: String| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let parts =
            lines.flat_map(|line| line.split("failpoint!(\"").skip(1)).map(|rest| rest.split('"').next().unwrap());
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    files.iter().map(text).flat_map(named).collect()
}

/// A place that nothing tries proves nothing: each is in one of the two lists, and those who try them see that each is reached.
#[test]
fn every_place_is_reached() {
    let places = places();
    let all: BTreeSet<&str> = places.iter().map(String::as_str).collect();
    assert_eq!(all.len(), places.len(), "a place has one name and one name is one place");
    let tried: BTreeSet<&str> = calls::PLACES.iter().chain(loops::PLACES).copied().collect();
    assert_eq!(all, tried);
}

/// Of optimised programs nothing can be made to die: neither the variable nor a place is in them.
#[tokio::test]
async fn optimised_programs_have_no_such_places() {
    let holds = |program: &Path, text: &str| {
        let bytes = std::fs::read(program).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let built = binary::path("countersign-envelope").await;
    for text in ["COUNTERSIGN_FAILPOINTS", "COUNTERSIGN_CLOCK", "change.locked"] {
        assert_eq!(holds(&built, text), cfg!(debug_assertions), "{text}");
    }
    let optimised = built.parent().unwrap().parent().unwrap().join("release");
    for program in ["countersign-envelope", "countersign-notifier"].map(|name| optimised.join(name)) {
        if program.exists() {
            let are_in = ["COUNTERSIGN_FAILPOINTS", "COUNTERSIGN_CLOCK"].iter().any(|text| holds(&program, text));
            assert!(!are_in, "{}", program.display());
        } else {
            eprintln!("skipped: {} is not built; `cargo build --release` and try again", program.display());
        }
    }
}
