//! Documents out of the store, window by window: nothing more is held, and no connection is kept while a reader is slow.
//!
//! Must never give out the end of a document that is not what was stored.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt as _};
use object_store::path::Path as Key;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};

use super::cipher::{self, CHUNK_BYTES, HEADER_BYTES, Opener, SEALED_BYTES, TAG_BYTES, Unopened};
use super::{BlobError, Blobs, DocumentKeys, plain, sealed};
use crate::domain::envelope::Digest;

/// Chunks that are read at a time.
const WINDOW_CHUNKS: u64 = 8;
const WINDOW_BYTES: u64 = WINDOW_CHUNKS * CHUNK_BYTES as u64;

/// A document that was found in the store.
pub struct Blob {
    store: Arc<dyn ObjectStore>,
    key: Key,
    digest: Digest,
    size: u64,
    opener: Option<Opener>,
}

impl Blobs {
    /// Looks for a document. Of a sealed one it is certain from then on that its size and its chunks are the document's.
    pub async fn find(&self, digest: &Digest) -> Result<Blob, BlobError> {
        // Where there are no keys nothing is sealed, unless keys were lost.
        let first = if self.keys.is_some() { sealed } else { plain };
        let second = if self.keys.is_some() { plain } else { sealed };
        match self.find_at(digest, first(digest)).await {
            Err(BlobError::Missing(_)) => self.find_at(digest, second(digest)).await,
            found => found,
        }
    }

    async fn find_at(&self, digest: &Digest, key: Key) -> Result<Blob, BlobError> {
        let is_sealed = key.as_ref().ends_with(super::ENCRYPTED);
        let about = self.store.head(&key).await.map_err(|error| lost(digest, error))?;
        let (store, digest, size) = (Arc::clone(&self.store), *digest, about.size);
        let mut blob = Blob { store, key, digest, size, opener: None };
        if is_sealed {
            blob.size = cipher::plain_size(size).ok_or_else(|| blob.changed())?;
            let header = blob.fetch(0..HEADER_BYTES as u64).await?;
            let trailer = blob.fetch(size - TAG_BYTES as u64..size).await?;
            let opener = self.opener(&blob, &header)?;
            if !opener.is(&digest, blob.size, &trailer) {
                return Err(blob.changed());
            }
            blob.opener = Some(opener);
        }
        Ok(blob)
    }

    fn opener(&self, blob: &Blob, header: &[u8]) -> Result<Opener, BlobError> {
        let no_key = |id| BlobError::NoKey { digest: hex::encode(blob.digest), id };
        let Some(keys) = self.keys.as_deref() else {
            return Err(cipher::key_id(header).map_or_else(|| blob.changed(), |id| no_key(id.to_owned())));
        };
        DocumentKeys::open(keys, header).map_err(|why| match why {
            Unopened::NoHeader => blob.changed(),
            Unopened::NoKey(id) => no_key(id),
        })
    }
}

impl Blob {
    /// How large the document is.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The document in memory: for those that are worked on as a whole.
    pub async fn whole(self) -> Result<Bytes, BlobError> {
        let size = usize::try_from(self.size).map_err(|_| self.changed())?;
        let mut whole = BytesMut::with_capacity(size);
        let all = 0..self.size;
        let mut parts = std::pin::pin!(self.read(all));
        while let Some(part) = parts.try_next().await? {
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }

    /// That range of it. A document that is not sealed is read from its beginning to its end whatever the range, as
    /// only all of it has a hash; of a sealed one only the chunks that are wanted.
    pub fn read(self, range: Range<u64>) -> impl Stream<Item = Result<Bytes, BlobError>> + Send + 'static {
        async_stream::try_stream! {
            let wanted = range.start.min(self.size)..range.end.min(self.size);
            let whole = 0..self.size;
            let mut hash = Sha256::new();
            let mut at = if self.opener.is_some() { wanted.start - wanted.start % CHUNK_BYTES as u64 } else { 0 };
            let end = if self.opener.is_some() { wanted.end } else { whole.end };
            // Also nothing is checked, but what is sealed has been.
            while self.opener.is_none() || !wanted.is_empty() {
                let window = at..(at + WINDOW_BYTES).min(whole.end);
                let bytes = match &self.opener {
                    Some(opener) => self.opened(opener, window.clone()).await?,
                    None => self.checked(&mut hash, window.clone()).await?,
                };
                let part = wanted.start.max(window.start)..wanted.end.min(window.end);
                if part.start < part.end {
                    yield cut(&bytes, window.start, &part);
                }
                at = window.end;
                if at >= end {
                    break;
                }
            }
        }
    }

    /// A window of a document that is not sealed; the last only if all of it was what it was.
    async fn checked(&self, hash: &mut Sha256, window: Range<u64>) -> Result<Bytes, BlobError> {
        let is_last = window.end == self.size;
        let bytes = if window.is_empty() { Bytes::new() } else { self.fetch(window).await? };
        hash.update(&bytes);
        if is_last && Digest::from(std::mem::take(hash).finalize()) != self.digest {
            return Err(self.changed());
        }
        Ok(bytes)
    }

    /// A window of a sealed document.
    async fn opened(&self, opener: &Opener, window: Range<u64>) -> Result<Bytes, BlobError> {
        let (all, first) = (cipher::chunks(self.size), window.start / CHUNK_BYTES as u64);
        let last = window.end.div_ceil(CHUNK_BYTES as u64).max(first + 1);
        let at = |chunk: u64| HEADER_BYTES as u64 + chunk * SEALED_BYTES as u64;
        let end = if last == all { at(0) + self.size + all * TAG_BYTES as u64 } else { at(last) };
        let mut sealed = Vec::from(self.fetch(at(first)..end).await?);
        let mut plain = BytesMut::with_capacity(sealed.len());
        for (number, chunk) in (first..).zip(sealed.chunks_mut(SEALED_BYTES)) {
            let opened = opener.chunk(number, number + 1 == all, chunk).ok_or_else(|| self.changed())?;
            plain.extend_from_slice(opened);
        }
        Ok(plain.freeze())
    }

    /// A range of what is stored.
    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, BlobError> {
        let length = range.end - range.start;
        let range = Some(GetRange::Bounded(range));
        let options = GetOptions { range, ..GetOptions::default() };
        let found = self.store.get_opts(&self.key, options).await.map_err(|error| lost(&self.digest, error))?;
        let bytes = found.bytes().await.map_err(|error| lost(&self.digest, error))?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(self.changed()) }
    }

    fn changed(&self) -> BlobError {
        BlobError::Changed(hex::encode(self.digest))
    }
}

/// That part of a window that begins there.
fn cut(window: &Bytes, at: u64, part: &Range<u64>) -> Bytes {
    let place = |to: u64| usize::try_from(to - at).unwrap_or(usize::MAX).min(window.len());
    window.slice(place(part.start)..place(part.end))
}

fn lost(digest: &Digest, error: StoreError) -> BlobError {
    match error {
        StoreError::NotFound { .. } => BlobError::Missing(hex::encode(digest)),
        error => BlobError::Away(error),
    }
}
