//! Sent but not on its way yet: an envelope that waits for its time or for its documents.

use chrono::TimeDelta;
use countersign::v1::{
    ActorType, Cause, DeclineChannel, DeclineRecipientRequest, DocumentSource, Envelope, EnvelopeChanges,
    EnvelopeStatus, EventType, ExtendEnvelopeRequest, IngestStatus, RecipientStatus, Routing, UpdateEnvelopeRequest,
    document_source,
};
use countersign_chassis::wire::timestamp;
use countersign_envelope::domain::command::{By, Command};
use countersign_envelope::domain::decide::Verdict;
use countersign_envelope::domain::envelope::Ingest;
use countersign_envelope::domain::event::Event;
use countersign_envelope::domain::id::EnvelopeId;
use countersign_envelope::domain::ingest::{FaultReason, IngestFault, Read, Reading};
use countersign_envelope::domain::record::seal;
use countersign_envelope::execute::{Ask, Executor, Fresh, new_id};
use countersign_envelope::store::{NewEnvelope, Scope};
use countersign_test_support::client::{pdf, request};
use countersign_test_support::{Caller, Errors as _, Service};
use prost_types::FieldMask;

use crate::steps::{ahead, early_token, epoch, executor, kinds, send, statuses, turn, until_status};

/// A command of the service's own.
async fn execute(executor: &Executor, sender: &Caller, id: &str, command: Command) -> Verdict {
    let scope = Scope::any_mode(sender.account.parse().unwrap());
    let ask = Ask { scope, id: id.parse().unwrap(), by: By::system(), command, expected: None, billing: None };
    executor.execute(ask, |_| true).await.unwrap().unwrap().answer
}

/// An envelope that is to be sent in a day, by a clock that stands still.
async fn scheduled() -> (Service, Caller, Envelope) {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let mut new = request(2, Routing::Sequential, true);
    new.scheduled_send_at = Some(ahead(&service, TimeDelta::days(1)));
    let pending = sender.create(new).await.unwrap();
    assert_eq!(pending.status(), EnvelopeStatus::Pending);
    (service, sender, pending)
}

