//! DOCX with random damage: each gives a sound file or a clear refusal, in bounded time and memory.
//! `COUNTERSIGN_MUTANTS` sets how many; every run begins with the same seed unless `COUNTERSIGN_SEED` is set. Of those that are
//! sound one in so many is made a PDF of as `COUNTERSIGN_CONVERTED_EVERY` says.

use std::collections::{BTreeMap, HashSet};
use std::io::{Cursor, Read as _};
use std::time::{Duration, Instant};

use countersign_envelope::convert::docx::{INFLATED_BYTES_MAX, check, rewrite};
use countersign_envelope::convert::{ConvertError, Converter as _, LibreOffice, Limits};
use countersign_envelope::ingest::sniff::sniff;
use countersign_paper::inspect;
use countersign_test_support::docx::{body, docx_of, paragraph, relations, relationship, zipped};
use countersign_test_support::memory::{self, Watch};
use countersign_test_support::outside::absent;
use futures_util::StreamExt as _;
use zip::ZipArchive;

const SHORT: u64 = 600;
/// Of so many that are sound one is made a PDF of: each takes seconds.
const CONVERTED_EVERY: u64 = 200;
const LONGEST: Duration = Duration::from_secs(10);
/// What this process may have for looking through a file: what is in it, as it came and written anew, and as much for the
/// tests at its side.
const LOOKING_BYTES_MAX: u64 = 4 * INFLATED_BYTES_MAX;
/// What a converter may have. Its limit is of addresses, of which it takes many more than it uses.
const CONVERTING_BYTES_MAX: u64 = 1 << 30;
/// In the command line of each process of a conversion: where it has its profile.
const CONVERTING: &str = "countersign-convert-";

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

/// Files as Word writes them, and one of ours with a link and a field.
fn seeds() -> Vec<Vec<u8>> {
    let list = relations(&relationship("rId1", "hyperlink", "https://example.com/", "External"));
    let code = "<w:p><w:r><w:fldChar w:fldCharType=\"begin\"/></w:r><w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:fldChar w:fldCharType=\"end\"/></w:r></w:p>";
    let text = (0..30).map(|number| paragraph(&format!("Clause {number} &amp; more"))).collect::<String>();
    let mut seeds = vec![docx_of(&body(&(text + code)), &[("word/_rels/document.xml.rels", list.as_bytes())])];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/intake/docx");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    seeds.extend(paths.iter().filter(|it| it.extension().is_some_and(|it| it == "docx")).map(|it| {
        let bytes = std::fs::read(it).unwrap();
        assert_eq!(check(&bytes), Ok(()), "{}", it.display());
        bytes
    }));
    seeds
}

/// The parts of a file, unpacked.
fn parts(docx: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = ZipArchive::new(Cursor::new(docx)).unwrap();
    let count = archive.len();
    let part = |index| {
        let mut file = archive.by_index(index).unwrap();
        let (name, mut content) = (file.name().unwrap().into_owned(), Vec::new());
        file.read_to_end(&mut content).unwrap();
        (name, content)
    };
    (0..count).map(part).collect()
}

/// Damage of the file, of what its parts say, or of which parts there are.
fn mutant(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let seed = &seeds[dice.next(seeds.len())];
    let kind = dice.next(4);
    if kind == 0 {
        let mut bytes = seed.clone();
        for _ in 0..=dice.next(24) {
            damage(&mut bytes, dice);
        }
        return bytes;
    }
    let mut parts = parts(seed);
    for _ in 0..=dice.next(6) {
        let (one, other) = (dice.next(parts.len()), dice.next(parts.len()));
        match (kind, dice.next(5)) {
            (1, 0) if parts.len() > 1 => drop(parts.remove(one)),
            (1, 1) => {
                // For some readers a name is the same in capitals.
                let (name, content) = parts[one].clone();
                parts.push((name.to_uppercase(), content));
            }
            (1, 2) => parts[one].1 = parts[other].1.clone(),
            (1, 3) => parts[one].0 = format!("word/{}", parts[other].0),
            (2, _) => rebuild(&mut parts[one].1, dice),
            _ => (0..=dice.next(4)).for_each(|_| damage(&mut parts[one].1, dice)),
        }
    }
    let mut names = HashSet::new();
    parts.retain(|(name, _)| names.insert(name.clone()));
    let parts: Vec<(&str, &[u8])> = parts.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    zipped(&parts)
}

