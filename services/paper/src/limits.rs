//! The limits a paper must keep, each with its name.
//!
//! It must never hold a limit that no code enforces.

use serde::{Deserialize, Serialize};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// How far into the file the `%PDF-` header may start, as other readers allow.
pub(crate) const HEADER_OFFSET_BYTES_MAX: usize = KIB;
/// How deep the page tree may nest.
pub(crate) const PAGE_TREE_DEPTH_MAX: usize = 64;
/// How many references in a row are followed to reach a value.
pub(crate) const REFERENCE_HOPS_MAX: usize = 8;
/// The highest number that an object of an upload may have: other readers count so far (ISO 32000-1, annex C).
pub(crate) const OBJECT_NUMBER_MAX: u32 = 8_388_607;
/// How many content streams one page may have.
pub(crate) const CONTENT_STREAMS_MAX: usize = 10_000;
/// How much one page may draw, inflated: all of it is read to find out in which state it leaves a reader.
pub(crate) const PAGE_CONTENT_BYTES_MAX: usize = 64 * MIB;
/// How much of one kind a page may leave open, or close that it did not open.
pub(crate) const UNBALANCED_MAX: usize = 1_000;
/// How deep lists and dictionaries may nest in what a page draws.
pub(crate) const CONTENT_DEPTH_MAX: usize = 100;
/// The shortest side of a page as displayed.
pub(crate) const PAGE_SIDE_PT_MIN: f64 = 3.0;
/// The longest side of a page as displayed: 200 inches.
pub(crate) const PAGE_SIDE_PT_MAX: f64 = 14_400.0;
/// How many characters of one value are drawn; what follows could not fit a page anyway.
pub(crate) const TEXT_CHARS_MAX: usize = 1_000;

/// How much of what a parser complains of is passed on.
pub(crate) const DETAIL_CHARS_MAX: usize = 200;

/// How many letters of one page are read; a page full of tiny print has some ten thousand.
pub(crate) const LETTERS_PER_PAGE_MAX: usize = 500_000;
/// How many markers a paper may have.
pub(crate) const MARKERS_MAX: usize = 1_000;
/// How long a marker may be.
pub(crate) const MARKER_CHARS_MAX: usize = 500;
/// How long the label of a recipient may be in it.
pub(crate) const MARKER_LABEL_CHARS_MAX: usize = 40;
/// How long the name of a field may be in it.
pub(crate) const MARKER_NAME_CHARS_MAX: usize = 100;
/// The longest side of a picture.
pub(crate) const PICTURE_SIDE_PX_MAX: u32 = 8_000;
/// How large a picture may be as PNG: it goes in one message, and many callers take messages of 4 MiB.
pub(crate) const PICTURE_BYTES_MAX: usize = 3 * MIB + MIB / 2;
/// How many pixels a picture may have.
pub(crate) const PICTURE_PIXELS_MAX: f64 = 8_000_000.0;

/// What an uploaded paper may cost. Anything beyond is refused by name, before it is worked on where possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Size of the file.
    pub bytes_max: usize,
    /// Number of pages.
    pub pages_max: usize,
    /// Number of objects in the file.
    pub objects_max: usize,
    /// Inflated size of any one stream that has to be inflated to read the file.
    pub stream_bytes_max: usize,
    /// Inflated size of the content of all pages together.
    pub content_bytes_max: usize,
}

impl Limits {
    /// The most that any configuration can allow; [`stamp()`](crate::stamp()) and [`refuse()`](crate::refuse()) work
    /// with it, because their papers have passed [`inspect()`](crate::inspect()) before.
    pub const CEILING: Self = Self {
        bytes_max: 256 * MIB,
        pages_max: 10_000,
        objects_max: 2_000_000,
        stream_bytes_max: 256 * MIB,
        content_bytes_max: 1024 * MIB,
    };

    /// These limits, none above [`Limits::CEILING`].
    pub(crate) fn under_ceiling(self) -> Self {
        Self {
            bytes_max: self.bytes_max.min(Self::CEILING.bytes_max),
            pages_max: self.pages_max.min(Self::CEILING.pages_max),
            objects_max: self.objects_max.min(Self::CEILING.objects_max),
            stream_bytes_max: self.stream_bytes_max.min(Self::CEILING.stream_bytes_max),
            content_bytes_max: self.content_bytes_max.min(Self::CEILING.content_bytes_max),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 25 * MIB,
            pages_max: 500,
            objects_max: 200_000,
            stream_bytes_max: 64 * MIB,
            content_bytes_max: 256 * MIB,
        }
    }
}
