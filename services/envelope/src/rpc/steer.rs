//! What senders and the operator do to an envelope: read the request, execute.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use countersign::v1;
use countersign_chassis::once::{Claimed, Keyed, Once};
use countersign_chassis::problem::Problem;
use prost::Message;
use tonic::{Extensions, Request, Response, Status};

use super::Handler;
use super::auth::{Owner, Sender, owner, sender};
use super::envelope::rendered;
use super::fields::{Ground, fields};
use super::once::keep;
use super::parse::{Faults, envelope_id, expected};
use super::people::person;
use super::source::source;
use super::status::{database, insufficient, refused, too_many_fields};
use super::terms::{changes, instant};
use crate::domain::command::{Assign, By, Command, Decline, Edit};
use crate::domain::decide::Verdict;
use crate::domain::envelope::Envelope;
use crate::domain::id::{EnvelopeId, FieldId, RecipientId};
use crate::domain::limits::Limits;
use crate::domain::recipient::{Channel, Recipient};
use crate::domain::routing::{current, needed, whose_turn};
use crate::execute::{Ask, Outcome, Reply, new_id};
use crate::store::{Keep, Scope, is_insufficient};

/// A change that a sender or the operator asks for, taken apart.
pub(super) struct Call<T> {
    pub scope: Scope,
    pub by: By,
    pub message: T,
    pub claimed: Option<Claimed>,
    /// Of the account; the usual ones for the operator.
    pub limits: Limits,
}

/// What a change is told as.
pub(super) trait Told<R>: Fn(&Envelope, &Verdict) -> R + Send + Sync + 'static {}
impl<R, F: Fn(&Envelope, &Verdict) -> R + Send + Sync + 'static> Told<R> for F {}

