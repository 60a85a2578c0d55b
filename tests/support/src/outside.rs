//! Programs that are not ours. Where one is absent its test is skipped loudly, but with `CI=true` it fails.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The path of a program, or `None` after saying what to install.
#[must_use]
pub fn program(name: &str, install: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()));
    if found.is_none() {
        absent(name, install);
    }
    found
}

/// True if Python has a module; says what to install if it has not.
#[must_use]
pub fn python_module(module: &str, install: &str) -> bool {
    let found = Command::new("python3").args(["-c", &format!("import {module}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        absent(&format!("Python's {module}"), install);
    }
    found
}

/// Runs a command as root, if this process is root or may become it without being asked anything; whether that went well.
#[must_use]
pub fn as_root(command: &[&str]) -> bool {
    let runs = |words: &[&str]| {
        let ended = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        ended.is_ok_and(|status| status.success())
    };
    runs(command) || runs(&[&["sudo", "-n"], command].concat())
}

/// Says that something is absent; fails where it has to be there.
pub fn absent(what: &str, install: &str) {
    let message = format!("SKIPPED: {what} is absent; install it: {install}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    eprintln!("{message}");
}
