//! XML of a DOCX, written anew without what leads out of it.
//!
//! Relationships and fields are kept by a list of what is harmless, so that what nobody has thought of falls out by itself.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, Writer, XmlVersion};

use super::docx::Flaw;
use super::field_codes::{Fields, is_harmless};

/// How deep elements may stand in one another.
const DEPTH_MAX: usize = 1_000;
/// Relationships that are kept, by the last word of their types: what makes up the looks of a text.
const RELATIONSHIPS: [&str; 32] = [
    "officeDocument",
    "core-properties",
    "extended-properties",
    "custom-properties",
    "styles",
    "stylesWithEffects",
    "settings",
    "fontTable",
    "font",
    "theme",
    "themeOverride",
    "numbering",
    "footnotes",
    "endnotes",
    "header",
    "footer",
    "image",
    "hyperlink",
    "comments",
    "commentsExtended",
    "commentsIds",
    "people",
    "chart",
    "chartUserShapes",
    "chartStyle",
    "chartColorStyle",
    "diagramData",
    "diagramLayout",
    "diagramQuickStyle",
    "diagramColors",
    "diagramDrawing",
    "glossaryDocument",
];
/// Where a link may lead that a reader clicks.
const LINKS: [&str; 3] = ["https:", "http:", "mailto:"];
/// Elements that are left out with all that is in them.
const DROPPED: [&str; 8] =
    ["altChunk", "OLEObject", "control", "subDoc", "attachedTemplate", "mailMerge", "externalData", "frameset"];
/// Attributes whose values look like addresses and are names.
const NAMES: [&str; 3] = ["uri", "prefixMappings", "ContentType"];

/// The list of what a part is related to.
pub(super) fn relationships(text: &str) -> Result<Vec<u8>, Flaw> {
    written(text, |element, _| {
        if local(element) != "Relationship" {
            return Ok(Some(element.to_owned()));
        }
        let (mut kind, mut target, mut external) = (String::new(), String::new(), false);
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|_| Flaw::Damaged)?;
            let value = unescaped(&attribute)?;
            match attribute.key.as_ref() {
                "Type" => kind = value,
                "Target" => target = value,
                "TargetMode" => external = value.eq_ignore_ascii_case("external"),
                _ => {}
            }
        }
        let kind = kind.rsplit('/').next().unwrap_or_default();
        let target = target.trim();
        let is_link = kind == "hyperlink";
        let begins = |scheme: &&str| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        let kept = if external {
            is_link && LINKS.iter().any(begins)
        } else {
            RELATIONSHIPS.contains(&kind) && !target.contains([':', '\\']) && !target.starts_with("//")
        };
        Ok(kept.then(|| element.to_owned()))
    })
}

/// Any other part.
pub(super) fn content(text: &str) -> Result<Vec<u8>, Flaw> {
    let harmless = Fields::read(text)?;
    let mut fields = Fields::of(harmless);
    written_with(text, &mut fields, |element, _| {
        if DROPPED.contains(&local(element)) {
            return Ok(None);
        }
        let mut kept = BytesStart::new(element.name().as_ref().to_owned());
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|_| Flaw::Damaged)?;
            let value = unescaped(&attribute)?;
            let key = attribute.key.as_ref();
            let name = key.rsplit(':').next().unwrap_or_default();
            let names_something = key.starts_with("xmlns") || NAMES.contains(&name);
            if names_something || (!leads_out(&value) && (name != "instr" || is_harmless(&value))) {
                let value = plain_type(&value).unwrap_or(value);
                kept.push_attribute((key, value.as_str()));
            }
        }
        Ok(Some(kept))
    })
}

/// A text with macros is one without, once they are left out.
fn plain_type(value: &str) -> Option<String> {
    const PLAIN: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml";
    (value == "application/vnd.ms-word.document.macroEnabled.main+xml").then(|| PLAIN.to_owned())
}

/// True for what names a place elsewhere.
fn leads_out(value: &str) -> bool {
    let value = value.trim();
    let scheme = value.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'));
    let known = ["file", "http", "https", "ftp", "smb", "data", "vnd.sun.star", "macro", "javascript", "private"];
    let known = is_scheme && known.iter().any(|name| scheme.to_ascii_lowercase().starts_with(name));
    known || value.contains("://") || value.starts_with("\\\\") || value.starts_with("//")
}

pub(super) fn local<'a>(element: &'a BytesStart<'_>) -> &'a str {
    let name: &'a str = element.name().into_inner();
    name.rsplit(':').next().unwrap_or_default()
}

pub(super) fn unescaped(attribute: &quick_xml::events::attributes::Attribute<'_>) -> Result<String, Flaw> {
    Ok(attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| Flaw::Damaged)?.into_owned())
}

fn written(
    text: &str,
    keep: impl FnMut(&BytesStart<'_>, usize) -> Result<Option<BytesStart<'static>>, Flaw>,
) -> Result<Vec<u8>, Flaw> {
    written_with(text, &mut Fields::of(Vec::new()), keep)
}

/// Writes each element as `keep` has it, and leaves out those that it does not keep, with all that is in them.
fn written_with(
    text: &str,
    fields: &mut Fields,
    mut keep: impl FnMut(&BytesStart<'_>, usize) -> Result<Option<BytesStart<'static>>, Flaw>,
) -> Result<Vec<u8>, Flaw> {
    let mut reader = Reader::from_str(text);
    let mut writer = Writer::new(Vec::with_capacity(text.len()));
    let (mut depth, mut dropped_at) = (0, None);
    loop {
        let event = reader.read_event().map_err(|_| Flaw::Damaged)?;
        fields.see(&event)?;
        let out = match event {
            Event::Eof if depth == 0 => return Ok(writer.into_inner()),
            Event::Eof => return Err(Flaw::Damaged),
            Event::DocType(_) => return Err(Flaw::Doctype),
            // Not needed for the looks.
            Event::Comment(_) | Event::PI(_) => None,
            Event::Start(element) => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(Flaw::Nested);
                }
                let kept = if dropped_at.is_none() { keep(&element, depth)? } else { None };
                if kept.is_none() && dropped_at.is_none() {
                    dropped_at = Some(depth);
                }
                kept.map(Event::Start)
            }
            Event::Empty(element) if dropped_at.is_none() => keep(&element, depth)?.map(Event::Empty),
            Event::Empty(_) => None,
            Event::End(end) => {
                let inside = dropped_at.is_some();
                if dropped_at == Some(depth) {
                    dropped_at = None;
                }
                depth = depth.checked_sub(1).ok_or(Flaw::Damaged)?;
                (!inside).then_some(Event::End(end))
            }
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) if fields.hides() => None,
            other => dropped_at.is_none().then_some(other),
        };
        if let Some(out) = out {
            writer.write_event(out).map_err(|_| Flaw::Damaged)?;
        }
    }
}
