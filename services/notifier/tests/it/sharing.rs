//! Several notifiers share the partitions of the feed. Must never let one that was taken for dead write anything.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::EventType;
use countersign_chassis::database::DatabaseError;
use countersign_notifier::feed::Feed;
use countersign_notifier::lease::Leases;
use countersign_notifier::serve::Notifier;
use countersign_notifier::sink::{Sink, Traces, Work};
use countersign_notifier::store::Lease;
use diesel_async::AsyncPgConnection;

use crate::receiver::Receiver;
use crate::stand::Stand;

const DELIVERIES: &str = "SELECT count(*) FROM delivery";

/// Everybody looks a few times, in turn; then what each holds.
async fn settled(stand: &Stand, processes: &[&Notifier]) -> Vec<Vec<Lease>> {
    for _ in 0..3 {
        for process in processes {
            stand.leases_of(process).await;
        }
    }
    let mut held = Vec::new();
    for process in processes {
        held.push(stand.leases_of(process).await);
    }
    held
}

fn partitions(leases: &[Lease]) -> BTreeSet<u8> {
    leases.iter().map(|lease| lease.partition).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn t37_processes_share_the_partitions_evenly_and_each_is_followed_by_one() {
    let stand = Stand::new().await;
    let mut processes = Vec::new();
    for _ in 0..5 {
        processes.push(stand.another().await);
    }
    for count in 1..=5 {
        let held = settled(&stand, &processes.iter().take(count).collect::<Vec<_>>()).await;
        let all: Vec<u8> = held.iter().flat_map(|leases| partitions(leases)).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 16, "{count}: every partition is followed");
        assert_eq!(all.len(), 16, "{count}: by one process");
        assert!(held.iter().all(|leases| leases.len() <= 16_usize.div_ceil(count)), "{count}: {held:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_looks_at_once_leave_each_partition_with_one() {
    let stand = Stand::new().await;
    let mut processes = Vec::new();
    for _ in 0..8 {
        processes.push(stand.another().await);
    }
    for _ in 0..5 {
        let looks = processes.iter().map(|process| stand.leases_of(process));
        let held: Vec<u8> = futures_util::future::join_all(looks).await.iter().flat_map(|it| partitions(it)).collect();
        assert_eq!(held.iter().collect::<BTreeSet<_>>().len(), held.len(), "nobody shares one: {held:?}");
    }
    let held = settled(&stand, &processes.iter().collect::<Vec<_>>()).await;
    assert!(held.iter().all(|leases| leases.len() == 2), "{held:?}");
}

/// A process that was paused for longer than its leases: others have taken over, and nothing of what it still had in hand is
/// kept.
#[tokio::test(flavor = "multi_thread")]
async fn t37_who_was_paused_and_resumes_writes_nothing() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    let event = stand.happens(EventType::EnvelopeSent, 1);
    let paused = stand.another().await;
    let old = stand.lease(&paused).await;
    let in_hand = stand.webhooks().plan(&[event], &Traces::new()).await.unwrap();
    assert_eq!(paused.store.resume_token(old).await.unwrap().as_deref(), Some(""));

    stand.later(TimeDelta::seconds(16));
    let new = stand.lease(&stand.notifier).await;
    assert_eq!((new.partition, new.epoch), (old.partition, old.epoch + 1));
    assert!(!paused.store.advance(old, "", "9", &[in_hand]).await.unwrap());
    paused.store.start_over(old, "").await.unwrap();
    assert_eq!(stand.number("SELECT count(*) FROM feed_partition WHERE lost_from IS NOT NULL").await, 0);
    assert_eq!((stand.number(DELIVERIES).await, stand.token().await.as_str()), (0, ""));
    assert_eq!(paused.store.resume_token(old).await.unwrap(), None, "it sees that it is not the owner any more");
    stand.follow().await;
    assert_eq!((stand.number(DELIVERIES).await, stand.token().await.as_str()), (1, "1"));
}

/// The owner is the same again, but not for the consumer that it had before: in between somebody else went ahead.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_lease_of_the_same_process_is_worth_nothing() {
    let stand = Stand::new().await;
    let (first, other) = (stand.lease(&stand.notifier).await, stand.another().await);
    stand.later(TimeDelta::seconds(16));
    stand.lease(&other).await;
    other.store.leave_partitions(other.leases.me).await.unwrap();
    let again = stand.lease(&stand.notifier).await;
    assert_eq!((again.owner, again.epoch), (first.owner, first.epoch + 2));
    assert!(!stand.notifier.store.advance(first, "", "9", &[]).await.unwrap());
    assert_eq!(stand.notifier.store.resume_token(first).await.unwrap(), None);
    assert!(stand.notifier.store.advance(again, "", "9", &[]).await.unwrap());
}

