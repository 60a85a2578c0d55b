//! CreateEnvelope: everything is checked before anything is kept.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use countersign::v1;
use countersign::v1::document_source;
use countersign_chassis::keys::sha256;
use countersign_chassis::problem::Problem;
use futures_util::future::try_join_all;
use tonic::Status;

use super::auth::Sender;
use super::fields::{Ground, fields, pages};
use super::parse::Faults;
use super::people::recipients;
use super::status::{database, refused};
use super::terms::{deadline, terms};
use super::upload::{over_limit, page_count};
use super::{Context, Handler};
use crate::domain::command::{By, Command};
use crate::domain::decide::{Verdict, decide};
use crate::domain::envelope::{Document, Envelope, Ingest};
use crate::domain::event::Event;
use crate::domain::id::{DocumentId, EnvelopeId, FieldId, UploadId};
use crate::domain::limits::{DOCUMENTS_MAX, FIELDS_MAX, FILE_NAME_CHARS_MAX, RECIPIENTS_MAX};
use crate::domain::particulars::Source;
use crate::domain::record::seal;
use crate::domain::status::Facts;
use crate::execute::{Fresh, new_id};

/// Where a document's bytes come from.
pub(super) enum Origin {
    Inline(Bytes),
    Upload(UploadId),
}

impl Handler {
    pub(super) async fn create(
        &self,
        sender: Sender,
        source: Source,
        request: v1::CreateEnvelopeRequest,
    ) -> Result<Envelope, Status> {
        let context = &self.0;
        let now = context.store.clock().now();
        limits(&request)?;
        let mut faults = Faults::default();
        let mut envelope = draft(context, sender, &request, now, &mut faults);
        let origins = origins(&request.documents, now, &mut faults);
        let documents: Vec<_> = origins.iter().map(|(id, _)| (*id, None)).collect();
        let ground = Ground { recipients: &envelope.recipients, documents: &documents };
        let id = || FieldId::from_uuid(new_id(now));
        envelope.fields = fields(&request.fields, &ground, id, &mut faults)?;
        quorums(&envelope, &mut faults);
        faults.finish()?;
        let read = origins.into_iter().zip(&request.documents).enumerate();
        let read = read.map(|(index, ((id, origin), given))| {
            context.document(sender, format!("documents[{index}]"), id, origin, &given.name)
        });
        let (documents, contents): (Vec<_>, Vec<_>) = try_join_all(read).await?.into_iter().unzip();
        envelope.documents = documents;
        let mut faults = Faults::default();
        let known: Vec<_> =
            envelope.documents.iter().map(|document| (document.id, Some(document.page_count))).collect();
        pages(&envelope.fields, &known, &mut faults);
        faults.finish()?;
        let mut events = vec![Event::Created];
        if request.send {
            let decision = decide(&envelope, &Command::Send, None, now);
            if let Verdict::Refused(refusal) = &decision.verdict {
                return Err(refused(refusal, now));
            }
            events.extend(decision.events);
        }
        let by = By { actor: sender.actor(), source };
        let recorded = seal(&mut envelope, &events, &by, now, &mut Fresh(now));
        for content in contents.into_iter().flatten() {
            context.blobs.put(content).await.map_err(|error| super::status::unavailable(&error))?;
        }
        context.store.create(&envelope, &recorded).await.map_err(|error| database(&error))?;
        Ok(envelope)
    }
}