/// S3.30, S3.34, S3.49: frozen at once, on its way at its time and not a microsecond earlier.
#[tokio::test(flavor = "multi_thread")]
async fn s3_30_a_scheduled_envelope_waits_for_its_time() {
    let (service, sender, pending) = scheduled().await;
    let id = pending.id.as_str();
    assert_eq!((pending.dispatched_at, pending.sent_at), (Some(timestamp(epoch())), None));
    assert_eq!(statuses(&pending), [RecipientStatus::Waiting; 2]);
    use EventType::*;
    assert_eq!(kinds(&sender, id).await, [EnvelopeCreated, EnvelopeDispatched]);
    let link = sender.signer_of(id, &pending.recipients[0].id).await.unwrap_err();
    assert_eq!((link.reason(), link.fact("current_state")), ("NOT_YOUR_TURN".into(), "PENDING".into()));
    let early = early_token(&service, &sender, &pending, 0).await;
    let sign = early.sign(&pending).await.unwrap_err();
    assert_eq!((sign.reason(), sign.fact("current_state")), ("NOT_YOUR_TURN".into(), "PENDING".into()));
    assert_eq!(sign.fact("allowed_transitions"), "DECLINE,VOID,REASSIGN,EXTEND");
    assert_eq!(early.decline("no").await.unwrap_err().reason(), "NOT_YOUR_TURN");
    assert!(turn(&sender, id).await.recipient_ids.is_empty());
    assert_eq!(send(&sender, id).await.unwrap_err().fact("current_state"), "PENDING");
    let update = UpdateEnvelopeRequest {
        envelope_id: id.to_owned(),
        changes: Some(EnvelopeChanges::default()),
        update_mask: Some(FieldMask { paths: vec!["scheduled_send_at".into()] }),
        if_revision: 0,
        ..Default::default()
    };
    let frozen = sender.envelopes().update_envelope(update).await.unwrap_err();
    assert_eq!(frozen.reason(), "INVALID_STATE_TRANSITION");

    let executor = executor(&service).await;
    service.clock.advance(TimeDelta::days(1) - TimeDelta::microseconds(1));
    assert_eq!(execute(&executor, &sender, id, Command::Release).await, Verdict::AlreadyDone, "not yet");
    assert_eq!(sender.get(id).await.unwrap(), pending);
    service.clock.advance(TimeDelta::microseconds(1));
    let sent = until_status(&sender, id, EnvelopeStatus::Sent).await;
    assert_eq!((sent.sent_at, sent.scheduled_send_at), (pending.scheduled_send_at, pending.scheduled_send_at));
    assert_eq!((sent.dispatched_at, sent.expires_at), (pending.dispatched_at, pending.expires_at));
    assert_eq!(statuses(&sent), [RecipientStatus::Released, RecipientStatus::Waiting]);
    let history = sender.history(id).await.unwrap();
    let events: Vec<_> = history.into_iter().map(|entry| entry.event.unwrap()).collect();
    assert!(events[2..].iter().all(|event| event.actor.as_ref().unwrap().r#type() == ActorType::System));
    assert_eq!(
        kinds(&sender, id).await,
        [EnvelopeCreated, EnvelopeDispatched, EnvelopeSent, RecipientReleased],
        "sent once"
    );
    assert_eq!(turn(&sender, id).await.recipient_ids, [sent.recipients[0].id.as_str()]);
    sender.signer_of(id, &sent.recipients[0].id).await.unwrap().sign(&sent).await.unwrap();
}

/// T-10, C-9: what is on its way can be taken back, though nobody was asked yet.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_pending_envelope_can_be_voided() {
    let (service, sender, pending) = scheduled().await;
    let voided = sender.void(&pending.id, "Too early").await.unwrap();
    assert_eq!((voided.status(), voided.cause()), (EnvelopeStatus::Voided, Cause::Sender));
    assert_eq!(statuses(&voided), [RecipientStatus::ReleasedByVoid; 2]);
    assert!(voided.recipients.iter().all(|recipient| recipient.released_at.is_none()));
    use EventType::*;
    assert_eq!(kinds(&sender, &pending.id).await, [EnvelopeCreated, EnvelopeDispatched, EnvelopeVoided]);
    // Its time comes and nothing happens.
    service.clock.advance(TimeDelta::days(2));
    let executor = executor(&service).await;
    assert_eq!(execute(&executor, &sender, &pending.id, Command::Release).await, Verdict::AlreadyDone);
    assert_eq!(sender.get(&pending.id).await.unwrap(), voided);
}

/// T-10, T-16.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_pending_envelope_can_be_declined_on_behalf() {
    let (_service, sender, pending) = scheduled().await;
    let decline = DeclineRecipientRequest {
        envelope_id: pending.id.clone(),
        recipient_id: pending.recipients[1].id.clone(),
        reason: "Not now".into(),
        ..DeclineRecipientRequest::default()
    };
    let answer = sender.envelopes().decline_recipient(decline).await.unwrap().into_inner();
    let declined = answer.envelope.unwrap();
    assert_eq!((declined.status(), declined.cause()), (EnvelopeStatus::Declined, Cause::SignatureRefused));
    assert_eq!(declined.ended_by_recipient_id, declined.recipients[1].id);
    assert_eq!(statuses(&declined), [RecipientStatus::ReleasedByDecline, RecipientStatus::Declined]);
    assert_eq!(declined.recipients[1].decline.as_ref().unwrap().channel(), DeclineChannel::OnBehalf);
    use EventType::*;
    let told = kinds(&sender, &pending.id).await;
    let expected = [
        EnvelopeCreated,
        EnvelopeDispatched,
        RecipientDeclined,
        EnvelopeDeclined,
        RecipientReleasedByDecline,
        EnvelopeArtifactReady,
    ];
    assert!(expected.starts_with(&told) && told.len() >= 5, "{told:?}");
}

/// A time that is past is now; one that is not before the deadline is a mistake.
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_lies_before_the_deadline() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let mut new = request(1, Routing::Parallel, true);
    new.scheduled_send_at = Some(ahead(&service, TimeDelta::days(-1)));
    let sent = sender.create(new.clone()).await.unwrap();
    assert_eq!((sent.status(), sent.scheduled_send_at), (EnvelopeStatus::Sent, new.scheduled_send_at));
    use EventType::*;
    assert_eq!(kinds(&sender, &sent.id).await, [EnvelopeCreated, EnvelopeSent, RecipientReleased]);

    new.expires_at = Some(ahead(&service, TimeDelta::days(2)));
    for days in [2, 3] {
        new.scheduled_send_at = Some(ahead(&service, TimeDelta::days(days)));
        let refused = sender.create(new.clone()).await.unwrap_err();
        assert_eq!((refused.reason(), refused.fact("attempted_transition")), incomplete());
    }
    new.send = false;
    let draft = sender.create(new.clone()).await.unwrap();
    let refused = send(&sender, &draft.id).await.unwrap_err();
    assert_eq!((refused.reason(), refused.fact("attempted_transition")), incomplete());
    assert!(!refused.fact("allowed_transitions").contains("SEND"));
    assert_eq!(sender.get(&draft.id).await.unwrap(), draft);
    // A microsecond before it is early enough.
    new.scheduled_send_at = Some(ahead(&service, TimeDelta::days(2) - TimeDelta::microseconds(1)));
    new.send = true;
    assert_eq!(sender.create(new).await.unwrap().status(), EnvelopeStatus::Pending);
}

