//! Draws sheets with embedded fonts and brings them into a document as form XObjects.
//!
//! It must never write an operator by hand: krilla writes the sheets, lopdf copies their objects.

use std::collections::{BTreeMap, VecDeque};

use krilla::metadata::Metadata;
use krilla::page::PageSettings;
use krilla::surface::Surface;
use krilla::{Document as Drawing, SerializeSettings};
use lopdf::{Dictionary, Document, Object, ObjectId, Stream};

use crate::apply::StampError;
use crate::delta::Update;

/// What is drawn over one page as displayed.
pub(crate) struct Sheet<'a> {
    /// Width and height in points.
    pub(crate) size_pt: (f64, f64),
    /// Draws on a surface whose origin is top left.
    pub(crate) draw: Box<dyn Fn(&mut Surface<'_>) + 'a>,
}

/// Draws the sheets into a PDF of their own, one page each.
pub(crate) fn compose(sheets: &[Sheet<'_>], metadata: Metadata) -> Result<Vec<u8>, StampError> {
    let mut drawing = Drawing::new_with(plain_settings());
    drawing.set_metadata(metadata);
    for sheet in sheets {
        let (width, height) = (sheet.size_pt.0 as f32, sheet.size_pt.1 as f32);
        let settings = PageSettings::from_wh(width, height)
            .ok_or_else(|| StampError::compose(format!("a page of {width} x {height} points")))?;
        let mut page = drawing.start_page_with(settings);
        let mut surface = page.surface();
        (sheet.draw)(&mut surface);
        surface.finish();
        page.finish();
    }
    drawing.finish().map_err(|error| StampError::compose(format!("{error:?}")))
}

/// Untagged and without XMP: mostly the pages become parts of another document.
fn plain_settings() -> SerializeSettings {
    SerializeSettings { enable_tagging: false, xmp_metadata: false, ..SerializeSettings::default() }
}

/// Adds the pages of a composed PDF to `update`, each as a form XObject.
pub(crate) fn import(composed: &[u8], update: &mut Update) -> Result<Vec<ObjectId>, StampError> {
    let source = Document::load_mem(composed).map_err(StampError::compose)?;
    let mut copies = Copies::default();
    let mut forms = Vec::new();
    for page_id in source.page_iter() {
        let page = source.get_dictionary(page_id).map_err(StampError::compose)?;
        // As it was packed: krilla writes one stream for a page.
        let content = page.get_deref(b"Contents", &source).and_then(Object::as_stream).map_err(StampError::compose)?;
        let resources = page.get(b"Resources").cloned().unwrap_or_else(|_| Dictionary::new().into());
        let mut form = content.clone();
        form.dict.set("Type", "XObject");
        form.dict.set("Subtype", "Form");
        form.dict.set("BBox", page.get(b"MediaBox").map_err(StampError::compose)?.clone());
        form.dict.set("Resources", copies.renumbered(&resources, update));
        forms.push(update.add(form));
    }
    copies.finish(&source, update);
    Ok(forms)
}

/// Objects on their way from one document into the update of another.
#[derive(Default)]
struct Copies {
    renamed: BTreeMap<ObjectId, ObjectId>,
    todo: VecDeque<ObjectId>,
}

impl Copies {
    fn renumbered(&mut self, object: &Object, update: &mut Update) -> Object {
        match object {
            Object::Reference(id) => Object::Reference(*self.renamed.entry(*id).or_insert_with(|| {
                self.todo.push_back(*id);
                update.reserve()
            })),
            Object::Array(items) => items.iter().map(|item| self.renumbered(item, update)).collect::<Vec<_>>().into(),
            Object::Dictionary(entries) => self.renumbered_entries(entries, update).into(),
            Object::Stream(stream) => {
                let dict = self.renumbered_entries(&stream.dict, update);
                Object::Stream(Stream { dict, ..stream.clone() })
            }
            other => other.clone(),
        }
    }

    fn renumbered_entries(&mut self, entries: &Dictionary, update: &mut Update) -> Dictionary {
        entries.iter().map(|(key, value)| (key.clone(), self.renumbered(value, update))).collect()
    }

    fn finish(mut self, source: &Document, update: &mut Update) {
        while let Some(id) = self.todo.pop_front() {
            let object = source.objects.get(&id).cloned().unwrap_or(Object::Null);
            let copy = self.renumbered(&object, update);
            if let Some(renamed) = self.renamed.get(&id) {
                update.set(*renamed, copy);
            }
        }
    }
}
