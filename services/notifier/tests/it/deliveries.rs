//! Webhooks: the same bytes under the same id until they are taken, in order, by the schedule, and to nobody else.
//! Must never wait for a delay of the schedule: the clock is moved.

use chrono::{TimeDelta, Utc};
use countersign::v1::EventType;
use countersign_notifier::schedule::PAUSES;
use countersign_notifier::store::{Disabled, EndpointChanges, Named, Outcome, Room, Settled, Told};
use hmac::{Hmac, KeyInit as _, Mac as _};
use standardwebhooks::Webhook;

use crate::receiver::{Answer, Receiver};
use crate::stand::Stand;

const PENDING: &str = "SELECT count(*) FROM delivery WHERE state = 1";
const DELIVERED: &str = "SELECT count(*) FROM delivery WHERE state = 2";

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_verifier_takes_the_signature_and_refuses_a_changed_body() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    let endpoint = stand.endpoint(&receiver).await;
    let event = stand.happens(EventType::EnvelopeDeclined, 7);
    stand.follow().await;
    stand.deliver().await;
    let [kept] = &receiver.kept()[..] else { panic!("not one request") };
    let secret = stand.secret(&endpoint);
    let verifier = Webhook::new(&secret).unwrap();
    verifier.verify(&kept.body, &kept.headers).unwrap();
    let mut tampered = kept.body.to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    verifier.verify(&tampered, &kept.headers).unwrap_err();
    Webhook::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap().verify(&kept.body, &kept.headers).unwrap_err();

    assert_eq!(kept.header("webhook-id"), event.id);
    assert_eq!(kept.header("content-type"), "application/json");
    assert!(kept.header("user-agent").starts_with("Countersign/"));
    let (at, signature) = kept.header("countersign-signature").split_once(',').unwrap();
    let at = at.strip_prefix("t=").unwrap();
    let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &secret["whsec_".len()..]).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{at}.").as_bytes());
    mac.update(&kept.body);
    assert_eq!(signature, format!("v1={}", hex::encode(mac.finalize().into_bytes())));
    assert_eq!(at, kept.header("webhook-timestamp"));

    let body: serde_json::Value = serde_json::from_slice(&kept.body).unwrap();
    assert_eq!(body["type"], "envelope.declined");
    assert_eq!(body["data"]["type"], "EVENT_TYPE_ENVELOPE_DECLINED");
    assert_eq!(body["data"]["envelopeId"], event.envelope_id);
    assert_eq!(body["data"]["sequence"], "7", "64-bit numbers are strings in canonical JSON");
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_has_the_same_id_and_bytes_and_a_fresh_signature() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([Answer::of(500), Answer::of(302).with("location", "/elsewhere")]).await;
    let endpoint = stand.endpoint(&receiver).await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    for _ in 0..3 {
        stand.deliver().await;
        stand.later(TimeDelta::minutes(7));
    }
    let kept = receiver.kept();
    assert_eq!(kept.len(), 3, "a redirect is not followed, and not taken for success");
    for repeat in &kept[1..] {
        assert_eq!(repeat.body, kept[0].body);
        assert_eq!(repeat.header("webhook-id"), kept[0].header("webhook-id"));
        assert_ne!(repeat.header("webhook-timestamp"), kept[0].header("webhook-timestamp"));
        assert_ne!(repeat.header("webhook-signature"), kept[0].header("webhook-signature"));
    }
    let codes = "SELECT status_code::bigint FROM attempt ORDER BY number OFFSET";
    for (number, code) in [500, 302, 204].into_iter().enumerate() {
        assert_eq!(stand.number(&format!("{codes} {number} LIMIT 1")).await, code);
    }
    assert_eq!(stand.number(DELIVERED).await, 1);
    let verifier = Webhook::new(&stand.secret(&endpoint)).unwrap();
    verifier.verify(&kept[0].body, &kept[0].headers).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_after_the_post_is_followed_by_the_same_again() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([Answer { hang: true, ..Answer::of(200) }]).await;
    stand.endpoint(&receiver).await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    let dying = stand.another().await.deliverer;
    dying.tick().await.unwrap();
    receiver.wait_for(1).await;
    drop(dying);
    stand.deliver().await;
    assert_eq!(receiver.kept().len(), 1, "the claim of the dead holds until it runs out");
    stand.later(TimeDelta::seconds(61));
    stand.deliver().await;
    let kept = receiver.kept();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].header("webhook-id"), kept[1].header("webhook-id"));
    assert_eq!(kept[0].body, kept[1].body);
    assert_eq!(stand.number(DELIVERED).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_claim_records_nothing() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    let now = stand.clock.now();
    let store = &stand.notifier.store;
    let room = Room { free: 10, suspects: 10, busy: Vec::new(), account_max: (10, 10) };
    let [old] = &store.claim_deliveries(now, now + TimeDelta::seconds(60), &room).await.unwrap()[..] else { panic!() };
    stand.later(TimeDelta::seconds(61));
    stand.deliver().await;
    let outcome = Outcome {
        at: now,
        duration_ms: 1,
        status_code: Some(500),
        failure: None,
        answer: String::new(),
        rest_until: None,
    };
    assert!(!store.settle_delivery(old, &outcome, Settled::Dead).await.unwrap());
    assert_eq!(stand.number(DELIVERED).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_is_kept_and_ends_after_ten_attempts() {
    let stand = Stand::new().await;
    let receiver = Receiver::start((0..20).map(|_| Answer::of(503))).await;
    stand.endpoint(&receiver).await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.deliver().await;
    for pause in PAUSES {
        let wait = stand.due_at(1).await - stand.clock.now();
        let (least, most) = (pause.mul_f64(0.8), pause.mul_f64(1.2));
        assert!(wait >= TimeDelta::from_std(least).unwrap() && wait <= TimeDelta::from_std(most).unwrap(), "{wait}");
        let made = receiver.kept().len();
        stand.later(wait - TimeDelta::milliseconds(1));
        stand.deliver().await;
        assert_eq!(receiver.kept().len(), made, "not before it is due");
        stand.later(TimeDelta::milliseconds(1));
        stand.deliver().await;
        assert_eq!(receiver.kept().len(), made + 1);
    }
    assert_eq!(stand.number("SELECT count(*) FROM delivery WHERE state = 3").await, 1, "given up");
    assert_eq!(stand.number("SELECT count(*) FROM attempt").await, 10);
    stand.later(TimeDelta::days(30));
    stand.deliver().await;
    assert_eq!(receiver.kept().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_a_longer_pause_is_granted_up_to_a_day() {
    for (wished, least, most) in [("3600", 3600, 3600), ("1", 4, 6), ("999999", 86_400, 86_400), ("soon", 4, 6)] {
        let stand = Stand::new().await;
        let receiver = Receiver::start([Answer::of(429).with("retry-after", wished)]).await;
        stand.endpoint(&receiver).await;
        stand.happens(EventType::EnvelopeSent, 1);
        stand.follow().await;
        stand.deliver().await;
        let wait = (stand.due_at(1).await - stand.clock.now()).num_seconds();
        assert!((least..=most).contains(&wait), "{wished}: {wait} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_may_be_a_date() {
    let stand = Stand::new().await;
    let date = (Utc::now() + TimeDelta::hours(2)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let receiver = Receiver::start([Answer::of(503).with("retry-after", &date)]).await;
    stand.endpoint(&receiver).await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.deliver().await;
    assert!((stand.due_at(1).await - stand.clock.now()).num_minutes() >= 115);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_gets_nothing_any_more() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([Answer::of(410)]).await;
    stand.endpoint(&receiver).await;
    for sequence in 1..=3 {
        stand.happens(EventType::RecipientSigned, sequence);
    }
    stand.follow().await;
    stand.deliver().await;
    assert_eq!(receiver.kept().len(), 1);
    assert_eq!(stand.number("SELECT count(*) FROM delivery WHERE state = 4").await, 3);
    stand.happens(EventType::EnvelopeCompleted, 4);
    stand.follow().await;
    stand.later(TimeDelta::days(4));
    stand.deliver().await;
    assert_eq!((receiver.kept().len(), stand.number(PENDING).await), (1, 0));
}

/// T-32: it was given another address while its old one answered that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn t32_an_old_address_does_not_speak_for_the_new_one() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    let endpoint = stand.endpoint_of(stand.account, "http://127.0.0.1:9/").await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    let (now, store) = (stand.clock.now(), &stand.notifier.store);
    let room = Room { free: 10, suspects: 10, busy: Vec::new(), account_max: (10, 10) };
    let [old] = &store.claim_deliveries(now, now + TimeDelta::seconds(60), &room).await.unwrap()[..] else { panic!() };
    let named = Named { account: stand.account, livemode: true, id: endpoint.id };
    let url = receiver.url.clone();
    let changes = EndpointChanges { url: Some(url), trusted: true, ..EndpointChanges::default() };
    store.update_endpoint(named, changes, None, |_| Vec::new()).await.unwrap();
    let outcome = Outcome {
        at: now,
        duration_ms: 1,
        status_code: Some(410),
        failure: None,
        answer: String::new(),
        rest_until: Some(now + TimeDelta::hours(1)),
    };
    assert!(store.settle_delivery(old, &outcome, Settled::Gone).await.unwrap());
    let told = Told { event: countersign_notifier::id::EventId::new(), kind: 31, body: b"{}".to_vec() };
    let gone = (stand.account, endpoint.id, old.url.as_str());
    assert!(!store.disable_endpoint(gone, Disabled::Gone, now, &told).await.unwrap());
    assert_eq!(stand.number("SELECT sum(consecutive_failures)::bigint FROM endpoint").await, 0);
    stand.deliver().await;
    assert_eq!((receiver.sequences(), stand.number(DELIVERED).await), (vec![1], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn t30_a_later_event_waits_for_the_earlier_ones_of_its_envelope_for_a_minute() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([Answer::of(500), Answer::of(500)]).await;
    stand.endpoint(&receiver).await;
    for sequence in 1..=3 {
        stand.happens(EventType::RecipientSigned, sequence);
    }
    stand.follow().await;
    for attempts in 1..=2 {
        stand.deliver().await;
        assert_eq!(receiver.sequences(), vec![1; attempts]);
        let wait = stand.due_at(1).await - stand.clock.now();
        stand.later(wait.min(TimeDelta::seconds(50)));
    }
    stand.deliver().await;
    assert_eq!(receiver.sequences(), [1, 1], "they still wait");
    stand.later(TimeDelta::seconds(11));
    stand.deliver().await;
    assert_eq!(receiver.sequences(), [1, 1, 2, 3], "a minute after the first attempt nobody is held up any longer");
    stand.later(stand.due_at(1).await - stand.clock.now());
    stand.deliver().await;
    assert_eq!(receiver.sequences(), [1, 1, 2, 3, 1]);
    assert_eq!(stand.number(PENDING).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_envelope_is_not_held_up() {
    let mut stand = Stand::new().await;
    let receiver = Receiver::start([Answer::of(500)]).await;
    stand.endpoint(&receiver).await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.deliver().await;
    stand.envelope = countersign_notifier::id::EnvelopeId::new();
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.deliver().await;
    assert_eq!(receiver.kept().len(), 2);
    assert_eq!(stand.number(DELIVERED).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn little_of_an_answer_is_kept() {
    let stand = Stand::new().await;
    let mut body = vec![0_u8];
    body.resize(1024 * 1024, b'x');
    let receiver = Receiver::start([Answer { body, ..Answer::of(500) }]).await;
    stand.endpoint(&receiver).await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.deliver().await;
    assert_eq!(stand.number("SELECT length(answer)::bigint FROM attempt WHERE status_code = 500").await, 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_a_failure_in_a_word() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    let endpoint = stand.endpoint(&receiver).await;
    drop(receiver);
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.deliver().await;
    assert_eq!(stand.number("SELECT count(*) FROM attempt WHERE failure = 'no_connection'").await, 1);
    let logged = crate::stand::logged();
    let told: Vec<_> = logged.lines().filter(|line| line.contains(&endpoint.id.to_string())).collect();
    assert!(!told.is_empty() && told.iter().all(|line| !line.contains("127.0.0.1")), "the address is logged: {told:?}");
}

/// A delivery that was planned while its endpoint was being removed has nobody to go to. It must not stand in the way.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_to_nobody_do_not_hold_up_the_others() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    for sequence in 1..=40 {
        stand.happens(EventType::RecipientSigned, sequence);
    }
    stand.follow().await;
    stand
        .sql("UPDATE delivery SET endpoint_id = gen_random_uuid(), envelope_id = gen_random_uuid(), next_at = next_at - interval '1 hour'")
        .await;
    stand.happens(EventType::EnvelopeCompleted, 41);
    stand.follow().await;
    stand.deliver().await;
    assert_eq!(receiver.sequences(), [41]);
}

/// What was planned while the endpoint was being disabled.
#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_endpoint_gets_nothing_even_if_it_was_planned() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.sql("UPDATE endpoint SET disabled_at = created_at, disabled_reason = 1").await;
    stand.deliver().await;
    assert_eq!(receiver.kept().len(), 0);
}

/// A receiver that never answers keeps its own deliveries waiting, not everybody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_receiver_does_not_hold_up_the_others() {
    let stand = Stand::new().await;
    let hanging = Receiver::start([Answer { hang: true, ..Answer::of(200) }]).await;
    let healthy = Receiver::start([]).await;
    stand.endpoint(&hanging).await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.notifier.store.leave_partitions(stand.notifier.leases.me).await.unwrap();
    let mut config = stand.config.clone();
    config.delivery_poll_ms = 20;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = countersign_notifier::serve::serve(config, stand.clock.clone(), listener, stop.clone());
    let serving = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(serving));
    hanging.wait_for(1).await;
    stand.endpoint(&healthy).await;
    stand.happens(EventType::RecipientSigned, 2);
    let came = tokio::time::timeout(std::time::Duration::from_secs(5), healthy.wait_for(1)).await;
    drop(serving);
    assert!(came.is_ok(), "the healthy receiver waits for the hanging one");
}
