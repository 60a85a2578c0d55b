//! EnvelopeService: each handler parses, executes, renders.

use countersign::v1;
use countersign::v1::envelope_service_server::EnvelopeService;
use countersign_chassis::problem::Problem;
use futures_util::StreamExt as _;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::auth::{Reader, Sender, reader, sender};
use super::parse::{Faults, envelope_id, page_size};
use super::status::{closed, database, not_your_turn, refused, unavailable};
use super::{Handler, cursor, download, render, upload};
use crate::domain::command::{Command, Decline};
use crate::domain::decide::Verdict;
use crate::domain::envelope::{Channel, Envelope, RecipientState, Version};
use crate::domain::id::{EnvelopeId, UploadId};
use crate::domain::record::Record;
use crate::domain::status::Status as EnvelopeStatus;
use crate::execute::{Outcome, execute, new_id};
use crate::store::{Filter, Scope, Stored, Upload};

/// Envelopes on a page of a list: default and most.
const ENVELOPES: (i64, i64) = (50, 100);
/// Events on a page of a history: default and most.
const EVENTS: (i64, i64) = (50, 200);

impl Handler {
    /// An envelope of the scope, or NOT_FOUND.
    pub(super) async fn find(&self, scope: Scope, id: EnvelopeId) -> Result<Envelope, Status> {
        let found = self.0.store.envelope(scope, id).await.map_err(|error| database(&error))?;
        found.ok_or_else(|| Problem::not_found().into())
    }

    async fn command(&self, sender: Sender, id: EnvelopeId, command: Command) -> Result<Outcome, Status> {
        let outcome = execute(&self.0.store, sender.scope, id, sender.actor(), command, |_| true).await;
        let outcome = outcome.map_err(|error| database(&error))?.ok_or_else(|| Status::from(Problem::not_found()))?;
        match &outcome.answer {
            Verdict::Done | Verdict::AlreadyDone => Ok(outcome),
            Verdict::Refused(refusal) => Err(refused(refusal)),
        }
    }
}

#[tonic::async_trait]
impl EnvelopeService for Handler {
    async fn upload_document(
        &self,
        request: Request<Streaming<v1::UploadDocumentRequest>>,
    ) -> Result<Response<v1::UploadDocumentResponse>, Status> {
        let sender = sender(request.extensions())?;
        let received = upload::receive(request.into_inner()).await?;
        let page_count = upload::page_count("chunk", received.bytes.clone()).await?;
        let size_bytes = received.bytes.len() as u64;
        let sha256 = self.0.blobs.put(received.bytes).await.map_err(|error| unavailable(&error))?;
        let now = self.0.store.clock().now();
        let id = UploadId::from_uuid(new_id(now));
        let kept = Upload { id, name: received.name, sha256, size_bytes, page_count };
        self.0.store.keep_upload(sender.scope, &kept, now).await.map_err(|error| database(&error))?;
        Ok(Response::new(v1::UploadDocumentResponse {
            upload_id: id.to_string(),
            sha256: hex::encode(sha256),
            size_bytes,
            page_count,
        }))
    }

    async fn create_envelope(
        &self,
        request: Request<v1::CreateEnvelopeRequest>,
    ) -> Result<Response<v1::CreateEnvelopeResponse>, Status> {
        let sender = sender(request.extensions())?;
        let envelope = self.create(sender, request.into_inner()).await?;
        Ok(Response::new(v1::CreateEnvelopeResponse { envelope: Some(render::envelope(&envelope)) }))
    }

    async fn get_envelope(
        &self,
        request: Request<v1::GetEnvelopeRequest>,
    ) -> Result<Response<v1::GetEnvelopeResponse>, Status> {
        let scope = reader(request.extensions())?.scope()?;
        let id = envelope_id(&request.get_ref().envelope_id)?;
        let envelope = self.find(scope, id).await?;
        Ok(Response::new(v1::GetEnvelopeResponse { envelope: Some(render::envelope(&envelope)) }))
    }

