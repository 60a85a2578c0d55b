//! EnvelopeService: each handler parses, executes, renders.

use bytes::Bytes;
use countersign::v1;
use countersign::v1::envelope_service_server::EnvelopeService;
use countersign_chassis::accept::Leaving;
use countersign_chassis::keys::sha256 as hash;
use countersign_chassis::problem::Problem;
use futures_util::StreamExt as _;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::auth::{Reader, overview, reader, sender};
use super::documents::Content;
use super::download::{Asked, Wanted};
use super::once::keep;
use super::parse::{Faults, envelope_id};
use super::status::{closed, database, no_session, not_your_turn, part_over};
use super::{Handler, download, picture, render, upload};
use crate::domain::envelope::Envelope;
use crate::domain::id::UploadId;
use crate::domain::ingest::{ContentType, Original};
use crate::domain::limits::Limits;
use crate::domain::recipient::{RecipientState, Role};
use crate::domain::status::Status as EnvelopeStatus;
use crate::execute::new_id;
use crate::ingest::pdf::Found;
use crate::store::Upload;

pub(super) fn rendered(envelope: &Envelope) -> Option<v1::Envelope> {
    Some(render::envelope(envelope))
}

impl Handler {
    async fn upload_once(
        &self,
        request: Request<Streaming<v1::UploadDocumentRequest>>,
    ) -> Result<Response<v1::UploadDocumentResponse>, Status> {
        let sender = sender(request.extensions())?;
        let limits = &sender.account.settings.limits;
        let _seat = self.0.uploads.take(Some((sender.scope.account, sender.key)))?;
        let (metadata, _, stream) = request.into_parts();
        let mut received = upload::receive(stream, limits.document_bytes_max, self.0.stall).await?;
        let claimed = self.claim(&metadata, &mut received.info, sender.scope)?;
        self.once(claimed.as_ref(), async {
            let name = received.name.clone();
            let upload = received.with(async |bytes| self.kept_upload(name, bytes, limits).await).await?;
            let reply = v1::UploadDocumentResponse {
                upload_id: upload.id.to_string(),
                sha256: hex::encode(upload.sha256),
                size_bytes: upload.size_bytes,
                page_count: upload.page_count,
                content_type: upload.content_type.media_type().to_owned(),
            };
            let kept = keep(claimed.as_ref(), &reply);
            let now = self.0.store.clock().now();
            let stored = self.0.store.keep_upload(sender.scope, upload, now, kept).await;
            stored.map_err(|error| database(&error))?;
            Ok(reply)
        })
        .await
    }

    /// Looks at what was uploaded and keeps its bytes.
    async fn kept_upload(&self, name: String, bytes: Bytes, limits: &Limits) -> Result<Upload, Status> {
        let Original { sha256, size_bytes, content_type } =
            upload::checked("chunk", &bytes, self.0.can_convert, limits).await?;
        let found = match content_type {
            ContentType::Pdf => self.0.read("chunk", bytes.clone(), limits, false).await?,
            ContentType::Docx => Found::default(),
        };
        self.0.keep(&[Content::Held(bytes)]).await?;
        let mut base = None;
        if let Some(mended) = found.base {
            base = Some((hash(&mended), mended.len() as u64));
            self.0.keep(&[Content::Held(mended)]).await?;
        }
        let id = UploadId::from_uuid(new_id(self.0.store.clock().now()));
        Ok(Upload { id, name, sha256, size_bytes, page_count: found.page_count, content_type, base })
    }
}

#[tonic::async_trait]
impl EnvelopeService for Handler {
    async fn upload_document(
        &self,
        request: Request<Streaming<v1::UploadDocumentRequest>>,
    ) -> Result<Response<v1::UploadDocumentResponse>, Status> {
        self.upload_once(request).await
    }

    async fn verify_document(
        &self,
        request: Request<Streaming<v1::VerifyDocumentRequest>>,
    ) -> Result<Response<v1::VerifyDocumentResponse>, Status> {
        let sender = sender(request.extensions())?;
        let limits = &sender.account.settings.limits;
        self.verify_file(sender.scope, limits, request.into_inner()).await.map(Response::new)
    }

    async fn create_envelope(
        &self,
        request: Request<v1::CreateEnvelopeRequest>,
    ) -> Result<Response<v1::CreateEnvelopeResponse>, Status> {
        self.create(request).await
    }

    async fn update_envelope(
        &self,
        request: Request<v1::UpdateEnvelopeRequest>,
    ) -> Result<Response<v1::UpdateEnvelopeResponse>, Status> {
        self.update(request).await
    }

