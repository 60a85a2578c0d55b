//! Pictures of pages, drawn by a child process and kept for a while: people leaf back and forth.
//!
//! It must never hold more than its bound, nor the bytes of a document whose turn to be drawn has not come.

use std::sync::Arc;

use countersign_paper::{Limits, Picture};

use crate::blobs::Blobs;
use crate::domain::envelope::Digest;
use crate::worker::{WorkerError, Workers};

/// Bytes of pictures that are kept.
const KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What a picture is kept as takes besides its bytes.
const KEPT_BYTES_BESIDE: usize = 256;

/// Document, page and width.
type Name = (Digest, u32, u32);

/// All pictures.
#[derive(Clone)]
pub struct Pictures {
    blobs: Blobs,
    workers: Workers,
    kept: moka::sync::Cache<Name, Arc<Picture>>,
}

impl Pictures {
    /// Of documents in `blobs`.
    #[must_use]
    pub fn new(blobs: Blobs, workers: Workers) -> Self {
        let weigh =
            |_: &Name, picture: &Arc<Picture>| u32::try_from(picture.png.len() + KEPT_BYTES_BESIDE).unwrap_or(u32::MAX);
        Self { blobs, workers, kept: moka::sync::Cache::builder().weigher(weigh).max_capacity(KEPT_BYTES_MAX).build() }
    }

    /// A page, counted from 1; none if the document does not have it.
    pub async fn get(&self, digest: Digest, page: u32, width_px: u32) -> Result<Option<Arc<Picture>>, WorkerError> {
        if let Some(kept) = self.kept.get(&(digest, page, width_px)) {
            return Ok(Some(kept));
        }
        // What is kept has been accepted, under whatever limits the account had then.
        let content_bytes_max = Limits::default().content_bytes_max;
        let limits = Limits { content_bytes_max, ..Limits::CEILING };
        let drawn = self.workers.render_page(self.blobs.get(&digest), (page, width_px), limits).await?;
        let picture = drawn.map(Arc::new);
        if let Some(picture) = &picture {
            self.kept.insert((digest, page, width_px), Arc::clone(picture));
        }
        Ok(picture)
    }
}
