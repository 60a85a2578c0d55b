//! The real program as a person starts it: what it says, what it leaves, and how it ends.
//! Must never depend on a server that was running before, or on a port that is free.
#![cfg(target_os = "linux")] // looks for processes in /proc
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

mod demo;
mod interrupt;
mod program;
mod stack;
mod up;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// All tests of this program once more as nobody, if this is root.
#[test]
fn everything_works_as_an_ordinary_user_too() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let nobody = passwd.lines().find_map(|line| line.strip_prefix("nobody:")).expect("a user nobody");
    let ids: Vec<u32> = nobody.split(':').skip(1).take(2).map(|id| id.parse().unwrap()).collect();
    // The build folder may be closed to others.
    let folder = program::open_folder();
    let copy = |from: std::path::PathBuf, name: &str| {
        let to = folder.path().join(name);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, PermissionsExt::from_mode(0o755)).unwrap();
        to
    };
    let tests = copy(std::env::current_exe().unwrap(), "tests");
    let standalone = copy(program::path(), "countersign-standalone");
    let mut command = Command::new(tests);
    command.args(["--test-threads", "2"]).env(program::PATH, standalone);
    command.env("HOME", folder.path()).env("TMPDIR", folder.path());
    // Outside programs may lie where only root reaches them: skipping is right there.
    command.env_remove("CI").current_dir("/").uid(ids[0]).gid(ids[1]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("test result: ok"), "{said}");
}