impl Handler {
    /// The sender's call, or why not.
    pub(super) fn call<T: Keyed>(&self, request: Request<T>) -> Result<(Sender, Call<T>), Status> {
        let sender = sender(request.extensions())?;
        let by = By { actor: sender.actor(), source: source(&request, &self.0.trusted_peers) };
        let limits = sender.account.settings.limits.clone();
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, sender.scope)?;
        let scope = sender.scope;
        Ok((sender, Call { scope, by, message, claimed, limits }))
    }

    /// Executes a command and remembers what came of it.
    pub(super) async fn execute(
        &self,
        ask: Ask,
        kept: Option<(Once, Reply)>,
        may: impl Fn(&Envelope) -> bool + Send + Sync + 'static,
    ) -> Result<Outcome, Status> {
        let price = ask.billing.as_ref().map(|billing| billing.price);
        let outcome = self.0.executor.execute_once(ask, kept, may).await;
        let outcome = outcome.map_err(|error| match price {
            Some(price) if is_insufficient(&error) => insufficient(price),
            _ => database(&error),
        })?;
        let outcome = outcome.ok_or_else(|| Status::from(Problem::not_found()))?;
        // Also if nobody has looked at it yet: a look that began before the change must not hide it afterwards.
        self.0.cache.put(Arc::new(outcome.envelope.clone()), Instant::now());
        match &outcome.answer {
            Verdict::Done | Verdict::AlreadyDone => Ok(outcome),
            Verdict::Refused(refusal) => Err(refused(refusal, self.0.store.clock().now())),
        }
    }

    /// Executes a command, once if it has a key, and tells what came of it.
    pub(super) async fn change<R: Message + Default>(
        &self,
        ask: Ask,
        claimed: Option<&Claimed>,
        may: impl Fn(&Envelope) -> bool + Send + Sync + 'static,
        told: impl Told<R>,
    ) -> Result<R, Status> {
        let told = Arc::new(told);
        let kept = claimed.map(|claimed| {
            let told = Arc::clone(&told);
            let reply: Reply = Arc::new(move |after, _, verdict| Some(told(after, verdict).encode_to_vec()));
            (claimed.once.clone(), reply)
        });
        let outcome = self.execute(ask, kept, may).await?;
        match outcome.reply {
            // What was kept is what is told, to the byte.
            Some(reply) => R::decode(reply.as_slice()).map_err(|_| Problem::internal().into()),
            None => Ok(told(&outcome.envelope, &outcome.answer)),
        }
    }

    pub(super) async fn command<T, R: Message + Default>(
        &self,
        call: &Call<T>,
        id: EnvelopeId,
        if_revision: u64,
        command: Command,
        told: impl Told<R>,
    ) -> Result<R, Status> {
        let Call { scope, by, .. } = call;
        let expected = expected(if_revision);
        let ask = Ask { scope: *scope, id, by: by.clone(), command, expected, billing: None };
        self.change(ask, call.claimed.as_ref(), |_| true, told).await
    }

    /// An envelope of the scope as it stands now, or NOT_FOUND.
    pub(super) async fn find(&self, scope: Scope, id: EnvelopeId) -> Result<Envelope, Status> {
        let found = self.0.store.envelope(scope, id).await.map_err(|error| database(&error))?;
        found.ok_or_else(|| Problem::not_found().into())
    }

    pub(super) async fn send(
        &self,
        request: Request<v1::SendEnvelopeRequest>,
    ) -> Result<Response<v1::SendEnvelopeResponse>, Status> {
        let (sender, Call { scope, by, message, claimed, .. }) = self.call(request)?;
        self.once(claimed.as_ref(), async {
            let id = envelope_id(&message.envelope_id)?;
            let billing = Some(sender.account.settings.billing.clone());
            let expected = expected(message.if_revision);
            let ask = Ask { scope, id, by, command: Command::Send, expected, billing };
            let told = |after: &Envelope, _: &Verdict| v1::SendEnvelopeResponse { envelope: rendered(after) };
            self.change(ask, claimed.as_ref(), |_| true, told).await
        })
        .await
    }

    pub(super) async fn update(
        &self,
        request: Request<v1::UpdateEnvelopeRequest>,
    ) -> Result<Response<v1::UpdateEnvelopeResponse>, Status> {
        let (sender, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::within(&call.limits);
            let id = faults.id("envelope_id", &message.envelope_id);
            let mask = message.update_mask.clone().unwrap_or_default().paths;
            let given = message.changes.clone().unwrap_or_default();
            let settings = &sender.account.settings;
            let changes = changes(&given, &mask, settings, self.0.store.clock().now(), &mut faults);
            faults.finish()?;
            let command = Command::Update(Edit::Terms(Box::new(changes)));
            let told = |after: &Envelope, _: &Verdict| v1::UpdateEnvelopeResponse { envelope: rendered(after) };
            self.command(&call, id, message.if_revision, command, told).await
        })
        .await
    }

    pub(super) async fn add_fields_to(
        &self,
        request: Request<v1::AddFieldsRequest>,
    ) -> Result<Response<v1::AddFieldsResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let (message, fields_max) = (&call.message, call.limits.fields_max);
            if message.fields.len() > fields_max {
                return Err(too_many_fields(message.fields.len(), fields_max));
            }
            let mut faults = Faults::default();
            let id: EnvelopeId = faults.id("envelope_id", &message.envelope_id);
            if message.fields.is_empty() {
                faults.add("fields", "must hold at least one");
            }
            faults.finish()?;
            // Neither ids nor numbers of pages are lost while it is a draft; that it is one, and has them, shows at the lock.
            let draft = self.find(call.scope, id).await?;
            let documents = draft.documents.iter().map(|it| (it.id, it.is_read().then_some(it.page_count)));
            let documents: Vec<_> = documents.collect();
            let ground = Ground { recipients: &draft.recipients, documents: &documents };
            let now = self.0.store.clock().now();
            let mut faults = Faults::default();
            let fields = fields(&message.fields, &ground, || FieldId::from_uuid(new_id(now)), &mut faults)?;
            faults.finish()?;
            let command = Command::Update(Edit::AddFields { fields, fields_max });
            let told = |after: &Envelope, _: &Verdict| v1::AddFieldsResponse { envelope: rendered(after) };
            self.command(&call, id, message.if_revision, command, told).await
        })
        .await
    }

    pub(super) async fn remove_fields_from(
        &self,
        request: Request<v1::RemoveFieldsRequest>,
    ) -> Result<Response<v1::RemoveFieldsResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::default();
            let id = faults.id("envelope_id", &message.envelope_id);
            let ids: Vec<FieldId> = ids(&message.field_ids, "field_ids", Limits::ceiling().fields_max, &mut faults);
            if message.field_ids.is_empty() {
                faults.add("field_ids", "must hold at least one");
            }
            faults.finish()?;
            let command = Command::Update(Edit::RemoveFields(ids));
            let told = |after: &Envelope, _: &Verdict| v1::RemoveFieldsResponse { envelope: rendered(after) };
            self.command(&call, id, message.if_revision, command, told).await
        })
        .await
    }

    pub(super) async fn discard(
        &self,
        request: Request<v1::DiscardEnvelopeRequest>,
    ) -> Result<Response<v1::DiscardEnvelopeResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let id = envelope_id(&call.message.envelope_id)?;
            let told = |_: &Envelope, _: &Verdict| v1::DiscardEnvelopeResponse {};
            self.command(&call, id, call.message.if_revision, Command::Discard, told).await
        })
        .await
    }

    pub(super) async fn void(
        &self,
        request: Request<v1::VoidEnvelopeRequest>,
    ) -> Result<Response<v1::VoidEnvelopeResponse>, Status> {
        let Owner { scope, actor, cause } = owner(request.extensions())?;
        let limits = sender(request.extensions()).map(|sender| sender.account.settings.limits.clone());
        let limits = limits.unwrap_or_default();
        let by = By { actor, source: source(&request, &self.0.trusted_peers) };
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, scope)?;
        let call = Call { scope, by, message, claimed, limits };
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::within(&call.limits);
            let id = faults.id("envelope_id", &message.envelope_id);
            let reason = faults.personal("reason", &message.reason);
            faults.finish()?;
            let told = |after: &Envelope, _: &Verdict| v1::VoidEnvelopeResponse { envelope: rendered(after) };
            self.command(&call, id, message.if_revision, Command::Void { cause, reason }, told).await
        })
        .await
    }

    pub(super) async fn extend(
        &self,
        request: Request<v1::ExtendEnvelopeRequest>,
    ) -> Result<Response<v1::ExtendEnvelopeResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::default();
            let id = faults.id("envelope_id", &message.envelope_id);
            let expires_at = message.expires_at.as_ref().and_then(instant).unwrap_or_else(|| {
                faults.add("expires_at", "must be a time");
                self.0.store.clock().now()
            });
            faults.finish()?;
            let told = |after: &Envelope, _: &Verdict| v1::ExtendEnvelopeResponse { envelope: rendered(after) };
            self.command(&call, id, message.if_revision, Command::Extend { expires_at }, told).await
        })
        .await
    }

    pub(super) async fn reassign(
        &self,
        request: Request<v1::ReassignRecipientRequest>,
    ) -> Result<Response<v1::ReassignRecipientResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::within(&call.limits);
            let id = faults.id("envelope_id", &message.envelope_id);
            let recipient = faults.id("recipient_id", &message.recipient_id);
            let person = person(message.person.as_ref(), &mut faults);
            let reason = faults.personal("reason", &message.reason);
            faults.finish()?;
            let command = Command::Reassign(Assign { recipient, person, reason });
            let told = |after: &Envelope, _: &Verdict| v1::ReassignRecipientResponse { envelope: rendered(after) };
            self.command(&call, id, message.if_revision, command, told).await
        })
        .await
    }

    /// Tells also to whom the invitation goes out again.
    pub(super) async fn resend(
        &self,
        request: Request<v1::ResendEnvelopeRequest>,
    ) -> Result<Response<v1::ResendEnvelopeResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let (id, recipients) = named(&message.envelope_id, &message.recipient_ids)?;
            let command = Command::Resend { recipients, rotate: message.rotate };
            let told = |after: &Envelope, _: &Verdict| {
                let now = |other: &&Recipient| other.invited_at == Some(after.last_event_at);
                let recipient_ids = after.recipients.iter().filter(now).map(|other| other.id.to_string()).collect();
                v1::ResendEnvelopeResponse { envelope: rendered(after), recipient_ids }
            };
            self.command(&call, id, message.if_revision, command, told).await
        })
        .await
    }

    /// Tells of the envelope in an ended one's place, and whether it had been there before.
    pub(super) async fn replace(
        &self,
        request: Request<v1::ReplaceEnvelopeRequest>,
    ) -> Result<Response<v1::ReplaceEnvelopeResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), self.replaced(&call)).await
    }

    async fn replaced(&self, call: &Call<v1::ReplaceEnvelopeRequest>) -> Result<v1::ReplaceEnvelopeResponse, Status> {
        let id = envelope_id(&call.message.envelope_id)?;
        let expected = expected(call.message.if_revision);
        let mut lost = None;
        loop {
            let draft = EnvelopeId::from_uuid(new_id(self.0.store.clock().now()));
            let (scope, by, command) = (call.scope, call.by.clone(), Command::Replace { by: draft, lost });
            let ask = Ask { scope, id, by, command, expected, billing: None };
            let kept = call.claimed.as_ref().map(|claimed| {
                let reply: Reply = Arc::new(|_, also, _| also.map(|new| in_place(new, false).encode_to_vec()));
                (claimed.once.clone(), reply)
            });
            let outcome = self.execute(ask, kept, |_| true).await?;
            if let Some(reply) = outcome.reply {
                return Message::decode(reply.as_slice()).map_err(|_| Problem::internal().into());
            }
            let already_replaced = outcome.answer == Verdict::AlreadyDone;
            let replacement = outcome.envelope.replaced_by.ok_or_else(|| Status::from(Problem::internal()))?;
            let found = self.0.store.envelope(scope, replacement).await.map_err(|error| database(&error))?;
            match found {
                Some(envelope) => {
                    let told = in_place(&envelope, already_replaced);
                    // Nothing was changed: the reply is kept by itself, so that the same key is answered in the same way.
                    let about = |kept: Keep<()>| Keep { once: kept.once.about(replacement.uuid()), ..kept };
                    let kept = keep(call.claimed.as_ref(), &told).map(about);
                    self.0.store.remember(scope.account, kept).await.map_err(|error| database(&error))?;
                    return Ok(told);
                }
                // The draft that was made before has been thrown away: another is owed.
                None => lost = Some(replacement),
            }
        }
    }

    /// Tells also whether the recipient had refused before.
    pub(super) async fn decline_for(
        &self,
        request: Request<v1::DeclineRecipientRequest>,
    ) -> Result<Response<v1::DeclineRecipientResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::within(&call.limits);
            let id = faults.id("envelope_id", &message.envelope_id);
            let recipient = faults.id("recipient_id", &message.recipient_id);
            let reason = faults.personal("reason", &message.reason);
            let note = faults.personal("evidence_note", &message.evidence_note);
            faults.finish()?;
            let correction = EnvelopeId::from_uuid(new_id(self.0.store.clock().now()));
            let decline = Decline { recipient, channel: Channel::OnBehalf, reason, note, correction };
            let told = |after: &Envelope, verdict: &Verdict| v1::DeclineRecipientResponse {
                envelope: rendered(after),
                already_declined: *verdict == Verdict::AlreadyDone,
            };
            self.command(&call, id, message.if_revision, Command::Decline(decline), told).await
        })
        .await
    }

    pub(super) async fn turn(
        &self,
        extensions: &Extensions,
        request: &v1::WhoseTurnRequest,
    ) -> Result<v1::WhoseTurnResponse, Status> {
        let scope = super::auth::overview(extensions)?;
        let envelope = self.find(scope, envelope_id(&request.envelope_id)?).await?;
        let open = envelope.facts.is_open() && self.0.store.clock().now() < envelope.expires_at;
        let live = open && envelope.facts.sent_at.is_some();
        let due = if live && current(&envelope).is_some() { whose_turn(&envelope) } else { Vec::new() };
        let gating = || envelope.recipients.iter().filter(|other| other.role.gates());
        let groups: BTreeSet<u16> = gating().map(|other| other.group).collect();
        let progress = |group: u16| {
            let members = || gating().filter(move |other| other.group == group);
            let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            v1::GroupProgress {
                group: group.into(),
                members: count(members().count()),
                needed: count(needed(&envelope, group)),
                acted: count(members().filter(|other| other.has_acted()).count()),
            }
        };
        Ok(v1::WhoseTurnResponse {
            revision: envelope.revision,
            recipient_ids: due.iter().map(ToString::to_string).collect(),
            groups: groups.into_iter().map(progress).collect(),
        })
    }
}

fn in_place(replacement: &Envelope, already_replaced: bool) -> v1::ReplaceEnvelopeResponse {
    v1::ReplaceEnvelopeResponse { envelope: rendered(replacement), already_replaced }
}

/// An envelope and some of its recipients.
pub(super) fn named(envelope_id: &str, recipient_ids: &[String]) -> Result<(EnvelopeId, Vec<RecipientId>), Status> {
    let mut faults = Faults::default();
    let id = faults.id("envelope_id", envelope_id);
    let recipients = ids(recipient_ids, "recipient_ids", Limits::ceiling().recipients_max, &mut faults);
    faults.finish()?;
    Ok((id, recipients))
}

/// A list of ids of bounded length.
fn ids<T: type_safe_id::StaticType>(
    given: &[String],
    path: &str,
    most: usize,
    faults: &mut Faults,
) -> Vec<type_safe_id::TypeSafeId<T>> {
    if given.len() > most {
        faults.add(path, format!("must not hold more than {most}"));
        return Vec::new();
    }
    given.iter().enumerate().map(|(index, id)| faults.id(format!("{path}[{index}]"), id)).collect()
}
