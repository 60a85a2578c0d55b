//! Document bytes, kept by their SHA-256: storing twice is storing once, and what is read is checked before its end is given out.
//!
//! Must never show half of a document: what is being written has no address before it is whole.

mod cipher;
mod place;
mod read;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{Stream, TryStreamExt as _};
use moka::sync::Cache;
use object_store::path::Path as Key;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt as _};

pub use self::cipher::DocumentKeys;
pub use self::place::Place;
pub use self::read::Blob;
pub use self::write::hashed;
use crate::domain::envelope::Digest;

/// How the name of an encrypted document ends.
const ENCRYPTED: &str = ".aes";
/// Remembered checksums.
const CHECKSUMS_MAX: u64 = 10_000;

/// Why a document cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store does not answer, or refuses.
    #[error("the document store does not serve")]
    Away(#[source] StoreError),
    /// The folder of what is being written cannot be looked at.
    #[error("the document folder does not serve")]
    Folder(#[source] std::io::Error),
    /// Nothing lies there.
    #[error("a document is not in the store: {0}")]
    Missing(String),
    /// What lies there is not what was stored.
    #[error("a stored document has changed: {0}")]
    Changed(String),
    /// It was stored under a key that the service does not have.
    #[error("a stored document needs the key `{id}`, which is not in the ring: {digest}")]
    NoKey {
        /// The document.
        digest: String,
        /// The id of the key.
        id: String,
    },
}

/// What lies in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The document's SHA-256.
    pub digest: Digest,
    /// When it was last written.
    pub last_modified: DateTime<Utc>,
}

/// The bytes of all documents.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    keys: Option<Arc<DocumentKeys>>,
    /// Checksums of documents that were asked for: what has a hash as its address never changes.
    checksums: Cache<Digest, u32>,
    /// Where they are if they are in a folder.
    folder: Option<PathBuf>,
}

impl Blobs {
    /// In that place, sealed if there are keys.
    pub fn open(place: &Place, keys: Option<DocumentKeys>) -> anyhow::Result<Self> {
        let folder = match place {
            Place::Folder(folder) => Some(folder.clone()),
            Place::Bucket(_) => None,
        };
        Ok(Self { folder, ..Self::on(place.open()?, keys) })
    }

    /// In a local folder, which is made if it is not there.
    pub fn local(folder: &Path) -> anyhow::Result<Self> {
        Self::open(&Place::Folder(folder.to_owned()), None)
    }

    /// In that store.
    #[must_use]
    pub fn on(store: Arc<dyn ObjectStore>, keys: Option<DocumentKeys>) -> Self {
        Self { store, keys: keys.map(Arc::new), checksums: Cache::new(CHECKSUMS_MAX), folder: None }
    }

    /// Stores bytes and says their hash. What is stored already stays as it is, if it can be read.
    pub async fn put(&self, bytes: Bytes) -> anyhow::Result<Digest> {
        let digest = hashed(&bytes).await?;
        self.put_known(digest, bytes).await
    }

    /// The same for who knows the hash. It is not looked at again: under another nobody could read them.
    pub async fn put_known(&self, digest: Digest, bytes: Bytes) -> anyhow::Result<Digest> {
        Ok(self.put_whole(digest, bytes).await?)
    }

    /// The bytes of that hash; an error if they are not there or not what they were.
    pub async fn get(&self, digest: &Digest) -> anyhow::Result<Bytes> {
        Ok(self.find(digest).await?.whole().await?)
    }

    /// The CRC-32 of a document, for those who put it into a ZIP.
    pub async fn crc32(&self, digest: &Digest) -> Result<u32, BlobError> {
        if let Some(known) = self.checksums.get(digest) {
            return Ok(known);
        }
        let blob = self.find(digest).await?;
        let all = 0..blob.size();
        let (mut windows, mut hasher) = (std::pin::pin!(blob.read(all)), crc32fast::Hasher::new());
        while let Some(window) = windows.try_next().await? {
            hasher.update(&window);
        }
        let checksum = hasher.finalize();
        self.checksums.insert(*digest, checksum);
        Ok(checksum)
    }

    /// Forgets a document. That it is not there is no error.
    pub async fn delete(&self, digest: &Digest) -> Result<(), BlobError> {
        for key in [sealed(digest), plain(digest)] {
            match self.store.delete(&key).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(BlobError::Away(error)),
            }
        }
        Ok(())
    }

    /// Everything in the store, in no order; a document may come twice if it lies there sealed and plain. What is still
    /// being written is not in it.
    pub fn list(&self) -> impl Stream<Item = Result<Listed, BlobError>> + Send + 'static {
        let listed = |meta: ObjectMeta| {
            let digest = digest_of(&meta.location)?;
            Some(Listed { digest, last_modified: meta.last_modified })
        };
        let found = self.store.list(None).map_err(BlobError::Away);
        found.try_filter_map(move |meta| std::future::ready(Ok(listed(meta))))
    }

    /// Forgets what was begun before that time and never became a document, as of a process that was killed; says how many. A
    /// bucket has a document whole or not at all; a folder has it under another name first, of which its listing says nothing.
    pub async fn forget_unfinished(&self, before: DateTime<Utc>) -> Result<usize, BlobError> {
        let Some(folder) = self.folder.clone() else { return Ok(0) };
        let looked_through = tokio::task::spawn_blocking(move || forget_unfinished(&folder, before)).await;
        looked_through.map_err(std::io::Error::other).flatten().map_err(BlobError::Folder)
    }
}

fn forget_unfinished(folder: &Path, before: DateTime<Utc>) -> std::io::Result<usize> {
    let mut forgotten = 0;
    for first in std::fs::read_dir(folder)? {
        let first = first?;
        if !first.file_type()?.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(first.path())? {
            let entry = entry?;
            let name = [first.file_name(), entry.file_name()].map(|name| name.to_string_lossy().into_owned());
            // What gets its own name just now is gone in the next moment.
            let Ok(modified) = entry.metadata().and_then(|about| about.modified()) else { continue };
            let is_old = DateTime::<Utc>::from(modified) < before;
            if is_old && is_unfinished(&name.join("/")) && std::fs::remove_file(entry.path()).is_ok() {
                forgotten += 1;
            }
        }
    }
    Ok(forgotten)
}

/// Whether the local store writes a document under that name before it gives it its own.
fn is_unfinished(name: &str) -> bool {
    let Some((name, number)) = name.rsplit_once('#') else { return false };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && digest_of(&Key::from(name)).is_some()
}

/// Two levels, so that no folder grows without bound.
fn plain(digest: &Digest) -> Key {
    let name = hex::encode(digest);
    let (first, rest) = name.split_at(2);
    Key::from(format!("{first}/{rest}"))
}

fn sealed(digest: &Digest) -> Key {
    Key::from(format!("{}{ENCRYPTED}", plain(digest)))
}

/// What lies under a name; none if it is not one of ours.
fn digest_of(key: &Key) -> Option<Digest> {
    let (first, rest) = key.as_ref().split_once('/')?;
    let rest = rest.strip_suffix(ENCRYPTED).unwrap_or(rest);
    let mut digest = Digest::default();
    let is_ours = first.len() == 2 && hex::decode_to_slice(format!("{first}{rest}"), &mut digest).is_ok();
    is_ours.then_some(digest)
}
