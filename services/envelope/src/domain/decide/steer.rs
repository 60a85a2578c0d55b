//! What the sender and the operator do.

use chrono::{DateTime, TimeDelta, Utc};

use super::duty;
use crate::domain::command::{Assign, Edit};
use crate::domain::envelope::{Cause, Envelope, Ingest};
use crate::domain::event::Event;
use crate::domain::field::{Field, FieldType, Value};
use crate::domain::id::EnvelopeId;
use crate::domain::limits::EXPIRY_DAYS_MAX;
use crate::domain::personal::Personal;
use crate::domain::recipient::{Recipient, RecipientState, Role};
use crate::domain::refusal::{Place, Why};
use crate::domain::routing::{assisted, needed};
use crate::domain::status::Status;

/// What a draft lacks to be sent.
pub(in crate::domain) fn lacks(envelope: &Envelope, now: DateTime<Utc>) -> Vec<&'static str> {
    let mut lacks = Vec::new();
    let mut need = |holds: bool, lack: &'static str| {
        if !holds {
            lacks.push(lack);
        }
    };
    let recipients = &envelope.recipients;
    need(now < envelope.expires_at, "The deadline has passed.");
    need(
        envelope.terms.scheduled_send_at.is_none_or(|at| at < envelope.expires_at),
        "The envelope is to be sent after its deadline.",
    );
    need(!envelope.documents.is_empty(), "The envelope has no document.");
    need(envelope.ingest() != Ingest::Failed, "A document cannot be read.");
    need(recipients.iter().any(|other| other.role.gates()), "The envelope has neither a signer nor an approver.");
    let has_place = |signer: &Recipient| {
        envelope.fields.iter().any(|field| field.recipient == signer.id && field.kind == FieldType::Signature)
    };
    let mut signers = recipients.iter().filter(|other| other.role == Role::Signer);
    // As long as markers are to be read, they may bring it.
    let awaits_markers = || {
        let mut awaited = envelope.documents.iter().filter_map(|document| document.awaits.as_ref());
        awaited.any(|awaited| awaited.markers)
    };
    need(signers.all(has_place) || awaits_markers(), "Every signer needs a SIGNATURE field.");
    need(on_pages(envelope), "A field stands on a page that its document lacks.");
    let fits = |field: &Field| {
        envelope.recipient(field.recipient).is_some_and(|recipient| recipient.role.may_have(field.kind))
    };
    need(envelope.fields.iter().all(fits), "A field is bound to a recipient whose role cannot fill it.");
    need(can_be_filled(envelope), "A required field is read-only and empty, or two buttons of one set are chosen.");
    let last = recipients.iter().filter(|other| other.role.gates()).map(|other| other.group).max();
    let mut viewers = recipients.iter().filter(|other| other.role == Role::Viewer);
    need(viewers.all(|other| Some(other.group) <= last), "A viewer's group comes after all who act.");
    let mut assistants = recipients.iter().filter(|other| other.role == Role::Assistant);
    need(
        assistants.all(|other| assisted(envelope, other).is_some_and(|signer| signer.role == Role::Signer)),
        "Every assistant needs a signer to assist.",
    );
    need(
        envelope.terms.quorums.iter().all(|quorum| {
            let members = recipients.iter().filter(|other| other.role.gates() && other.group == quorum.group).count();
            (1..=members).contains(&needed(envelope, quorum.group))
        }),
        "A quorum must be 1 to as many as its group has signers and approvers.",
    );
    lacks
}

/// True if every field stands on a page that there is, as far as pages are known.
fn on_pages(envelope: &Envelope) -> bool {
    let there = |field: &Field| {
        let document = envelope.document(field.document);
        document.is_none_or(|document| !document.is_read() || field.placement.page <= document.page_count)
    };
    envelope.fields.iter().all(there)
}

/// True if nobody will be kept from acting by what they cannot change.
fn can_be_filled(envelope: &Envelope) -> bool {
    let value = |field: &Field| field.value.as_ref().and_then(|value| field.fits(value).ok().flatten());
    let chosen = |field: &Field| field.value == Some(Value::Checked(true));
    let alone = |field: &Field| match (field.kind, value(field)) {
        (FieldType::Radio, _) => {
            let set = || {
                envelope.fields.iter().filter(|other| {
                    other.kind == FieldType::Radio
                        && other.recipient == field.recipient
                        && other.rules.group == field.rules.group
                })
            };
            let fixed = set().filter(|other| other.read_only && chosen(other)).count();
            let open = set().any(|other| !other.read_only);
            set().filter(|other| chosen(other)).count() <= 1 && (!field.required || fixed == 1 || open)
        }
        (_, value) => {
            let empty = matches!(value, None | Some(Value::Checked(false)));
            !(field.read_only && field.required && empty)
        }
    };
    envelope.fields.iter().all(alone)
}

pub(super) fn send(envelope: &Envelope, now: DateTime<Utc>) -> Result<Vec<Event>, Why> {
    if !envelope.is_draft() {
        return Err(Why::State);
    }
    let lacks = lacks(envelope, now);
    if !lacks.is_empty() {
        return Err(Why::Incomplete(lacks));
    }
    Ok(if duty::is_due(envelope, now) { duty::start(envelope, now) } else { vec![Event::Dispatched] })
}

