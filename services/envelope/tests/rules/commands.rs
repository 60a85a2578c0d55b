//! Everything that may be asked of a small envelope, well and badly.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use countersign_envelope::domain::command::{Act, Assign, Command, Edit};
use countersign_envelope::domain::envelope::{Cause, Envelope, Version};
use countersign_envelope::domain::field::{Field, FieldType, Value};
use countersign_envelope::domain::id::{FieldId, RecipientId, SourceId};
use countersign_envelope::domain::limits::EXPIRY_DAYS_MAX;
use countersign_envelope::domain::recipient::{Channel, Recipient, Role};
use countersign_envelope::domain::terms::Changes;

use crate::shape::{
    act, assign, bounce, deadline, decline, document, env, field, person, rcp, read, store, stranger, text, uuid,
};

/// Fields of an envelope, as usual.
const FIELDS_MAX: usize = 200;

/// Something to try.
pub struct Try {
    pub command: Command,
    /// The revision that the caller expects.
    pub expected: Option<u64>,
    /// Whose token is used, if one is.
    pub own: Option<RecipientId>,
}

/// A later deadline, to which an envelope may be moved once.
pub fn extended() -> DateTime<Utc> {
    deadline() + TimeDelta::days(30)
}

/// The field that an edit adds.
pub fn added() -> Field {
    field(FieldId::from_uuid(uuid(450)), FieldType::Text, rcp(0))
}

/// All that is tried at that time: for each transition something that works whenever anything does, the ways to get it
/// wrong, and each once more by somebody who knows only an older revision.
pub fn commands(envelope: &Envelope, now: DateTime<Utc>) -> Vec<Try> {
    let mut tries: Vec<_> =
        of_sender(envelope, now).into_iter().map(|command| Try { command, expected: None, own: None }).collect();
    let people = envelope.recipients.iter().map(|recipient| (recipient.id, Some(recipient)));
    for (id, recipient) in people.chain([(stranger(), None)]) {
        tries.extend(of_person(envelope, id, recipient));
    }
    let mut before = BTreeSet::new();
    for index in 0..tries.len() {
        let Try { command, own, .. } = &tries[index];
        if before.insert(command.transition()) {
            let stale = Try { command: command.clone(), expected: Some(envelope.revision - 1), own: *own };
            tries.push(stale);
        }
    }
    tries
}

fn of_sender(envelope: &Envelope, now: DateTime<Utc>) -> Vec<Command> {
    let void = |cause, reason: Option<&str>| Command::Void { cause, reason: reason.map(text) };
    let mut commands = vec![
        Command::Send,
        Command::Discard,
        Command::Resend { recipients: Vec::new(), rotate: false },
        Command::Resend { recipients: Vec::new(), rotate: true },
        void(Cause::Sender, Some("Sent by mistake")),
        void(Cause::Operator, None),
        Command::Replace { by: env(5), lost: None },
        Command::Replace { by: env(6), lost: Some(env(5)) },
        Command::Remind { recipients: Vec::new() },
        Command::Release,
        Command::Warn,
        Command::Prompt,
        Command::Expire,
        Command::Keep,
        Command::Erase { reason: Some(text("Request 4711")) },
        Command::Hold { hold: true, reason: Some(text("Lawsuit")) },
        Command::Hold { hold: false, reason: Some(text("Settled")) },
        Command::Retain { days: 1 },
        Command::Retain { days: 2 },
        Command::Retain { days: 3 },
        store(envelope, Version::Signed),
    ];
    commands.extend(edits(envelope).into_iter().map(Command::Update));
    let most = TimeDelta::days(EXPIRY_DAYS_MAX);
    let times = [envelope.expires_at, deadline() - TimeDelta::days(9), extended(), now + most];
    commands.extend(times.map(|expires_at| Command::Extend { expires_at }));
    commands.push(Command::Extend { expires_at: now + most + TimeDelta::seconds(1) });
    for number in [0, 1] {
        commands.extend([true, false].map(|ready| read(number, ready)));
        commands.push(other_source(read(number, true)));
    }
    commands
}

/// What was read of something that it does not await.
fn other_source(read: Command) -> Command {
    match read {
        Command::Ingest { document, reading, .. } => {
            Command::Ingest { document, source: Some(SourceId::from_uuid(uuid(7))), reading }
        }
        other => other,
    }
}

