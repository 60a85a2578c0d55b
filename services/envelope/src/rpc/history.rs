//! Histories: listed with what the sender alone may see, and verified.

use countersign::v1;
use countersign_chassis::problem::Problem;
use tonic::Status;

use super::envelope::page_start;
use super::parse::{Faults, page_size};
use super::status::database;
use super::{Handler, cursor, render};
use crate::domain::id::EnvelopeId;
use crate::domain::particulars::Particulars;
use crate::domain::record::Record;
use crate::domain::verify::{Entry, Flaw, Verifier};
use crate::store::Scope;

/// Events on a page of a history: default and most.
const EVENTS: (i64, i64) = (50, 200);

impl Handler {
    pub(super) async fn events(
        &self,
        scope: Scope,
        request: v1::ListEventsRequest,
    ) -> Result<v1::ListEventsResponse, Status> {
        let mut faults = Faults::default();
        let id: EnvelopeId = faults.id("envelope_id", &request.envelope_id);
        let limit = page_size(&mut faults, request.page_size, EVENTS.0, EVENTS.1);
        let (key, purpose) = (&self.0.keyring.cursor, format!("events/{id}"));
        let after = page_start(&mut faults, &request.page_token, |token| {
            let content = cursor::open(key, &purpose, Some(scope), token)?;
            Some(u64::from_be_bytes(content.try_into().ok()?))
        });
        faults.finish()?;
        let envelope = self.find(scope, id).await?;
        let after = after.unwrap_or_default();
        let page = self.0.store.history(scope, id, after, limit).await.map_err(|error| database(&error))?;
        let last = after + page.len() as u64;
        let more = last < envelope.sequence && !page.is_empty();
        Ok(v1::ListEventsResponse {
            entries: page.iter().map(|stored| entry(id, stored)).collect::<Result<_, _>>()?,
            next_page_token: if more {
                cursor::seal(key, &purpose, Some(scope), &last.to_be_bytes())
            } else {
                String::new()
            },
        })
    }

    pub(super) async fn verify(&self, scope: Scope, id: EnvelopeId) -> Result<v1::VerifyHistoryResponse, Status> {
        let mut verifier = Verifier::new(id);
        let mut envelope = self.find(scope, id).await?;
        let (bad, flaw) = loop {
            let page = self.0.store.history(scope, id, verifier.sequence(), EVENTS.1).await;
            let page = page.map_err(|error| database(&error))?;
            if page.is_empty() {
                // All that the envelope knew of before this page has been followed, or is missing.
                let flaw = verifier.finish(envelope.sequence, &envelope.chain).err();
                // The head is the last entry, of which the envelope has another mark.
                break (verifier.sequence() + u64::from(flaw != Some(Flaw::Head)), flaw);
            }
            // People go on meanwhile: entries of which it does not know even after the page are none of its own.
            envelope = self.find(scope, id).await?;
            let known = |entry: &&Entry| entry.sequence <= envelope.sequence;
            let stranger = page.iter().any(|entry| !known(&entry)).then_some(Flaw::Head);
            let flaw = page.iter().take_while(known).find_map(|entry| verifier.follow(entry).err());
            if let Some(flaw) = flaw.or(stranger) {
                break (verifier.sequence() + 1, Some(flaw));
            }
        };
        Ok(v1::VerifyHistoryResponse {
            intact: flaw.is_none(),
            intact_entries: verifier.sequence(),
            head_hash: hex::encode(verifier.hash()),
            first_bad_sequence: if flaw.is_some() { bad } else { 0 },
            flaw: flaw.map_or(0, |flaw| flaw as i32),
        })
    }
}

/// An event with what is personal about it, as far as it has not been erased.
fn entry(id: EnvelopeId, stored: &Entry) -> Result<v1::HistoryEntry, Status> {
    let unreadable = |error: serde_json::Error| {
        // The error might quote the content.
        tracing::error!(envelope = id.to_string(), line = error.line(), column = error.column(), "unreadable record");
        Status::from(Problem::internal())
    };
    let record: Record = serde_json::from_slice(&stored.record).map_err(unreadable)?;
    let particulars = stored.kept.as_ref().map(|(_, bytes)| serde_json::from_slice::<Particulars>(bytes));
    let particulars = particulars.transpose().map_err(unreadable)?.unwrap_or_default();
    let event = render::recorded(&record, stored);
    let evidence = record.evidence.unwrap_or_default();
    let seen = |(id, sha256): &(crate::domain::id::DocumentId, String)| v1::SeenDocument {
        document_id: id.to_string(),
        sha256: sha256.clone(),
    };
    Ok(v1::HistoryEntry {
        event: Some(event),
        reason: particulars.reason.unwrap_or_default(),
        evidence_note: particulars.evidence_note.unwrap_or_default(),
        channel: evidence.channel.unwrap_or_default().into(),
        before: particulars.before.as_ref().map(render::named),
        after: particulars.after.as_ref().map(render::named),
        client_ip: particulars.client_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        user_agent: particulars.user_agent.unwrap_or_default(),
        seen_documents: evidence.seen.iter().map(seen).collect(),
        seen_revision: evidence.seen_revision.unwrap_or_default(),
        replaced_by_envelope_id: evidence.replaced_by.map(|id| id.to_string()).unwrap_or_default(),
        link_rotated: evidence.rotated,
        consent_sha256: evidence.consent_sha256.unwrap_or_default(),
        changed: evidence.changed,
    })
}
