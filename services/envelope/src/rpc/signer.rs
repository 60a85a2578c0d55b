//! SignerService: the token says who acts and in which envelope.

use countersign::v1;
use countersign::v1::signer_service_server::SignerService;
use countersign_chassis::keys::random;
use countersign_chassis::problem::Problem;
use futures_util::StreamExt as _;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::auth::signing_token;
use super::parse::{Faults, value};
use super::status::{closed, database, not_your_turn, refused};
use super::upload::over_limit;
use super::{Handler, download, render};
use crate::credential::SigningToken;
use crate::domain::command::{Actor, Command, Decline, Sign};
use crate::domain::decide::Verdict;
use crate::domain::envelope::{Channel, Envelope, Recipient, RecipientState};
use crate::domain::limits::{DOCUMENTS_MAX, FIELDS_MAX};
use crate::domain::status::Status as EnvelopeStatus;
use crate::execute::{Outcome, execute};
use crate::store::Scope;

impl Handler {
    /// The envelope of a token that is proved, open and in turn.
    async fn open_session(&self, token: SigningToken) -> Result<Envelope, Status> {
        let envelope = self.find(Scope::any_mode(token.account), token.envelope).await?;
        let recipient = proved(&envelope, &token).ok_or_else(|| Status::from(Problem::not_found()))?;
        let status = envelope.status();
        if status.is_terminal() {
            return Err(closed(status));
        }
        // The deadline decides, also where no sweeper has run.
        if envelope.facts.is_open() && self.0.store.clock().now() >= envelope.expires_at {
            return Err(closed(EnvelopeStatus::Expired));
        }
        if recipient.state == RecipientState::Waiting {
            return Err(not_your_turn(status));
        }
        Ok(envelope)
    }

    async fn act(&self, token: SigningToken, command: Command) -> Result<Outcome, Status> {
        let (scope, actor) = (Scope::any_mode(token.account), Actor::Recipient(token.recipient));
        let may = move |envelope: &Envelope| proved(envelope, &token).is_some();
        let outcome = execute(&self.0.store, scope, token.envelope, actor, command, may).await;
        let outcome = outcome.map_err(|error| database(&error))?.ok_or_else(|| Status::from(Problem::not_found()))?;
        match &outcome.answer {
            Verdict::Done | Verdict::AlreadyDone => Ok(outcome),
            Verdict::Refused(refusal) => Err(refused(refusal)),
        }
    }
}

/// The recipient whose token it is.
fn proved<'a>(envelope: &'a Envelope, token: &SigningToken) -> Option<&'a Recipient> {
    envelope.recipient(token.recipient).filter(|recipient| token.proves(&recipient.credential))
}

fn session(envelope: &Envelope, token: &SigningToken) -> Option<v1::SigningSession> {
    proved(envelope, token).map(|own| render::session(envelope, own))
}

#[tonic::async_trait]
impl SignerService for Handler {
    async fn get_signing_session(
        &self,
        request: Request<v1::GetSigningSessionRequest>,
    ) -> Result<Response<v1::GetSigningSessionResponse>, Status> {
        let token = signing_token(request.extensions())?;
        let envelope = self.open_session(token).await?;
        Ok(Response::new(v1::GetSigningSessionResponse { session: session(&envelope, &token) }))
    }

    type DownloadDocumentStream = BoxStream<v1::SignerServiceDownloadDocumentResponse>;

    async fn download_document(
        &self,
        request: Request<v1::SignerServiceDownloadDocumentRequest>,
    ) -> Result<Response<Self::DownloadDocumentStream>, Status> {
        let token = signing_token(request.extensions())?;
        let request = request.into_inner();
        let known = v1::DocumentVersion::try_from(request.version);
        if !matches!(known, Ok(v1::DocumentVersion::Unspecified | v1::DocumentVersion::Original)) {
            return Err(download::unknown_version());
        }
        let envelope = self.open_session(token).await?;
        let document = download::document(&envelope, &request.document_id)?;
        let parts = download::parts(&self.0.blobs, document.name.clone(), &document.sha256).await?;
        let response = |part| Ok(v1::SignerServiceDownloadDocumentResponse { part: Some(part) });
        Ok(Response::new(Box::pin(parts.map(response))))
    }

    async fn sign(&self, request: Request<v1::SignRequest>) -> Result<Response<v1::SignResponse>, Status> {
        let token = signing_token(request.extensions())?;
        let sign = parse_sign(&token, request.into_inner())?;
        let outcome = self.act(token, Command::Sign(sign)).await?;
        Ok(Response::new(v1::SignResponse { session: session(&outcome.envelope, &token) }))
    }

    async fn decline(&self, request: Request<v1::DeclineRequest>) -> Result<Response<v1::DeclineResponse>, Status> {
        let token = signing_token(request.extensions())?;
        let mut faults = Faults::default();
        let reason = faults.committed("reason", &request.get_ref().reason);
        faults.finish()?;
        let (recipient, channel) = (token.recipient, Channel::SigningToken);
        let decline = Decline { recipient, channel, reason, note: None };
        let outcome = self.act(token, Command::Decline(decline)).await?;
        Ok(Response::new(v1::DeclineResponse {
            session: session(&outcome.envelope, &token),
            already_declined: outcome.answer == Verdict::AlreadyDone,
        }))
    }
}

fn parse_sign(token: &SigningToken, request: v1::SignRequest) -> Result<Sign, Status> {
    for (path, actual, allowed) in
        [("values", request.values.len(), FIELDS_MAX), ("seen_documents", request.seen_documents.len(), DOCUMENTS_MAX)]
    {
        if actual > allowed {
            let message = format!("{path}: {actual} are more than an envelope can have");
            return Err(over_limit(path, &format!("{path}_max"), actual, allowed, &message));
        }
    }
    let mut faults = Faults::default();
    let mut values = Vec::new();
    for (index, entry) in request.values.into_iter().enumerate() {
        let id = faults.id(format!("values[{index}].field_id"), &entry.field_id);
        values.push((id, value(&mut faults, &format!("values[{index}].value"), entry.value)));
    }
    let mut seen = Vec::new();
    for (index, document) in request.seen_documents.iter().enumerate() {
        let id = faults.id(format!("seen_documents[{index}].document_id"), &document.document_id);
        let sha256 = faults.digest(format!("seen_documents[{index}].sha256"), &document.sha256.to_lowercase());
        seen.push((id, sha256));
    }
    faults.finish()?;
    Ok(Sign { recipient: token.recipient, values, seen, consent: request.consent, salt: random() })
}
