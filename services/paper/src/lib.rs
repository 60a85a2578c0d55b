//! Paper: PDF bytes in, PDF bytes out.
//!
//! The crate looks at an uploaded PDF ([`inspect()`]) and makes of it what is kept ([`ingest()`]), draws the filled values on
//! its pages or watermarks it when somebody declined, with a certificate behind its last page ([`complete()`]), makes the
//! certificate alone ([`certificate()`]), seals papers ([`seal()`], [`seal_complete()`]), says what became of a sealed one
//! ([`verify()`]), and makes sample contracts ([`samples`]).
//!
//! It must never know an envelope, a database, the network, the clock or an async runtime: the same bytes in always
//! give the same bytes out.

mod alike;
mod apply;
mod balance;
mod certificate;
mod combine;
mod complete;
mod delta;
mod draw;
mod faces;
mod geometry;
mod hand;
mod ingest;
mod inspect;
mod limits;
mod line;
mod markers;
mod overlay;
mod pack;
mod pages;
mod picture;
mod refuse;
mod render;
mod revocation;
mod runs;
pub mod samples;
mod seal;
mod signed;
mod slim;
mod stamp;
mod verify;
pub mod worker;
mod wrap;

pub use apply::StampError;
pub use certificate::{Certificate, Fact, Listed, Mood, Party, Reason, Step, Tone, certificate};
pub use combine::combine;
pub use complete::{Completion, complete};
pub use geometry::Rotation;
pub use hand::{Drawing, Strokes};
pub use ingest::{Ingested, Note, Policy, ingest};
pub use inspect::{Inspection, PageSize, Unreadable, inspect};
pub use limits::Limits;
pub use markers::{FieldKind, Marker, MarkerFault, MarkerFlaw, Markings, OPTIONS, PercentBox, markers};
pub use picture::{BadPicture, PICTURE_HEIGHT_PX_MAX, PICTURE_WIDTH_PX_MAX, check_picture};
pub use refuse::{Refusal, refuse};
pub use render::{Picture, render_page};
pub use revocation::{Finding, Good, Issued, Path, Unfit, Validation};
pub use seal::{
    Algorithm, AlreadySigned, BadChain, BaseDigest, Identity, Level, Prepared, SealError, SealKind, SealOptions,
    Sealed, TimestampRequest, Unsealed, seal, seal_complete,
};
pub use signed::can_keep_signatures;
pub use stamp::{Mark, MarkContent, StampOptions, stamp};
pub use verify::{
    CertificateFacts, Fault, Later, Role, Roots, SignatureFacts, TimestampFacts, TokenFault, Trust, Verification,
    verify,
};
