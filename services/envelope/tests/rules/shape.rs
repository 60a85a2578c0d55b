//! Small envelopes to play with.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_envelope::domain::command::{Command, Decline, NewArtifact, Sign};
use countersign_envelope::domain::envelope::{
    Channel, Credential, Document, Envelope, Recipient, RecipientState, Role, Routing, Version,
};
use countersign_envelope::domain::field::{Field, FieldType, Placement};
use countersign_envelope::domain::id::{AccountId, DocumentId, EnvelopeId, FieldId, RecipientId};
use countersign_envelope::domain::personal::{Committed, Personal};
use countersign_envelope::domain::status::Facts;
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

/// A draft with that many signers and one document, complete unless `bare`.
pub fn draft(signers: u16, routing: Routing, bare: bool) -> Envelope {
    let recipient = |index: u16| Recipient {
        id: RecipientId::from_uuid(uuid(100 + u128::from(index))),
        name: Personal::new(format!("Signer {index}")),
        email: Personal::new(format!("signer{index}@example.com")),
        role: Role::Signer,
        label: String::new(),
        group: if routing == Routing::Sequential { index } else { 1 },
        state: RecipientState::Waiting,
        credential: Credential { generation: 1, salt: [1; 16], hash: [2; 32] },
    };
    let document = Document {
        id: DocumentId::from_uuid(uuid(200)),
        name: "contract.pdf".into(),
        sha256: [7; 32],
        size_bytes: 1000,
        page_count: 2,
        artifacts: Vec::new(),
    };
    let recipients: Vec<_> = (1..=signers).map(recipient).collect();
    let field = |recipient: &Recipient| Field {
        id: FieldId::from_uuid(uuid(recipient.id.uuid().as_u128() + 200)),
        kind: FieldType::Signature,
        recipient: recipient.id,
        document: document.id,
        placement: Placement { page: 1, x_percent: 10.0, y_percent: 10.0, width_percent: 20.0, height_percent: 5.0 },
        required: true,
        name: String::new(),
        value: None,
    };
    Envelope {
        account: AccountId::from_uuid(uuid(1)),
        id: EnvelopeId::from_uuid(uuid(2)),
        livemode: true,
        revision: 1,
        sequence: 1,
        chain: [0; 32],
        last_event_at: start(),
        subject: "Agreement".into(),
        message: String::new(),
        routing,
        facts: Facts::created(start()),
        expires_at: deadline(),
        void_reason: None,
        requires_replacement: false,
        fields: if bare { Vec::new() } else { recipients.iter().map(field).collect() },
        recipients,
        documents: vec![document],
    }
}

pub fn reason(text: &str) -> Option<Committed> {
    Some(Committed { text: Personal::new(text), salt: [9; 16] })
}

pub fn sign(envelope: &Envelope, recipient: RecipientId) -> Sign {
    Sign {
        recipient,
        values: Vec::new(),
        seen: envelope.documents.iter().map(|document| (document.id, document.sha256)).collect(),
        consent: true,
        salt: [3; 16],
    }
}

pub fn decline(recipient: RecipientId, channel: Channel) -> Command {
    Command::Decline(Decline { recipient, channel, reason: reason("Terms not acceptable"), note: None })
}

pub fn store(envelope: &Envelope, version: Version) -> Command {
    let artifact =
        |document: &Document| NewArtifact { document: document.id, version, sha256: [8; 32], size_bytes: 1100 };
    Command::Store { artifacts: envelope.documents.iter().map(artifact).collect() }
}
