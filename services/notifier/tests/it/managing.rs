//! The life of an endpoint over the wire: challenge, changes, rotation, tests, being switched on again. Everything runs by
//! itself. Must never let one account see or touch another's.

use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::{DeliveryState, EventType, WebhookEndpointState};
use countersign_chassis::wire::timestamp;
use countersign_notifier::id::{AccountId, EndpointId};
use countersign_notifier::sink::{Sink as _, Traces};
use countersign_notifier::store::Named;
use tonic::Code;

use crate::endpoints::{Serving, by, reason};
use crate::owner::{Knowing, fact, violated};
use crate::receiver::{Answer, Receiver, until};
use crate::stand::Stand;

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
    let soon = serving.verify(&key, &id).await.unwrap_err();
    assert_eq!(
        (reason(&soon).as_str(), new.types().len()),
        ("RATE_LIMIT_EXCEEDED", 0),
        "nor is anybody bothered at once"
    );
    serving.stand.later(TimeDelta::seconds(5));
    assert_eq!(serving.verify(&key, &id).await.unwrap().state(), WebhookEndpointState::Active);
    assert_eq!((old.types().len(), new.types().len()), (1, 1));
    serving.stop().await;
}

/// S1.34: the address changes while the challenge is under way: it is the one that was asked which is verified.
#[tokio::test(flavor = "multi_thread")]
async fn s1_34_the_address_that_was_asked_is_verified() {
    let serving = Serving::with(|config| config.webhook_challenge = true).await;
    let key = serving.key(AccountId::new(), true);
    let asked = Knowing::start().await;
    let made = serving.create(&key, "http://127.0.0.1:9/").await.unwrap();
    let id = made.endpoint.unwrap().id;
    made.secret.clone_into(&mut asked.secret.lock().unwrap());
    let owner = serving.stand.database.connect().await;
    owner.batch_execute(&format!("BEGIN; UPDATE endpoint SET url = '{}'", asked.url)).await.unwrap();
    let changing = async {
        let held =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until(async || serving.stand.number(held).await == 1).await;
        owner.batch_execute("COMMIT").await.unwrap();
    };
    let (verified, ()) = tokio::join!(serving.verify(&key, &id), changing);
    let verified = verified.unwrap();
    assert_eq!((verified.state(), verified.url.as_str()), (WebhookEndpointState::Active, asked.url.as_str()));
    assert_eq!(asked.types(), ["endpoint.challenge"]);
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

/// T-32: what is planned while its owner switches an endpoint on is posted, whoever comes first.
#[tokio::test(flavor = "multi_thread")]
async fn t32_what_is_planned_while_an_endpoint_is_enabled_is_posted() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    let endpoint = stand.endpoint(&receiver).await;
    let off = "UPDATE endpoint SET disabled_at = created_at, disabled_reason = 1";
    let named = Named { account: stand.account, livemode: true, id: endpoint.id };
    let since = stand.clock.now();
    let enable =
        async || stand.notifier.store.enable_endpoint(named, (Some(since), 10), None, |_, _| Vec::new()).await.unwrap();
    // Planned, enabled, kept.
    stand.sql(off).await;
    let lease = stand.lease(&stand.notifier).await;
    let work = stand.webhooks().plan(&[stand.happens(EventType::EnvelopeSent, 1)], &Traces::new()).await.unwrap();
    assert_eq!(enable().await.unwrap().1, 0);
    assert!(stand.notifier.store.advance(lease, "", "1", &[work]).await.unwrap());
    stand.deliver().await;
    assert_eq!(receiver.sequences(), [1]);
    // Kept but not committed, enabled: that waits, and finds it.
    stand.sql(off).await;
    let holder = stand.database.connect().await;
    let id = endpoint.id.uuid();
    let note = format!(
        "BEGIN; SELECT FROM endpoint WHERE id = '{id}' FOR SHARE;
         INSERT INTO delivery (account_id, endpoint_id, event_id, livemode, type, sequence, body, state, cause, attempts, tries,
            next_at, lease_epoch, created_at)
         SELECT account_id, id, gen_random_uuid(), true, 2, 2, '{{\"data\":{{\"sequence\":\"2\"}}}}', 4,
            'endpoint_disabled', 0, 0, created_at, 0, created_at FROM endpoint"
    );
    holder.batch_execute(&note).await.unwrap();
    let noting = async {
        let held =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until(async || stand.number(held).await == 1).await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (enabled, ()) = tokio::join!(enable(), noting);
    assert_eq!(enabled.unwrap().1, 1);
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
