//! The envelope service, played at its wire contract from a scripted list. Must never hold a rule of the real one.

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard};

use countersign::v1;
use countersign::v1::account_service_server::{AccountService, AccountServiceServer};
use countersign::v1::envelope_service_server::{EnvelopeService, EnvelopeServiceServer};
use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{ErrorReason, document_part::Part};
use countersign_chassis::config::{ListenConfig, TlsConfig};
use countersign_chassis::grpc;
use countersign_chassis::keys::sha256;
use countersign_chassis::problem::Problem;
use countersign_chassis::tls::identities;
use countersign_notifier::id::EnvelopeId;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::codegen::{BoxStream, Bytes, tokio_stream as streams};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// Something that happens to what the double knows.
pub type Change = Box<dyn FnOnce(&mut Script) + Send>;

/// What the double knows.
#[derive(Default)]
pub struct Script {
    /// The feed. The token behind the event at place `n` is `n + 1`.
    pub feed: Vec<v1::Event>,
    pub envelopes: HashMap<String, v1::Envelope>,
    /// Accounts as they are told; without one it has no settings.
    pub accounts: HashMap<String, v1::Account>,
    pub links: HashMap<String, String>,
    /// By id and version.
    pub documents: HashMap<(String, v1::DocumentVersion), Vec<u8>>,
    pub keys: HashMap<String, v1::GetCallerIdentityResponse>,
    /// Tokens that are not resumed from any more, and why.
    pub lost: BTreeMap<String, ErrorReason>,
    /// Documents come a hundred times over.
    pub swell: bool,
    /// Documents end in the middle, as if that were all.
    pub cut: bool,
    /// Streams stay open behind the last event.
    pub hold: bool,
    /// What happens right after the next question about an envelope or a link.
    pub meanwhile: Option<Change>,
    /// What was reported to have come back, and why that is not taken.
    pub bounces: Vec<v1::ReportBounceRequest>,
    pub bounces_refused: Option<ErrorReason>,
    /// Every unary call fails.
    pub away: bool,
    /// The partitions, token and start of every stream.
    pub watched: Vec<(Vec<u32>, String, i32)>,
    /// What every call about an envelope was authorised by.
    pub asked_by: Vec<(String, String)>,
    /// The names in the certificate that came with a question about an envelope or a caller.
    pub shown: Vec<Vec<String>>,
    /// How often it was asked who calls.
    pub identified: usize,
}

/// A running double. Ends when dropped.
#[derive(Clone)]
pub struct Double {
    pub url: String,
    script: Arc<Mutex<Script>>,
    _task: Arc<AbortOnDropHandle<()>>,
}

#[derive(Clone)]
struct Served(Arc<Mutex<Script>>);

impl Double {
    pub async fn start() -> Self {
        Self::start_over(TlsConfig::default()).await
    }

