//! Master keys are changed: endpoints are signed for as their owners were told, or not at all, and what the notifier can do over
//! anew it does over.

use chrono::TimeDelta;
use countersign::v1::{self, EventType};
use countersign_chassis::config::KeyConfig;
use countersign_chassis::ticker::Progress;
use countersign_notifier::store::{MailRoom, Quota};
use countersign_notifier::webhook::headers::Seal;
use tonic::Code;

use crate::endpoints::{Serving, by};
use crate::receiver::{Kept, Receiver};
use crate::stand::{Stand, logged};

/// The key of stands, and the one that comes after it.
const KEYS: [&str; 2] = ["5c", "b2"];

/// The first makes what is new.
fn keys(bytes: &[&str]) -> KeyConfig {
    let mut keys = bytes.iter().map(|byte| byte.repeat(32).into());
    KeyConfig { master_key: keys.next().unwrap(), master_key_former: keys.collect() }
}

fn is_signed(kept: &Kept, secret: &str) -> bool {
    let verifier = standardwebhooks::Webhook::new(secret).unwrap();
    let at = kept.header("webhook-timestamp").parse().unwrap();
    let sign = verifier.sign(kept.header("webhook-id"), at, &kept.body).unwrap();
    kept.header("webhook-signature").split(' ').any(|one| one == sign)
}

/// An endpoint's secret is the one that was shown, whoever posts; without its key nothing is posted, no attempt is lost, and what
/// waited comes when the key is there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_signed_as_it_was_or_waits() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    let endpoint = stand.endpoint(&receiver).await;
    let secret = stand.secret(&endpoint);
    let [old, new] = KEYS;
    let (rotated, without) = (stand.with_keys(keys(&[new, old])).await, stand.with_keys(keys(&[new])).await);

    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.deliver_as(&rotated).await;
    assert!(is_signed(&receiver.kept()[0], &secret));

    stand.happens(EventType::EnvelopeDeclined, 2);
    stand.follow().await;
    for _ in 0..2 {
        stand.deliver_as(&without).await;
        stand.later(TimeDelta::seconds(61));
    }
    assert_eq!(receiver.kept().len(), 1, "nothing is signed by another key");
    assert_eq!(stand.number("SELECT count(*) FROM delivery WHERE state = 1 AND attempts = 0").await, 1);
    assert_eq!(stand.number("SELECT count(*) FROM endpoint WHERE consecutive_failures > 0").await, 0);
    let missing = format!("the master key {} is not in the ring", endpoint.generation.key);
    assert!(logged().contains(&missing) && logged().contains("a webhook cannot be signed; it waits"), "{missing}");

    stand.deliver_as(&rotated).await;
    assert_eq!(receiver.kept().len(), 2);
    assert!(is_signed(&receiver.kept()[1], &secret));
}

