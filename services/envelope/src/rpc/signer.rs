//! SignerService: the token says who acts and in which envelope.

use chrono::{DateTime, Utc};
use countersign::v1;
use countersign::v1::signer_service_server::SignerService;
use countersign_chassis::once::{Claimed, Keyed};
use countersign_chassis::problem::Problem;
use futures_util::StreamExt as _;
use prost::Message;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::auth::recipient;
use super::download::{Asked, Wanted};
use super::envelope::rendered;
use super::parse::{Faults, value};
use super::people::person;
use super::source::source;
use super::status::{closed, database, no_session, no_version, not_your_turn, part_over};
use super::steer::{Call, Told};
use super::upload::over_limit;
use super::{Handler, download, drawn, picture, render};
use crate::credential::SigningToken;
use crate::domain::address::same_address;
use crate::domain::command::{Act, Actor, Assign, By, Command, Decline};
use crate::domain::decide::Verdict;
use crate::domain::envelope::{Digest, Envelope};
use crate::domain::field::Value;
use crate::domain::id::{DocumentId, EnvelopeId, FieldId, KeyId};
use crate::domain::limits::Limits;
use crate::domain::particulars::Source;
use crate::domain::recipient::{Channel, Recipient, RecipientState, Role};
use crate::domain::refusal::allowed_to;
use crate::domain::status::Status as EnvelopeStatus;
use crate::execute::{Ask, new_id};
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

    async fn act<T, R: Message + Default>(
        &self,
        call: &Signing<T>,
        command: Command,
        told: impl Told<R>,
    ) -> Result<R, Status> {
        let Signing { token, source, .. } = call;
        let token = *token;
        let by = By { actor: Actor::Recipient(token.recipient), source: source.clone() };
        let scope = Scope::any_mode(token.account);
        let ask = Ask { scope, id: token.envelope, by, command, expected: None, billing: None };
        let may = move |envelope: &Envelope| proved(envelope, &token).is_some();
        self.change(ask, call.claimed.as_ref(), may, told).await
    }

    fn correction(&self) -> EnvelopeId {
        EnvelopeId::from_uuid(new_id(self.0.store.clock().now()))
    }

    /// How a session is told that a recipient sees after a change.
    fn session_of(
        &self,
        token: SigningToken,
    ) -> impl Fn(&Envelope) -> Option<v1::SigningSession> + Send + Sync + 'static {
        let clock = self.0.store.clock().clone();
        move |envelope| session(envelope, &token, clock.now())
    }

    /// The recipient's call, or why not.
    fn signing<T: Keyed>(&self, request: Request<T>) -> Result<Signing<T>, Status> {
        let (token, account) = recipient(request.extensions())?;
        let source = source(&request, &self.0.trusted_peers);
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim_by(&metadata, &mut message, &token)?;
        Ok(Signing { token, source, message, claimed, limits: account.settings.limits.clone() })
    }

    async fn decline_as_user(
        &self,
        call: &Call<v1::DeclineByUserRequest>,
    ) -> Result<v1::DeclineByUserResponse, Status> {
        let Call { scope, by, message, claimed, limits } = call;
        let scope = *scope;
        let absent = || Status::from(Problem::not_found());
        let keyring = &self.0.keyring;
        let token = keyring.parse_signing_token(message.signing_token.trim()).ok_or_else(absent)?;
        let user = keyring.parse_user_token(message.user_token.trim()).ok_or_else(absent)?;
        if token.account != scope.account || user.account != scope.account {
            return Err(absent());
        }
        let mut faults = Faults::within(limits);
        let reason = faults.personal("reason", &message.reason);
        faults.finish()?;
        let found = self.0.store.user(scope, user.user, user.hash).await.map_err(|error| database(&error))?;
        let user = found.ok_or_else(absent)?;
        let envelope = self.find(scope, token.envelope).await?;
        let recipient = proved(&envelope, &token).ok_or_else(absent)?;
        if !same_address(&recipient.person.email, &user.email) {
            return Err(mismatch());
        }
        let (recipient, channel) = (token.recipient, Channel::User);
        let decline = Decline { recipient, channel, reason, note: None, correction: self.correction() };
        let by = By { actor: Actor::User(user.id), source: by.source.clone() };
        let command = Command::Decline(decline);
        let ask = Ask { scope, id: token.envelope, by, command, expected: None, billing: None };
        // A link that has died since, or a place that is somebody else's now, is none of the user's.
        let may = move |envelope: &Envelope| {
            proved(envelope, &token).is_some_and(|recipient| same_address(&recipient.person.email, &user.email))
        };
        let told = |after: &Envelope, verdict: &Verdict| v1::DeclineByUserResponse {
            envelope: rendered(after),
            already_declined: *verdict == Verdict::AlreadyDone,
        };
        self.change(ask, claimed.as_ref(), may, told).await
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

fn session(envelope: &Envelope, token: &SigningToken, now: DateTime<Utc>) -> Option<v1::SigningSession> {
    proved(envelope, token).map(|own| render::session(envelope, own, &allowed_to(envelope, own, now)))
}

/// A change that a recipient asks for, taken apart.
struct Signing<T> {
    token: SigningToken,
    source: Source,
    message: T,
    claimed: Option<Claimed>,
    limits: Limits,
}

#[tonic::async_trait]
impl SignerService for Handler {
    async fn get_signing_session(
        &self,
        request: Request<v1::GetSigningSessionRequest>,
    ) -> Result<Response<v1::GetSigningSessionResponse>, Status> {
        let (token, _) = recipient(request.extensions())?;
        let envelope = self.open_session(token).await?;
        let mut session = session(&envelope, &token, self.0.store.clock().now());
        if let Some(session) = session.as_mut().filter(|session| drawn::any_in(session)) {
            let kept = self.0.store.drawings(Scope::any_mode(token.account), token.envelope).await;
            drawn::show(session, &kept.map_err(|error| database(&error))?);
        }
        Ok(Response::new(v1::GetSigningSessionResponse { session }))
    }

    async fn mark_viewed(
        &self,
        request: Request<v1::MarkViewedRequest>,
    ) -> Result<Response<v1::MarkViewedResponse>, Status> {
        let call = self.signing(request)?;
        self.once(call.claimed.as_ref(), async {
            let session = self.session_of(call.token);
            let told = move |after: &Envelope, _: &Verdict| v1::MarkViewedResponse { session: session(after) };
            self.act(&call, Command::View { recipient: call.token.recipient }, told).await
        })
        .await
    }

    type DownloadDocumentStream = BoxStream<v1::SignerServiceDownloadDocumentResponse>;

    async fn download_document(
        &self,
        request: Request<v1::SignerServiceDownloadDocumentRequest>,
    ) -> Result<Response<Self::DownloadDocumentStream>, Status> {
        let (token, _) = recipient(request.extensions())?;
        let request = request.into_inner();
        let asked = Asked {
            document_id: request.document_id,
            version: request.version,
            bundle: request.bundle,
            offset_bytes: request.offset_bytes,
            if_etag: request.if_etag,
        };
        let wanted = Wanted::of(asked, v1::DocumentVersion::Original)?;
        let envelope = self.open_session(token).await?;
        // As long as the link lives something is missing: what there is by then is not for recipients.
        if !wanted.is_original() {
            return Err(no_version(envelope.status()));
        }
        let whose = (token.account, KeyId::from_uuid(token.recipient.uuid()));
        let parts = self.send_out(&envelope, &wanted, self.0.downloads.take(Some(whose))?).await?;
        let told = |part: Result<_, _>| part.map(|part| v1::SignerServiceDownloadDocumentResponse { part: Some(part) });
        Ok(Response::new(Box::pin(parts.map(told))))
    }

    async fn render_page(
        &self,
        request: Request<v1::SignerServiceRenderPageRequest>,
    ) -> Result<Response<v1::SignerServiceRenderPageResponse>, Status> {
        let (token, _) = recipient(request.extensions())?;
        let request = request.into_inner();
        let envelope = self.open_session(token).await?;
        let document = download::document(&envelope, &request.document_id)?;
        let picture = picture::of(&self.0.pictures, (&envelope, document), request.page, request.width_px).await?;
        Ok(Response::new(v1::SignerServiceRenderPageResponse { picture: Some(picture) }))
    }

    async fn fill_fields(
        &self,
        request: Request<v1::FillFieldsRequest>,
    ) -> Result<Response<v1::FillFieldsResponse>, Status> {
        let call = self.signing(request)?;
        self.once(call.claimed.as_ref(), async {
            let entries = call.message.values.clone();
            bounded(entries.len(), 0)?;
            let values = beside(move || {
                let mut faults = Faults::default();
                let values = values(entries, &mut faults);
                faults.finish().map(|()| values)
            })
            .await?;
            let session = self.session_of(call.token);
            let told = move |after: &Envelope, _: &Verdict| v1::FillFieldsResponse { session: session(after) };
            self.act(&call, Command::Fill { recipient: call.token.recipient, values }, told).await
        })
        .await
    }

    async fn sign(&self, request: Request<v1::SignRequest>) -> Result<Response<v1::SignResponse>, Status> {
        let call = self.signing(request)?;
        self.once(call.claimed.as_ref(), async {
            let given = call.message.clone();
            let shown = (given.seen_documents, given.seen_revision);
            let token = call.token;
            let act = beside(move || act(&token, given.values, shown, given.consent)).await?;
            let session = self.session_of(call.token);
            let told = move |after: &Envelope, _: &Verdict| v1::SignResponse { session: session(after) };
            self.act(&call, Command::Sign(act), told).await
        })
        .await
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Result<Response<v1::ApproveResponse>, Status> {
        let call = self.signing(request)?;
        self.once(call.claimed.as_ref(), async {
            let given = call.message.clone();
            let shown = (given.seen_documents, given.seen_revision);
            let token = call.token;
            let act = beside(move || act(&token, given.values, shown, false)).await?;
            let session = self.session_of(call.token);
            let told = move |after: &Envelope, _: &Verdict| v1::ApproveResponse { session: session(after) };
            self.act(&call, Command::Approve(act), told).await
        })
        .await
    }

    async fn decline(&self, request: Request<v1::DeclineRequest>) -> Result<Response<v1::DeclineResponse>, Status> {
        let call = self.signing(request)?;
        self.once(call.claimed.as_ref(), async {
            let mut faults = Faults::within(&call.limits);
            let reason = faults.personal("reason", &call.message.reason);
            faults.finish()?;
            let (recipient, channel) = (call.token.recipient, Channel::SigningToken);
            let decline = Decline { recipient, channel, reason, note: None, correction: self.correction() };
            let session = self.session_of(call.token);
            let told = move |after: &Envelope, verdict: &Verdict| v1::DeclineResponse {
                session: session(after),
                already_declined: *verdict == Verdict::AlreadyDone,
            };
            self.act(&call, Command::Decline(decline), told).await
        })
        .await
    }

    async fn decline_by_user(
        &self,
        request: Request<v1::DeclineByUserRequest>,
    ) -> Result<Response<v1::DeclineByUserResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), self.decline_as_user(&call)).await
    }

    async fn mute_reminders(
        &self,
        request: Request<v1::MuteRemindersRequest>,
    ) -> Result<Response<v1::MuteRemindersResponse>, Status> {
        let call = self.signing(request)?;
        self.once(call.claimed.as_ref(), async {
            let session = self.session_of(call.token);
            let told = move |after: &Envelope, _: &Verdict| v1::MuteRemindersResponse { session: session(after) };
            self.act(&call, Command::Mute { recipient: call.token.recipient }, told).await
        })
        .await
    }

    async fn delegate_signing(
        &self,
        request: Request<v1::DelegateSigningRequest>,
    ) -> Result<Response<v1::DelegateSigningResponse>, Status> {
        let call = self.signing(request)?;
        self.once(call.claimed.as_ref(), async {
            let mut faults = Faults::within(&call.limits);
            let person = person(call.message.person.as_ref(), &mut faults);
            let reason = faults.personal("reason", &call.message.reason);
            faults.finish()?;
            let command = Command::Delegate(Assign { recipient: call.token.recipient, person, reason });
            self.act(&call, command, |_: &Envelope, _: &Verdict| v1::DelegateSigningResponse {}).await
        })
        .await
    }
}

/// By what any envelope can have, as the account's limits may have been lowered since: the rules look at the envelope itself.
fn bounded(values: usize, seen: usize) -> Result<(), Status> {
    let limits = Limits::ceiling();
    let bounds = [
        ("values", "fields_max", values, limits.fields_max),
        ("seen_documents", "documents_max", seen, limits.documents_max),
    ];
    for (path, limit, actual, allowed) in bounds {
        if actual > allowed {
            let message = format!("{path}: {actual} are more than an envelope can have");
            return Err(over_limit(path, limit, actual, allowed, &message));
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
    drawn::bounded(faults, &values);
    values
}

/// Reads a request that may hold pictures on a thread that serves no calls.
async fn beside<T: Send + 'static>(read: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(read).await.map_err(|_| Status::from(Problem::internal()))?
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
