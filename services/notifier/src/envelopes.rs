//! The envelope service as the notifier sees it: over gRPC, by its service token, its certificate or both.
//!
//! Must never show the certificate where it asks in somebody else's name.

use std::time::Duration;

use countersign::v1::account_service_client::AccountServiceClient;
use countersign::v1::document_part::Part;
use countersign::v1::envelope_service_client::EnvelopeServiceClient;
use countersign::v1::{
    Account, DocumentInfo, DocumentVersion, DownloadDocumentRequest, Envelope, Freshness, GetAccountRequest,
    GetCallerIdentityRequest, GetCallerIdentityResponse, GetEnvelopeRequest, GetSigningLinkRequest,
    ReportBounceRequest, WatchStatusChangesRequest, WatchStatusChangesResponse,
};
use countersign_chassis::config::SettingError;
use countersign_chassis::keys::sha256;
use countersign_chassis::outgoing::Outgoing;
use countersign_chassis::tls::{self, ClientTls, Clients, PemFile};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status, Streaming};

use crate::config::{Config, EnvelopeTlsConfig};
use crate::id::{AccountId, EnvelopeId, RecipientId};
use crate::mail::plan::Mail;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take; streams are not bound by it.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// A dead connection is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The settings as people know them.
const URL: &str = "--envelope-url (COUNTERSIGN_ENVELOPE_URL)";
const TOKEN: &str = "--service-token (COUNTERSIGN_SERVICE_TOKEN)";
const CA: &str = "--envelope-ca (COUNTERSIGN_ENVELOPE_CA)";
const CERT: &str = "--client-cert (COUNTERSIGN_CLIENT_CERT)";
const KEY: &str = "--client-key (COUNTERSIGN_CLIENT_KEY)";