/// What is missing is said at the start; headers are sealed anew by whoever has both keys, and work without the former one.
#[tokio::test(flavor = "multi_thread")]
async fn headers_are_sealed_anew_and_missing_keys_are_told() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    let [old, new] = KEYS;
    let endpoint = stand.endpoint(&receiver).await;
    let seal = Seal::new(&keys(&[old]).ring().unwrap()).unwrap();
    let headers = vec![("x-api-key".to_owned(), "theirs".to_owned())];
    let sealed = hex::encode(seal.close(endpoint.account, endpoint.id, &headers).unwrap());
    stand.sql(&format!("UPDATE endpoint SET headers_sealed = decode('{sealed}', 'hex')")).await;
    let other = keys(&["e7"]).ring().unwrap().current().fingerprint();
    let elsewhere = stand.endpoint(&receiver).await;
    stand.sql(&format!("UPDATE endpoint SET generation_key = {} WHERE id = '{}'", other.0, elsewhere.id.uuid())).await;

    let rotated = stand.with_keys(keys(&[new, old])).await;
    // More than are looked at together, which cannot be opened, stand in front of it.
    stand
        .sql(&format!(
            "INSERT INTO endpoint SELECT (jsonb_populate_record(e, jsonb_build_object('id', uuid(lpad(n::text, 32, '0')),
                'headers_sealed', '\\x' || encode(substring(e.headers_sealed FOR 8), 'hex') || '00'))).*
             FROM endpoint AS e, generate_series(1, 101) AS n WHERE e.id = '{}'",
            endpoint.id.uuid()
        ))
        .await;
    let as_before = format!("SELECT count(*) FROM endpoint WHERE headers_sealed = decode('{sealed}', 'hex')");
    assert_eq!(stand.number(&as_before).await, 1);
    assert_eq!(rotated.rotation.tick().await.unwrap(), Progress::Busy);
    assert_eq!(rotated.rotation.tick().await.unwrap(), Progress::Idle, "once");
    assert_eq!(stand.number(&as_before).await, 0);
    let told = logged();
    let mut lines = told.lines().filter(|line| line.contains("endpoints need a master key that is not in the ring"));
    assert!(lines.any(|line| line.contains(&other.to_string())), "{other} is told");
    assert!(!told.contains(&new.repeat(32)) && !told.contains(&old.repeat(32)), "the keys themselves are not");

    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    // Its own secret is made anew, too, so that it needs the new key alone.
    let store = &rotated.store;
    let named = countersign_notifier::store::Named { account: endpoint.account, livemode: true, id: endpoint.id };
    let newest = keys(&[new]).ring().unwrap().current().fingerprint();
    store.rotate_secret(named, newest, None, None, |_| Vec::new()).await.unwrap().expect("there");
    stand.deliver_as(&stand.with_keys(keys(&[new])).await).await;
    let [kept] = &receiver.kept()[..] else { panic!("one, and nothing to the other endpoint") };
    assert_eq!(kept.header("x-api-key"), "theirs");
}

/// The secret of an envelope's own address is the same whether it was asked for before the key was changed or after, and whether
/// anything had happened to the envelope or not.
#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_an_envelopes_own_address_stays() {
    let serving = Serving::with(|_| {}).await;
    let stand = &serving.stand;
    let (key, receiver) = (serving.key(stand.account, true), Receiver::start([]).await);
    let envelope = v1::Envelope {
        id: stand.envelope.to_string(),
        account_id: stand.account.to_string(),
        livemode: true,
        webhook_url: receiver.url.clone(),
        ..Default::default()
    };
    stand.double.script().envelopes.insert(envelope.id.clone(), envelope);
    let request = v1::GetEnvelopeWebhookSecretRequest { envelope_id: stand.envelope.to_string() };
    let shown = serving.client.clone().get_envelope_webhook_secret(by(&key, request)).await.unwrap().into_inner();

    let [old, new] = KEYS;
    let rotated = stand.with_keys(keys(&[new, old])).await;
    stand.later(TimeDelta::days(1));
    rotated.rotation.tick().await.unwrap();
    let state = v1::EnvelopeState { has_webhook: true, ..Default::default() };
    stand.happens_with(EventType::EnvelopeSent, 1, state, None);
    serving.stand.sql("DELETE FROM follower; UPDATE feed_partition SET owner = NULL, lease_until = NULL").await;
    stand.double.script().hold = false;
    stand.follow_as(&rotated).await;
    stand.double.script().hold = true;
    receiver.wait_for(1).await;
    assert!(is_signed(&receiver.kept()[0], &shown.secret));
    let newest = keys(&[new]).ring().unwrap().current().fingerprint();
    assert_eq!(stand.number(&format!("SELECT count(*) FROM master_key WHERE fingerprint = {}", newest.0)).await, 1);
    assert_eq!(stand.number("SELECT count(*) FROM master_key").await, 2);
    serving.stop().await;
}

