//! What the stories are played with: the sender, the signers, and what the world outside sees of it.
//! Must never do what a real sender or signer could not: everything goes over the wire or through the mail folder.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use countersign::v1;
use countersign_chassis::keys::sha256;
use countersign_paper::samples::Sample;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::Tell;
use super::hand;
use super::mailbox::Mailbox;
use super::receiver::Receiver;
use super::report::Artefact;
use super::watch::Watch;
use crate::client::{self, Envelopes, Signing, refused};

/// The kinds of mail, as their file names tell them.
pub(super) const INVITATION: &str = "invitation";
pub(super) const COMPLETED: &str = "completed";
/// To everybody but who declined, when an envelope ends without completion.
pub(super) const FELL_THROUGH: &str = "fell_through";

/// Size of the pieces of an upload.
const CHUNK_BYTES: usize = 64 * 1024;

/// The sender's desk.
pub(super) struct Stage<'a> {
    pub tell: &'a Tell<'a>,
    pub channel: Channel,
    pub sender: Envelopes,
    pub mailbox: Mailbox,
    pub watch: Watch,
    pub receiver: Receiver,
    /// Of the webhook endpoint.
    pub secret: String,
    /// Where documents are saved.
    pub folder: PathBuf,
    pub artefacts: Vec<Artefact>,
}

/// A recipient who has followed the link in their mail.
pub(super) struct Signer {
    pub recipient_id: String,
    client: Signing,
}

impl Stage<'_> {
    /// Says that something was done.
    pub fn done(&self, sentence: &str) {
        (self.tell)(&format!("  ✓ {sentence}"));
    }

    /// Uploads a file in pieces.
    pub async fn upload(&mut self, sample: &Sample) -> Result<String> {
        use v1::upload_document_request::Part;
        let info = v1::UploadInfo {
            name: sample.file_name.to_owned(),
            sha256: hex::encode(sha256(&sample.bytes)),
            ..Default::default()
        };
        let chunks = sample.bytes.chunks(CHUNK_BYTES).map(|chunk| Part::Chunk(chunk.to_vec().into()));
        let parts: Vec<_> = std::iter::once(Part::Info(info))
            .chain(chunks)
            .map(|part| v1::UploadDocumentRequest { part: Some(part) })
            .collect();
        let uploaded = self
            .sender
            .upload_document(tokio_stream::iter(parts))
            .await
            .map_err(refused("UploadDocument"))?
            .into_inner();
        ensure!(uploaded.size_bytes == sample.bytes.len() as u64, "the upload has another size than the file");
        Ok(uploaded.upload_id)
    }

    /// Creates and sends an envelope.
    pub async fn send(&mut self, request: v1::CreateEnvelopeRequest) -> Result<v1::Envelope> {
        let created = self.sender.create_envelope(request).await.map_err(refused("CreateEnvelope"))?.into_inner();
        let envelope = created.envelope.context("CreateEnvelope answered nothing")?;
        expect_status(&envelope, v1::EnvelopeStatus::Sent)?;
        Ok(envelope)
    }

    /// Reads an envelope.
    pub async fn envelope(&mut self, envelope_id: &str) -> Result<v1::Envelope> {
        let request = v1::GetEnvelopeRequest { envelope_id: envelope_id.to_owned(), ..Default::default() };
        self.sender
            .get_envelope(request)
            .await
            .map_err(refused("GetEnvelope"))?
            .into_inner()
            .envelope
            .context("GetEnvelope answered nothing")
    }

    /// Waits for the invitation of a recipient and follows the link in it.
    pub async fn invited(&self, envelope: &v1::Envelope, index: usize) -> Result<Signer> {
        let recipient = envelope.recipients.get(index).context("no such recipient")?;
        let mail = self.mailbox.wait(INVITATION, &recipient.id, &recipient.name).await?;
        ensure!(mail.to == recipient.email, "the invitation of {} went to {}", recipient.name, mail.to);
        let client = client::signing(&self.channel, mail.token()?)?;
        Ok(Signer { recipient_id: recipient.id.clone(), client })
    }

    /// Downloads a version of an envelope's only document and saves it.
    pub async fn save(
        &mut self,
        envelope: &v1::Envelope,
        version: v1::DocumentVersion,
        file_name: &str,
        original: &[u8],
    ) -> Result<()> {
        let [document] = &envelope.documents[..] else { bail!("the envelope has not one document") };
        let known = document.artifacts.iter().find(|artifact| artifact.version() == version);
        let known = known.with_context(|| format!("the envelope names no {} document", name(version)))?;
        let request = v1::DownloadDocumentRequest {
            envelope_id: envelope.id.clone(),
            document_id: document.id.clone(),
            version: version.into(),
            ..v1::DownloadDocumentRequest::default()
        };
        let download = client::download(&mut self.sender, request).await?;
        ensure!(download.info.sha256 == known.sha256, "the download is not what the envelope names");
        ensure!(download.bytes != original, "nothing was written on the {} document", name(version));
        let pages = |bytes: &[u8]| countersign_paper::inspect(bytes, &countersign_paper::Limits::default());
        let (before, after) = (pages(original)?.pages.len(), pages(&download.bytes)?.pages.len());
        ensure!(before < after, "the {} document has no certificate behind its {before} pages", name(version));
        let path = self.folder.join(file_name);
        std::fs::write(&path, &download.bytes).with_context(|| format!("cannot write {}", path.display()))?;
        self.artefacts.push(Artefact {
            path,
            envelope_id: envelope.id.clone(),
            version: name(version),
            sha256: download.info.sha256,
            size_bytes: download.info.size_bytes,
        });
        Ok(())
    }
}

