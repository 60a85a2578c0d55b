//! SignerService: the token says who acts and in which envelope.

use countersign::v1;
use countersign::v1::signer_service_server::SignerService;
use countersign_chassis::problem::Problem;
use futures_util::StreamExt as _;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::auth::signing_token;
use super::parse::{Faults, value};
use super::people::person;
use super::source::source;
use super::status::{closed, database, no_session, not_your_turn, part_over};
use super::steer::Call;
use super::upload::over_limit;
use super::{Handler, download, render};
use crate::credential::SigningToken;
use crate::domain::address::same_address;
use crate::domain::command::{Act, Actor, Assign, By, Command, Decline};
use crate::domain::decide::Verdict;
use crate::domain::envelope::{Digest, Envelope};
use crate::domain::field::Value;
use crate::domain::id::{DocumentId, EnvelopeId, FieldId};
use crate::domain::limits::{DOCUMENTS_MAX, FIELDS_MAX};
use crate::domain::particulars::Source;
use crate::domain::recipient::{Channel, Recipient, RecipientState, Role};
use crate::domain::refusal::allowed_to;
use crate::domain::status::Status as EnvelopeStatus;
use crate::execute::{Ask, Outcome, new_id};
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
        match (recipient.role, &recipient.state) {
            (Role::Cc, _) => Err(no_session(status)),
            (_, RecipientState::Waiting) => Err(not_your_turn(status)),
            (_, RecipientState::NotNeeded { .. } | RecipientState::Declined { .. }) => Err(part_over(status)),
            _ => Ok(envelope),
        }
    }

    async fn act(&self, token: SigningToken, source: Source, command: Command) -> Result<Outcome, Status> {
        let by = By { actor: Actor::Recipient(token.recipient), source };
        let scope = Scope::any_mode(token.account);
        let may = move |envelope: &Envelope| proved(envelope, &token).is_some();
        self.execute(Ask { scope, id: token.envelope, by, command, expected: None }, may).await
    }

    fn correction(&self) -> EnvelopeId {
        EnvelopeId::from_uuid(new_id(self.0.store.clock().now()))
    }

    fn session(&self, envelope: &Envelope, token: &SigningToken) -> Option<v1::SigningSession> {
        let now = self.0.store.clock().now();
        proved(envelope, token).map(|own| render::session(envelope, own, &allowed_to(envelope, own, now)))
    }

    /// The token of a call, and from where it comes.
    fn signing<T>(&self, request: &Request<T>) -> Result<(SigningToken, Source), Status> {
        Ok((signing_token(request.extensions())?, source(request, &self.0.trusted_peers)))
    }

    async fn decline_as_user(&self, call: Call<v1::DeclineByUserRequest>) -> Result<Outcome, Status> {
        let Call { sender, by, message } = call;
        let absent = || Status::from(Problem::not_found());
        let keyring = &self.0.keyring;
        let token = keyring.parse_signing_token(message.signing_token.trim()).ok_or_else(absent)?;
        let user = keyring.parse_user_token(message.user_token.trim()).ok_or_else(absent)?;
        if token.account != sender.scope.account || user.account != sender.scope.account {
            return Err(absent());
        }
        let mut faults = Faults::default();
        let reason = faults.personal("reason", &message.reason);
        faults.finish()?;
        let found = self.0.store.user(sender.scope, user.user, &user.hash).await.map_err(|error| database(&error))?;
        let user = found.ok_or_else(absent)?;
        let envelope = self.find(sender.scope, token.envelope).await?;
        let recipient = proved(&envelope, &token).ok_or_else(absent)?;
        if !same_address(&recipient.person.email, &user.email) {
            return Err(mismatch());
        }
        let (recipient, channel) = (token.recipient, Channel::User);
        let decline = Decline { recipient, channel, reason, note: None, correction: self.correction() };
        let by = By { actor: Actor::User(user.id), source: by.source };
        let ask =
            Ask { scope: sender.scope, id: token.envelope, by, command: Command::Decline(decline), expected: None };
        // A link that has died since, or a place that is somebody else's now, is none of the user's.
        self.execute(ask, move |envelope| {
            proved(envelope, &token).is_some_and(|recipient| same_address(&recipient.person.email, &user.email))
        })
        .await
    }
}

fn mismatch() -> Status {
    let message = "The signer's email and the user's email are different.";
    Problem::new(v1::ErrorReason::ActorSubjectMismatch, message).field("user_token", "is not the recipient's").into()
}

/// The recipient whose token it is.
fn proved<'a>(envelope: &'a Envelope, token: &SigningToken) -> Option<&'a Recipient> {
    envelope.recipient(token.recipient).filter(|recipient| token.proves(&recipient.credential))
}

#[tonic::async_trait]
impl SignerService for Handler {
    async fn get_signing_session(
        &self,
        request: Request<v1::GetSigningSessionRequest>,
    ) -> Result<Response<v1::GetSigningSessionResponse>, Status> {
        let token = signing_token(request.extensions())?;
        let envelope = self.open_session(token).await?;
        Ok(Response::new(v1::GetSigningSessionResponse { session: self.session(&envelope, &token) }))
    }

