//! Thousands of damaged papers: each is read or refused, none panics, none takes long; what is let in is sealed as well.

#![allow(clippy::unwrap_used)]

mod odd;

use std::time::{Duration, Instant};

use countersign_paper::{
    AlreadySigned, Limits, Mark, MarkContent, Policy, Refusal, Roots, SealOptions, StampError, StampOptions, Trust,
    Unreadable, ingest, inspect, markers, refuse, render_page, samples, seal_complete, stamp, verify,
};
use odd::ending::Ending;
use odd::pki::{Pki, Sealer};
use odd::{Odd, Packing, judges};

const MUTANTS_OF_EACH: u64 = 700;
/// Every so often an accepted mutant is also drawn on, which takes longer.
const DRAWN_EVERY: u64 = 20;
const ONE_MUTANT_MAX: Duration = Duration::from_secs(10);
/// After this long the rest is left out, so that a slow machine is slow but done.
const ALL_MAX: Duration = Duration::from_secs(60);

struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

const TOKENS: [&[u8]; 14] = [
    b"null",
    b"-1",
    b"99999999999",
    b"1 0 R",
    b"2 0 R",
    b"/Kids",
    b"/Parent",
    b"<<",
    b">>",
    b"[",
    b"endobj",
    b"stream",
    b"/Type /Pages",
    b"1e38",
];

fn mutate(original: &[u8], seed: u64) -> Vec<u8> {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = original.to_vec();
    for _ in 0..=chance.below(12) {
        let at = chance.below(bytes.len());
        let end = (at + 1 + chance.below(40)).min(bytes.len());
        match chance.below(6) {
            0 => bytes[at] = chance.below(256) as u8,
            1 => drop(bytes.splice(at..(at + 4).min(end), TOKENS[chance.below(TOKENS.len())].iter().copied())),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                let to = chance.below(bytes.len());
                drop(bytes.splice(to..to, copy));
            }
            4 => match bytes[at..].iter().position(u8::is_ascii_digit) {
                Some(digit) => bytes[at + digit] = b'0' + chance.below(10) as u8,
                None => bytes[at] = b' ',
            },
            _ if chance.below(8) == 0 => bytes.truncate(at.max(16)),
            _ => {}
        }
    }
    bytes
}

fn mutant_originals() -> Vec<Vec<u8>> {
    let mut originals = vec![samples::nda().unwrap().bytes];
    for packing in [Packing::Table, Packing::XrefStream, Packing::ObjectStreams] {
        originals.push(Odd { packing, inherited: true, rotate: 90, ..Odd::plain() }.pdf());
    }
    originals
}

#[test]
fn no_mutant_panics_or_hangs() {
    let started = Instant::now();
    let originals = mutant_originals();
    let everywhere = Mark {
        page: 1,
        x_pct: 10.0,
        y_pct: 10.0,
        width_pct: 50.0,
        height_pct: 10.0,
        content: MarkContent::Signature { name: "Anna Ünal".to_owned() },
    };
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    for seed in 0..MUTANTS_OF_EACH {
        for original in &originals {
            if started.elapsed() > ALL_MAX {
                break;
            }
            let mutant = mutate(original, seed + 1);
            let begun = Instant::now();
            match inspect(&mutant, &Limits::default()) {
                Ok(_) => accepted += 1,
                Err(reason) => {
                    assert!(!reason.to_string().is_empty());
                    refused += 1;
                }
            }
            if seed % DRAWN_EVERY == 0 {
                // Whatever they answer, they must answer.
                let _ = stamp(&mutant, std::slice::from_ref(&everywhere), &StampOptions::default());
                let _ = refuse(&mutant, &Refusal::default());
            }
            assert!(begun.elapsed() < ONE_MUTANT_MAX, "seed {seed} took {:?}", begun.elapsed());
        }
    }
    assert!(
        accepted > 50 && refused > 50,
        "accepted {accepted}, refused {refused}: the mutations are too weak or strong"
    );
}