    async fn add_fields(
        &self,
        request: Request<v1::AddFieldsRequest>,
    ) -> Result<Response<v1::AddFieldsResponse>, Status> {
        self.add_fields_to(request).await
    }

    async fn remove_fields(
        &self,
        request: Request<v1::RemoveFieldsRequest>,
    ) -> Result<Response<v1::RemoveFieldsResponse>, Status> {
        self.remove_fields_from(request).await
    }

    async fn replace_document(
        &self,
        request: Request<v1::ReplaceDocumentRequest>,
    ) -> Result<Response<v1::ReplaceDocumentResponse>, Status> {
        self.put_document(request).await
    }

    async fn discard_envelope(
        &self,
        request: Request<v1::DiscardEnvelopeRequest>,
    ) -> Result<Response<v1::DiscardEnvelopeResponse>, Status> {
        self.discard(request).await
    }

    async fn get_envelope(
        &self,
        request: Request<v1::GetEnvelopeRequest>,
    ) -> Result<Response<v1::GetEnvelopeResponse>, Status> {
        self.get(request).await
    }

    async fn list_envelopes(
        &self,
        request: Request<v1::ListEnvelopesRequest>,
    ) -> Result<Response<v1::ListEnvelopesResponse>, Status> {
        self.list(request).await
    }

    async fn send_envelope(
        &self,
        request: Request<v1::SendEnvelopeRequest>,
    ) -> Result<Response<v1::SendEnvelopeResponse>, Status> {
        self.send(request).await
    }

    async fn void_envelope(
        &self,
        request: Request<v1::VoidEnvelopeRequest>,
    ) -> Result<Response<v1::VoidEnvelopeResponse>, Status> {
        self.void(request).await
    }

    async fn decline_recipient(
        &self,
        request: Request<v1::DeclineRecipientRequest>,
    ) -> Result<Response<v1::DeclineRecipientResponse>, Status> {
        self.decline_for(request).await
    }

    async fn extend_envelope(
        &self,
        request: Request<v1::ExtendEnvelopeRequest>,
    ) -> Result<Response<v1::ExtendEnvelopeResponse>, Status> {
        self.extend(request).await
    }

    async fn reassign_recipient(
        &self,
        request: Request<v1::ReassignRecipientRequest>,
    ) -> Result<Response<v1::ReassignRecipientResponse>, Status> {
        self.reassign(request).await
    }

    async fn resend_envelope(
        &self,
        request: Request<v1::ResendEnvelopeRequest>,
    ) -> Result<Response<v1::ResendEnvelopeResponse>, Status> {
        self.resend(request).await
    }

    async fn remind_recipients(
        &self,
        request: Request<v1::RemindRecipientsRequest>,
    ) -> Result<Response<v1::RemindRecipientsResponse>, Status> {
        self.remind(request).await
    }

    async fn report_bounce(
        &self,
        request: Request<v1::ReportBounceRequest>,
    ) -> Result<Response<v1::ReportBounceResponse>, Status> {
        self.bounced(request).await
    }

    async fn replace_envelope(
        &self,
        request: Request<v1::ReplaceEnvelopeRequest>,
    ) -> Result<Response<v1::ReplaceEnvelopeResponse>, Status> {
        self.replace(request).await
    }

    async fn whose_turn(
        &self,
        request: Request<v1::WhoseTurnRequest>,
    ) -> Result<Response<v1::WhoseTurnResponse>, Status> {
        Ok(Response::new(self.turn(request.extensions(), request.get_ref()).await?))
    }

    async fn verify_history(
        &self,
        request: Request<v1::VerifyHistoryRequest>,
    ) -> Result<Response<v1::VerifyHistoryResponse>, Status> {
        let scope = overview(request.extensions())?;
        let id = envelope_id(&request.get_ref().envelope_id)?;
        Ok(Response::new(self.verify(scope, id).await?))
    }

    type DownloadDocumentStream = BoxStream<v1::DownloadDocumentResponse>;