fn incomplete() -> (String, String) {
    ("ENVELOPE_INCOMPLETE".into(), "SEND".into())
}

/// A draft of two documents that are still being read: a copy of one that was created whole.
async fn unread(service: &Service, sender: &Caller, executor: &Executor, schedule: Option<TimeDelta>) -> Envelope {
    let mut new = request(1, Routing::Parallel, false);
    let source = Some(document_source::Source::Content(pdf().into()));
    new.documents.push(DocumentSource { name: "annex.pdf".into(), source, ..Default::default() });
    new.scheduled_send_at = schedule.map(|by| ahead(service, by));
    let whole = sender.create(new).await.unwrap();
    let (store, scope) = (executor.store(), Scope::any_mode(sender.account.parse().unwrap()));
    let mut copy = store.envelope(scope, whole.id.parse().unwrap()).await.unwrap().unwrap();
    let now = copy.last_event_at;
    copy.id = EnvelopeId::from_uuid(new_id(now));
    (copy.sequence, copy.revision, copy.chain) = (0, 0, [0; 32]);
    for document in &mut copy.documents {
        (document.sha256, document.size_bytes, document.page_count) = ([0; 32], 0, 0);
        document.ingest = Ingest::Processing;
    }
    let recorded = seal(&mut copy, &[Event::Created], &By::system(), now, &mut Fresh(now));
    let new = NewEnvelope { envelope: copy.clone(), events: recorded, movement: None, kept: None };
    store.create(new).await.unwrap();
    let draft = sender.get(&copy.id.to_string()).await.unwrap();
    assert_eq!((draft.status(), draft.fields_status()), (EnvelopeStatus::Draft, IngestStatus::Processing));
    draft
}

async fn read(executor: &Executor, sender: &Caller, envelope: &Envelope, document: usize, ingest: Ingest) -> Verdict {
    let document = envelope.documents[document].id.parse().unwrap();
    let (sha256, size_bytes) = ([9; 32], 1_000);
    let read = Read { sha256, size_bytes, page_count: 2, original: None, fields: Vec::new(), fields_max: 200 };
    let reading = match ingest {
        Ingest::Failed => Reading::Failed(IngestFault::new(FaultReason::Unreadable, "the document has no pages")),
        Ingest::Processing | Ingest::Ready => Reading::Ready(Box::new(read)),
    };
    execute(executor, sender, &envelope.id, Command::Ingest { document, source: None, reading }).await
}

/// S1.55, S3.30: it waits until the last of its documents is ready.
#[tokio::test(flavor = "multi_thread")]
async fn s1_55_an_envelope_waits_for_its_documents() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let executor = executor(&service).await;
    let draft = unread(&service, &sender, &executor, None).await;
    let pending = send(&sender, &draft.id).await.unwrap();
    assert_eq!((pending.status(), pending.sent_at), (EnvelopeStatus::Pending, None));
    assert_eq!(read(&executor, &sender, &draft, 0, Ingest::Ready).await, Verdict::Done);
    let half = sender.get(&draft.id).await.unwrap();
    assert_eq!((half.status(), half.fields_status()), (EnvelopeStatus::Pending, IngestStatus::Processing));
    let states: Vec<_> = half.documents.iter().map(|document| document.ingest_status()).collect();
    assert_eq!(states, [IngestStatus::Ready, IngestStatus::Processing]);
    assert_eq!(read(&executor, &sender, &draft, 0, Ingest::Failed).await, Verdict::AlreadyDone, "it was read once");
    assert_eq!(read(&executor, &sender, &draft, 1, Ingest::Ready).await, Verdict::Done);
    let sent = sender.get(&draft.id).await.unwrap();
    assert_eq!((sent.status(), sent.fields_status()), (EnvelopeStatus::Sent, IngestStatus::Ready));
    use EventType::*;
    let told = kinds(&sender, &draft.id).await;
    let ready = EnvelopeDocumentReady;
    assert_eq!(told, [EnvelopeCreated, EnvelopeDispatched, ready, ready, EnvelopeSent, RecipientReleased]);
    let history = sender.history(&draft.id).await.unwrap();
    let state = history[2].event.as_ref().unwrap().state.clone().unwrap();
    let frozen: Vec<_> = state.documents.iter().map(|document| document.ingest_status()).collect();
    assert_eq!(frozen, states);
    sender.signer_of(&sent.id, &sent.recipients[0].id).await.unwrap().sign(&sent).await.unwrap();
}

