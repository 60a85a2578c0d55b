//! Pictures of pages for portals that draw no PDF themselves.

use countersign::v1::{ErrorReason, PagePicture};
use countersign_chassis::problem::Problem;
use tonic::Status;

use super::parse::Faults;
use super::status::{no_version, purged, unavailable};
use crate::domain::envelope::{Document, Envelope};
use crate::pictures::Pictures;
use crate::worker::WorkerError;

/// How wide a picture is that nobody asked to be of a certain width, and may be at most.
const WIDTH_PX_DEFAULT: u32 = 1_000;
const WIDTH_PX_MAX: u32 = 2_000;

/// A page of a document as people sign it.
pub(super) async fn of(
    pictures: &Pictures,
    (envelope, document): (&Envelope, &Document),
    page: u32,
    width_px: u32,
) -> Result<PagePicture, Status> {
    // It may still be kept here, and lies in the store for a while.
    if envelope.keeping.is_purged() {
        return Err(purged(envelope.status()));
    }
    if !document.is_read() {
        return Err(no_version(envelope.status()));
    }
    let mut faults = Faults::default();
    if page == 0 || page > document.page_count {
        faults.add("page", format!("must be 1 to {}", document.page_count));
    }
    if width_px > WIDTH_PX_MAX {
        faults.add("width_px", format!("must be at most {WIDTH_PX_MAX}"));
    }
    faults.finish()?;
    let width_px = if width_px == 0 { WIDTH_PX_DEFAULT } else { width_px };
    match pictures.get(document.sha256, page, width_px).await {
        Ok(Some(picture)) => Ok(PagePicture {
            png: picture.png.clone().into(),
            width_px: picture.width_px,
            height_px: picture.height_px,
            document_sha256: hex::encode(document.sha256),
        }),
        Ok(None) => Err(Problem::not_found().into()),
        // It was accepted as a paper, and yet cannot be drawn: the file itself can be downloaded.
        Err(WorkerError::Refused(why)) => {
            let problem = Problem::new(ErrorReason::PageNotDrawable, format!("The page cannot be drawn: {why}."));
            Err(problem.with("fault", why.name()).into())
        }
        Err(WorkerError::Unavailable(why)) => Err(unavailable(&why)),
    }
}
