//! Font files without what no reader of a PDF looks at: the names of their glyphs, and most of what they say of themselves.
//!
//! It must never change a glyph, its measures or its number, nor leave out who made the font and under which licence.

/// What stays: the copyright, the name by which programs call it, the trademark, and where the licence is.
const NAMES_KEPT: [u16; 4] = [0, 6, 7, 14];
/// Names for the platform whose names are Unicode in all fonts.
const WINDOWS: u16 = 3;
const NAME_BYTES: usize = 12;
/// As long as a table of glyph names is that has none.
const POST_BYTES: u32 = 32;
const POST_WITHOUT_NAMES: u32 = 0x0003_0000;

/// A copy of a font file of one face, as long as before, in which the tables say less. None if it is no such file.
///
/// What is cut out of the copy is packed and written into each paper: a licence in full is longer than fifty letters.
pub(crate) fn slim(file: &[u8]) -> Option<Vec<u8>> {
    let mut slim = file.to_vec();
    keep_names(&mut slim)?;
    forget_glyph_names(&mut slim)?;
    Some(slim)
}

/// Where a table is noted, and where it is.
fn table(file: &[u8], tag: [u8; 4]) -> Option<(usize, usize)> {
    const ENTRY_BYTES: usize = 16;
    let entries = (0..usize::from(u16_at(file, 4)?)).map(|index| 12 + ENTRY_BYTES * index);
    let mut found = entries.filter(|entry| file.get(*entry..entry + tag.len()) == Some(&tag));
    let entry = found.next()?;
    Some((entry, u32_at(file, entry + 8)? as usize))
}

/// Leaves the other names out of the list; their letters are then nobody's.
fn keep_names(file: &mut [u8]) -> Option<()> {
    let (_, start) = table(file, *b"name")?;
    let (format, count) = (u16_at(file, start)?, u16_at(file, start + 2)?);
    if format != 0 {
        return None;
    }
    let (first, mut kept) = (start + 6, 0);
    for index in 0..usize::from(count) {
        let record = first + NAME_BYTES * index;
        if u16_at(file, record)? == WINDOWS && NAMES_KEPT.contains(&u16_at(file, record + 6)?) {
            file.copy_within(record..record + NAME_BYTES, first + NAME_BYTES * kept);
            kept += 1;
        }
    }
    put(file, start + 2, &u16::try_from(kept).ok()?.to_be_bytes())
}

/// Glyphs go by their numbers in a PDF.
fn forget_glyph_names(file: &mut [u8]) -> Option<()> {
    let (entry, start) = table(file, *b"post")?;
    put(file, start, &POST_WITHOUT_NAMES.to_be_bytes())?;
    put(file, entry + 12, &POST_BYTES.to_be_bytes())
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(file.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(file.get(at..at + 4)?.try_into().ok()?))
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    file.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustybuzz::ttf_parser::{Face, GlyphId, OutlineBuilder, name_id};

    use super::*;

    const FILE: &[u8] = include_bytes!("../fonts/PTSerif-Bold.ttf");

    /// Everything that is drawn, as text.
    #[derive(Default)]
    struct Drawn(String);

    impl OutlineBuilder for Drawn {
        fn move_to(&mut self, x: f32, y: f32) {
            self.0 += &format!("M{x} {y}");
        }
        fn line_to(&mut self, x: f32, y: f32) {
            self.0 += &format!("L{x} {y}");
        }
        fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
            self.0 += &format!("Q{x1} {y1} {x} {y}");
        }
        fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
            self.0 += &format!("C{x1} {y1} {x2} {y2} {x} {y}");
        }
        fn close(&mut self) {
            self.0 += "Z";
        }
    }

    fn drawn(face: &Face<'_>) -> Vec<(String, Option<u16>, Option<i16>)> {
        let glyphs = (0..face.number_of_glyphs()).map(GlyphId);
        let of = |glyph| {
            let mut drawn = Drawn::default();
            face.outline_glyph(glyph, &mut drawn);
            (drawn.0, face.glyph_hor_advance(glyph), face.glyph_hor_side_bearing(glyph))
        };
        glyphs.map(of).collect()
    }

    #[test]
    fn glyphs_stay_as_they_were() {
        let slim = slim(FILE).unwrap();
        let (before, after) = (Face::parse(FILE, 0).unwrap(), Face::parse(&slim, 0).unwrap());
        assert!(drawn(&before).iter().any(|(drawn, ..)| drawn.len() > 100));
        assert_eq!(drawn(&before), drawn(&after));
        assert_eq!((before.ascender(), before.italic_angle()), (after.ascender(), after.italic_angle()));
    }

    #[test]
    fn who_made_the_font_and_under_which_licence_stays_in_it() {
        let slim = slim(FILE).unwrap();
        let face = Face::parse(&slim, 0).unwrap();
        let names: Vec<(u16, String)> =
            face.names().into_iter().filter_map(|name| Some((name.name_id, name.to_string()?))).collect();
        let name = |id| names.iter().find(|(found, _)| *found == id).map(|(_, name)| name.as_str());
        assert_eq!(name(name_id::COPYRIGHT_NOTICE), Some("Copyright © 2010 ParaType Ltd. All rights reserved."));
        assert_eq!(name(name_id::POST_SCRIPT_NAME), Some("PTSerif-Bold"));
        assert_eq!(name(name_id::LICENSE_URL), Some("http://scripts.sil.org/OFL_web"));
        assert_eq!(names.len(), NAMES_KEPT.len());
        assert_eq!(face.glyph_name(GlyphId(36)), None);
    }

    #[test]
    fn what_is_no_font_is_none() {
        assert!(slim(b"").is_none() && slim(b"no font at all, but long enough").is_none());
    }
}
