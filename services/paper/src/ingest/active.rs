//! Takes out what acts by itself: scripts, programs to start, data to send or to fetch, media, files inside.
//!
//! It must never take out a link or a place to open at: those only lead somewhere when somebody clicks.

use std::collections::BTreeSet;

use lopdf::{Dictionary, Document, Object, ObjectId};

use super::Note;
use crate::pages::follow;

/// Actions that do more than lead to a place: `/S` of an action.
const ACTING: [&[u8]; 13] = [
    b"JavaScript",
    b"Launch",
    b"SubmitForm",
    b"ImportData",
    b"ResetForm",
    b"Hide",
    b"SetOCGState",
    b"Rendition",
    b"Movie",
    b"Sound",
    b"RichMediaExecute",
    b"GoTo3DView",
    b"GoToE",
];
/// Annotations that play something.
const MEDIA: [&[u8]; 5] = [b"RichMedia", b"Screen", b"Movie", b"Sound", b"3D"];
/// What annotations play, or carry.
const MEDIA_KEYS: [&[u8]; 8] =
    [b"RichMediaContent", b"RichMediaSettings", b"Movie", b"Sound", b"3DD", b"3DV", b"3DU", b"FS"];

/// Removes actions that act, wherever they hang.
pub(super) fn remove_actions(document: &mut Document, notes: &mut Vec<Note>) {
    let known = Acting::in_document(document);
    let mut removed = false;
    for object in document.objects.values_mut() {
        removed |= known.remove_from(object);
    }
    removed |= at_names(document, |names| names.remove(b"JavaScript").is_some());
    if removed {
        notes.push(Note::ActionsRemoved);
    }
}

/// Removes the files inside the document, and files outside of which streams would be read.
pub(super) fn remove_attachments(document: &mut Document, keep: bool, notes: &mut Vec<Note>) {
    if keep {
        if has_attachments(document) {
            notes.push(Note::AttachmentsKept);
        }
        return;
    }
    let mut removed = at_names(document, |names| names.remove(b"EmbeddedFiles").is_some());
    for object in document.objects.values_mut() {
        if let Object::Stream(stream) = object {
            removed |= stream.dict.remove(b"F").is_some();
        }
        each_dictionary(object, &mut |fields| {
            removed |= fields.remove(b"AF").is_some();
            if is_subtype(fields, &[b"FileAttachment"]) {
                disarm(fields);
                removed = true;
            }
        });
    }
    if removed {
        notes.push(Note::AttachmentsRemoved);
    }
}

/// Whether there are files inside.
pub(super) fn has_attachments(document: &Document) -> bool {
    let names = document.catalog().ok().and_then(|catalog| follow(document, catalog.get(b"Names").ok()));
    let listed = names.and_then(|names| names.as_dict().ok()).is_some_and(|names| names.has(b"EmbeddedFiles"));
    listed || document.objects.values().any(|object| object.as_dict().is_ok_and(|it| it.has(b"AF")))
}

/// Makes plain pictures of what plays.
pub(super) fn remove_media(document: &mut Document, notes: &mut Vec<Note>) {
    let mut removed = false;
    for object in document.objects.values_mut() {
        each_dictionary(object, &mut |fields| {
            if is_subtype(fields, &MEDIA) {
                disarm(fields);
                removed = true;
            }
        });
    }
    if removed {
        notes.push(Note::MediaRemoved);
    }
}

/// A stamp has only its picture.
fn disarm(annotation: &mut Dictionary) {
    annotation.set("Subtype", Object::Name(b"Stamp".to_vec()));
    for key in MEDIA_KEYS.into_iter().chain([b"A".as_slice(), b"AA"]) {
        annotation.remove(key);
    }
}

fn is_subtype(fields: &Dictionary, wanted: &[&[u8]]) -> bool {
    let subtype = fields.get(b"Subtype").and_then(Object::as_name);
    subtype.is_ok_and(|subtype| wanted.contains(&subtype)) && fields.has(b"Rect")
}