/// `SIGNED`
fn name(version: v1::DocumentVersion) -> &'static str {
    version.as_str_name().trim_start_matches("DOCUMENT_VERSION_")
}

/// `COMPLETED`
pub(super) fn status_name(status: v1::EnvelopeStatus) -> &'static str {
    status.as_str_name().trim_start_matches("ENVELOPE_STATUS_")
}

pub(super) fn expect_status(envelope: &v1::Envelope, wanted: v1::EnvelopeStatus) -> Result<()> {
    let (is, wanted) = (status_name(envelope.status()), status_name(wanted));
    ensure!(is == wanted, "the envelope {} is {is}, not {wanted}", envelope.id);
    Ok(())
}

/// A call that has to be refused for this reason.
pub(super) fn expect_refusal<T>(called: Result<Response<T>, Status>, reason: &str, call: &str) -> Result<()> {
    match called {
        Ok(_) => bail!("{call} went through, though it had to be refused with {reason}"),
        Err(status) => {
            let is = client::reason(&status);
            ensure!(is == reason, "{call} was refused with {is} instead of {reason}");
            Ok(())
        }
    }
}

impl Signer {
    async fn session(&mut self) -> Result<v1::SigningSession> {
        let session = self
            .client
            .get_signing_session(v1::GetSigningSessionRequest {})
            .await
            .map_err(refused("GetSigningSession"))?
            .into_inner()
            .session;
        session.context("GetSigningSession answered nothing")
    }

    /// Reads what is to be signed.
    async fn read(&mut self) -> Result<(v1::SigningSession, Vec<v1::SeenDocument>)> {
        let session = self.session().await?;
        ensure!(session.fields.iter().all(|field| field.recipient_id == self.recipient_id), "somebody else's field");
        let mut seen = Vec::new();
        for document in &session.documents {
            let request = v1::SignerServiceDownloadDocumentRequest {
                document_id: document.id.clone(),
                version: v1::DocumentVersion::Original.into(),
                ..v1::SignerServiceDownloadDocumentRequest::default()
            };
            let download = client::download_to_sign(&mut self.client, request).await?;
            ensure!(download.info.sha256 == document.sha256, "the document is not the one of the session");
            seen.push(v1::SeenDocument { document_id: document.id.clone(), sha256: download.info.sha256 });
        }
        Ok((session, seen))
    }

    /// Reads the documents and signs, with the name as typed, or their own.
    pub async fn sign(&mut self, typed: Option<&str>) -> Result<()> {
        self.sign_with(typed.map(|text| v1::field_value::Value::Text(text.to_owned()))).await
    }

    /// Reads the documents and signs by hand.
    pub async fn sign_by_hand(&mut self) -> Result<()> {
        self.sign_with(Some(v1::field_value::Value::Drawn(hand::drawing()))).await
    }

    async fn sign_with(&mut self, value: Option<v1::field_value::Value>) -> Result<()> {
        let (session, seen_documents) = self.read().await?;
        let is_signature = |field: &&v1::Field| field.r#type() == v1::FieldType::Signature;
        let entry = |field: &v1::Field| v1::FieldEntry {
            field_id: field.id.clone(),
            value: Some(v1::FieldValue { value: value.clone() }),
        };
        let fields = session.fields.iter().filter(is_signature).filter(|_| value.is_some());
        let (values, seen_revision) = (fields.map(entry).collect(), session.revision);
        let request = v1::SignRequest { values, consent: true, seen_documents, seen_revision, ..Default::default() };
        let signed = self
            .client
            .sign(request)
            .await
            .map_err(refused("Sign"))?
            .into_inner()
            .session
            .context("Sign answered nothing")?;
        let recipient = signed.recipient.context("a session without its recipient")?;
        ensure!(recipient.status() == v1::RecipientStatus::Signed, "{} has signed and is not SIGNED", recipient.name);
        Ok(())
    }

    /// Reads the documents and refuses. Returns where the envelope stands right after.
    pub async fn decline(&mut self, reason: &str) -> Result<v1::EnvelopeStatus> {
        self.read().await?;
        let request = v1::DeclineRequest { reason: reason.to_owned(), ..Default::default() };
        let session = self.client.decline(request).await.map_err(refused("Decline"))?.into_inner().session;
        Ok(session.context("Decline answered nothing")?.envelope_status())
    }

    /// Shows that the link has ended: nothing can be read, and nothing can be done.
    pub async fn expect_locked_out(&mut self) -> Result<()> {
        let read = self.client.get_signing_session(v1::GetSigningSessionRequest {}).await;
        expect_refusal(read, "SIGNING_CLOSED", "GetSigningSession")?;
        let declined = self.client.decline(v1::DeclineRequest::default()).await;
        expect_refusal(declined, "INVALID_STATE_TRANSITION", "Decline")?;
        let signed = self.client.sign(v1::SignRequest { consent: true, ..Default::default() }).await;
        expect_refusal(signed, "INVALID_STATE_TRANSITION", "Sign")
    }
}
