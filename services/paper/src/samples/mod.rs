//! Sample contracts: real-looking papers for demonstrations and tests, the same bytes on every call.
//!
//! It must never name real people or companies.

mod nda;
mod raster;
mod rotated_scan;
mod services_agreement;
mod typeset;

use crate::apply::StampError;

pub use nda::nda;
pub use rotated_scan::rotated_scan;
pub use services_agreement::services_agreement;

/// A sample paper and the places in it that are to be filled.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// A name to save it under.
    pub file_name: &'static str,
    /// What is printed at its top.
    pub title: &'static str,
    /// The PDF.
    pub bytes: Vec<u8>,
    /// Where each party signs, in the order of the parties.
    pub blocks: Vec<SignatureBlock>,
}

/// The place where one party signs: the box stands on the printed signature line.
#[derive(Debug, Clone, PartialEq)]
pub struct SignatureBlock {
    /// The person whose name is printed in the block.
    pub signer: &'static str,
    /// The page, counted from 1.
    pub page: u32,
    /// Left edge in percent of the page's width.
    pub x_pct: f64,
    /// Top edge in percent of the page's height, from the top.
    pub y_pct: f64,
    /// Width in percent of the page's width.
    pub width_pct: f64,
    /// Height in percent of the page's height.
    pub height_pct: f64,
    /// The box on the printed date line of the same page.
    pub date: Area,
}

/// A box on a page, in percent of the page as displayed, origin top left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Left edge in percent of the page's width.
    pub x_pct: f64,
    /// Top edge in percent of the page's height, from the top.
    pub y_pct: f64,
    /// Width in percent of the page's width.
    pub width_pct: f64,
    /// Height in percent of the page's height.
    pub height_pct: f64,
}

/// All samples, shortest first.
///
/// # Errors
///
/// [`StampError`] only if the crate was built from damaged font files.
pub fn all() -> Result<Vec<Sample>, StampError> {
    Ok(vec![nda()?, rotated_scan()?, services_agreement()?])
}
