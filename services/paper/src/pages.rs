//! Walks the page tree and resolves what pages inherit: boxes, turn and resources.
//!
//! It must never follow a node twice or without a depth limit: trees in uploads may loop.

use std::collections::HashSet;

use lopdf::{DecompressError, Dictionary, Document, Object, ObjectId, Stream};

use crate::geometry::{Geometry, PdfBox, Rotation};
use crate::inspect::Unreadable;
use crate::limits::{CONTENT_STREAMS_MAX, PAGE_TREE_DEPTH_MAX, REFERENCE_HOPS_MAX};

/// One page of a parsed document.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) id: ObjectId,
    pub(crate) geometry: Geometry,
    /// Where the page's own or inherited resources are, if it has any.
    pub(crate) resources: Option<ResourcesAt>,
}

/// Where a resource dictionary is; pages may share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ResourcesAt {
    /// It is an object of its own.
    Object(ObjectId),
    /// It is written in this page or page tree node.
    Node(ObjectId),
}

impl ResourcesAt {
    pub(crate) fn get(self, document: &Document) -> Option<&Dictionary> {
        let found = match self {
            Self::Object(id) => follow(document, document.objects.get(&id)),
            Self::Node(id) => follow(document, node(document, id)?.get(b"Resources").ok()),
        };
        found?.as_dict().ok()
    }
}

/// The page or page tree node with this number.
pub(crate) fn node(document: &Document, id: ObjectId) -> Option<&Dictionary> {
    follow(document, document.objects.get(&id))?.as_dict().ok()
}

/// What the page's `/Contents` lists, which should be references to streams.
pub(crate) fn content_parts(document: &Document, page: ObjectId) -> &[Object] {
    let Some(contents) = node(document, page).and_then(|page| page.get(b"Contents").ok()) else { return &[] };
    match follow(document, Some(contents)) {
        Some(Object::Array(parts)) => parts,
        _ => std::slice::from_ref(contents),
    }
}

/// What the page draws, unpacked; its streams are one, with a line's end behind each.
pub(crate) fn content(document: &Document, page: ObjectId, max_bytes: usize) -> Result<Vec<u8>, Unreadable> {
    let mut content = Vec::new();
    for part in content_parts(document, page) {
        let stream = stream_id(document, part).and_then(|id| document.objects.get(&id)?.as_stream().ok());
        let Some(stream) = stream else { continue };
        let left = max_bytes.saturating_sub(content.len());
        match unpacked(document, stream, left) {
            Ok(part) if part.len() < left => content.extend_from_slice(&part),
            Ok(_) | Err(lopdf::Error::Decompress(DecompressError::MemoryLimitExceeded { .. })) => {
                return Err(Unreadable::TooMuchContent { max_bytes });
            }
            Err(_) => return Err(Unreadable::broken("what a page draws cannot be unpacked")),
        }
        content.push(b'\n');
    }
    Ok(content)
}

/// What the stream holds. How it is packed may be written elsewhere, where the parser does not look.
fn unpacked(document: &Document, stream: &Stream, max_bytes: usize) -> lopdf::Result<Vec<u8>> {
    const PACKING: [&[u8]; 2] = [b"Filter", b"DecodeParms"];
    if PACKING.iter().all(|key| stream.dict.get(key).map_or(true, is_written_here)) {
        return stream.decompressed_content_with_limit(max_bytes);
    }
    let mut packing = Dictionary::new();
    for key in PACKING {
        if let Some(value) = follow(document, stream.dict.get(key).ok()) {
            packing.set(key, written_here(document, value, 0));
        }
    }
    Stream::new(packing, stream.content.clone()).decompressed_content_with_limit(max_bytes)
}

fn is_written_here(value: &Object) -> bool {
    match value {
        Object::Reference(_) => false,
        Object::Array(items) => items.iter().all(is_written_here),
        Object::Dictionary(fields) => fields.iter().all(|(_, value)| is_written_here(value)),
        _ => true,
    }
}

/// The value with what it refers to in it, as deep as lists of filters and of what they need go.
fn written_here(document: &Document, value: &Object, depth: usize) -> Object {
    const DEPTH_MAX: usize = 3;
    let Some(value) = follow(document, Some(value)).filter(|_| depth < DEPTH_MAX) else { return Object::Null };
    let inner = |value: &Object| written_here(document, value, depth + 1);
    match value {
        Object::Array(items) => Object::Array(items.iter().map(inner).collect()),
        Object::Dictionary(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), inner(value)));
            Object::Dictionary(fields.collect())
        }
        other => other.clone(),
    }
}

/// What a node hands down to its kids.
#[derive(Clone, Copy, Default)]
struct Inherited<'a> {
    media_box: Option<&'a Object>,
    crop_box: Option<&'a Object>,
    rotate: Option<&'a Object>,
    resources: Option<ResourcesAt>,
}

