//! What becomes of an envelope's content: how long it is kept, who holds it, and its purge.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Decision, refused};
use crate::domain::apply::apply;
use crate::domain::envelope::Envelope;
use crate::domain::event::Event;
use crate::domain::keeping::Step;
use crate::domain::personal::Personal;
use crate::domain::refusal::{Place, Transition, Why};

/// What time asks for.
pub(super) fn keep(envelope: &Envelope, now: DateTime<Utc>) -> Vec<Event> {
    match envelope.next_step().filter(|(at, _)| *at <= now) {
        Some((_, Step::Discard)) => vec![Event::Discarded],
        Some((_, Step::Warn)) => vec![Event::PurgeDue],
        Some((_, Step::Purge)) => vec![Event::Purged { reason: None }],
        None => Vec::new(),
    }
}

pub(super) fn erase(envelope: &Envelope, reason: Option<&Personal>) -> Result<Vec<Event>, Why> {
    if !envelope.status().is_terminal() {
        return Err(Why::State);
    }
    Ok(if envelope.keeping.is_purged() { Vec::new() } else { vec![Event::Purged { reason: reason.cloned() }] })
}

/// Somebody wants gone what a hold keeps: the hold wins, and the history tells of both.
pub(super) fn erase_held(envelope: &Envelope, reason: Option<&Personal>, now: DateTime<Utc>) -> Decision {
    let event = Event::ErasureRefused { reason: reason.cloned() };
    let mut after = envelope.clone();
    after.revision += 1;
    apply(&mut after, &event, now);
    let verdict = refused(&after, Why::Held, Transition::Purge, now);
    Decision { events: vec![event], verdict }
}

/// Whether there is anything left to be kept.
fn changeable(envelope: &Envelope) -> Result<(), Why> {
    match envelope.facts.discarded_at {
        _ if envelope.keeping.is_purged() => Err(Why::Purged),
        Some(_) => Err(Why::State),
        None => Ok(()),
    }
}

pub(super) fn hold(envelope: &Envelope, hold: bool, reason: Option<&Personal>) -> Result<Vec<Event>, Why> {
    changeable(envelope)?;
    let event = if hold { Event::Held { reason: reason.cloned() } } else { Event::Freed { reason: reason.cloned() } };
    Ok(if hold == envelope.keeping.held_at.is_some() { Vec::new() } else { vec![event] })
}

pub(super) fn retain(envelope: &Envelope, days: u32, now: DateTime<Utc>) -> Result<Vec<Event>, Why> {
    changeable(envelope)?;
    if days == envelope.keeping.retention.days {
        return Ok(Vec::new());
    }
    let warning = TimeDelta::days(envelope.keeping.retention.warning_days.into());
    let first = |purge_at: &DateTime<Utc>| days > envelope.keeping.retention.days || *purge_at >= now + warning;
    if !envelope.purge_at_after(days).as_ref().is_none_or(first) {
        let why = "must leave time for the warning; DeleteEnvelopeContent purges at once";
        return Err(Why::Invalid(vec![(Place::RetentionDays, why.into())]));
    }
    Ok(vec![Event::Retained { days }])
}
