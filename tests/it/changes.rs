//! What can still be changed about an envelope that is on its way: who is asked, and that they are asked again.

use std::time::Duration;

use chrono::TimeDelta;
use countersign::v1::{
    ActorType, DeclineRecipientRequest, DelegateSigningRequest, Envelope, EnvelopeStatus, EventType,
    ExtendEnvelopeRequest, HistoryEntry, NewField, Person, ReassignRecipientRequest, RecipientRole, RecipientStatus,
    ResendEnvelopeRequest, ResendEnvelopeResponse, Routing, SendEnvelopeRequest, SignerServiceDownloadDocumentRequest,
    VoidEnvelopeRequest,
};
use countersign_chassis::wire::timestamp;
use countersign_test_support::client::{request, signature};
use countersign_test_support::{Caller, Errors as _, Service};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::steps::{
    ahead, count, early_token, entry, epoch, field, fill, kinds, people, send, session, statuses, text_of,
    until_status, view,
};

fn person(name: &str, email: &str) -> Person {
    Person { name: name.into(), email: email.into(), ..Default::default() }
}

async fn reassign(sender: &Caller, envelope: &Envelope, index: usize, to: Person) -> Result<Envelope, Status> {
    let request = ReassignRecipientRequest {
        envelope_id: envelope.id.clone(),
        recipient_id: envelope.recipients[index].id.clone(),
        person: Some(to),
        reason: "Left the company".into(),
        if_revision: 0,
        ..Default::default()
    };
    Ok(sender.envelopes().reassign_recipient(request).await?.into_inner().envelope.unwrap())
}

async fn delegate(signer: &Caller, to: Person) -> Result<(), Status> {
    let request = DelegateSigningRequest { person: Some(to), reason: "On leave".into(), ..Default::default() };
    signer.signer().delegate_signing(request).await.map(drop)
}

async fn resend(sender: &Caller, id: &str, to: &[&str], rotate: bool) -> Result<ResendEnvelopeResponse, Status> {
    let recipient_ids = to.iter().map(|id| (*id).to_owned()).collect();
    let request = ResendEnvelopeRequest {
        envelope_id: id.to_owned(),
        recipient_ids,
        rotate,
        if_revision: 0,
        ..Default::default()
    };
    Ok(sender.envelopes().resend_envelope(request).await?.into_inner())
}

async fn link(sender: &Caller, envelope: &Envelope, index: usize) -> Caller {
    sender.signer_of(&envelope.id, &envelope.recipients[index].id).await.unwrap()
}

/// A dead link gets NOT_FOUND from every call, whatever is wrong with it.
async fn assert_dead(token: &Caller, envelope: &Envelope) {
    let read = SignerServiceDownloadDocumentRequest::default();
    let answers = [
        session(token).await.map(drop),
        token.signer().download_document(read).await.map(drop),
        view(token).await.map(drop),
        token.sign(envelope).await,
        token.decline("no").await.map(drop),
        delegate(token, person("Other", "other@example.com")).await,
    ];
    for (index, answer) in answers.into_iter().enumerate() {
        let status = answer.expect_err(&format!("call {index}"));
        assert_eq!((status.code(), status.reason().as_str()), (Code::NotFound, "NOT_FOUND"), "call {index}");
    }
}

