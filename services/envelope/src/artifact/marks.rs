//! What is drawn into the fields of a document.

use std::collections::BTreeMap;

use countersign_paper as paper;

use crate::domain::drawn::{Drawn, Sketch};
use crate::domain::envelope::{Digest, Document, Envelope};
use crate::domain::field::{Field, FieldType, Value};
use crate::domain::id::RecipientId;

/// What people drew, by its hash.
pub(super) type Drawings = BTreeMap<Digest, Vec<u8>>;

/// The values of a document's fields in their boxes.
pub(super) fn marks(envelope: &Envelope, document: &Document, drawings: &Drawings) -> Vec<paper::Mark> {
    let mark = |field: &Field| {
        Some(paper::Mark {
            page: field.placement.page,
            x_pct: field.placement.x_percent,
            y_pct: field.placement.y_percent,
            width_pct: field.placement.width_percent,
            height_pct: field.placement.height_percent,
            content: content(envelope, field, drawings)?,
        })
    };
    envelope.fields.iter().filter(|field| field.document == document.id).filter_map(mark).collect()
}

/// A recipient's first signature.
pub(super) fn signature(envelope: &Envelope, own: RecipientId, drawings: &Drawings) -> Option<paper::MarkContent> {
    let mut signed =
        envelope.fields.iter().filter(|field| field.recipient == own && field.kind == FieldType::Signature);
    signed.find_map(|field| content(envelope, field, drawings))
}

fn content(envelope: &Envelope, field: &Field, drawings: &Drawings) -> Option<paper::MarkContent> {
    Some(match field.value.as_ref()? {
        Value::Text(text) => typed(field.kind, text.reveal().to_owned()),
        Value::Checked(checked) if field.kind == FieldType::Radio => paper::MarkContent::Radio(*checked),
        Value::Checked(checked) => paper::MarkContent::Check(*checked),
        Value::Drawn(drawn) => hand(envelope, field, drawn, drawings),
    })
}

fn typed(kind: FieldType, text: String) -> paper::MarkContent {
    match kind {
        FieldType::Signature => paper::MarkContent::Signature { name: text },
        FieldType::Initials => paper::MarkContent::Initials(text),
        FieldType::Text | FieldType::Dropdown => paper::MarkContent::Paragraph(text),
        FieldType::Name
        | FieldType::Email
        | FieldType::Date
        | FieldType::Number
        | FieldType::Checkbox
        | FieldType::Radio => paper::MarkContent::Text(text),
    }
}

/// What was drawn; the name in its place where the drawing has been erased.
fn hand(envelope: &Envelope, field: &Field, drawn: &Drawn, drawings: &Drawings) -> paper::MarkContent {
    let name = envelope.recipient(field.recipient).map(|it| it.person.name.reveal().to_owned()).unwrap_or_default();
    let initials = || name.split_whitespace().filter_map(|word| word.chars().next()).collect();
    let drawing = match drawings.get(&drawn.sha256).and_then(|bytes| Sketch::of(bytes)) {
        Some(Sketch::Picture(bytes)) => paper::Drawing::Picture(bytes),
        Some(Sketch::Strokes(kept)) => {
            paper::Drawing::Strokes(paper::Strokes { aspect: kept.aspect, pen: kept.pen, strokes: kept.strokes })
        }
        None if field.kind == FieldType::Initials => return paper::MarkContent::Initials(initials()),
        None => return paper::MarkContent::Signature { name },
    };
    match field.kind {
        FieldType::Initials => paper::MarkContent::DrawnInitials { typed: initials(), drawing },
        _ => paper::MarkContent::DrawnSignature { name, drawing },
    }
}
