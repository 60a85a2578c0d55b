//! Addresses of single envelopes: learnt from the envelope service, used only where the account has proved that it wants
//! webhooks, each with a secret of its own.

use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::EventType;
use countersign_chassis::wire::timestamp;
use countersign_notifier::id::{AccountId, EndpointId, EnvelopeId};
use tonic::Code;

use crate::endpoints::{Serving, by};
use crate::receiver::{Answer, Receiver};
use crate::stand::Stand;

const CANCELLED: &str = "SELECT count(*) FROM delivery WHERE state = 4 AND cause = 'origin_not_verified'";

/// The envelope has that address of its own.
fn has_address(stand: &Stand, url: &str) {
    let envelope = v1::Envelope {
        id: stand.envelope.to_string(),
        account_id: stand.account.to_string(),
        livemode: true,
        webhook_url: url.to_owned(),
        ..Default::default()
    };
    stand.double.script().envelopes.insert(envelope.id.clone(), envelope);
}

fn happens(stand: &Stand, kind: EventType, sequence: u64) {
    let state = v1::EnvelopeState { has_webhook: true, ..Default::default() };
    stand.happens_with(kind, sequence, state, None);
}

/// C-19, S1.31, S1.32: asked for once, posted to, signed with its own secret, listed on request only.
#[tokio::test(flavor = "multi_thread")]
async fn c19_an_envelopes_own_address_hears_of_it() {
    let serving = Serving::with(|_| {}).await;
    let stand = &serving.stand;
    let (key, receiver) = (serving.key(stand.account, true), Receiver::start([]).await);
    has_address(stand, &receiver.url);
    happens(stand, EventType::EnvelopeSent, 1);
    happens(stand, EventType::EnvelopeDeclined, 2);
    serving.follow().await;
    happens(stand, EventType::EnvelopeArtifactReady, 3);
    serving.follow().await;
    receiver.wait_for(3).await;
    assert_eq!(receiver.sequences(), [1, 2, 3]);
    assert_eq!(stand.double.script().asked_by.len(), 1, "asked for once");
    let list = async |with_envelopes| {
        let request = v1::ListWebhookEndpointsRequest { with_envelopes, ..Default::default() };
        serving.client.clone().list_webhook_endpoints(by(&key, request)).await.unwrap().into_inner().endpoints
    };
    assert!(list(false).await.is_empty());
    let [listed] = &list(true).await[..] else { panic!("not one") };
    assert_eq!(
        (listed.envelope_id.as_str(), listed.url.as_str()),
        (stand.envelope.to_string().as_str(), receiver.url.as_str())
    );
    for _ in 0..20 {
        serving.create(&key, "http://127.0.0.1:9/").await.expect("it does not count");
    }
    let request = v1::GetEnvelopeWebhookSecretRequest { envelope_id: stand.envelope.to_string() };
    let secret =
        serving.client.clone().get_envelope_webhook_secret(by(&key, request.clone())).await.unwrap().into_inner();
    assert_eq!(secret.endpoint_id, listed.id);
    let verifier = standardwebhooks::Webhook::new(&secret.secret).unwrap();
    receiver.kept().iter().for_each(|kept| verifier.verify(&kept.body, &kept.headers).unwrap());
    let reads = serving.key(stand.account, true);
    stand.double.script().keys.get_mut(&reads).unwrap().scopes = vec![8];
    let status = serving.client.clone().get_envelope_webhook_secret(by(&reads, request.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let random = v1::GetEnvelopeWebhookSecretRequest { envelope_id: EnvelopeId::new().to_string() };
    let (other, test) = (serving.key(AccountId::new(), true), serving.key(stand.account, false));
    for (key, request) in [(&other, request.clone()), (&test, request), (&key, random)] {
        let status = serving.client.clone().get_envelope_webhook_secret(by(key, request)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }
    let named = v1::DeleteWebhookEndpointRequest { endpoint_id: listed.id.clone(), ..Default::default() };
    assert_eq!(
        serving.client.clone().delete_webhook_endpoint(by(&key, named)).await.unwrap_err().code(),
        Code::NotFound
    );
    serving.stop().await;
}

/// With the challenge on, an address is used where a verified endpoint of the account and mode has its origin.
#[tokio::test(flavor = "multi_thread")]
async fn c19_an_address_of_somebody_else_gets_nothing() {
    let stand = Stand::with(|config| config.webhook_challenge = true).await;
    let (receiver, other) = (Receiver::start([]).await, Receiver::start([]).await);
    has_address(&stand, &receiver.url);
    stand.endpoint_of(AccountId::new(), &receiver.url).await;
    stand.endpoint_of(stand.account, &other.url).await;
    let unverified = stand.endpoint(&receiver).await;
    let id = unverified.id.uuid();
    stand.sql(&format!("UPDATE endpoint SET verified_at = NULL WHERE id = '{id}'")).await;
    happens(&stand, EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.deliver().await;
    assert_eq!((stand.number(CANCELLED).await, receiver.kept().len()), (1, 0));
    stand.sql(&format!("UPDATE endpoint SET verified_at = created_at, types = '{{1}}' WHERE id = '{id}'")).await;
    happens(&stand, EventType::EnvelopeDeclined, 2);
    stand.follow().await;
    stand.deliver().await;
    assert_eq!((stand.number(CANCELLED).await, receiver.sequences()), (1, vec![2]));
}

/// The guard is for these too; a draft's address may change; one that is gone keeps nobody from anything.
#[tokio::test(flavor = "multi_thread")]
async fn t34_an_envelopes_address_is_guarded() {
    let stand = Stand::with(|config| config.webhook_allow_private = false).await;
    let receiver = Receiver::start([]).await;
    has_address(&stand, &receiver.url);
    happens(&stand, EventType::EnvelopeSent, 1);
    stand.follow().await;
    stand.deliver().await;
    let cancelled = "SELECT count(*) FROM delivery WHERE state = 4 AND cause = 'address_not_allowed'";
    assert_eq!((stand.number(cancelled).await, receiver.kept().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drafts_address_may_change_and_an_envelope_may_be_gone() {
    let mut stand = Stand::new().await;
    let (old, new) = (Receiver::start([]).await, Receiver::start([]).await);
    has_address(&stand, &old.url);
    happens(&stand, EventType::EnvelopeCreated, 1);
    stand.follow().await;
    stand.deliver().await;
    has_address(&stand, &new.url);
    happens(&stand, EventType::EnvelopeUpdated, 2);
    happens(&stand, EventType::EnvelopeSent, 3);
    stand.follow().await;
    stand.deliver().await;
    assert_eq!((old.sequences(), new.sequences()), (vec![1], vec![2, 3]));
    let own = EndpointId::from_uuid(stand.envelope.uuid());
    assert_eq!(stand.number(&format!("SELECT count(*) FROM endpoint WHERE id = '{}'", own.uuid())).await, 1);
    stand.envelope = EnvelopeId::new();
    happens(&stand, EventType::EnvelopeDiscarded, 1);
    stand.follow().await;
    assert_eq!(stand.number("SELECT count(*) FROM delivery WHERE state = 1").await, 0);
    // Whoever cannot be asked just now is asked again, and nothing is lost.
    stand.envelope = EnvelopeId::new();
    has_address(&stand, &new.url);
    happens(&stand, EventType::EnvelopeSent, 4);
    stand.double.script().away = true;
    let lease = stand.lease(&stand.notifier).await;
    assert!(stand.notifier.feed.tick(lease, &stand.stop).await.is_err());
    stand.double.script().away = false;
    stand.follow().await;
    stand.deliver().await;
    assert_eq!(new.sequences(), [2, 3, 4]);
}

/// C-19: nobody's wish posts to where the account has not proved that it wants webhooks: not a redelivery, not a replay.
#[tokio::test(flavor = "multi_thread")]
async fn c19_an_address_of_somebody_else_gets_nothing_again_either() {
    let serving = Serving::with(|config| config.webhook_challenge = true).await;
    let stand = &serving.stand;
    let (key, victim) = (serving.key(stand.account, true), Receiver::start([]).await);
    let began = stand.clock.now();
    has_address(stand, &victim.url);
    happens(stand, EventType::EnvelopeSent, 1);
    serving.follow().await;
    let id = EndpointId::from_uuid(stand.envelope.uuid()).to_string();
    let listed = serving.deliveries(&key, v1::ListDeliveriesRequest::default()).await.unwrap().deliveries;
    let these = v1::RedeliverEventsRequest { delivery_ids: vec![listed[0].id.clone()], ..Default::default() };
    assert_eq!(serving.redeliver(&key, these.clone()).await.unwrap(), 0);
    let enable = v1::EnableWebhookEndpointRequest {
        endpoint_id: id.clone(),
        replay_since: Some(timestamp(began)),
        ..Default::default()
    };
    let enabled = serving.client.clone().enable_webhook_endpoint(by(&key, enable)).await.unwrap().into_inner();
    assert_eq!((enabled.replayed, enabled.endpoint.unwrap().verified_at), (0, None));
    assert!(serving.test(&key, &id).await.is_err());
    assert_eq!((victim.kept().len(), stand.number(CANCELLED).await), (0, 1));
    // Once the origin is verified and the envelope goes on, its owner may have the rest.
    stand.endpoint_of(stand.account, &victim.url).await;
    stand.sql("UPDATE endpoint SET types = '{1}' WHERE envelope_id IS NULL").await;
    happens(stand, EventType::EnvelopeDeclined, 2);
    serving.follow().await;
    victim.wait_for(1).await;
    assert_eq!(serving.redeliver(&key, these).await.unwrap(), 1);
    victim.wait_for(2).await;
    assert_eq!(victim.sequences(), [2, 1]);
    serving.stop().await;
}

/// C-19: what waits for a draft's address does not follow it to somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn c19_what_waits_does_not_follow_an_address_to_somebody_else() {
    let stand = Stand::with(|config| config.webhook_challenge = true).await;
    let (own, victim) = (Receiver::start([Answer::of(500)]).await, Receiver::start([]).await);
    let proof = stand.endpoint(&own).await;
    stand.sql(&format!("UPDATE endpoint SET types = '{{32}}' WHERE id = '{}'", proof.id.uuid())).await;
    has_address(&stand, &own.url);
    happens(&stand, EventType::EnvelopeCreated, 1);
    stand.follow().await;
    stand.deliver().await;
    assert_eq!((own.sequences(), stand.number("SELECT count(*) FROM delivery WHERE state = 1").await), (vec![1], 1));
    has_address(&stand, &victim.url);
    happens(&stand, EventType::EnvelopeUpdated, 2);
    stand.follow().await;
    stand.later(TimeDelta::hours(1));
    stand.deliver().await;
    assert_eq!((victim.kept().len(), stand.number(CANCELLED).await), (0, 2));
    // Back again, it is verified again, and what happens is posted.
    has_address(&stand, &own.url);
    happens(&stand, EventType::EnvelopeUpdated, 3);
    stand.follow().await;
    stand.deliver().await;
    assert_eq!((own.sequences(), victim.kept().len()), (vec![1, 3], 0));
}
