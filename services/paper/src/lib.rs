//! Paper: PDF bytes in, PDF bytes out.
//!
//! The crate looks at an uploaded PDF ([`inspect()`]), draws the filled values on its pages ([`stamp()`]), watermarks it
//! when somebody declined ([`refuse()`]), seals it ([`seal()`]), says what became of a sealed one ([`verify()`]) and makes
//! sample contracts ([`samples`]).
//!
//! It must never know an envelope, a database, the network, the clock or an async runtime: the same bytes in always
//! give the same bytes out.

mod apply;
mod balance;
mod delta;
mod draw;
mod faces;
mod geometry;
mod inspect;
mod limits;
mod line;
mod overlay;
mod pages;
mod refuse;
pub mod samples;
mod seal;
mod stamp;
mod verify;

pub use apply::StampError;
pub use geometry::Rotation;
pub use inspect::{Inspection, PageSize, Unreadable, inspect};
pub use limits::Limits;
pub use refuse::{Refusal, refuse};
pub use seal::{
    Algorithm, AlreadySigned, BadChain, BaseDigest, Identity, Level, Prepared, SealError, SealKind, SealOptions,
    Sealed, TimestampRequest, Unsealed, seal,
};
pub use stamp::{Mark, MarkContent, StampOptions, stamp};
pub use verify::{
    CertificateFacts, Fault, Later, Role, Roots, SignatureFacts, TimestampFacts, TokenFault, Trust, Verification, verify,
};
