//! The fonts that are shipped with the crate, ready to measure and to embed.
//!
//! It must never look for fonts on the machine: the same text has to look the same everywhere.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use krilla::Data;
use krilla::text::Font;
use rustybuzz::{Direction, Script, ShapePlan, ttf_parser};

use crate::slim::slim;

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

/// How letters are shaped, and which.
struct Plan {
    of: (Direction, Option<Script>),
    plan: ShapePlan,
}

/// One font, for measuring and for embedding.
pub(crate) struct Face {
    pub(crate) font: Font,
    pub(crate) shaper: rustybuzz::Face<'static>,
    /// How letters of a direction and a script are shaped. To find that out takes longer than to shape a word; there are only
    /// so many scripts.
    plans: Mutex<Vec<Arc<Plan>>>,
    /// Height of a capital letter, in parts of the font size.
    pub(crate) capital_em: f32,
    /// Whether it has all letters of plain English, which most texts are.
    pub(crate) covers_ascii: bool,
}

impl Face {
    /// Measures a font file, and embeds it without what PDFs have no use for.
    fn load(bytes: &'static [u8]) -> Option<Self> {
        Self::embedding(slim(bytes)?.into(), bytes)
    }

    /// The same where there is little to leave out of a large file, and a copy of it would be held for nothing.
    fn load_as_it_is(bytes: &'static [u8]) -> Option<Self> {
        Self::embedding(bytes.into(), bytes)
    }

    fn embedding(embedded: Data, bytes: &'static [u8]) -> Option<Self> {
        let font = Font::new(embedded, 0)?;
        let shaper = rustybuzz::Face::from_slice(bytes, 0)?;
        let capital_em = match shaper.capital_height() {
            Some(height) if height > 0 => f32::from(height) / f32::from(shaper.units_per_em() as u16),
            _ => 0.7,
        };
        let covers_ascii = (' '..='~').all(|letter| covers(&shaper, letter));
        Some(Self { font, shaper, plans: Mutex::default(), capital_em, covers_ascii })
    }

    /// Shapes letters of one direction and script.
    pub(crate) fn shape(&self, buffer: rustybuzz::UnicodeBuffer) -> rustybuzz::GlyphBuffer {
        let of = (buffer.direction(), Some(buffer.script()).filter(|script| *script != rustybuzz::script::UNKNOWN));
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let known = plans.iter().find(|plan| plan.of == of).cloned();
        let plan = known.unwrap_or_else(|| {
            let plan = Arc::new(Plan { of, plan: ShapePlan::new(&self.shaper, of.0, of.1, None, &[]) });
            plans.push(Arc::clone(&plan));
            plan
        });
        drop(plans);
        rustybuzz::shape_with_plan(&self.shaper, &plan.plan, buffer)
    }

    pub(crate) fn covers(&self, letter: char) -> bool {
        covers(&self.shaper, letter)
    }
}

fn covers(shaper: &rustybuzz::Face<'_>, letter: char) -> bool {
    shaper.glyph_index(letter).is_some_and(|glyph| glyph != ttf_parser::GlyphId(0))
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
            asian: Face::load_as_it_is(include_bytes!("../fonts/DroidSansFallback.ttf"))?,
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
