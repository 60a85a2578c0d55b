//! What the fuzzer does to papers (`fuzz/`), with the seeds that it begins with and some damage to each.
//!
//! `COUNTERSIGN_FUZZ_CORPUS=fuzz/corpus cargo test -p countersign-paper --test fuzzed` writes the seeds down for it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

use countersign_paper::samples;
use odd::{Odd, Packing};

type Target = fn(&[u8]);

/// Each target, and what it begins with.
fn seeds() -> [(&'static str, Target, Vec<Vec<u8>>); 3] {
    let mut papers = vec![samples::nda().unwrap().bytes];
    for packing in [Packing::Table, Packing::XrefStream, Packing::ObjectStreams] {
        papers.push(Odd { packing, rotate: 90, inherited: true, untidy: true, ..Odd::plain() }.pdf());
    }
    let contents = [
        &b"BT /F1 12 Tf 72 700 Td ({{signature:tenant}}) Tj 0 -20 Td ({{text:tenant;name=city;required=true}}) Tj ET"[..],
        b"q 0 1 -1 0 300 300 cm BT /F1 9 Tf [({{da) -20 (te:land) 10 (lord}})] TJ T* (}} {{ {{x}}) ' ET Q",
    ];
    // A SEQUENCE of the type signed data, and something that ends in its middle.
    let signed = b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80\x30\x80\x02\x01\x01";
    let contents = contents.map(<[u8]>::to_vec).to_vec();
    [
        ("ingest", targets::ingest, papers),
        ("markers", targets::markers, contents),
        ("seal", targets::seal, vec![signed.to_vec(), vec![0x30, 0x82, 0x10]]),
    ]
}

#[test]
fn the_fuzzers_targets_bear_seeds_and_damage() {
    for (name, target, seeds) in seeds() {
        for (number, seed) in seeds.iter().enumerate() {
            if let Some(corpus) = std::env::var_os("COUNTERSIGN_FUZZ_CORPUS") {
                let folder = Path::new(&corpus).join(name);
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join(number.to_string()), seed).unwrap();
            }
            target(seed);
            for step in 1..12 {
                let mut damaged = seed.clone();
                let at = damaged.len() * step / 12;
                damaged[at] ^= 1 << (step % 8);
                target(&damaged);
                target(&damaged[..at]);
            }
        }
    }
}
