//! Small envelopes to play with.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_envelope::domain::command::{Act, Assign, Command, Decline, NewArtifact};
use countersign_envelope::domain::envelope::{Document, Envelope, Ingest, SealLevel, Version};
use countersign_envelope::domain::field::{Field, FieldType, Placement, Rules};
use countersign_envelope::domain::id::{AccountId, DocumentId, EnvelopeId, FieldId, RecipientId};
use countersign_envelope::domain::ingest::{FaultReason, IngestFault, Read, Reading};
use countersign_envelope::domain::keeping::{Keeping, Retention};
use countersign_envelope::domain::locality::Locality;
use countersign_envelope::domain::personal::{Personal, Salt};
use countersign_envelope::domain::recipient::{Channel, Credential, Person, Recipient, RecipientState, Role};
use countersign_envelope::domain::record::Mint;
use countersign_envelope::domain::reminder::{Notices, ReminderPolicy};
use countersign_envelope::domain::status::Facts;
use countersign_envelope::domain::terms::{DeclineEffect, DeclinePolicy, Quorum, ReasonRule, Routing, Terms};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

pub fn deadline() -> DateTime<Utc> {
    start() + TimeDelta::days(90)
}

pub const fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Ids and salts that count up.
pub struct Count(pub u128);

impl Mint for Count {
    fn id(&mut self) -> Uuid {
        self.0 += 1;
        uuid(self.0)
    }

    fn salt(&mut self) -> Salt {
        self.0 += 1;
        self.0.to_be_bytes()
    }
}

/// The recipient of that index, from 0.
pub fn rcp(index: u128) -> RecipientId {
    RecipientId::from_uuid(uuid(100 + index))
}

/// Nobody's.
pub fn stranger() -> RecipientId {
    RecipientId::from_uuid(uuid(999))
}

pub fn env(number: u128) -> EnvelopeId {
    EnvelopeId::from_uuid(uuid(number))
}

/// The SIGNATURE field of a signer, from 0.
pub fn place_of(index: u128) -> FieldId {
    FieldId::from_uuid(uuid(300 + index))
}

/// The TEXT field of a signer, from 0.
pub fn text_of(index: u128) -> FieldId {
    FieldId::from_uuid(uuid(400 + index))
}

pub fn person(name: &str, email: &str) -> Person {
    Person { name: Personal::new(name), email: Personal::new(email), locality: Locality::default() }
}

fn recipient(index: u128, role: Role, group: u16) -> Recipient {
    Recipient {
        id: rcp(index),
        person: person(&format!("Person {index}"), &format!("person{index}@example.com")),
        role,
        assists: None,
        copy_on_send: false,
        label: String::new(),
        group,
        decline: None,
        state: RecipientState::Waiting,
        viewed_at: None,
        invited_at: None,
        notices: Notices::default(),
        delegations: 0,
        filled_revision: 0,
        credential: Credential { generation: 1, salt: [1; 16], hash: [2; 32] },
    }
}

pub fn document(number: u128) -> Document {
    Document {
        id: DocumentId::from_uuid(uuid(200 + number)),
        name: "contract.pdf".into(),
        sha256: [7; 32],
        size_bytes: 1000,
        page_count: 2,
        ingest: Ingest::Ready,
        original: None,
        awaits: None,
        fault: None,
        artifacts: Vec::new(),
    }
}

/// The same while it is being read.
pub fn unread(number: u128) -> Document {
    Document { sha256: [0; 32], size_bytes: 0, page_count: 0, ingest: Ingest::Processing, ..document(number) }
}

/// It was read, or cannot be.
pub fn read(number: u128, ready: bool) -> Command {
    let whole = document(number);
    let (sha256, size_bytes, page_count) = (whole.sha256, whole.size_bytes, whole.page_count);
    let read = Read { sha256, size_bytes, page_count, original: None, fields: Vec::new(), fields_max: 200 };
    let reading = if ready { Reading::Ready(Box::new(read)) } else { Reading::Failed(broken()) };
    Command::Ingest { document: whole.id, source: None, reading }
}

pub fn broken() -> IngestFault {
    IngestFault::new(FaultReason::Unreadable, "the file is not a PDF")
}

/// A field on the first document.
pub fn field(id: FieldId, kind: FieldType, recipient: RecipientId) -> Field {
    Field {
        id,
        kind,
        recipient,
        document: document(0).id,
        placement: Placement { page: 1, x_percent: 10.0, y_percent: 10.0, width_percent: 20.0, height_percent: 5.0 },
        required: kind == FieldType::Signature,
        read_only: false,
        name: String::new(),
        rules: Rules::default(),
        preset: None,
        value: None,
    }
}

