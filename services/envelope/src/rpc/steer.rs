//! What senders and the operator do to an envelope: read the request, execute.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::v1;
use countersign_chassis::problem::Problem;
use tonic::{Extensions, Request, Status};

use super::Handler;
use super::auth::{Owner, Sender, owner, sender};
use super::create::origin;
use super::fields::{Ground, fields};
use super::parse::{Faults, expected};
use super::people::person;
use super::source::source;
use super::status::{database, refused, too_many_fields, unavailable};
use super::terms::{changes, instant};
use crate::domain::command::{Assign, By, Command, Decline, Edit};
use crate::domain::decide::Verdict;
use crate::domain::envelope::Envelope;
use crate::domain::id::{EnvelopeId, FieldId, RecipientId};
use crate::domain::limits::{FIELDS_MAX, RECIPIENTS_MAX};
use crate::domain::recipient::Channel;
use crate::domain::routing::{current, needed, whose_turn};
use crate::execute::{Ask, Outcome, new_id};
use crate::store::Scope;

/// How long a read waits for a revision.
const REVISION_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const REVISION_POLL: Duration = Duration::from_millis(50);

/// A call of a sender, taken apart.
pub(super) struct Call<T> {
    pub sender: Sender,
    pub by: By,
    pub message: T,
}

impl Handler {
    /// The sender's call, or why not.
    pub(super) fn call<T>(&self, request: Request<T>) -> Result<Call<T>, Status> {
        let sender = sender(request.extensions())?;
        let by = By { actor: sender.actor(), source: source(&request, &self.0.trusted_peers) };
        Ok(Call { sender, by, message: request.into_inner() })
    }

    /// Executes a command and remembers what came of it.
    pub(super) async fn execute(
        &self,
        ask: Ask,
        may: impl Fn(&Envelope) -> bool + Send + Sync + 'static,
    ) -> Result<Outcome, Status> {
        let outcome = self.0.executor.execute(ask, may).await;
        let outcome = outcome.map_err(|error| database(&error))?.ok_or_else(|| Status::from(Problem::not_found()))?;
        // Also if nobody has looked at it yet: a look that began before the change must not hide it afterwards.
        self.0.cache.put(Arc::new(outcome.envelope.clone()), Instant::now());
        match &outcome.answer {
            Verdict::Done | Verdict::AlreadyDone => Ok(outcome),
            Verdict::Refused(refusal) => Err(refused(refusal, self.0.store.clock().now())),
        }
    }

    async fn command(
        &self,
        (scope, by): (Scope, By),
        id: EnvelopeId,
        if_revision: u64,
        command: Command,
    ) -> Result<Outcome, Status> {
        let ask = Ask { scope, id, by, command, expected: expected(if_revision) };
        self.execute(ask, |_| true).await
    }

    /// An envelope of the scope as it stands now, or NOT_FOUND.
    pub(super) async fn find(&self, scope: Scope, id: EnvelopeId) -> Result<Envelope, Status> {
        let found = self.0.store.envelope(scope, id).await.map_err(|error| database(&error))?;
        found.ok_or_else(|| Problem::not_found().into())
    }

    /// An envelope as fresh as asked for, and how old the answer is.
    pub(super) async fn fresh(
        &self,
        scope: Scope,
        id: EnvelopeId,
        cached: bool,
        min_revision: u64,
    ) -> Result<(Arc<Envelope>, Duration), Status> {
        let seen = if cached { self.0.cache.get(scope.account, id) } else { None };
        if let Some(seen) = seen
            && scope.livemode.is_none_or(|mode| mode == seen.envelope.livemode)
            && seen.envelope.revision >= min_revision
        {
            if seen.envelope.facts.discarded_at.is_some() {
                return Err(Problem::not_found().into());
            }
            return Ok((seen.envelope, seen.at.elapsed()));
        }
        let began = Instant::now();
        loop {
            let asked = Instant::now();
            let envelope = Arc::new(self.find(scope, id).await?);
            if envelope.revision >= min_revision {
                if cached || self.0.cache.knows(scope.account, id) {
                    self.0.cache.put(Arc::clone(&envelope), asked);
                }
                return Ok((envelope, Duration::ZERO));
            }
            if began.elapsed() >= REVISION_WAIT {
                let message = "The envelope has not reached `min_revision`.";
                let problem = Problem::new(v1::ErrorReason::RevisionNotReached, message);
                return Err(problem.with("revision", envelope.revision.to_string()).into());
            }
            tokio::time::sleep(REVISION_POLL).await;
        }
    }