impl<'a> Inherited<'a> {
    fn with(self, id: ObjectId, node: &'a Dictionary) -> Self {
        let own_resources = node.get(b"Resources").ok().map(|resources| match resources {
            Object::Reference(id) => ResourcesAt::Object(*id),
            _ => ResourcesAt::Node(id),
        });
        Self {
            media_box: node.get(b"MediaBox").ok().or(self.media_box),
            crop_box: node.get(b"CropBox").ok().or(self.crop_box),
            rotate: node.get(b"Rotate").ok().or(self.rotate),
            resources: own_resources.or(self.resources),
        }
    }
}

struct Visit<'a> {
    id: ObjectId,
    depth: usize,
    inherited: Inherited<'a>,
}

/// The pages in reading order, and whether the tree names some that are not in the file.
pub(crate) struct Walked {
    pub(crate) pages: Vec<Page>,
    pub(crate) has_gaps: bool,
}

/// Walks the page tree from its root.
pub(crate) fn walk(document: &Document, pages_max: usize) -> Result<Walked, Unreadable> {
    let root = document.catalog().ok().and_then(|catalog| last_id(document, catalog.get(b"Pages").ok()?));
    let root = root.ok_or_else(|| Unreadable::broken("the catalog names no page tree"))?;
    let mut pages = Vec::new();
    let mut has_gaps = false;
    let mut visited = HashSet::new();
    let mut todo = vec![Visit { id: root, depth: 0, inherited: Inherited::default() }];
    while let Some(Visit { id, depth, inherited }) = todo.pop() {
        // A kid that is missing or null is no page to anybody.
        let Some(node) = node(document, id) else {
            has_gaps = true;
            continue;
        };
        if !visited.insert(id) {
            return Err(Unreadable::broken("a page or page tree node is used twice"));
        }
        if depth > PAGE_TREE_DEPTH_MAX {
            return Err(Unreadable::broken("the page tree is nested too deeply"));
        }
        let inherited = inherited.with(id, node);
        if let Ok(kids) = node.get(b"Kids") {
            for kid in kid_ids(document, kids)?.into_iter().rev() {
                todo.push(Visit { id: kid, depth: depth + 1, inherited });
            }
            continue;
        }
        if pages.len() == pages_max {
            return Err(Unreadable::TooManyPages { actual: pages.len() + 1, max: pages_max });
        }
        if content_parts(document, id).len() > CONTENT_STREAMS_MAX {
            return Err(Unreadable::broken("a page consists of too many pieces"));
        }
        pages.push(page(document, id, node, inherited));
    }
    Ok(Walked { pages, has_gaps })
}

fn kid_ids(document: &Document, kids: &Object) -> Result<Vec<ObjectId>, Unreadable> {
    let kids = follow(document, Some(kids)).and_then(|kids| kids.as_array().ok());
    let kids = kids.ok_or_else(|| Unreadable::broken("a page tree node has no list of kids"))?;
    let ids = kids.iter().filter(|kid| !kid.is_null()).map(|kid| {
        last_id(document, kid)
            .ok_or_else(|| Unreadable::broken("the page tree holds a page that is not an object of its own"))
    });
    ids.collect()
}

fn page(document: &Document, id: ObjectId, node: &Dictionary, inherited: Inherited<'_>) -> Page {
    let media = rectangle(document, inherited.media_box).unwrap_or(PdfBox::LETTER);
    let crop = rectangle(document, inherited.crop_box).unwrap_or(media);
    let rotate = follow(document, inherited.rotate).and_then(number).unwrap_or(0.0);
    let unit = node.get(b"UserUnit").ok().and_then(|unit| follow(document, Some(unit))).and_then(number);
    Page {
        id,
        geometry: Geometry {
            visible: crop.intersection(media).unwrap_or(media),
            rotation: Rotation::from_degrees(rotate as i64),
            unit_pt: unit.filter(|unit| unit.is_finite() && *unit > 0.0).unwrap_or(1.0),
        },
        resources: inherited.resources,
    }
}

/// The box written there.
pub(crate) fn rectangle(document: &Document, object: Option<&Object>) -> Option<PdfBox> {
    let corners = follow(document, object)?.as_array().ok()?;
    let mut numbers = corners.iter().map(|corner| follow(document, Some(corner)).and_then(number));
    let mut next = || numbers.next().flatten();
    PdfBox::between([next()?, next()?, next()?, next()?])
}

/// The number, whole or not.
pub(crate) fn number(object: &Object) -> Option<f64> {
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

/// The object that is the value itself, behind a few references.
pub(crate) fn last_id(document: &Document, object: &Object) -> Option<ObjectId> {
    let mut id = object.as_reference().ok()?;
    for _ in 0..REFERENCE_HOPS_MAX {
        match document.objects.get(&id) {
            Some(Object::Reference(next)) => id = *next,
            _ => return Some(id),
        }
    }
    None
}

/// The object that is the stream itself, behind a few references.
pub(crate) fn stream_id(document: &Document, part: &Object) -> Option<ObjectId> {
    last_id(document, part).filter(|id| matches!(document.objects.get(id), Some(Object::Stream(_))))
}
