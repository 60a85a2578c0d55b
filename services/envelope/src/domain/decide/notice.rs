//! Who is told once more: by the sender's hand, or because the time has come. And whom no mail reaches.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

use crate::domain::envelope::{Digest, Envelope};
use crate::domain::event::Event;
use crate::domain::id::RecipientId;
use crate::domain::limits::RESEND_PAUSE_MINUTES;
use crate::domain::recipient::{Recipient, RecipientState, Role};
use crate::domain::refusal::Why;
use crate::domain::routing::is_asked;

/// When a recipient may be invited again: an hour after the last invitation. A reminder in between, which may have come by
/// itself, does not keep a sender from replacing a link.
pub(in crate::domain) fn invited_again(recipient: &Recipient) -> DateTime<Utc> {
    let invited = recipient.invited_at.or(recipient.released_at());
    invited.map_or(DateTime::<Utc>::MIN_UTC, |last| last + TimeDelta::minutes(RESEND_PAUSE_MINUTES))
}

/// When a recipient may be reminded by hand: an hour after the last invitation or reminder.
pub(in crate::domain) fn reminded_again(recipient: &Recipient) -> DateTime<Utc> {
    let reminded = recipient.notices.last_reminder_at;
    let reminded = reminded.map(|last| last + TimeDelta::minutes(RESEND_PAUSE_MINUTES));
    reminded.map_or(invited_again(recipient), |again| again.max(invited_again(recipient)))
}

/// Whether an invitation makes sense, or why not.
fn invitable(envelope: &Envelope, recipient: &Recipient) -> Result<(), Why> {
    match recipient.state {
        _ if is_asked(envelope, recipient) => Ok(()),
        _ if recipient.role == Role::Cc => Err(Why::Role),
        RecipientState::Waiting => Err(Why::NotYourTurn),
        RecipientState::NotNeeded { .. } => Err(Why::NotNeeded),
        _ => Err(Why::AlreadyActed),
    }
}

/// Whether a reminder by hand makes sense, or why not.
pub(in crate::domain) fn remindable(recipient: &Recipient) -> Result<(), Why> {
    match recipient.state {
        _ if !recipient.role.gates() => Err(Why::Role),
        RecipientState::Released { .. } if recipient.notices.muted_at.is_some() => Err(Why::Muted),
        RecipientState::Released { .. } => Ok(()),
        RecipientState::Waiting => Err(Why::NotYourTurn),
        RecipientState::NotNeeded { .. } => Err(Why::NotNeeded),
        RecipientState::Acted { .. } | RecipientState::Declined { .. } | RecipientState::ReleasedBy { .. } => {
            Err(Why::AlreadyActed)
        }
    }
}

/// Those who are told again: all who are named, or of all whom it makes sense to tell those whose hour is over.
fn again<'a>(
    envelope: &'a Envelope,
    to: &[RecipientId],
    makes_sense: impl Fn(&Recipient) -> Result<(), Why>,
    from: impl Fn(&Recipient) -> DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<&'a Recipient>, Why> {
    let to: BTreeSet<_> = to.iter().copied().collect();
    if to.iter().any(|id| envelope.recipient(*id).is_none()) {
        return Err(Why::NoSuchRecipient);
    }
    if !envelope.facts.is_open() {
        return Err(Why::State);
    }
    let mut named = envelope.recipients.iter().filter(|recipient| to.contains(&recipient.id));
    named.try_for_each(&makes_sense)?;
    let told = envelope.recipients.iter().filter(|recipient| makes_sense(recipient).is_ok());
    let told: Vec<_> = told.filter(|recipient| to.is_empty() || to.contains(&recipient.id)).collect();
    let fresh = told.iter().map(|recipient| from(recipient)).filter(|due| *due > now);
    let due: Vec<_> = told.iter().copied().filter(|recipient| from(recipient) <= now).collect();
    let too_soon = if to.is_empty() { fresh.min().filter(|_| due.is_empty()) } else { fresh.max() };
    match too_soon {
        Some(at) => Err(Why::TooSoon(at)),
        // There is nobody to tell at all.
        None if due.is_empty() => Err(Why::State),
        None => Ok(due),
    }
}

pub(super) fn resend(
    envelope: &Envelope,
    to: &[RecipientId],
    rotate: bool,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, Why> {
    let told = again(envelope, to, |recipient| invitable(envelope, recipient), invited_again, now)?;
    Ok(told.into_iter().map(|other| Event::Resent { recipient: other.id, rotated: rotate }).collect())
}

pub(super) fn remind(envelope: &Envelope, to: &[RecipientId], now: DateTime<Utc>) -> Result<Vec<Event>, Why> {
    let told = again(envelope, to, remindable, reminded_again, now)?;
    Ok(told.into_iter().map(|other| Event::Reminded { recipient: other.id }).collect())
}

/// Everybody whose reminder is due: one, however many there would have been since.
pub(super) fn prompt(envelope: &Envelope, now: DateTime<Utc>) -> Vec<Event> {
    let due = |own: &&Recipient| envelope.reminder_from(own, now).is_some_and(|at| at <= now);
    envelope.recipients.iter().filter(due).map(|own| Event::Reminded { recipient: own.id }).collect()
}

pub(super) fn bounce(envelope: &Envelope, id: RecipientId, address: &Digest) -> Result<Vec<Event>, Why> {
    let own = envelope.recipient(id).ok_or(Why::NoSuchRecipient)?;
    if envelope.is_draft() {
        return Err(Why::State);
    }
    let present: Digest = Sha256::digest(own.person.email.reveal()).into();
    let awaited = envelope.facts.is_open() && own.is_open() && own.invited_at.is_some();
    let news = awaited && own.notices.bounced_at.is_none();
    Ok(if news && present == *address { vec![Event::Bounced { recipient: id }] } else { Vec::new() })
}
