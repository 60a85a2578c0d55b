//! Documents into the store: at once, or as they come. What comes is hashed on its way to a place of its own and gets its
//! address when it is whole.

use bytes::{Bytes, BytesMut};
use countersign_chassis::keys::{random, sha256};
use futures_util::{Stream, StreamExt as _};
use object_store::path::Path as Key;
use object_store::{
    Error as StoreError, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, WriteMultipart,
};
use sha2::{Digest as _, Sha256};

use super::cipher::{Exhausted, SEALED_BYTES, Sealer};
use super::{BlobError, Blobs, STAGING, plain, sealed};
use crate::domain::envelope::Digest;

/// Size of the parts in which a document goes into the store: the least that S3 takes.
const PART_BYTES: usize = 5 * 1024 * 1024;
/// Parts on their way to the store at a time.
const PARTS_MAX: usize = 2;

/// A document that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its SHA-256, by which it is found again.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
}

/// Why a document was not stored.
#[derive(Debug)]
pub enum WriteError<E> {
    /// It did not come to its end.
    Source(E),
    /// The store did not take it.
    Store(BlobError),
}

impl Blobs {
    pub(super) async fn put_whole(&self, bytes: Bytes) -> Result<Digest, BlobError> {
        let digest = sha256(&bytes);
        let size = bytes.len() as u64;
        let mut sealer = self.sealer()?;
        let (key, payload) = match sealer.take() {
            Some(sealer) => (sealed(&digest), seal(sealer, &bytes, &digest)?),
            None => (plain(&digest), PutPayload::from_bytes(bytes)),
        };
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&key, payload.clone(), create).await {
            Ok(_) => Ok(digest),
            // What lies there may be of a key that was lost, or cut off: then this is the chance to mend it.
            Err(StoreError::AlreadyExists { .. }) if self.holds(&digest, size).await? => Ok(digest),
            Err(StoreError::AlreadyExists { .. }) => {
                self.store.put(&key, payload).await.map_err(BlobError::Away)?;
                Ok(digest)
            }
            Err(error) => Err(BlobError::Away(error)),
        }
    }

    /// Stores what comes, holding no more than some parts of it, and says what it was. A stream that fails or is dropped
    /// leaves nothing that could be found.
    pub async fn put_stream<E>(
        &self,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Stored, WriteError<E>> {
        let staged = Key::from(format!("{STAGING}/{}", hex::encode(random::<16>())));
        let upload = self.store.put_multipart(&staged).await.map_err(away)?;
        let mut writing = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let stored = match self.write(&mut writing, bytes).await {
            Ok(stored) => stored,
            Err(error) => {
                // It failed for the first reason, which is the one to tell.
                let _ = writing.abort().await;
                return Err(error);
            }
        };
        writing.finish().await.map_err(away)?;
        self.publish(&staged, &stored).await.map_err(WriteError::Store)?;
        Ok(stored)
    }

    async fn write<E>(
        &self,
        writing: &mut WriteMultipart,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Stored, WriteError<E>> {
        let mut bytes = std::pin::pin!(bytes);
        let mut sealer = self.sealer().map_err(WriteError::Store)?;
        let (mut hash, mut size_bytes) = (Sha256::new(), 0);
        while let Some(some) = bytes.next().await {
            let some = some.map_err(WriteError::Source)?;
            hash.update(&some);
            size_bytes += some.len() as u64;
            match &mut sealer {
                Some(sealer) => {
                    let mut sealed = BytesMut::with_capacity(some.len() + SEALED_BYTES);
                    sealer.push(&some, &mut sealed).map_err(too_long)?;
                    writing.put(sealed.freeze());
                }
                None => writing.put(some),
            }
            writing.wait_for_capacity(PARTS_MAX).await.map_err(away)?;
        }
        let digest = Digest::from(hash.finalize());
        if let Some(sealer) = sealer {
            let mut end = BytesMut::new();
            sealer.finish(&digest, &mut end).map_err(too_long)?;
            writing.put(end.freeze());
        }
        Ok(Stored { digest, size_bytes })
    }

    /// Gives what is whole its address. What lies there already and can be read stays: somebody may be reading it.
    async fn publish(&self, staged: &Key, stored: &Stored) -> Result<(), BlobError> {
        let key = if self.keys.is_some() { sealed(&stored.digest) } else { plain(&stored.digest) };
        let published = if self.lies_at(&key).await? && self.holds(&stored.digest, stored.size_bytes).await? {
            self.store.delete(staged).await
        } else {
            self.store.rename(staged, &key).await
        };
        published.map_err(BlobError::Away)
    }

    async fn lies_at(&self, key: &Key) -> Result<bool, BlobError> {
        match self.store.head(key).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(BlobError::Away(error)),
        }
    }

    /// Whether the document is there, can be opened and has its size.
    async fn holds(&self, digest: &Digest, size: u64) -> Result<bool, BlobError> {
        match self.find(digest).await {
            Ok(blob) => Ok(blob.size() == size),
            Err(BlobError::Missing(_) | BlobError::Changed(_) | BlobError::NoKey { .. }) => Ok(false),
            Err(away) => Err(away),
        }
    }

    fn sealer(&self) -> Result<Option<Sealer>, BlobError> {
        let Some(keys) = self.keys.as_deref() else { return Ok(None) };
        keys.seal().map(Some).ok_or_else(|| BlobError::Away(cannot_seal()))
    }
}

fn seal(mut sealer: Sealer, bytes: &[u8], digest: &Digest) -> Result<PutPayload, BlobError> {
    let mut out = BytesMut::with_capacity(bytes.len() + bytes.len() / 1_024 + SEALED_BYTES);
    let done = sealer.push(bytes, &mut out).and_then(|()| sealer.finish(digest, &mut out));
    done.map_err(|Exhausted| BlobError::Away(cannot_seal()))?;
    Ok(PutPayload::from_bytes(out.freeze()))
}

fn cannot_seal() -> StoreError {
    StoreError::Generic { store: "documents", source: "cannot be sealed".into() }
}

fn too_long<E>(_: Exhausted) -> WriteError<E> {
    WriteError::Store(BlobError::Away(cannot_seal()))
}

fn away<E>(error: StoreError) -> WriteError<E> {
    WriteError::Store(BlobError::Away(error))
}
