//! A store that is away for a while: it is said, and nothing is half done.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use countersign_envelope::blobs::{BlobError, Blobs};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::{content, digest, keys, listed, read};

/// A store in memory that can be switched off.
#[derive(Clone, Debug, Default)]
struct Flaky {
    store: Arc<InMemory>,
    is_away: Arc<AtomicBool>,
}

impl Flaky {
    fn away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    fn there(&self) -> Result<&InMemory> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Error::Generic { store: "flaky", source: "switched off".into() });
        }
        Ok(&self.store)
    }
}

impl fmt::Display for Flaky {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("flaky")
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.there()?.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.there()?.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.there()?.get_opts(at, options).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.there() {
            Ok(store) => store.delete_stream(at),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.there() {
            Ok(store) => store.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.there()?.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.there()?.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_named_and_then_goes_on() {
    for ring in ["", "a1"] {
        let store = Flaky::default();
        let blobs = Blobs::on(Arc::new(store.clone()), (!ring.is_empty()).then(|| keys(ring)));
        let bytes = content(700_000);
        let stored = blobs.put(bytes.clone()).await.unwrap();
        store.away(true);
        assert!(matches!(blobs.find(&stored).await, Err(BlobError::Away(_))), "not that it is missing");
        assert!(matches!(blobs.delete(&stored).await, Err(BlobError::Away(_))));
        assert!(blobs.put(content(10)).await.is_err());
        assert!(blobs.list().next().await.unwrap().is_err());
        store.away(false);
        assert_eq!(blobs.get(&stored).await.unwrap(), bytes);
        assert_eq!(listed(&blobs).await, [stored], "nothing was half done");
    }
}

#[tokio::test]
async fn a_store_that_goes_away_in_the_middle_ends_the_reading() {
    let store = Flaky::default();
    let blobs = Blobs::on(Arc::new(store.clone()), None);
    let bytes = content(2_000_000);
    let stored = blobs.put(bytes.clone()).await.unwrap();
    let mut parts = std::pin::pin!(blobs.find(&stored).await.unwrap().read(0..u64::MAX));
    let first = parts.next().await.unwrap().unwrap();
    store.away(true);
    assert!(matches!(parts.next().await.unwrap(), Err(BlobError::Away(_))));
    store.away(false);
    let (rest, ended) = read(&blobs, &stored, first.len() as u64..u64::MAX).await;
    ended.unwrap();
    assert_eq!([&first[..], &rest].concat(), bytes, "and it goes on where it broke off");
    assert_eq!(stored, digest(&bytes));
}