/// How many are read in full: a short form unless `COUNTERSIGN_MUTANTS` says more.
fn mutants_read_in_full() -> u64 {
    let wanted = std::env::var_os("COUNTERSIGN_MUTANTS").and_then(|wanted| wanted.to_str()?.parse().ok());
    wanted.unwrap_or(600)
}

/// Ends an envelope with a paper that was let in: what leaves it is sealed, and the seal holds.
fn end(sealer: &Sealer, base: &[u8], completion: &countersign_paper::Completion) -> Result<(), String> {
    let options = SealOptions { already_signed: AlreadySigned::Flatten, ..SealOptions::default() };
    let unsealed = seal_complete(base, completion, &sealer.identity, &options).map_err(|why| why.to_string())?;
    let sealed = sealer.finish(unsealed).whole(base);
    let roots = Roots::new(&[Pki::get().der("root")]);
    let found = verify(&sealed, &Limits::default(), &roots, Pki::clock_unix_s()).map_err(|why| why.to_string())?;
    let seal = found.signatures.last().ok_or("no seal is found")?;
    let holds = seal.is_intact() && seal.covers_whole_file && seal.trust == Trust::Trusted;
    holds.then_some(()).ok_or_else(|| format!("{seal:?}"))
}

/// What stays of each mutant is read as the child does, mended, searched for markers and drawn; and it leaves sealed.
#[test]
fn s1_35_no_mutant_that_is_let_in_breaks_what_follows() {
    if !judges::can_make_keys() {
        return;
    }
    let (originals, sealer) = (mutant_originals(), Pki::get().sealer("p256"));
    let (mut kept, mut mended, mut drawn, mut refused) = (0, 0, 0, 0);
    let limits = Limits::default();
    let count = mutants_read_in_full();
    for seed in 0..count {
        let original = &originals[seed as usize % originals.len()];
        let mutant = mutate(original, seed + 1_000_000);
        let begun = Instant::now();
        match ingest(&mutant, &limits, &Policy::default()) {
            Err(why) => {
                assert!(!why.name().is_empty());
                refused += 1;
            }
            Ok(ingested) => {
                let base = ingested.base.as_deref().unwrap_or(&mutant);
                *(if ingested.base.is_some() { &mut mended } else { &mut kept }) += 1;
                // They may refuse what their own reader cannot follow, but not end in a panic.
                let _ = markers(base, &limits);
                drawn += usize::from(matches!(render_page(base, 1, 200, &limits), Ok(Some(_))));
                let completion = Ending::of(seed).completion(ingested.pages.len());
                if let Err(why) = end(&sealer, base, &completion) {
                    panic!("seed {seed} was let in and cannot be sealed: {why}");
                }
            }
        }
        assert!(begun.elapsed() < ONE_MUTANT_MAX, "seed {seed} took {:?}", begun.elapsed());
    }
    eprintln!("{count} mutants: {kept} kept, {mended} mended, {refused} refused, {drawn} drawn");
    assert!(kept > 10 && mended > 10 && refused > 10 && drawn > 10, "the mutations are too weak or strong");
}

#[test]
fn a_bomb_in_page_content_does_not_grow() {
    use lopdf::{Document, Stream, dictionary};
    let mut document = Document::load_mem(&Odd::plain().pdf()).unwrap();
    let mut zeros = Stream::new(dictionary! {}, vec![b' '; 80 << 20]);
    zeros.compress().unwrap();
    let bomb = document.add_object(zeros);
    let page = document.page_iter().next().unwrap();
    document.get_dictionary_mut(page).unwrap().set("Contents", vec![bomb.into(); 5000]);
    let mut file = Vec::new();
    document.save_to(&mut file).unwrap();
    let begun = Instant::now();
    assert_eq!(inspect(&file, &Limits::default()).unwrap().pages.len(), 1);
    let why = refuse(&file, &Refusal::default()).unwrap_err();
    assert!(matches!(why, StampError::Unreadable(Unreadable::TooMuchContent { .. })), "{why}");
    assert!(begun.elapsed() < ONE_MUTANT_MAX);
}
