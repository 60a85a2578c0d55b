//! What happens to a document in its store: changed, cut off, exchanged. It is found before the end is given out.

use countersign_envelope::blobs::BlobError;

use crate::{LARGE, content, digest, files, folder, read};

/// Damages the only file there and reads it.
async fn after(ring: &str, damage: impl Fn(&mut Vec<u8>)) -> (usize, BlobError) {
    let place = tempfile::tempdir().unwrap();
    let blobs = folder(place.path(), ring);
    let bytes = content(LARGE);
    let digest = blobs.put(bytes.clone()).await.unwrap();
    let file = files(place.path()).pop().unwrap();
    let mut stored = std::fs::read(&file).unwrap();
    damage(&mut stored);
    std::fs::write(&file, stored).unwrap();
    assert!(blobs.get(&digest).await.is_err());
    let (told, ended) = read(&blobs, &digest, 0..u64::MAX).await;
    assert!(told.len() < LARGE, "the end is not given out");
    if !ring.is_empty() {
        assert!(bytes.starts_with(&told), "and of a sealed one nothing that is wrong");
    }
    (told.len(), ended.unwrap_err())
}

#[tokio::test]
async fn a_changed_document_is_not_given_out() {
    for ring in ["", "a1"] {
        for at in [0, 70, 70_000, 524_288 + 100, LARGE - 1] {
            let (_, error) = after(ring, |stored| stored[at] ^= 1).await;
            assert!(matches!(error, BlobError::Changed(_)), "{ring:?} {at}: {error:?}");
        }
        for cut in [1, 16, 17, 65_552, 600_000, LARGE - 100, LARGE - 10] {
            let (_, error) = after(ring, |stored| stored.truncate(stored.len() - cut)).await;
            assert!(matches!(error, BlobError::Changed(_)), "{ring:?} -{cut}: {error:?}");
        }
        let (_, error) = after(ring, |stored| stored.extend_from_slice(b"more")).await;
        assert!(matches!(error, BlobError::Changed(_)), "{ring:?}: {error:?}");
        let (_, error) = after(ring, Vec::clear).await;
        assert!(matches!(error, BlobError::Changed(_)), "{ring:?}: {error:?}");
    }
    // Of a sealed one the chunk says it, so that what is sound comes first.
    let (told, _) = after("a1", |stored| stored[LARGE - 1_000] ^= 1).await;
    assert!(told >= 2 * 512 * 1024, "{told}");
}

/// One document's bytes in the place of another's: also where both are ours, and of one size.
#[tokio::test]
async fn an_exchanged_document_is_not_given_out() {
    for ring in ["", "a1"] {
        let place = tempfile::tempdir().unwrap();
        let blobs = folder(place.path(), ring);
        let (one, other) = (content(LARGE), content(LARGE).iter().rev().copied().collect::<Vec<u8>>());
        let one = blobs.put(one).await.unwrap();
        let [file] = &files(place.path())[..] else { panic!() };
        let other = blobs.put(other.into()).await.unwrap();
        let exchanged = files(place.path()).into_iter().find(|it| it != file).unwrap();
        std::fs::copy(file, exchanged).unwrap();
        assert!(blobs.get(&one).await.is_ok());
        for range in [0..u64::MAX, 10..20, LARGE as u64 - 1..u64::MAX] {
            let (told, ended) = read(&blobs, &other, range.clone()).await;
            assert!(matches!(ended, Err(BlobError::Changed(_))), "{ring:?} {range:?}: {ended:?}");
            assert!(told.len() < LARGE);
            assert!(ring.is_empty() || told.is_empty(), "of a sealed one it is known before the first byte");
        }
    }
}

/// While somebody reads, the file is written anew by somebody who may not.
#[tokio::test]
async fn what_changes_under_a_reader_is_noticed() {
    use futures_util::StreamExt as _;
    for ring in ["", "a1"] {
        let place = tempfile::tempdir().unwrap();
        let blobs = folder(place.path(), ring);
        let digest = blobs.put(content(LARGE)).await.unwrap();
        let mut parts = std::pin::pin!(blobs.find(&digest).await.unwrap().read(0..u64::MAX));
        parts.next().await.unwrap().unwrap();
        let file = files(place.path()).pop().unwrap();
        let mut stored = std::fs::read(&file).unwrap();
        stored[LARGE - 5] ^= 1;
        std::fs::write(&file, stored).unwrap();
        let mut ended = Ok(());
        while let Some(part) = parts.next().await {
            ended = ended.and(part.map(drop));
        }
        assert!(matches!(ended, Err(BlobError::Changed(_))), "{ring:?}: {ended:?}");
    }
}

/// The same document again is the chance to mend what can be seen to be broken.
#[tokio::test]
async fn a_document_that_comes_again_is_mended() {
    for ring in ["", "a1"] {
        let place = tempfile::tempdir().unwrap();
        let blobs = folder(place.path(), ring);
        let bytes = content(LARGE);
        let digest = blobs.put(bytes.clone()).await.unwrap();
        let file = files(place.path()).pop().unwrap();
        let stored = std::fs::read(&file).unwrap();
        std::fs::write(&file, &stored[..1_000]).unwrap();
        blobs.put(bytes.clone()).await.unwrap();
        assert_eq!(blobs.get(&digest).await.unwrap(), bytes);
    }
    assert_ne!(digest(b"a"), digest(b"b"));
}