fn terms() -> Terms {
    Terms {
        subject: "Agreement".into(),
        message: String::new(),
        external_reference: String::new(),
        metadata: [].into(),
        watchers: Vec::new(),
        routing: Routing::Groups,
        quorums: Vec::new(),
        scheduled_send_at: None,
        decline: DeclinePolicy::default(),
        delegations_max: 0,
        expiry_warning: None,
        tell_acted: true,
        reminders: ReminderPolicy { enabled: false, ..ReminderPolicy::default() },
        locality: Locality::default(),
        webhook_url: String::new(),
    }
}

/// A draft with these recipients in these groups and one document. Every signer has a SIGNATURE field that is required
/// and a TEXT field that is not; an assistant is that of the first signer.
pub fn draft(people: &[(Role, u16)]) -> Envelope {
    let mut recipients: Vec<_> =
        (0..).zip(people).map(|(index, (role, group))| recipient(index, *role, *group)).collect();
    let signer = recipients.iter().find(|other| other.role == Role::Signer).map(|signer| signer.id);
    for assistant in recipients.iter_mut().filter(|other| other.role == Role::Assistant) {
        assistant.assists = signer;
    }
    let places = |(index, (role, _)): (u128, &(Role, u16))| {
        let signs = *role == Role::Signer;
        let both = [(place_of(index), FieldType::Signature), (text_of(index), FieldType::Text)];
        both.into_iter().filter(move |_| signs).map(move |(id, kind)| field(id, kind, rcp(index)))
    };
    Envelope {
        account: AccountId::from_uuid(uuid(1)),
        id: env(2),
        livemode: true,
        revision: 1,
        sequence: 1,
        chain: [0; 32],
        last_event_at: start(),
        terms: terms(),
        facts: Facts::created(start()),
        expires_at: deadline(),
        warned_at: None,
        end: None,
        void_reason: None,
        requires_replacement: false,
        replaces: None,
        replaced_by: None,
        charge: None,
        keeping: Keeping::new(Retention { days: 2, warning_days: 1, draft_days: 60 }),
        fields: (0..).zip(people).flat_map(places).collect(),
        recipients,
        documents: vec![document(0)],
    }
}

pub fn with_quorum(mut envelope: Envelope, group: u16, needed: u16) -> Envelope {
    envelope.terms.quorums.push(Quorum { group, needed });
    envelope
}

pub fn policy(enabled: bool, reason: ReasonRule, effect: DeclineEffect) -> DeclinePolicy {
    DeclinePolicy { enabled, reason, effect }
}

/// With another effect of refusals.
pub fn with_effect(mut envelope: Envelope, effect: DeclineEffect) -> Envelope {
    envelope.terms.decline.effect = effect;
    envelope
}

pub fn text(text: &str) -> Personal {
    Personal::new(text)
}

/// What a recipient says who has seen the envelope as it is.
pub fn act(envelope: &Envelope, recipient: RecipientId) -> Act {
    Act {
        recipient,
        values: Vec::new(),
        seen: envelope.documents.iter().map(|document| (document.id, document.sha256)).collect(),
        seen_revision: envelope.revision,
        consent: true,
    }
}

pub fn decline(recipient: RecipientId, channel: Channel, reason: Option<&str>) -> Command {
    Command::Decline(Decline { recipient, channel, reason: reason.map(text), note: None, correction: env(3) })
}

pub fn assign(recipient: RecipientId, name: &str) -> Assign {
    Assign { recipient, person: person(name, &format!("{name}@example.org")), reason: None }
}

pub fn artifacts(envelope: &Envelope, version: Version) -> Vec<NewArtifact> {
    let artifact = |document: &Document| NewArtifact {
        document: document.id,
        version,
        sha256: [8; 32],
        size_bytes: 1100,
        seal: SealLevel::Basic,
        is_bare: false,
    };
    envelope.documents.iter().map(artifact).collect()
}

pub fn store(envelope: &Envelope, version: Version) -> Command {
    Command::Store { artifacts: artifacts(envelope, version) }
}

/// A mail to that address came back.
pub fn bounce(recipient: RecipientId, email: &str) -> Command {
    Command::Bounce { recipient, address: Sha256::digest(email).into() }
}