    /// Over TLS, if the settings name a certificate.
    pub async fn start_over(tls: TlsConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.tls_cert.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        let served = Served(Arc::clone(&script));
        let routes = Routes::new(EnvelopeServiceServer::new(served.clone()));
        let routes = routes.add_service(AccountServiceServer::new(served));
        let config = ListenConfig { tls, ..ListenConfig::default() };
        let task = tokio::spawn(async move {
            grpc::serve(listener, routes, &[], || ready(true), None, &config, CancellationToken::new()).await.unwrap();
        });
        Self { url, script, _task: Arc::new(AbortOnDropHandle::new(task)) }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

fn header(metadata: &MetadataMap, name: &str) -> String {
    metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// As the real feed has it: the last byte of the envelope's UUID, modulo 16.
pub fn partition(event: &v1::Event) -> u32 {
    let envelope = event.envelope_id.parse::<EnvelopeId>();
    envelope.map_or(0, |id| u32::from(id.uuid().as_bytes()[15] % 16))
}

fn unused<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not played"))
}

impl Served {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    fn time_passes(&self) {
        let mut script = self.script();
        if let Some(meanwhile) = script.meanwhile.take() {
            meanwhile(&mut script);
        }
    }

    /// As the real one does it: the service token and the account are both needed.
    fn envelope(&self, metadata: &MetadataMap, id: &str) -> Result<v1::Envelope, Status> {
        let mut script = self.script();
        let (token, account) = (header(metadata, "authorization"), header(metadata, "countersign-account"));
        script.asked_by.push((token, account.clone()));
        if script.away {
            return Err(Problem::unavailable().into());
        }
        let found = script.envelopes.get(id).filter(|envelope| envelope.account_id == account);
        found.cloned().ok_or_else(|| Problem::not_found().into())
    }
}

#[tonic::async_trait]
impl AccountService for Served {
    async fn get_caller_identity(
        &self,
        request: Request<v1::GetCallerIdentityRequest>,
    ) -> Result<Response<v1::GetCallerIdentityResponse>, Status> {
        let mut script = self.script();
        script.identified += 1;
        script.shown.push(identities(request.extensions()));
        if script.away {
            return Err(Problem::unavailable().into());
        }
        let known = script.keys.get(&header(request.metadata(), "authorization")).cloned();
        let unknown = || Problem::new(ErrorReason::AuthenticationRequired, "The API key is not known.").into();
        known.map(Response::new).ok_or_else(unknown)
    }
    async fn create_account(
        &self,
        _: Request<v1::CreateAccountRequest>,
    ) -> Result<Response<v1::CreateAccountResponse>, Status> {
        unused()
    }
    async fn get_account(
        &self,
        request: Request<v1::GetAccountRequest>,
    ) -> Result<Response<v1::GetAccountResponse>, Status> {
        let script = self.script();
        if script.away {
            return Err(Problem::unavailable().into());
        }
        let account = script.accounts.get(&header(request.metadata(), "countersign-account")).cloned();
        Ok(Response::new(v1::GetAccountResponse { account: Some(account.unwrap_or_default()) }))
    }
    async fn update_account_settings(
        &self,
        _: Request<v1::UpdateAccountSettingsRequest>,
    ) -> Result<Response<v1::UpdateAccountSettingsResponse>, Status> {
        unused()
    }
    async fn suspend_account(
        &self,
        _: Request<v1::SuspendAccountRequest>,
    ) -> Result<Response<v1::SuspendAccountResponse>, Status> {
        unused()
    }
    async fn resume_account(
        &self,
        _: Request<v1::ResumeAccountRequest>,
    ) -> Result<Response<v1::ResumeAccountResponse>, Status> {
        unused()
    }
    async fn create_api_key(
        &self,
        _: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        unused()
    }
    async fn list_api_keys(
        &self,
        _: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        unused()
    }
    async fn rotate_api_key(
        &self,
        _: Request<v1::RotateApiKeyRequest>,
    ) -> Result<Response<v1::RotateApiKeyResponse>, Status> {
        unused()
    }
    async fn revoke_api_key(
        &self,
        _: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        unused()
    }
    async fn grant_credits(
        &self,
        _: Request<v1::GrantCreditsRequest>,
    ) -> Result<Response<v1::GrantCreditsResponse>, Status> {
        unused()
    }
    async fn get_credit_balance(
        &self,
        _: Request<v1::GetCreditBalanceRequest>,
    ) -> Result<Response<v1::GetCreditBalanceResponse>, Status> {
        unused()
    }
    async fn list_ledger(&self, _: Request<v1::ListLedgerRequest>) -> Result<Response<v1::ListLedgerResponse>, Status> {
        unused()
    }
    async fn create_user_token(
        &self,
        _: Request<v1::CreateUserTokenRequest>,
    ) -> Result<Response<v1::CreateUserTokenResponse>, Status> {
        unused()
    }
    async fn revoke_user_token(
        &self,
        _: Request<v1::RevokeUserTokenRequest>,
    ) -> Result<Response<v1::RevokeUserTokenResponse>, Status> {
        unused()
    }
}

#[tonic::async_trait]
impl EnvelopeService for Served {
    async fn get_envelope(
        &self,
        request: Request<v1::GetEnvelopeRequest>,
    ) -> Result<Response<v1::GetEnvelopeResponse>, Status> {
        self.script().shown.push(identities(request.extensions()));
        let envelope = self.envelope(request.metadata(), &request.get_ref().envelope_id)?;
        self.time_passes();
        Ok(Response::new(v1::GetEnvelopeResponse { envelope: Some(envelope), age: None }))
    }

    async fn get_signing_link(
        &self,
        request: Request<v1::GetSigningLinkRequest>,
    ) -> Result<Response<v1::GetSigningLinkResponse>, Status> {
        self.envelope(request.metadata(), &request.get_ref().envelope_id)?;
        let url = self.script().links.get(&request.get_ref().recipient_id).cloned();
        self.time_passes();
        let closed = || Status::from(Problem::new(ErrorReason::SigningClosed, "The signing link has ended."));
        let url = url.ok_or_else(closed)?;
        let token = url.split_once('#').map(|(_, token)| token.to_owned()).unwrap_or_default();
        Ok(Response::new(v1::GetSigningLinkResponse { url, token }))
    }

    async fn update_retention(
        &self,
        _: Request<v1::UpdateRetentionRequest>,
    ) -> Result<Response<v1::UpdateRetentionResponse>, Status> {
        unused()
    }

    async fn set_legal_hold(
        &self,
        _: Request<v1::SetLegalHoldRequest>,
    ) -> Result<Response<v1::SetLegalHoldResponse>, Status> {
        unused()
    }

    async fn delete_envelope_content(
        &self,
        _: Request<v1::DeleteEnvelopeContentRequest>,
    ) -> Result<Response<v1::DeleteEnvelopeContentResponse>, Status> {
        unused()
    }

    type DownloadDocumentStream = BoxStream<v1::DownloadDocumentResponse>;

    async fn download_document(
        &self,
        request: Request<v1::DownloadDocumentRequest>,
    ) -> Result<Response<Self::DownloadDocumentStream>, Status> {
        self.envelope(request.metadata(), &request.get_ref().envelope_id)?;
        let wanted = (request.get_ref().document_id.clone(), request.get_ref().version());
        let bytes = self.script().documents.get(&wanted).cloned();
        let bytes = bytes.ok_or_else(|| Status::from(Problem::not_found()))?;
        let bytes = if self.script().swell { bytes.repeat(100) } else { bytes };
        let sha256 = hex::encode(sha256(&bytes));
        let info = Part::Info(v1::DocumentInfo { size_bytes: bytes.len() as u64, sha256, ..Default::default() });
        let sent = if self.script().cut { bytes.len() / 2 } else { bytes.len() };
        let chunks = bytes[..sent].chunks(65_536).map(|chunk| Part::Chunk(Bytes::copy_from_slice(chunk)));
        let parts: Vec<_> = std::iter::once(info)
            .chain(chunks)
            .map(|part| Ok(v1::DownloadDocumentResponse { part: Some(v1::DocumentPart { part: Some(part) }) }))
            .collect();
        Ok(Response::new(Box::pin(streams::iter(parts))))
    }

    async fn get_envelope_data(
        &self,
        _: Request<v1::GetEnvelopeDataRequest>,
    ) -> Result<Response<v1::GetEnvelopeDataResponse>, Status> {
        unused()
    }

    async fn list_status_changes(
        &self,
        _: Request<v1::ListStatusChangesRequest>,
    ) -> Result<Response<v1::ListStatusChangesResponse>, Status> {
        unused()
    }

    type WatchStatusChangesStream = BoxStream<v1::WatchStatusChangesResponse>;

    async fn watch_status_changes(
        &self,
        request: Request<v1::WatchStatusChangesRequest>,
    ) -> Result<Response<Self::WatchStatusChangesStream>, Status> {
        let v1::WatchStatusChangesRequest { resume_token, start, partitions, .. } = request.into_inner();
        let mut script = self.script();
        script.watched.push((partitions.clone(), resume_token.clone(), start));
        if let Some(reason) = script.lost.get(&resume_token) {
            return Err(Problem::new(*reason, "The feed does not resume from there.").into());
        }
        let from: usize = resume_token.parse().unwrap_or_default();
        let message = |item, token: usize| {
            Ok(v1::WatchStatusChangesResponse {
                item: Some(item),
                resume_token: token.to_string(),
                ..Default::default()
            })
        };
        let mut messages = vec![message(Item::Heartbeat(v1::Heartbeat::default()), from)];
        let wanted = |event: &v1::Event| partitions.is_empty() || partitions.contains(&partition(event));
        for (place, event) in script.feed.iter().enumerate().skip(from).filter(|(_, event)| wanted(event)) {
            messages.push(message(Item::Event(event.clone()), place + 1));
        }
        let messages = streams::iter(messages);
        if script.hold {
            let forever = streams::pending();
            return Ok(Response::new(Box::pin(streams::StreamExt::chain(messages, forever))));
        }
        Ok(Response::new(Box::pin(messages)))
    }

    async fn upload_document(
        &self,
        _: Request<Streaming<v1::UploadDocumentRequest>>,
    ) -> Result<Response<v1::UploadDocumentResponse>, Status> {
        unused()
    }
    async fn verify_document(
        &self,
        _: Request<Streaming<v1::VerifyDocumentRequest>>,
    ) -> Result<Response<v1::VerifyDocumentResponse>, Status> {
        unused()
    }
    async fn create_envelope(
        &self,
        _: Request<v1::CreateEnvelopeRequest>,
    ) -> Result<Response<v1::CreateEnvelopeResponse>, Status> {
        unused()
    }
    async fn list_envelopes(
        &self,
        _: Request<v1::ListEnvelopesRequest>,
    ) -> Result<Response<v1::ListEnvelopesResponse>, Status> {
        unused()
    }
    async fn send_envelope(
        &self,
        _: Request<v1::SendEnvelopeRequest>,
    ) -> Result<Response<v1::SendEnvelopeResponse>, Status> {
        unused()
    }
    async fn void_envelope(
        &self,
        _: Request<v1::VoidEnvelopeRequest>,
    ) -> Result<Response<v1::VoidEnvelopeResponse>, Status> {
        unused()
    }
    async fn decline_recipient(
        &self,
        _: Request<v1::DeclineRecipientRequest>,
    ) -> Result<Response<v1::DeclineRecipientResponse>, Status> {
        unused()
    }
    async fn update_envelope(
        &self,
        _: Request<v1::UpdateEnvelopeRequest>,
    ) -> Result<Response<v1::UpdateEnvelopeResponse>, Status> {
        unused()
    }
    async fn add_fields(&self, _: Request<v1::AddFieldsRequest>) -> Result<Response<v1::AddFieldsResponse>, Status> {
        unused()
    }
    async fn remove_fields(
        &self,
        _: Request<v1::RemoveFieldsRequest>,
    ) -> Result<Response<v1::RemoveFieldsResponse>, Status> {
        unused()
    }
    async fn replace_document(
        &self,
        _: Request<v1::ReplaceDocumentRequest>,
    ) -> Result<Response<v1::ReplaceDocumentResponse>, Status> {
        unused()
    }
    async fn discard_envelope(
        &self,
        _: Request<v1::DiscardEnvelopeRequest>,
    ) -> Result<Response<v1::DiscardEnvelopeResponse>, Status> {
        unused()
    }
    async fn extend_envelope(
        &self,
        _: Request<v1::ExtendEnvelopeRequest>,
    ) -> Result<Response<v1::ExtendEnvelopeResponse>, Status> {
        unused()
    }
    async fn reassign_recipient(
        &self,
        _: Request<v1::ReassignRecipientRequest>,
    ) -> Result<Response<v1::ReassignRecipientResponse>, Status> {
        unused()
    }
    async fn resend_envelope(
        &self,
        _: Request<v1::ResendEnvelopeRequest>,
    ) -> Result<Response<v1::ResendEnvelopeResponse>, Status> {
        unused()
    }
    async fn replace_envelope(
        &self,
        _: Request<v1::ReplaceEnvelopeRequest>,
    ) -> Result<Response<v1::ReplaceEnvelopeResponse>, Status> {
        unused()
    }
    async fn whose_turn(&self, _: Request<v1::WhoseTurnRequest>) -> Result<Response<v1::WhoseTurnResponse>, Status> {
        unused()
    }
    async fn remind_recipients(
        &self,
        _: Request<v1::RemindRecipientsRequest>,
    ) -> Result<Response<v1::RemindRecipientsResponse>, Status> {
        unused()
    }
    async fn report_bounce(
        &self,
        request: Request<v1::ReportBounceRequest>,
    ) -> Result<Response<v1::ReportBounceResponse>, Status> {
        self.envelope(request.metadata(), &request.get_ref().envelope_id)?;
        let mut script = self.script();
        script.bounces.push(request.into_inner());
        match script.bounces_refused {
            Some(reason) => Err(Problem::new(reason, "No bounce is taken.").into()),
            None => Ok(Response::new(v1::ReportBounceResponse { recorded: true })),
        }
    }
    async fn render_page(&self, _: Request<v1::RenderPageRequest>) -> Result<Response<v1::RenderPageResponse>, Status> {
        unused()
    }

    async fn verify_history(
        &self,
        _: Request<v1::VerifyHistoryRequest>,
    ) -> Result<Response<v1::VerifyHistoryResponse>, Status> {
        unused()
    }
    async fn list_events(&self, _: Request<v1::ListEventsRequest>) -> Result<Response<v1::ListEventsResponse>, Status> {
        unused()
    }
}
