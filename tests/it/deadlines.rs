//! Deadlines: moved before they pass, warned of, and final.

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::{
    ActorType, CreateEnvelopeRequest, Envelope, EnvelopeStatus, EventType, ExtendEnvelopeRequest, RecipientStatus,
    Routing,
};
use countersign_chassis::clock::Clock;
use countersign_chassis::wire::timestamp;
use countersign_envelope::store::BEGINNING;
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Database, Errors as _, Service};
use prost_types::Duration;
use tonic::Status;

use crate::steps::{ahead, count, epoch, executor, kinds, session, until, until_status};

async fn extend(sender: &Caller, id: &str, to: DateTime<Utc>) -> Result<Envelope, Status> {
    let request = ExtendEnvelopeRequest {
        envelope_id: id.to_owned(),
        expires_at: Some(timestamp(to)),
        if_revision: 0,
        ..Default::default()
    };
    Ok(sender.envelopes().extend_envelope(request).await?.into_inner().envelope.unwrap())
}

fn days(days: i64) -> DateTime<Utc> {
    epoch() + TimeDelta::days(days)
}

/// A request for one signer, with a deadline in ten days.
fn ten_days(service: &Service) -> CreateEnvelopeRequest {
    let mut new = request(1, Routing::Parallel, true);
    new.expires_at = Some(ahead(service, TimeDelta::days(10)));
    new
}

/// T-45, T-46: later, within a year and a day of now, and never sooner; then the new deadline is the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn t46_a_deadline_is_moved_to_later_only() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let envelope = sender.create(ten_days(&service)).await.unwrap();
    let id = envelope.id.as_str();
    for bad in [days(9), days(-1), days(366) + TimeDelta::microseconds(1), days(4000)] {
        let refused = extend(&sender, id, bad).await.unwrap_err();
        assert_eq!((refused.reason().as_str(), refused.fields()), ("INVALID_FIELD", vec!["expires_at".to_owned()]));
    }
    let absent =
        ExtendEnvelopeRequest { envelope_id: id.to_owned(), expires_at: None, if_revision: 0, ..Default::default() };
    assert_eq!(sender.envelopes().extend_envelope(absent).await.unwrap_err().fields(), ["expires_at"]);
    assert_eq!(sender.get(id).await.unwrap(), envelope);
    let signer = sender.signer_of(id, &envelope.recipients[0].id).await.unwrap();
    let now = extend(&sender, id, days(20)).await.unwrap();
    assert_eq!((now.expires_at, now.revision, now.status()), (Some(timestamp(days(20))), 2, EnvelopeStatus::Sent));
    let history = sender.history(id).await.unwrap();
    let event = history.last().unwrap().event.clone().unwrap();
    assert_eq!(event.r#type(), EventType::EnvelopeDeadlineChanged);
    assert_eq!(event.state.unwrap().expires_at, now.expires_at);
    assert_eq!(event.actor.unwrap().r#type(), ActorType::Sender);
    assert_eq!(session(&signer).await.unwrap().expires_at, now.expires_at);
    // Past the old deadline the envelope is as open as before.
    service.clock.advance(TimeDelta::days(11));
    assert_eq!(executor(&service).await.store().due(service.clock.now(), BEGINNING, 10, 10).await.unwrap().len(), 0);
    signer.sign(&envelope).await.unwrap();
    let done = until_status(&sender, id, EnvelopeStatus::Completed).await;
    let late = extend(&sender, id, days(30)).await.unwrap_err();
    assert_eq!((late.reason(), late.fact("current_state")), ("INVALID_STATE_TRANSITION".into(), "COMPLETED".into()));
    assert_eq!(done.expires_at, now.expires_at);
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let early = extend(&sender, &draft.id, days(200)).await.unwrap_err();
    assert_eq!((early.reason(), early.fact("current_state")), ("INVALID_STATE_TRANSITION".into(), "DRAFT".into()));
}

/// T-45, T-4, T-15: the deadline decides, not the sweeper; no extension brings anything back.
#[tokio::test(flavor = "multi_thread")]
async fn t45_after_the_deadline_it_is_too_late_to_extend() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut config = countersign_test_support::service::config(&database, &documents);
    config.sweep_ms = 3_600_000;
    let service = Service::start_with(database, Clock::manual(epoch()), documents, config).await;
    let sender = service.account(false).await;
    let envelope = sender.create(ten_days(&service)).await.unwrap();
    let kept = sender.create(ten_days(&service)).await.unwrap();
    service.clock.advance(TimeDelta::days(10) - TimeDelta::microseconds(1));
    extend(&sender, &kept.id, days(11)).await.expect("the last instant");
    service.clock.advance(TimeDelta::microseconds(1));
    for _ in 0..2 {
        let late = extend(&sender, &envelope.id, days(30)).await.unwrap_err();
        assert_eq!((late.reason(), late.fact("current_state")), ("INVALID_STATE_TRANSITION".into(), "EXPIRED".into()));
        assert_eq!((late.fact("cause"), late.fact("allowed_transitions")), ("DEADLINE".into(), String::new()));
    }
    let now = sender.get(&envelope.id).await.unwrap();
    assert_eq!((now.status(), now.expires_at), (EnvelopeStatus::Expired, envelope.expires_at));
    assert_eq!(now.recipients[0].status(), RecipientStatus::ReleasedByExpiry);
    assert_eq!(sender.get(&kept.id).await.unwrap().status(), EnvelopeStatus::Sent);
}

