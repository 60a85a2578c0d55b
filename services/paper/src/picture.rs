//! Reads the picture of a signature: PNG or JPEG in, pixels out, without anything else that the file says.
//!
//! It must never trust the file: its size is known before a pixel is read, and nothing of it is passed on as it is.

use std::io::Cursor;

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The widest picture.
pub const PICTURE_WIDTH_PX_MAX: u32 = 2_000;
/// The highest picture.
pub const PICTURE_HEIGHT_PX_MAX: u32 = 1_000;
/// What decoding may take besides the pixels.
const DECODER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Whatever is lighter than this shows nothing.
const PAPER_GREY: u8 = 250;
const CHANNELS: usize = 4;

/// Why a picture cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPicture {
    /// The bytes begin neither like a PNG nor like a JPEG.
    #[error("is neither PNG nor JPEG")]
    Unknown,
    /// It has more pixels than allowed.
    #[error("has {width} x {height} pixels, at most 2000 x 1000 are allowed")]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// It cannot be read to its end.
    #[error("is damaged")]
    Broken,
    /// There is nothing on it.
    #[error("shows nothing: it is white or transparent all over")]
    Blank,
}

/// Pixels, with red, green, blue and opacity of each.
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) rgba: Vec<u8>,
}

/// Whether a picture can stand for a signature.
///
/// # Errors
///
/// [`BadPicture`] says why not.
pub fn check_picture(bytes: &[u8]) -> Result<(), BadPicture> {
    read(bytes).map(|_| ())
}

/// The picture without the empty margins around what it shows.
pub(crate) fn read(bytes: &[u8]) -> Result<Picture, BadPicture> {
    let whole = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png(bytes)?
    } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        jpeg(bytes)?
    } else {
        return Err(BadPicture::Unknown);
    };
    trimmed(&whole).ok_or(BadPicture::Blank)
}

fn within(width: u32, height: u32) -> Result<(), BadPicture> {
    let fits = width <= PICTURE_WIDTH_PX_MAX && height <= PICTURE_HEIGHT_PX_MAX;
    if fits { Ok(()) } else { Err(BadPicture::TooLarge { width, height }) }
}

fn png(bytes: &[u8]) -> Result<Picture, BadPicture> {
    let limits = png::Limits { bytes: DECODER_BYTES_MAX };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(|_| BadPicture::Broken)?;
    let (width, height) = reader.info().size();
    within(width, height)?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or(BadPicture::Broken)?];
    let frame = reader.next_frame(&mut pixels).map_err(|_| BadPicture::Broken)?;
    pixels.truncate(frame.buffer_size());
    let rgba: Vec<u8> = match frame.color_type {
        png::ColorType::Rgba => pixels,
        png::ColorType::Rgb => pixels.chunks_exact(3).flat_map(|it| [it[0], it[1], it[2], 255]).collect(),
        png::ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|it| [it[0], it[0], it[0], it[1]]).collect(),
        png::ColorType::Grayscale => pixels.iter().flat_map(|grey| [*grey, *grey, *grey, 255]).collect(),
        png::ColorType::Indexed => return Err(BadPicture::Broken),
    };
    complete(width, height, rgba)
}

fn jpeg(bytes: &[u8]) -> Result<Picture, BadPicture> {
    let options = DecoderOptions::default()
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|_| BadPicture::Broken)?;
    let (width, height) = decoder.dimensions().ok_or(BadPicture::Broken)?;
    let (width, height) = (u32::try_from(width).unwrap_or(u32::MAX), u32::try_from(height).unwrap_or(u32::MAX));
    within(width, height)?;
    let pixels = decoder.decode().map_err(|_| BadPicture::Broken)?;
    complete(width, height, pixels.chunks_exact(3).flat_map(|it| [it[0], it[1], it[2], 255]).collect())
}

fn complete(width: u32, height: u32, rgba: Vec<u8>) -> Result<Picture, BadPicture> {
    let expected = width as usize * height as usize * CHANNELS;
    if rgba.len() == expected && expected > 0 { Ok(Picture { width, height, rgba }) } else { Err(BadPicture::Broken) }
}

/// The part that shows something.
fn trimmed(whole: &Picture) -> Option<Picture> {
    let row_bytes = whole.width as usize * CHANNELS;
    let is_ink = |pixel: &[u8]| pixel[3] > 255 - PAPER_GREY && pixel[..3].iter().any(|channel| *channel < PAPER_GREY);
    let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
    for (y, row) in whole.rgba.chunks_exact(row_bytes).enumerate() {
        let mut inked = row.chunks_exact(CHANNELS).enumerate().filter(|(_, pixel)| is_ink(pixel)).map(|(x, _)| x);
        if let Some(first) = inked.next() {
            left = left.min(first);
            right = right.max(inked.next_back().unwrap_or(first) + 1);
            (top, bottom) = (top.min(y), y + 1);
        }
    }
    let rows = whole.rgba.chunks_exact(row_bytes).take(bottom).skip(top);
    let rgba: Vec<u8> = rows.flat_map(|row| &row[left * CHANNELS..right * CHANNELS]).copied().collect();
    let (width, height) = (right.saturating_sub(left) as u32, bottom.saturating_sub(top) as u32);
    (width > 0 && height > 0).then_some(Picture { width, height, rgba })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A PNG of this colour all over, with a dark pixel at each of these places.
    fn png_with(width: u32, height: u32, ground: [u8; 4], dark: &[(u32, u32)]) -> Vec<u8> {
        let mut pixels: Vec<u8> = ground.repeat((width * height) as usize);
        for (x, y) in dark {
            let at = ((y * width + x) * 4) as usize;
            pixels[at..at + 4].copy_from_slice(&[10, 20, 30, 255]);
        }
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgba);
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        file
    }

    #[test]
    fn empty_margins_are_cut_away() {
        for ground in [[255, 255, 255, 255], [0, 0, 0, 0]] {
            let picture = read(&png_with(50, 30, ground, &[(10, 5), (29, 14)])).unwrap();
            assert_eq!((picture.width, picture.height), (20, 10));
            assert_eq!(picture.rgba[..4], [10, 20, 30, 255]);
        }
    }

    #[test]
    fn what_is_no_signature_is_refused_by_name() {
        assert_eq!(check_picture(&png_with(9, 9, [255; 4], &[])), Err(BadPicture::Blank));
        assert_eq!(check_picture(b"GIF89a"), Err(BadPicture::Unknown));
        assert_eq!(check_picture(b""), Err(BadPicture::Unknown));
        let wide = png_with(2_001, 1, [255; 4], &[(0, 0)]);
        assert_eq!(check_picture(&wide), Err(BadPicture::TooLarge { width: 2_001, height: 1 }));
        let high = png_with(1, 1_001, [255; 4], &[(0, 0)]);
        assert_eq!(check_picture(&high), Err(BadPicture::TooLarge { width: 1, height: 1_001 }));
        assert!(check_picture(&png_with(2_000, 1_000, [255; 4], &[(0, 0)])).is_ok());
    }

    #[test]
    fn cut_and_changed_files_never_panic() {
        let whole = png_with(40, 40, [255; 4], &[(3, 3), (30, 30)]);
        for end in 0..whole.len() {
            let _ = check_picture(&whole[..end]);
            let mut changed = whole.clone();
            changed[end] ^= 0xff;
            let _ = check_picture(&changed);
        }
        assert_eq!(check_picture(&[0xff, 0xd8, 0xff, 0xe0, 0, 16]), Err(BadPicture::Broken));
    }
}
