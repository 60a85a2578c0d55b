//! The fonts that are shipped with the crate, ready to measure and to embed.
//!
//! It must never look for fonts on the machine: the same text has to look the same everywhere.

use std::sync::LazyLock;

use krilla::text::Font;
use rustybuzz::ttf_parser;

/// Which shipped font is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaceName {
    /// Typed values and captions; also stands in where another face lacks a letter.
    Sans,
    /// Body text of the samples.
    Serif,
    /// Headings of the samples.
    SerifBold,
    /// Signatures and initials.
    Script,
    /// Chinese, Japanese and Korean, wherever the wanted face and the sans lack a letter.
    Asian,
}

/// One font, for measuring and for embedding.
pub(crate) struct Face {
    pub(crate) font: Font,
    pub(crate) shaper: rustybuzz::Face<'static>,
    /// Height of a capital letter, in parts of the font size.
    pub(crate) capital_em: f32,
}

impl Face {
    fn load(bytes: &'static [u8]) -> Option<Self> {
        let font = Font::new(bytes.into(), 0)?;
        let shaper = rustybuzz::Face::from_slice(bytes, 0)?;
        let capital_em = match shaper.capital_height() {
            Some(height) if height > 0 => f32::from(height) / f32::from(shaper.units_per_em() as u16),
            _ => 0.7,
        };
        Some(Self { font, shaper, capital_em })
    }

    pub(crate) fn covers(&self, letter: char) -> bool {
        self.shaper.glyph_index(letter).is_some_and(|glyph| glyph != ttf_parser::GlyphId(0))
    }
}

/// All shipped fonts.
pub(crate) struct Faces {
    sans: Face,
    serif: Face,
    serif_bold: Face,
    script: Face,
    asian: Face,
}

impl Faces {
    /// The fonts, parsed once; none only if the crate was built from damaged font files.
    pub(crate) fn get() -> Option<&'static Self> {
        static FACES: LazyLock<Option<Faces>> = LazyLock::new(Faces::load);
        FACES.as_ref()
    }

    fn load() -> Option<Self> {
        Some(Self {
            sans: Face::load(include_bytes!("../fonts/DejaVuSansCondensed.ttf"))?,
            serif: Face::load(include_bytes!("../fonts/PTSerif-Regular.ttf"))?,
            serif_bold: Face::load(include_bytes!("../fonts/PTSerif-Bold.ttf"))?,
            script: Face::load(include_bytes!("../fonts/MarckScript-Regular.ttf"))?,
            asian: Face::load(include_bytes!("../fonts/DroidSansFallback.ttf"))?,
        })
    }

    /// The face in which a letter is drawn where `wanted` is asked for; the sans draws an empty box for what none has.
    pub(crate) fn for_letter(&self, wanted: FaceName, letter: char) -> FaceName {
        let known = [wanted, FaceName::Sans, FaceName::Asian].into_iter().find(|name| self.face(*name).covers(letter));
        known.unwrap_or(FaceName::Sans)
    }

    pub(crate) fn face(&self, name: FaceName) -> &Face {
        match name {
            FaceName::Sans => &self.sans,
            FaceName::Serif => &self.serif,
            FaceName::SerifBold => &self.serif_bold,
            FaceName::Script => &self.script,
            FaceName::Asian => &self.asian,
        }
    }
}