fn edits(envelope: &Envelope) -> Vec<Edit> {
    let homeless = Field { document: document(9).id, ..added() };
    let nobodys = Field { recipient: stranger(), ..added() };
    let mut edits = vec![
        Edit::Terms(Box::new(Changes { subject: Some("Contract".into()), ..Changes::default() })),
        Edit::AddFields { fields: vec![added()], fields_max: FIELDS_MAX },
        Edit::AddFields { fields: vec![homeless], fields_max: FIELDS_MAX },
        Edit::AddFields { fields: vec![nobodys], fields_max: FIELDS_MAX },
        Edit::RemoveFields(vec![added().id]),
        Edit::RemoveFields(vec![FieldId::from_uuid(uuid(999))]),
    ];
    if envelope.is_draft() {
        edits.push(Edit::AddFields { fields: vec![added(); FIELDS_MAX + 1], fields_max: FIELDS_MAX });
    }
    edits
}

fn of_person(envelope: &Envelope, id: RecipientId, recipient: Option<&Recipient>) -> Vec<Try> {
    let own = |command| Try { command, expected: None, own: Some(id) };
    let by_sender = |command| Try { command, expected: None, own: None };
    let mut tries = vec![own(Command::View { recipient: id })];
    for values in fillings(envelope, recipient) {
        tries.push(own(Command::Fill { recipient: id, values }));
    }
    let acts = acts(envelope, id, recipient);
    let approvals = acts.iter().filter(|act| act.values.is_empty()).cloned();
    tries.extend(approvals.map(|act| own(Command::Approve(act))));
    tries.extend(acts.into_iter().map(|act| own(Command::Sign(act))));
    for reason in [None, Some("Terms not acceptable")] {
        tries.push(own(decline(id, Channel::SigningToken, reason)));
        tries.push(own(decline(id, Channel::User, reason)));
        tries.push(by_sender(decline(id, Channel::OnBehalf, reason)));
    }
    tries.push(own(Command::Delegate(assign(id, "deputy"))));
    let mut sibling = assign(id, "sibling");
    sibling.person = person("Sibling", " PERSON0@EXAMPLE.COM ");
    tries.push(own(Command::Delegate(sibling)));
    // Once to somebody new, and once to whoever has the place, which changes nothing.
    let heir =
        if recipient.is_some_and(|it| it.person == assign(id, "successor").person) { "heir" } else { "successor" };
    tries.push(by_sender(Command::Reassign(assign(id, heir))));
    if let Some(recipient) = recipient {
        let person = recipient.person.clone();
        tries.push(by_sender(Command::Reassign(Assign { recipient: id, person, reason: None })));
    }
    for rotate in [false, true] {
        tries.push(by_sender(Command::Resend { recipients: vec![id], rotate }));
    }
    tries.push(by_sender(Command::Remind { recipients: vec![id] }));
    tries.push(own(Command::Mute { recipient: id }));
    tries.push(by_sender(bounce(id, "somebody.else@example.com")));
    tries.extend(recipient.map(|it| by_sender(bounce(id, it.person.email.reveal()))));
    tries
}

/// What assistants put in: something that fits, nothing, and a signature.
fn fillings(envelope: &Envelope, recipient: Option<&Recipient>) -> Vec<Vec<(FieldId, Value)>> {
    let signer = recipient.and_then(|assistant| assistant.assists);
    let of = |kind| envelope.fields.iter().find(|field| Some(field.recipient) == signer && field.kind == kind);
    let value = |field: &Field| vec![(field.id, Value::Text(text("words")))];
    let fits = of(FieldType::Text).map_or_else(Vec::new, value);
    let mark = of(FieldType::Signature).map(value);
    [Some(fits), mark].into_iter().flatten().collect()
}

/// Right; without consent; of another document; of no document; of a revision before an assistant's, or none yet; with
/// a value for nobody's field.
fn acts(envelope: &Envelope, id: RecipientId, recipient: Option<&Recipient>) -> Vec<Act> {
    let right = act(envelope, id);
    let of_another = right.seen.iter().map(|(document, _)| (*document, [0; 32])).collect();
    let mut acts = vec![
        Act { consent: false, ..right.clone() },
        Act { seen: of_another, ..right.clone() },
        Act { seen: Vec::new(), ..right.clone() },
        Act { seen_revision: envelope.revision + 1, ..right.clone() },
        Act { values: vec![(FieldId::from_uuid(uuid(999)), Value::Checked(true))], ..right.clone() },
    ];
    let filled = recipient.map_or(0, |recipient| recipient.filled_revision);
    if filled > 0 && recipient.is_some_and(|recipient| recipient.role == Role::Signer) {
        acts.push(Act { seen_revision: filled - 1, ..right.clone() });
    }
    acts.push(right);
    acts
}
