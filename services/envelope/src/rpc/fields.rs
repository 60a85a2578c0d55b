//! The fields of a request.

use countersign::v1;
use countersign::v1::ErrorReason;
use countersign_chassis::problem::Problem;
use rust_decimal::Decimal;
use tonic::Status;
use unicode_normalization::UnicodeNormalization as _;

use super::parse::{Faults, value};
use crate::domain::address::same_address;
use crate::domain::field::{Field, FieldType, Placement, Rules, decimal};
use crate::domain::id::{DocumentId, FieldId, RecipientId};
use crate::domain::limits::{LABEL_CHARS_MAX, Limits};
use crate::domain::personal::Personal;
use crate::domain::recipient::Recipient;

/// The smallest side of a field, in percent of the page.
const SIDE_PERCENT_MIN: f64 = 0.5;
/// What rounding may add to a field that ends at the edge of its page.
const EDGE_PERCENT: f64 = 100.000_001;

/// What fields are bound to: recipients, and documents with their number of pages where it is known.
pub(super) struct Ground<'a> {
    pub recipients: &'a [Recipient],
    pub documents: &'a [(DocumentId, Option<u32>)],
}

/// The fields of a request, with all that is wrong about them.
pub(super) fn fields(
    given: &[v1::NewField],
    ground: &Ground,
    mut id: impl FnMut() -> FieldId,
    faults: &mut Faults,
) -> Result<Vec<Field>, Status> {
    let mut fields = Vec::new();
    for (index, given) in given.iter().enumerate() {
        let path = format!("fields[{index}]");
        let recipient = recipient(given, ground.recipients, &path, faults)?;
        let document = document(given, ground.documents, &path, faults);
        let kind = kind(given.r#type);
        if kind.is_none() {
            faults.add(format!("{path}.type"), "is not a type that the service knows");
        }
        let pages = document.and_then(|(_, pages)| pages);
        let placement = placement(given.placement.as_ref(), pages, &format!("{path}.placement"), faults);
        let name = faults.line(format!("{path}.name"), &given.name, false, LABEL_CHARS_MAX);
        let rules = rules(given.validation.as_ref(), &format!("{path}.validation"), faults);
        let value = given.value.clone().map(|given| value(faults, &format!("{path}.value"), Some(given)));
        let (Some(kind), Some(recipient), Some((document, _))) = (kind, recipient, document) else { continue };
        let always = kind.is_automatic() || kind.is_mark();
        let mut field = Field {
            id: id(),
            kind,
            recipient,
            document,
            placement,
            required: given.required || always,
            read_only: given.read_only,
            name,
            rules,
            preset: None,
            value,
        };
        for (part, why) in field.defects() {
            faults.add(format!("{path}.{part}"), why);
        }
        // As it would be if the recipient had put it in: trimmed, and none if it is empty.
        field.preset = field.value.as_ref().and_then(|given| field.fits(given).ok().flatten());
        field.value.clone_from(&field.preset);
        fields.push(field);
    }
    Ok(fields)
}

fn kind(given: i32) -> Option<FieldType> {
    FieldType::ALL.into_iter().find(|kind| *kind as i32 == given)
}

/// By id, by address, or by place.
fn recipient(
    given: &v1::NewField,
    recipients: &[Recipient],
    path: &str,
    faults: &mut Faults,
) -> Result<Option<RecipientId>, Status> {
    let named = given.recipient.trim();
    if named.is_empty() {
        let found = usize::try_from(given.recipient_index).ok().and_then(|at| recipients.get(at));
        if found.is_none() {
            faults.add(format!("{path}.recipient_index"), "there is no such recipient");
        }
        return Ok(found.map(|recipient| recipient.id));
    }
    let address = Personal::new(named);
    let mut found =
        recipients.iter().filter(|other| other.id.to_string() == named || same_address(&other.person.email, &address));
    let first = found.next();
    if found.next().is_some() {
        let problem = Problem::new(ErrorReason::AmbiguousRecipient, "Several recipients have this e-mail address.");
        return Err(problem.field(format!("{path}.recipient"), "stands for several: name one by id").into());
    }
    if first.is_none() {
        faults.add(format!("{path}.recipient"), "there is no such recipient");
    }
    Ok(first.map(|recipient| recipient.id))
}

fn document(
    given: &v1::NewField,
    documents: &[(DocumentId, Option<u32>)],
    path: &str,
    faults: &mut Faults,
) -> Option<(DocumentId, Option<u32>)> {
    let (found, part) = if given.document_id.is_empty() {
        let at = usize::try_from(given.document_index).ok();
        (at.and_then(|at| documents.get(at)), "document_index")
    } else {
        (documents.iter().find(|(id, _)| id.to_string() == given.document_id), "document_id")
    };
    if found.is_none() {
        faults.add(format!("{path}.{part}"), "there is no such document");
    }
    found.copied()
}

fn rules(given: Option<&v1::Validation>, path: &str, faults: &mut Faults) -> Rules {
    let Some(given) = given else { return Rules::default() };
    let mut number = |name: &str, text: &str| -> Option<Decimal> {
        if text.is_empty() {
            return None;
        }
        let number = decimal(text);
        if number.is_none() {
            faults.add(format!("{path}.{name}"), "is not a decimal number such as -12.50");
        }
        number
    };
    let (min, max) = (number("min", &given.min), number("max", &given.max));
    let some = |number: u32| (number > 0).then_some(number);
    Rules {
        pattern: (!given.pattern.is_empty()).then(|| given.pattern.nfc().collect()),
        min_length: some(given.min_length),
        max_length: some(given.max_length),
        min,
        max,
        options: given.options.iter().map(|option| option.nfc().collect()).collect(),
        group: faults.line(format!("{path}.group"), &given.group, false, LABEL_CHARS_MAX),
    }
}

fn placement(given: Option<&v1::Placement>, pages: Option<u32>, path: &str, faults: &mut Faults) -> Placement {
    let Some(given) = given else {
        faults.add(path, "must be there");
        return Placement { page: 1, x_percent: 0.0, y_percent: 0.0, width_percent: 1.0, height_percent: 1.0 };
    };
    // As long as its pages are not known, as many as any document may have.
    let most = pages.unwrap_or_else(|| u32::try_from(Limits::ceiling().pages_max).unwrap_or(u32::MAX));
    if given.page == 0 || given.page > most {
        faults.add(format!("{path}.page"), "there is no such page");
    }
    for (name, start, size) in
        [("x", given.x_percent, given.width_percent), ("y", given.y_percent, given.height_percent)]
    {
        let side = if name == "x" { "width" } else { "height" };
        // Written so that a NaN fails each of them.
        if !(0.0..=100.0).contains(&start) {
            faults.add(format!("{path}.{name}_percent"), "must be 0 to 100");
        } else if !(SIDE_PERCENT_MIN..=100.0).contains(&size) {
            faults.add(format!("{path}.{side}_percent"), "must be 0.5 to 100");
        } else if start + size > EDGE_PERCENT {
            faults.add(format!("{path}.{side}_percent"), "the field must end on the page");
        }
    }
    Placement {
        page: given.page,
        x_percent: given.x_percent,
        y_percent: given.y_percent,
        width_percent: given.width_percent,
        height_percent: given.height_percent,
    }
}

/// Whether each field stands on a page that its document has.
pub(super) fn pages(fields: &[Field], documents: &[(DocumentId, Option<u32>)], faults: &mut Faults) {
    for (index, field) in fields.iter().enumerate() {
        let pages = documents.iter().find(|(id, _)| *id == field.document).and_then(|(_, pages)| *pages);
        if pages.is_some_and(|pages| field.placement.page > pages) {
            faults.add(format!("fields[{index}].placement.page"), "there is no such page");
        }
    }
}