fn assert_handed_over(entry: &HistoryEntry, kind: EventType, reason: &str) {
    assert_eq!(entry.event.as_ref().unwrap().r#type(), kind);
    assert_eq!(entry.before, Some(person("Signer 0", "signer0@example.com")));
    assert_eq!(entry.after, Some(person("Grace Hopper", "grace@example.com")));
    assert_eq!((entry.reason.as_str(), entry.link_rotated), (reason, true));
}

/// T-24, T-25: the old link is dead at once, the new one does all; the history keeps both persons.
#[tokio::test(flavor = "multi_thread")]
async fn t25_a_reassigned_place_is_somebody_elses_at_once() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.create(request(2, Routing::Parallel, true)).await.unwrap();
    let old = link(&sender, &envelope, 0).await;
    view(&old).await.unwrap();
    let now = reassign(&sender, &envelope, 0, person(" Grace Hopper ", "grace@example.com")).await.unwrap();
    let place = &now.recipients[0];
    assert_eq!((place.name.as_str(), place.email.as_str()), ("Grace Hopper", "grace@example.com"));
    assert_eq!((&place.id, place.status()), (&envelope.recipients[0].id, RecipientStatus::Released));
    assert_eq!((envelope.recipients[0].link_generation, place.link_generation), (1, 2));
    assert_eq!((place.viewed_at, place.delegations), (None, 0), "all begins anew");
    assert_eq!(place.released_at, place.invited_at);
    assert_ne!(place.invited_at, envelope.recipients[0].invited_at, "invited anew");
    assert_eq!((now.recipients[1].link_generation, now.fields == envelope.fields), (1, true));
    assert_dead(&old, &envelope).await;

    let history = sender.history(&envelope.id).await.unwrap();
    let last = history.last().unwrap();
    assert_handed_over(last, EventType::RecipientReassigned, "Left the company");
    let event = last.event.as_ref().unwrap();
    assert_eq!((event.actor.as_ref().unwrap().r#type(), &event.recipient_id), (ActorType::Sender, &place.id));
    let new = link(&sender, &envelope, 0).await;
    assert_ne!(new.token, old.token);
    assert_eq!(session(&new).await.unwrap().recipient.unwrap().name, "Grace Hopper");
    view(&new).await.unwrap();
    new.sign(&sender.get(&envelope.id).await.unwrap()).await.unwrap();
    assert_dead(&old, &envelope).await;
    let signed = sender.get(&envelope.id).await.unwrap();
    assert_eq!(text_of(signed.fields[0].value.as_ref()), "Grace Hopper", "signed with their own name");
    assert_eq!(count(&sender, &envelope.id, EventType::RecipientViewed).await, 2);

    // Who has acted stays.
    let late = reassign(&sender, &envelope, 0, person("Third", "third@example.com")).await.unwrap_err();
    assert_eq!((late.code(), late.reason().as_str()), (Code::FailedPrecondition, "ALREADY_ACTED"));
    assert_eq!(late.fact("attempted_transition"), "REASSIGN");
    link(&sender, &envelope, 1).await.sign(&envelope).await.unwrap();
    until_status(&sender, &envelope.id, EnvelopeStatus::Completed).await;
    let over = reassign(&sender, &envelope, 0, person("Third", "third@example.com")).await.unwrap_err();
    assert_eq!((over.reason(), over.fact("current_state")), ("INVALID_STATE_TRANSITION".into(), "COMPLETED".into()));
}

/// Before their turn, and in a draft: nobody is invited yet, and the first link that there was is dead all the same.
#[tokio::test(flavor = "multi_thread")]
async fn t24_a_place_is_reassigned_before_its_turn() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let draft = sender.create(request(2, Routing::Sequential, false)).await.unwrap();
    let changed = reassign(&sender, &draft, 0, person("Grace Hopper", "grace@example.com")).await.unwrap();
    assert_eq!((changed.status(), changed.recipients[0].link_generation), (EnvelopeStatus::Draft, 2));
    let envelope = send(&sender, &draft.id).await.unwrap();
    let old = early_token(&service, &sender, &envelope, 1).await;
    assert_eq!(session(&old).await.unwrap_err().reason(), "NOT_YOUR_TURN");
    let now = reassign(&sender, &envelope, 1, person("Ada", "ada@example.com")).await.unwrap();
    let place = &now.recipients[1];
    assert_eq!((place.status(), place.invited_at, place.link_generation), (RecipientStatus::Waiting, None, 2));
    assert_dead(&old, &envelope).await;
    link(&sender, &now, 0).await.sign(&now).await.unwrap();
    assert_dead(&old, &envelope).await;
    link(&sender, &now, 1).await.sign(&now).await.unwrap();
    until_status(&sender, &envelope.id, EnvelopeStatus::Completed).await;
    for (to, field) in [
        (person("", "ada@example.com"), "person.name"),
        (person("Ada", "ada"), "person.email"),
        (person("Ada", "Ada <ada@example.com>"), "person.email"),
    ] {
        assert_eq!(reassign(&sender, &draft, 0, to).await.unwrap_err().fields(), [field]);
    }
    let request = ReassignRecipientRequest {
        envelope_id: draft.id.clone(),
        recipient_id: "rcp_01h455vb4pex5vsknk084sn02q".into(),
        person: Some(person("Ada", "ada@example.com")),
        ..ReassignRecipientRequest::default()
    };
    let unknown = sender.envelopes().reassign_recipient(request.clone()).await.unwrap_err();
    assert_eq!(unknown.reason(), "NOT_FOUND");
    let nobody = ReassignRecipientRequest { person: None, ..request };
    assert_eq!(sender.envelopes().reassign_recipient(nobody).await.unwrap_err().fields(), ["person"]);
}

/// T-24: the old token's signature and the reassignment at once: one of them happens.
#[tokio::test(flavor = "multi_thread")]
async fn t24_reassign_against_sign_has_one_winner() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut signatures = 0;
    for round in 0..50 {
        let envelope = sender.create(request(2, Routing::Parallel, true)).await.unwrap();
        let old = link(&sender, &envelope, 0).await;
        let to = person("Grace Hopper", "grace@example.com");
        // Neither is always the first to be polled.
        let (sign, reassigned) = if round % 2 == 0 {
            tokio::join!(old.sign(&envelope), reassign(&sender, &envelope, 0, to))
        } else {
            let (reassigned, sign) = tokio::join!(reassign(&sender, &envelope, 0, to), old.sign(&envelope));
            (sign, reassigned)
        };
        let now = sender.get(&envelope.id).await.unwrap();
        match (sign, reassigned) {
            (Ok(()), Err(lost)) => {
                assert_eq!(lost.reason(), "ALREADY_ACTED");
                assert_eq!(
                    (now.recipients[0].status(), now.recipients[0].link_generation),
                    (RecipientStatus::Signed, 1)
                );
                assert_eq!(now.recipients[0].name, "Signer 0");
                signatures += 1;
            }
            (Err(lost), Ok(_)) => {
                assert_eq!(lost.reason(), "NOT_FOUND");
                assert_eq!(
                    (now.recipients[0].status(), now.recipients[0].link_generation),
                    (RecipientStatus::Released, 2)
                );
                assert_eq!(count(&sender, &envelope.id, EventType::RecipientSigned).await, 0);
            }
            both => panic!("round {round}: {both:?}"),
        }
        assert_eq!(now.revision, 2);
    }
    eprintln!("{signatures} of 50 rounds were won by the signature");
}

