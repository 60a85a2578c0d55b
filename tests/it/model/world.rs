//! What was sent over the wire, as values of the domain.

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1;
use countersign_chassis::wire::datetime;
use countersign_envelope::domain::command::{Act, Assign, Command, Decline, Edit};
use countersign_envelope::domain::envelope::{Cause, Digest, Document, Envelope, Ingest};
use countersign_envelope::domain::field::{Field, FieldType, Placement, Rules, Value};
use countersign_envelope::domain::id::{EnvelopeId, FieldId, RecipientId};
use countersign_envelope::domain::keeping::{Keeping, Retention};
use countersign_envelope::domain::locality::Locality;
use countersign_envelope::domain::personal::Personal;
use countersign_envelope::domain::recipient::{Channel, Credential, Person, Recipient, RecipientState, Role};
use countersign_envelope::domain::reminder::{Notices, ReminderPolicy};
use countersign_envelope::domain::status::Facts;
use countersign_envelope::domain::terms::{Changes, DeclineEffect, DeclinePolicy, Quorum, ReasonRule, Routing, Terms};
use uuid::Uuid;

use super::plan::{By, Filling, Seen, To, What};
use super::run::Record;

pub fn envelope_id(envelope: &v1::Envelope) -> EnvelopeId {
    envelope.id.parse().unwrap()
}

/// The field at that place, or one that there is not.
pub fn field_id(start: &v1::Envelope, index: usize) -> FieldId {
    match start.fields.len() {
        0 => FieldId::from_uuid(Uuid::nil()),
        count => start.fields[index % count].id.parse().unwrap(),
    }
}

/// Which of the addresses `r0@example.com` and so on a recipient has in the beginning.
pub fn address(start: &v1::Envelope, recipient: usize) -> usize {
    let email = &start.recipients[recipient].email;
    email.strip_prefix('r').and_then(|rest| rest.split_once('@')).unwrap().0.parse().unwrap()
}

