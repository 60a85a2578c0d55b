//! Makes a picture of a page, as a reader would show it.
//!
//! It must never make a picture whose size the document decides.

use hayro::hayro_interpret::InterpreterSettings;
use hayro::hayro_interpret::hayro_syntax::Pdf;
use hayro::hayro_interpret::hayro_syntax::page::Page;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings};
use serde::{Deserialize, Serialize};

use crate::inspect::{self, Unreadable};
use crate::limits::{Limits, PICTURE_BYTES_MAX, PICTURE_PIXELS_MAX, PICTURE_SIDE_PX_MAX};

/// How often a picture is made smaller.
const ATTEMPTS_MAX: usize = 4;

/// A picture of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// The picture as PNG.
    #[serde(skip)]
    pub png: Vec<u8>,
    /// Its width; less than asked for if the page is so high or so full that the picture would be too large.
    pub width_px: u32,
    /// Its height.
    pub height_px: u32,
}

/// Draws a page, counted from 1, `width_px` wide; none if there is no such page.
///
/// # Errors
///
/// [`Unreadable`] if it is no paper.
pub fn render_page(bytes: &[u8], page: u32, width_px: u32, limits: &Limits) -> Result<Option<Picture>, Unreadable> {
    let opened = inspect::open(bytes, limits)?;
    crate::ingest::limit_content(&opened.document, &opened.pages, limits)?;
    let sizes = inspect::sizes(&opened.pages);
    drop(opened);
    let Some(size) = (page as usize).checked_sub(1).and_then(|index| sizes.get(index)) else { return Ok(None) };
    let pdf = Pdf::new(bytes.to_vec()).map_err(|_| Unreadable::broken("its pages cannot be drawn"))?;
    let drawable = pdf.pages().get(page as usize - 1).filter(|_| pdf.pages().len() == sizes.len());
    let drawable = drawable.ok_or_else(|| Unreadable::broken("readers do not agree on its pages"))?;
    let (cache, mut width_px) = (RenderCache::new(), width_px);
    for _ in 0..ATTEMPTS_MAX {
        let picture = draw(drawable, &cache, picture_size(size.width_pt, size.height_pt, width_px))?;
        if picture.png.len() <= PICTURE_BYTES_MAX {
            return Ok(Some(picture));
        }
        // Photographs of paper hardly shrink: fewer pixels do.
        let share = (PICTURE_BYTES_MAX as f64 / picture.png.len() as f64).sqrt();
        width_px = (f64::from(picture.width_px) * share * 0.9) as u32;
    }
    Err(Unreadable::broken("its picture cannot be made"))
}

fn draw<'a>(
    page: &'a Page<'a>,
    cache: &RenderCache<'a>,
    (width_px, height_px): (u32, u32),
) -> Result<Picture, Unreadable> {
    let (width, height) = page.render_dimensions();
    // A little more than asked for, because the fraction is cut off.
    let scale = |pixels: u32, side: f32| (pixels as f32 + 0.01) / side;
    let settings =
        PixmapSettings { x_scale: scale(width_px, width), y_scale: scale(height_px, height), bg_color: WHITE };
    let (interpreter, renderer) = (InterpreterSettings::default(), RenderSettings::default());
    let picture = hayro::render(page, cache, &interpreter, &renderer, &settings);
    let (width_px, height_px) = (u32::from(picture.width()), u32::from(picture.height()));
    let png = picture.into_png().map_err(|_| Unreadable::broken("its picture cannot be made"))?;
    Ok(Picture { png, width_px, height_px })
}

/// As wide as asked for and as high as the page then is, within the limits.
fn picture_size(width_pt: f64, height_pt: f64, width_px: u32) -> (u32, u32) {
    let wanted = f64::from(width_px.clamp(1, PICTURE_SIDE_PX_MAX));
    let ratio = height_pt / width_pt;
    let widest = (PICTURE_PIXELS_MAX / ratio).sqrt().min(f64::from(PICTURE_SIDE_PX_MAX) / ratio);
    let width = wanted.min(widest).max(1.0);
    let height = (width * ratio).round().clamp(1.0, f64::from(PICTURE_SIDE_PX_MAX));
    (width.round() as u32, height as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_the_shape_of_the_page_within_the_limits() {
        assert_eq!(picture_size(595.0, 842.0, 595), (595, 842));
        assert_eq!(picture_size(842.0, 595.0, 1000), (1000, 707));
        assert_eq!(picture_size(3.0, 14_400.0, 2000), (2, 8000));
        assert_eq!(picture_size(14_400.0, 3.0, 2000), (2000, 1));
        let (width, height) = picture_size(100.0, 400.0, 100_000);
        assert!(f64::from(width * height) <= PICTURE_PIXELS_MAX && height > 4 * width - 5, "{width} x {height}");
    }
}
