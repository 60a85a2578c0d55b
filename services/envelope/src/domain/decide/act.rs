//! What recipients do.

use chrono::{DateTime, Utc};

use super::{after, onward};
use crate::domain::address::same_address;
use crate::domain::command::{Act, Assign, Decline};
use crate::domain::envelope::{Cause, Envelope};
use crate::domain::event::{Acted, Event};
use crate::domain::field::Value;
use crate::domain::fill;
use crate::domain::id::{FieldId, RecipientId};
use crate::domain::recipient::{Channel, Recipient, RecipientState, Role};
use crate::domain::refusal::{Place, Why};
use crate::domain::routing::{assisted, is_reachable};
use crate::domain::terms::{DeclineEffect, ReasonRule};

/// The recipient, if their role is one of these.
fn recipient<'a>(envelope: &'a Envelope, id: RecipientId, roles: &[Role]) -> Result<&'a Recipient, Why> {
    let recipient = envelope.recipient(id).ok_or(Why::NoSuchRecipient)?;
    if roles.contains(&recipient.role) { Ok(recipient) } else { Err(Why::Role) }
}

/// Who acted in an envelope that goes on is told so; who comes too late for one that has ended is told how it ended.
fn may_act(envelope: &Envelope, recipient: &Recipient) -> Result<(), Why> {
    if !envelope.status().is_terminal() {
        match recipient.state {
            RecipientState::Waiting | RecipientState::Released { .. } => {}
            RecipientState::NotNeeded { .. } => return Err(Why::NotNeeded),
            RecipientState::Acted { .. } | RecipientState::Declined { .. } | RecipientState::ReleasedBy { .. } => {
                return Err(Why::AlreadyActed);
            }
        }
    }
    if envelope.facts.is_open() { Ok(()) } else { Err(Why::State) }
}

fn in_turn(recipient: &Recipient) -> Result<(), Why> {
    if recipient.is_released() { Ok(()) } else { Err(Why::NotYourTurn) }
}

pub(super) fn view(envelope: &Envelope, id: RecipientId) -> Result<Vec<Event>, Why> {
    let recipient = recipient(envelope, id, &[Role::Signer, Role::Approver, Role::Viewer, Role::Assistant])?;
    may_act(envelope, recipient)?;
    in_turn(recipient)?;
    Ok(if recipient.viewed_at.is_some() { Vec::new() } else { vec![Event::Viewed { recipient: id }] })
}

pub(super) fn mute(envelope: &Envelope, id: RecipientId) -> Result<Vec<Event>, Why> {
    let recipient = recipient(envelope, id, &[Role::Signer, Role::Approver])?;
    may_act(envelope, recipient)?;
    in_turn(recipient)?;
    Ok(if recipient.notices.muted_at.is_some() { Vec::new() } else { vec![Event::Muted { recipient: id }] })
}

/// True while an assistant can put something in.
pub(in crate::domain) fn may_fill(envelope: &Envelope, recipient: &Recipient) -> bool {
    let fillable = |signer: &Recipient| {
        envelope.fields.iter().any(|field| {
            field.recipient == signer.id && !field.read_only && !field.kind.is_mark() && !field.kind.is_automatic()
        })
    };
    recipient.role == Role::Assistant
        && recipient.is_released()
        && assisted(envelope, recipient).is_some_and(|signer| signer.is_released() && fillable(signer))
}

pub(super) fn fill(envelope: &Envelope, id: RecipientId, values: &[(FieldId, Value)]) -> Result<Vec<Event>, Why> {
    let assistant = recipient(envelope, id, &[Role::Assistant])?;
    may_act(envelope, assistant)?;
    in_turn(assistant)?;
    let signer = assisted(envelope, assistant).ok_or(Why::NoSuchRecipient)?;
    if !signer.is_released() {
        return Err(Why::AlreadyActed);
    }
    let values = fill::assist(envelope, signer, values).map_err(Why::Invalid)?;
    Ok(vec![Event::Filled { recipient: signer.id, values }])
}

pub(super) fn sign(envelope: &Envelope, act: &Act, now: DateTime<Utc>) -> Result<Vec<Event>, Why> {
    let acted = finish(envelope, act, Role::Signer, now)?;
    Ok(onward(envelope, vec![Event::Signed(acted)], now))
}

pub(super) fn approve(envelope: &Envelope, act: &Act, now: DateTime<Utc>) -> Result<Vec<Event>, Why> {
    let acted = finish(envelope, act, Role::Approver, now)?;
    Ok(onward(envelope, vec![Event::Approved(acted)], now))
}

