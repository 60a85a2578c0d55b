//! What a signer drew by hand: a picture or the strokes of a pen, as bytes that are kept and hashed.
//!
//! It must never show itself in logs or records: a field and the history know its hash alone.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::envelope::Digest;
use super::limits::{POINTS_MAX, STROKES_MAX};

/// The first byte of strokes; pictures begin with another.
const STROKES: u8 = 1;
/// Parts of 1 in which a place is kept.
const PLACES: f32 = 65_535.0;
/// Parts of 1 in which an aspect is kept.
const ASPECTS: f32 = 1_000.0;

/// A drawing in a field. Two are the same if their hashes are.
#[derive(Clone)]
pub struct Drawn {
    /// Of its bytes.
    pub sha256: Digest,
    /// The bytes, while they are on their way in.
    pub content: Option<Arc<[u8]>>,
}

/// Where a pen went over a surface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strokes {
    /// The surface's width divided by its height; 0: as that of the field.
    pub aspect: f32,
    /// Width of the pen, in parts of the surface's height.
    pub pen: f32,
    /// The points of each stroke, in parts of width and height from the top left.
    pub strokes: Vec<Vec<(f32, f32)>>,
}

/// What the bytes of a drawing are.
#[derive(Clone, Debug, PartialEq)]
pub enum Sketch {
    /// A PNG or JPEG.
    Picture(Vec<u8>),
    /// Strokes.
    Strokes(Strokes),
}

impl Drawn {
    /// One that is on its way in.
    #[must_use]
    pub fn new(content: Vec<u8>) -> Self {
        Self { sha256: Sha256::digest(&content).into(), content: Some(content.into()) }
    }

    /// One that is kept.
    #[must_use]
    pub fn kept(sha256: Digest) -> Self {
        Self { sha256, content: None }
    }
}

impl PartialEq for Drawn {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }
}

impl Eq for Drawn {}

impl fmt::Debug for Drawn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Drawn(…)")
    }
}

impl Sketch {
    /// The bytes to keep. Places are rounded to 65,535ths, which no eye sees.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let strokes = match self {
            Self::Picture(bytes) => return bytes.clone(),
            Self::Strokes(strokes) => strokes,
        };
        let place = |part: f32| ((part.clamp(0.0, 1.0) * PLACES).round() as u16).to_be_bytes();
        let count = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        let mut bytes = vec![STROKES];
        bytes.extend(((strokes.aspect * ASPECTS).round().clamp(0.0, PLACES) as u16).to_be_bytes());
        bytes.extend(place(strokes.pen));
        bytes.extend(count(strokes.strokes.len()));
        for points in &strokes.strokes {
            bytes.extend(count(points.len()));
            for (x, y) in points {
                bytes.extend(place(*x));
                bytes.extend(place(*y));
            }
        }
        bytes
    }

    /// What was kept. None if the bytes are not ours.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.first() != Some(&STROKES) {
            return Some(Self::Picture(bytes.to_vec()));
        }
        let mut numbers = bytes.get(1..)?.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let mut next = || numbers.next();
        let aspect = f32::from(next()?) / ASPECTS;
        let pen = f32::from(next()?) / PLACES;
        let count = usize::from(next()?).min(STROKES_MAX);
        let mut strokes = Vec::with_capacity(count);
        for _ in 0..count {
            let length = usize::from(next()?).min(POINTS_MAX);
            let points = (0..length).map(|_| Some((f32::from(next()?) / PLACES, f32::from(next()?) / PLACES)));
            strokes.push(points.collect::<Option<Vec<_>>>()?);
        }
        Some(Self::Strokes(Strokes { aspect, pen, strokes }))
    }
}