/// T-24: off unless the sender allows it, then as often as they allow, and never to somebody who has a place already.
#[tokio::test(flavor = "multi_thread")]
async fn t24_a_place_is_passed_on_as_often_as_allowed() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let to = || person("Grace Hopper", "grace@example.com");
    let closed = sender.create(request(1, Routing::Parallel, true)).await.unwrap();
    let refused = delegate(&link(&sender, &closed, 0).await, to()).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::PermissionDenied, "DELEGATION_NOT_ALLOWED"));
    assert_eq!(refused.fact("attempted_transition"), "DELEGATE");
    assert!(!refused.fact("allowed_transitions").contains("DELEGATE"));

    let mut new = request(2, Routing::Parallel, true);
    new.delegations_max = 1;
    let envelope = sender.create(new).await.unwrap();
    let old = link(&sender, &envelope, 0).await;
    for email in ["signer1@example.com", "SIGNER1@EXAMPLE.COM", "signer0@example.com"] {
        let refused = delegate(&old, person("Somebody", email)).await.unwrap_err();
        assert_eq!((refused.reason().as_str(), refused.fields()), ("INVALID_FIELD", vec!["person.email".to_owned()]));
        assert!(!refused.message().contains('@'));
    }
    assert_eq!(sender.get(&envelope.id).await.unwrap(), envelope);
    view(&old).await.unwrap();
    delegate(&old, to()).await.unwrap();
    assert_dead(&old, &envelope).await;
    let now = sender.get(&envelope.id).await.unwrap();
    let place = &now.recipients[0];
    assert_eq!((place.name.as_str(), place.delegations, place.link_generation), ("Grace Hopper", 1, 2));
    assert_eq!((place.status(), place.viewed_at), (RecipientStatus::Released, None));
    let history = sender.history(&envelope.id).await.unwrap();
    assert_handed_over(history.last().unwrap(), EventType::RecipientDelegated, "On leave");
    let actor = history.last().unwrap().event.clone().unwrap().actor.unwrap();
    assert_eq!((actor.r#type(), &actor.id), (ActorType::Recipient, &place.id));

    // Once is once, for this place.
    let new = link(&sender, &envelope, 0).await;
    let again = delegate(&new, person("Third", "third@example.com")).await.unwrap_err();
    assert_eq!(again.reason(), "DELEGATION_NOT_ALLOWED");
    delegate(&link(&sender, &envelope, 1).await, person("Third", "third@example.com")).await.unwrap();
    new.sign(&sender.get(&envelope.id).await.unwrap()).await.unwrap();
    let late = delegate(&new, person("Fourth", "fourth@example.com")).await.unwrap_err();
    assert_eq!(late.reason(), "ALREADY_ACTED");
    assert!(!link(&sender, &envelope, 1).await.decline("no").await.unwrap());
    assert_eq!(count(&sender, &envelope.id, EventType::RecipientDelegated).await, 2);
}

/// What an assistant filled in stays when the signer changes, and is shown to the new one.
#[tokio::test(flavor = "multi_thread")]
async fn t20_a_reassigned_signer_keeps_their_assistant() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = people(&[RecipientRole::Signer, RecipientRole::Assistant], Routing::Parallel, true);
    new.recipients[1].assists_index = Some(0);
    new.fields.push(NewField { required: true, ..field(countersign::v1::FieldType::Text, 0, 4) });
    let envelope = sender.create(new).await.unwrap();
    let helper = link(&sender, &envelope, 1).await;
    fill(&helper, vec![entry(&envelope.fields[1].id, "Director")]).await.unwrap();
    reassign(&sender, &envelope, 0, person("Grace Hopper", "grace@example.com")).await.unwrap();
    let hand = link(&sender, &envelope, 0).await;
    let shown = session(&hand).await.unwrap();
    assert_eq!(text_of(shown.fields[1].value.as_ref()), "Director");
    assert_eq!(session(&helper).await.unwrap().fields, shown.fields);
    let mut act = signature(&envelope);
    act.seen_revision = shown.revision;
    hand.signer().sign(act).await.unwrap();
}

