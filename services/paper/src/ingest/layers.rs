//! Holds layers as they stand: a contract must not show something else once it is signed.
//!
//! It must never show what was hidden or hide what was shown.

use lopdf::{Dictionary, Document, Object};

use super::Note;
use crate::pages::follow;

/// What lets somebody or something switch layers.
const SWITCHES: [&[u8]; 3] = [b"AS", b"RBGroups", b"Order"];

/// Whether there are any.
pub(super) fn are_there(document: &Document) -> bool {
    !groups(document).is_empty()
}

fn properties(document: &Document) -> Option<&Dictionary> {
    let catalog = document.catalog().ok()?;
    follow(document, catalog.get(b"OCProperties").ok())?.as_dict().ok()
}

fn groups(document: &Document) -> Vec<Object> {
    let listed = properties(document).and_then(|properties| follow(document, properties.get(b"OCGs").ok()));
    listed.and_then(|groups| groups.as_array().ok()).cloned().unwrap_or_default()
}

/// Locks every layer in the state in which the document opens.
pub(super) fn fix(document: &mut Document, notes: &mut Vec<Note>) {
    let groups = groups(document);
    let Some(properties) = properties(document) else { return };
    let default = follow(document, properties.get(b"D").ok()).and_then(|default| default.as_dict().ok());
    let mut fixed = default.cloned().unwrap_or_default();
    let locked = follow(document, fixed.get(b"Locked").ok()).and_then(|locked| locked.as_array().ok());
    let is_locked = locked.is_some_and(|locked| groups.iter().all(|group| locked.contains(group)));
    let can_switch = SWITCHES.iter().any(|key| fixed.has(key)) || properties.has(b"Configs");
    if groups.is_empty() || (is_locked && !can_switch) {
        return;
    }
    for key in SWITCHES {
        fixed.remove(key);
    }
    fixed.set("Locked", groups);
    let mut properties = properties.clone();
    properties.remove(b"Configs");
    properties.set("D", fixed);
    if let Ok(catalog) = document.catalog_mut() {
        catalog.set("OCProperties", properties);
        notes.push(Note::LayersFixed);
    }
}
