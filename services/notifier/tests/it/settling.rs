//! How it is written down what was taken: many at a time, each by whoever holds its lease, and by index however full the queue is.

use chrono::TimeDelta;
use countersign::v1::EventType;
use countersign_notifier::serve::Notifier;
use countersign_notifier::store::{ClaimedDelivery, Outcome};
use countersign_test_support::plans::Plans;
use tokio_util::sync::CancellationToken;

use crate::engine::{claim, room, waiting};
use crate::receiver::Receiver;
use crate::stand::{Stand, config};

const NOWHERE: &str = "http://127.0.0.1:9/";
const DELIVERED: &str = "SELECT count(*) FROM delivery WHERE state = 2";

fn taken(stand: &Stand) -> Outcome {
    Outcome {
        at: stand.clock.now(),
        duration_ms: 3,
        status_code: Some(200),
        failure: None,
        answer: "thanks".to_owned(),
        rest_until: None,
    }
}

/// T-30: of eight to two endpoints one claim has run out, and another process has it.
#[tokio::test(flavor = "multi_thread")]
async fn t30_each_is_settled_by_who_holds_it() {
    let stand = Stand::new().await;
    for _ in 0..2 {
        let endpoint = stand.endpoint_of(stand.account, NOWHERE).await;
        waiting(&stand, stand.account, endpoint.id, 4).await;
    }
    stand
        .sql("UPDATE endpoint SET consecutive_failures = 3, first_failed_at = created_at, resting_until = created_at")
        .await;
    let claimed = claim(&stand, &room(64)).await;
    assert_eq!(claimed.len(), 8);
    let lost = &claimed[5];
    stand
        .sql(&format!("UPDATE delivery SET lease_epoch = lease_epoch + 1 WHERE event_id = '{}'", lost.event.uuid()))
        .await;
    let outcome = taken(&stand);
    let all: Vec<(&ClaimedDelivery, &Outcome)> = claimed.iter().map(|claimed| (claimed, &outcome)).collect();
    let settled = stand.notifier.store.settle_taken(&all).await.unwrap();
    assert_eq!(settled, (0..8).filter(|place| *place != 5).collect());
    assert_eq!(stand.number(DELIVERED).await, 7);
    assert_eq!(
        stand.number("SELECT count(*) FROM attempt WHERE number = 1 AND status_code = 200 AND answer = 'thanks'").await,
        7
    );
    let well = "SELECT count(*) FROM endpoint WHERE consecutive_failures = 0 AND first_failed_at IS NULL
        AND resting_until IS NULL AND last_success_at IS NOT NULL";
    assert_eq!(stand.number(well).await, 2);
    assert!(stand.notifier.store.settle_taken(&all).await.unwrap().is_empty(), "settled once");
    assert_eq!(stand.number("SELECT max(attempts)::bigint FROM delivery").await, 1);
}

/// The database refuses what is to be written of one: the others are settled, and that one comes again.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_written_keeps_no_other_from_it() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    for sequence in 1..=8 {
        stand.happens(EventType::EnvelopeSent, sequence);
    }
    stand.follow().await;
    // Each of an envelope of its own, so that all of them are posted together.
    stand
        .sql(
            "UPDATE delivery SET envelope_id = gen_random_uuid();
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                IF (SELECT sequence FROM delivery WHERE event_id = NEW.event_id) = 4 THEN RAISE 'not this one'; END IF;
                RETURN NEW;
             END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON attempt FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    stand.deliver().await;
    assert_eq!((receiver.kept().len(), stand.number(DELIVERED).await), (8, 7));
    stand.sql("DROP TRIGGER refuse ON attempt").await;
    stand.later(TimeDelta::seconds(31));
    stand.deliver().await;
    assert_eq!((receiver.kept().len(), stand.number(DELIVERED).await), (9, 8));
}

/// Plans are kept with their connections. Those that were made while nothing waited do not read all that waits later.
#[tokio::test(flavor = "multi_thread")]
async fn claims_go_by_index_though_nothing_waited_when_they_were_planned() {
    let stand = Stand::new().await;
    let (plans, near) = Plans::of(&stand.database).await;
    let config = config(&near, &stand.double, None);
    let notifier = Notifier::new(&config, stand.clock.clone(), CancellationToken::new()).await.unwrap();
    let store = notifier.store;
    let (now, outcome) = (stand.clock.now(), taken(&stand));
    let claim = async || store.claim_deliveries(now, now + TimeDelta::seconds(30), &room(64)).await.unwrap();
    // As it is most of the time, and known to be.
    stand.sql("VACUUM ANALYZE delivery").await;
    // One after the other, so that it is the same connection.
    assert!(claim().await.is_empty());
    assert!(store.settle_taken(&[]).await.unwrap().is_empty());
    assert_eq!(store.cancel_orphans(now).await.unwrap(), 0);
    let endpoint = stand.endpoint_of(stand.account, NOWHERE).await;
    waiting(&stand, stand.account, endpoint.id, 3_000).await;
    drop(plans.take());
    let claimed = claim().await;
    assert_eq!(claimed.len(), 8);
    let all: Vec<_> = claimed.iter().map(|claimed| (claimed, &outcome)).collect();
    assert_eq!(store.settle_taken(&all).await.unwrap().len(), 8);
    assert_eq!(store.cancel_orphans(now).await.unwrap(), 0);
    let ran = plans.take();
    let about = |word: &str| ran.iter().filter(|it| it.statement.contains(word)).map(|it| it.rows).collect::<Vec<_>>();
    for word in ["WITH RECURSIVE", "WITH taken"] {
        let rows = about(word);
        assert!(!rows.is_empty() && rows.iter().all(|rows| *rows < 500.0), "{word}: {rows:?} rows of 3000");
    }
}
