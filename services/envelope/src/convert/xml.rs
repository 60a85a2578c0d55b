//! XML of a DOCX, written anew without what leads out of it.
//!
//! Relationships and fields are kept by a list of what is harmless, so that what nobody has thought of falls out by itself.

use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;
use quick_xml::{Writer, XmlVersion};

use super::docx::Flaw;
use super::field_codes::{Codes, Mark, Place, Seen, is_harmless};

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
const DROPPED: [&str; 9] = [
    "altChunk",
    "OLEObject",
    "control",
    "subDoc",
    "attachedTemplate",
    "mailMerge",
    "externalData",
    "frameset",
    "delInstrText",
];
/// Attributes that name what is linked by the id of a relationship, of whatever type that is.
const LINKED: [&str; 2] = ["link", "href"];
/// Word's own elements.
const WORD: [&str; 2] = [
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
];
/// Attributes whose values look like addresses and are names.
const NAMES: [&str; 3] = ["uri", "prefixMappings", "ContentType"];

/// The list of what a part is related to.
pub(super) fn relationships(text: &str) -> Result<Vec<u8>, Flaw> {
    written(text, &mut Related)
}

/// Any other part: once without what leads out of it, once more without the instructions that turned out to.
pub(super) fn content(text: &str) -> Result<Vec<u8>, Flaw> {
    let mut inside = Inside::default();
    let text = written(text, &mut inside)?;
    let text = String::from_utf8(text).map_err(|_| Flaw::Damaged)?;
    written(&text, &mut Harmless { place: Place::default(), harmless: inside.codes.harmless() })
}

/// What is kept of a part.
trait Keep {
    /// An element that begins, as it is kept; none is left out with all that is in it.
    fn element(
        &mut self,
        element: &BytesStart<'_>,
        seen: Seen<'_>,
        is_empty: bool,
    ) -> Result<Option<BytesStart<'static>>, Flaw>;

    /// An element that was kept ends.
    fn end(&mut self) {}

    /// Whether text is kept.
    fn text(&mut self, _said: &str) -> bool {
        true
    }
}

struct Related;

impl Keep for Related {
    fn element(
        &mut self,
        element: &BytesStart<'_>,
        seen: Seen<'_>,
        _: bool,
    ) -> Result<Option<BytesStart<'static>>, Flaw> {
        if seen.name != "Relationship" {
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
        let kept = if external {
            kind == "hyperlink" && is_link(target)
        } else {
            RELATIONSHIPS.contains(&kind) && !target.contains([':', '\\']) && !target.starts_with("//")
        };
        Ok(kept.then(|| element.to_owned()))
    }
}

#[derive(Default)]
struct Inside {
    place: Place,
    codes: Codes,
}

impl Keep for Inside {
    fn element(
        &mut self,
        element: &BytesStart<'_>,
        seen: Seen<'_>,
        is_empty: bool,
    ) -> Result<Option<BytesStart<'static>>, Flaw> {
        if DROPPED.contains(&seen.name) || !self.place.takes(seen) {
            return Ok(None);
        }
        self.place.begin(seen, is_empty)?;
        let mut kept = BytesStart::new(element.name().as_ref().to_owned());
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|_| Flaw::Damaged)?;
            let (key, value) = (attribute.key.as_ref(), unescaped(&attribute)?);
            let (prefix, name) = key.rsplit_once(':').unwrap_or(("", key));
            let names_something = key.starts_with("xmlns") || NAMES.contains(&name);
            let is_linked = !prefix.is_empty() && LINKED.contains(&name);
            let is_inside = !is_linked && !leads_out(&value) && (name != "instr" || is_harmless(&value));
            if names_something || is_inside {
                let value = plain_type(&value).unwrap_or(value);
                kept.push_attribute((key, value.as_str()));
            }
        }
        Ok(Some(kept))
    }

    fn end(&mut self) {
        self.place.end();
    }

    fn text(&mut self, said: &str) -> bool {
        if let Some(number) = self.place.instruction() {
            self.codes.add(number, said);
        }
        self.place.takes_text()
    }
}

/// Leaves out the words of instructions that are not harmless.
struct Harmless {
    place: Place,
    harmless: Vec<bool>,
}

impl Keep for Harmless {
    fn element(
        &mut self,
        element: &BytesStart<'_>,
        seen: Seen<'_>,
        is_empty: bool,
    ) -> Result<Option<BytesStart<'static>>, Flaw> {
        self.place.begin(seen, is_empty)?;
        Ok(Some(element.to_owned()))
    }

    fn end(&mut self) {
        self.place.end();
    }

    fn text(&mut self, _: &str) -> bool {
        self.place.instruction().is_none_or(|number| self.harmless.get(number).copied().unwrap_or_default())
    }
}