    async fn list_envelopes(
        &self,
        request: Request<v1::ListEnvelopesRequest>,
    ) -> Result<Response<v1::ListEnvelopesResponse>, Status> {
        let scope = sender(request.extensions())?.scope;
        let request = request.into_inner();
        let mut faults = Faults::default();
        let limit = page_size(&mut faults, request.page_size, ENVELOPES.0, ENVELOPES.1);
        let status = EnvelopeStatus::ALL.into_iter().find(|status| render::status(*status) == request.status);
        if status.is_none() && request.status != 0 {
            faults.add("status", "is not a value that the service knows");
        }
        let purpose = format!("envelopes/{}", request.status);
        let key = &self.0.keyring.cursor;
        let before = page_start(&mut faults, &request.page_token, |token| {
            let content = cursor::open(key, &purpose, Some(scope), token)?;
            Some(EnvelopeId::from_uuid(uuid::Uuid::from_slice(&content).ok()?))
        });
        faults.finish()?;
        // One more than asked for tells whether there is a next page.
        let filter = Filter { status, before, limit: limit + 1 };
        let mut page = self.0.store.envelopes(scope, filter).await.map_err(|error| database(&error))?;
        let more = page.len() > usize::try_from(limit).unwrap_or_default();
        page.truncate(usize::try_from(limit).unwrap_or_default());
        let last = page.last().filter(|_| more).map(|summary| summary.id.uuid().into_bytes());
        Ok(Response::new(v1::ListEnvelopesResponse {
            envelopes: page.into_iter().map(render::summary).collect(),
            next_page_token: last.map(|id| cursor::seal(key, &purpose, Some(scope), &id)).unwrap_or_default(),
        }))
    }

    async fn send_envelope(
        &self,
        request: Request<v1::SendEnvelopeRequest>,
    ) -> Result<Response<v1::SendEnvelopeResponse>, Status> {
        let sender = sender(request.extensions())?;
        let id = envelope_id(&request.get_ref().envelope_id)?;
        let outcome = self.command(sender, id, Command::Send).await?;
        Ok(Response::new(v1::SendEnvelopeResponse { envelope: Some(render::envelope(&outcome.envelope)) }))
    }

