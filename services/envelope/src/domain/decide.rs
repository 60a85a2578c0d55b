//! What a command does to an envelope: total and pure. The only place where it is decided.

use chrono::{DateTime, Utc};

use super::command::{Command, Decline, NewArtifact, Sign};
use super::envelope::{Channel, Envelope, Recipient, RecipientState, Role};
use super::event::Event;
use super::field::{FieldType, Value};
use super::id::{FieldId, RecipientId};
use super::refusal::{Place, Refusal, Transition, Why, allowed};
use super::routing::whose_turn;
use super::status::Status;

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

/// Decides.
#[must_use]
pub fn decide(envelope: &Envelope, command: &Command, now: DateTime<Utc>) -> Decision {
    let expired = now >= envelope.expires_at;
    let attempted = match command {
        Command::Send => Transition::Send,
        Command::Sign(_) => Transition::Sign,
        Command::Decline(_) => Transition::Decline,
        Command::Void { .. } => Transition::Void,
        Command::Expire => Transition::Expire,
        Command::Store { .. } => Transition::Complete,
    };
    if envelope.facts.is_open() && expired {
        return expire(envelope, attempted);
    }
    let decided = match command {
        Command::Send => send(envelope, expired),
        Command::Sign(sign) => self::sign(envelope, sign, now),
        Command::Decline(decline) => self::decline(envelope, decline),
        Command::Void { reason } if envelope.facts.is_open() => Ok(vec![Event::Voided { reason: reason.clone() }]),
        Command::Void { .. } => Err(Why::State),
        // Not yet, or ended otherwise: the sweeper has nothing to do.
        Command::Expire => Ok(Vec::new()),
        Command::Store { artifacts } => store(envelope, artifacts),
    };
    match decided {
        Ok(events) if events.is_empty() => Decision { events, verdict: Verdict::AlreadyDone },
        Ok(events) => Decision { events, verdict: Verdict::Done },
        Err(why) => {
            let allowed = allowed(envelope, expired);
            let refusal = Refusal { why, current: envelope.status(), attempted, allowed };
            Decision { events: Vec::new(), verdict: Verdict::Refused(refusal) }
        }
    }
}

/// The deadline decides, whoever comes first after it.
fn expire(envelope: &Envelope, attempted: Transition) -> Decision {
    debug_assert!(envelope.facts.is_open());
    let verdict = match attempted {
        Transition::Expire => Verdict::Done,
        Transition::Send | Transition::Sign | Transition::Decline | Transition::Void | Transition::Complete => {
            Verdict::Refused(Refusal { why: Why::State, current: Status::Expired, attempted, allowed: Vec::new() })
        }
    };
    Decision { events: vec![Event::Expired], verdict }
}

/// What a draft lacks to be sent.
pub(super) fn lacks(envelope: &Envelope) -> Option<&'static str> {
    if envelope.documents.is_empty() {
        return Some("The envelope has no document.");
    }
    if !envelope.recipients.iter().any(|recipient| recipient.role == Role::Signer) {
        return Some("The envelope has no signer.");
    }
    let signs = |recipient: &Recipient| {
        envelope.fields.iter().any(|field| field.recipient == recipient.id && field.kind == FieldType::Signature)
    };
    if !envelope.recipients.iter().all(signs) {
        return Some("Every signer needs a SIGNATURE field.");
    }
    None
}

fn send(envelope: &Envelope, expired: bool) -> Result<Vec<Event>, Why> {
    if envelope.status() != Status::Draft {
        return Err(Why::State);
    }
    if expired {
        return Err(Why::Incomplete("The deadline has passed."));
    }
    if let Some(lack) = lacks(envelope) {
        return Err(Why::Incomplete(lack));
    }
    let mut events = vec![Event::Sent];
    events.extend(whose_turn(&envelope.recipients).into_iter().map(|recipient| Event::Released { recipient }));
    Ok(events)
}

fn sign(envelope: &Envelope, sign: &Sign, now: DateTime<Utc>) -> Result<Vec<Event>, Why> {
    let recipient = envelope.recipient(sign.recipient).ok_or(Why::NoSuchRecipient)?;
    may_act(envelope, recipient)?;
    if !matches!(recipient.state, RecipientState::Released { .. }) {
        return Err(Why::NotYourTurn);
    }
    for (id, sha256) in &sign.seen {
        if envelope.document(*id).is_none_or(|document| document.sha256 != *sha256) {
            return Err(Why::DocumentChanged(*id));
        }
    }
    let values = fill(envelope, recipient, sign, now)?;
    let mut events = vec![Event::Signed { recipient: recipient.id, values, seen: sign.seen.clone(), salt: sign.salt }];
    let mut left = envelope.recipients.clone();
    left.retain(|other| other.id != recipient.id);
    if !left.iter().any(Recipient::owes) {
        events.push(Event::AllActed);
    } else {
        let turn = whose_turn(&left);
        let waiting = left.iter().filter(|other| turn.contains(&other.id) && other.state == RecipientState::Waiting);
        events.extend(waiting.map(|other| Event::Released { recipient: other.id }));
    }
    Ok(events)
}

