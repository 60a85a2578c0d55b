//! Makes an event true of an envelope. Decides nothing and cannot fail.

use chrono::{DateTime, Utc};

use super::address::same_address;
use super::command::{Edit, NewArtifact};
use super::envelope::{Artifact, Cause, End, Envelope};
use super::event::{Acted, Event};
use super::field::Value;
use super::id::{DocumentId, FieldId, RecipientId};
use super::ingest::Reading;
use super::recipient::{Ending, Person, Recipient, RecipientState};
use super::reminder::Notices;

/// Applies an event that happened at `at`.
pub fn apply(envelope: &mut Envelope, event: &Event, at: DateTime<Utc>) {
    match event {
        Event::Created => {}
        Event::Updated(edit) => update(envelope, edit),
        Event::Discarded => envelope.facts.discarded_at = Some(at),
        Event::Dispatched => envelope.facts.dispatched_at = Some(at),
        Event::Sent => {
            envelope.facts.dispatched_at.get_or_insert(at);
            envelope.facts.sent_at = Some(at);
        }
        Event::Ingested { document, reading } => read(envelope, *document, reading),
        Event::Signed(acted) => {
            envelope.facts.first_signed_at.get_or_insert(at);
            act(envelope, acted, at);
        }
        Event::Approved(acted) => act(envelope, acted, at),
        Event::Filled { recipient, values } => {
            fill(envelope, values);
            let revision = envelope.revision;
            with(envelope, *recipient, |it| it.filled_revision = revision);
        }
        Event::AllActed => envelope.facts.all_acted_at = Some(at),
        Event::Completed { artifacts } => {
            envelope.facts.completed_at = Some(at);
            keep(envelope, artifacts, at);
        }
        Event::Declined { cause, by } => decline(envelope, *cause, *by, at),
        Event::Voided { cause, reason } => {
            envelope.facts.voided_at = Some(at);
            envelope.void_reason.clone_from(reason);
            end(envelope, Ending::Voided, *cause, at);
        }
        Event::Expiring => envelope.warned_at = Some(at),
        Event::DeadlineChanged { expires_at } => {
            envelope.expires_at = *expires_at;
            envelope.warned_at = None;
        }
        Event::Expired => {
            envelope.facts.expired_at = Some(at);
            end(envelope, Ending::Expired, Cause::Deadline, at);
        }
        Event::Replaced { by } => {
            envelope.replaced_by = Some(*by);
            envelope.requires_replacement = false;
        }
        Event::ArtifactReady { artifacts } => keep(envelope, artifacts, at),
        Event::PurgeDue
        | Event::Purged { .. }
        | Event::ErasureRefused { .. }
        | Event::Held { .. }
        | Event::Freed { .. }
        | Event::Retained { .. } => keep_content(envelope, event, at),
        Event::Released { recipient }
        | Event::Viewed { recipient }
        | Event::NotNeeded { recipient }
        | Event::RecipientDeclined { recipient, .. }
        | Event::ReleasedByDecline { recipient }
        | Event::Reassigned { recipient, .. }
        | Event::Delegated { recipient, .. }
        | Event::Resent { recipient, .. }
        | Event::Reminded { recipient }
        | Event::Bounced { recipient }
        | Event::Muted { recipient } => with(envelope, *recipient, |it| happen(it, event, at)),
    }
}

/// A document has been read, or cannot be.
fn read(envelope: &mut Envelope, document: DocumentId, reading: &Reading) {
    let documents = envelope.documents.iter_mut().filter(|other| other.id == document);
    documents.for_each(|document| document.take(reading));
    if let Reading::Ready(read) = reading {
        envelope.fields.extend(read.fields.iter().cloned());
    }
}

/// A refusal ends the envelope.
fn decline(envelope: &mut Envelope, cause: Cause, by: RecipientId, at: DateTime<Utc>) {
    envelope.facts.declined_at = Some(at);
    envelope.requires_replacement = true;
    envelope.end = Some(End { cause, by: Some(by) });
    unlink_signatures(envelope);
}

/// What happens to one recipient alone.
fn happen(recipient: &mut Recipient, event: &Event, at: DateTime<Utc>) {
    let released_at = recipient.released_at();
    match event {
        Event::Released { .. } => {
            recipient.state = RecipientState::Released { at };
            recipient.invited_at = Some(at);
        }
        Event::Viewed { .. } => recipient.viewed_at = Some(at),
        Event::NotNeeded { .. } => recipient.state = RecipientState::NotNeeded { released_at, at },
        Event::RecipientDeclined { channel, reason, note, .. } => {
            let (channel, reason, note) = (*channel, reason.clone(), note.clone());
            recipient.state = RecipientState::Declined { released_at, at, channel, reason, note };
        }
        Event::ReleasedByDecline { .. } => recipient.state = ended(recipient, Ending::Declined, at),
        Event::Reassigned { after, .. } => assign(recipient, after, at),
        Event::Delegated { after, .. } => {
            assign(recipient, after, at);
            recipient.delegations += 1;
        }
        Event::Resent { rotated, .. } => {
            recipient.invited_at = Some(at);
            recipient.credential.generation += u32::from(*rotated);
            // It tells those who owe an act what a reminder would.
            if recipient.role.gates() {
                remind(recipient, at);
            }
        }
        Event::Reminded { .. } => remind(recipient, at),
        Event::Bounced { .. } => recipient.notices.bounced_at = Some(at),
        Event::Muted { .. } => recipient.notices.muted_at = Some(at),
        _ => {}
    }
}

