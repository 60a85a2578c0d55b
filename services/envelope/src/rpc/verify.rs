//! Looks at any PDF: is it one of this service's, is it whole, who signed it?
//!
//! It must never keep a byte of it, nor read any of it in this process.

use anyhow::Context as _;
use countersign::v1;
use countersign_paper::{CertificateFacts, Fault, Later, Limits, Role, SignatureFacts, Trust};
use prost_types::Timestamp;
use tonic::{Status, Streaming};

use super::Handler;
use super::status::{database, unavailable};
use super::upload::{Incoming, unreadable};
use crate::domain::envelope::Digest;
use crate::domain::limits;
use crate::seal::Recognised;
use crate::store::{Known, Scope};
use crate::worker::WorkerError;

/// What a document may have grown by when it was sealed: values, drawings, a watermark, the certificate. The largest document that
/// comes in must be one that can be looked at when it has gone out.
const SEALED_BESIDE_BYTES: usize = 8 * 1024 * 1024;

impl Handler {
    pub(super) async fn verify_file(
        &self,
        scope: Scope,
        limits: &limits::Limits,
        mut stream: Streaming<v1::VerifyDocumentRequest>,
    ) -> Result<v1::VerifyDocumentResponse, Status> {
        let bytes_max = limits.document_bytes_max + SEALED_BESIDE_BYTES;
        let mut file = Incoming::new(bytes_max)?;
        while let Some(message) = stream.message().await? {
            file.add(&message.chunk).await?;
        }
        let sha256 = file.sha256();
        let (store, recognised) = (&self.0.store, &self.0.recognised);
        let now_unix_s = u64::try_from(store.clock().now().timestamp()).unwrap_or_default();
        let limits = Limits { bytes_max, ..Limits::default() };
        let read = async { file.bytes().await.context("reading a file") };
        let found = self.0.workers.verify(read, (recognised.roots().clone(), now_unix_s), limits).await;
        let found = found.map_err(|error| match error {
            WorkerError::Refused(why) => unreadable("chunk", &why),
            WorkerError::Unavailable(why) => unavailable(&why),
        })?;
        let known = store.known(scope, sha256).await.map_err(|error| database(&error))?;
        Ok(response(&found.signatures, sha256, known, recognised))
    }
}

fn response(
    signatures: &[SignatureFacts],
    sha256: Digest,
    known: Option<Known>,
    recognised: &Recognised,
) -> v1::VerifyDocumentResponse {
    // What was sealed here is known by its bytes even if its key is not known any more.
    let is_sealed = known.as_ref().is_some_and(|known| known.is_sealed);
    let by_us = |facts: &&SignatureFacts| is_sealed || names_us(facts, recognised);
    let mut ours = signatures.iter().filter(by_us).peekable();
    let verdict = match (ours.peek().is_some(), ours.any(SignatureFacts::is_intact)) {
        (false, _) => v1::SealVerdict::NotSealed,
        (true, true) => v1::SealVerdict::Intact,
        (true, false) => v1::SealVerdict::Changed,
    };
    v1::VerifyDocumentResponse {
        sha256: hex::encode(sha256),
        verdict: verdict.into(),
        document: known.map(|known| v1::KnownDocument {
            envelope_id: known.envelope.to_string(),
            document_id: known.document.to_string(),
            version: known.version as i32,
        }),
        signatures: signatures.iter().map(|facts| signature(facts, recognised)).collect(),
    }
}

/// Whether it names a certificate of this service; it may be broken all the same.
fn names_us(facts: &SignatureFacts, recognised: &Recognised) -> bool {
    facts.signer.as_ref().is_some_and(|signer| recognised.is_ours(&signer.sha256))
}

/// Whether a key of this service made it.
fn is_ours(facts: &SignatureFacts, recognised: &Recognised) -> bool {
    facts.fault.is_none() && names_us(facts, recognised)
}

fn signature(facts: &SignatureFacts, recognised: &Recognised) -> v1::DocumentSignature {
    let stamp = facts.timestamp.as_ref().filter(|stamp| stamp.fault.is_none());
    v1::DocumentSignature {
        field_name: facts.field.clone(),
        kind: match facts.role {
            Role::Approval => v1::SignatureKind::Approval,
            Role::Certification(_) => v1::SignatureKind::Certification,
            Role::DocumentTimestamp => v1::SignatureKind::Timestamp,
        }
        .into(),
        is_ours: is_ours(facts, recognised),
        is_intact: facts.is_intact(),
        fault: fault(facts.fault).into(),
        signed_bytes: facts.signed_bytes as u64,
        covers_whole_file: facts.covers_whole_file,
        later_changes: match facts.later {
            Later::Nothing => v1::LaterChanges::None,
            Later::ValidationData => v1::LaterChanges::ValidationData,
            Later::FurtherSignatures => v1::LaterChanges::Signatures,
            Later::Changes => v1::LaterChanges::Other,
        }
        .into(),
        signer: facts.signer.as_ref().map(|signer| certificate(signer, facts.trust)),
        timestamped_at: stamp.map(|stamp| timestamp(stamp.at_unix_s)),
        timestamp_authority: stamp.map(|stamp| certificate(&stamp.authority, stamp.trust)),
    }
}

fn fault(fault: Option<Fault>) -> v1::SignatureFault {
    match fault {
        None => v1::SignatureFault::Unspecified,
        Some(Fault::Range) => v1::SignatureFault::Range,
        Some(Fault::ContentChanged) => v1::SignatureFault::ContentChanged,
        Some(Fault::WrongSignature | Fault::NotBound | Fault::Timestamp) => v1::SignatureFault::WrongSignature,
        Some(Fault::UnknownKind | Fault::UnreadableSignature | Fault::NoCertificate | Fault::WeakAlgorithm) => {
            v1::SignatureFault::Unsupported
        }
    }
}

fn certificate(facts: &CertificateFacts, trust: Trust) -> v1::CertificateInfo {
    v1::CertificateInfo {
        subject: facts.subject.clone(),
        issuer: facts.issuer.clone(),
        sha256: hex::encode(facts.sha256),
        not_before: Some(timestamp(facts.not_before_unix_s)),
        not_after: Some(timestamp(facts.not_after_unix_s)),
        trust: match trust {
            Trust::Trusted => v1::CertificateTrust::Trusted,
            Trust::UnknownIssuer => v1::CertificateTrust::UnknownIssuer,
            Trust::NotValidThen => v1::CertificateTrust::NotValidThen,
            Trust::NotForThis => v1::CertificateTrust::NotForThis,
        }
        .into(),
    }
}

fn timestamp(unix_s: u64) -> Timestamp {
    Timestamp { seconds: i64::try_from(unix_s).unwrap_or(i64::MAX), nanos: 0 }
}
