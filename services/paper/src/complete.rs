//! Makes the final form of a paper in one update: values or a watermark on its pages, and the certificate behind them.
//!
//! It must never give other bytes for the same paper and completion: a job that is done twice stores one result.

use crate::apply::{StampError, append_pages, lay_over};
use crate::certificate::{self, Certificate};
use crate::delta::{self, Update};
use crate::faces::Faces;
use crate::inspect::{self, Opened};
use crate::overlay::{self, Sheet};
use crate::pages::Page;
use crate::refuse::{self, Refusal};
use crate::stamp::{self, Mark};

/// What is done to a paper at its end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Completion {
    /// The values in their boxes.
    pub marks: Vec<Mark>,
    /// The watermark of a paper that was refused.
    pub refusal: Option<Refusal>,
    /// A word drawn small in the top margin of every page, such as "TEST".
    pub note: Option<String>,
    /// What stands behind the last page.
    pub certificate: Option<Certificate>,
}

/// Draws all of it on the paper.
///
/// The result begins with `bytes` as they are, followed by one incremental update, if the file can be continued;
/// otherwise the document is written anew. Where there is nothing to draw the result is `bytes`.
///
/// # Errors
///
/// [`StampError`] if the paper is unreadable or a mark lies outside it; never because of the text of anything.
pub fn complete(bytes: &[u8], completion: &Completion) -> Result<Vec<u8>, StampError> {
    let (Opened { document, .. }, update) = composed(bytes, completion)?;
    if update.is_empty() {
        return Ok(bytes.to_vec());
    }
    delta::write(bytes, document, update).map_err(StampError::compose)
}

/// The paper and what is to be changed in it, before it is written: a seal goes into the same update.
pub(crate) fn composed(bytes: &[u8], completion: &Completion) -> Result<(Opened, Update), StampError> {
    let Opened { document, pages } = inspect::open_to_continue(bytes)?;
    let faces = Faces::get().ok_or_else(|| StampError::compose("the shipped fonts are damaged"))?;
    let marks = marks_of_pages(&completion.marks, pages.len())?;
    let laid = completion.certificate.as_ref().map(|it| certificate::pages(faces, it)).unwrap_or_default();
    let (mut sheets, sheet_of_page) = sheets(faces, &pages, &marks, completion);
    let over = sheets.len();
    sheets.extend(laid.iter().map(|page| page.sheet(faces)));
    let mut update = Update::of(&document);
    if !sheets.is_empty() {
        let forms = overlay::add(&sheets, &mut update)?;
        lay_over(&document, &pages, &forms, &sheet_of_page, &mut update)?;
        let sized = forms.iter().zip(&sheets).map(|(form, sheet)| (*form, sheet.size_pt));
        let behind: Vec<_> = sized.skip(over).collect();
        if !behind.is_empty() {
            append_pages(&document, &pages, &behind, &mut update)?;
        }
    }
    Ok((Opened { document, pages }, update))
}

fn marks_of_pages(marks: &[Mark], pages: usize) -> Result<Vec<Vec<&Mark>>, StampError> {
    let mut found: Vec<Vec<&Mark>> = vec![Vec::new(); pages];
    for (index, mark) in marks.iter().enumerate() {
        if !stamp::is_on_page(mark) {
            return Err(StampError::BadBox { mark: index + 1 });
        }
        let page = (mark.page as usize).checked_sub(1).and_then(|page| found.get_mut(page));
        let missing = StampError::NoSuchPage { mark: index + 1, page: mark.page, pages };
        page.ok_or(missing)?.push(mark);
    }
    Ok(found)
}

/// What is drawn over the pages, and over which page which. Pages of one size on which the same stands share a sheet.
fn sheets<'a>(
    faces: &'a Faces,
    pages: &[Page],
    marks: &'a [Vec<&'a Mark>],
    completion: &'a Completion,
) -> (Vec<Sheet<'a>>, Vec<Option<usize>>) {
    let (note, refusal) = (completion.note.as_deref(), completion.refusal.as_ref());
    let (mut sheets, mut of_page, mut shared): (Vec<Sheet<'a>>, Vec<Option<usize>>, Vec<usize>) = Default::default();
    for (page, marks) in pages.iter().zip(marks) {
        let size_pt = page.geometry.size_pt();
        if marks.is_empty() {
            let same = |index: &&usize| sheets.get(**index).is_some_and(|sheet| sheet.size_pt == size_pt);
            let is_blank = note.is_none() && refusal.is_none();
            if let Some(index) = shared.iter().find(same) {
                of_page.push(Some(*index));
                continue;
            } else if is_blank {
                of_page.push(None);
                continue;
            }
            shared.push(sheets.len());
        }
        of_page.push(Some(sheets.len()));
        let draw = move |surface: &mut krilla::surface::Surface<'_>| {
            stamp::draw_sheet(faces, surface, size_pt, marks, note);
            if let Some(refusal) = refusal {
                refuse::watermark(faces, surface, size_pt, refusal);
            }
        };
        sheets.push(Sheet { size_pt, draw: Box::new(draw) });
    }
    (sheets, of_page)
}
