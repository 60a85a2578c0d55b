//! A ZIP of files whose sizes and checksums are known: what stands around them, byte by byte. Nothing is packed, so that each file
//! lies in it as it is, and the same files give the same ZIP.
//!
//! Must never hold a file itself.

use bytes::{BufMut as _, Bytes, BytesMut};
use chrono::{DateTime, Datelike as _, Timelike as _, Utc};

/// A file of a ZIP.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name, which no other has.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// The CRC-32 of its bytes.
    pub crc32: u32,
}

/// What stands around the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Before each file.
    pub headers: Vec<Bytes>,
    /// After the last.
    pub directory: Bytes,
}

/// For readers that know no more than stored files with names in UTF-8.
const NEEDS: u16 = 20;
/// Made on Unix, so that the mode below is one.
const MADE_BY: u16 = (3 << 8) | NEEDS;
const UTF8: u16 = 1 << 11;
const MODE: u32 = 0o100_644 << 16;

/// The frame of a ZIP; none if it is too large for one that every program reads: 4 GiB, or 65,535 files.
#[must_use]
pub fn frame(members: &[Member], modified: DateTime<Utc>) -> Option<Frame> {
    let count = u16::try_from(members.len()).ok().filter(|count| *count < u16::MAX)?;
    let (mut headers, mut directory, mut offset) = (Vec::new(), BytesMut::new(), 0_u32);
    for member in members {
        let about = about(member, modified)?;
        let mut header = BytesMut::new();
        header.put_u32_le(0x0403_4b50);
        header.put_slice(&about);
        header.put_u16_le(0);
        header.put_slice(member.name.as_bytes());
        directory.put_u32_le(0x0201_4b50);
        directory.put_u16_le(MADE_BY);
        directory.put_slice(&about);
        // No more fields, no comment, on the first disk, nothing known of its content.
        directory.put_bytes(0, 8);
        directory.put_u32_le(MODE);
        directory.put_u32_le(offset);
        directory.put_slice(member.name.as_bytes());
        let taken = u32::try_from(header.len()).ok()?.checked_add(u32::try_from(member.size_bytes).ok()?)?;
        offset = offset.checked_add(taken).filter(|offset| *offset < u32::MAX)?;
        headers.push(header.freeze());
    }
    let size = u32::try_from(directory.len()).ok().filter(|size| offset.checked_add(*size).is_some())?;
    directory.put_u32_le(0x0605_4b50);
    directory.put_u32_le(0);
    directory.put_u16_le(count);
    directory.put_u16_le(count);
    directory.put_u32_le(size);
    directory.put_u32_le(offset);
    directory.put_u16_le(0);
    Some(Frame { headers, directory: directory.freeze() })
}

/// What a file's header and its entry in the directory say alike: from the version needed to the length of the name.
fn about(member: &Member, modified: DateTime<Utc>) -> Option<BytesMut> {
    let size = u32::try_from(member.size_bytes).ok().filter(|size| *size < u32::MAX)?;
    let (time, date) = dos(modified);
    let mut about = BytesMut::new();
    about.put_u16_le(NEEDS);
    about.put_u16_le(UTF8);
    // Stored as it is.
    about.put_u16_le(0);
    about.put_u16_le(time);
    about.put_u16_le(date);
    about.put_u32_le(member.crc32);
    about.put_u32_le(size);
    about.put_u32_le(size);
    about.put_u16_le(u16::try_from(member.name.len()).ok()?);
    Some(about)
}

/// A time as ZIPs have it: in steps of two seconds, from 1980.
fn dos(at: DateTime<Utc>) -> (u16, u16) {
    let year = at.year().clamp(1980, 2107) - 1980;
    let time = (at.hour() << 11) | (at.minute() << 5) | (at.second() / 2);
    let date = (year.unsigned_abs() << 9) | (at.month() << 5) | at.day();
    (u16::try_from(time).unwrap_or_default(), u16::try_from(date).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, content: &[u8]) -> Member {
        Member { name: name.to_owned(), size_bytes: content.len() as u64, crc32: crc32fast::hash(content) }
    }

    #[test]
    fn a_zip_that_is_too_large_is_none() {
        let at = DateTime::UNIX_EPOCH;
        let large = |size_bytes| Member { name: "a.pdf".into(), size_bytes, crc32: 0 };
        assert!(frame(&[large(u64::from(u32::MAX))], at).is_none());
        assert!(frame(&vec![large(1 << 30); 4], at).is_none());
        assert!(frame(&vec![large(1 << 30); 3], at).is_some());
        assert!(frame(&vec![large(1); usize::from(u16::MAX)], at).is_none());
    }

    #[test]
    fn times_are_those_of_the_format() {
        let at = "2026-11-21T18:05:59Z".parse().unwrap();
        assert_eq!(dos(at), ((18 << 11) | (5 << 5) | 29, (46 << 9) | (11 << 5) | 21));
        assert_eq!(dos(DateTime::UNIX_EPOCH).1 >> 9, 0, "before the format's time");
    }

    /// Read by another's program.
    #[test]
    fn what_is_made_is_read() {
        let files = [("Vertrag ä.pdf", b"first".as_slice()), ("empty.pdf", b""), ("third.pdf", &[7; 70_000])];
        let members: Vec<_> = files.iter().map(|(name, content)| member(name, content)).collect();
        let made = frame(&members, "2026-11-21T18:05:58Z".parse().unwrap()).unwrap();
        let mut zip = Vec::new();
        for (header, (_, content)) in made.headers.iter().zip(files) {
            zip.extend_from_slice(header);
            zip.extend_from_slice(content);
        }
        zip.extend_from_slice(&made.directory);
        let mut read = zip::ZipArchive::new(std::io::Cursor::new(zip)).unwrap();
        assert_eq!(read.len(), files.len());
        for (index, (name, content)) in files.iter().enumerate() {
            let mut file = read.by_index(index).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
            assert_eq!((file.name().unwrap().as_ref(), bytes.as_slice()), (*name, *content));
            assert_eq!(file.unix_mode(), Some(0o100_644));
        }
    }
}
