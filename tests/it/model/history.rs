//! The history of an envelope as it is read at the end, without personal data.

use chrono::{DateTime, Utc};
use countersign::v1;
use countersign::v1::{ActorType, ListEventsRequest};
use countersign_chassis::wire::datetime;
use countersign_envelope::domain::record::{Record, RecordedActor};
use countersign_test_support::Errors as _;

use super::run::Stand;

/// An event.
#[derive(Clone, Debug)]
pub struct Entry {
    pub sequence: u64,
    pub revision: u64,
    /// Of `v1::EventType`.
    pub kind: i32,
    /// Of `v1::ActorType`.
    pub actor: i32,
    pub recipient: String,
    pub at: DateTime<Utc>,
    /// The name of who has the place since, of a change of place; not of a discarded envelope.
    pub after: String,
    /// The envelope right after it.
    pub status: i32,
    pub expires_at: DateTime<Utc>,
    pub people: Vec<Person>,
}

/// A recipient right after an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    pub id: String,
    pub role: i32,
    pub group: u32,
    pub status: i32,
    pub not_effective: bool,
}

/// The whole history and the envelope as it is at its end; only the history if it was thrown away.
pub async fn history(stand: &Stand, id: &str) -> (Vec<Entry>, Option<v1::Envelope>) {
    loop {
        let last = match stand.sender.get(id).await {
            Ok(last) => last,
            Err(status) => {
                assert_eq!(status.reason(), "NOT_FOUND", "{status:?}");
                return (discarded(stand, id).await, None);
            }
        };
        let entries = listed(stand, id).await;
        // Artefacts may be stored between the two.
        if entries.last().unwrap().revision == last.revision {
            return (entries, Some(last));
        }
    }
}

async fn listed(stand: &Stand, id: &str) -> Vec<Entry> {
    let request = ListEventsRequest { envelope_id: id.to_owned(), page_size: 200, page_token: String::new() };
    let page = stand.sender.envelopes().list_events(request).await.unwrap().into_inner();
    assert!(page.next_page_token.is_empty(), "a history of more than 200 events");
    page.entries.into_iter().map(Entry::from).collect()
}

/// What was thrown away cannot be read by any call.
async fn discarded(stand: &Stand, id: &str) -> Vec<Entry> {
    let id: countersign_envelope::domain::id::EnvelopeId = id.parse().unwrap();
    let sql = "SELECT record FROM event WHERE envelope_id = $1 ORDER BY sequence";
    let rows = stand.sql.query(sql, &[&id.uuid()]).await.unwrap();
    rows.iter().map(|row| Entry::from(serde_json::from_slice::<Record>(row.get(0)).unwrap())).collect()
}

impl From<v1::HistoryEntry> for Entry {
    fn from(entry: v1::HistoryEntry) -> Self {
        let (event, after) = (entry.event.unwrap(), entry.after.map(|person| person.name).unwrap_or_default());
        let (state, kind) = (event.state.unwrap(), event.r#type);
        let person = |it: v1::RecipientState| Person {
            id: it.id,
            role: it.role,
            group: it.group,
            status: it.status,
            not_effective: it.not_effective,
        };
        Self {
            sequence: event.sequence,
            revision: event.revision,
            kind,
            actor: event.actor.unwrap().r#type,
            recipient: event.recipient_id,
            at: datetime(&event.occurred_at.unwrap()).unwrap(),
            after,
            status: state.status,
            expires_at: datetime(&state.expires_at.unwrap()).unwrap(),
            people: state.recipients.into_iter().map(person).collect(),
        }
    }
}

impl From<Record> for Entry {
    fn from(record: Record) -> Self {
        let actor = match record.actor {
            RecordedActor::Sender(_) => ActorType::Sender,
            RecordedActor::Recipient(_) => ActorType::Recipient,
            RecordedActor::System => ActorType::System,
            RecordedActor::Operator => ActorType::Operator,
            RecordedActor::User(_) => ActorType::User,
        };
        let people = record.state.recipients.into_iter().map(|it| Person {
            id: it.id.to_string(),
            role: it.role.into(),
            group: it.group.into(),
            status: it.status.into(),
            not_effective: it.not_effective,
        });
        Self {
            sequence: record.sequence,
            revision: record.revision,
            kind: record.kind as i32,
            actor: actor.into(),
            recipient: record.recipient.map(|id| id.to_string()).unwrap_or_default(),
            at: record.occurred_at,
            after: String::new(),
            status: record.state.status as i32,
            expires_at: record.state.expires_at,
            people: people.collect(),
        }
    }
}
