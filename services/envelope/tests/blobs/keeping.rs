//! What is stored is found again, in any part, and nothing that was not stored to its end.

use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use countersign_envelope::blobs::{BlobError, WriteError};
use futures_util::{StreamExt as _, stream};

use crate::{LARGE, content, digest, files, folder, listed, pieces, put, read};

/// With keys and without.
const RINGS: [&str; 2] = ["", "a1"];

#[tokio::test]
async fn what_is_stored_in_any_way_is_read_in_any_part() {
    for ring in RINGS {
        let place = tempfile::tempdir().unwrap();
        let blobs = folder(place.path(), ring);
        for size in [0, 1, 65_535, 65_536, 65_537, 524_288, LARGE] {
            let bytes = content(size);
            let stored = put(&blobs, &bytes, 10_007).await;
            assert_eq!((stored.digest, stored.size_bytes), (digest(&bytes), size as u64));
            assert_eq!(blobs.get(&stored.digest).await.unwrap(), bytes, "{size}");
            let size = size as u64;
            for from in [0, 1, 65_535, 65_536, 65_537, 524_287, 524_288, 1_000_000, LARGE as u64 - 1, LARGE as u64] {
                for to in [from, from + 1, from + 100_000, u64::MAX] {
                    let (from, end) = (from.min(size), to.min(size));
                    let (told, ended) = read(&blobs, &stored.digest, from..to).await;
                    ended.unwrap();
                    assert!(told == bytes[from as usize..end.max(from) as usize], "{ring:?} {size} {from}..{to}");
                }
            }
        }
    }
}

#[tokio::test]
async fn storing_twice_is_storing_once() {
    for ring in RINGS {
        let place = tempfile::tempdir().unwrap();
        let blobs = folder(place.path(), ring);
        let bytes = content(LARGE);
        let first = blobs.put(bytes.clone()).await.unwrap();
        let before = files(place.path());
        let written = before[0].metadata().unwrap().modified().unwrap();
        assert_eq!(blobs.put(bytes.clone()).await.unwrap(), first);
        let many = (0..8).map(|_| put(&blobs, &bytes, 70_000));
        assert!(futures_util::future::join_all(many).await.iter().all(|stored| stored.digest == first));
        assert_eq!(files(place.path()), before, "one file, and nothing beside it");
        assert_eq!(before[0].metadata().unwrap().modified().unwrap(), written, "and nobody's reading was disturbed");
        assert_eq!(listed(&blobs).await, [first]);
        assert!(ring.is_empty() == (std::fs::read(&before[0]).unwrap() == bytes), "sealed where there are keys");
    }
}

