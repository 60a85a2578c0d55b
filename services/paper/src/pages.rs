//! Walks the page tree and resolves what pages inherit: boxes, turn and resources.
//!
//! It must never follow a node twice or without a depth limit: trees in uploads may loop.

use std::collections::HashSet;

use lopdf::{Dictionary, Document, Object, ObjectId};

use crate::geometry::{Geometry, PdfBox, Rotation};
use crate::inspect::Unreadable;
use crate::limits::{PAGE_TREE_DEPTH_MAX, REFERENCE_HOPS_MAX};

/// One page of a parsed document.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) id: ObjectId,
    pub(crate) geometry: Geometry,
    /// The page's own or inherited resources.
    pub(crate) resources: Dictionary,
}

/// What a node hands down to its kids.
#[derive(Clone, Copy, Default)]
struct Inherited<'a> {
    media_box: Option<&'a Object>,
    crop_box: Option<&'a Object>,
    rotate: Option<&'a Object>,
    resources: Option<&'a Object>,
}

impl<'a> Inherited<'a> {
    fn with(self, node: &'a Dictionary) -> Self {
        Self {
            media_box: node.get(b"MediaBox").ok().or(self.media_box),
            crop_box: node.get(b"CropBox").ok().or(self.crop_box),
            rotate: node.get(b"Rotate").ok().or(self.rotate),
            resources: node.get(b"Resources").ok().or(self.resources),
        }
    }
}

struct Visit<'a> {
    id: ObjectId,
    depth: usize,
    inherited: Inherited<'a>,
}

/// The pages in reading order.
pub(crate) fn walk(document: &Document, pages_max: usize) -> Result<Vec<Page>, Unreadable> {
    let root = document.catalog().and_then(|catalog| catalog.get(b"Pages")).and_then(Object::as_reference);
    let root = root.map_err(|_| Unreadable::broken("the catalog names no page tree"))?;
    let mut pages = Vec::new();
    let mut visited = HashSet::new();
    let mut todo = vec![Visit { id: root, depth: 0, inherited: Inherited::default() }];
    while let Some(Visit { id, depth, inherited }) = todo.pop() {
        // A kid that is missing or null is no page to anybody.
        let Some(node) = follow(document, document.objects.get(&id)).and_then(|object| object.as_dict().ok()) else {
            continue;
        };
        if !visited.insert(id) {
            return Err(Unreadable::broken("a page or page tree node is used twice"));
        }
        if depth > PAGE_TREE_DEPTH_MAX {
            return Err(Unreadable::broken("the page tree is nested too deeply"));
        }
        let inherited = inherited.with(node);
        if let Ok(kids) = node.get(b"Kids") {
            for kid in kid_ids(document, kids)?.into_iter().rev() {
                todo.push(Visit { id: kid, depth: depth + 1, inherited });
            }
            continue;
        }
        if pages.len() == pages_max {
            return Err(Unreadable::TooManyPages { actual: pages.len() + 1, max: pages_max });
        }
        pages.push(page(document, id, node, inherited));
    }
    if pages.is_empty() { Err(Unreadable::NoPages) } else { Ok(pages) }
}

fn kid_ids(document: &Document, kids: &Object) -> Result<Vec<ObjectId>, Unreadable> {
    let kids = follow(document, Some(kids)).and_then(|kids| kids.as_array().ok());
    let kids = kids.ok_or_else(|| Unreadable::broken("a page tree node has no list of kids"))?;
    let ids = kids.iter().filter(|kid| !kid.is_null()).map(|kid| {
        kid.as_reference()
            .map_err(|_| Unreadable::broken("the page tree holds a page that is not an object of its own"))
    });
    ids.collect()
}

fn page(document: &Document, id: ObjectId, node: &Dictionary, inherited: Inherited<'_>) -> Page {
    let media = rectangle(document, inherited.media_box).unwrap_or(PdfBox::LETTER);
    let crop = rectangle(document, inherited.crop_box).unwrap_or(media);
    let rotate = follow(document, inherited.rotate).and_then(number).unwrap_or(0.0);
    let unit = node.get(b"UserUnit").ok().and_then(|unit| follow(document, Some(unit))).and_then(number);
    let resources = follow(document, inherited.resources).and_then(|resources| resources.as_dict().ok());
    Page {
        id,
        geometry: Geometry {
            visible: crop.intersection(media).unwrap_or(media),
            rotation: Rotation::from_degrees(rotate as i64),
            unit_pt: unit.filter(|unit| unit.is_finite() && *unit > 0.0).unwrap_or(1.0),
        },
        resources: resources.cloned().unwrap_or_default(),
    }
}

fn rectangle(document: &Document, object: Option<&Object>) -> Option<PdfBox> {
    let corners = follow(document, object)?.as_array().ok()?;
    let mut numbers = corners.iter().map(|corner| follow(document, Some(corner)).and_then(number));
    let mut next = || numbers.next().flatten();
    PdfBox::between([next()?, next()?, next()?, next()?])
}

fn number(object: &Object) -> Option<f64> {
    match object {
        Object::Integer(value) => Some(*value as f64),
        Object::Real(value) => Some(f64::from(*value)),
        _ => None,
    }
}

/// The value behind a few references, if there is one.
pub(crate) fn follow<'a>(document: &'a Document, object: Option<&'a Object>) -> Option<&'a Object> {
    let mut object = object?;
    for _ in 0..REFERENCE_HOPS_MAX {
        match object {
            Object::Reference(id) => object = document.objects.get(id)?,
            Object::Null => return None,
            _ => return Some(object),
        }
    }
    None
}
