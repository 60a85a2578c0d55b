//! Documents in a store: what is kept, what is found of damage, and what happens when the store is away.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod bucket;
mod damage;
mod flaky;
mod keeping;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use countersign_envelope::blobs::{BlobError, Blobs, DocumentKeys, Place};
use futures_util::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

/// Larger than a window of reading, and no multiple of anything.
const LARGE: usize = 3 * 512 * 1024 + 4_321;

fn keys(ring: &str) -> DocumentKeys {
    let of = |id: &str| format!("{id}={}", id.repeat(32));
    DocumentKeys::parse(&ring.split(',').map(of).collect::<Vec<_>>().join(",").into()).unwrap()
}

/// In that folder, under a ring of keys such as `b2,a1` if there is one.
fn folder(path: &Path, ring: &str) -> Blobs {
    let place = Place::from(path.to_owned());
    Blobs::open(&place, (!ring.is_empty()).then(|| keys(ring))).unwrap()
}

fn content(size: usize) -> Bytes {
    (0..size).map(|at| (at * 31 + at / 97) as u8).collect::<Vec<_>>().into()
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What is read of a range, and how it ended.
async fn read(blobs: &Blobs, digest: &[u8; 32], range: std::ops::Range<u64>) -> (Vec<u8>, Result<(), BlobError>) {
    let blob = match blobs.find(digest).await {
        Ok(blob) => blob,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let (mut told, mut parts) = (Vec::new(), std::pin::pin!(blob.read(range)));
    while let Some(part) = parts.next().await {
        match part {
            Ok(part) => told.extend_from_slice(&part),
            Err(error) => return (told, Err(error)),
        }
    }
    (told, Ok(()))
}

/// All files below a folder.
fn files(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

async fn listed(blobs: &Blobs) -> Vec<[u8; 32]> {
    let mut all: Vec<_> = blobs.list().map_ok(|listed| listed.digest).try_collect().await.unwrap();
    all.sort_unstable();
    all
}