    async fn mark_viewed(
        &self,
        request: Request<v1::MarkViewedRequest>,
    ) -> Result<Response<v1::MarkViewedResponse>, Status> {
        let (token, source) = self.signing(&request)?;
        let outcome = self.act(token, source, Command::View { recipient: token.recipient }).await?;
        Ok(Response::new(v1::MarkViewedResponse { session: self.session(&outcome.envelope, &token) }))
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

    async fn fill_fields(
        &self,
        request: Request<v1::FillFieldsRequest>,
    ) -> Result<Response<v1::FillFieldsResponse>, Status> {
        let (token, source) = self.signing(&request)?;
        let entries = request.into_inner().values;
        bounded(entries.len(), 0)?;
        let mut faults = Faults::default();
        let values = values(entries, &mut faults);
        faults.finish()?;
        let outcome = self.act(token, source, Command::Fill { recipient: token.recipient, values }).await?;
        Ok(Response::new(v1::FillFieldsResponse { session: self.session(&outcome.envelope, &token) }))
    }

    async fn sign(&self, request: Request<v1::SignRequest>) -> Result<Response<v1::SignResponse>, Status> {
        let (token, source) = self.signing(&request)?;
        let given = request.into_inner();
        let shown = (given.seen_documents, given.seen_revision);
        let act = act(&token, given.values, shown, given.consent)?;
        let outcome = self.act(token, source, Command::Sign(act)).await?;
        Ok(Response::new(v1::SignResponse { session: self.session(&outcome.envelope, &token) }))
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Result<Response<v1::ApproveResponse>, Status> {
        let (token, source) = self.signing(&request)?;
        let given = request.into_inner();
        let act = act(&token, given.values, (given.seen_documents, given.seen_revision), false)?;
        let outcome = self.act(token, source, Command::Approve(act)).await?;
        Ok(Response::new(v1::ApproveResponse { session: self.session(&outcome.envelope, &token) }))
    }

    async fn decline(&self, request: Request<v1::DeclineRequest>) -> Result<Response<v1::DeclineResponse>, Status> {
        let (token, source) = self.signing(&request)?;
        let mut faults = Faults::default();
        let reason = faults.personal("reason", &request.get_ref().reason);
        faults.finish()?;
        let (recipient, channel) = (token.recipient, Channel::SigningToken);
        let decline = Decline { recipient, channel, reason, note: None, correction: self.correction() };
        let outcome = self.act(token, source, Command::Decline(decline)).await?;
        Ok(Response::new(v1::DeclineResponse {
            session: self.session(&outcome.envelope, &token),
            already_declined: outcome.answer == Verdict::AlreadyDone,
        }))
    }

    async fn decline_by_user(
        &self,
        request: Request<v1::DeclineByUserRequest>,
    ) -> Result<Response<v1::DeclineByUserResponse>, Status> {
        let call = self.call(request)?;
        let outcome = self.decline_as_user(call).await?;
        Ok(Response::new(v1::DeclineByUserResponse {
            envelope: Some(render::envelope(&outcome.envelope)),
            already_declined: outcome.answer == Verdict::AlreadyDone,
        }))
    }

    async fn delegate_signing(
        &self,
        request: Request<v1::DelegateSigningRequest>,
    ) -> Result<Response<v1::DelegateSigningResponse>, Status> {
        let (token, source) = self.signing(&request)?;
        let given = request.into_inner();
        let mut faults = Faults::default();
        let person = person(given.person.as_ref(), &mut faults);
        let reason = faults.personal("reason", &given.reason);
        faults.finish()?;
        let command = Command::Delegate(Assign { recipient: token.recipient, person, reason });
        self.act(token, source, command).await?;
        Ok(Response::new(v1::DelegateSigningResponse {}))
    }
}

fn bounded(values: usize, seen: usize) -> Result<(), Status> {
    for (path, actual, allowed) in [("values", values, FIELDS_MAX), ("seen_documents", seen, DOCUMENTS_MAX)] {
        if actual > allowed {
            let message = format!("{path}: {actual} are more than an envelope can have");
            return Err(over_limit(path, &format!("{path}_max"), actual, allowed, &message));
        }
    }
    Ok(())
}

fn values(entries: Vec<v1::FieldEntry>, faults: &mut Faults) -> Vec<(FieldId, Value)> {
    let mut values = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let id = faults.id(format!("values[{index}].field_id"), &entry.field_id);
        values.push((id, value(faults, &format!("values[{index}].value"), entry.value)));
    }
    values
}

/// A signature or an approval; `shown` are the documents and the revision of the session that was shown.
fn act(
    token: &SigningToken,
    entries: Vec<v1::FieldEntry>,
    shown: (Vec<v1::SeenDocument>, u64),
    consent: bool,
) -> Result<Act, Status> {
    let (documents, seen_revision) = shown;
    bounded(entries.len(), documents.len())?;
    let mut faults = Faults::default();
    let values = values(entries, &mut faults);
    let mut seen: Vec<(DocumentId, Digest)> = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let id = faults.id(format!("seen_documents[{index}].document_id"), &document.document_id);
        let sha256 = faults.digest(format!("seen_documents[{index}].sha256"), &document.sha256.to_lowercase());
        seen.push((id, sha256));
    }
    faults.finish()?;
    Ok(Act { recipient: token.recipient, values, seen, seen_revision, consent })
}
