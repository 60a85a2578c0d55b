//! Pictures of pages, drawn by a child process and kept for a while: people leaf back and forth.
//!
//! It must never hold more than its bound, nor the bytes of a document whose turn to be drawn has not come; nor take all children
//! from the documents that come in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_paper::{Limits, Picture, Unreadable};
use moka::Expiry;
use tokio::sync::{OnceCell, Semaphore};

use crate::blobs::Blobs;
use crate::domain::envelope::Digest;
use crate::worker::{WorkerError, Workers};

/// Bytes of pictures that are kept.
const KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What a picture is kept as takes besides its bytes.
const KEPT_BYTES_BESIDE: usize = 256;
/// For how long it is remembered that a page cannot be drawn: it may be that it took too long just then.
const REFUSED_KEPT: Duration = Duration::from_secs(5 * 60);
/// How long a picture waits until it may wait for a child …
const WAIT_MAX: Duration = Duration::from_secs(15);
/// … and somebody for a picture, whoever has it drawn.
const PATIENCE: Duration = Duration::from_secs(120);

/// Document, page and width.
type Name = (Digest, u32, u32);

/// What came of drawing it.
type Drawn = Result<Option<Arc<Picture>>, Unreadable>;

/// It is drawn once for all who wait for it.
type Drawing = Arc<OnceCell<Drawn>>;

/// All pictures.
#[derive(Clone)]
pub struct Pictures {
    blobs: Blobs,
    workers: Workers,
    places: Arc<Semaphore>,
    kept: moka::sync::Cache<Name, Drawing>,
}

/// Forgets refusals.
struct Refusals;

impl Expiry<Name, Drawing> for Refusals {
    fn expire_after_update(&self, _: &Name, drawing: &Drawing, _: Instant, left: Option<Duration>) -> Option<Duration> {
        if matches!(drawing.get(), Some(Err(_))) { Some(REFUSED_KEPT) } else { left }
    }
}

impl Pictures {
    /// Of documents in `blobs`, drawn by half of the children at most.
    #[must_use]
    pub fn new(blobs: Blobs, workers: Workers) -> Self {
        let weigh = |_: &Name, drawing: &Drawing| {
            let picture = drawing.get().and_then(|drawn| drawn.as_ref().ok()?.as_ref());
            let bytes = picture.map_or(0, |picture| picture.png.len());
            u32::try_from(bytes + KEPT_BYTES_BESIDE).unwrap_or(u32::MAX)
        };
        let kept = moka::sync::Cache::builder().weigher(weigh).expire_after(Refusals).max_capacity(KEPT_BYTES_MAX);
        let places = Arc::new(Semaphore::new((workers.at_once() / 2).max(1)));
        Self { blobs, workers, places, kept: kept.build() }
    }

    /// A page, counted from 1; none if the document does not have it.
    pub async fn get(&self, digest: Digest, page: u32, width_px: u32) -> Result<Option<Arc<Picture>>, WorkerError> {
        let name = (digest, page, width_px);
        let drawing = self.kept.get_with(name, Drawing::default);
        let mut is_new = false;
        let draw = async {
            is_new = true;
            match self.draw(name).await {
                Ok(picture) => Ok(Ok(picture.map(Arc::new))),
                Err(WorkerError::Refused(why)) => Ok(Err(why)),
                Err(unavailable) => Err(unavailable),
            }
        };
        let drawn = tokio::time::timeout(PATIENCE, drawing.get_or_try_init(|| draw)).await;
        let drawn = drawn.map_err(|_| busy())??.clone();
        if is_new {
            // It has a weight from now on.
            self.kept.insert(name, drawing);
        }
        Ok(drawn?)
    }

    async fn draw(&self, (digest, page, width_px): Name) -> Result<Option<Picture>, WorkerError> {
        let place = tokio::time::timeout(WAIT_MAX, self.places.acquire()).await;
        let _place = place.map_err(|_| busy())?.map_err(|_| busy())?;
        // What is kept has been accepted, under whatever limits the account had then.
        let content_bytes_max = Limits::default().content_bytes_max;
        let limits = Limits { content_bytes_max, ..Limits::CEILING };
        self.workers.render_page(self.blobs.get(&digest), (page, width_px), limits).await
    }
}

fn busy() -> WorkerError {
    WorkerError::Unavailable(anyhow::anyhow!("too many pictures wait"))
}