    async fn download_document(
        &self,
        request: Request<v1::DownloadDocumentRequest>,
    ) -> Result<Response<Self::DownloadDocumentStream>, Status> {
        let reader = reader(request.extensions())?;
        let request = request.into_inner();
        let asked = Asked {
            document_id: request.document_id,
            version: request.version,
            bundle: request.bundle,
            offset_bytes: request.offset_bytes,
            if_etag: request.if_etag,
        };
        let (id, wanted) = (envelope_id(&request.envelope_id)?, Wanted::of(asked, v1::DocumentVersion::Signed)?);
        let scope = reader.scope()?;
        let whose = reader.into_sender().map(|sender| (sender.scope.account, sender.key));
        let wanted = if whose.is_some() { wanted.for_a_sender() } else { wanted };
        let envelope = self.find(scope, id).await?;
        let parts = self.send_out(&envelope, &wanted, self.0.downloads.take(whose)?).await?;
        let told = |part: Result<_, _>| part.map(|part| v1::DownloadDocumentResponse { part: Some(part) });
        Ok(Response::new(Box::pin(parts.map(told))))
    }

    async fn get_envelope_data(
        &self,
        request: Request<v1::GetEnvelopeDataRequest>,
    ) -> Result<Response<v1::GetEnvelopeDataResponse>, Status> {
        let scope = sender(request.extensions())?.scope;
        let id = envelope_id(&request.get_ref().envelope_id)?;
        Ok(Response::new(self.data(scope, id).await?))
    }

    async fn render_page(
        &self,
        request: Request<v1::RenderPageRequest>,
    ) -> Result<Response<v1::RenderPageResponse>, Status> {
        let scope = reader(request.extensions())?.scope()?;
        let request = request.into_inner();
        let envelope = self.find(scope, envelope_id(&request.envelope_id)?).await?;
        let document = download::document(&envelope, &request.document_id)?;
        let picture = picture::of(&self.0.pictures, (&envelope, document), request.page, request.width_px).await?;
        Ok(Response::new(v1::RenderPageResponse { picture: Some(picture) }))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let scope = overview(request.extensions())?;
        Ok(Response::new(self.events(scope, request.into_inner()).await?))
    }

    type WatchStatusChangesStream = BoxStream<v1::WatchStatusChangesResponse>;

    async fn watch_status_changes(
        &self,
        request: Request<v1::WatchStatusChangesRequest>,
    ) -> Result<Response<Self::WatchStatusChangesStream>, Status> {
        let sender = reader(request.extensions())?.into_sender();
        let leaving =
            request.extensions().get::<Leaving>().map_or_else(|| self.0.stop.child_token(), |it| it.0.clone());
        let stream = self.watch(sender, request.into_inner(), leaving).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_status_changes(
        &self,
        request: Request<v1::ListStatusChangesRequest>,
    ) -> Result<Response<v1::ListStatusChangesResponse>, Status> {
        let sender = reader(request.extensions())?.into_sender();
        Ok(Response::new(self.changes(sender, request.into_inner()).await?))
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
        if envelope.facts.is_open() && self.0.store.clock().now() >= envelope.expires_at {
            return Err(closed(EnvelopeStatus::Expired));
        }
        match (recipient.role, &recipient.state) {
            (Role::Cc, _) => return Err(no_session(status)),
            (_, RecipientState::Waiting) => return Err(not_your_turn(status)),
            (_, RecipientState::NotNeeded { .. } | RecipientState::Declined { .. }) => return Err(part_over(status)),
            _ => {}
        }
        let token = self.0.keyring.signing_token(envelope.account, envelope.id, recipient.id, &recipient.credential);
        let Some(token) = token else {
            let (envelope, recipient) = (id.to_string(), recipient.id.to_string());
            tracing::error!(envelope, recipient, "a link was made under a master key that is in the ring no more");
            return Err(Problem::unavailable().into());
        };
        let url = format!("{}#{token}", self.0.signing_url);
        Ok(Response::new(v1::GetSigningLinkResponse { url, token }))
    }

    async fn update_retention(
        &self,
        request: Request<v1::UpdateRetentionRequest>,
    ) -> Result<Response<v1::UpdateRetentionResponse>, Status> {
        self.retain(request).await
    }

    async fn set_legal_hold(
        &self,
        request: Request<v1::SetLegalHoldRequest>,
    ) -> Result<Response<v1::SetLegalHoldResponse>, Status> {
        self.hold(request).await
    }

    async fn delete_envelope_content(
        &self,
        request: Request<v1::DeleteEnvelopeContentRequest>,
    ) -> Result<Response<v1::DeleteEnvelopeContentResponse>, Status> {
        self.erase(request).await
    }
}

/// Where a page starts: nowhere without a token, and a foreign or damaged token is a fault.
pub(super) fn page_start<T>(faults: &mut Faults, token: &str, open: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    if token.is_empty() {
        return None;
    }
    let start = open(token);
    if start.is_none() {
        faults.add("page_token", "is not one that the service gave for this list");
    }
    start
}
