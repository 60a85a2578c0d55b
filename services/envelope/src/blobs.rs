//! Document bytes, kept by their SHA-256: storing twice is storing once, and what is read is checked.

use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use countersign_chassis::keys::sha256;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use crate::domain::envelope::Digest;

/// The bytes of all documents.
#[derive(Clone)]
pub struct Blobs {
    store: std::sync::Arc<dyn ObjectStore>,
}

impl Blobs {
    /// In a local folder, which is made if it is not there.
    pub fn local(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("document folder {}", folder.display()))?;
        let store = LocalFileSystem::new_with_prefix(folder)
            .with_context(|| format!("document folder {}", folder.display()))?
            .with_fsync(true);
        Ok(Self { store: std::sync::Arc::new(store) })
    }

    /// Stores bytes and says their hash. What is stored already stays as it is.
    pub async fn put(&self, bytes: Bytes) -> anyhow::Result<Digest> {
        let digest = sha256(&bytes);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&key(&digest), PutPayload::from_bytes(bytes), options).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(digest),
            Err(error) => Err(error).context("storing a document"),
        }
    }

    /// The bytes of that hash; an error if they are not there or not what they were.
    pub async fn get(&self, digest: &Digest) -> anyhow::Result<Bytes> {
        let found = self.store.get(&key(digest)).await.context("reading a document")?;
        let bytes = found.bytes().await.context("reading a document")?;
        anyhow::ensure!(sha256(&bytes) == *digest, "a stored document has changed: {}", hex::encode(digest));
        Ok(bytes)
    }
}

/// Two levels, so that no folder grows without bound.
fn key(digest: &Digest) -> Key {
    let name = hex::encode(digest);
    let (first, rest) = name.split_at(2);
    Key::from(format!("{first}/{rest}"))
}
