//! DOCX with random damage: each gives a sound file or a clear refusal, in bounded time.
//! `COUNTERSIGN_MUTANTS` sets how many; every run begins with the same seed unless `COUNTERSIGN_SEED` is set.

use std::io::Cursor;
use std::time::{Duration, Instant};

use countersign_envelope::convert::docx::{check, rewrite};
use countersign_envelope::ingest::sniff::sniff;
use countersign_test_support::docx::{body, docx_of, paragraph, relations, relationship};

const SHORT: u64 = 600;
const LONGEST: Duration = Duration::from_secs(10);

/// A small generator: the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % below.max(1)
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn seed() -> Vec<u8> {
    let list = relations(&relationship("rId1", "hyperlink", "https://example.com/", "External"));
    let code = "<w:p><w:r><w:fldChar w:fldCharType=\"begin\"/></w:r><w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:fldChar w:fldCharType=\"end\"/></w:r></w:p>";
    let text = (0..30).map(|number| paragraph(&format!("Clause {number} &amp; more"))).collect::<String>();
    docx_of(&body(&(text + code)), &[("word/_rels/document.xml.rels", list.as_bytes())])
}

/// Damage of the file, or of a part of it before it was zipped.
fn mutant(dice: &mut Dice) -> Vec<u8> {
    if dice.next(2) == 0 {
        let mut bytes = seed();
        for _ in 0..=dice.next(24) {
            damage(&mut bytes, dice);
        }
        return bytes;
    }
    let mut text = body(&paragraph("{{signature:Customer}}")).into_bytes();
    for _ in 0..=dice.next(12) {
        damage(&mut text, dice);
    }
    docx_of(&String::from_utf8_lossy(&text), &[])
}

fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    const TOKENS: [&[u8]; 8] =
        [b"<", b">", b"&", b"</w:p>", b"<!DOCTYPE x>", b"PK\x01\x02", b"\xff\xff\xff\xff", b"<w:instrText>"];
    let at = dice.next(bytes.len());
    match dice.next(6) {
        0 if !bytes.is_empty() => bytes[at] = u8::try_from(dice.next(256)).unwrap(),
        1 => bytes.truncate(at),
        2 => drop(bytes.splice(at..at, TOKENS[dice.next(TOKENS.len())].iter().copied())),
        3 => drop(bytes.drain(at..(at + dice.next(40)).min(bytes.len()))),
        4 => {
            let piece = bytes[at..(at + dice.next(200)).min(bytes.len())].to_vec();
            let to = dice.next(bytes.len());
            bytes.splice(to..to, piece);
        }
        _ if !bytes.is_empty() => bytes[at] ^= 1 << dice.next(8),
        _ => {}
    }
}

#[test]
fn mutants_are_rewritten_soundly_or_refused() {
    let mut dice = Dice(setting("COUNTERSIGN_SEED", 0x5eed_1234_5678_9abc));
    let (mut sound, mut refused) = (0, 0);
    for number in 0..setting("COUNTERSIGN_MUTANTS", SHORT) {
        let state = dice.0;
        let bytes = mutant(&mut dice);
        let began = Instant::now();
        let _ = sniff(&bytes);
        match rewrite(&bytes, Cursor::new(Vec::new())) {
            Ok(out) => {
                sound += 1;
                // What was written anew is sound by the same measure.
                assert_eq!(check(&out.into_inner()), Ok(()), "mutant {number}, seed {state:#x}");
            }
            Err(_) => refused += 1,
        }
        assert!(began.elapsed() < LONGEST, "mutant {number}, seed {state:#x}");
    }
    assert!(sound > 0 && refused > 0, "{sound} sound, {refused} refused: both kinds are needed");
}
