//! Documents into the store.
//!
//! Must never take the place of what lies there already and can be read: somebody may be reading it.

use bytes::{Bytes, BytesMut};
use countersign_chassis::keys::sha256;
use object_store::{Error as StoreError, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use super::cipher::{Exhausted, SEALED_BYTES, Sealer};
use super::{BlobError, Blobs, plain, sealed};
use crate::domain::envelope::Digest;

/// What is hashed and encrypted where calls are served, too; more is done beside, as it takes the processor for long.
const IN_PLACE_BYTES_MAX: usize = 256 * 1024;

/// The hash by which bytes are stored.
pub async fn hashed(bytes: &Bytes) -> Result<Digest, BlobError> {
    let same = bytes.clone();
    beside(bytes.len(), move || sha256(&same)).await
}

impl Blobs {
    pub(super) async fn put_whole(&self, digest: Digest, bytes: Bytes) -> Result<Digest, BlobError> {
        let size = bytes.len() as u64;
        let (key, payload) = match self.sealer()? {
            Some(sealer) => {
                let sealing = beside(bytes.len(), move || seal(sealer, &bytes, &digest));
                (sealed(&digest), sealing.await??)
            }
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

/// What many bytes take is computed on a thread that serves no calls.
async fn beside<T: Send + 'static>(bytes: usize, compute: impl FnOnce() -> T + Send + 'static) -> Result<T, BlobError> {
    if bytes <= IN_PLACE_BYTES_MAX {
        return Ok(compute());
    }
    let computed = tokio::task::spawn_blocking(compute).await;
    computed.map_err(|source| BlobError::Away(StoreError::JoinError { source }))
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
