//! What a later revision may say of the file in its catalog: a newer version of PDF, what extends it, and metadata.
//!
//! Whoever signs with more than the file's version knows has to say so. It must never take anything else for that, nor let
//! anything be taken back.

use lopdf::{Dictionary, Document, Object};

/// The versions of PDF, the oldest first.
const VERSIONS: [&[u8]; 9] = [b"1.0", b"1.1", b"1.2", b"1.3", b"1.4", b"1.5", b"1.6", b"1.7", b"2.0"];

/// Whether the catalog names a version that is no older than the one that readers went by: the later of header and catalog.
pub(super) fn is_raised(signed: &Document, before: Option<&Object>, after: Option<&Object>) -> bool {
    let place = |name: &[u8]| VERSIONS.iter().position(|version| *version == name);
    let named = |version: Option<&Object>| version.and_then(|version| place(version.as_name().ok()?));
    let most = place(signed.version.as_bytes()).max(named(before));
    named(after).is_some_and(|after| Some(after) >= most)
}

/// Whether the catalog names metadata where it named none: a stream that came with it.
pub(super) fn is_new_metadata(signed: &Document, now: &Document, before: Option<&Object>, after: &Object) -> bool {
    let Ok(id) = after.as_reference() else { return false };
    let stream = now.objects.get(&id).and_then(|object| object.as_stream().ok());
    let is_named = |key: &[u8], name: &[u8]| {
        stream.is_some_and(|stream| stream.dict.get(key).and_then(Object::as_name).is_ok_and(|it| it == name))
    };
    let is_metadata = is_named(b"Type", b"Metadata") && is_named(b"Subtype", b"XML");
    before.is_none() && !signed.objects.contains_key(&id) && is_metadata
}

/// Whether all that was named as an extension still is, by itself or by a higher level, and all that is new is one.
pub(super) fn is_extended(before: &Dictionary, after: &Dictionary) -> bool {
    let stays =
        |(prefix, value): (&Vec<u8>, &Object)| after.get(prefix).is_ok_and(|now| now == value || is_kept(value, now));
    let is_one = |(prefix, value): (&Vec<u8>, &Object)| {
        let is_type = prefix == b"Type" && value.as_name().is_ok_and(|name| name == b"Extensions");
        is_type || before.get(prefix).is_ok_and(|it| it == value) || extensions(value).is_some()
    };
    before.iter().all(stays) && after.iter().all(is_one)
}

/// Whether each of some extensions is among others, or a higher level is.
fn is_kept(before: &Object, after: &Object) -> bool {
    let (Some(before), Some(after)) = (extensions(before), extensions(after)) else { return false };
    before.iter().all(|it| after.iter().any(|now| now == it || level(now) > level(it)))
}

/// What stands under a developer's prefix: one extension or several, and nothing else.
fn extensions(value: &Object) -> Option<Vec<&Dictionary>> {
    let all = match value {
        Object::Dictionary(one) => vec![one],
        Object::Array(several) => several.iter().map(|one| one.as_dict().ok()).collect::<Option<_>>()?,
        _ => return None,
    };
    all.iter().all(|one| is_extension(one)).then_some(all)
}

fn is_extension(entries: &Dictionary) -> bool {
    let is_known = |(key, value): (&Vec<u8>, &Object)| match key.as_slice() {
        b"Type" => value.as_name().is_ok_and(|name| name == b"DeveloperExtensions"),
        b"BaseVersion" => value.as_name().is_ok(),
        b"ExtensionLevel" => value.as_i64().is_ok(),
        b"URL" | b"ExtensionRevision" => value.as_str().is_ok(),
        _ => false,
    };
    entries.has(b"BaseVersion") && level(entries).is_some() && entries.iter().all(is_known)
}

fn level(entries: &Dictionary) -> Option<i64> {
    entries.get(b"ExtensionLevel").and_then(Object::as_i64).ok()
}
