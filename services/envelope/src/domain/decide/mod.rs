//! What a command does to an envelope: total and pure. The only place where it is decided.

mod act;
mod duty;
mod keep;
mod notice;
mod steer;

use chrono::{DateTime, Utc};

pub(super) use self::act::{delegable, may_fill};
pub(super) use self::notice::{invited_again, remindable, reminded_again};
pub(super) use self::steer::lacks;
use super::apply::apply;
use super::command::Command;
use super::envelope::Envelope;
use super::event::Event;
use super::refusal::{Refusal, Transition, Why, allowed};
use super::routing::{not_needed, to_release, whose_turn};

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What happens. Not always nothing when the command is refused: one that comes after the deadline expires the
    /// envelope.
    pub events: Vec<Event>,
    /// What the caller is told.
    pub verdict: Verdict,
}

/// What the caller is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Done.
    Done,
    /// It had been done before: nothing happens.
    AlreadyDone,
    /// Refused.
    Refused(Refusal),
}

/// Decides. `expected` is the revision that the caller takes the envelope to have, if that matters to them.
#[must_use]
pub fn decide(envelope: &Envelope, command: &Command, expected: Option<u64>, now: DateTime<Utc>) -> Decision {
    let attempted = command.transition();
    if envelope.facts.is_open() && now >= envelope.expires_at {
        return expire(envelope, attempted, now);
    }
    let stale = expected.is_some_and(|revision| revision != envelope.revision);
    if let Command::Erase { reason } = command
        && envelope.status().is_terminal()
        && envelope.keeping.held_at.is_some()
        && !stale
    {
        return keep::erase_held(envelope, reason.as_ref(), now);
    }
    match one(envelope, command, now) {
        // A repeat is the success that it was, whatever has become of the envelope since.
        Ok(events) if events.is_empty() => Decision { events, verdict: Verdict::AlreadyDone },
        _ if stale => Decision { events: Vec::new(), verdict: refused(envelope, Why::Revision, attempted, now) },
        Ok(events) => Decision { events, verdict: Verdict::Done },
        Err(why) => Decision { events: Vec::new(), verdict: refused(envelope, why, attempted, now) },
    }
}

/// One command on an envelope whose deadline has not passed while it was open. No events: it had been done before.
fn one(envelope: &Envelope, command: &Command, now: DateTime<Utc>) -> Result<Vec<Event>, Why> {
    match command {
        Command::Send => steer::send(envelope, now),
        Command::Update(edit) => steer::update(envelope, edit),
        Command::Discard => steer::discard(envelope),
        Command::View { recipient } => act::view(envelope, *recipient),
        Command::Fill { recipient, values } => act::fill(envelope, *recipient, values),
        Command::Sign(act) => act::sign(envelope, act, now),
        Command::Approve(act) => act::approve(envelope, act, now),
        Command::Decline(decline) => act::decline(envelope, decline, now),
        Command::Delegate(assign) => act::delegate(envelope, assign),
        Command::Reassign(assign) => steer::reassign(envelope, assign),
        Command::Resend { recipients, rotate } => notice::resend(envelope, recipients, *rotate, now),
        Command::Remind { recipients } => notice::remind(envelope, recipients, now),
        Command::Mute { recipient } => act::mute(envelope, *recipient),
        Command::Bounce { recipient, address } => notice::bounce(envelope, *recipient, address),
        Command::Prompt => Ok(notice::prompt(envelope, now)),
        Command::Extend { expires_at } => steer::extend(envelope, *expires_at, now),
        Command::Void { cause, reason } => steer::void(envelope, *cause, reason.as_ref()),
        Command::Replace { by, lost } => steer::replace(envelope, *by, *lost),
        Command::Ingest { document, source, reading } => duty::ingest(envelope, (*document, *source), reading, now),
        Command::Release => Ok(duty::release(envelope, now)),
        Command::Warn => Ok(duty::warn(envelope, now)),
        // Not yet, or ended otherwise: the sweeper has nothing to do.
        Command::Expire => Ok(Vec::new()),
        Command::Keep => Ok(keep::keep(envelope, now)),
        Command::Erase { reason } => keep::erase(envelope, reason.as_ref()),
        Command::Hold { hold, reason } => keep::hold(envelope, *hold, reason.as_ref()),
        Command::Retain { days } => keep::retain(envelope, *days, now),
        Command::Store { artifacts } => duty::store(envelope, artifacts),
    }
}

fn refused(envelope: &Envelope, why: Why, attempted: Transition, now: DateTime<Utc>) -> Verdict {
    Verdict::Refused(Refusal {
        why,
        current: envelope.status(),
        cause: envelope.end.map(|end| end.cause),
        revision: envelope.revision,
        attempted,
        allowed: allowed(envelope, now),
    })
}

/// The deadline decides, whoever comes first after it.
fn expire(envelope: &Envelope, attempted: Transition, now: DateTime<Utc>) -> Decision {
    let mut after = envelope.clone();
    after.revision += 1;
    apply(&mut after, &Event::Expired, now);
    let verdict = match attempted {
        Transition::Expire => Verdict::Done,
        _ => refused(&after, Why::State, attempted, now),
    };
    Decision { events: vec![Event::Expired], verdict }
}

/// The envelope after these events.
fn after(envelope: &Envelope, events: &[Event], now: DateTime<Utc>) -> Envelope {
    let mut after = envelope.clone();
    for event in events {
        apply(&mut after, event, now);
    }
    after
}

/// Adds what follows from these events for the others: who is not needed any more, whose turn has come, or that all is done.
fn onward(envelope: &Envelope, mut events: Vec<Event>, now: DateTime<Utc>) -> Vec<Event> {
    let after = after(envelope, &events, now);
    events.extend(not_needed(&after).into_iter().map(|recipient| Event::NotNeeded { recipient }));
    if whose_turn(&after).is_empty() {
        events.push(Event::AllActed);
    } else if after.facts.sent_at.is_some() {
        events.extend(to_release(&after).into_iter().map(|recipient| Event::Released { recipient }));
    }
    events
}
