//! The life of an endpoint over the wire: challenge, changes, rotation, tests, the log, redelivery. Everything runs by itself.
//! Must never let one account see or touch another's.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode};
use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::{DeliveryState, EventType, WebhookEndpointState};
use countersign_chassis::wire::timestamp;
use countersign_notifier::id::{AccountId, EndpointId, EnvelopeId};
use hmac::{Hmac, KeyInit as _, Mac as _};
use prost_types::FieldMask;
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::endpoints::{Serving, by, reason};
use crate::receiver::{Answer, Receiver, until};

/// A receiver that knows its secret and answers challenges.
struct Knowing {
    url: String,
    secret: Arc<Mutex<String>>,
    kept: Arc<Mutex<Vec<(HeaderMap, axum::body::Bytes)>>>,
}

fn key_of(secret: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or_default()).unwrap()
}

fn response(secret: &str, challenge: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key_of(secret)).unwrap();
    mac.update(challenge.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

impl Knowing {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (secret, kept) = (Arc::<Mutex<String>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (knows, keeps) = (Arc::clone(&secret), Arc::clone(&kept));
        let take = move |headers: HeaderMap, body: axum::body::Bytes| {
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            keeps.lock().unwrap().push((headers, body));
            let answer = match json["type"].as_str() {
                Some("endpoint.challenge") => {
                    let response = response(&knows.lock().unwrap(), json["data"]["challenge"].as_str().unwrap());
                    serde_json::json!({ "response": response }).to_string()
                }
                _ => String::new(),
            };
            async { (StatusCode::OK, answer) }
        };
        let router = axum::Router::new().fallback(axum::routing::post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, secret, kept }
    }

    fn types(&self) -> Vec<String> {
        let json = |body: &axum::body::Bytes| -> serde_json::Value { serde_json::from_slice(body).unwrap() };
        self.kept.lock().unwrap().iter().map(|(_, body)| json(body)["type"].as_str().unwrap().to_owned()).collect()
    }
}

type Answered<T> = Result<T, Status>;

impl Serving {
    async fn verify(&self, key: &str, id: &str) -> Answered<v1::WebhookEndpoint> {
        let request = by(key, v1::VerifyWebhookEndpointRequest { endpoint_id: id.to_owned(), ..Default::default() });
        self.client.clone().verify_webhook_endpoint(request).await.map(|it| it.into_inner().endpoint.unwrap())
    }

    async fn get(&self, key: &str, id: &str) -> Answered<v1::WebhookEndpoint> {
        let request = by(key, v1::GetWebhookEndpointRequest { endpoint_id: id.to_owned() });
        self.client.clone().get_webhook_endpoint(request).await.map(|it| it.into_inner().endpoint.unwrap())
    }

    async fn update(
        &self,
        key: &str,
        id: &str,
        changes: v1::WebhookEndpointChanges,
        mask: &[&str],
    ) -> Answered<v1::WebhookEndpoint> {
        let paths = mask.iter().map(|path| (*path).to_owned()).collect();
        let request = v1::UpdateWebhookEndpointRequest {
            endpoint_id: id.to_owned(),
            changes: Some(changes),
            update_mask: Some(FieldMask { paths }),
            ..Default::default()
        };
        self.client.clone().update_webhook_endpoint(by(key, request)).await.map(|it| it.into_inner().endpoint.unwrap())
    }

    async fn test(&self, key: &str, id: &str) -> Answered<String> {
        let request = by(key, v1::SendTestEventRequest { endpoint_id: id.to_owned(), ..Default::default() });
        self.client.clone().send_test_event(request).await.map(|it| it.into_inner().delivery_id)
    }

    async fn deliveries(&self, key: &str, request: v1::ListDeliveriesRequest) -> Answered<v1::ListDeliveriesResponse> {
        self.client.clone().list_deliveries(by(key, request)).await.map(tonic::Response::into_inner)
    }

    async fn delivery(&self, key: &str, id: &str) -> Answered<v1::GetDeliveryResponse> {
        let request = by(key, v1::GetDeliveryRequest { delivery_id: id.to_owned() });
        self.client.clone().get_delivery(request).await.map(tonic::Response::into_inner)
    }

    async fn redeliver(&self, key: &str, request: v1::RedeliverEventsRequest) -> Answered<u32> {
        self.client.clone().redeliver_events(by(key, request)).await.map(|it| it.into_inner().redelivered)
    }

    /// Until that delivery is over.
    async fn over(&self, key: &str, id: &str) -> v1::GetDeliveryResponse {
        until(async || {
            let delivery = self.delivery(key, id).await.unwrap().delivery.unwrap();
            delivery.state() != DeliveryState::Pending && delivery.attempts > 0
        })
        .await;
        self.delivery(key, id).await.unwrap()
    }
}

fn violated(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map(|it| it.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

fn fact(status: &Status, name: &str) -> String {
    status.get_details_error_info().and_then(|info| info.metadata.get(name).cloned()).unwrap_or_default()
}

/// S1.34, reliability §3: who does not know the secret gets nothing, and the answer is never told.
#[tokio::test(flavor = "multi_thread")]
async fn s1_34_an_endpoint_proves_that_it_knows_its_secret() {
    let serving = Serving::with(|config| config.webhook_challenge = true).await;
    let key = serving.key(serving.stand.account, true);
    let receiver = Knowing::start().await;
    let made = serving.create(&key, &receiver.url).await.unwrap();
    let endpoint = made.endpoint.unwrap();
    assert_eq!((endpoint.state(), endpoint.verified_at), (WebhookEndpointState::Unverified, None));
    serving.stand.happens(EventType::EnvelopeSent, 1);
    serving.follow().await;
    assert_eq!(serving.stand.number("SELECT count(*) FROM delivery").await, 0, "nothing is planned for it");
    let inactive = serving.test(&key, &endpoint.id).await.unwrap_err();
    assert_eq!(
        (reason(&inactive).as_str(), fact(&inactive, "current_state").as_str()),
        ("ENDPOINT_NOT_ACTIVE", "UNVERIFIED")
    );

    let failed = serving.verify(&key, &endpoint.id).await.unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::FailedPrecondition, "CHALLENGE_FAILED"));
    assert_eq!(fact(&failed, "cause"), "wrong_answer");
    let soon = serving.verify(&key, &endpoint.id).await.unwrap_err();
    assert_eq!((soon.code(), reason(&soon).as_str()), (Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED"));
    assert_eq!(receiver.types().len(), 1, "nobody is bothered again at once");

    made.secret.clone_into(&mut receiver.secret.lock().unwrap());
    serving.stand.later(TimeDelta::seconds(5));
    let verified = serving.verify(&key, &endpoint.id).await.unwrap();
    assert_eq!(verified.state(), WebhookEndpointState::Active);
    assert_eq!(serving.verify(&key, &endpoint.id).await.unwrap(), verified, "it stays so");
    assert_eq!(receiver.types(), ["endpoint.challenge", "endpoint.challenge"]);
    {
        let kept = receiver.kept.lock().unwrap();
        let verifier = standardwebhooks::Webhook::new(&made.secret).unwrap();
        kept.iter().for_each(|(headers, body)| verifier.verify(body, headers).unwrap());
        assert_ne!(kept[0].1, kept[1].1, "another text each time");
    }
    let delivery = serving.test(&key, &endpoint.id).await.unwrap();
    assert_eq!(serving.over(&key, &delivery).await.delivery.unwrap().state(), DeliveryState::Delivered);
    assert_eq!(receiver.types()[2], "endpoint.test");
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_fails_in_a_word() {
    let serving = Serving::with(|config| config.webhook_challenge = true).await;
    let key = serving.key(AccountId::new(), true);
    let body = |text: &str| Answer { body: text.as_bytes().to_vec(), ..Answer::of(200) };
    for (answer, cause, status) in [
        (Answer::of(404), "status", "404"),
        (Answer::of(302).with("location", "/"), "status", "302"),
        (body(""), "wrong_answer", ""),
        (body("{\"response\":\"secret of somebody else's\"}"), "wrong_answer", ""),
        (body("{}"), "wrong_answer", ""),
    ] {
        let receiver = Receiver::start([answer]).await;
        let endpoint = serving.create(&key, &receiver.url).await.unwrap().endpoint.unwrap();
        let failed = serving.verify(&key, &endpoint.id).await.unwrap_err();
        assert_eq!((fact(&failed, "cause").as_str(), fact(&failed, "status_code").as_str()), (cause, status));
        assert!(!format!("{failed:?}").contains("somebody"), "{failed:?}");
        assert_eq!(serving.get(&key, &endpoint.id).await.unwrap().state(), WebhookEndpointState::Unverified);
    }
    let endpoint = serving.create(&key, "http://127.0.0.1:9/").await.unwrap().endpoint.unwrap();
    assert_eq!(fact(&serving.verify(&key, &endpoint.id).await.unwrap_err(), "cause"), "no_connection");
    serving.stop().await;
}

/// A new address is somebody else until it has answered; the answer of the old one does not count for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_address_has_to_be_verified_again() {
    let serving = Serving::with(|config| config.webhook_challenge = true).await;
    let key = serving.key(AccountId::new(), true);
    let (old, new) = (Knowing::start().await, Knowing::start().await);
    let made = serving.create(&key, &old.url).await.unwrap();
    let id = made.endpoint.unwrap().id;
    for receiver in [&old, &new] {
        made.secret.clone_into(&mut receiver.secret.lock().unwrap());
    }
    serving.verify(&key, &id).await.unwrap();
    let changes = v1::WebhookEndpointChanges { url: old.url.clone(), ..Default::default() };
    let same = serving.update(&key, &id, changes, &["url"]).await.unwrap();
    assert_eq!(same.state(), WebhookEndpointState::Active, "the same address again");
    let changes = v1::WebhookEndpointChanges { url: new.url.clone(), ..Default::default() };
    let moved = serving.update(&key, &id, changes, &["url"]).await.unwrap();
    assert_eq!((moved.state(), moved.url.as_str()), (WebhookEndpointState::Unverified, new.url.as_str()));
    assert_eq!(serving.verify(&key, &id).await.unwrap().state(), WebhookEndpointState::Active);
    assert_eq!((old.types().len(), new.types().len()), (1, 1));
    serving.stop().await;
}

/// Types, headers and pauses, from the change to what is posted.
#[tokio::test(flavor = "multi_thread")]
async fn s2_22_an_endpoint_is_changed_by_its_mask() {
    let serving = Serving::with(|_| {}).await;
    let key = serving.key(serving.stand.account, true);
    let receiver = Receiver::start([]).await;
    let header = |name: &str, value: &str| v1::WebhookHeader { name: name.into(), value: value.into() };
    let request = v1::CreateWebhookEndpointRequest {
        url: receiver.url.clone(),
        description: "  Billing  ".into(),
        types: vec![EventType::EnvelopeDeclined.into(), EventType::EnvelopeDeclined.into()],
        headers: vec![header("authorization", "Bearer of-the-receiver"), header("x-team", "billing")],
        ..Default::default()
    };
    let made = serving.client.clone().create_webhook_endpoint(by(&key, request)).await.unwrap().into_inner();
    let endpoint = made.endpoint.unwrap();
    assert_eq!((endpoint.description.as_str(), endpoint.types.as_slice()), ("Billing", [8].as_slice()));
    assert_eq!(endpoint.header_names, ["authorization", "x-team"]);
    assert!(!format!("{endpoint:?}").contains("of-the-receiver"));
    let stored = "SELECT count(*) FROM endpoint WHERE endpoint::text LIKE '%of-the%' OR encode(headers_sealed, 'escape') LIKE '%of-the%'";
    assert_eq!(serving.stand.number(stored).await, 0, "values are encrypted");
    serving.stand.happens(EventType::EnvelopeSent, 1);
    serving.stand.happens(EventType::EnvelopeDeclined, 2);
    serving.follow().await;
    receiver.wait_for(1).await;
    let kept = receiver.kept().remove(0);
    assert_eq!(
        (kept.sequence(), kept.header("authorization"), kept.header("x-team")),
        (2, "Bearer of-the-receiver", "billing")
    );

    let changes = v1::WebhookEndpointChanges { paused: true, description: "ignored".into(), ..Default::default() };
    let paused = serving.update(&key, &endpoint.id, changes, &["paused", "types", "headers"]).await.unwrap();
    assert_eq!((paused.state(), paused.description.as_str()), (WebhookEndpointState::Paused, "Billing"));
    assert!(paused.types.is_empty() && paused.header_names.is_empty());
    serving.stand.happens(EventType::EnvelopeVoided, 3);
    serving.follow().await;
    assert_eq!(fact(&serving.test(&key, &endpoint.id).await.unwrap_err(), "current_state"), "PAUSED");
    serving.update(&key, &endpoint.id, v1::WebhookEndpointChanges::default(), &["paused"]).await.unwrap();
    receiver.wait_for(2).await;
    assert!(receiver.kept()[1].headers.get("authorization").is_none());
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_endpoint_is_named() {
    let serving = Serving::with(|_| {}).await;
    let key = serving.key(AccountId::new(), true);
    let header = |name: &str, value: &str| v1::WebhookHeader { name: name.into(), value: value.into() };
    let request = v1::CreateWebhookEndpointRequest {
        url: "x".into(),
        description: "d".repeat(201),
        types: vec![1, 0, 99, -1],
        headers: vec![header("host", "a"), header("x-a", "secret\r\nvalue"), header("x-a", "b")],
        ..Default::default()
    };
    let status = serving.client.clone().create_webhook_endpoint(by(&key, request)).await.unwrap_err();
    let named = [
        "url",
        "description",
        "types[1]",
        "types[2]",
        "types[3]",
        "headers[0].name",
        "headers[1].value",
        "headers[2].name",
    ];
    assert_eq!(violated(&status), named);
    assert!(!format!("{status:?}").contains("secret"), "a value is told");
    let many = (0..11).map(|place| header(&format!("x-{place}"), "v")).collect();
    let request =
        v1::CreateWebhookEndpointRequest { url: "http://127.0.0.1:9/".into(), headers: many, ..Default::default() };
    let status = serving.client.clone().create_webhook_endpoint(by(&key, request)).await.unwrap_err();
    assert_eq!(violated(&status), ["headers"]);
    let id = serving.create(&key, "http://127.0.0.1:9/").await.unwrap().endpoint.unwrap().id;
    for mask in [&[][..], &["id"], &["url", "url", "url", "url", "url", "url"]] {
        let status = serving.update(&key, &id, v1::WebhookEndpointChanges::default(), mask).await.unwrap_err();
        assert!(violated(&status).contains(&"update_mask".to_owned()), "{mask:?}");
    }
    serving.stop().await;
}

/// T-33: both secrets sign until the overlap is over; the new one is shown once.
#[tokio::test(flavor = "multi_thread")]
async fn t33_two_secrets_sign_during_the_overlap() {
    let serving = Serving::with(|_| {}).await;
    let key = serving.key(serving.stand.account, true);
    let receiver = Receiver::start([]).await;
    let made = serving.create(&key, &receiver.url).await.unwrap();
    let id = made.endpoint.unwrap().id;
    let rotate = async |overlap: Option<i64>, once: &str| {
        let overlap = overlap.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = v1::RotateWebhookSecretRequest { endpoint_id: id.clone(), overlap, idempotency_key: once.into() };
        serving.client.clone().rotate_webhook_secret(by(&key, request)).await.map(tonic::Response::into_inner)
    };
    for seconds in [-1, 7 * 86_400 + 1] {
        assert_eq!(violated(&rotate(Some(seconds), "").await.unwrap_err()), ["overlap"]);
    }
    let rotated = rotate(None, "once").await.unwrap();
    assert_ne!(rotated.secret, made.secret);
    let until = serving.stand.clock.now() + TimeDelta::hours(24);
    assert_eq!(rotated.endpoint.unwrap().previous_secret_until, Some(timestamp(until)));
    assert_eq!(reason(&rotate(None, "once").await.unwrap_err()), "SECRET_SHOWN_ONCE");
    let next = async |expected: [bool; 2]| {
        let count = receiver.kept().len();
        serving.test(&key, &id).await.unwrap();
        receiver.wait_for(count + 1).await;
        let kept = receiver.kept().pop().unwrap();
        let takes = |secret: &str| standardwebhooks::Webhook::new(secret).unwrap();
        // The reference verifier goes by this machine's clock.
        let told = kept.header("webhook-signature").split(' ').count();
        let one = [&made.secret, &rotated.secret].map(|secret| {
            let at = kept.header("webhook-timestamp").parse().unwrap();
            let sign = takes(secret).sign(kept.header("webhook-id"), at, &kept.body).unwrap();
            kept.header("webhook-signature").split(' ').any(|one| one == sign)
        });
        assert_eq!(one, expected);
        let alive = expected.iter().filter(|it| **it).count();
        assert_eq!((told, kept.header("countersign-signature").matches("v1=").count()), (alive, alive));
    };
    next([true, true]).await;
    serving.stand.later(TimeDelta::hours(24) - TimeDelta::seconds(1));
    next([true, true]).await;
    serving.stand.later(TimeDelta::seconds(1));
    next([false, true]).await;
    serving.stop().await;
}

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

/// T-32: what it missed is replayed; a repeat with the same key changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn t32_a_disabled_endpoint_is_enabled_and_hears_what_it_missed() {
    let serving = Serving::with(|_| {}).await;
    let key = serving.key(serving.stand.account, true);
    let receiver = Receiver::start([Answer::of(410)]).await;
    let id = serving.create(&key, &receiver.url).await.unwrap().endpoint.unwrap().id;
    let began = serving.stand.clock.now();
    serving.stand.happens(EventType::EnvelopeSent, 1);
    serving.follow().await;
    until(async || serving.get(&key, &id).await.unwrap().state() == WebhookEndpointState::Disabled).await;
    let disabled = serving.get(&key, &id).await.unwrap();
    assert_eq!((disabled.disabled_reason(), disabled.consecutive_failures), (v1::WebhookDisabledReason::Gone, 1));
    serving.stand.happens(EventType::EnvelopeDeclined, 2);
    serving.follow().await;
    let range =
        v1::RedeliverEventsRequest { endpoint_id: id.clone(), since: Some(timestamp(began)), ..Default::default() };
    assert_eq!(reason(&serving.redeliver(&key, range).await.unwrap_err()), "ENDPOINT_NOT_ACTIVE");
    let request = v1::EnableWebhookEndpointRequest {
        endpoint_id: id.clone(),
        replay_since: Some(timestamp(began)),
        idempotency_key: "once".into(),
    };
    let enable = async || serving.client.clone().enable_webhook_endpoint(by(&key, request.clone())).await.unwrap();
    let enabled = enable().await.into_inner();
    assert_eq!((enabled.replayed, enabled.endpoint.as_ref().unwrap().state()), (2, WebhookEndpointState::Active));
    assert_eq!(enable().await.into_inner(), enabled);
    receiver.wait_for(3).await;
    assert_eq!(receiver.sequences(), [1, 1, 2]);
    serving.stop().await;
}

/// S2.53: whoever asks for somebody else's endpoint is told what is told of none.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_modes_do_not_reach_each_others_endpoints() {
    let serving = Serving::with(|_| {}).await;
    let account = AccountId::new();
    let (key, test) = (serving.key(account, true), serving.key(account, false));
    let stranger = serving.key(AccountId::new(), true);
    let id = serving.create(&key, "http://127.0.0.1:9/").await.unwrap().endpoint.unwrap().id;
    let random = EndpointId::new().to_string();
    let named = |id: &str| id.to_owned();
    for (by_whom, id) in [(&test, &id), (&stranger, &id), (&key, &random)] {
        let mut client = serving.client.clone();
        let rotate = v1::RotateWebhookSecretRequest { endpoint_id: named(id), ..Default::default() };
        let enable = v1::EnableWebhookEndpointRequest { endpoint_id: named(id), ..Default::default() };
        let changes = v1::WebhookEndpointChanges::default();
        let answers = [
            serving.get(by_whom, id).await.map(drop),
            serving.verify(by_whom, id).await.map(drop),
            serving.test(by_whom, id).await.map(drop),
            serving.update(by_whom, id, changes, &["paused"]).await.map(drop),
            client.rotate_webhook_secret(by(by_whom, rotate)).await.map(drop),
            client.enable_webhook_endpoint(by(by_whom, enable)).await.map(drop),
        ];
        let mut told: Vec<_> = answers
            .map(|it| it.unwrap_err())
            .iter()
            .map(|it| (it.code(), reason(it), it.message().to_owned()))
            .collect();
        told.dedup();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].0, told[0].1.as_str()), (Code::NotFound, "NOT_FOUND"));
    }
    serving.stop().await;
}
