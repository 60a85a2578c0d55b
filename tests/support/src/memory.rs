//! How much memory this process, and those that it starts, had at most, as Linux counts it.
//!
//! Must never count a child before it is the program that it becomes: until then its memory is this process's.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at children. Each look finds the most that one had until then, so what is missed is what it took
/// between the last look and its end.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks at the children of this process, and at theirs, until it is asked for what it saw.
pub struct Watch {
    most: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    looking: JoinHandle<()>,
}

impl Watch {
    /// Of those whose command line has that word in it.
    #[must_use]
    pub fn children(word: &'static str) -> Self {
        let (most, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let looking = std::thread::spawn({
            let (most, is_over) = (Arc::clone(&most), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    most.fetch_max(most_below(Path::new("/proc/self"), word), Ordering::Relaxed);
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Self { most, is_over, looking }
    }

    /// The most memory that any one of them had, in bytes; 0 if none was seen.
    #[must_use]
    pub fn most_bytes(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.looking.join().unwrap();
        self.most.load(Ordering::Relaxed)
    }
}

/// The most memory that this process has had since [`forget_most()`].
#[must_use]
pub fn most_bytes() -> u64 {
    most_of(Path::new("/proc/self"))
}

/// From now on the most memory of this process is counted anew.
pub fn forget_most() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// The most that any process had that was started by this one or below it.
fn most_below(process: &Path, word: &str) -> u64 {
    let tasks = std::fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let started = tasks.flat_map(|task| {
        let ids = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        ids.split_whitespace().map(|id| Path::new("/proc").join(id)).collect::<Vec<_>>()
    });
    let most = started.map(|child| {
        let called = std::fs::read(child.join("cmdline")).unwrap_or_default();
        let is_meant = String::from_utf8_lossy(&called).contains(word);
        let own = if is_meant { most_of(&child) } else { 0 };
        own.max(most_below(&child, word))
    });
    most.max().unwrap_or_default()
}

/// 0 once it has ended.
fn most_of(process: &Path) -> u64 {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() << 10
}