/// Its lease has run out but nobody wanted it: nothing is lost by going on.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_before_anybody_else_goes_on_under_the_same_lease() {
    let stand = Stand::new().await;
    let before = stand.lease(&stand.notifier).await;
    stand.later(TimeDelta::minutes(5));
    assert_eq!(stand.lease(&stand.notifier).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_alive_is_not_taken() {
    let stand = Stand::new().await;
    stand.leases_of(&stand.notifier).await;
    let other = stand.another().await;
    stand.later(TimeDelta::seconds(15) - TimeDelta::microseconds(1));
    assert_eq!(stand.leases_of(&other).await, [], "nothing is free yet");
    stand.later(TimeDelta::microseconds(1));
    assert_eq!(stand.leases_of(&other).await.len(), 16, "the first is gone: its leases and its seat");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_gives_everything_back_at_once() {
    let stand = Stand::new().await;
    stand.leases_of(&stand.notifier).await;
    let other = stand.another().await;
    stand.notifier.store.leave_partitions(stand.notifier.leases.me).await.unwrap();
    assert_eq!(stand.leases_of(&other).await.len(), 16);
}

/// The running loop: consumers begin with a lease and end with it.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_come_and_go_with_their_leases() {
    let stand = Stand::new().await;
    stand.double.script().hold = true;
    stand.notifier.leases.tick().await.unwrap();
    let streams = || stand.double.script().watched.iter().flat_map(|it| it.0.clone()).collect::<BTreeSet<_>>().len();
    crate::receiver::until(async || streams() == 16).await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;

    // Another one takes half: the first lets go of its half at the next look, and both follow their own.
    let other = stand.another().await;
    other.leases.tick().await.unwrap();
    stand.notifier.leases.tick().await.unwrap();
    other.leases.tick().await.unwrap();
    assert_eq!(stand.number("SELECT count(DISTINCT owner) FROM feed_partition WHERE epoch = 2").await, 1);
    assert_eq!(stand.number("SELECT count(*) FROM feed_partition WHERE epoch = 2").await, 8);
    stand.stop.cancel();
    tokio::time::timeout(crate::receiver::SOON, stand.notifier.leases.leave()).await.expect("ends at once");
    assert_eq!(stand.number("SELECT count(*) FROM feed_partition WHERE owner IS NULL").await, 8);
}

/// Panics once.
struct Clumsy(AtomicBool);

struct Nothing;

#[tonic::async_trait]
impl Sink for Clumsy {
    async fn plan(&self, _: &[v1::Event], _: &Traces) -> anyhow::Result<Box<dyn Work>> {
        assert!(self.0.swap(true, Ordering::Relaxed), "the first time");
        Ok(Box::new(Nothing))
    }
}

#[tonic::async_trait]
impl Work for Nothing {
    async fn keep(&self, _: &AsyncPgConnection) -> Result<(), DatabaseError> {
        Ok(())
    }

    fn kept(&self) {}
}

/// The lease of a consumer that broke is still this process's: nobody else would follow.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_panics_is_begun_anew() {
    let stand = Stand::new().await;
    stand.happens(EventType::EnvelopeSent, 1);
    let sinks: [Box<dyn Sink>; 1] = [Box::new(Clumsy(AtomicBool::new(false)))];
    let feed = Feed { sinks: Arc::new(sinks), ..stand.notifier.feed.clone() };
    let leases = Leases::new(feed, TimeDelta::seconds(15), stand.stop.clone());
    let came = async || {
        leases.tick().await.unwrap();
        stand.token().await == "1"
    };
    crate::receiver::until(came).await;
    stand.stop.cancel();
    tokio::time::timeout(crate::receiver::SOON, leases.leave()).await.expect("ends at once");
}
