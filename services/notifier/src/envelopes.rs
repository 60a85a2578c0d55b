//! The envelope service as the notifier sees it: over gRPC, by its service token.

use std::time::Duration;

use anyhow::Context as _;
use countersign::v1::account_service_client::AccountServiceClient;
use countersign::v1::document_part::Part;
use countersign::v1::envelope_service_client::EnvelopeServiceClient;
use countersign::v1::{
    DocumentVersion, DownloadDocumentRequest, Envelope, Freshness, GetCallerIdentityRequest, GetCallerIdentityResponse,
    GetEnvelopeRequest, GetSigningLinkRequest, WatchStatusChangesRequest, WatchStatusChangesResponse,
};
use countersign_chassis::propagation;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::id::{AccountId, EnvelopeId, RecipientId};

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take; streams are not bound by it.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// A dead connection is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The envelope service.
#[derive(Clone)]
pub struct Envelopes {
    channel: Channel,
    authorization: MetadataValue<Ascii>,
}

impl Envelopes {
    /// At that address, with that token. Connects when it is first used.
    pub fn new(url: &str, token: &SecretString) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .context("envelope url: not an address")?
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let mut authorization: MetadataValue<Ascii> =
            format!("Bearer {}", token.expose_secret()).parse().ok().context("service token: not printable")?;
        authorization.set_sensitive(true);
        Ok(Self { channel: endpoint.connect_lazy(), authorization })
    }

    /// A request as the notifier, for an account where the call names one of its envelopes.
    fn request<T>(&self, account: Option<AccountId>, message: T) -> Request<T> {
        let mut headers = tonic::codegen::http::HeaderMap::new();
        propagation::into_headers(&mut headers);
        let mut request = Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        if let Some(Ok(account)) = account.map(|account| account.to_string().parse()) {
            request.metadata_mut().insert("countersign-account", account);
        }
        request
    }

    fn client(&self) -> EnvelopeServiceClient<Channel> {
        EnvelopeServiceClient::new(self.channel.clone())
    }

    /// The stream of all accounts' events.
    pub async fn watch(
        &self,
        request: WatchStatusChangesRequest,
    ) -> Result<Streaming<WatchStatusChangesResponse>, Status> {
        Ok(self.client().watch_status_changes(self.request(None, request)).await?.into_inner())
    }

    /// An envelope as it is now.
    pub async fn get(&self, account: AccountId, envelope: EnvelopeId) -> Result<Envelope, Status> {
        let envelope_id = envelope.to_string();
        let freshness = Freshness::Live.into();
        let request = GetEnvelopeRequest { envelope_id, freshness, min_revision: 0 };
        let mut request = self.request(Some(account), request);
        request.set_timeout(ANSWER_MAX);
        let answer = self.client().get_envelope(request).await?.into_inner();
        answer.envelope.ok_or_else(|| Status::internal("an answer without an envelope"))
    }

    /// A recipient's signing link.
    pub async fn signing_link(
        &self,
        account: AccountId,
        envelope: EnvelopeId,
        recipient: RecipientId,
    ) -> Result<SecretString, Status> {
        let (envelope_id, recipient_id) = (envelope.to_string(), recipient.to_string());
        let mut request = self.request(Some(account), GetSigningLinkRequest { envelope_id, recipient_id });
        request.set_timeout(ANSWER_MAX);
        Ok(self.client().get_signing_link(request).await?.into_inner().url.into())
    }

    /// The bytes of a document.
    pub async fn download(
        &self,
        account: AccountId,
        envelope: &str,
        document: &str,
        version: DocumentVersion,
    ) -> Result<Vec<u8>, Status> {
        let request = DownloadDocumentRequest {
            envelope_id: envelope.to_owned(),
            document_id: document.to_owned(),
            version: version.into(),
        };
        let mut request = self.request(Some(account), request);
        request.set_timeout(ANSWER_MAX);
        let mut stream = self.client().download_document(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await? {
            if let Some(Part::Chunk(chunk)) = message.part.and_then(|part| part.part) {
                bytes.extend_from_slice(&chunk);
            }
        }
        Ok(bytes)
    }

    /// Whose API key a caller of ours presents. We do not know keys: the envelope service does.
    pub async fn identify(&self, authorization: MetadataValue<Ascii>) -> Result<GetCallerIdentityResponse, Status> {
        let mut request = Request::new(GetCallerIdentityRequest {});
        request.metadata_mut().insert("authorization", authorization);
        request.set_timeout(ANSWER_MAX);
        Ok(AccountServiceClient::new(self.channel.clone()).get_caller_identity(request).await?.into_inner())
    }
}
