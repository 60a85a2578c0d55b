//! CreateEnvelope: everything is checked before anything is kept.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use countersign::v1;
use countersign_chassis::failpoint;
use countersign_chassis::problem::Problem;
use futures_util::future::try_join_all;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::auth::Sender;
use super::documents::{Content, Named, Origin, Taken};
use super::envelope::rendered;
use super::fields::{Ground, fields, pages as off_pages};
use super::parse::Faults;
use super::people::recipients;
use super::status::{database, insufficient, refused, too_many_fields, unavailable};
use super::steer::Call;
use super::terms::{deadline, retention_days, terms};
use super::upload::over_limit;
use super::{Context, Handler};
use crate::domain::account::Permission;
use crate::domain::command::Command;
use crate::domain::credit::settle;
use crate::domain::decide::{Verdict, decide};
use crate::domain::envelope::{Digest, Document, Envelope};
use crate::domain::event::Event;
use crate::domain::id::{DocumentId, EnvelopeId, FieldId};
use crate::domain::keeping::{Keeping, Retention};
use crate::domain::limits::Limits;
use crate::domain::record::seal;
use crate::domain::status::Facts;
use crate::execute::{Fresh, new_id};
use crate::removal::restore;
use crate::store::{DatabaseError, NewEnvelope, is_condemned, is_insufficient};

/// How often a new envelope is stored whose bytes are being removed.
const TRIES_MAX: u32 = 4;

impl Handler {
    pub(super) async fn create(
        &self,
        request: Request<v1::CreateEnvelopeRequest>,
    ) -> Result<Response<v1::CreateEnvelopeResponse>, Status> {
        let (sender, call) = self.call(request)?;
        if call.message.send {
            sender.require(Permission::EnvelopesSend)?;
        }
        self.once(call.claimed.as_ref(), self.created(&sender, &call)).await
    }

    async fn created(
        &self,
        sender: &Sender,
        call: &Call<v1::CreateEnvelopeRequest>,
    ) -> Result<v1::CreateEnvelopeResponse, Status> {
        let (context, request) = (&self.0, &call.message);
        let now = context.store.clock().now();
        limits(request, &call.limits)?;
        let mut faults = Faults::within(&call.limits);
        let mut envelope = draft(context, sender, request, now, &mut faults);
        let origins = origins(context, &request.documents, now, &mut faults);
        let documents: Vec<_> = origins.iter().map(|(id, _)| (*id, None)).collect();
        let ground = Ground { recipients: &envelope.recipients, documents: &documents };
        let id = || FieldId::from_uuid(new_id(now));
        envelope.fields = fields(&request.fields, &ground, id, &mut faults)?;
        quorums(&envelope, &mut faults);
        faults.finish()?;
        let named = origins.into_iter().zip(&request.documents).enumerate().map(|(index, ((id, origin), given))| {
            let named = Named { path: format!("documents[{index}]"), id, origin, given };
            context.document((call.scope, &call.limits), named, &envelope.recipients)
        });
        let taken = try_join_all(named).await?;
        let contents = put_in(&mut envelope, taken, call.limits.fields_max)?;
        let mut events = vec![Event::Created];
        if request.send {
            let decision = decide(&envelope, &Command::Send, None, now);
            if let Verdict::Refused(refusal) = &decision.verdict {
                return Err(refused(refusal, now));
            }
            events.extend(decision.events);
        }
        let events = seal(&mut envelope, &events, &call.by, now, &mut Fresh(now));
        context.put(&contents).await.map_err(|error| unavailable(&error))?;
        let billing = &sender.account.settings.billing;
        let movement = settle(None, &mut envelope, Some(billing), now);
        let reply = v1::CreateEnvelopeResponse { envelope: rendered(&envelope) };
        let kept = call.claimed.as_ref().map(|claimed| (claimed.once.clone(), reply.encode_to_vec()));
        let created = context.insert(NewEnvelope { envelope, events, movement, kept }, &contents).await?;
        created
            .map_err(|error| if is_insufficient(&error) { insufficient(billing.price) } else { database(&error) })?;
        Ok(reply)
    }
}

impl Context {
    /// Stores a new envelope; where its bytes were just being removed, after storing them again.
    async fn insert(&self, new: NewEnvelope, contents: &[Content]) -> Result<Result<(), DatabaseError>, Status> {
        let (new, mut tries) = (Arc::new(new), 1);
        loop {
            match self.store.create(Arc::clone(&new)).await {
                Err(error) if is_condemned(&error) && tries < TRIES_MAX => {
                    self.keep(contents).await?;
                    tries += 1;
                }
                // An upload of which nobody has the bytes any more is none.
                Err(error) if is_condemned(&error) => return Err(Problem::not_found().into()),
                created => return Ok(created),
            }
        }
    }

