//! The generated clients with a credential: what somebody outside sees of the services.
//! Must never reach around the wire.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use countersign::v1;
use countersign::v1::document_part::Part;
use countersign::v1::envelope_service_client::EnvelopeServiceClient;
use countersign::v1::signer_service_client::SignerServiceClient;
use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign_chassis::keys::sha256;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take to begin.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Puts `authorization: Bearer …` on every call.
#[derive(Clone, Debug)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A connection that presents a credential.
pub type Authorized = InterceptedService<Channel, Bearer>;
/// The sender's calls.
pub type Envelopes = EnvelopeServiceClient<Authorized>;
/// The recipient's calls.
pub type Signing = SignerServiceClient<Authorized>;
/// Calls about webhook endpoints.
pub type Webhooks = WebhookServiceClient<Authorized>;

/// Connects to a service.
///
/// # Errors
/// When the address is none, or nobody answers there.
pub async fn connect(url: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| format!("not an address: {url}"))?;
    let endpoint = endpoint.connect_timeout(CONNECT_MAX).timeout(ANSWER_MAX);
    endpoint.connect().await.with_context(|| format!("cannot connect to {url}"))
}

fn authorized(channel: &Channel, credential: &str) -> Result<Authorized> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {credential}").parse().context("not a credential")?;
    value.set_sensitive(true);
    Ok(InterceptedService::new(channel.clone(), Bearer(value)))
}

/// The sender's calls, with an API key.
///
/// # Errors
/// When the key cannot be one.
pub fn envelopes(channel: &Channel, api_key: &str) -> Result<Envelopes> {
    authorized(channel, api_key).map(EnvelopeServiceClient::new)
}

/// The recipient's calls, with a signing token.
///
/// # Errors
/// When the token cannot be one.
pub fn signing(channel: &Channel, token: &str) -> Result<Signing> {
    authorized(channel, token).map(SignerServiceClient::new)
}

/// The calls about webhook endpoints, with an API key.
///
/// # Errors
/// When the key cannot be one.
pub fn webhooks(channel: &Channel, api_key: &str) -> Result<Webhooks> {
    authorized(channel, api_key).map(WebhookServiceClient::new)
}

/// The reason of a refused call: `SIGNING_CLOSED`; the code if the status has none.
#[must_use]
pub fn reason(status: &Status) -> String {
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    reason.unwrap_or_else(|| format!("{:?}", status.code()))
}

/// For `map_err`: says which call was refused, and why.
pub fn refused(call: &'static str) -> impl Fn(Status) -> anyhow::Error {
    move |status| anyhow::anyhow!("{call} was refused with {}: {}", reason(&status), status.message())
}

/// A downloaded file, proved to have the announced size and hash.
#[derive(Clone, Debug)]
pub struct Download {
    /// What was announced.
    pub info: v1::DocumentInfo,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Puts the parts of a download together.
#[derive(Debug, Default)]
struct Parts {
    info: Option<v1::DocumentInfo>,
    bytes: Vec<u8>,
}

impl Parts {
    fn take(&mut self, part: Option<v1::DocumentPart>) -> Result<()> {
        match part.and_then(|part| part.part) {
            Some(Part::Info(info)) if self.info.is_none() => self.info = Some(info),
            Some(Part::Chunk(chunk)) if self.info.is_some() => self.bytes.extend_from_slice(&chunk),
            _ => bail!("the parts of the download came in the wrong order"),
        }
        Ok(())
    }

    fn finish(self) -> Result<Download> {
        let info = self.info.context("the download was empty")?;
        ensure!(info.size_bytes == self.bytes.len() as u64, "the download has another size than announced");
        ensure!(info.sha256 == hex::encode(sha256(&self.bytes)), "the download has another SHA-256 than announced");
        Ok(Download { info, bytes: self.bytes })
    }
}

/// Downloads a document as the sender.
///
/// # Errors
/// When the call is refused, or what came is not what was announced.
pub async fn download(client: &mut Envelopes, request: v1::DownloadDocumentRequest) -> Result<Download> {
    let mut stream = client.download_document(request).await.map_err(refused("DownloadDocument"))?.into_inner();
    let mut parts = Parts::default();
    while let Some(message) = stream.message().await.map_err(refused("DownloadDocument"))? {
        parts.take(message.part)?;
    }
    parts.finish()
}

/// Downloads a document as the recipient who is asked to sign it.
///
/// # Errors
/// When the call is refused, or what came is not what was announced.
pub async fn download_to_sign(
    client: &mut Signing,
    request: v1::SignerServiceDownloadDocumentRequest,
) -> Result<Download> {
    let mut stream = client.download_document(request).await.map_err(refused("DownloadDocument"))?.into_inner();
    let mut parts = Parts::default();
    while let Some(message) = stream.message().await.map_err(refused("DownloadDocument"))? {
        parts.take(message.part)?;
    }
    parts.finish()
}