pub(super) fn update(envelope: &Envelope, edit: &Edit) -> Result<Vec<Event>, Why> {
    if !envelope.is_draft() {
        return Err(Why::State);
    }
    match edit {
        Edit::Terms(_) => {}
        Edit::AddFields { fields, fields_max } => {
            if fields.iter().any(|field| envelope.recipient(field.recipient).is_none()) {
                return Err(Why::NoSuchRecipient);
            }
            if fields.iter().any(|field| envelope.document(field.document).is_none()) {
                return Err(Why::NoSuchDocument);
            }
            let count = envelope.fields.len() + fields.len();
            if count > *fields_max {
                return Err(Why::TooManyFields { actual: count, allowed: *fields_max });
            }
        }
        Edit::ReplaceDocument { document: new, fields, fields_max } => {
            if envelope.document(new.id).is_none() {
                return Err(Why::NoSuchDocument);
            }
            // Nobody would need the bytes of the other any more.
            if envelope.keeping.held_at.is_some() {
                return Err(Why::Held);
            }
            let stay = |field: &&Field| fields.is_none() || field.document != new.id;
            let count = envelope.fields.iter().filter(stay).count() + fields.as_ref().map_or(0, Vec::len);
            if fields.is_some() && count > *fields_max {
                return Err(Why::TooManyFields { actual: count, allowed: *fields_max });
            }
            let off = envelope.fields.iter().filter(stay).filter(|field| field.document == new.id);
            let off = off.filter(|field| new.is_read() && field.placement.page > new.page_count);
            let wrong: Vec<_> = off.map(|field| (Place::Page(field.id), "remove it first".into())).collect();
            if !wrong.is_empty() {
                return Err(Why::Invalid(wrong));
            }
        }
        Edit::RemoveFields(ids) => {
            if ids.iter().any(|id| !envelope.fields.iter().any(|field| field.id == *id)) {
                return Err(Why::NoSuchField);
            }
        }
    }
    Ok(vec![Event::Updated(edit.clone())])
}

pub(super) fn discard(envelope: &Envelope) -> Result<Vec<Event>, Why> {
    match envelope.keeping.held_at {
        _ if !envelope.is_draft() => Err(Why::State),
        Some(_) => Err(Why::Held),
        None => Ok(vec![Event::Discarded]),
    }
}

pub(super) fn void(envelope: &Envelope, cause: Cause, reason: Option<&Personal>) -> Result<Vec<Event>, Why> {
    if envelope.facts.is_open() { Ok(vec![Event::Voided { cause, reason: reason.cloned() }]) } else { Err(Why::State) }
}

pub(super) fn reassign(envelope: &Envelope, assign: &Assign) -> Result<Vec<Event>, Why> {
    let recipient = envelope.recipient(assign.recipient).ok_or(Why::NoSuchRecipient)?;
    if !envelope.is_draft() && !envelope.facts.is_open() {
        return Err(Why::State);
    }
    match recipient.state {
        RecipientState::Waiting | RecipientState::Released { .. } => {}
        RecipientState::NotNeeded { .. } => return Err(Why::NotNeeded),
        RecipientState::Acted { .. } | RecipientState::Declined { .. } | RecipientState::ReleasedBy { .. } => {
            return Err(Why::AlreadyActed);
        }
    }
    if recipient.person == assign.person {
        return Ok(Vec::new());
    }
    Ok(vec![Event::Reassigned {
        recipient: recipient.id,
        before: recipient.person.clone(),
        after: assign.person.clone(),
        reason: assign.reason.clone(),
    }])
}

pub(super) fn extend(envelope: &Envelope, expires_at: DateTime<Utc>, now: DateTime<Utc>) -> Result<Vec<Event>, Why> {
    if !envelope.facts.is_open() {
        return Err(Why::State);
    }
    if expires_at == envelope.expires_at {
        return Ok(Vec::new());
    }
    if expires_at < envelope.expires_at || expires_at > now + TimeDelta::days(EXPIRY_DAYS_MAX) {
        let why = format!("must be after the present deadline and at most {EXPIRY_DAYS_MAX} days ahead");
        return Err(Why::Invalid(vec![(Place::ExpiresAt, why.into())]));
    }
    Ok(vec![Event::DeadlineChanged { expires_at }])
}

pub(super) fn replace(envelope: &Envelope, by: EnvelopeId, lost: Option<EnvelopeId>) -> Result<Vec<Event>, Why> {
    match envelope.status() {
        Status::Declined | Status::Voided | Status::Expired => {}
        Status::Draft | Status::Pending | Status::Sent | Status::PartiallySigned | Status::Completed => {
            return Err(Why::State);
        }
    }
    let owed = envelope.replaced_by.is_none() || envelope.replaced_by == lost;
    if owed && envelope.keeping.is_purged() {
        return Err(Why::Purged);
    }
    Ok(if owed { vec![Event::Replaced { by }] } else { Vec::new() })
}