/// Two signers in order and a reader, by a clock that stands still.
async fn waiting() -> (Service, Caller, Envelope) {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    use RecipientRole::{Cc, Signer};
    let mut new = people(&[Signer, Signer, Cc], Routing::Sequential, true);
    new.recipients[2].copy_on_send = true;
    let envelope = sender.create(new).await.unwrap();
    (service, sender, envelope)
}

/// S3.58 to S3.60, T-40: an hour apart, to those who owe something, and nothing else changes.
#[tokio::test(flavor = "multi_thread")]
async fn s3_59_an_invitation_goes_out_again_after_an_hour() {
    let (service, sender, envelope) = waiting().await;
    let id = envelope.id.as_str();
    let first = envelope.recipients[0].id.as_str();
    let token = link(&sender, &envelope, 0).await;
    service.clock.advance(TimeDelta::minutes(59));
    for to in [vec![first], vec![]] {
        let soon = resend(&sender, id, &to, false).await.unwrap_err();
        assert_eq!((soon.code(), soon.reason().as_str()), (Code::ResourceExhausted, "RESEND_TOO_SOON"));
        let retry = soon.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(retry, Duration::from_secs(60));
        assert!(!soon.fact("allowed_transitions").contains("RESEND"));
    }
    service.clock.advance(TimeDelta::minutes(1));
    let answer = resend(&sender, id, &[], false).await.unwrap();
    assert_eq!(answer.recipient_ids, [first], "neither the next signer nor the copy");
    let now = answer.envelope.unwrap();
    assert_eq!((now.status(), now.expires_at, now.revision), (envelope.status(), envelope.expires_at, 2));
    assert_eq!(statuses(&now), statuses(&envelope));
    let place = &now.recipients[0];
    assert_eq!((place.invited_at, place.released_at), (Some(timestamp(service.clock.now())), envelope.sent_at));
    assert_eq!(place.link_generation, 1);
    assert_eq!(link(&sender, &envelope, 0).await.token, token.token, "the same link");
    let history = sender.history(id).await.unwrap();
    let last = history.last().unwrap();
    assert_eq!((last.event.as_ref().unwrap().r#type(), last.link_rotated), (EventType::RecipientResent, false));
    assert_eq!(last.event.as_ref().unwrap().recipient_id, first);
    // The hour begins anew.
    let soon = resend(&sender, id, &[first], true).await.unwrap_err();
    assert_eq!(soon.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(3600)));
    service.clock.advance(TimeDelta::hours(1));
    let rotated = resend(&sender, id, &[first], true).await.unwrap().envelope.unwrap();
    assert_eq!(rotated.recipients[0].link_generation, 2);
    assert_dead(&token, &envelope).await;
    assert!(sender.history(id).await.unwrap().last().unwrap().link_rotated);
    assert_eq!(count(&sender, id, EventType::RecipientResent).await, 2);
    link(&sender, &envelope, 0).await.sign(&envelope).await.unwrap();
}

/// S3.59, T-39: nobody is asked who owes nothing; one who may not be stops the whole call.
#[tokio::test(flavor = "multi_thread")]
async fn s3_59_only_those_who_owe_something_are_asked_again() {
    let (service, sender, envelope) = waiting().await;
    let id = envelope.id.as_str();
    let [first, second, copy] = [0, 1, 2].map(|index| envelope.recipients[index].id.as_str());
    service.clock.advance(TimeDelta::hours(2));
    for (to, reason) in [
        (vec![second], "NOT_YOUR_TURN"),
        (vec![first, second], "NOT_YOUR_TURN"),
        (vec![copy], "ROLE_NOT_ALLOWED"),
        (vec!["rcp_01h455vb4pex5vsknk084sn02q"], "NOT_FOUND"),
        (vec!["x"], "INVALID_FIELD"),
    ] {
        assert_eq!(resend(&sender, id, &to, false).await.unwrap_err().reason(), reason, "{to:?}");
    }
    assert_eq!(sender.get(id).await.unwrap(), envelope);
    assert_eq!(resend(&sender, id, &[first, first], false).await.unwrap().recipient_ids, [first]);
    link(&sender, &envelope, 0).await.sign(&envelope).await.unwrap();
    let acted = resend(&sender, id, &[first], false).await.unwrap_err();
    assert_eq!(acted.reason(), "ALREADY_ACTED");
    assert_eq!(resend(&sender, id, &[second], false).await.unwrap_err().reason(), "RESEND_TOO_SOON", "T-41");
    sender.void(id, "").await.unwrap();
    let over = resend(&sender, id, &[second], false).await.unwrap_err();
    assert_eq!((over.reason(), over.fact("current_state")), ("INVALID_STATE_TRANSITION".into(), "VOIDED".into()));
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    assert_eq!(resend(&sender, &draft.id, &[], false).await.unwrap_err().reason(), "INVALID_STATE_TRANSITION");
    use EventType::*;
    assert_eq!(kinds(&sender, &draft.id).await, [EnvelopeCreated]);
}

/// A stale revision stops every change of what is on its way.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_envelope_changes_only_at_the_revision_that_is_asked_for() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.create(request(1, Routing::Parallel, true)).await.unwrap();
    view(&link(&sender, &envelope, 0).await).await.unwrap();
    let now = sender.get(&envelope.id).await.unwrap();
    let (envelope_id, recipient_id) = (|| envelope.id.clone(), || envelope.recipients[0].id.clone());
    let expires_at = Some(ahead(&service, TimeDelta::days(100)));
    let mut client = sender.envelopes();
    let if_revision = 1;
    let reassign = ReassignRecipientRequest {
        envelope_id: envelope_id(),
        recipient_id: recipient_id(),
        person: Some(person("Other", "other@example.com")),
        reason: String::new(),
        if_revision,
        ..Default::default()
    };
    let resend = ResendEnvelopeRequest {
        envelope_id: envelope_id(),
        recipient_ids: vec![],
        rotate: false,
        if_revision,
        ..Default::default()
    };
    let decline = DeclineRecipientRequest {
        envelope_id: envelope_id(),
        recipient_id: recipient_id(),
        if_revision,
        ..DeclineRecipientRequest::default()
    };
    let void =
        VoidEnvelopeRequest { envelope_id: envelope_id(), reason: String::new(), if_revision, ..Default::default() };
    let extend = ExtendEnvelopeRequest { envelope_id: envelope_id(), expires_at, if_revision, ..Default::default() };
    let answers = [
        client
            .send_envelope(SendEnvelopeRequest { envelope_id: envelope_id(), if_revision, ..Default::default() })
            .await
            .map(drop),
        client.reassign_recipient(reassign).await.map(drop),
        client.resend_envelope(resend).await.map(drop),
        client.decline_recipient(decline).await.map(drop),
        client.void_envelope(void.clone()).await.map(drop),
        client.extend_envelope(extend).await.map(drop),
    ];
    for answer in answers {
        let status = answer.unwrap_err();
        assert_eq!((status.code(), status.reason().as_str()), (Code::Aborted, "REVISION_MISMATCH"));
        assert_eq!((status.fact("revision"), status.fact("current_state")), ("2".into(), "SENT".into()));
    }
    assert_eq!(sender.get(&envelope.id).await.unwrap(), now);
    let voided = client.void_envelope(VoidEnvelopeRequest { if_revision: 2, ..void }).await.unwrap().into_inner();
    assert_eq!(voided.envelope.unwrap().revision, 3);
}
