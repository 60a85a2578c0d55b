//! A folder of real, odd papers, if there is one: each is kept, mended without looking different, or refused by name.
//!
//! `COUNTERSIGN_CORPUS=folder cargo test -p countersign-paper --test corpus -- --nocapture`

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use countersign_paper::{Limits, Policy, ingest, markers, render_page};
use odd::tools::Picture;

/// Grey pictures may differ where fields were redrawn, by so much of their pixels.
const DIFFERENCE_MAX: f64 = 0.01;

fn papers(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            papers(&path, found);
        } else if path.extension().is_some_and(|it| it == "pdf") {
            found.push(path);
        }
    }
}

/// Whether another program has nothing to complain of.
fn is_clean(pdf: &[u8]) -> bool {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pdf).unwrap();
    Command::new("qpdf").arg("--check").arg(file.path()).output().unwrap().status.code() == Some(0)
}

fn picture(pdf: &[u8]) -> Option<Picture> {
    let pdf = pdf.to_vec();
    std::panic::catch_unwind(move || Picture::at(&pdf, 36.0)).ok()
}

#[test]
fn real_papers_are_kept_mended_or_refused_by_name() {
    let Some(folder) = std::env::var_os("COUNTERSIGN_CORPUS") else { return };
    let mut found = Vec::new();
    papers(Path::new(&folder), &mut found);
    found.sort();
    let (mut counts, mut worse, mut slowest) = (BTreeMap::<String, usize>::new(), Vec::new(), Vec::new());
    for path in &found {
        let bytes = std::fs::read(path).unwrap();
        let begun = Instant::now();
        let ingested = ingest(&bytes, &Limits::default(), &Policy { overrule_restrictions: true, ..Policy::default() });
        slowest.push((begun.elapsed(), path.clone()));
        let name = match &ingested {
            Ok(ingested) if ingested.base.is_none() => "KEPT".to_owned(),
            Ok(ingested) => format!("{:?}", ingested.notes),
            Err(why) => why.name().to_owned(),
        };
        *counts.entry(name.clone()).or_default() += 1;
        let Ok(ingested) = ingested else { continue };
        let kept = ingested.base.as_deref().unwrap_or(&bytes);
        if let Err(why) = markers(kept, &Limits::default()) {
            worse.push(format!("{}: markers: {why}", path.display()));
        }
        if let Err(why) = render_page(kept, 1, 300, &Limits::default()) {
            worse.push(format!("{}: picture: {why}", path.display()));
        }
        if ingested.base.is_none() {
            continue;
        }
        if !is_clean(kept) && is_clean(&bytes) {
            worse.push(format!("{}: qpdf complains now: {name}", path.display()));
        }
        if let (Some(before), Some(after)) = (picture(&bytes), picture(kept)) {
            let same_size = (before.width, before.height) == (after.width, after.height);
            let difference = if same_size { before.difference(&after, 128) } else { 1.0 };
            if difference > DIFFERENCE_MAX {
                worse.push(format!("{}: looks different by {difference}: {name}", path.display()));
            }
        }
    }
    slowest.sort();
    eprintln!("{} papers: {counts:#?}\nslowest: {:?}", found.len(), slowest.iter().rev().take(3).collect::<Vec<_>>());
    eprintln!("{} worse:\n{}", worse.len(), worse.join("\n"));
    assert!(worse.len() * 50 <= found.len(), "more than one in fifty is worse than before");
}
