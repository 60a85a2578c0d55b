//! Damaged papers, read by the confined child as the service has them read: each gives a document or is refused by
//! name, in time and within the child's memory, and none makes a reader panic. What is let in is sealed at its end.
//!
//! `COUNTERSIGN_MUTANTS=10000 cargo test --test it -- mutants --nocapture` makes so many, from the seed that
//! `COUNTERSIGN_SEED` names.

#[path = "mutants/damage.rs"]
mod damage;
#[path = "mutants/press.rs"]
pub mod press;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_envelope::worker::{WorkerError, Workers};
use countersign_paper::worker::{ARGUMENT, MEMORY_BYTES_MAX};
use countersign_paper::{Limits, Policy, Roots, Unreadable};
use countersign_test_support::binary;
use countersign_test_support::memory::Watch;
use futures_util::StreamExt as _;

use self::damage::{Dice, pdf_mutant, pdf_seeds};
use self::press::Press;
use crate::ending::Ending;
use crate::pki::Pki;
use crate::worker::resident_bytes;

const SHORT: u64 = 120;
/// Longer than a child may live, by its own limit.
const ONE_MAX: Duration = Duration::from_secs(60);
/// What a child may have of the memory to which it is held: papers as small as these need no more, however damaged.
const CHILD_BYTES_MAX: u64 = MEMORY_BYTES_MAX / 2;
/// By how much this process may grow, whatever children read.
const GROWTH_BYTES_MAX: u64 = 300 << 20;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What became of them, by name.
#[derive(Default)]
struct Tally {
    ends: BTreeMap<String, u64>,
    slowest: (Duration, u64),
    faults: Vec<String>,
}

impl Tally {
    fn add(&mut self, number: u64, took: Duration, end: Result<String, String>) {
        self.slowest = self.slowest.max((took, number));
        let end = end.unwrap_or_else(|fault| {
            self.faults.push(format!("mutant {number}: {fault}"));
            "FAULT".to_owned()
        });
        *self.ends.entry(end).or_default() += 1;
    }
}

/// What a child said; a fault if it did not say anything, or was caught panicking.
fn said<T>(task: &str, answer: Result<T, WorkerError>) -> Result<Result<T, String>, String> {
    match answer {
        Ok(found) => Ok(Ok(found)),
        Err(WorkerError::Refused(Unreadable::Broken { detail })) if detail == PANICKED => Err(format!("{task}: panic")),
        Err(WorkerError::Refused(why)) => Ok(Err(format!("{task}: {}", why.name()))),
        Err(WorkerError::Unavailable(why)) => Err(format!("{task}: {why:#}")),
    }
}

/// What the child says of a paper on which its reader panicked.
const PANICKED: &str = "it cannot be read";

/// The way of a paper from its upload to its end: read, searched for markers, drawn and looked through for signatures by
/// children, and sealed in this process.
async fn goes(workers: &Workers, press: &Press, number: u64, bytes: Bytes) -> Result<String, String> {
    let limits = Limits::default();
    let found = match said("ingest", workers.ingest(bytes.clone(), limits, Policy::default()).await)? {
        Ok(found) => found,
        Err(refused) => return Ok(refused),
    };
    let base: Bytes = found.base.map_or(bytes, Bytes::from);
    let marked = said("markers", workers.markers(base.clone(), limits).await)?;
    let drawn = said("render", workers.render_page(async { Ok(base.clone()) }, (1, 200), limits).await)?;
    let verified = workers.verify(async { Ok(base.clone()) }, (Roots::default(), 0), limits).await;
    let verified = said("verify", verified)?;
    // Whatever else was said of it: it was let in, and somebody signs or refuses it.
    let left = press.press(base, found.pages.len(), Ending::of(number)).await?;
    let of_it = (press.roots(), Pki::clock_unix_s());
    let sealed = said("verify the seal", workers.verify(async { Ok(left) }, of_it, Limits::CEILING).await)?;
    press.judge(&sealed?)?;
    let first = [marked.err(), drawn.err(), verified.err()].into_iter().flatten().next();
    Ok(first.unwrap_or_else(|| if found.notes.is_empty() { "kept".to_owned() } else { "mended".to_owned() }))
}

/// Bytes and objects of real papers, damaged: none of what is let in hurts what follows, and all of it can be sealed.
#[tokio::test(flavor = "multi_thread")]
async fn s1_35_mutants_of_real_papers_are_read_or_refused_by_name() {
    let workers = Workers::new(Some(binary::path("countersign-envelope").await), None).unwrap();
    let (seeds, press) = (Arc::new(pdf_seeds()), Press::open().await);
    let (first, count) = (setting("COUNTERSIGN_SEED", 1), setting("COUNTERSIGN_MUTANTS", SHORT));
    let (before, children) = (resident_bytes(), Watch::children(ARGUMENT));
    let read = futures_util::stream::iter(first..first + count).map(|number| {
        let (seeds, workers, press) = (Arc::clone(&seeds), workers.clone(), press.clone());
        async move {
            let mutant = move || pdf_mutant(&seeds, &mut Dice::new(number));
            let mutant = tokio::task::spawn_blocking(mutant).await.unwrap();
            let begun = Instant::now();
            let end = goes(&workers, &press, number, mutant.into()).await;
            (number, begun.elapsed(), end)
        }
    });
    let mut read = read.buffer_unordered(workers.at_once() + 1);
    let mut tally = Tally::default();
    while let Some((number, took, end)) = read.next().await {
        tally.add(number, took, end);
        if number % 1_000 == 0 {
            eprintln!("mutant {number}: {:?}, slowest {:?}", tally.ends, tally.slowest);
        }
    }
    let (grown, most) = (resident_bytes().saturating_sub(before), children.most_bytes());
    eprintln!("{count} papers: {:#?}; slowest {:?}", tally.ends, tally.slowest);
    eprintln!("a child took {} MiB at most, this process grew by {} MiB", most >> 20, grown >> 20);
    assert!(tally.faults.is_empty(), "{}", tally.faults.join("\n"));
    assert!(tally.slowest.0 < ONE_MAX, "mutant {} took {:?}", tally.slowest.1, tally.slowest.0);
    assert!((1..CHILD_BYTES_MAX).contains(&most), "a child took {most} bytes");
    assert!(grown < GROWTH_BYTES_MAX, "this process grew by {grown} bytes");
    let of = |end: &str| tally.ends.get(end).copied().unwrap_or_default();
    let refused = count - of("kept") - of("mended");
    assert!(
        of("kept") > 0 && of("mended") > 0 && refused > 0,
        "the damage is too weak or too strong: {:?}",
        tally.ends
    );
}
