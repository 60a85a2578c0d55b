//! The draft in an ended envelope's place.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::envelope::{Document, Envelope};
use super::field::Field;
use super::id::{DocumentId, EnvelopeId, FieldId, RecipientId, SourceId, WatcherId};
use super::ingest::Awaited;
use super::keeping::Keeping;
use super::limits::EXPIRY_DAYS_MAX;
use super::personal::Salt;
use super::recipient::{Credential, Recipient, RecipientState};
use super::record::Mint;
use super::reminder::Notices;
use super::status::Facts;
use super::terms::{Terms, Watcher};

/// A copy of an ended envelope as a draft: the same people, documents and fields under new ids, with nothing that they did.
/// Its deadline is as far ahead as the other's last was from its making. The credentials are for the caller to make.
#[must_use]
pub fn copy(ended: &Envelope, id: EnvelopeId, now: DateTime<Utc>, mint: &mut impl Mint) -> Envelope {
    let recipients: HashMap<_, _> =
        ended.recipients.iter().map(|old| (old.id, RecipientId::from_uuid(mint.id()))).collect();
    let documents: HashMap<_, _> =
        ended.documents.iter().map(|old| (old.id, DocumentId::from_uuid(mint.id()))).collect();
    let renamed = |id: &RecipientId| recipients.get(id).copied().unwrap_or(*id);
    let watcher = |old: &Watcher| Watcher { id: WatcherId::from_uuid(mint.id()), email: old.email.clone() };
    let watchers = ended.terms.watchers.iter().map(watcher).collect();
    let field = |old: &Field| Field {
        id: FieldId::from_uuid(mint.id()),
        recipient: renamed(&old.recipient),
        document: documents.get(&old.document).copied().unwrap_or(old.document),
        // What the sender put in stays; what others put in does not.
        value: old.preset.clone(),
        ..old.clone()
    };
    let fields = ended.fields.iter().map(field).collect();
    Envelope {
        account: ended.account,
        id,
        livemode: ended.livemode,
        revision: 0,
        sequence: 0,
        chain: [0; 32],
        last_event_at: now,
        terms: Terms { watchers, scheduled_send_at: None, ..ended.terms.clone() },
        facts: Facts::created(now),
        expires_at: now + (ended.expires_at - ended.facts.created_at).min(TimeDelta::days(EXPIRY_DAYS_MAX)),
        warned_at: None,
        end: None,
        void_reason: None,
        requires_replacement: false,
        replaces: Some(ended.id),
        replaced_by: None,
        charge: None,
        keeping: Keeping::new(ended.keeping.retention),
        recipients: ended.recipients.iter().map(|old| anew(old, &renamed)).collect(),
        documents: ended
            .documents
            .iter()
            .map(|old| Document {
                id: documents.get(&old.id).copied().unwrap_or(old.id),
                awaits: old.awaits.as_ref().map(|old| Awaited { id: SourceId::from_uuid(mint.id()), ..old.clone() }),
                artifacts: Vec::new(),
                ..old.clone()
            })
            .collect(),
        fields,
    }
}

fn anew(old: &Recipient, renamed: &impl Fn(&RecipientId) -> RecipientId) -> Recipient {
    Recipient {
        id: renamed(&old.id),
        assists: old.assists.as_ref().map(renamed),
        state: RecipientState::Waiting,
        viewed_at: None,
        invited_at: None,
        notices: Notices::default(),
        delegations: 0,
        filled_revision: 0,
        credential: Credential { generation: 0, salt: Salt::default(), hash: Default::default() },
        ..old.clone()
    }
}