    /// Stores bytes, also such as are just being removed.
    pub(super) async fn keep(&self, contents: &[Content]) -> Result<(), Status> {
        let digests: Vec<Digest> = contents.iter().map(Content::sha256).collect();
        let kept = restore(&self.store, &digests, self.put(contents)).await;
        failpoint!("bytes.stored");
        kept.map_err(|error| unavailable(&error))
    }

    /// Stores bytes, one after the other.
    async fn put(&self, contents: &[Content]) -> anyhow::Result<()> {
        for content in contents {
            self.blobs.put(content.bytes().await?).await?;
        }
        Ok(())
    }
}

fn limits(request: &v1::CreateEnvelopeRequest, limits: &Limits) -> Result<(), Status> {
    for (path, limit, actual, allowed) in [
        ("recipients", "recipients_max", request.recipients.len(), limits.recipients_max),
        ("documents", "documents_max", request.documents.len(), limits.documents_max),
        ("fields", "fields_max", request.fields.len(), limits.fields_max),
        ("quorums", "recipients_max", request.quorums.len(), limits.recipients_max),
    ] {
        if actual > allowed {
            let message = format!("{path}: {actual} are more than the {allowed} that an envelope may have");
            return Err(over_limit(path, limit, actual, allowed, &message));
        }
    }
    Ok(())
}

/// A draft's recipients stay, so its quorums must fit them from the beginning.
fn quorums(envelope: &Envelope, faults: &mut Faults) {
    for (index, quorum) in envelope.terms.quorums.iter().enumerate() {
        let gating = envelope.recipients.iter().filter(|other| other.role.gates() && other.group == quorum.group);
        let members = gating.count();
        if !(1..=members).contains(&quorum.needed.into()) {
            faults.add(format!("quorums[{index}].needed"), format!("must be 1 to {members}: as many as can act"));
        }
    }
}

/// The envelope without documents and fields.
fn draft(
    context: &Context,
    sender: &Sender,
    request: &v1::CreateEnvelopeRequest,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Envelope {
    let terms = terms(request, &sender.account.settings, now, faults);
    Envelope {
        account: sender.scope.account,
        id: EnvelopeId::from_uuid(new_id(now)),
        livemode: sender.livemode,
        revision: 0,
        sequence: 0,
        chain: [0; 32],
        last_event_at: now,
        facts: Facts::created(now),
        expires_at: deadline(request.expires_at.as_ref(), "expires_at", now, faults),
        warned_at: None,
        end: None,
        void_reason: None,
        requires_replacement: false,
        replaces: None,
        replaced_by: None,
        charge: None,
        keeping: Keeping::new(Retention {
            days: retention_days(request.retention_days, "", &sender.account.settings, faults),
            ..sender.account.settings.retention
        }),
        recipients: recipients(&context.keyring, &request.recipients, terms.routing, now, faults),
        documents: Vec::new(),
        fields: Vec::new(),
        terms,
    }
}

fn origins(
    context: &Context,
    given: &[v1::DocumentSource],
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Vec<(DocumentId, Origin)> {
    if given.is_empty() {
        faults.add("documents", "must name at least one");
    }
    let mut origins = Vec::new();
    for (index, document) in given.iter().enumerate() {
        let origin = context.origin(document, &format!("documents[{index}]"), faults);
        origins.push((DocumentId::from_uuid(new_id(now)), origin));
    }
    origins
}

/// Puts in the documents with the fields that their markers made, and gives back the bytes that are still to be kept.
fn put_in(envelope: &mut Envelope, taken: Vec<Taken>, fields_max: usize) -> Result<Vec<Content>, Status> {
    let mut contents = Vec::new();
    for Taken { document, contents: own, fields } in taken {
        envelope.documents.push(document);
        envelope.fields.extend(fields.unwrap_or_default());
        contents.extend(own);
    }
    if envelope.fields.len() > fields_max {
        return Err(too_many_fields(envelope.fields.len(), fields_max));
    }
    let pages = |document: &Document| (document.id, document.is_read().then_some(document.page_count));
    let known: Vec<_> = envelope.documents.iter().map(pages).collect();
    let mut faults = Faults::default();
    off_pages(&envelope.fields, &known, &mut faults);
    faults.finish()?;
    Ok(contents)
}