/// True for what a reader may click.
pub(super) fn is_link(target: &str) -> bool {
    LINKS.iter().any(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// A text with macros is one without, once they are left out.
fn plain_type(value: &str) -> Option<String> {
    const PLAIN: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml";
    (value == "application/vnd.ms-word.document.macroEnabled.main+xml").then(|| PLAIN.to_owned())
}

/// True for what names a place elsewhere.
pub(super) fn leads_out(value: &str) -> bool {
    let value = value.trim();
    let scheme = value.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'));
    let known = ["file", "http", "https", "ftp", "smb", "data", "vnd.sun.star", "macro", "javascript", "private"];
    let known = is_scheme && known.iter().any(|name| scheme.to_ascii_lowercase().starts_with(name));
    known || value.contains("://") || value.starts_with("\\\\") || value.starts_with("//")
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or_default()
}

fn unescaped(attribute: &Attribute<'_>) -> Result<String, Flaw> {
    Ok(attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| Flaw::Damaged)?.into_owned())
}

/// What stands there, to those who go by names and by what the names stand for.
fn seen<'a>(reader: &NsReader<&[u8]>, element: &'a BytesStart<'_>) -> Result<Seen<'a>, Flaw> {
    let resolver = reader.resolver();
    let of_word = |bound: ResolveResult<'_>| matches!(bound, ResolveResult::Bound(it) if WORD.contains(&it.0));
    let name: &'a str = element.name().into_inner();
    let (name, is_word) = (local(name), of_word(resolver.resolve_element(element.name()).0));
    let mut mark = None;
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|_| Flaw::Damaged)?;
        let key = attribute.key.as_ref();
        // Names were compared before this would have been read.
        if key.starts_with("xmlns") && attribute.value.contains('&') {
            return Err(Flaw::Damaged);
        }
        if name == "fldChar" && is_word && local(key) == "fldCharType" {
            let value = unescaped(&attribute)?;
            let known = [("begin", Mark::Begin), ("separate", Mark::Separate), ("end", Mark::End)];
            let known = known.into_iter().find(|(name, _)| *name == value).map(|(_, mark)| mark);
            if known.is_none() || mark.is_some() || !of_word(resolver.resolve_attribute(attribute.key).0) {
                return Err(Flaw::Damaged);
            }
            mark = known;
        }
    }
    Ok(Seen { name, is_word, mark })
}

/// Writes each element as `keep` has it, and leaves out those that it does not keep, with all that is in them.
fn written(text: &str, keep: &mut impl Keep) -> Result<Vec<u8>, Flaw> {
    let mut reader = NsReader::from_str(text);
    let mut writer = Writer::new(Vec::with_capacity(text.len()));
    let (mut depth, mut dropped_at) = (0, None);
    loop {
        let event = reader.read_event().map_err(|_| Flaw::Damaged)?;
        let is_inside = dropped_at.is_none();
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
                let seen = seen(&reader, &element)?;
                let kept = if is_inside { keep.element(&element, seen, false)? } else { None };
                if kept.is_none() && is_inside {
                    dropped_at = Some(depth);
                }
                kept.map(Event::Start)
            }
            Event::Empty(element) => {
                let seen = seen(&reader, &element)?;
                if is_inside { keep.element(&element, seen, true)?.map(Event::Empty) } else { None }
            }
            Event::End(end) => {
                if is_inside {
                    keep.end();
                }
                if dropped_at == Some(depth) {
                    dropped_at = None;
                }
                depth = depth.checked_sub(1).ok_or(Flaw::Damaged)?;
                is_inside.then_some(Event::End(end))
            }
            Event::Text(said) => (is_inside && keep.text(&said)).then_some(Event::Text(said)),
            Event::CData(said) => (is_inside && keep.text(&said)).then_some(Event::CData(said)),
            Event::GeneralRef(said) => (is_inside && keep.text(letter(&said))).then_some(Event::GeneralRef(said)),
            other => is_inside.then_some(other),
        };
        if let Some(out) = out {
            writer.write_event(out).map_err(|_| Flaw::Damaged)?;
        }
    }
}

/// What a reference stands for, as far as harmless instructions need it: not a character by its number.
fn letter(reference: &str) -> &'static str {
    match reference {
        "quot" => "\"",
        "apos" => "'",
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        _ => "\u{fffd}",
    }
}
