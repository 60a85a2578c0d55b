//! The log of deliveries, and what is posted again. Must never show one account what is another's.

use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::{DeliveryState, EventType};
use countersign_chassis::wire::timestamp;
use countersign_notifier::id::{AccountId, EndpointId, EnvelopeId};
use tonic::Code;

use crate::endpoints::{Serving, reason};
use crate::owner::violated;
use crate::receiver::{Answer, Receiver, until};

/// The log, page by page and filter by filter, and nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_listed_page_by_page() {
    let mut serving = Serving::with(|_| {}).await;
    let account = serving.stand.account;
    let key = serving.key(account, true);
    let receiver = Receiver::start([Answer { body: b"no\0t now".to_vec(), ..Answer::of(500) }]).await;
    let endpoint = serving.create(&key, &receiver.url).await.unwrap().endpoint.unwrap().id;
    let first = serving.stand.envelope;
    for sequence in 1..=5 {
        serving.stand.happens(EventType::RecipientSigned, sequence);
        serving.follow().await;
        serving.stand.later(TimeDelta::seconds(1));
    }
    serving.stand.envelope = EnvelopeId::new();
    serving.stand.happens(EventType::EnvelopeSent, 1);
    serving.follow().await;
    until(async || serving.stand.number("SELECT count(*) FROM attempt WHERE status_code = 500").await == 1).await;
    let all = serving.deliveries(&key, v1::ListDeliveriesRequest::default()).await.unwrap();
    assert_eq!((all.deliveries.len(), all.next_page_token.as_str()), (6, ""));
    let mut paged = Vec::new();
    let mut request = v1::ListDeliveriesRequest { page_size: 4, ..Default::default() };
    loop {
        let page = serving.deliveries(&key, request.clone()).await.unwrap();
        paged.extend(page.deliveries.into_iter().map(|it| it.id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(paged, all.deliveries.iter().map(|it| it.id.clone()).collect::<Vec<_>>());
    let times: Vec<_> = all.deliveries.iter().map(|it| it.created_at.unwrap().seconds).collect();
    assert!(times.is_sorted_by(|one, two| one >= two), "newest first: {times:?}");
    let foreign = serving.key(account, false);
    for (by, change) in [(&foreign, request.clone()), (&key, v1::ListDeliveriesRequest { state: 1, ..request.clone() })]
    {
        assert_eq!(violated(&serving.deliveries(by, change).await.unwrap_err()), ["page_token"]);
    }
    let of = v1::ListDeliveriesRequest { envelope_id: first.to_string(), ..Default::default() };
    assert_eq!(serving.deliveries(&key, of).await.unwrap().deliveries.len(), 5);
    let since = all.deliveries[1].created_at;
    let of = v1::ListDeliveriesRequest { since, until: all.deliveries[0].created_at, ..Default::default() };
    assert_eq!(serving.deliveries(&key, of).await.unwrap().deliveries.len(), 1);
    let bad = v1::ListDeliveriesRequest {
        endpoint_id: "x".into(),
        state: 9,
        envelope_id: "y".into(),
        page_size: 101,
        ..Default::default()
    };
    let named = violated(&serving.deliveries(&key, bad).await.unwrap_err());
    assert_eq!(named, ["page_size", "endpoint_id", "state", "envelope_id"]);

    let failed = all.deliveries.iter().find(|it| it.envelope_id == first.to_string() && it.sequence == 1).unwrap();
    let found = serving.delivery(&key, &failed.id).await.unwrap();
    assert_eq!(
        (found.attempts[0].number, found.attempts[0].status_code, found.attempts[0].answer.as_str()),
        (1, 500, "no\u{fffd}t now")
    );
    assert!(found.delivery.unwrap().endpoint_id == endpoint);
    let (stranger, id) = (serving.key(AccountId::new(), true), failed.id.as_str());
    let random = format!("{}:{}", countersign_notifier::id::EventId::new(), EndpointId::new());
    for (by, id) in [(&stranger, id), (&foreign, id), (&key, random.as_str())] {
        let status = serving.delivery(by, id).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "NOT_FOUND"));
    }
    assert_eq!(violated(&serving.delivery(&key, "x").await.unwrap_err()), ["delivery_id"]);
    serving.stop().await;
}

/// T-29, T-32: the same bytes under the same id, in new attempts; nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn t29_what_is_over_is_posted_again() {
    let serving = Serving::with(|_| {}).await;
    let key = serving.key(serving.stand.account, true);
    let receiver = Receiver::start([]).await;
    let endpoint = serving.create(&key, &receiver.url).await.unwrap().endpoint.unwrap().id;
    let began = serving.stand.clock.now();
    let ids = async || {
        let request = v1::ListDeliveriesRequest { state: DeliveryState::Delivered.into(), ..Default::default() };
        let listed = serving.deliveries(&key, request).await.unwrap().deliveries;
        listed.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    for sequence in 1..=3 {
        serving.stand.happens(EventType::RecipientSigned, sequence);
    }
    serving.follow().await;
    until(async || ids().await.len() == 3).await;
    let these = v1::RedeliverEventsRequest { delivery_ids: ids().await, ..Default::default() };
    for stranger in [serving.key(AccountId::new(), true), serving.key(serving.stand.account, false)] {
        assert_eq!(serving.redeliver(&stranger, these.clone()).await.unwrap(), 0);
    }
    assert_eq!(serving.redeliver(&key, these).await.unwrap(), 3);
    receiver.wait_for(6).await;
    let kept = receiver.kept();
    for repeat in &kept[3..] {
        let first = kept[..3].iter().find(|it| it.header("webhook-id") == repeat.header("webhook-id")).unwrap();
        assert_eq!(first.body, repeat.body);
    }
    until(async || ids().await.len() == 3).await;
    assert_eq!(serving.delivery(&key, &ids().await[0]).await.unwrap().attempts.len(), 2);

    let range = |states: &[DeliveryState]| v1::RedeliverEventsRequest {
        endpoint_id: endpoint.clone(),
        since: Some(timestamp(began)),
        until: Some(timestamp(began + TimeDelta::days(1))),
        states: states.iter().map(|state| (*state).into()).collect(),
        ..Default::default()
    };
    assert_eq!(serving.redeliver(&key, range(&[])).await.unwrap(), 0, "none is dead or cancelled");
    assert_eq!(serving.redeliver(&key, range(&[DeliveryState::Delivered])).await.unwrap(), 3);
    receiver.wait_for(9).await;
    let foreign = serving.redeliver(&serving.key(AccountId::new(), true), range(&[])).await.unwrap_err();
    assert_eq!(reason(&foreign), "NOT_FOUND");
    let both = v1::RedeliverEventsRequest { delivery_ids: vec!["x".into()], ..range(&[DeliveryState::Pending]) };
    assert_eq!(
        violated(&serving.redeliver(&key, both).await.unwrap_err()),
        ["delivery_ids", "delivery_ids[0]", "states[0]"]
    );
    serving.stop().await;
}
