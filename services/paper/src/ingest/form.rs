//! Makes the fields of a form part of the pages, as they look: a sealed paper must have nothing left to fill in.
//!
//! It must never draw a value of its own: what counts is what the form showed.

use lopdf::content::{Content, Operation};
use lopdf::{Dictionary, Document, Object, ObjectId, Stream};

use super::Note;
use crate::balance::balance;
use crate::geometry::PdfBox;
use crate::inspect::Unreadable;
use crate::limits::PAGE_CONTENT_BYTES_MAX;
use crate::pages::{self, Page, follow, rectangle};

/// Flags of annotations that are not shown on the screen.
const HIDDEN: i64 = 1 << 1;
const NO_VIEW: i64 = 1 << 5;
/// How deep fields may nest.
const FIELD_DEPTH_MAX: usize = 32;

/// Whether the document is a form.
pub(super) fn is_there(document: &Document) -> bool {
    let Ok(catalog) = document.catalog() else { return false };
    let form = follow(document, catalog.get(b"AcroForm").ok()).and_then(|form| form.as_dict().ok());
    let fields = form.and_then(|form| follow(document, form.get(b"Fields").ok()));
    fields.and_then(|fields| fields.as_array().ok()).is_some_and(|fields| !fields.is_empty())
}

/// Draws every field on its page and forgets the form.
pub(super) fn flatten(document: &mut Document, pages: &[Page], notes: &mut Vec<Note>) -> Result<(), Unreadable> {
    let has_form = document.catalog().is_ok_and(|catalog| catalog.has(b"AcroForm"));
    let mut is_flattened = false;
    for page in pages {
        let (rest, widgets) = widgets(document, page.id);
        if widgets.is_empty() {
            continue;
        }
        is_flattened = true;
        let looks: Vec<Look> = widgets.iter().filter_map(|widget| look(document, widget)).collect();
        if widgets.iter().any(|widget| has_value_without_look(document, widget)) {
            notes.push(Note::FormValueWithoutLook);
        }
        draw(document, page, looks)?;
        if let Ok(node) = document.get_dictionary_mut(page.id) {
            node.set("Annots", rest);
        }
    }
    if has_form && let Ok(catalog) = document.catalog_mut() {
        catalog.remove(b"AcroForm");
        catalog.remove(b"NeedsRendering");
    }
    if is_flattened || has_form {
        notes.push(Note::FormFlattened);
    }
    Ok(())
}

/// The page's other annotations, and its fields.
fn widgets(document: &Document, page: ObjectId) -> (Vec<Object>, Vec<Dictionary>) {
    let annotations = pages::node(document, page).and_then(|page| follow(document, page.get(b"Annots").ok()));
    let annotations = annotations.and_then(|annotations| annotations.as_array().ok());
    let (mut rest, mut widgets) = (Vec::new(), Vec::new());
    for annotation in annotations.into_iter().flatten() {
        match follow(document, Some(annotation)).and_then(|it| it.as_dict().ok()) {
            Some(fields) if is_widget(fields) => widgets.push(fields.clone()),
            _ => rest.push(annotation.clone()),
        }
    }
    (rest, widgets)
}

fn is_widget(annotation: &Dictionary) -> bool {
    annotation.get(b"Subtype").and_then(Object::as_name).is_ok_and(|name| name == b"Widget")
}

/// How a field looks, and where.
struct Look {
    form: ObjectId,
    matrix: [f64; 6],
    /// The layer it belongs to, which may be off.
    layer: Option<Object>,
}

fn is_hidden(widget: &Dictionary) -> bool {
    widget.get(b"F").and_then(Object::as_i64).is_ok_and(|flags| flags & (HIDDEN | NO_VIEW) != 0)
}

/// The stream that draws the field in its present state.
fn appearance(document: &Document, widget: &Dictionary) -> Option<ObjectId> {
    let looks = follow(document, widget.get(b"AP").ok())?.as_dict().ok()?;
    let mut normal = looks.get(b"N").ok()?;
    if let Some(Object::Dictionary(states)) = follow(document, Some(normal)) {
        normal = states.get(widget.get(b"AS").and_then(Object::as_name).ok()?).ok()?;
    }
    pages::stream_id(document, normal)
}

/// The value of a field, which may be written in the field of which it is a part.
fn value<'a>(document: &'a Document, widget: &'a Dictionary) -> Option<&'a Object> {
    let mut field = widget;
    for _ in 0..FIELD_DEPTH_MAX {
        if let Some(value) = follow(document, field.get(b"V").ok()) {
            return Some(value);
        }
        field = follow(document, field.get(b"Parent").ok())?.as_dict().ok()?;
    }
    None
}

fn has_value_without_look(document: &Document, widget: &Dictionary) -> bool {
    let value = value(document, widget);
    let has_text = value.and_then(|value| value.as_str().ok()).is_some_and(|text| !text.is_empty());
    has_text && !is_hidden(widget) && appearance(document, widget).is_none()
}

