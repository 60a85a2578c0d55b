//! Endings that are not the recipients': the operator's void, and the draft in an ended envelope's place.

use chrono::TimeDelta;
use countersign::v1::envelope_service_client::EnvelopeServiceClient;
use countersign::v1::{
    ActorType, Cause, DiscardEnvelopeRequest, Envelope, EnvelopeStatus, EventType, FieldType, FieldValue, NewField,
    RecipientRole, RecipientStatus, ReplaceEnvelopeRequest, Routing, VoidEnvelopeRequest, field_value,
};
use countersign_test_support::client::{request, signature};
use countersign_test_support::service::OPERATOR_KEY;
use countersign_test_support::{Caller, Errors as _, Service};
use tonic::{Code, Request, Status};

use crate::steps::{
    ahead, count, entry, epoch, field, kinds, people, send, session, statuses, text_of, until_status, view,
};

async fn replace(sender: &Caller, id: &str) -> Result<(Envelope, bool), Status> {
    let request = ReplaceEnvelopeRequest { envelope_id: id.to_owned(), if_revision: 0, ..Default::default() };
    let answer = sender.envelopes().replace_envelope(request).await?.into_inner();
    Ok((answer.envelope.unwrap(), answer.already_replaced))
}

/// S3.40, C-8: the operator takes back what an account sent, and says for which account.
#[tokio::test(flavor = "multi_thread")]
async fn s3_40_the_operator_voids() {
    let service = Service::start().await;
    let (owner, stranger) = (service.account(true).await, service.account(true).await);
    let envelope = owner.create(request(2, Routing::Parallel, true)).await.unwrap();
    let foreign = service.operator(&stranger.account).void(&envelope.id, "").await.unwrap_err();
    assert_eq!((foreign.code(), foreign.reason().as_str()), (Code::NotFound, "NOT_FOUND"));
    let mut bare = Request::new(VoidEnvelopeRequest { envelope_id: envelope.id.clone(), ..Default::default() });
    bare.metadata_mut().insert("authorization", format!("Bearer {OPERATOR_KEY}").parse().unwrap());
    let bare = EnvelopeServiceClient::new(service.channel.clone()).void_envelope(bare).await.unwrap_err();
    assert_eq!((bare.code(), bare.reason().as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    for (account, reason) in [("", "PERMISSION_DENIED"), ("acc_1", "INVALID_FIELD")] {
        let status = service.operator(account).void(&envelope.id, "").await.unwrap_err();
        assert_eq!(status.reason(), reason, "{account}");
    }
    assert_eq!(owner.get(&envelope.id).await.unwrap(), envelope);

    let voided = service.operator(&owner.account).void(&envelope.id, "Abuse").await.unwrap();
    assert_eq!((voided.status(), voided.cause()), (EnvelopeStatus::Voided, Cause::Operator));
    assert_eq!(voided.void_reason, "Abuse");
    assert_eq!(statuses(&voided), [RecipientStatus::ReleasedByVoid; 2]);
    let history = owner.history(&envelope.id).await.unwrap();
    let last = history.last().unwrap();
    let event = last.event.clone().unwrap();
    let actor = event.actor.clone().unwrap();
    assert_eq!((event.r#type(), event.state.clone().unwrap().cause()), (EventType::EnvelopeVoided, Cause::Operator));
    assert_eq!((actor.r#type(), actor.id.as_str(), last.reason.as_str()), (ActorType::Operator, "", "Abuse"));
    let again = owner.void(&envelope.id, "").await.unwrap_err();
    assert_eq!((again.fact("current_state"), again.fact("cause")), ("VOIDED".into(), "OPERATOR".into()));
    // Voiding is theirs, and nothing else that the sender does; drafts are none of their business.
    let operator = service.operator(&owner.account);
    assert_eq!(operator.create(request(1, Routing::Parallel, true)).await.unwrap_err().reason(), "PERMISSION_DENIED");
    assert_eq!(replace(&operator, &envelope.id).await.unwrap_err().reason(), "PERMISSION_DENIED");
    let draft = owner.create(request(1, Routing::Parallel, false)).await.unwrap();
    assert_eq!(operator.void(&draft.id, "").await.unwrap_err().reason(), "INVALID_STATE_TRANSITION");
}

/// An envelope with an assistant, values of all kinds and everything that a sender can say of it.
async fn rich(service: &Service, sender: &Caller) -> Envelope {
    use RecipientRole::{Approver, Assistant, Cc, Signer};
    let mut new = people(&[Approver, Signer, Assistant, Cc], Routing::Sequential, true);
    new.recipients[2].assists_index = Some(1);
    new.recipients[3].copy_on_send = true;
    new.recipients[1].label = "Customer".into();
    new.message = "Please sign".into();
    new.external_reference = "PO-7".into();
    new.metadata.insert("order".into(), "7".into());
    new.watchers.push("w@example.com".into());
    new.delegations_max = 2;
    new.expires_at = Some(ahead(service, TimeDelta::days(10)));
    let value = Some(FieldValue { value: Some(field_value::Value::Text("2026".into())) });
    new.fields.push(NewField { value, read_only: true, ..field(FieldType::Text, 1, 4) });
    new.fields.push(field(FieldType::Text, 0, 5));
    sender.create(new).await.unwrap()
}

async fn approved(sender: &Caller, envelope: &Envelope) {
    let approver = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
    view(&approver).await.unwrap();
    let values = vec![entry(&envelope.fields[2].id, "Approved")];
    crate::steps::approve(&approver, envelope, values).await.unwrap();
}

/// The same people, documents and fields under other ids, and nothing that they did.
fn assert_copy(old: &Envelope, new: &Envelope) {
    assert_eq!((new.status(), new.revision, &new.replaces_envelope_id), (EnvelopeStatus::Draft, 1, &old.id));
    assert!(new.id != old.id && !new.requires_replacement && new.replaced_by_envelope_id.is_empty());
    assert!(new.dispatched_at.is_none() && new.sent_at.is_none() && new.void_reason.is_empty() && new.cause == 0);
    assert_eq!((&new.subject, &new.message, &new.metadata), (&old.subject, &old.message, &old.metadata));
    assert_eq!((&new.external_reference, new.delegations_max), (&old.external_reference, old.delegations_max));
    assert_eq!((new.routing, new.expiry_warning, new.livemode), (old.routing, old.expiry_warning, old.livemode));
    let emails = |envelope: &Envelope| envelope.watchers.iter().map(|it| it.email.clone()).collect::<Vec<_>>();
    assert_eq!(emails(new), emails(old));
    let place = |envelope: &Envelope, id: &str| envelope.recipients.iter().position(|other| other.id == id);
    for (one, other) in old.recipients.iter().zip(&new.recipients) {
        assert_ne!(one.id, other.id);
        assert_eq!((&one.name, &one.email, &one.label), (&other.name, &other.email, &other.label));
        assert_eq!((one.role, one.group, one.copy_on_send), (other.role, other.group, other.copy_on_send));
        assert_eq!(place(old, &one.assists_recipient_id), place(new, &other.assists_recipient_id));
        assert_eq!((other.status(), other.link_generation), (RecipientStatus::Waiting, 1));
        assert!(other.viewed_at.is_none() && other.signed_at.is_none() && other.decline.is_none());
    }
    for (one, other) in old.documents.iter().zip(&new.documents) {
        assert_ne!(one.id, other.id);
        assert_eq!((&one.name, &one.sha256, one.page_count), (&other.name, &other.sha256, other.page_count));
        assert!(other.artifacts.is_empty());
    }
    assert_eq!((old.recipients.len(), old.documents.len()), (new.recipients.len(), new.documents.len()));
    for (one, other) in old.fields.iter().zip(&new.fields) {
        assert_ne!(one.id, other.id);
        assert_eq!((one.r#type, one.placement, one.read_only), (other.r#type, other.placement, other.read_only));
        assert_eq!(place(old, &one.recipient_id), place(new, &other.recipient_id));
        assert_eq!(other.document_id, new.documents[0].id);
    }
    let values: Vec<_> = new.fields.iter().map(|field| text_of(field.value.as_ref())).collect();
    assert_eq!(values, ["", "2026", ""], "what the sender set stays, what people put in does not");
}

/// T-15, S2.17: from each unhappy end, once, linked both ways.
#[tokio::test(flavor = "multi_thread")]
async fn t15_an_ended_envelope_is_replaced_once() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    for end in [EnvelopeStatus::Declined, EnvelopeStatus::Voided, EnvelopeStatus::Expired] {
        let envelope = rich(&service, &sender).await;
        approved(&sender, &envelope).await;
        match end {
            EnvelopeStatus::Declined => {
                let signer = sender.signer_of(&envelope.id, &envelope.recipients[1].id).await.unwrap();
                signer.decline("The date is wrong").await.unwrap();
            }
            EnvelopeStatus::Voided => drop(sender.void(&envelope.id, "Wrong").await.unwrap()),
            _ => service.clock.advance(TimeDelta::days(10)),
        }
        let ended = until_status(&sender, &envelope.id, end).await;
        let owed = end == EnvelopeStatus::Declined;
        assert_eq!((ended.requires_replacement, ended.replacement_reason == "The date is wrong"), (owed, owed));
        let (draft, already) = replace(&sender, &envelope.id).await.unwrap();
        assert!(!already);
        assert_copy(&ended, &draft);
        assert_eq!(draft.expires_at, Some(ahead(&service, TimeDelta::days(10))), "as far ahead as the first one was");
        assert_eq!(sender.get(&draft.id).await.unwrap(), draft);
        assert_eq!(kinds(&sender, &draft.id).await, [EventType::EnvelopeCreated]);

        let left = sender.get(&envelope.id).await.unwrap();
        assert_eq!((left.status(), &left.replaced_by_envelope_id), (end, &draft.id));
        assert!(!left.requires_replacement && left.replacement_reason.is_empty());
        assert_eq!((left.cause, statuses(&left)), (ended.cause, statuses(&ended)), "as it ended");
        let history = sender.history(&envelope.id).await.unwrap();
        let told = history.iter().find(|it| it.event.as_ref().unwrap().r#type() == EventType::EnvelopeReplaced);
        assert_eq!(told.unwrap().replaced_by_envelope_id, draft.id);
        let (same, already) = replace(&sender, &envelope.id).await.unwrap();
        assert_eq!((same.id, already), (draft.id.clone(), true));
        assert_eq!(count(&sender, &envelope.id, EventType::EnvelopeReplaced).await, 1);
    }
}

/// T-15: the replacement lives a life of its own, and can be replaced in turn.
#[tokio::test(flavor = "multi_thread")]
async fn t15_a_replacement_is_sent_and_signed() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = rich(&service, &sender).await;
    let old = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
    sender.void(&envelope.id, "").await.unwrap();
    let (draft, _) = replace(&sender, &envelope.id).await.unwrap();
    let sent = send(&sender, &draft.id).await.unwrap();
    assert_eq!(sent.status(), EnvelopeStatus::Sent);
    assert_eq!(session(&old).await.unwrap_err().fact("current_state"), "VOIDED", "the old link stays dead");
    approved(&sender, &sent).await;
    let signer = sender.signer_of(&sent.id, &sent.recipients[1].id).await.unwrap();
    signer.signer().sign(signature(&sent)).await.unwrap();
    let done = until_status(&sender, &sent.id, EnvelopeStatus::Completed).await;
    assert_eq!(text_of(done.fields[1].value.as_ref()), "2026");
    // What it became is what a repeat returns; the completed one cannot be replaced.
    let (same, already) = replace(&sender, &envelope.id).await.unwrap();
    assert_eq!((same.id.as_str(), same.status(), already), (done.id.as_str(), EnvelopeStatus::Completed, true));
    let late = replace(&sender, &done.id).await.unwrap_err();
    assert_eq!((late.reason(), late.fact("current_state")), ("INVALID_STATE_TRANSITION".into(), "COMPLETED".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn t15_only_what_fell_through_is_replaced() {
    let service = Service::start().await;
    let (sender, stranger) = (service.account(false).await, service.account(false).await);
    let draft = sender.create(request(2, Routing::Parallel, false)).await.unwrap();
    let refused = replace(&sender, &draft.id).await.unwrap_err();
    assert_eq!((refused.reason(), refused.fact("current_state")), ("INVALID_STATE_TRANSITION".into(), "DRAFT".into()));
    let story = sender.story(2, Routing::Parallel).await;
    let id = story.envelope.id.as_str();
    for state in ["SENT", "PARTIALLY_SIGNED"] {
        let refused = replace(&sender, id).await.unwrap_err();
        assert_eq!((refused.code(), refused.fact("current_state").as_str()), (Code::FailedPrecondition, state));
        assert_eq!(refused.fact("attempted_transition"), "REPLACE");
        if state == "SENT" {
            story.signer(0).sign(&story.envelope).await.unwrap();
        }
    }
    sender.void(id, "").await.unwrap();
    assert_eq!(replace(&stranger, id).await.unwrap_err().reason(), "NOT_FOUND");
    let stale = ReplaceEnvelopeRequest { envelope_id: id.to_owned(), if_revision: 1, ..Default::default() };
    let stale = sender.envelopes().replace_envelope(stale).await.unwrap_err();
    assert_eq!((stale.code(), stale.reason().as_str()), (Code::Aborted, "REVISION_MISMATCH"));
    // Eight at once make one.
    let calls = (0..8).map(|_| replace(&sender, id));
    let answers: Vec<_> = futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|(envelope, _)| envelope.id == answers[0].0.id));
    assert_eq!(answers.iter().filter(|(_, already)| !already).count(), 1);
    assert_eq!(service.database.number("SELECT count(*) FROM envelope WHERE replaces IS NOT NULL").await, 1);
    // Thrown away, it is owed again.
    let lost = answers[0].0.id.clone();
    let discard = DiscardEnvelopeRequest { envelope_id: lost.clone(), if_revision: 0, ..Default::default() };
    sender.envelopes().discard_envelope(discard).await.unwrap();
    let (another, already) = replace(&sender, id).await.unwrap();
    assert!(another.id != lost && !already);
    assert_eq!(sender.get(id).await.unwrap().replaced_by_envelope_id, another.id);
}
