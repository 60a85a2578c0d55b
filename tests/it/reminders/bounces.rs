//! What the notifier found out about an address.

use countersign::v1::{
    ActorType, Envelope, EventType, Person, ReassignRecipientRequest, ReportBounceRequest, ReportBounceResponse,
    Routing, VerifyHistoryRequest,
};
use countersign_chassis::wire::timestamp;
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Errors as _, Service};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use super::usual;
use crate::steps::{epoch, kinds};

async fn bounce(by: &Caller, envelope: &Envelope, index: usize, email: &str) -> Result<ReportBounceResponse, Status> {
    let request = ReportBounceRequest {
        envelope_id: envelope.id.clone(),
        recipient_id: envelope.recipients[index].id.clone(),
        address_sha256: hex::encode(Sha256::digest(email)),
        ..Default::default()
    };
    Ok(by.envelopes().report_bounce(request).await?.into_inner())
}

/// T-39: a bounce is seen on the recipient and ends their reminders, once, until the place is somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn t39_a_bounce_is_recorded_once_for_who_has_the_place() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let notifier = service.notifier(&sender.account);
    let sent = sender.create(usual(2, Routing::Sequential)).await.unwrap();
    let recorded = async |index, email: &str| bounce(&notifier, &sent, index, email).await.unwrap().recorded;
    assert!(!recorded(0, "somebody@example.com").await, "another address");
    assert!(!recorded(1, "signer1@example.com").await, "nothing has been sent there");
    assert_eq!(sender.get(&sent.id).await.unwrap(), sent);
    assert!(recorded(0, "signer0@example.com").await);
    assert!(!recorded(0, "signer0@example.com").await, "known");
    let now = sender.get(&sent.id).await.unwrap();
    let own = &now.recipients[0];
    assert_eq!((own.bounced_at, own.next_reminder_at), (Some(timestamp(epoch())), None));
    use EventType::*;
    assert_eq!(kinds(&sender, &sent.id).await, [EnvelopeCreated, EnvelopeSent, RecipientReleased, RecipientBounced]);
    let entry = sender.history(&sent.id).await.unwrap().pop().unwrap();
    assert_eq!((entry.client_ip.as_str(), entry.before, entry.after), ("", None, None));
    assert_eq!(entry.event.unwrap().actor.unwrap().r#type(), ActorType::System);

    let heir = Some(Person { name: "Heir".into(), email: "heir@example.com".into(), ..Default::default() });
    let (envelope_id, recipient_id) = (sent.id.clone(), sent.recipients[0].id.clone());
    let reassign = ReassignRecipientRequest { envelope_id, recipient_id, person: heir, ..Default::default() };
    let now = sender.envelopes().reassign_recipient(reassign).await.unwrap().into_inner().envelope.unwrap();
    assert_eq!(now.recipients[0].bounced_at, None);
    assert!(now.recipients[0].next_reminder_at.is_some());
    assert!(!recorded(0, "signer0@example.com").await, "a late bounce of the old address");
    assert!(recorded(0, "heir@example.com").await);
    let ended = sender.void(&sent.id, "").await.unwrap();
    assert!(!recorded(0, "heir@example.com").await && !recorded(1, "signer1@example.com").await);
    assert_eq!(sender.get(&sent.id).await.unwrap(), ended, "nothing changes what has ended");
    let verify = VerifyHistoryRequest { envelope_id: sent.id.clone() };
    assert!(sender.envelopes().verify_history(verify).await.unwrap().into_inner().intact);
}

/// Only the notifier says so, and only of what has been sent.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_notifier_reports_bounces() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    let email = "signer0@example.com";
    for by in [&sender, &service.operator(&sender.account), story.signer(0)] {
        assert_eq!(bounce(by, &story.envelope, 0, email).await.unwrap_err().code(), Code::PermissionDenied);
    }
    let other = service.account(false).await;
    let elsewhere = bounce(&service.notifier(&other.account), &story.envelope, 0, email).await.unwrap_err();
    assert_eq!(elsewhere.reason(), "NOT_FOUND");
    let nobody = bounce(&service.notifier(""), &story.envelope, 0, email).await.unwrap_err();
    assert_eq!(nobody.code(), Code::PermissionDenied, "the account is to be named");
    let notifier = service.notifier(&sender.account);
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let refused = bounce(&notifier, &draft, 0, email).await.unwrap_err();
    assert_eq!(
        (refused.reason(), refused.fact("attempted_transition")),
        ("INVALID_STATE_TRANSITION".into(), "BOUNCE".into())
    );
    let digest = ReportBounceRequest {
        envelope_id: draft.id.clone(),
        recipient_id: draft.recipients[0].id.clone(),
        address_sha256: email.into(),
        ..Default::default()
    };
    let refused = notifier.envelopes().report_bounce(digest).await.unwrap_err();
    assert_eq!((refused.fields(), refused.reason()), (vec!["address_sha256".to_owned()], "INVALID_FIELD".into()));
}