/// A document that is none ends what waits for it; in a draft it only stands in the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_read_voids_what_waits_for_it() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let executor = executor(&service).await;
    let draft = unread(&service, &sender, &executor, None).await;
    send(&sender, &draft.id).await.unwrap();
    read(&executor, &sender, &draft, 0, Ingest::Ready).await;
    assert_eq!(read(&executor, &sender, &draft, 1, Ingest::Failed).await, Verdict::Done);
    let voided = sender.get(&draft.id).await.unwrap();
    assert_eq!((voided.status(), voided.cause()), (EnvelopeStatus::Voided, Cause::IngestFailed));
    assert_eq!((voided.fields_status(), voided.void_reason.as_str()), (IngestStatus::Failed, ""));
    assert_eq!(statuses(&voided), [RecipientStatus::ReleasedByVoid]);
    use EventType::*;
    let told = kinds(&sender, &draft.id).await;
    assert_eq!(
        told,
        [EnvelopeCreated, EnvelopeDispatched, EnvelopeDocumentReady, EnvelopeDocumentFailed, EnvelopeVoided]
    );
    let late = sender.void(&draft.id, "").await.unwrap_err();
    assert_eq!((late.fact("current_state"), late.fact("cause")), ("VOIDED".into(), "INGEST_FAILED".into()));

    let draft = unread(&service, &sender, &executor, None).await;
    read(&executor, &sender, &draft, 1, Ingest::Failed).await;
    read(&executor, &sender, &draft, 0, Ingest::Ready).await;
    let now = sender.get(&draft.id).await.unwrap();
    assert_eq!((now.status(), now.fields_status()), (EnvelopeStatus::Draft, IngestStatus::Failed));
    assert_eq!(send(&sender, &draft.id).await.unwrap_err().reason(), "ENVELOPE_INCOMPLETE");
}

/// Both must be true: the documents ready and the time come. And a deadline ends what still waits.
#[tokio::test(flavor = "multi_thread")]
async fn t10_time_and_documents_are_both_waited_for() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let executor = executor(&service).await;
    let day = TimeDelta::days(1);
    let first = unread(&service, &sender, &executor, Some(day)).await;
    let second = unread(&service, &sender, &executor, Some(day)).await;
    let third = unread(&service, &sender, &executor, Some(day)).await;
    for draft in [&first, &second, &third] {
        assert_eq!(send(&sender, &draft.id).await.unwrap().status(), EnvelopeStatus::Pending);
    }
    for document in [0, 1] {
        read(&executor, &sender, &first, document, Ingest::Ready).await;
    }
    let now = sender.get(&first.id).await.unwrap();
    assert_eq!((now.status(), now.fields_status()), (EnvelopeStatus::Pending, IngestStatus::Ready));
    service.clock.advance(day);
    until_status(&sender, &first.id, EnvelopeStatus::Sent).await;
    assert_eq!(execute(&executor, &sender, &second.id, Command::Release).await, Verdict::AlreadyDone);
    assert_eq!(sender.get(&second.id).await.unwrap().status(), EnvelopeStatus::Pending);
    for document in [0, 1] {
        read(&executor, &sender, &second, document, Ingest::Ready).await;
    }
    assert_eq!(sender.get(&second.id).await.unwrap().status(), EnvelopeStatus::Sent, "at once: its time has come");
    // A pending envelope can be extended, and expires all the same.
    let expires_at = Some(ahead(&service, TimeDelta::days(100)));
    let extend =
        ExtendEnvelopeRequest { envelope_id: third.id.clone(), expires_at, if_revision: 0, ..Default::default() };
    sender.envelopes().extend_envelope(extend).await.unwrap();
    service.clock.advance(TimeDelta::days(100));
    let expired = until_status(&sender, &third.id, EnvelopeStatus::Expired).await;
    assert_eq!((expired.cause(), expired.sent_at), (Cause::Deadline, None));
    assert_eq!(statuses(&expired), [RecipientStatus::ReleasedByExpiry]);
    read(&executor, &sender, &third, 0, Ingest::Ready).await;
    assert_eq!(sender.get(&third.id).await.unwrap(), expired);
}
