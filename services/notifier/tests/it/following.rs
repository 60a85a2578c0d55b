//! The feed: what follows from an event is stored once, together with the place behind it.
//! Must never take a repeat for something new.

use countersign::v1;
use countersign::v1::{ErrorReason, EventType, RecipientStatus, WatchStart};
use countersign_chassis::database::DatabaseError;
use countersign_notifier::id::RecipientId;
use countersign_notifier::sink::{Sink, Traces, Work};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};

use crate::receiver::Receiver;
use crate::stand::Stand;

const DELIVERIES: &str = "SELECT count(*) FROM delivery";
const MAILS: &str = "SELECT count(*) FROM mail";

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_planned_once_however_often_it_comes() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    let signer = RecipientId::new();
    let released = [(signer, RecipientStatus::Released)];
    stand.happens_to(EventType::RecipientReleased, 1, &released, Some(signer));
    stand.happens(EventType::EnvelopeAllActed, 2);
    stand.follow().await;
    assert_eq!((stand.number(DELIVERIES).await, stand.number(MAILS).await), (2, 1));
    assert_eq!(stand.token().await, "2");
    assert_eq!(stand.watched(), [(String::new(), WatchStart::Oldest as i32)]);

    // A feed that starts over brings everything again.
    stand.sql("UPDATE feed_partition SET resume_token = ''").await;
    stand.happens(EventType::EnvelopeVoided, 3);
    stand.follow().await;
    assert_eq!((stand.number(DELIVERIES).await, stand.number(MAILS).await), (3, 1));
    stand.follow().await;
    assert_eq!(stand.watched().last().unwrap().0, "3", "resumes behind the last event");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_endpoints_of_the_account_and_mode_hear_of_it() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    let own = stand.endpoint(&receiver).await;
    for (account, livemode) in [(stand.account, false), (countersign_notifier::id::AccountId::new(), true)] {
        let id = countersign_notifier::id::EndpointId::new();
        let other = countersign_notifier::store::Endpoint { account, livemode, id, ..own.clone() };
        stand.notifier.store.create_endpoint(&other, 20, None).await.unwrap();
    }
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    assert_eq!(stand.number(DELIVERIES).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_at_an_old_place_inserts_nothing() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    stand.double.script().hold = true;
    let (feed, lease, stop) = (stand.notifier.feed.clone(), stand.lease(&stand.notifier).await, stand.stop.clone());
    let following = tokio::spawn(async move { feed.tick(lease, &stop).await });
    crate::receiver::until(async || stand.token().await == "0").await;
    following.abort();

    // Another process goes ahead; the plan of the first comes too late.
    stand.double.script().hold = false;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    assert_eq!(stand.number(DELIVERIES).await, 1);
    stand.sql("DELETE FROM delivery").await;
    assert!(!stand.notifier.store.advance(lease, "0", "9", &[]).await.unwrap());
    let event = stand.double.script().feed[0].clone();
    let webhooks = stand.webhooks();
    let late = webhooks.plan(&[event], &Traces::new()).await.unwrap();
    assert!(!stand.notifier.store.advance(lease, "0", "9", &[late]).await.unwrap());
    assert_eq!(stand.number(DELIVERIES).await, 0, "nothing of a fenced batch is kept");
    assert_eq!(stand.token().await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_at_once_plan_each_event_once() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    for sequence in 1..=50 {
        stand.happens(EventType::RecipientSigned, sequence);
    }
    let other = stand.another().await;
    let lease = stand.lease(&stand.notifier).await;
    let (first, second) =
        tokio::join!(stand.notifier.feed.tick(lease, &stand.stop), other.feed.tick(lease, &stand.stop));
    first.and(second).unwrap();
    stand.follow().await;
    assert_eq!(stand.number(DELIVERIES).await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_place_starts_over_and_is_kept_for_the_operator() {
    for reason in [ErrorReason::ResumeTokenTooOld, ErrorReason::FeedIncarnation] {
        let stand = Stand::new().await;
        let receiver = Receiver::start([]).await;
        stand.endpoint(&receiver).await;
        stand.happens(EventType::EnvelopeCreated, 1);
        stand.follow().await;
        stand.double.script().lost.insert("1".to_owned(), reason);
        stand.happens(EventType::EnvelopeSent, 2);
        stand.follow().await;
        assert_eq!(stand.number(DELIVERIES).await, 2, "{reason:?}: the first event came twice");
        let lost: String = stand
            .database
            .connect()
            .await
            .query_one("SELECT lost_from FROM feed_partition WHERE lost_from IS NOT NULL", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(lost, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_an_open_stream() {
    let stand = Stand::new().await;
    stand.double.script().hold = true;
    let (feed, lease, stop) = (stand.notifier.feed.clone(), stand.lease(&stand.notifier).await, stand.stop.clone());
    let following = tokio::spawn(async move { feed.tick(lease, &stop).await });
    crate::receiver::until(async || !stand.watched().is_empty()).await;
    stand.stop.cancel();
    let ended = tokio::time::timeout(crate::receiver::SOON, following).await.expect("ends at once");
    ended.unwrap().unwrap();
}

/// One event that cannot be read must not keep all others from everybody.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_event_does_not_stop_the_feed() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    stand.happens(EventType::EnvelopeCreated, 1);
    stand.double.script().feed[0].id = "not an id".to_owned();
    stand.happens(EventType::EnvelopeSent, 2);
    stand.follow().await;
    assert_eq!(stand.number(DELIVERIES).await, 1);
}

/// The contract: a client that meets a type it does not know ignores the event but keeps its token.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_type_is_passed_over() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    stand.happens(EventType::EnvelopeCreated, 1);
    stand.double.script().feed[0].r#type = 999;
    stand.follow().await;
    assert_eq!(stand.token().await, "1");
    assert_eq!(stand.number(DELIVERIES).await, 0);
}

/// A broker as a third sink: the feed does not change for it.
struct Broker;

struct Messages(Vec<String>);

#[tonic::async_trait]
impl Sink for Broker {
    async fn plan(&self, events: &[v1::Event], _: &Traces) -> anyhow::Result<Box<dyn Work>> {
        Ok(Box::new(Messages(events.iter().map(|event| event.id.clone()).collect())))
    }
}

#[tonic::async_trait]
impl Work for Messages {
    async fn keep(&self, mut connection: &AsyncPgConnection) -> Result<(), DatabaseError> {
        for id in &self.0 {
            connection.batch_execute(&format!("INSERT INTO message VALUES ('{id}')")).await?;
        }
        Ok(())
    }

    fn kept(&self) {}
}

/// All sinks and the place move together: what one of them cannot keep, none keeps.
#[tokio::test(flavor = "multi_thread")]
async fn a_third_sink_gets_every_event_in_the_same_transaction() {
    let mut stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    let webhooks = stand.webhooks();
    let sinks: [Box<dyn Sink>; 2] = [Box::new(webhooks), Box::new(Broker)];
    stand.notifier.feed.sinks = std::sync::Arc::new(sinks);
    stand.happens(EventType::EnvelopeSent, 1);
    let lease = stand.lease(&stand.notifier).await;
    stand.notifier.feed.tick(lease, &stand.stop).await.expect_err("there is no table yet");
    assert_eq!((stand.number(DELIVERIES).await, stand.token().await.as_str()), (0, "0"));
    stand.sql("CREATE TABLE message (id text PRIMARY KEY); GRANT ALL ON message TO PUBLIC").await;
    stand.happens(EventType::EnvelopeVoided, 2);
    stand.follow().await;
    assert_eq!((stand.number(DELIVERIES).await, stand.number("SELECT count(*) FROM message").await), (2, 2));
}
