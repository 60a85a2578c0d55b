//! Writes the signature dictionary with room for what is known only when the rest of the file is.
//!
//! It must never leave a byte between the two halves of the signed range that is not a digit of the signature.

use std::ops::Range;
use std::time::Duration;

use der::DateTime;
use lopdf::{Object, Writer, text_string};

use super::timestamp::TIMESTAMP_BYTES_MAX;
use super::{SealError, SealKind, SealOptions};

/// What the attribute of a timestamp takes beside the token.
const ATTRIBUTE_BYTES: usize = 64;
/// Characters of a name or a reason that are written.
const TEXT_CHARS_MAX: usize = 200;
/// What the dictionary mostly takes beside that.
const WORDS_BYTES: usize = 1024;
/// Room for one number of the range: offsets of files up to 10 GB.
const NUMBER_CHARS: usize = 10;

/// The dictionary and where its holes are.
pub(super) struct Dictionary {
    pub(super) bytes: Vec<u8>,
    range: Range<usize>,
    contents: Range<usize>,
}

/// Where the holes are in a longer text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    /// The three numbers of the range behind its first.
    pub(super) range: Range<usize>,
    /// The digits of the signature between the angle brackets.
    pub(super) contents: Range<usize>,
}

impl Dictionary {
    /// The holes, if the dictionary starts there.
    pub(super) fn at(&self, start: usize) -> Gap {
        let moved = |range: &Range<usize>| range.start + start..range.end + start;
        Gap { range: moved(&self.range), contents: moved(&self.contents) }
    }
}

/// The numbers of the range, filled up with blanks.
pub(super) fn range_text(numbers: [usize; 3]) -> Vec<u8> {
    numbers.map(|number| format!(" {number:<NUMBER_CHARS$}")).concat().into_bytes()
}

/// With room for a CMS of that size, and for a timestamp in it if there is to be one.
pub(super) fn write(options: &SealOptions, cms_bytes: usize) -> Result<Dictionary, SealError> {
    let room_bytes = cms_bytes + if options.timestamped { TIMESTAMP_BYTES_MAX + ATTRIBUTE_BYTES } else { 0 };
    let at = DateTime::from_unix_duration(Duration::from_secs(options.sealed_at_unix_s)).map_err(SealError::compose)?;
    let mut bytes = Vec::with_capacity(2 * room_bytes + WORDS_BYTES);
    bytes.extend_from_slice(b"<</Type/Sig/Filter/Adobe.PPKLite/SubFilter/ETSI.CAdES.detached");
    let (year, month, day) = (at.year(), at.month(), at.day());
    let (hour, minute, second) = (at.hour(), at.minutes(), at.seconds());
    bytes.extend(format!("/M(D:{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z)").into_bytes());
    for (key, text) in [("/Name", &options.name), ("/Reason", &options.reason)] {
        if let Some(text) = text {
            bytes.extend_from_slice(key.as_bytes());
            let short: String = text.chars().take(TEXT_CHARS_MAX).collect();
            write_object(&mut bytes, &text_string(&short))?;
        }
    }
    if options.kind == SealKind::Certification {
        bytes.extend_from_slice(b"/Reference[<</Type/SigRef/TransformMethod/DocMDP");
        bytes.extend_from_slice(b"/TransformParams<</Type/TransformParams/P 2/V/1.2>>>>]");
    }
    bytes.extend_from_slice(b"/ByteRange[0");
    let range = bytes.len()..bytes.len() + range_text([0; 3]).len();
    bytes.extend(range_text([0; 3]));
    bytes.extend_from_slice(b"]/Contents<");
    let contents = bytes.len()..bytes.len() + 2 * room_bytes;
    bytes.resize(contents.end, b'0');
    bytes.extend_from_slice(b">\n>>");
    Ok(Dictionary { bytes, range, contents })
}

fn write_object(bytes: &mut Vec<u8>, object: &Object) -> Result<(), SealError> {
    Writer::write_object(bytes, object).map_err(SealError::compose)
}
