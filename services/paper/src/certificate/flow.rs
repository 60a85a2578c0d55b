//! Lays slabs on pages: as many as needed, each with its head and its foot.
//!
//! It must never tear a slab, nor leave a heading alone at the end of a page.

use std::rc::Rc;

use krilla::surface::Surface;

use super::Certificate;
use super::sections;
use super::slab::{HAIRLINE, SOFT, Slab, Style};
use crate::draw;
use crate::faces::Faces;
use crate::overlay::Sheet;

/// A4, upright.
pub(crate) const PAGE_PT: (f32, f32) = (595.28, 841.89);
pub(super) const MARGIN_PT: f32 = 48.0;
/// The room for slabs across the page.
pub(super) const WIDTH_PT: f32 = PAGE_PT.0 - 2.0 * MARGIN_PT;
const TOP_PT: f32 = 62.0;
const BOTTOM_PT: f32 = 782.0;
const SMALL: Style = Style::sans(7.2, SOFT);

/// A page with what lies on it.
pub(crate) struct Laid {
    head: Slab,
    foot: Slab,
    /// Slabs and where their tops are.
    slabs: Vec<(f32, Rc<Slab>)>,
    note: Option<String>,
}

impl Laid {
    /// The page as something to draw.
    pub(crate) fn sheet<'a>(&'a self, faces: &'a Faces) -> Sheet<'a> {
        let draw = move |surface: &mut Surface<'_>| {
            self.head.draw(faces, surface, MARGIN_PT, 0.0);
            for (top, slab) in &self.slabs {
                slab.draw(faces, surface, MARGIN_PT, *top);
            }
            for (top, slab) in &self.slabs {
                slab.draw_marks(faces, surface, MARGIN_PT, *top);
            }
            self.foot.draw(faces, surface, MARGIN_PT, 0.0);
            if let Some(note) = &self.note {
                draw::note(faces, surface, PAGE_PT.0, draw::NOTE_BASELINE_PT, note);
            }
        };
        Sheet { size_pt: (f64::from(PAGE_PT.0), f64::from(PAGE_PT.1)), draw: Box::new(draw) }
    }
}

/// The pages of a certificate.
pub(crate) fn pages(faces: &Faces, certificate: &Certificate) -> Vec<Laid> {
    let laid = lay(sections::parts(faces, certificate));
    let count = laid.len();
    let page = |(index, slabs)| {
        let (head, foot) = (head(faces, certificate, index), foot(faces, certificate, index + 1, count));
        Laid { head, foot, slabs, note: certificate.note.clone() }
    };
    laid.into_iter().enumerate().map(page).collect()
}

type Placed = Vec<(f32, Rc<Slab>)>;

/// Puts the slabs on pages, the heading of a part again where it goes on.
fn lay(parts: Vec<Vec<Slab>>) -> Vec<Placed> {
    let (mut pages, mut page, mut top): (Vec<Placed>, Placed, f32) = (Vec::new(), Vec::new(), TOP_PT);
    for part in parts {
        let (mut repeated, mut slabs) = (None, part.into_iter());
        while let Some(slab) = slabs.next() {
            // What must stand together is tried together; what is longer than a page is not.
            let mut group = vec![slab];
            while group.last().is_some_and(|slab| slab.keeps_next)
                && let Some(next) = slabs.next()
            {
                group.push(next);
            }
            let height: f32 = group.iter().map(|slab| slab.height).sum();
            let is_high = height > BOTTOM_PT - TOP_PT;
            if top + height > BOTTOM_PT && !is_high && !page.is_empty() {
                (pages, page, top) = turned(pages, page, repeated.as_ref());
            }
            for slab in group {
                if top + slab.height > BOTTOM_PT && !page.is_empty() {
                    (pages, page, top) = turned(pages, page, repeated.as_ref());
                }
                if slab.is_space && page.is_empty() {
                    continue;
                }
                let slab = Rc::new(slab);
                if slab.is_head {
                    repeated = Some(slab.clone());
                }
                top += slab.height;
                page.push((top - slab.height, slab));
            }
        }
    }
    pages.push(page);
    pages
}

/// A new page, with what stands at its top again.
fn turned(mut pages: Vec<Placed>, page: Placed, repeated: Option<&Rc<Slab>>) -> (Vec<Placed>, Placed, f32) {
    pages.push(page);
    match repeated {
        Some(slab) => (pages, vec![(TOP_PT, slab.clone())], TOP_PT + slab.height),
        None => (pages, Vec::new(), TOP_PT),
    }
}

fn head(faces: &Faces, certificate: &Certificate, index: usize) -> Slab {
    let strong = Style { ink: super::slab::TEXT, ..Style::sans(8.2, SOFT) };
    let slab = Slab::of(TOP_PT).line(faces, strong, (0.0, 40.0), WIDTH_PT * 0.55, &certificate.issuer).filled(
        (0.0, 48.0, WIDTH_PT, 0.6),
        HAIRLINE,
        0.0,
    );
    // The first page has the title in large.
    let said = if index == 0 { "Audit certificate" } else { certificate.title.as_str() };
    slab.line_to(faces, SMALL, (WIDTH_PT, 40.0), WIDTH_PT * 0.4, said)
}

fn foot(faces: &Faces, certificate: &Certificate, page: usize, count: usize) -> Slab {
    Slab::of(0.0)
        .filled((0.0, 794.0, WIDTH_PT, 0.6), HAIRLINE, 0.0)
        .line(faces, SMALL, (0.0, 807.0), WIDTH_PT * 0.7, &format!("Envelope {}", certificate.reference))
        .line_to(faces, SMALL, (WIDTH_PT, 807.0), WIDTH_PT * 0.25, &format!("Page {page} of {count}"))
}
