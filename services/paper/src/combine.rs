//! Puts the pages of several papers into one, to be read or printed.
//!
//! It must never pass for what was signed: fields of signatures are left out, and no seal is valid in it. Nor may it do
//! anything when it is opened: of the papers only what pages show comes along.

use std::collections::{HashMap, HashSet};

use lopdf::{Dictionary, Document, Object, ObjectId, dictionary};

use crate::apply::StampError;
use crate::inspect::{self, Opened};
use crate::limits::Limits;
use crate::pages::{Page, follow, node};

/// What a page has that means something in its own paper only, or does something.
const LEFT_OUT: [&[u8]; 8] = [b"AA", b"B", b"CropBox", b"Metadata", b"PieceInfo", b"StructParents", b"Tabs", b"Thumb"];
/// Actions of links that only lead somewhere.
const LEADING: [&[u8]; 2] = [b"GoTo", b"URI"];

/// The pages of all papers, in their order. The same papers give the same bytes.
///
/// # Errors
///
/// [`StampError`] if a paper is unreadable.
pub fn combine(papers: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, StampError> {
    let mut whole = Document::with_version("1.7");
    let tree = whole.new_object_id();
    let (mut kids, mut layers) = (Vec::new(), Layers::default());
    for paper in papers {
        let opened = inspect::open(paper.as_ref(), &Limits::CEILING)?;
        kids.extend(take_over(opened, tree, &mut layers, &mut whole).into_iter().map(Object::Reference));
    }
    let count = i64::try_from(kids.len()).unwrap_or(i64::MAX);
    whole.set_object(tree, dictionary! { "Type" => "Pages", "Kids" => kids, "Count" => count });
    let mut catalog = dictionary! { "Type" => "Catalog", "Pages" => tree };
    if !layers.all.is_empty() {
        let fixed = dictionary! { "OFF" => layers.off, "Locked" => layers.all.clone() };
        catalog.set("OCProperties", dictionary! { "OCGs" => layers.all, "D" => fixed });
    }
    let catalog = whole.add_object(catalog);
    whole.trailer.set("Root", catalog);
    let mut bytes = Vec::new();
    whole.save_to(&mut bytes).map_err(StampError::compose)?;
    Ok(bytes)
}

/// Moves the pages of a paper, and what they refer to, under another tree.
fn take_over(opened: Opened, tree: ObjectId, layers: &mut Layers, whole: &mut Document) -> Vec<ObjectId> {
    let Opened { mut document, pages } = opened;
    let leaves: Vec<Dictionary> = pages.iter().map(|page| leaf(&document, page)).collect();
    let ids: Vec<ObjectId> = pages.iter().map(|_| whole.new_object_id()).collect();
    let mut moved: HashMap<ObjectId, ObjectId> = pages.iter().map(|page| page.id).zip(ids.iter().copied()).collect();
    let mut todo = Vec::new();
    for (mut leaf, id) in leaves.into_iter().zip(&ids) {
        let mut object = Object::Dictionary(std::mem::take(&mut leaf));
        rename(&mut object, &mut moved, &mut todo, whole);
        if let Ok(leaf) = object.as_dict_mut() {
            leaf.set("Parent", tree);
        }
        whole.set_object(*id, object);
    }
    let Layers { mut all, mut off } = Layers::of(&document);
    for layer in all.iter_mut().chain(&mut off) {
        rename(layer, &mut moved, &mut todo, whole);
    }
    layers.all.append(&mut all);
    layers.off.append(&mut off);
    while let Some((old, new)) = todo.pop() {
        // A reference to what is not there is null to everybody.
        let mut object = document.objects.remove(&old).unwrap_or(Object::Null);
        if is_of_the_paper(&object) {
            object = Object::Null;
        }
        rename(&mut object, &mut moved, &mut todo, whole);
        whole.set_object(new, object);
    }
    ids
}

/// Layers, of which those that are off must stay hidden.
#[derive(Default)]
struct Layers {
    all: Vec<Object>,
    off: Vec<Object>,
}

impl Layers {
    fn of(document: &Document) -> Self {
        let properties = document.catalog().ok().and_then(|catalog| catalog.get(b"OCProperties").ok());
        let properties = follow(document, properties).and_then(|properties| properties.as_dict().ok());
        let default = properties.and_then(|properties| follow(document, properties.get(b"D").ok())?.as_dict().ok());
        let listed = |of: Option<&Dictionary>, key: &[u8]| -> Vec<Object> {
            let listed = of.and_then(|of| follow(document, of.get(key).ok())?.as_array().ok());
            listed.into_iter().flatten().filter(|layer| layer.as_reference().is_ok()).cloned().collect()
        };
        let all = listed(properties, b"OCGs");
        let begins_off = default.and_then(|default| default.get(b"BaseState").and_then(Object::as_name).ok());
        let mut off = listed(default, b"OFF");
        if begins_off == Some(b"OFF") {
            let on: HashSet<ObjectId> = listed(default, b"ON").iter().filter_map(|it| it.as_reference().ok()).collect();
            off.extend(all.iter().filter(|it| !it.as_reference().is_ok_and(|id| on.contains(&id))).cloned());
        }
        Self { all, off }
    }
}

/// The catalog and the tree, which would bring everything else along.
fn is_of_the_paper(object: &Object) -> bool {
    let kind = object.as_dict().ok().and_then(|it| it.get(b"Type").ok()).and_then(|it| it.as_name().ok());
    matches!(kind, Some(b"Catalog" | b"Pages"))
}

/// A page with all that it would inherit, as it is displayed.
fn leaf(document: &Document, page: &Page) -> Dictionary {
    let mut leaf = node(document, page.id).cloned().unwrap_or_default();
    for key in LEFT_OUT {
        leaf.remove(key);
    }
    let visible = page.geometry.visible;
    let corners = [visible.left, visible.bottom, visible.right, visible.top];
    leaf.set("MediaBox", corners.map(|corner| Object::Real(corner as f32)).to_vec());
    leaf.set("Rotate", page.geometry.rotation.degrees());
    leaf.set("Resources", page.resources.and_then(|at| at.get(document)).cloned().unwrap_or_default());
    let notes =
        leaf.get(b"Annots").ok().and_then(|notes| follow(document, Some(notes))).and_then(|it| it.as_array().ok());
    let notes: Vec<Object> =
        notes.into_iter().flatten().filter_map(|note| Some(shown(document, note)?.into())).collect();
    leaf.set("Annots", notes);
    leaf.remove(b"Parent");
    leaf
}

/// A note on a page as far as it only shows something; none if it is a signature's field, or shows nothing.
fn shown(document: &Document, note: &Object) -> Option<Dictionary> {
    let mut note = follow(document, Some(note))?.as_dict().ok()?.clone();
    let get = |of: &Dictionary, key: &[u8]| follow(document, of.get(key).ok()).cloned();
    let is_widget = note.get(b"Subtype").and_then(Object::as_name).is_ok_and(|kind| kind == b"Widget");
    let parent = get(&note, b"Parent").and_then(|parent| parent.as_dict().ok().cloned()).unwrap_or_default();
    let kind = get(&note, b"FT").or_else(|| get(&parent, b"FT"));
    let is_signature = kind.is_some_and(|kind| kind.as_name().is_ok_and(|kind| kind == b"Sig"));
    if is_widget && (is_signature || !note.has(b"AP")) {
        return None;
    }
    let action = get(&note, b"A").and_then(|action| action.as_dict().ok().cloned());
    let leads = action
        .as_ref()
        .is_some_and(|action| action.get(b"S").and_then(Object::as_name).is_ok_and(|it| LEADING.contains(&it)));
    note.remove(b"A");
    if let Some(mut action) = action.filter(|_| leads) {
        // What would be done next need not be to lead somewhere.
        action.remove(b"Next");
        note.set("A", action);
    }
    for key in [b"AA".as_slice(), b"P", b"Parent", b"Kids", b"StructParent", b"Popup", b"IRT"] {
        note.remove(key);
    }
    Some(note)
}

/// Gives everything that is referred to a number of its own in the whole.
fn rename(
    object: &mut Object,
    moved: &mut HashMap<ObjectId, ObjectId>,
    todo: &mut Vec<(ObjectId, ObjectId)>,
    whole: &mut Document,
) {
    match object {
        Object::Reference(id) => {
            *id = *moved.entry(*id).or_insert_with(|| {
                let new = whole.new_object_id();
                todo.push((*id, new));
                new
            });
        }
        Object::Array(items) => items.iter_mut().for_each(|item| rename(item, moved, todo, whole)),
        Object::Dictionary(entries) => {
            entries.iter_mut().for_each(|(_, value)| rename(value, moved, todo, whole));
        }
        Object::Stream(stream) => stream.dict.iter_mut().for_each(|(_, value)| rename(value, moved, todo, whole)),
        Object::Null
        | Object::Boolean(_)
        | Object::Integer(_)
        | Object::Real(_)
        | Object::Name(_)
        | Object::String(..) => {}
    }
}
