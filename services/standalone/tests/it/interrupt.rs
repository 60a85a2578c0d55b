//! Ctrl-C in the middle: everything stops in order, soon, and nothing is left.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::program::{Program, entries, open_folder, processes, wait_for};

/// How long the program may take to end after Ctrl-C.
const END_MAX: Duration = Duration::from_secs(20);

/// Starts the demo, waits for a moment, sends the signal and looks at what is left.
fn interrupted(signal: Signal, moment: impl FnOnce(&Program, &Path)) {
    let temporary = open_folder();
    let folder = open_folder();
    let program = Program::start(temporary.path(), &["demo", "--folder", folder.path().to_str().unwrap()]);
    moment(&program, temporary.path());
    program.signal(signal);
    let (status, took) = program.end();
    assert_eq!(processes(temporary.path()), [], "left behind");
    assert_eq!(status.code(), Some(130), "{status}");
    assert!(took < END_MAX, "{took:?}");
    assert_eq!(entries(temporary.path()), Vec::<std::path::PathBuf>::new(), "left behind");
}

/// Something of this name exists in the folder of the program's Postgres.
fn postgres_has(temporary: &Path, what: &str) -> bool {
    entries(temporary).iter().any(|entry| entry.join(what).exists())
}

#[test]
fn while_postgres_makes_its_data() {
    interrupted(Signal::INT, |_, temporary| wait_for("initdb", || postgres_has(temporary, "pgdata.new/global")));
}

#[test]
fn while_postgres_starts() {
    interrupted(Signal::INT, |_, temporary| wait_for("Postgres", || postgres_has(temporary, "pgdata/postmaster.pid")));
}

#[test]
fn when_everything_has_just_started() {
    interrupted(Signal::INT, |program, _| drop(program.line_with("run (")));
}

#[test]
fn in_the_first_story() {
    interrupted(Signal::TERM, |program, _| drop(program.line_with("sent with its bytes")));
}

#[test]
fn in_the_second_story() {
    interrupted(Signal::INT, |program, _| drop(program.line_with("Margaret Oyelaran signed")));
}

#[test]
fn in_the_last_story() {
    interrupted(Signal::INT, |program, _| drop(program.line_with("scanned-consent.pdf sent")));
}
