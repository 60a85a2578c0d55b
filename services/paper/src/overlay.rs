//! Draws sheets with embedded fonts and brings them into a document as form XObjects.
//!
//! It must never write an operator by hand: krilla writes the sheets, lopdf copies their objects.

use std::collections::{BTreeMap, VecDeque};

use krilla::metadata::Metadata;
use krilla::page::PageSettings;
use krilla::surface::Surface;
use krilla::{Document as Drawing, SerializeSettings};
use lopdf::{Dictionary, Document, Object, ObjectId};

use crate::apply::StampError;
use crate::delta::Update;
use crate::pack::Packer;

/// What is drawn over one page as displayed.
pub(crate) struct Sheet<'a> {
    /// Width and height in points.
    pub(crate) size_pt: (f64, f64),
    /// Draws on a surface whose origin is top left.
    pub(crate) draw: Box<dyn Fn(&mut Surface<'_>) + 'a>,
}

/// Draws the sheets into a PDF of their own, one page each.
pub(crate) fn compose(sheets: &[Sheet<'_>], metadata: Metadata) -> Result<Vec<u8>, StampError> {
    draw(sheets, metadata, plain_settings())
}

/// Draws the sheets into an update, each as a form XObject.
pub(crate) fn add(sheets: &[Sheet<'_>], update: &mut Update) -> Result<Vec<ObjectId>, StampError> {
    // Packed on the way: that is done for all of them with one packer, and each of krilla's has to be set up first.
    let loose = SerializeSettings { compress_content_streams: false, ..plain_settings() };
    import(&draw(sheets, Metadata::new(), loose)?, update)
}

fn draw(sheets: &[Sheet<'_>], metadata: Metadata, settings: SerializeSettings) -> Result<Vec<u8>, StampError> {
    let mut drawing = Drawing::new_with(settings);
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
fn import(composed: &[u8], update: &mut Update) -> Result<Vec<ObjectId>, StampError> {
    let mut source = Document::load_mem(composed).map_err(StampError::compose)?;
    let mut copies = Copies::default();
    let mut forms = Vec::new();
    for page_id in source.page_iter().collect::<Vec<_>>() {
        // krilla writes one stream for a page.
        let content = source.get_dictionary(page_id).and_then(|page| page.get(b"Contents")?.as_reference());
        let content = source.objects.remove(&content.map_err(StampError::compose)?);
        let Some(Object::Stream(mut form)) = content else { return Err(StampError::compose("a page is empty")) };
        let page = source.get_dictionary(page_id).map_err(StampError::compose)?;
        let resources = page.get(b"Resources").cloned().unwrap_or_else(|_| Dictionary::new().into());
        form.dict.set("Type", "XObject");
        form.dict.set("Subtype", "Form");
        form.dict.set("BBox", page.get(b"MediaBox").map_err(StampError::compose)?.clone());
        form.dict.set("Resources", copies.renumbered(resources, update));
        copies.packer.pack(&mut form);
        forms.push(update.add(form));
    }
    copies.finish(source, update);
    Ok(forms)
}

/// Objects on their way from one document into the update of another.
#[derive(Default)]
struct Copies {
    renamed: BTreeMap<ObjectId, ObjectId>,
    todo: VecDeque<ObjectId>,
    packer: Packer,
}

impl Copies {
    fn renumbered(&mut self, object: Object, update: &mut Update) -> Object {
        match object {
            Object::Reference(id) => Object::Reference(*self.renamed.entry(id).or_insert_with(|| {
                self.todo.push_back(id);
                update.reserve()
            })),
            Object::Array(items) => {
                items.into_iter().map(|item| self.renumbered(item, update)).collect::<Vec<_>>().into()
            }
            Object::Dictionary(entries) => self.renumbered_entries(entries, update).into(),
            Object::Stream(mut stream) => {
                let dict = std::mem::take(&mut stream.dict);
                stream.dict = self.renumbered_entries(dict, update);
                self.packer.pack(&mut stream);
                Object::Stream(stream)
            }
            other => other,
        }
    }

    fn renumbered_entries(&mut self, entries: Dictionary, update: &mut Update) -> Dictionary {
        entries.into_iter().map(|(key, value)| (key, self.renumbered(value, update))).collect()
    }

    fn finish(mut self, mut source: Document, update: &mut Update) {
        while let Some(id) = self.todo.pop_front() {
            let copy = self.renumbered(source.objects.remove(&id).unwrap_or(Object::Null), update);
            if let Some(renamed) = self.renamed.get(&id) {
                update.set(*renamed, copy);
            }
        }
    }
}
