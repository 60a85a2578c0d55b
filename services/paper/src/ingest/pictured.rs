//! Whether the reader that makes the pictures finds the objects that ours found: people see its reading and seal ours.
//!
//! It must never judge which of the two is right; a file that is written anew leaves them no choice.

use hayro::hayro_interpret::hayro_syntax::Pdf;
use hayro::hayro_interpret::hayro_syntax::object::{Dict, MaybeRef, Object as Seen, ObjectIdentifier};
use lopdf::{Dictionary, Document, Object, ObjectId};

/// Compares all objects: their kind, their structure, names, numbers and references, and what streams hold.
pub(super) fn is_alike(file: &[u8], document: &Document) -> bool {
    let Ok(pdf) = Pdf::new(file.to_vec()) else { return false };
    let readers = Readers { document, pdf };
    let root = document.trailer.get(b"Root").and_then(Object::as_reference);
    root.is_ok_and(|root| readers.pdf.xref().root_id() == named(root))
        && document.objects.iter().all(|(id, object)| readers.seen(*id).is_some_and(|seen| readers.same(object, &seen)))
}

fn named((number, generation): ObjectId) -> ObjectIdentifier {
    ObjectIdentifier::new(number, i32::from(generation))
}

struct Readers<'a> {
    document: &'a Document,
    pdf: Pdf,
}

impl Readers<'_> {
    fn seen(&self, id: ObjectId) -> Option<Seen<'_>> {
        self.pdf.xref().get(named(id))
    }

    fn same(&self, object: &Object, seen: &Seen<'_>) -> bool {
        match (object, seen) {
            (Object::Null, Seen::Null(_)) => true,
            (Object::Boolean(value), Seen::Boolean(seen)) => value == seen,
            (Object::Integer(value), Seen::Number(seen)) => is_near(*value as f64, seen.as_f64()),
            (Object::Real(value), Seen::Number(seen)) => is_near(f64::from(*value), seen.as_f64()),
            // What is in strings decides nothing of what a page shows.
            (Object::String(..), Seen::String(_)) => true,
            (Object::Name(name), Seen::Name(seen)) => name.as_slice() == seen.as_ref(),
            (Object::Array(items), Seen::Array(seen)) => {
                let mut seen = seen.raw_iter();
                items.iter().all(|item| seen.next().is_some_and(|seen| self.same_value(item, &seen)))
                    && seen.next().is_none()
            }
            (Object::Dictionary(fields), Seen::Dict(seen)) => self.same_fields(fields, seen),
            (Object::Stream(stream), Seen::Stream(seen)) => {
                // Where the length is wrong one may take the end of the line along and the other not.
                let held = (stream.content.trim_ascii_end(), seen.raw_data());
                self.same_fields(&stream.dict, seen.dict()) && held.0 == held.1.trim_ascii_end()
            }
            _ => false,
        }
    }

    fn same_fields(&self, fields: &Dictionary, seen: &Dict<'_>) -> bool {
        let is_same = |key: &[u8], value| seen.get_raw(key).is_some_and(|seen| self.same_value(value, &seen));
        fields.len() == seen.len() && fields.iter().all(|(key, value)| key == b"Length" || is_same(key, value))
    }

    fn same_value(&self, value: &Object, seen: &MaybeRef<Seen<'_>>) -> bool {
        match (value, seen) {
            (Object::Reference(id), MaybeRef::Ref(seen)) => named(*id) == (*seen).into() && self.is_there_alike(*id),
            (value, MaybeRef::NotRef(seen)) => self.same(value, seen),
            _ => false,
        }
    }

    /// What was deleted is still there for a reader that does not look at what tables say is free.
    fn is_there_alike(&self, id: ObjectId) -> bool {
        self.document.objects.contains_key(&id) || self.seen(id).is_none_or(|seen| matches!(seen, Seen::Null(_)))
    }
}

/// Numbers are kept in different widths.
fn is_near(ours: f64, theirs: f64) -> bool {
    const WIDEST: f64 = i32::MAX as f64;
    const SHARE: f64 = 1e-4;
    (ours - theirs).abs() <= SHARE * ours.abs().max(1.0) || ours.abs() >= WIDEST
}