    pub(super) async fn send(&self, request: Request<v1::SendEnvelopeRequest>) -> Result<Envelope, Status> {
        let Call { sender, by, message } = self.call(request)?;
        let id = super::parse::envelope_id(&message.envelope_id)?;
        Ok(self.command((sender.scope, by), id, message.if_revision, Command::Send).await?.envelope)
    }

    pub(super) async fn update(&self, request: Request<v1::UpdateEnvelopeRequest>) -> Result<Envelope, Status> {
        let Call { sender, by, message } = self.call(request)?;
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &message.envelope_id);
        let mask = message.update_mask.unwrap_or_default().paths;
        let given = message.changes.unwrap_or_default();
        let changes = changes(&given, &mask, self.0.store.clock().now(), &mut faults);
        faults.finish()?;
        let command = Command::Update(Edit::Terms(Box::new(changes)));
        Ok(self.command((sender.scope, by), id, message.if_revision, command).await?.envelope)
    }

    pub(super) async fn add_fields_to(&self, request: Request<v1::AddFieldsRequest>) -> Result<Envelope, Status> {
        let Call { sender, by, message } = self.call(request)?;
        if message.fields.len() > FIELDS_MAX {
            return Err(too_many_fields(message.fields.len()));
        }
        let mut faults = Faults::default();
        let id: EnvelopeId = faults.id("envelope_id", &message.envelope_id);
        if message.fields.is_empty() {
            faults.add("fields", "must hold at least one");
        }
        faults.finish()?;
        // Neither ids nor numbers of pages are lost while it is a draft; that it is one, and has them, shows at the lock.
        let draft = self.find(sender.scope, id).await?;
        let documents: Vec<_> = draft.documents.iter().map(|it| (it.id, Some(it.page_count))).collect();
        let ground = Ground { recipients: &draft.recipients, documents: &documents };
        let now = self.0.store.clock().now();
        let mut faults = Faults::default();
        let fields = fields(&message.fields, &ground, || FieldId::from_uuid(new_id(now)), &mut faults)?;
        faults.finish()?;
        let command = Command::Update(Edit::AddFields(fields));
        Ok(self.command((sender.scope, by), id, message.if_revision, command).await?.envelope)
    }

    pub(super) async fn remove_fields_from(
        &self,
        request: Request<v1::RemoveFieldsRequest>,
    ) -> Result<Envelope, Status> {
        let Call { sender, by, message } = self.call(request)?;
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &message.envelope_id);
        let ids: Vec<FieldId> = ids(&message.field_ids, "field_ids", FIELDS_MAX, &mut faults);
        if message.field_ids.is_empty() {
            faults.add("field_ids", "must hold at least one");
        }
        faults.finish()?;
        let command = Command::Update(Edit::RemoveFields(ids));
        Ok(self.command((sender.scope, by), id, message.if_revision, command).await?.envelope)
    }

    pub(super) async fn put_document(&self, request: Request<v1::ReplaceDocumentRequest>) -> Result<Envelope, Status> {
        let Call { sender, by, message } = self.call(request)?;
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &message.envelope_id);
        let document = faults.id("document_id", &message.document_id);
        let given = message.document.unwrap_or_default();
        let origin = origin(&given, "document", &mut faults);
        faults.finish()?;
        let read = self.0.document(sender, "document".to_owned(), document, origin, &given.name);
        let (document, content) = read.await?;
        if let Some(content) = content {
            self.0.blobs.put(content).await.map_err(|error| unavailable(&error))?;
        }
        let command = Command::Update(Edit::ReplaceDocument(document));
        Ok(self.command((sender.scope, by), id, message.if_revision, command).await?.envelope)
    }

    pub(super) async fn discard(&self, request: Request<v1::DiscardEnvelopeRequest>) -> Result<(), Status> {
        let Call { sender, by, message } = self.call(request)?;
        let id = super::parse::envelope_id(&message.envelope_id)?;
        self.command((sender.scope, by), id, message.if_revision, Command::Discard).await.map(drop)
    }

    pub(super) async fn void(&self, request: Request<v1::VoidEnvelopeRequest>) -> Result<Envelope, Status> {
        let Owner { scope, actor, cause } = owner(request.extensions())?;
        let by = By { actor, source: source(&request, &self.0.trusted_peers) };
        let message = request.into_inner();
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &message.envelope_id);
        let reason = faults.personal("reason", &message.reason);
        faults.finish()?;
        Ok(self.command((scope, by), id, message.if_revision, Command::Void { cause, reason }).await?.envelope)
    }

    pub(super) async fn extend(&self, request: Request<v1::ExtendEnvelopeRequest>) -> Result<Envelope, Status> {
        let Call { sender, by, message } = self.call(request)?;
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &message.envelope_id);
        let expires_at = message.expires_at.as_ref().and_then(instant).unwrap_or_else(|| {
            faults.add("expires_at", "must be a time");
            self.0.store.clock().now()
        });
        faults.finish()?;
        Ok(self.command((sender.scope, by), id, message.if_revision, Command::Extend { expires_at }).await?.envelope)
    }

    pub(super) async fn reassign(&self, request: Request<v1::ReassignRecipientRequest>) -> Result<Envelope, Status> {
        let Call { sender, by, message } = self.call(request)?;
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &message.envelope_id);
        let recipient = faults.id("recipient_id", &message.recipient_id);
        let person = person(message.person.as_ref(), &mut faults);
        let reason = faults.personal("reason", &message.reason);
        faults.finish()?;
        let command = Command::Reassign(Assign { recipient, person, reason });
        Ok(self.command((sender.scope, by), id, message.if_revision, command).await?.envelope)
    }

    /// The envelope, and to whom the invitation goes out again.
    pub(super) async fn resend(
        &self,
        request: Request<v1::ResendEnvelopeRequest>,
    ) -> Result<(Envelope, Vec<RecipientId>), Status> {
        let Call { sender, by, message } = self.call(request)?;
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &message.envelope_id);
        let recipients = ids(&message.recipient_ids, "recipient_ids", RECIPIENTS_MAX, &mut faults);
        faults.finish()?;
        let command = Command::Resend { recipients, rotate: message.rotate };
        let outcome = self.command((sender.scope, by), id, message.if_revision, command).await?;
        let envelope = outcome.envelope;
        let now = |other: &&crate::domain::recipient::Recipient| other.invited_at == Some(envelope.last_event_at);
        let sent = envelope.recipients.iter().filter(now).map(|other| other.id).collect();
        Ok((envelope, sent))
    }

    /// The envelope in an ended one's place, and whether it had been there before.
    pub(super) async fn replace(
        &self,
        request: Request<v1::ReplaceEnvelopeRequest>,
    ) -> Result<(Envelope, bool), Status> {
        let Call { sender, by, message } = self.call(request)?;
        let id = super::parse::envelope_id(&message.envelope_id)?;
        let mut lost = None;
        loop {
            let draft = EnvelopeId::from_uuid(new_id(self.0.store.clock().now()));
            let command = Command::Replace { by: draft, lost };
            let outcome = self.command((sender.scope, by.clone()), id, message.if_revision, command).await?;
            let already = outcome.answer == Verdict::AlreadyDone;
            let replacement = outcome.envelope.replaced_by.ok_or_else(|| Status::from(Problem::internal()))?;
            let found = self.0.store.envelope(sender.scope, replacement).await.map_err(|error| database(&error))?;
            match found {
                Some(envelope) => return Ok((envelope, already)),
                // The draft that was made before has been thrown away: another is owed.
                None => lost = Some(replacement),
            }
        }
    }

    /// The envelope, and whether the recipient had refused before.
    pub(super) async fn decline_for(
        &self,
        request: Request<v1::DeclineRecipientRequest>,
    ) -> Result<(Envelope, bool), Status> {
        let Call { sender, by, message } = self.call(request)?;
        let mut faults = Faults::default();
        let id = faults.id("envelope_id", &message.envelope_id);
        let recipient = faults.id("recipient_id", &message.recipient_id);
        let reason = faults.personal("reason", &message.reason);
        let note = faults.personal("evidence_note", &message.evidence_note);
        faults.finish()?;
        let correction = EnvelopeId::from_uuid(new_id(self.0.store.clock().now()));
        let decline = Decline { recipient, channel: Channel::OnBehalf, reason, note, correction };
        let command = Command::Decline(decline);
        let outcome = self.command((sender.scope, by), id, message.if_revision, command).await?;
        Ok((outcome.envelope, outcome.answer == Verdict::AlreadyDone))
    }

    pub(super) async fn turn(
        &self,
        extensions: &Extensions,
        request: &v1::WhoseTurnRequest,
    ) -> Result<v1::WhoseTurnResponse, Status> {
        let scope = super::auth::overview(extensions)?;
        let envelope = self.find(scope, super::parse::envelope_id(&request.envelope_id)?).await?;
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