fn look(document: &Document, widget: &Dictionary) -> Option<Look> {
    if is_hidden(widget) {
        return None;
    }
    let form = appearance(document, widget)?;
    let target = rectangle(document, widget.get(b"Rect").ok())?;
    let stream = document.objects.get(&form)?.as_stream().ok()?;
    let inner = rectangle(document, stream.dict.get(b"BBox").ok())?;
    let shown = transformed(inner, matrix_of(document, &stream.dict))?;
    let (across, up) = (
        (target.right - target.left) / (shown.right - shown.left),
        (target.top - target.bottom) / (shown.top - shown.bottom),
    );
    let matrix = [across, 0.0, 0.0, up, target.left - shown.left * across, target.bottom - shown.bottom * up];
    let layer = widget.get(b"OC").ok().cloned();
    matrix.iter().all(|number| number.is_finite()).then_some(Look { form, matrix, layer })
}

fn matrix_of(document: &Document, form: &Dictionary) -> [f64; 6] {
    const PLAIN: [f64; 6] = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
    let listed = follow(document, form.get(b"Matrix").ok()).and_then(|matrix| matrix.as_array().ok());
    let Some(listed) = listed else { return PLAIN };
    let numbers: Vec<f64> = listed.iter().filter_map(|number| pages::number(follow(document, Some(number))?)).collect();
    numbers.try_into().unwrap_or(PLAIN)
}

/// The box around a box that was turned or stretched.
fn transformed(inner: PdfBox, [a, b, c, d, e, f]: [f64; 6]) -> Option<PdfBox> {
    let PdfBox { left, bottom, right, top } = inner;
    let corners = [(left, bottom), (right, bottom), (left, top), (right, top)];
    let corners = corners.map(|(x, y)| (a * x + c * y + e, b * x + d * y + f));
    let least = |pick: fn((f64, f64)) -> f64| corners.into_iter().map(pick).fold(f64::INFINITY, f64::min);
    let most = |pick: fn((f64, f64)) -> f64| corners.into_iter().map(pick).fold(f64::NEG_INFINITY, f64::max);
    PdfBox::between([least(|it| it.0), least(|it| it.1), most(|it| it.0), most(|it| it.1)])
}

/// Draws the looks after what the page shows, which is put between a save and a restore.
fn draw(document: &mut Document, page: &Page, looks: Vec<Look>) -> Result<(), Unreadable> {
    if looks.is_empty() {
        return Ok(());
    }
    let around = balance(&pages::content(document, page.id, PAGE_CONTENT_BYTES_MAX)?)?;
    let mut resources = page.resources.and_then(|at| at.get(document)).cloned().unwrap_or_default();
    let xobjects = follow(document, resources.get(b"XObject").ok()).and_then(|found| found.as_dict().ok());
    let mut xobjects = xobjects.cloned().unwrap_or_default();
    let fallback = form_resources(document);
    let mut drawing = Vec::new();
    for (index, Look { form, matrix, layer }) in looks.into_iter().enumerate() {
        complete(document, form, &fallback);
        let form = in_layer(document, form, layer);
        let name = (0..).map(|more: usize| format!("Field{index}_{more}")).find(|name| !xobjects.has(name.as_bytes()));
        let name = name.unwrap_or_default();
        xobjects.set(name.as_str(), form);
        drawing.extend([
            Operation::new("q", vec![]),
            Operation::new("cm", matrix.map(|number| Object::Real(number as f32)).to_vec()),
            Operation::new("Do", vec![Object::from(name.as_str())]),
            Operation::new("Q", vec![]),
        ]);
    }
    resources.set("XObject", xobjects);
    let mut after = around.after();
    after.extend(Content { operations: drawing }.encode().map_err(Unreadable::broken)?);
    let mut parts: Vec<Object> = pages::content_parts(document, page.id).to_vec();
    parts.retain(|part| pages::stream_id(document, part).is_some());
    parts.insert(0, add(document, around.before()));
    parts.push(add(document, after));
    if let Ok(node) = document.get_dictionary_mut(page.id) {
        node.set("Contents", parts);
        node.set("Resources", resources);
    }
    Ok(())
}

fn add(document: &mut Document, content: Vec<u8>) -> Object {
    Object::Reference(document.add_object(Stream::new(Dictionary::new(), content)))
}

/// What fields fall back on when they name no fonts of their own.
fn form_resources(document: &Document) -> Option<Object> {
    let catalog = document.catalog().ok()?;
    let form = follow(document, catalog.get(b"AcroForm").ok())?.as_dict().ok()?;
    form.get(b"DR").ok().cloned()
}

/// The form, or one like it that is shown with the layer only: other fields may look the same in others.
fn in_layer(document: &mut Document, form: ObjectId, layer: Option<Object>) -> ObjectId {
    match (layer, document.objects.get(&form).cloned()) {
        (Some(layer), Some(Object::Stream(mut shown))) => {
            shown.dict.set("OC", layer);
            document.add_object(shown)
        }
        _ => form,
    }
}

/// Says of a stream that it is a form, which not all that draw fields say.
fn complete(document: &mut Document, form: ObjectId, fallback: &Option<Object>) {
    let Some(Object::Stream(stream)) = document.objects.get_mut(&form) else { return };
    stream.dict.set("Type", Object::Name(b"XObject".to_vec()));
    stream.dict.set("Subtype", Object::Name(b"Form".to_vec()));
    if let (false, Some(fallback)) = (stream.dict.has(b"Resources"), fallback) {
        stream.dict.set("Resources", fallback.clone());
    }
}