fn remind(recipient: &mut Recipient, at: DateTime<Utc>) {
    recipient.notices.reminders = recipient.notices.reminders.saturating_add(1);
    recipient.notices.last_reminder_at = Some(at);
}

fn with(envelope: &mut Envelope, id: RecipientId, change: impl FnOnce(&mut Recipient)) {
    if let Some(recipient) = envelope.recipients.iter_mut().find(|recipient| recipient.id == id) {
        change(recipient);
    }
}

/// What happens to the content alone.
fn keep_content(envelope: &mut Envelope, event: &Event, at: DateTime<Utc>) {
    match event {
        Event::PurgeDue => envelope.keeping.warned_at = Some(at),
        Event::Purged { .. } => {
            envelope.keeping.purged_at = Some(at);
            envelope.forget_content();
        }
        Event::Held { .. } => envelope.keeping.held_at = Some(at),
        Event::Freed { .. } => envelope.keeping.held_at = None,
        Event::Retained { days } => retain(envelope, *days),
        _ => {}
    }
}

/// Another time of the purge is announced anew.
fn retain(envelope: &mut Envelope, days: u32) {
    envelope.keeping.retention.days = days;
    envelope.keeping.warned_at = None;
}

fn update(envelope: &mut Envelope, edit: &Edit) {
    match edit {
        Edit::Terms(changes) => {
            envelope.terms.change(changes);
            if let Some(expires_at) = changes.expires_at {
                envelope.expires_at = expires_at;
            }
            if let Some(days) = changes.retention_days {
                retain(envelope, days);
            }
        }
        Edit::AddFields { fields, .. } => envelope.fields.extend(fields.iter().cloned()),
        Edit::ReplaceDocument { document: new, fields, .. } => {
            let documents = envelope.documents.iter_mut().filter(|document| document.id == new.id);
            documents.for_each(|document| document.clone_from(new.as_ref()));
            if let Some(fields) = fields {
                envelope.fields.retain(|field| field.document != new.id);
                envelope.fields.extend(fields.iter().cloned());
            }
        }
        Edit::RemoveFields(ids) => envelope.fields.retain(|field| !ids.contains(&field.id)),
    }
}

/// Somebody else in a recipient's place: the old link is dead, and all begins anew for them.
fn assign(recipient: &mut Recipient, person: &Person, at: DateTime<Utc>) {
    // What belongs to the address stays with it: a new name or zone does not undo a wish to be left alone.
    let stays = same_address(&recipient.person.email, &person.email);
    let Notices { muted_at, bounced_at, .. } = if stays { recipient.notices } else { Notices::default() };
    recipient.notices = Notices { muted_at, bounced_at, ..Notices::default() };
    recipient.person.clone_from(person);
    recipient.credential.generation += 1;
    recipient.viewed_at = None;
    if recipient.is_released() {
        recipient.state = RecipientState::Released { at };
        recipient.invited_at = Some(at);
    }
}

fn act(envelope: &mut Envelope, acted: &Acted, at: DateTime<Utc>) {
    with(envelope, acted.recipient, |it| {
        let released_at = it.released_at().unwrap_or(at);
        it.state = RecipientState::Acted { released_at, at, effective: true };
    });
    fill(envelope, &acted.values);
}

fn fill(envelope: &mut Envelope, values: &[(FieldId, Option<Value>)]) {
    for (id, value) in values {
        if let Some(field) = envelope.fields.iter_mut().find(|field| field.id == *id) {
            field.value.clone_from(value);
        }
    }
}

fn ended(recipient: &Recipient, end: Ending, at: DateTime<Utc>) -> RecipientState {
    RecipientState::ReleasedBy { end, released_at: recipient.released_at(), at }
}

fn end(envelope: &mut Envelope, ending: Ending, cause: Cause, at: DateTime<Utc>) {
    envelope.end = Some(End { cause, by: None });
    for recipient in envelope.recipients.iter_mut().filter(|recipient| recipient.is_open()) {
        recipient.state = ended(recipient, ending, at);
    }
    unlink_signatures(envelope);
}

/// Signatures stay for ever; those of an envelope that fell through bind nobody.
fn unlink_signatures(envelope: &mut Envelope) {
    for recipient in &mut envelope.recipients {
        if let RecipientState::Acted { effective, .. } = &mut recipient.state {
            *effective = false;
        }
    }
}

fn keep(envelope: &mut Envelope, artifacts: &[NewArtifact], at: DateTime<Utc>) {
    for new in artifacts {
        if let Some(document) = envelope.documents.iter_mut().find(|document| document.id == new.document) {
            document.artifacts.push(Artifact {
                version: new.version,
                sha256: new.sha256,
                size_bytes: new.size_bytes,
                created_at: at,
                seal: new.seal,
                is_bare: new.is_bare,
            });
        }
    }
}