impl Context {
    /// A document with its bytes, unless they are kept already.
    pub(super) async fn document(
        &self,
        sender: Sender,
        path: String,
        id: DocumentId,
        origin: Origin,
        name: &str,
    ) -> Result<(Document, Option<Bytes>), Status> {
        let (ingest, artifacts) = (Ingest::Ready, Vec::new());
        match origin {
            Origin::Inline(content) => {
                let page_count = page_count(&format!("{path}.content"), content.clone()).await?;
                let (sha256, size_bytes) = (sha256(&content), content.len() as u64);
                let name = name.trim().to_owned();
                Ok((Document { id, name, sha256, size_bytes, page_count, ingest, artifacts }, Some(content)))
            }
            Origin::Upload(upload) => {
                let found = self.store.upload(sender.scope, upload).await.map_err(|error| database(&error))?;
                let found = found.ok_or_else(|| Status::from(Problem::not_found()))?;
                let name = if name.trim().is_empty() { found.name } else { name.trim().to_owned() };
                let (sha256, size_bytes, page_count) = (found.sha256, found.size_bytes, found.page_count);
                Ok((Document { id, name, sha256, size_bytes, page_count, ingest, artifacts }, None))
            }
        }
    }
}

fn limits(request: &v1::CreateEnvelopeRequest) -> Result<(), Status> {
    for (path, limit, actual, allowed) in [
        ("recipients", "recipients_max", request.recipients.len(), RECIPIENTS_MAX),
        ("documents", "documents_max", request.documents.len(), DOCUMENTS_MAX),
        ("fields", "fields_max", request.fields.len(), FIELDS_MAX),
        ("quorums", "recipients_max", request.quorums.len(), RECIPIENTS_MAX),
    ] {
        if actual > allowed {
            let message = format!("{path}: {actual} are more than the {allowed} that an envelope may have");
            return Err(over_limit(path, limit, actual, allowed, &message));
        }
    }
    Ok(())
}

/// A draft's recipients stay, so its quorums must fit them from the beginning.
fn quorums(envelope: &Envelope, faults: &mut Faults) {
    for (index, quorum) in envelope.terms.quorums.iter().enumerate() {
        let gating = envelope.recipients.iter().filter(|other| other.role.gates() && other.group == quorum.group);
        let members = gating.count();
        if !(1..=members).contains(&quorum.needed.into()) {
            faults.add(format!("quorums[{index}].needed"), format!("must be 1 to {members}: as many as can act"));
        }
    }
}

/// The envelope without documents and fields.
fn draft(
    context: &Context,
    sender: Sender,
    request: &v1::CreateEnvelopeRequest,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Envelope {
    let terms = terms(request, now, faults);
    Envelope {
        account: sender.scope.account,
        id: EnvelopeId::from_uuid(new_id(now)),
        livemode: sender.livemode,
        revision: 0,
        sequence: 0,
        chain: [0; 32],
        last_event_at: now,
        facts: Facts::created(now),
        expires_at: deadline(request.expires_at.as_ref(), "expires_at", now, faults),
        warned_at: None,
        end: None,
        void_reason: None,
        requires_replacement: false,
        replaces: None,
        replaced_by: None,
        recipients: recipients(&context.keyring, &request.recipients, terms.routing, now, faults),
        documents: Vec::new(),
        fields: Vec::new(),
        terms,
    }
}

fn origins(given: &[v1::DocumentSource], now: DateTime<Utc>, faults: &mut Faults) -> Vec<(DocumentId, Origin)> {
    if given.is_empty() {
        faults.add("documents", "must name at least one");
    }
    let mut origins = Vec::new();
    for (index, document) in given.iter().enumerate() {
        let origin = origin(document, &format!("documents[{index}]"), faults);
        origins.push((DocumentId::from_uuid(new_id(now)), origin));
    }
    origins
}

/// Where one document's bytes come from.
pub(super) fn origin(given: &v1::DocumentSource, path: &str, faults: &mut Faults) -> Origin {
    let inline = matches!(given.source, Some(document_source::Source::Content(_)));
    faults.line(format!("{path}.name"), &given.name, inline, FILE_NAME_CHARS_MAX);
    match &given.source {
        Some(document_source::Source::Content(content)) => Origin::Inline(content.clone()),
        Some(document_source::Source::UploadId(id)) => Origin::Upload(faults.id(format!("{path}.upload_id"), id)),
        None => {
            faults.add(format!("{path}.content"), "must be there, or `upload_id`");
            Origin::Inline(Bytes::new())
        }
    }
}