/// Warned once of each deadline, by default three days ahead of it.
#[tokio::test(flavor = "multi_thread")]
async fn t46_an_extension_plans_the_warning_anew() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let warned = sender.create(ten_days(&service)).await.unwrap();
    let mut never = ten_days(&service);
    never.expiry_warning = Some(Duration::default());
    let never = sender.create(never).await.unwrap();
    let mut late = ten_days(&service);
    late.expiry_warning = Some(Duration { seconds: 3600, nanos: 0 });
    let late = sender.create(late).await.unwrap();
    // What has less time than the warning takes is not warned of at all.
    let mut short = ten_days(&service);
    short.expires_at = Some(ahead(&service, TimeDelta::days(2)));
    let short = sender.create(short).await.unwrap();
    assert_eq!(warned.expiry_warning, Some(Duration { seconds: 3 * 86_400, nanos: 0 }));
    assert_eq!(never.expiry_warning, None);

    service.clock.advance(TimeDelta::days(7) - TimeDelta::microseconds(1));
    let due = executor(&service).await.store().due(service.clock.now(), BEGINNING, 10, 10).await.unwrap();
    assert!(due.iter().all(|due| due.envelope.to_string() == short.id), "not yet: {due:?}");
    service.clock.advance(TimeDelta::microseconds(1));
    let is_warned = |envelope: &Envelope| envelope.expiry_warned_at.is_some();
    let now = until(&sender, &warned.id, "a warning", is_warned).await;
    assert_eq!(now.expiry_warned_at, Some(timestamp(days(7))));
    assert_eq!((now.status(), now.expires_at), (EnvelopeStatus::Sent, warned.expires_at));
    let history = sender.history(&warned.id).await.unwrap();
    let event = history.last().unwrap().event.clone().unwrap();
    assert_eq!((event.r#type(), event.actor.unwrap().r#type()), (EventType::EnvelopeExpiring, ActorType::System));

    let extended = extend(&sender, &warned.id, days(30)).await.unwrap();
    assert_eq!(extended.expiry_warned_at, None, "not warned of this one");
    service.clock.advance(TimeDelta::days(3) - TimeDelta::hours(1));
    until(&sender, &late.id, "a late warning", is_warned).await;
    assert_eq!(count(&sender, &warned.id, EventType::EnvelopeExpiring).await, 1);
    service.clock.advance(TimeDelta::days(20));
    until(&sender, &warned.id, "another warning", is_warned).await;
    use EventType::*;
    let expected =
        [EnvelopeCreated, EnvelopeSent, RecipientReleased, EnvelopeExpiring, EnvelopeDeadlineChanged, EnvelopeExpiring];
    assert_eq!(kinds(&sender, &warned.id).await, expected);
    service.clock.advance(TimeDelta::days(1));
    for (id, told) in [(&never.id, 0), (&short.id, 0), (&late.id, 1)] {
        until_status(&sender, id, EnvelopeStatus::Expired).await;
        assert_eq!(count(&sender, id, EnvelopeExpiring).await, told);
    }
    service.clock.advance(TimeDelta::days(2));
    until_status(&sender, &warned.id, EnvelopeStatus::Expired).await;
    assert_eq!(count(&sender, &warned.id, EnvelopeExpiring).await, 2, "once of each deadline");
}
