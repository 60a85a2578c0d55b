//! GetEnvelopeData: what everybody put in, as data.
//!
//! Must never tell anything of an envelope that is not completed: until then nothing is binding.

use std::collections::HashMap;

use countersign::v1;
use countersign::v1::field_data::Value as Shown;
use countersign_chassis::problem::Problem;
use countersign_chassis::wire::timestamp;
use tonic::Status;

use super::Handler;
use super::status::{database, no_data, purged};
use crate::domain::envelope::Envelope;
use crate::domain::event::EventType;
use crate::domain::field::{Field, FieldType, Value};
use crate::domain::id::{EnvelopeId, FieldId};
use crate::domain::particulars::{Entered, Particulars};
use crate::domain::recipient::{Recipient, RecipientState};
use crate::domain::record::Record;
use crate::store::Scope;

/// Entries of a history that are read at a time.
const ENTRIES_MAX: i64 = 200;

/// What assistants put in last.
type Assisted = HashMap<FieldId, Option<Entered>>;

impl Handler {
    pub(super) async fn data(&self, scope: Scope, id: EnvelopeId) -> Result<v1::GetEnvelopeDataResponse, Status> {
        let envelope = self.find(scope, id).await?;
        // What is left of it has no values and no names, which a program would take for what was put in.
        if envelope.keeping.is_purged() {
            return Err(purged(envelope.status()));
        }
        let Some(completed_at) = envelope.facts.completed_at else { return Err(no_data(envelope.status())) };
        let is_assisted = envelope.recipients.iter().any(|recipient| recipient.filled_revision > 0);
        let assisted = if is_assisted { self.assisted(scope, id).await? } else { Assisted::new() };
        let recipients = envelope.recipients.iter().filter_map(|own| recipient(&envelope, own, &assisted));
        Ok(v1::GetEnvelopeDataResponse {
            envelope_id: id.to_string(),
            completed_at: Some(timestamp(completed_at)),
            recipients: recipients.collect(),
        })
    }

    /// What assistants put in, as far as it has not been erased.
    async fn assisted(&self, scope: Scope, id: EnvelopeId) -> Result<Assisted, Status> {
        let (mut assisted, mut after) = (Assisted::new(), 0);
        loop {
            let page = self.0.store.history(scope, id, after, ENTRIES_MAX).await.map_err(|error| database(&error))?;
            let Some(last) = page.last() else { return Ok(assisted) };
            after = last.sequence;
            for entry in &page {
                let unreadable = |error: serde_json::Error| {
                    // The error might quote the content.
                    tracing::error!(envelope = id.to_string(), line = error.line(), "unreadable record");
                    Status::from(Problem::internal())
                };
                let record: Record = serde_json::from_slice(&entry.record).map_err(unreadable)?;
                let Some((_, kept)) = &entry.kept else { continue };
                if record.kind == EventType::RecipientFilled {
                    let particulars: Particulars = serde_json::from_slice(kept).map_err(unreadable)?;
                    assisted.extend(particulars.values);
                }
            }
        }
    }
}

/// Those who have fields or had to act.
fn recipient(envelope: &Envelope, own: &Recipient, assisted: &Assisted) -> Option<v1::RecipientData> {
    let acted_at = match &own.state {
        RecipientState::Acted { at, .. } => Some(timestamp(*at)),
        _ => None,
    };
    let fields = envelope.fields.iter().filter(|field| field.recipient == own.id);
    let fields: Vec<_> = fields.map(|field| shown(field, assisted)).collect();
    (acted_at.is_some() || !fields.is_empty()).then(|| v1::RecipientData {
        recipient_id: own.id.to_string(),
        name: own.person.name.reveal().to_owned(),
        email: own.person.email.reveal().to_owned(),
        label: own.label.clone(),
        role: own.role as i32,
        acted_at,
        fields,
    })
}

fn shown(field: &Field, assisted: &Assisted) -> v1::FieldData {
    let by_assistant = assisted.get(&field.id).and_then(Option::as_ref);
    v1::FieldData {
        field_id: field.id.to_string(),
        name: field.name.clone(),
        r#type: field.kind as i32,
        document_id: field.document.to_string(),
        page: field.placement.page,
        value: field.value.as_ref().map(|value| typed(field.kind, value)),
        assisted: by_assistant.is_some_and(|entered| field.value.as_ref().is_some_and(|value| same(entered, value))),
        group: field.rules.group.clone(),
    }
}

fn typed(kind: FieldType, value: &Value) -> Shown {
    let text = match value {
        Value::Text(text) => text.reveal().to_owned(),
        Value::Checked(checked) => return Shown::Checked(*checked),
        Value::Drawn(drawn) => {
            let mark = v1::mark_data::Mark::DrawnSha256(hex::encode(drawn.sha256));
            return Shown::Mark(v1::MarkData { mark: Some(mark) });
        }
    };
    match kind {
        FieldType::Signature | FieldType::Initials => {
            Shown::Mark(v1::MarkData { mark: Some(v1::mark_data::Mark::Typed(text)) })
        }
        FieldType::Number => Shown::Number(text),
        FieldType::Dropdown => Shown::Option(text),
        FieldType::Date => Shown::Date(text),
        FieldType::Name | FieldType::Email | FieldType::Text | FieldType::Checkbox | FieldType::Radio => {
            Shown::Text(text)
        }
    }
}

fn same(entered: &Entered, value: &Value) -> bool {
    match (entered, value) {
        (Entered::Text(text), Value::Text(now)) => text == now.reveal(),
        (Entered::Checked(checked), Value::Checked(now)) => checked == now,
        (Entered::Drawn(sha256), Value::Drawn(now)) => *sha256 == hex::encode(now.sha256),
        (Entered::Text(_) | Entered::Checked(_) | Entered::Drawn(_), _) => false,
    }
}
