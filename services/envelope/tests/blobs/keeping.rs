//! What is stored is found again, in any part, and nothing that was not stored to its end.

use std::sync::Arc;

use chrono::TimeDelta;
use countersign_envelope::blobs::{BlobError, Blobs};
use futures_util::StreamExt as _;

use crate::{LARGE, content, digest, files, folder, keys, listed, read};

/// With keys and without.
const RINGS: [&str; 2] = ["", "a1"];

#[tokio::test]
async fn what_is_stored_is_read_in_any_part() {
    for ring in RINGS {
        let place = tempfile::tempdir().unwrap();
        let blobs = folder(place.path(), ring);
        for size in [0, 1, 65_535, 65_536, 65_537, 524_288, LARGE] {
            let bytes = content(size);
            let stored = blobs.put(bytes.clone()).await.unwrap();
            assert_eq!(stored, digest(&bytes));
            assert_eq!(blobs.get(&stored).await.unwrap(), bytes, "{size}");
            let size = size as u64;
            for from in [0, 1, 65_535, 65_536, 65_537, 524_287, 524_288, 1_000_000, LARGE as u64 - 1, LARGE as u64] {
                for to in [from, from + 1, from + 100_000, u64::MAX] {
                    let (from, end) = (from.min(size), to.min(size));
                    let (told, ended) = read(&blobs, &stored, from..to).await;
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
        let many = (0..8).map(|_| blobs.put(bytes.clone()));
        assert!(futures_util::future::join_all(many).await.into_iter().all(|stored| stored.unwrap() == first));
        assert_eq!(files(place.path()), before, "one file, and nothing beside it");
        assert_eq!(before[0].metadata().unwrap().modified().unwrap(), written, "and nobody's reading was disturbed");
        assert_eq!(listed(&blobs).await, [first]);
        assert!(ring.is_empty() == (std::fs::read(&before[0]).unwrap() == bytes), "sealed where there are keys");
    }
}

/// A process that is killed while it writes leaves a file that is no document, and that nobody else would ever remove.
#[tokio::test]
async fn what_was_never_finished_is_forgotten() {
    for ring in RINGS {
        let place = tempfile::tempdir().unwrap();
        let blobs = folder(place.path(), ring);
        let kept = blobs.put(content(10)).await.unwrap();
        let [file] = &files(place.path())[..] else { panic!() };
        let left = |ending: &str| std::path::PathBuf::from(format!("{}{ending}", file.display()));
        for ending in ["#1", "#27"] {
            std::fs::write(left(ending), b"left by a process that was killed").unwrap();
        }
        // Whoever made these: the service did not.
        let others = [left("#x"), file.with_file_name("notes#1"), place.path().join("notes#1")];
        others.iter().for_each(|other| std::fs::write(other, b"somebody's own").unwrap());
        assert_eq!(listed(&blobs).await, [kept]);
        let now = blobs.list().next().await.unwrap().unwrap().last_modified;
        assert_eq!(blobs.forget_unfinished(now - TimeDelta::hours(1)).await.unwrap(), 0, "it may be on its way");
        assert_eq!(blobs.forget_unfinished(now + TimeDelta::hours(1)).await.unwrap(), 2);
        assert!(others.iter().all(|other| other.exists()) && files(place.path()).len() == 4);
        assert_eq!(listed(&blobs).await, [kept]);
    }
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
    assert_eq!(lost.put(content(70_002)).await.unwrap(), newest);
    assert_eq!(lost.get(&newest).await.unwrap(), content(70_002));
}

/// What a reader holds: not the document. Seen from outside in the process's own memory.
#[tokio::test]
async fn a_document_is_read_in_little_memory_whatever_its_size() {
    const SIZE: usize = 100 * 1024 * 1024;
    const MOST: usize = 48 * 1024 * 1024;
    for ring in RINGS {
        let place = tempfile::tempdir().unwrap();
        let blobs = folder(place.path(), ring);
        let stored = blobs.put(vec![7; SIZE].into()).await.unwrap();
        let before = peak_bytes(true);
        let (mut size, mut parts) = (0, std::pin::pin!(blobs.find(&stored).await.unwrap().read(0..u64::MAX)));
        while let Some(part) = parts.next().await {
            size += part.unwrap().len();
        }
        assert_eq!(size, SIZE);
        let took = peak_bytes(false).saturating_sub(before);
        assert!(took < MOST, "{took} bytes for a document of {SIZE} with keys {ring:?}");
    }
}

/// Hashing and sealing take the processor for long: whoever shares the thread is not kept waiting for it.
#[tokio::test]
async fn who_stores_much_keeps_no_others_waiting() {
    for (ring, size) in [(None, 64 * 1024 * 1024), (Some("a1"), 16 * 1024 * 1024)] {
        let blobs = Blobs::on(Arc::new(object_store::memory::InMemory::new()), ring.map(keys));
        let storing = tokio::spawn(async move { blobs.put(vec![7; size].into()).await.unwrap() });
        let mut turns = 0;
        while !storing.is_finished() {
            tokio::task::yield_now().await;
            turns += 1;
        }
        assert!(turns > 1_000, "{turns} turns of another task on the one thread, with keys {ring:?}");
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
