//! The rules of the house that no lint knows.

use std::path::{Path, PathBuf};

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 500;
/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let skipped = ["target", ".git", "node_modules"];
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            if !skipped.iter().any(|skipped| name == *skipped) {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// All our Rust files with their path from the root and their text.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    walk(root(), &mut files);
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    })
    .collect()
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() {
    for (name, text) in sources() {
        assert!(text.starts_with("//!"), "{name} does not open with what it is for");
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{name} has {lines} lines");
    }
}

#[test]
fn every_function_stays_short() {
    for (name, text) in sources() {
        let mut start: Option<(usize, usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let code = line.trim_start();
            let head = code.strip_prefix("pub ").or_else(|| code.strip_prefix("pub(super) ")).unwrap_or(code);
            let head = head.strip_prefix("pub(crate) ").unwrap_or(head);
            let head = head.strip_prefix("async ").unwrap_or(head);
            if start.is_none() && head.starts_with("fn ") && !line.trim_end().ends_with(';') {
                start = Some((number, indent, head.to_owned()));
            } else if let Some((first, at, function)) = &start
                && indent == *at
                && code == "}"
            {
                let lines = number - first + 1;
                assert!(lines <= FUNCTION_LINES_MAX, "{name}:{} {function} has {lines} lines", first + 1);
                start = None;
            }
        }
    }
}

/// Each room speaks its own language.
#[test]
fn rooms_do_not_see_each_others_vocabulary() {
    let forbidden: [(&str, &[&str]); 6] = [
        (
            "services/envelope/src/domain/",
            &[
                "tonic",
                "prost",
                "diesel",
                "tokio",
                "countersign_chassis",
                "countersign::",
                "async ",
                "std::fs",
                "Utc::now",
            ],
        ),
        ("services/envelope/src/store/", &["tonic", "prost", "countersign::v1"]),
        ("services/envelope/src/rpc/", &["diesel", "sql_query", "tokio_postgres"]),
        ("services/notifier/", &["countersign_envelope"]),
        ("services/paper/src/", &["tonic", "diesel", "tokio", "countersign_", "std::net"]),
        ("services/chassis/src/", &["countersign_envelope", "countersign_notifier", "countersign_paper"]),
    ];
    for (name, text) in sources() {
        for (room, words) in forbidden.iter().filter(|(room, _)| name.starts_with(room)) {
            for word in *words {
                let used = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
                assert!(!used, "{name}: `{word}` has no business in {room}");
            }
        }
    }
}

#[test]
fn names_say_what_things_are() {
    for (name, _) in sources() {
        for vague in ["util", "utils", "common", "helper", "helpers", "manager", "misc"] {
            let vague_file = name.split(['/', '.']).any(|part| part == vague);
            assert!(!vague_file, "{name}: a name that says nothing");
        }
    }
}

/// Every statement that a test bears in its name stands in the coverage.
#[test]
fn coverage_names_every_numbered_test() {
    let coverage = std::fs::read_to_string(root().join("docs/coverage.md")).unwrap();
    for (name, text) in sources() {
        for line in text.lines() {
            let code = line.trim_start();
            let head = code.strip_prefix("async ").unwrap_or(code);
            let Some(function) = head.strip_prefix("fn ").and_then(|rest| rest.split('(').next()) else { continue };
            let numbered = ["s1_", "s2_", "s3_", "s4_"].iter().any(|prefix| function.starts_with(prefix))
                || function.split('_').next().is_some_and(|first| {
                    matches!(first.split_at_checked(1), Some(("t" | "d", number)) if number.parse::<u8>().is_ok())
                });
            assert!(!numbered || coverage.contains(function), "{name}: {function} is not in docs/coverage.md");
        }
    }
}
