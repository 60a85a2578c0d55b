//! The program under test as a process, and what it leaves behind.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Names another copy of the program than the one that cargo built.
pub const PATH: &str = "TEST_STANDALONE";
/// On a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

pub fn path() -> PathBuf {
    std::env::var_os(PATH).map_or_else(|| env!("CARGO_BIN_EXE_countersign-standalone").into(), PathBuf::from)
}

/// A folder into which every user can go.
pub fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    folder
}

/// A command whose temporary folders are in `temporary`.
pub fn command(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(path());
    command.args(arguments).env("TMPDIR", temporary).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The processes that name the folder in their command line or work inside it.
pub fn processes(folder: &Path) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let inside = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if inside || command.contains(folder.to_str().unwrap()) {
            found.push((pid, command));
        }
    }
    found
}

/// What is left in a folder.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program while it runs. Killed when dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    pub fn start(temporary: &Path, arguments: &[&str]) -> Self {
        let mut child = command(temporary, arguments).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = read(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line in which `part` stands.
    pub fn line_with(&self, part: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("the program never says “{part}”"));
            if line.contains(part) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, and how long that took.
    pub fn end(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        wait_for("the program to end", || self.child.try_wait().unwrap().is_some());
        (self.child.wait().unwrap(), began.elapsed())
    }
}

fn read(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens any more: read on, so that the program can write.
            let _ = sender.send(line);
        }
    });
    lines
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