/// What is put into which fields.
pub fn values(what: &What, start: &v1::Envelope) -> Vec<(String, String)> {
    let (recipient, filling) = match *what {
        What::Fill(recipient, _, filling)
        | What::Sign(recipient, _, _, filling)
        | What::Approve(recipient, _, _, filling) => (&start.recipients[recipient], filling),
        _ => return Vec::new(),
    };
    let assisted = &recipient.assists_recipient_id;
    let owner = if assisted.is_empty() { &recipient.id } else { assisted };
    let mut own = start.fields.iter().filter(|field| field.recipient_id == *owner);
    match filling {
        Filling::Empty => Vec::new(),
        Filling::Text => {
            let text = own.find(|field| field.r#type() == v1::FieldType::Text);
            text.map(|field| (field.id.clone(), "Managing Director".to_owned())).into_iter().collect()
        }
        Filling::Odd => start.fields.first().map(|field| (field.id.clone(), "x".repeat(600))).into_iter().collect(),
    }
}

/// Name and address of who is to take a place.
pub fn person(to: To, tag: &str, start: &v1::Envelope) -> (String, String) {
    match to {
        To::New => (format!("New {tag}"), format!("new-{tag}@example.com")),
        To::Recipient(index) => (format!("Known {tag}"), start.recipients[index].email.clone()),
    }
}

/// What `What::Policies` sets.
pub fn wire_policy(number: u32) -> v1::DeclinePolicy {
    let effect = if number == 0 { v1::DeclineEffect::Abort } else { v1::DeclineEffect::Continue };
    v1::DeclinePolicy { disabled: number == 2, reason: v1::ReasonRule::Optional.into(), effect: effect.into() }
}

fn policy(wire: &v1::DeclinePolicy) -> DeclinePolicy {
    DeclinePolicy {
        enabled: !wire.disabled,
        reason: match wire.reason() {
            v1::ReasonRule::Unspecified | v1::ReasonRule::Optional => ReasonRule::Optional,
            v1::ReasonRule::Disabled => ReasonRule::Disabled,
            v1::ReasonRule::Required => ReasonRule::Required,
        },
        effect: match wire.effect() {
            v1::DeclineEffect::Unspecified | v1::DeclineEffect::Abort => DeclineEffect::Abort,
            v1::DeclineEffect::Continue => DeclineEffect::Continue,
            v1::DeclineEffect::ReturnForCorrection => DeclineEffect::ReturnForCorrection,
        },
    }
}

fn time(wire: Option<&prost_types::Timestamp>) -> Option<DateTime<Utc>> {
    wire.map(|wire| datetime(wire).unwrap())
}

fn digest(hex: &str) -> Digest {
    let mut digest = Digest::default();
    hex::decode_to_slice(hex, &mut digest).unwrap();
    digest
}

/// An envelope in which nobody has done anything yet, as the model starts from it.
pub fn envelope(wire: &v1::Envelope, sequence: u64, last_event_at: DateTime<Utc>) -> Envelope {
    Envelope {
        account: wire.account_id.parse().unwrap(),
        id: envelope_id(wire),
        livemode: wire.livemode,
        revision: wire.revision,
        sequence,
        chain: [0; 32],
        last_event_at,
        terms: terms(wire),
        facts: Facts {
            dispatched_at: time(wire.dispatched_at.as_ref()),
            sent_at: time(wire.sent_at.as_ref()),
            ..Facts::created(time(wire.created_at.as_ref()).unwrap())
        },
        expires_at: time(wire.expires_at.as_ref()).unwrap(),
        warned_at: None,
        end: None,
        void_reason: None,
        requires_replacement: false,
        replaces: None,
        replaced_by: None,
        charge: None,
        keeping: Keeping::new(Retention::default()),
        recipients: wire.recipients.iter().map(recipient).collect(),
        documents: wire.documents.iter().map(document).collect(),
        fields: wire.fields.iter().map(field).collect(),
    }
}

fn terms(wire: &v1::Envelope) -> Terms {
    let small = |number: u32| u16::try_from(number).unwrap();
    Terms {
        subject: wire.subject.clone(),
        message: String::new(),
        external_reference: String::new(),
        metadata: Default::default(),
        watchers: Vec::new(),
        routing: match wire.routing() {
            v1::Routing::Unspecified | v1::Routing::Parallel => Routing::Parallel,
            v1::Routing::Sequential => Routing::Sequential,
            v1::Routing::Groups => Routing::Groups,
        },
        quorums: wire.quorums.iter().map(|it| Quorum { group: small(it.group), needed: small(it.needed) }).collect(),
        scheduled_send_at: time(wire.scheduled_send_at.as_ref()),
        decline: policy(wire.decline_policy.as_ref().unwrap()),
        delegations_max: small(wire.delegations_max),
        expiry_warning: wire.expiry_warning.map(|it| TimeDelta::seconds(it.seconds)),
        tell_acted: wire.tell_acted_recipients,
        reminders: ReminderPolicy { enabled: false, ..ReminderPolicy::default() },
        locality: Locality::default(),
        webhook_url: String::new(),
    }
}

fn recipient(wire: &v1::Recipient) -> Recipient {
    let at = time(wire.released_at.as_ref());
    let role = match wire.role() {
        v1::RecipientRole::Unspecified | v1::RecipientRole::Signer => Role::Signer,
        v1::RecipientRole::Approver => Role::Approver,
        v1::RecipientRole::Viewer => Role::Viewer,
        v1::RecipientRole::Cc => Role::Cc,
        v1::RecipientRole::Assistant => Role::Assistant,
    };
    let assists = &wire.assists_recipient_id;
    Recipient {
        id: wire.id.parse().unwrap(),
        person: Person {
            name: Personal::new(&wire.name),
            email: Personal::new(&wire.email),
            locality: Locality::default(),
        },
        role,
        assists: (!assists.is_empty()).then(|| assists.parse().unwrap()),
        copy_on_send: wire.copy_on_send,
        label: wire.label.clone(),
        group: u16::try_from(wire.group).unwrap(),
        decline: wire.decline_policy.as_ref().map(policy),
        state: at.map_or(RecipientState::Waiting, |at| RecipientState::Released { at }),
        viewed_at: None,
        invited_at: time(wire.invited_at.as_ref()),
        notices: Notices::default(),
        delegations: 0,
        filled_revision: 0,
        credential: Credential { generation: 1, salt: [0; 16], hash: [0; 32] },
    }
}

fn document(wire: &v1::Document) -> Document {
    Document {
        id: wire.id.parse().unwrap(),
        name: wire.name.clone(),
        sha256: digest(&wire.sha256),
        size_bytes: wire.size_bytes,
        page_count: wire.page_count,
        ingest: Ingest::Ready,
        original: None,
        awaits: None,
        fault: None,
        artifacts: Vec::new(),
    }
}

fn field(wire: &v1::Field) -> Field {
    let place = wire.placement.unwrap();
    Field {
        id: wire.id.parse().unwrap(),
        kind: FieldType::ALL.into_iter().find(|kind| *kind as i32 == wire.r#type).unwrap(),
        recipient: wire.recipient_id.parse().unwrap(),
        document: wire.document_id.parse().unwrap(),
        placement: Placement {
            page: place.page,
            x_percent: place.x_percent,
            y_percent: place.y_percent,
            width_percent: place.width_percent,
            height_percent: place.height_percent,
        },
        required: wire.required,
        read_only: wire.read_only,
        name: wire.name.clone(),
        rules: Rules::default(),
        preset: None,
        value: None,
    }
}

/// What a call asked for.
pub fn command(record: &Record, start: &v1::Envelope) -> Command {
    let id = |index: usize| -> RecipientId { start.recipients[index].id.parse().unwrap() };
    let reason = |with: bool| with.then(|| Personal::new(format!("Because {}", record.tag)));
    let some_id = EnvelopeId::from_uuid(Uuid::nil());
    let decline = |recipient: usize, channel: Channel, with: bool, note: Option<Personal>| {
        Command::Decline(Decline { recipient: id(recipient), channel, reason: reason(with), note, correction: some_id })
    };
    let assign = |recipient: usize, to: To, reason: Option<Personal>| {
        let (name, email) = person(to, &record.tag, start);
        Assign {
            recipient: id(recipient),
            person: Person { name: Personal::new(name), email: Personal::new(email), locality: Locality::default() },
            reason,
        }
    };
    match record.what {
        What::Send => Command::Send,
        What::Subject => {
            let subject = Some(format!("Model {}", record.tag));
            Command::Update(Edit::Terms(Box::new(Changes { subject, ..Changes::default() })))
        }
        What::Policies(number) => Command::Update(Edit::Terms(Box::new(Changes {
            decline: Some(policy(&wire_policy(number))),
            delegations_max: Some(u16::try_from(number).unwrap()),
            ..Changes::default()
        }))),
        What::RemoveField(index) => Command::Update(Edit::RemoveFields(vec![field_id(start, index)])),
        What::Discard => Command::Discard,
        What::View(recipient, _) => Command::View { recipient: id(recipient) },
        What::Fill(recipient, ..) => Command::Fill { recipient: id(recipient), values: entered(record, start) },
        What::Sign(recipient, _, seen, _) => Command::Sign(act(record, id(recipient), seen, start)),
        What::Approve(recipient, _, seen, _) => Command::Approve(act(record, id(recipient), seen, start)),
        What::Decline(recipient, _, with) => decline(recipient, Channel::SigningToken, with, None),
        What::DeclineFor(recipient, with) => {
            decline(recipient, Channel::OnBehalf, with, Some(Personal::new("Phone call")))
        }
        What::DeclineAsUser(recipient, _, with) => decline(recipient, Channel::User, with, None),
        What::Delegate(recipient, _, to) => Command::Delegate(assign(recipient, to, None)),
        What::Reassign(recipient, to) => Command::Reassign(assign(recipient, to, reason(true))),
        What::Resend(recipient, rotate) => {
            Command::Resend { recipients: recipient.map(id).into_iter().collect(), rotate }
        }
        What::Remind(recipient) => Command::Remind { recipients: recipient.map(id).into_iter().collect() },
        What::Mute(recipient, _) => Command::Mute { recipient: id(recipient) },
        What::Extend(days) => {
            Command::Extend { expires_at: time(start.expires_at.as_ref()).unwrap() + TimeDelta::days(days - 90) }
        }
        What::Void(by) => {
            let cause = if by == By::Sender { Cause::Sender } else { Cause::Operator };
            Command::Void { cause, reason: reason(true) }
        }
        What::Replace => Command::Replace { by: some_id, lost: None },
    }
}

fn entered(record: &Record, start: &v1::Envelope) -> Vec<(FieldId, Value)> {
    let values = values(&record.what, start).into_iter();
    values.map(|(id, text)| (id.parse().unwrap(), Value::Text(Personal::new(text)))).collect()
}

fn act(record: &Record, recipient: RecipientId, seen: Seen, start: &v1::Envelope) -> Act {
    let shown = |document: &v1::Document| {
        let sha256 = if seen == Seen::Other { [0; 32] } else { digest(&document.sha256) };
        (document.id.parse().unwrap(), sha256)
    };
    Act {
        recipient,
        values: entered(record, start),
        seen: start.documents.iter().map(shown).collect(),
        seen_revision: record.seen_revision,
        // The wire has a consent of signers alone.
        consent: matches!(record.what, What::Sign(..)),
    }
}