/// Whoever uploads and breaks off, fails, or is killed leaves nothing that could be found.
#[tokio::test]
async fn half_a_document_is_never_seen() {
    for ring in RINGS {
        let place = tempfile::tempdir().unwrap();
        let blobs = folder(place.path(), ring);
        let bytes = content(12 * 1024 * 1024);
        let fails = pieces(&bytes, 100_000).take(70).chain(stream::iter([Err("hung up")]));
        assert!(matches!(blobs.put_stream(fails).await, Err(WriteError::Source("hung up"))));
        let never = pieces(&bytes, 100_000).take(100).chain(stream::pending());
        let dropped = tokio::time::timeout(Duration::from_millis(400), blobs.put_stream(never)).await;
        assert!(dropped.is_err(), "it waits for the rest");
        for half in [&bytes[..], &bytes[..7_000_000], &bytes[..10_000_000]] {
            let found = blobs.find(&digest(half)).await.err().unwrap();
            assert!(matches!(found, BlobError::Missing(_)), "{found:?}");
        }
        assert_eq!(listed(&blobs).await, [] as [[u8; 32]; 0]);
        for _ in 0..100 {
            if files(place.path()).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(files(place.path()).is_empty(), "the folder forgets it by itself: {:?}", files(place.path()));
    }
}

#[tokio::test]
async fn what_was_never_finished_is_forgotten() {
    let place = tempfile::tempdir().unwrap();
    let blobs = folder(place.path(), "");
    let kept = blobs.put(content(10)).await.unwrap();
    let now = blobs.list().next().await.unwrap().unwrap().last_modified;
    let staging = place.path().join("staging");
    std::fs::create_dir_all(&staging).unwrap();
    for left in ["0123456789abcdef", "fedcba9876543210#1"] {
        std::fs::write(staging.join(left), b"left by a process that was killed").unwrap();
    }
    assert_eq!(listed(&blobs).await, [kept]);
    assert_eq!(blobs.forget_unfinished(now - TimeDelta::hours(1)).await.unwrap(), 0, "it may be on its way");
    assert_eq!(blobs.forget_unfinished(now + TimeDelta::hours(1)).await.unwrap(), 2);
    assert_eq!(files(place.path()).len(), 1);
    assert_eq!(listed(&blobs).await, [kept]);
}

#[tokio::test]
async fn what_is_deleted_is_gone_sealed_or_not() {
    let place = tempfile::tempdir().unwrap();
    let (plain, sealed) = (folder(place.path(), ""), folder(place.path(), "a1"));
    let (bytes, other) = (content(100), content(101));
    let gone = plain.put(bytes.clone()).await.unwrap();
    sealed.put(bytes).await.unwrap();
    let kept = sealed.put(other).await.unwrap();
    assert_eq!(files(place.path()).len(), 3, "once in the clear, from before there were keys");
    sealed.delete(&gone).await.unwrap();
    sealed.delete(&gone).await.unwrap();
    assert!(matches!(sealed.find(&gone).await, Err(BlobError::Missing(_))));
    assert_eq!(listed(&sealed).await, [kept]);
}

/// Keys are switched on, rotated and, by mistake, lost.
#[tokio::test]
async fn keys_come_and_go() {
    let place = tempfile::tempdir().unwrap();
    let (before, first) = (folder(place.path(), ""), folder(place.path(), "a1"));
    let (clear, sealed) = (content(70_000), content(70_001));
    let (clear, sealed) = (before.put(clear).await.unwrap(), first.put(sealed).await.unwrap());
    let newer = folder(place.path(), "b2,a1");
    let newest = newer.put(content(70_002)).await.unwrap();
    for digest in [clear, sealed, newest] {
        assert!(newer.get(&digest).await.is_ok(), "all that was ever stored is read");
    }
    let Err(BlobError::NoKey { id, .. }) = first.find(&newest).await else { panic!("a key that is not there") };
    assert_eq!(id, "b2");
    let told = before.get(&sealed).await.unwrap_err();
    assert!(format!("{told:#}").contains("needs the key `a1`"), "{told:#}");
    // The same document comes again: what cannot be read is written anew.
    let lost = folder(place.path(), "c3");
    assert!(lost.get(&sealed).await.is_err());
    assert_eq!(lost.put(content(70_001)).await.unwrap(), sealed);
    assert_eq!(lost.get(&sealed).await.unwrap(), content(70_001));
    assert_eq!(put(&lost, &content(70_002), 999).await.digest, newest);
    assert_eq!(lost.get(&newest).await.unwrap(), content(70_002));
}

/// What a reader holds: not the document. Seen from outside in the process's own memory.
#[tokio::test]
async fn a_document_of_two_hundred_megabytes_passes_in_little_memory() {
    const SIZE: usize = 200 * 1024 * 1024;
    const MOST: usize = 48 * 1024 * 1024;
    for ring in RINGS {
        let place = tempfile::tempdir().unwrap();
        let blobs = folder(place.path(), ring);
        let piece = content(64 * 1024);
        let coming = stream::iter((0..SIZE / piece.len()).map(|_| Ok::<Bytes, ()>(piece.clone())));
        let before = peak_bytes(true);
        let stored = blobs.put_stream(coming).await.unwrap();
        assert_eq!(stored.size_bytes, SIZE as u64);
        let (mut size, mut parts) = (0, std::pin::pin!(blobs.find(&stored.digest).await.unwrap().read(0..u64::MAX)));
        while let Some(part) = parts.next().await {
            size += part.unwrap().len();
        }
        assert_eq!(size, SIZE);
        let took = peak_bytes(false).saturating_sub(before);
        assert!(took < MOST, "{took} bytes for a document of {SIZE} with keys {ring:?}");
    }
}

/// The most memory that this process has had since it was last asked with `anew`.
fn peak_bytes(anew: bool) -> usize {
    if anew {
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