/// Moves whole elements of a part: one is put into another place, nested into itself, or left out.
fn rebuild(part: &mut Vec<u8>, dice: &mut Dice) {
    let starts: Vec<usize> = (0..part.len()).filter(|at| part[*at] == b'<').collect();
    if starts.is_empty() {
        return;
    }
    let from = starts[dice.next(starts.len())];
    let to = starts[dice.next(starts.len())];
    let (from, to) = (from.min(to), from.max(to));
    let piece = part[from..to].to_vec();
    match dice.next(3) {
        0 => drop(part.drain(from..to)),
        1 => drop(part.splice(from..from, piece.repeat(1 + dice.next(3)))),
        _ => {
            let at = starts[dice.next(starts.len())];
            drop(part.splice(at..at, piece));
        }
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn mutants_are_rewritten_soundly_or_refused() {
    memory::forget_most();
    let some = looked_through(setting("COUNTERSIGN_MUTANTS", SHORT));
    let most = memory::most_bytes();
    eprintln!("this process had {} MiB at most", most >> 20);
    assert!(most < LOOKING_BYTES_MAX, "looking through them took {most} bytes");
    let Some(program) = LibreOffice::find() else {
        return absent("LibreOffice Writer", "apt-get install --no-install-recommends libreoffice-writer-nogui");
    };
    let converting = Watch::children(CONVERTING);
    let converter = LibreOffice::new(program, 2, Limits::default());
    let converted = some.into_iter().map(|(number, bytes)| converted(&converter, number, bytes));
    let made: Vec<bool> = futures_util::stream::iter(converted).buffer_unordered(2).collect().await;
    let most = converting.most_bytes();
    let pdfs = made.iter().filter(|it| **it).count();
    eprintln!("{pdfs} of {} became a PDF; a converter had {} MiB at most", made.len(), most >> 20);
    assert!((1..CONVERTING_BYTES_MAX).contains(&most), "a converter took {most} bytes");
}

/// So many mutants; some of those that are sound, by their numbers.
#[allow(clippy::print_stderr, reason = "told to whoever runs it")]
fn looked_through(count: u64) -> Vec<(u64, Vec<u8>)> {
    let (seeds, mut dice) = (seeds(), Dice(setting("COUNTERSIGN_SEED", 0x5eed_1234_5678_9abc)));
    let (mut refusals, mut slowest) = (BTreeMap::<String, u64>::new(), Duration::ZERO);
    let (mut sound, mut some) = (0_u64, Vec::new());
    let every = setting("COUNTERSIGN_CONVERTED_EVERY", CONVERTED_EVERY).max(1);
    for number in 0..count {
        let state = dice.0;
        let bytes = mutant(&seeds, &mut dice);
        let began = Instant::now();
        let _ = sniff(&bytes);
        match rewrite(&bytes, Cursor::new(Vec::new())) {
            Ok(out) => {
                // What was written anew is sound by the same measure.
                assert_eq!(check(&out.into_inner()), Ok(()), "mutant {number}, seed {state:#x}");
                if sound.is_multiple_of(every) {
                    some.push((number, bytes));
                }
                sound += 1;
            }
            Err(flaw) => *refusals.entry(format!("{flaw:?}")).or_default() += 1,
        }
        assert!(began.elapsed() < LONGEST, "mutant {number}, seed {state:#x}");
        slowest = slowest.max(began.elapsed());
    }
    eprintln!("{sound} sound, refused {refusals:?}, slowest {slowest:?}");
    assert!(sound > 0 && !refusals.is_empty(), "both kinds are needed: {refusals:?}");
    some
}

/// A PDF (true) or a refusal; never a converter that is missing, hangs or is still there.
#[allow(clippy::print_stderr, reason = "told to whoever runs it")]
async fn converted(converter: &LibreOffice, number: u64, docx: Vec<u8>) -> bool {
    let (began, made) = (Instant::now(), converter.convert(docx.into()).await);
    let is_made = made.is_ok();
    eprintln!("mutant {number}: {is_made} after {:?}", began.elapsed());
    match made {
        Ok(pdf) => assert!(inspect(&pdf, &countersign_paper::Limits::default()).is_ok(), "mutant {number}"),
        Err(why) => assert!(matches!(why, ConvertError::Failed | ConvertError::Slow), "mutant {number}: {why:?}"),
    }
    is_made
}
