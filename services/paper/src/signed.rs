//! Says of a paper that was signed before whether its signatures can stay as good as they are.
//!
//! It must never say so where a seal would have to write the paper anew, or where nothing may follow.

use crate::delta;
use crate::inspect::{self, Opened, Unreadable};
use crate::limits::Limits;
use crate::seal::earlier;
use crate::verify::{Roots, SignatureFacts, verify};

/// The word before the places that a signature covers. It stands in the plain: places are written in after the rest.
const RANGE: &[u8] = b"ByteRange";

/// Whether somebody signed a paper, at least one of the signatures holds, and a seal behind them leaves them as good as they
/// were. It does as long as nothing else is done to the paper: whatever is drawn on a page voids them.
///
/// # Errors
///
/// [`Unreadable`] if the paper cannot be read.
///
/// ```
/// let sample = countersign_paper::samples::nda().unwrap();
/// assert!(!countersign_paper::can_keep_signatures(&sample.bytes).unwrap());
/// ```
pub fn can_keep_signatures(bytes: &[u8]) -> Result<bool, Unreadable> {
    // Most papers are not signed, and need not be read for that.
    if !bytes.windows(RANGE.len()).any(|window| window == RANGE) {
        return Ok(false);
    }
    let Opened { document, .. } = inspect::open(bytes, &Limits::CEILING)?;
    let earlier = earlier::standing(&document);
    if !earlier.is_signed || earlier.allows_nothing || !delta::can_be_continued(bytes, &document) {
        return Ok(false);
    }
    // What does not hold is not worth an undrawn page. Whom anybody trusts does not matter for that.
    let found = verify(bytes, &Limits::CEILING, &Roots::default(), 0)?;
    Ok(found.signatures.iter().any(SignatureFacts::is_intact))
}