/// The state of the envelope first, then the recipient's: who acted in an envelope that has ended is told how it ended.
fn may_act(envelope: &Envelope, recipient: &Recipient) -> Result<(), Why> {
    if !recipient.owes() && !envelope.status().is_terminal() {
        return Err(Why::AlreadyActed);
    }
    if !envelope.facts.is_open() {
        return Err(Why::State);
    }
    Ok(())
}

/// All the recipient's fields with what they hold after signing, or everything that is wrong.
fn fill(
    envelope: &Envelope,
    recipient: &Recipient,
    sign: &Sign,
    now: DateTime<Utc>,
) -> Result<Vec<(FieldId, Value)>, Why> {
    let mut wrong = Vec::new();
    if !sign.consent {
        wrong.push((Place::Consent, "must be true: the recipient has to agree to sign electronically"));
    }
    let missing = envelope.documents.iter().any(|document| !sign.seen.iter().any(|(id, _)| *id == document.id));
    if missing || sign.seen.len() != envelope.documents.len() {
        wrong.push((Place::SeenDocuments, "must name every document of the envelope once, as it was shown"));
    }
    for (index, (id, _)) in sign.values.iter().enumerate() {
        if !envelope.fields.iter().any(|field| field.id == *id && field.recipient == recipient.id) {
            wrong.push((Place::Value(index), "is not a field of this recipient"));
        } else if sign.values.iter().take(index).any(|(earlier, _)| earlier == id) {
            wrong.push((Place::Value(index), "names a field twice"));
        }
    }
    let mut values = Vec::new();
    for field in envelope.fields.iter().filter(|field| field.recipient == recipient.id) {
        let index = sign.values.iter().position(|(id, _)| *id == field.id);
        let given = index.and_then(|index| sign.values.get(index)).map(|(_, value)| value);
        match field.fill(given, recipient, now) {
            Ok(Some(value)) => values.push((field.id, value)),
            Ok(None) => {}
            Err(why) => wrong.push((index.map_or(Place::Missing(field.id), Place::Value), why)),
        }
    }
    if wrong.is_empty() { Ok(values) } else { Err(Why::Invalid(wrong)) }
}

fn decline(envelope: &Envelope, decline: &Decline) -> Result<Vec<Event>, Why> {
    let recipient = envelope.recipient(decline.recipient).ok_or(Why::NoSuchRecipient)?;
    if matches!(recipient.state, RecipientState::Declined { .. }) {
        return Ok(Vec::new());
    }
    may_act(envelope, recipient)?;
    let in_turn = matches!(recipient.state, RecipientState::Released { .. });
    if decline.channel == Channel::SigningToken && !in_turn {
        return Err(Why::NotYourTurn);
    }
    let mut events = vec![
        Event::RecipientDeclined {
            recipient: recipient.id,
            channel: decline.channel,
            reason: decline.reason.clone(),
            note: decline.note.clone(),
        },
        Event::Declined,
    ];
    events.extend(siblings(envelope, recipient.id).map(|recipient| Event::ReleasedByDecline { recipient }));
    Ok(events)
}

/// Those who still owe an act, but for one.
fn siblings(envelope: &Envelope, but: RecipientId) -> impl Iterator<Item = RecipientId> {
    let owing = move |other: &&Recipient| other.id != but && other.owes();
    envelope.recipients.iter().filter(owing).map(|recipient| recipient.id)
}

fn store(envelope: &Envelope, artifacts: &[NewArtifact]) -> Result<Vec<Event>, Why> {
    let artifacts = artifacts.to_vec();
    let made = envelope.documents.iter().any(|document| !document.artifacts.is_empty());
    match envelope.status() {
        Status::Completed => Ok(Vec::new()),
        Status::Declined if made => Ok(Vec::new()),
        Status::Declined => Ok(vec![Event::ArtifactReady { artifacts }]),
        Status::PartiallySigned if envelope.facts.all_acted_at.is_some() => Ok(vec![Event::Completed { artifacts }]),
        Status::Draft | Status::Pending | Status::Sent | Status::PartiallySigned | Status::Voided | Status::Expired => {
            Err(Why::State)
        }
    }
}
