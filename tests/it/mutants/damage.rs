//! Damage at random: of the bytes of a file, of its words, and of the objects that it is made of.
//!
//! It must never depend on anything but the seed: what went wrong once goes wrong again.

use lopdf::{Dictionary, Document, Object, ObjectId, SaveOptions, StringFormat};

use crate::corpus;

/// A small generator: the same numbers everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit.max(1)
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A paper and its objects.
pub struct Seed {
    bytes: Vec<u8>,
    objects: Option<Document>,
}

/// The small papers of the corpus, and what we make ourselves.
pub fn pdf_seeds() -> Vec<Seed> {
    const SMALL: usize = 70_000;
    let mut papers: Vec<Vec<u8>> = corpus::committed().into_iter().filter(|it| it.len() < SMALL).collect();
    papers.extend(
        countersign_paper::samples::all().unwrap().into_iter().map(|it| it.bytes).filter(|it| it.len() < SMALL),
    );
    assert!(papers.len() > 15, "{} papers", papers.len());
    papers.into_iter().map(|bytes| Seed { objects: Document::load_mem(&bytes).ok(), bytes }).collect()
}

pub fn pdf_mutant(seeds: &[Seed], dice: &mut Dice) -> Vec<u8> {
    let seed = dice.one(seeds);
    let (mut bytes, kind) = (seed.bytes.clone(), dice.below(3));
    match &seed.objects {
        Some(document) if kind > 0 => {
            bytes = with_other_objects(document.clone(), dice).unwrap_or(bytes);
            if kind == 2 {
                return bytes;
            }
        }
        _ => {}
    }
    for _ in 0..=dice.below(10) {
        damage(&mut bytes, dice);
    }
    bytes
}

const WORDS: [&[u8]; 22] = [
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
    b"(",
    b"endobj",
    b"stream",
    b"endstream",
    b"/Type /Pages",
    b"1e38",
    b"/Length",
    b"startxref",
    b"trailer",
    b"%%EOF",
    b"/Prev 0",
    b"xref\n0 1\n",
];

/// Changes some bytes, or a word.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.below(bytes.len());
    let end = (at + 1 + dice.below(60)).min(bytes.len());
    match dice.below(8) {
        0 => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
        1 => bytes[at] ^= 1 << dice.below(8),
        2 => drop(bytes.splice(at..(at + dice.below(5)).min(end), dice.one(&WORDS).iter().copied())),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let (copy, to) = (bytes[at..end].to_vec(), dice.below(bytes.len()));
            drop(bytes.splice(to..to, copy));
        }
        5 => {
            if let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) {
                bytes[at + digit] = b'0' + u8::try_from(dice.below(10)).unwrap();
            }
        }
        6 => {
            // One number of a reference, a length or a table becomes another, or far too large.
            if let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) {
                let from = at + digit;
                let long = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number = *dice.one(&["0", "1", "3", "65535", "2147483648", "-7", "4294967295"]);
                drop(bytes.splice(from..from + long, number.bytes()));
            }
        }
        _ if dice.below(6) == 0 => bytes.truncate(at.max(16)),
        _ => {}
    }
}

/// The file with some objects that are not what they were.
fn with_other_objects(mut document: Document, dice: &mut Dice) -> Option<Vec<u8>> {
    let ids: Vec<ObjectId> = document.objects.keys().copied().collect();
    if ids.is_empty() {
        return None;
    }
    for _ in 0..=dice.below(6) {
        let (id, other) = (*dice.one(&ids), *dice.one(&ids));
        let donor = document.objects.get(&other).cloned().unwrap_or(Object::Null);
        let Some(object) = document.objects.get_mut(&id) else { continue };
        if dice.below(8) == 0 {
            *object = donor;
            continue;
        }
        change(object, &donor, other, dice);
    }
    let modern = dice.below(2) == 0;
    let options = SaveOptions { use_object_streams: modern, use_xref_streams: modern, ..SaveOptions::default() };
    let mut file = Vec::new();
    document.save_with_options(&mut file, options).ok()?;
    Some(file)
}

/// Changes a value somewhere in an object.
fn change(object: &mut Object, donor: &Object, other: ObjectId, dice: &mut Dice) {
    match object {
        Object::Dictionary(entries) => change_entry(entries, donor, other, dice),
        Object::Stream(stream) => {
            if dice.below(2) == 0 {
                return change_entry(&mut stream.dict, donor, other, dice);
            }
            if dice.below(2) == 0 {
                let _ = stream.decompress();
            }
            for _ in 0..=dice.below(6) {
                damage(&mut stream.content, dice);
            }
        }
        Object::Array(items) if !items.is_empty() => {
            let at = dice.below(items.len());
            match dice.below(4) {
                0 => drop(items.remove(at)),
                1 => {
                    let copies = vec![items[at].clone(); dice.below(2_000)];
                    items.extend(copies);
                }
                2 => change(&mut items[at], donor, other, dice),
                _ => items[at] = value(donor, other, dice),
            }
        }
        _ => *object = value(donor, other, dice),
    }
}

fn change_entry(entries: &mut Dictionary, donor: &Object, other: ObjectId, dice: &mut Dice) {
    const KEYS: [&[u8]; 14] = [
        b"Kids",
        b"Parent",
        b"Contents",
        b"Resources",
        b"MediaBox",
        b"CropBox",
        b"Rotate",
        b"UserUnit",
        b"Annots",
        b"Filter",
        b"DecodeParms",
        b"Length",
        b"Type",
        b"Subtype",
    ];
    let keys: Vec<Vec<u8>> = entries.iter().map(|(key, _)| key.clone()).collect();
    let key = if keys.is_empty() || dice.below(4) == 0 { dice.one(&KEYS).to_vec() } else { dice.one(&keys).clone() };
    match (dice.below(4), entries.get_mut(&key)) {
        (0, Ok(_)) => drop(entries.remove(&key)),
        (1, Ok(inner)) => change(inner, donor, other, dice),
        _ => entries.set(key, value(donor, other, dice)),
    }
}

/// Something that may stand anywhere.
fn value(donor: &Object, other: ObjectId, dice: &mut Dice) -> Object {
    match dice.below(12) {
        0 => Object::Null,
        1 => Object::Integer(*dice.one(&[-1, 0, 1, 45, 90, 65_536, i64::from(i32::MAX), i64::MAX, i64::MIN])),
        2 => Object::Real(*dice.one(&[0.0, -0.5, 1e-30, 1e38, f32::MAX])),
        3 => Object::Name(dice.one(&WORDS).to_vec()),
        4 => Object::String(vec![b'('; dice.below(300)], StringFormat::Literal),
        5 => Object::Array(vec![Object::Reference(other); dice.below(40)]),
        6 => (0..dice.below(300)).fold(Object::Null, |inner, _| Object::Array(vec![inner])),
        7 => Object::Boolean(true),
        8 => Object::Reference((u32::try_from(dice.below(100_000)).unwrap(), 0)),
        9 => donor.clone(),
        _ => Object::Reference(other),
    }
}