/// A document that was downloaded.
pub struct Downloaded {
    /// File name for people.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// The envelope service.
#[derive(Clone)]
pub struct Envelopes {
    /// As the notifier: with its certificate, if it has one.
    channel: Outgoing<Channel>,
    /// For questions about somebody else's key: no certificate of ours may answer for them.
    anonymous: Outgoing<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Envelopes {
    /// As the settings say. Connects when it is first used.
    pub fn new(config: &Config) -> Result<Self, SettingError> {
        let address: Uri = config.envelope_url.parse().map_err(|_| SettingError::new(URL, "is not an address"))?;
        let authorization = config.service_token.as_ref().map(bearer).transpose()?;
        if authorization.is_none() && config.envelope_tls.client_cert.is_none() {
            return Err(SettingError::new(TOKEN, format!("is needed without {CERT}")));
        }
        let (channel, anonymous) = match address.scheme_str() {
            Some("https") => secured(&address, &config.envelope_tls)?,
            Some("http") => plain(address, &config.envelope_tls)?,
            _ => return Err(SettingError::new(URL, "must begin with https:// or http://")),
        };
        let (channel, anonymous) = (Outgoing::new(channel), Outgoing::new(anonymous));
        Ok(Self { channel, anonymous, authorization })
    }

    /// A request as the notifier, for an account where the call names one of its envelopes.
    fn request<T>(&self, account: Option<AccountId>, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        if let Some(Ok(account)) = account.map(|account| account.to_string().parse()) {
            request.metadata_mut().insert("countersign-account", account);
        }
        request
    }

    fn client(&self) -> EnvelopeServiceClient<Outgoing<Channel>> {
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

    /// An account: in whose name mails are, and how they look.
    pub async fn account(&self, account: AccountId) -> Result<Account, Status> {
        let mut request = self.request(Some(account), GetAccountRequest {});
        request.set_timeout(ANSWER_MAX);
        let answer = AccountServiceClient::new(self.channel.clone()).get_account(request).await?.into_inner();
        answer.account.ok_or_else(|| Status::internal("an answer without an account"))
    }

    /// A document of at most so many bytes, all of them and as they were announced.
    pub async fn download(
        &self,
        account: AccountId,
        envelope: &str,
        document: &str,
        version: DocumentVersion,
        bytes_max: u64,
    ) -> Result<Downloaded, Status> {
        let request = DownloadDocumentRequest {
            envelope_id: envelope.to_owned(),
            document_id: document.to_owned(),
            version: version.into(),
            ..DownloadDocumentRequest::default()
        };
        let mut request = self.request(Some(account), request);
        request.set_timeout(ANSWER_MAX);
        let mut stream = self.client().download_document(request).await?.into_inner();
        let (mut info, mut bytes) = (DocumentInfo::default(), Vec::new());
        loop {
            // The server ends a download whose consumer stalls; this is for one that stalls itself.
            let message = tokio::time::timeout(ANSWER_MAX, stream.message()).await;
            let Some(message) = message.map_err(|_| Status::unavailable("a download stalls"))?? else { break };
            match message.part.and_then(|part| part.part) {
                Some(Part::Info(about)) => info = about,
                Some(Part::Chunk(chunk)) => bytes.extend_from_slice(&chunk),
                None => {}
            }
            if bytes.len() as u64 > bytes_max {
                return Err(Status::internal("a document larger than was said"));
            }
        }
        // Half of a contract in a mail could not be taken back.
        if hex::encode(sha256(&bytes)) != info.sha256 {
            return Err(Status::data_loss("a download that is not what was announced"));
        }
        Ok(Downloaded { name: info.name, bytes })
    }

    /// Says that a mail to an address, given by its SHA-256, came back.
    pub async fn report_bounce(
        &self,
        mail: &Mail,
        envelope: EnvelopeId,
        recipient: RecipientId,
        address_sha256: [u8; 32],
    ) -> Result<(), Status> {
        let message = ReportBounceRequest {
            envelope_id: envelope.to_string(),
            recipient_id: recipient.to_string(),
            address_sha256: hex::encode(address_sha256),
            // The same mail bounces once, however often that is reported.
            idempotency_key: format!("bounce-{}-{}-{}", mail.event, mail.addressee, mail.kind.name()),
        };
        let mut request = self.request(Some(mail.account), message);
        request.set_timeout(ANSWER_MAX);
        self.client().report_bounce(request).await.map(drop)
    }

    /// Whose API key a caller of ours presents. We do not know keys: the envelope service does.
    pub async fn identify(&self, authorization: MetadataValue<Ascii>) -> Result<GetCallerIdentityResponse, Status> {
        let mut request = Request::new(GetCallerIdentityRequest {});
        request.metadata_mut().insert("authorization", authorization);
        request.set_timeout(ANSWER_MAX);
        Ok(AccountServiceClient::new(self.anonymous.clone()).get_caller_identity(request).await?.into_inner())
    }
}

fn bearer(token: &SecretString) -> Result<MetadataValue<Ascii>, SettingError> {
    let value = format!("Bearer {}", token.expose_secret()).parse();
    let mut value: MetadataValue<Ascii> = value.map_err(|_| SettingError::new(TOKEN, "is not printable"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// With our bounds.
fn bounded(endpoint: Endpoint) -> Endpoint {
    let endpoint = endpoint.connect_timeout(CONNECT_MAX).tcp_nodelay(true);
    endpoint.http2_keep_alive_interval(KEEPALIVE).keep_alive_while_idle(true)
}

/// The notifier's channel and the anonymous one, over TLS.
fn secured(address: &Uri, config: &EnvelopeTlsConfig) -> Result<(Channel, Channel), SettingError> {
    let Clients { anonymous, identified } = tls::client(
        PemFile::new(CA, config.envelope_ca.as_deref()),
        PemFile::new(CERT, config.client_cert.as_deref()),
        PemFile::new(KEY, config.client_key.as_deref()),
    )?;
    let connect = |tls: ClientTls| -> Result<Channel, SettingError> {
        let unusable = || SettingError::new(URL, "cannot be verified: no certificate can bear its host");
        let (endpoint, connector) = tls.endpoint(address, None).ok_or_else(unusable)?;
        Ok(bounded(endpoint).connect_with_connector_lazy(connector))
    };
    let anonymous = connect(anonymous)?;
    let channel = identified.map_or_else(|| Ok(anonymous.clone()), connect)?;
    Ok((channel, anonymous))
}

/// One channel for both, in plain text. Settings that it would leave unheeded are refused: whoever made them believes that
/// nobody reads along.
fn plain(address: Uri, config: &EnvelopeTlsConfig) -> Result<(Channel, Channel), SettingError> {
    let EnvelopeTlsConfig { envelope_ca, client_cert, client_key } = config;
    for (setting, path) in [(CA, envelope_ca), (CERT, client_cert), (KEY, client_key)] {
        if path.is_some() {
            return Err(SettingError::new(setting, format!("needs an https:// address in {URL}")));
        }
    }
    let channel = bounded(Endpoint::from(address)).connect_lazy();
    Ok((channel.clone(), channel))
}
