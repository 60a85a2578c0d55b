//! Reads which bytes of a file a signature is about.
//!
//! It must never take a range with anything but the signature's own digits in its gap: what hides there is not signed.

use lopdf::{Dictionary, Document, Object};

use super::cms::hex_bytes;
use crate::pages::follow;

/// What is signed and by what.
pub(super) struct Signed<'a> {
    /// The bytes before and behind the gap.
    pub(super) parts: [&'a [u8]; 2],
    /// Where they end.
    pub(super) end: usize,
    /// What stands in the gap.
    pub(super) contents: Vec<u8>,
}

pub(super) fn read<'a>(file: &'a [u8], document: &Document, signature: &Dictionary) -> Option<Signed<'a>> {
    let range = follow(document, signature.get(b"ByteRange").ok())?.as_array().ok()?;
    let numbers = range.iter().map(|number| usize::try_from(number.as_i64().ok()?).ok());
    let [0, opens, closes, more] = *numbers.collect::<Option<Vec<usize>>>()?.as_slice() else { return None };
    let end = closes.checked_add(more).filter(|end| *end <= file.len())?;
    let gap = file.get(opens..closes)?;
    // Others look for the digits where the range says; they have to be what they are called.
    if !file[..opens].trim_ascii_end().ends_with(b"/Contents") {
        return None;
    }
    let digits = gap.strip_prefix(b"<")?.strip_suffix(b">")?;
    let contents = hex_bytes(digits)?;
    // The digits in the gap are the ones that the signature itself has, not those of another.
    let own = follow(document, signature.get(b"Contents").ok())?;
    let Object::String(own, _) = own else { return None };
    let parts = [&file[..opens], &file[closes..end]];
    (*own == contents && opens > 0 && more > 0).then_some(Signed { parts, end, contents })
}