    async fn void_envelope(
        &self,
        request: Request<v1::VoidEnvelopeRequest>,
    ) -> Result<Response<v1::VoidEnvelopeResponse>, Status> {
        let sender = sender(request.extensions())?;
        let request = request.into_inner();
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &request.envelope_id);
        let reason = faults.committed("reason", &request.reason);
        faults.finish()?;
        let outcome = self.command(sender, id, Command::Void { reason }).await?;
        Ok(Response::new(v1::VoidEnvelopeResponse { envelope: Some(render::envelope(&outcome.envelope)) }))
    }

    async fn decline_recipient(
        &self,
        request: Request<v1::DeclineRecipientRequest>,
    ) -> Result<Response<v1::DeclineRecipientResponse>, Status> {
        let sender = sender(request.extensions())?;
        let request = request.into_inner();
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &request.envelope_id);
        let recipient = faults.id("recipient_id", &request.recipient_id);
        let reason = faults.committed("reason", &request.reason);
        let note = faults.committed("evidence_note", &request.evidence_note);
        faults.finish()?;
        let decline = Decline { recipient, channel: Channel::OnBehalf, reason, note };
        let outcome = self.command(sender, id, Command::Decline(decline)).await?;
        Ok(Response::new(v1::DeclineRecipientResponse {
            envelope: Some(render::envelope(&outcome.envelope)),
            already_declined: outcome.answer == Verdict::AlreadyDone,
        }))
    }

    type DownloadDocumentStream = BoxStream<v1::DownloadDocumentResponse>;

    async fn download_document(
        &self,
        request: Request<v1::DownloadDocumentRequest>,
    ) -> Result<Response<Self::DownloadDocumentStream>, Status> {
        let scope = reader(request.extensions())?.scope()?;
        let request = request.into_inner();
        let version = match v1::DocumentVersion::try_from(request.version) {
            Ok(v1::DocumentVersion::Original) => None,
            Ok(v1::DocumentVersion::Signed | v1::DocumentVersion::Unspecified) => Some(Version::Signed),
            Ok(v1::DocumentVersion::Declined) => Some(Version::Declined),
            Err(_) => return Err(download::unknown_version()),
        };
        let envelope = self.find(scope, envelope_id(&request.envelope_id)?).await?;
        let document = download::document(&envelope, &request.document_id)?;
        let digest = download::version(&envelope, document, version)?;
        let parts = download::parts(&self.0.blobs, document.name.clone(), &digest).await?;
        Ok(Response::new(Box::pin(parts.map(|part| Ok(v1::DownloadDocumentResponse { part: Some(part) })))))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let scope = sender(request.extensions())?.scope;
        let request = request.into_inner();
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
        Ok(Response::new(v1::ListEventsResponse {
            entries: page.iter().map(|stored| entry(&envelope, stored)).collect::<Result<_, _>>()?,
            next_page_token: if more {
                cursor::seal(key, &purpose, Some(scope), &last.to_be_bytes())
            } else {
                String::new()
            },
        }))
    }

    type WatchStatusChangesStream = BoxStream<v1::WatchStatusChangesResponse>;

    async fn watch_status_changes(
        &self,
        request: Request<v1::WatchStatusChangesRequest>,
    ) -> Result<Response<Self::WatchStatusChangesStream>, Status> {
        let scope = match reader(request.extensions())? {
            Reader::Sender(sender) => Some(sender.scope),
            Reader::Notifier(_) => None,
        };
        let stream = self.watch(scope, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_signing_link(
        &self,
        request: Request<v1::GetSigningLinkRequest>,
    ) -> Result<Response<v1::GetSigningLinkResponse>, Status> {
        let reader = reader(request.extensions())?;
        if matches!(&reader, Reader::Sender(sender) if sender.livemode) {
            let message = "A sender cannot have a recipient's signing link. Only test keys can.";
            return Err(Problem::new(v1::ErrorReason::PermissionDenied, message).into());
        }
        let request = request.into_inner();
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &request.envelope_id);
        let recipient = faults.id("recipient_id", &request.recipient_id);
        faults.finish()?;
        let envelope = self.find(reader.scope()?, id).await?;
        let recipient = envelope.recipient(recipient).ok_or_else(|| Status::from(Problem::not_found()))?;
        let status = envelope.status();
        if status.is_terminal() {
            return Err(closed(status));
        }
        if recipient.state == RecipientState::Waiting {
            return Err(not_your_turn(status));
        }
        let token = self.0.keyring.signing_token(envelope.account, envelope.id, recipient.id, &recipient.credential);
        let url = format!("{}#{token}", self.0.signing_url);
        Ok(Response::new(v1::GetSigningLinkResponse { url, token }))
    }
}

/// Where a page starts: nowhere without a token, and a foreign or damaged token is a fault.
fn page_start<T>(faults: &mut Faults, token: &str, open: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    if token.is_empty() {
        return None;
    }
    let start = open(token);
    if start.is_none() {
        faults.add("page_token", "is not one that the service gave for this list");
    }
    start
}

/// An event with the reason that was given with it. Reasons are kept beside the history, so that they can be erased.
fn entry(envelope: &Envelope, stored: &Stored) -> Result<v1::HistoryEntry, Status> {
    let unreadable = |error: serde_json::Error| {
        tracing::error!(envelope = envelope.id.to_string(), error = error.to_string(), "unreadable record");
        Status::from(Problem::internal())
    };
    let event = render::event(stored).map_err(unreadable)?;
    let record: Record = serde_json::from_slice(&stored.record).map_err(unreadable)?;
    let reason = match record.recipient.and_then(|id| envelope.recipient(id)).map(|recipient| &recipient.state) {
        Some(RecipientState::Declined { reason, .. }) => reason.as_ref(),
        _ => envelope.void_reason.as_ref(),
    };
    let given = record.evidence.is_some_and(|evidence| evidence.reason.is_some());
    let reason = reason.filter(|_| given).map(|reason| reason.text.reveal().to_owned()).unwrap_or_default();
    Ok(v1::HistoryEntry { event: Some(event), reason })
}