fn finish(envelope: &Envelope, act: &Act, role: Role, now: DateTime<Utc>) -> Result<Acted, Why> {
    let recipient = recipient(envelope, act.recipient, &[role])?;
    may_act(envelope, recipient)?;
    in_turn(recipient)?;
    for (id, sha256) in &act.seen {
        if envelope.document(*id).is_none_or(|document| document.sha256 != *sha256) {
            return Err(Why::DocumentChanged(*id));
        }
    }
    let mut wrong = Vec::new();
    if role == Role::Signer && !act.consent {
        wrong.push((Place::Consent, "must be true: the recipient has to agree to sign electronically".into()));
    }
    let missing = envelope.documents.iter().any(|document| !act.seen.iter().any(|(id, _)| *id == document.id));
    if missing || act.seen.len() != envelope.documents.len() {
        wrong.push((Place::SeenDocuments, "must name every document of the envelope once, as it was shown".into()));
    }
    if act.seen_revision == 0 || act.seen_revision > envelope.revision {
        wrong.push((Place::SeenRevision, "must be the revision of the session that was shown".into()));
    } else if act.seen_revision < recipient.filled_revision {
        return Err(Why::FieldsChanged);
    }
    match fill::finish(envelope, recipient, &act.values, now) {
        Ok(values) if wrong.is_empty() => {
            let (seen, seen_revision) = (act.seen.clone(), act.seen_revision);
            Ok(Acted { recipient: recipient.id, values, seen, seen_revision })
        }
        Ok(_) => Err(Why::Invalid(wrong)),
        Err(faults) => Err(Why::Invalid(wrong.into_iter().chain(faults).collect())),
    }
}

pub(super) fn decline(envelope: &Envelope, decline: &Decline, now: DateTime<Utc>) -> Result<Vec<Event>, Why> {
    let recipient = recipient(envelope, decline.recipient, &[Role::Signer, Role::Approver])?;
    if matches!(recipient.state, RecipientState::Declined { .. }) {
        return Ok(Vec::new());
    }
    may_act(envelope, recipient)?;
    let policy = recipient.decline.unwrap_or(envelope.terms.decline);
    if !policy.enabled {
        return Err(Why::DeclineNotAllowed);
    }
    // What was said offline may be said before one's turn.
    if decline.channel != Channel::OnBehalf {
        in_turn(recipient)?;
    }
    match (policy.reason, &decline.reason) {
        (ReasonRule::Disabled, Some(_)) => return Err(Why::Invalid(vec![(Place::Reason, "is not taken here".into())])),
        (ReasonRule::Required, None) => return Err(Why::Invalid(vec![(Place::Reason, "must not be empty".into())])),
        (ReasonRule::Disabled, None) | (ReasonRule::Required, Some(_)) | (ReasonRule::Optional, _) => {}
    }
    let mut events = vec![Event::RecipientDeclined {
        recipient: recipient.id,
        channel: decline.channel,
        reason: decline.reason.clone(),
        note: decline.note.clone(),
    }];
    let without = after(envelope, &events, now);
    if policy.effect == DeclineEffect::Continue && is_reachable(&without, recipient.group) {
        return Ok(onward(envelope, events, now));
    }
    let cause = match recipient.role {
        Role::Approver => Cause::ApprovalRefused,
        _ => Cause::SignatureRefused,
    };
    events.push(Event::Declined { cause, by: recipient.id });
    let siblings = without.recipients.iter().filter(|other| other.is_open());
    events.extend(siblings.map(|other| Event::ReleasedByDecline { recipient: other.id }));
    if policy.effect == DeclineEffect::ReturnForCorrection {
        events.push(Event::Replaced { by: decline.correction });
    }
    Ok(events)
}

/// True while a recipient may pass their place on.
pub(in crate::domain) fn delegable(envelope: &Envelope, recipient: &Recipient) -> bool {
    recipient.role.gates() && recipient.is_released() && recipient.delegations < envelope.terms.delegations_max
}

pub(super) fn delegate(envelope: &Envelope, assign: &Assign) -> Result<Vec<Event>, Why> {
    let recipient = recipient(envelope, assign.recipient, &[Role::Signer, Role::Approver])?;
    may_act(envelope, recipient)?;
    in_turn(recipient)?;
    if !delegable(envelope, recipient) {
        return Err(Why::DelegationNotAllowed);
    }
    if envelope.recipients.iter().any(|other| same_address(&other.person.email, &assign.person.email)) {
        return Err(Why::Invalid(vec![(Place::Email, "is that of a recipient of the envelope".into())]));
    }
    Ok(vec![Event::Delegated {
        recipient: recipient.id,
        before: recipient.person.clone(),
        after: assign.person.clone(),
        reason: assign.reason.clone(),
    }])
}