/// Visits the dictionaries of an object: annotations may be written in the list that names them.
fn each_dictionary(object: &mut Object, visit: &mut dyn FnMut(&mut Dictionary)) {
    let fields = match object {
        Object::Array(items) => return items.iter_mut().for_each(|item| each_dictionary(item, visit)),
        Object::Dictionary(fields) => fields,
        Object::Stream(stream) => &mut stream.dict,
        _ => return,
    };
    visit(fields);
    fields.iter_mut().for_each(|(_, value)| each_dictionary(value, visit));
}

/// Changes the names that the catalog holds, written in it or elsewhere.
fn at_names(document: &mut Document, change: impl FnOnce(&mut Dictionary) -> bool) -> bool {
    let Ok(catalog) = document.catalog_mut() else { return false };
    let elsewhere = match catalog.get_mut(b"Names") {
        Ok(Object::Dictionary(names)) => return change(names),
        Ok(Object::Reference(id)) => *id,
        _ => return false,
    };
    document.get_dictionary_mut(elsewhere).is_ok_and(change)
}

/// Which objects are actions that act or lists of some, and which are lists of such by trigger.
struct Acting {
    /// Names of what acts, where such a name is an object of its own.
    kinds: BTreeSet<ObjectId>,
    actions: BTreeSet<ObjectId>,
    triggers: BTreeSet<ObjectId>,
}

impl Acting {
    fn in_document(document: &Document) -> Self {
        let found = |is_meant: &dyn Fn(&Object) -> bool| -> BTreeSet<ObjectId> {
            let objects = document.objects.iter();
            objects
                .filter(|(_, object)| follow(document, Some(object)).is_some_and(is_meant))
                .map(|(id, _)| *id)
                .collect()
        };
        let kinds = found(&is_acting_kind);
        let known = Self { kinds, actions: BTreeSet::new(), triggers: BTreeSet::new() };
        let actions = found(&|object| known.is_action(object));
        let known = Self { actions, ..known };
        // A list of actions, as of what comes next, acts if one of them does.
        let lists =
            found(&|object| object.as_array().is_ok_and(|items| items.iter().any(|item| known.is_action(item))));
        let triggers = found(&|object| known.is_trigger(object));
        let actions = known.actions.union(&lists).copied().collect();
        Self { actions, triggers, ..known }
    }

    fn is_action(&self, value: &Object) -> bool {
        match value {
            Object::Reference(id) => self.actions.contains(id),
            Object::Dictionary(fields) => fields.get(b"S").is_ok_and(|kind| match kind {
                Object::Reference(id) => self.kinds.contains(id),
                kind => is_acting_kind(kind),
            }),
            _ => false,
        }
    }

    fn is_trigger(&self, value: &Object) -> bool {
        match value {
            Object::Reference(id) => self.triggers.contains(id),
            Object::Dictionary(fields) => fields.iter().any(|(_, value)| self.is_action(value)),
            _ => false,
        }
    }

    /// Whether anything was removed.
    fn remove_from(&self, object: &mut Object) -> bool {
        match object {
            Object::Array(items) => items.iter_mut().fold(false, |removed, item| self.remove_from(item) | removed),
            Object::Dictionary(fields) => self.remove_from_fields(fields),
            Object::Stream(stream) => self.remove_from_fields(&mut stream.dict),
            _ => false,
        }
    }

    fn remove_from_fields(&self, fields: &mut Dictionary) -> bool {
        let mut removed = false;
        for key in [b"A".as_slice(), b"OpenAction", b"Next"] {
            removed |= match fields.get_mut(key) {
                Ok(Object::Array(actions)) if key == b"Next" => {
                    let before = actions.len();
                    actions.retain(|action| !self.is_action(action));
                    actions.len() < before
                }
                Ok(value) if self.is_action(value) => fields.remove(key).is_some(),
                _ => false,
            };
        }
        if fields.get(b"AA").is_ok_and(|value| self.is_trigger(value)) {
            fields.remove(b"AA");
            removed = true;
        }
        fields.iter_mut().fold(removed, |removed, (_, value)| self.remove_from(value) | removed)
    }
}

fn is_acting_kind(kind: &Object) -> bool {
    kind.as_name().is_ok_and(|kind| ACTING.contains(&kind))
}