/// Without its key an endpoint's challenge and an envelope's secret are UNAVAILABLE, and its owner helps themselves by a new one.
#[tokio::test(flavor = "multi_thread")]
async fn who_rotates_their_secret_needs_the_former_key_no_more() {
    let serving = Serving::with(|config| config.webhook_challenge = true).await;
    let stand = &serving.stand;
    let (key, receiver) = (serving.key(stand.account, true), Receiver::start([]).await);
    let id = serving.create(&key, &receiver.url).await.unwrap().endpoint.unwrap().id;
    stand.sql("UPDATE endpoint SET generation_key = 7").await;
    let request = v1::VerifyWebhookEndpointRequest { endpoint_id: id.clone(), ..Default::default() };
    let refused = serving.client.clone().verify_webhook_endpoint(by(&key, request)).await.unwrap_err();
    assert_eq!((refused.code(), receiver.kept().len()), (Code::Unavailable, 0));
    let request = v1::RotateWebhookSecretRequest { endpoint_id: id.clone(), ..Default::default() };
    let rotated = serving.client.clone().rotate_webhook_secret(by(&key, request)).await.unwrap().into_inner();
    stand.sql("UPDATE endpoint SET verified_at = created_at").await;
    serving.test(&key, &id).await.unwrap();
    receiver.wait_for(1).await;
    let kept = &receiver.kept()[0];
    assert!(is_signed(kept, &rotated.secret));
    assert_eq!(kept.header("webhook-signature").split(' ').count(), 1, "the one before cannot sign");
    serving.stop().await;
}

/// An address is counted however it was known in the last hour.
#[tokio::test(flavor = "multi_thread")]
async fn the_quota_of_an_address_outlives_a_key() {
    let stand = Stand::new().await;
    let (now, at) = (stand.clock.now(), stand.clock.now().to_rfc3339());
    for (number, address) in [(1, "01"), (2, "01"), (3, "02")] {
        stand
            .sql(&format!(
                "INSERT INTO mail (account_id, event_id, addressee_kind, addressee_id, kind, envelope_id, livemode, occurred_at,
                    state, attempts, next_at, lease_epoch, created_at, address, posted_at)
                 VALUES ('{}', gen_random_uuid(), 1, gen_random_uuid(), 1, gen_random_uuid(), true, '{at}', 2, 1, '{at}', 1, '{at}',
                    decode(repeat('{address}', 32), 'hex'), timestamptz '{at}' - interval '{number} minutes')",
                stand.account.uuid()
            ))
            .await;
    }
    stand
        .sql(&format!(
            "INSERT INTO mail (account_id, event_id, addressee_kind, addressee_id, kind, envelope_id, livemode, occurred_at, state,
                attempts, next_at, lease_epoch, created_at)
             VALUES ('{}', gen_random_uuid(), 1, gen_random_uuid(), 1, gen_random_uuid(), false, '{at}', 1, 0, '{at}', 0, '{at}')",
            stand.account.uuid()
        ))
        .await;
    let store = &stand.notifier.store;
    let claimed = store.claim_mail(now, now + TimeDelta::minutes(5), true).await.unwrap().expect("due");
    let take = async |addresses: &[[u8; 32]], address_max| {
        let quota = Quota { address_max, account_max: 10 };
        store.take_mail_quota(&claimed, addresses, now, now, quota).await.unwrap()
    };
    // Two under the one key and one under the other: the oldest of three makes room last.
    let room = MailRoom::At(now - TimeDelta::minutes(3) + TimeDelta::hours(1));
    assert_eq!(take(&[[3; 32], [1; 32], [2; 32]], 3).await, room);
    assert_eq!(take(&[[3; 32], [1; 32]], 3).await, MailRoom::Taken);
    let kept = "SELECT count(*) FROM mail WHERE address = decode(repeat('03', 32), 'hex')";
    assert_eq!(stand.number(kept).await, 1, "under the first");
}
