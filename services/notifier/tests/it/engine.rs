//! How deliveries are taken on: rests, the breaker, endpoints that are switched off, and what is forgotten.
//! Must never wait for a delay of the schedule: the clock is moved.

use std::time::Instant;

use chrono::TimeDelta;
use countersign::v1::EventType;
use countersign_notifier::id::{AccountId, EndpointId, EnvelopeId, EventId};
use countersign_notifier::store::{ClaimedDelivery, Disabled, EndpointChanges, Named, Outcome, Room, Settled, Told};

use crate::receiver::{Answer, Receiver, until};
use crate::stand::{Stand, logged};

pub const NOWHERE: &str = "http://127.0.0.1:9/";
/// Keeps claims waiting, and how many wait.
pub const HOLD: &str = "SELECT pg_advisory_lock(hashtextextended('delivery', 0))::text";
pub const HELD: &str = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()";

/// Deliveries of an endpoint, each of an envelope of its own, all due.
pub async fn waiting(stand: &Stand, account: AccountId, endpoint: EndpointId, count: u32) {
    let now = stand.clock.now().to_rfc3339();
    let (account, endpoint) = (account.uuid(), endpoint.uuid());
    stand
        .sql(&format!(
            "INSERT INTO delivery (account_id, endpoint_id, event_id, livemode, type, envelope_id, sequence, body, state,
                attempts, tries, next_at, lease_epoch, created_at)
             SELECT '{account}', '{endpoint}', gen_random_uuid(), true, 2, gen_random_uuid(), 1, '{{}}', 1, 0, 0,
                '{now}', 0, '{now}' FROM generate_series(1, {count})"
        ))
        .await;
}

pub fn room(free: i64) -> Room {
    Room { free, suspects: free, busy: Vec::new(), account_max: (16, 48) }
}

pub async fn claim(stand: &Stand, room: &Room) -> Vec<ClaimedDelivery> {
    let now = stand.clock.now();
    stand.notifier.store.claim_deliveries(now, now + TimeDelta::seconds(30), room).await.unwrap()
}

/// 200,000 deliveries for an endpoint that is dead, paused or busy are not in the way of one that is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoints_backlog_does_not_slow_the_others_down() {
    let stand = Stand::new().await;
    let dead = stand.endpoint_of(AccountId::new(), NOWHERE).await;
    let well = stand.endpoint_of(AccountId::new(), NOWHERE).await;
    waiting(&stand, dead.account, dead.id, 200_000).await;
    let id = dead.id.uuid();
    let was = "resting_until = NULL, paused_at = NULL, consecutive_failures = 0, first_failed_at = NULL, verified_at = created_at";
    for (name, state) in [
        ("resting", "resting_until = created_at + interval '1 day'"),
        ("paused", "paused_at = created_at"),
        ("unverified", "verified_at = NULL"),
        ("busy", "consecutive_failures = 10, first_failed_at = created_at"),
    ] {
        stand.sql(&format!("UPDATE endpoint SET {was} WHERE id = '{id}'")).await;
        stand.sql(&format!("UPDATE endpoint SET {state} WHERE id = '{id}'")).await;
        if name == "busy" {
            assert_eq!(claim(&stand, &room(1)).await.len(), 1, "its probe");
        }
        let mut took = Vec::new();
        for _ in 0..10 {
            waiting(&stand, well.account, well.id, 8).await;
            let began = Instant::now();
            let claimed = claim(&stand, &room(64)).await;
            took.push(began.elapsed());
            assert!(claimed.len() == 8 && claimed.iter().all(|it| it.endpoint == well.id), "{name}");
            stand.sql(&format!("DELETE FROM delivery WHERE endpoint_id = '{}'", well.id.uuid())).await;
        }
        took.sort_unstable();
        println!("{name}: a claim beside 200,000 that wait takes {:?} (median), {:?} (longest)", took[5], took[9]);
        assert!(took[5].as_millis() < 250, "{name}: {took:?}");
    }
}

/// Own addresses of envelopes with a delivery each, of one account, as `state` and `due` say.
async fn own_waiting(stand: &Stand, account: AccountId, count: u32, due: &str) {
    let (account, now) = (account.uuid(), stand.clock.now().to_rfc3339());
    stand
        .sql(&format!(
            "WITH own AS (
                INSERT INTO endpoint (account_id, id, livemode, url, generation, created_at, description, types, header_names,
                    verified_at, envelope_id, generation_key)
                SELECT '{account}', id, true, '{NOWHERE}', 1, '{now}', '', '{{}}', '{{}}', '{now}', id, 0
                FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, {count})) AS new
                RETURNING account_id, id
             )
             INSERT INTO delivery (account_id, endpoint_id, event_id, livemode, type, envelope_id, own, sequence, body, state,
                attempts, tries, next_at, lease_epoch, created_at)
             SELECT account_id, id, gen_random_uuid(), true, 2, id, true, 1, '{{}}', 1, 0, 0,
                '{now}'::timestamptz + interval '{due}', 0, '{now}' FROM own"
        ))
        .await;
}

/// An envelope's own address is an endpoint, and there may be as many as envelopes: those that wait cost a claim nothing.
#[tokio::test(flavor = "multi_thread")]
async fn c19_the_addresses_of_many_envelopes_do_not_slow_the_others_down() {
    let stand = Stand::new().await;
    let (greedy, modest) = (AccountId::new(), AccountId::new());
    own_waiting(&stand, greedy, 50_000, "1 hour").await;
    let well = stand.endpoint_of(AccountId::new(), NOWHERE).await;
    stand.sql("ANALYZE delivery; ANALYZE endpoint").await;
    for (name, change, most) in [
        ("not due", "SELECT", 0),
        (
            "resting",
            "UPDATE endpoint SET resting_until = created_at + interval '1 day' WHERE envelope_id IS NOT NULL",
            0,
        ),
        ("due", "UPDATE endpoint SET resting_until = NULL WHERE envelope_id IS NOT NULL", 48),
    ] {
        stand.sql(change).await;
        if name != "not due" {
            stand.sql("UPDATE delivery SET next_at = created_at, lease_until = NULL WHERE own").await;
        }
        let (mut took, mut taken) = (Vec::new(), 0);
        for _ in 0..10 {
            waiting(&stand, well.account, well.id, 8).await;
            own_waiting(&stand, modest, 1, "0 hours").await;
            let began = Instant::now();
            let claimed = claim(&stand, &room(64)).await;
            took.push(began.elapsed());
            let of = |account| claimed.iter().filter(|it| it.account == account).count();
            assert_eq!((of(well.account), of(modest)), (8, 1), "{name}");
            taken = taken.max(of(greedy));
            stand.sql(&format!("DELETE FROM delivery WHERE account_id <> '{}'", greedy.uuid())).await;
            let began = Instant::now();
            stand.notifier.store.cancel_orphans(stand.clock.now()).await.unwrap();
            took.push(began.elapsed());
        }
        took.sort_unstable();
        println!("{name}: a look beside 50,000 addresses takes {:?} (median), {:?} (longest)", took[10], took[19]);
        assert_eq!(taken, most, "{name}");
        assert!(took[10].as_millis() < 250, "{name}: {took:?}");
    }
}

/// What is due to an own address that is left alone is not in the way of the account's other ones.
#[tokio::test(flavor = "multi_thread")]
async fn c19_addresses_that_rest_are_put_off() {
    let stand = Stand::new().await;
    own_waiting(&stand, stand.account, 1_200, "-1 hour").await;
    stand.sql("UPDATE endpoint SET resting_until = created_at + interval '10 minutes'").await;
    own_waiting(&stand, stand.account, 1, "0 hours").await;
    let mut claimed = 0;
    for _ in 0..3 {
        claimed += claim(&stand, &room(64)).await.len();
    }
    assert_eq!(claimed, 1);
    stand.later(TimeDelta::minutes(10));
    assert_eq!(claim(&stand, &room(64)).await.len(), 48);
    stand.sql("DELETE FROM endpoint").await;
    for _ in 0..10 {
        stand.later(TimeDelta::minutes(1));
        stand.notifier.store.cancel_orphans(stand.clock.now()).await.unwrap();
    }
    assert_eq!(stand.number("SELECT count(*) FROM delivery WHERE cause = 'endpoint_deleted'").await, 1_201);
}

/// T-35: an endpoint that has too much to do is left alone as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn t35_an_endpoint_that_is_overloaded_rests() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([Answer::of(429).with("retry-after", "600")]).await;
    let endpoint = stand.endpoint(&receiver).await;
    waiting(&stand, stand.account, endpoint.id, 1).await;
    stand.deliver().await;
    waiting(&stand, stand.account, endpoint.id, 5).await;
    stand.later(TimeDelta::seconds(599));
    stand.deliver().await;
    assert_eq!(receiver.kept().len(), 1, "it asked for ten minutes");
    stand.later(TimeDelta::seconds(1));
    stand.deliver().await;
    assert_eq!(receiver.kept().len(), 7);
}

/// Ten failures in a row: one at a time, at the schedule's steps; a success opens it again.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_is_probed_one_at_a_time() {
    let stand = Stand::new().await;
    let receiver = Receiver::start((0..20).map(|_| Answer::of(500))).await;
    let endpoint = stand.endpoint(&receiver).await;
    waiting(&stand, stand.account, endpoint.id, 100).await;
    stand.deliver().await;
    let before = receiver.kept().len();
    assert!((10..=17).contains(&before), "the breaker is open: {before}");
    for kept in before..20 {
        stand.later(TimeDelta::seconds(5));
        stand.deliver().await;
        assert_eq!(receiver.kept().len(), kept, "it rests");
        stand.later(TimeDelta::hours(2));
        stand.deliver().await;
        assert_eq!(receiver.kept().len(), kept + 1, "one probe");
    }
    stand.later(TimeDelta::hours(2));
    stand.deliver().await;
    assert_eq!(stand.number("SELECT count(*) FROM delivery WHERE state = 2").await, 100, "well again");
}

/// Endpoints that took nothing yet, or not the last time, have half of the places at most.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_may_hang_leave_room_for_those_who_are_well() {
    let stand = Stand::new().await;
    for _ in 0..8 {
        let endpoint = stand.endpoint_of(AccountId::new(), NOWHERE).await;
        waiting(&stand, endpoint.account, endpoint.id, 8).await;
    }
    let few = Room { suspects: 20, ..room(64) };
    assert_eq!(claim(&stand, &few).await.len(), 20);
    stand.sql("UPDATE delivery SET lease_until = NULL, next_at = created_at").await;
    stand.sql("UPDATE endpoint SET last_success_at = created_at").await;
    assert_eq!(claim(&stand, &few).await.len(), 64);
}

/// Failing endpoints with an older backlog do not take the places of their account from the one that is well.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_may_hang_leave_room_for_those_who_are_well_of_their_account() {
    let stand = Stand::new().await;
    for _ in 0..6 {
        let failing = stand.endpoint_of(stand.account, NOWHERE).await;
        waiting(&stand, stand.account, failing.id, 8).await;
    }
    stand.later(TimeDelta::seconds(1));
    let well = stand.endpoint_of(stand.account, NOWHERE).await;
    stand.sql(&format!("UPDATE endpoint SET last_success_at = created_at WHERE id = '{}'", well.id.uuid())).await;
    waiting(&stand, stand.account, well.id, 8).await;
    let claimed = claim(&stand, &Room { suspects: 0, ..room(64) }).await;
    assert_eq!(claimed.iter().filter(|it| it.endpoint == well.id).count(), 8);
    assert_eq!(claim(&stand, &room(64)).await.len(), 48, "and the others have theirs");
}

/// Stopped between the claim and the attempt, until the claim would not outlast it: it posts nothing, whoever comes next does.
#[tokio::test(flavor = "multi_thread")]
async fn t30_a_claim_that_is_old_is_not_begun_with() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    let endpoint = stand.endpoint(&receiver).await;
    waiting(&stand, stand.account, endpoint.id, 1).await;
    let holder = stand.database.connect().await;
    holder.query(HOLD, &[]).await.unwrap();
    let stopped = async {
        until(async || stand.number(HELD).await == 1).await;
        stand.later(TimeDelta::seconds(15));
        holder.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    };
    let (begun, ()) = tokio::join!(stand.notifier.deliverer.tick(), stopped);
    begun.unwrap();
    stand.notifier.deliverer.finished().await;
    assert_eq!((receiver.kept().len(), stand.number("SELECT count(*) FROM attempt").await), (0, 0));
    stand.later(TimeDelta::seconds(15));
    stand.deliver().await;
    assert_eq!(receiver.kept().len(), 1);
}

/// T-32, S2.22: five days of failures switch it off; its owner and the other endpoints hear of it.
#[tokio::test(flavor = "multi_thread")]
async fn t32_an_endpoint_that_fails_for_days_is_switched_off() {
    let stand = Stand::new().await;
    let failing = Receiver::start((0..200).map(|_| Answer::of(500))).await;
    let (healthy, choosy) = (Receiver::start([]).await, Receiver::start([]).await);
    let endpoint = stand.endpoint(&failing).await;
    stand.later(TimeDelta::milliseconds(1));
    stand.endpoint(&healthy).await;
    stand.later(TimeDelta::milliseconds(1));
    let other = stand.endpoint(&choosy).await;
    stand.sql(&format!("UPDATE endpoint SET types = '{{8}}' WHERE id = '{}'", other.id.uuid())).await;
    let disabled = "SELECT count(*) FROM endpoint WHERE disabled_reason = 2";
    for day in 0..6 {
        assert_eq!(stand.number(disabled).await, 0, "after {day} days");
        stand.happens(EventType::EnvelopeSent, day + 1);
        stand.follow().await;
        stand.deliver().await;
        stand.later(TimeDelta::hours(24));
    }
    assert_eq!(stand.number(disabled).await, 1);
    let notices = "SELECT count(*) FROM endpoint_notice WHERE reason = 2 AND mailed_at IS NULL";
    assert_eq!(stand.number(notices).await, 1);
    stand.deliver().await;
    let told: Vec<_> = healthy.kept().iter().map(|kept| serde_json::from_slice(&kept.body).unwrap()).collect();
    let told: Vec<&serde_json::Value> =
        told.iter().filter(|body: &&serde_json::Value| body["type"] == "endpoint.disabled").collect();
    assert_eq!(told.len(), 1, "once");
    assert_eq!(told[0]["data"]["endpointId"], endpoint.id.to_string());
    assert_eq!(told[0]["data"]["type"], "EVENT_TYPE_ENDPOINT_DISABLED");
    assert_eq!(choosy.kept().len(), 0, "it does not want that");
    let id = endpoint.id.uuid();
    let waiting = format!("SELECT count(*) FROM delivery WHERE state = 1 AND endpoint_id = '{id}'");
    let cancelled = "SELECT count(*) FROM delivery WHERE state = 4 AND cause = 'endpoint_disabled'";
    assert_eq!(stand.number(&waiting).await, 0);
    let before = stand.number(cancelled).await;
    // What happens from now on is noted, and not posted.
    let kept = failing.kept().len();
    stand.happens(EventType::EnvelopeDeclined, 9);
    stand.follow().await;
    stand.deliver().await;
    assert_eq!((failing.kept().len(), stand.number(cancelled).await), (kept, before + 1));
}

/// Two failures with days of silence between them are no days of failures.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_failed_once_long_ago_is_left_on() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([Answer::of(500), Answer::of(500)]).await;
    let endpoint = stand.endpoint(&receiver).await;
    waiting(&stand, stand.account, endpoint.id, 1).await;
    stand.deliver().await;
    stand.later(TimeDelta::days(6));
    stand.deliver().await;
    assert_eq!((receiver.kept().len(), stand.number("SELECT count(*) FROM endpoint_notice").await), (2, 0));
}

/// T-32: an attempt is under way while another one succeeds, or the owner switches the endpoint on or moves it: its failure
/// speaks against nobody any more.
#[tokio::test(flavor = "multi_thread")]
async fn t32_an_endpoint_that_recovered_meanwhile_is_left_on() {
    let stand = Stand::new().await;
    let (store, endpoint) = (&stand.notifier.store, stand.endpoint_of(stand.account, NOWHERE).await);
    let named = Named { account: stand.account, livemode: true, id: endpoint.id };
    let outcome = || Outcome {
        at: stand.clock.now(),
        duration_ms: 1,
        status_code: None,
        failure: Some("timeout"),
        answer: String::new(),
        rest_until: None,
    };
    let told = Told { event: EventId::new(), kind: 31, body: b"{}".to_vec() };
    for (scene, off) in [("nothing", true), ("success", false), ("enabled", false), ("moved", false)] {
        stand.sql("DELETE FROM delivery; DELETE FROM endpoint_notice").await;
        stand
            .sql(
                "UPDATE endpoint SET consecutive_failures = 9, first_failed_at = created_at - interval '6 days',
                    last_failure_at = created_at - interval '1 day', resting_until = NULL, disabled_at = NULL,
                    disabled_reason = NULL",
            )
            .await;
        waiting(&stand, stand.account, endpoint.id, 2).await;
        let claimed = claim(&stand, &room(64)).await;
        match scene {
            "success" => assert!(store.settle_delivery(&claimed[1], &outcome(), Settled::Delivered).await.unwrap()),
            "enabled" => {
                stand.sql("UPDATE endpoint SET disabled_at = created_at, disabled_reason = 2").await;
                store.enable_endpoint(named, (None, 0), None, |_, _| Vec::new()).await.unwrap();
            }
            "moved" => {
                let url = Some("http://127.0.0.1:10/".to_owned());
                let changes = EndpointChanges { url, trusted: true, ..EndpointChanges::default() };
                store.update_endpoint(named, changes, None, |_| Vec::new()).await.unwrap();
            }
            _ => {}
        }
        assert!(store.settle_delivery(&claimed[0], &outcome(), Settled::Dead).await.unwrap());
        let (account, at) = (stand.account, stand.clock.now());
        let disabled =
            store.disable_endpoint((account, endpoint.id, NOWHERE), Disabled::Failing, at, &told).await.unwrap();
        assert_eq!(disabled, off, "{scene}");
    }
}

/// T-32: planned in the same moment in which the endpoint was removed or switched off.
#[tokio::test(flavor = "multi_thread")]
async fn t32_what_waits_for_nobody_is_cancelled_and_counted() {
    let stand = Stand::new().await;
    let off = stand.endpoint_of(stand.account, NOWHERE).await;
    waiting(&stand, stand.account, EndpointId::new(), 700).await;
    waiting(&stand, stand.account, off.id, 3).await;
    stand.sql("UPDATE endpoint SET disabled_at = created_at, disabled_reason = 1").await;
    stand.deliver().await;
    for (cause, count) in [("endpoint_deleted", 700), ("endpoint_disabled", 3)] {
        let cancelled = format!("SELECT count(*) FROM delivery WHERE state = 4 AND cause = '{cause}'");
        assert_eq!(stand.number(&cancelled).await, count);
    }
    // Also while there is always something to post.
    let well = Receiver::start([]).await;
    let endpoint = stand.endpoint(&well).await;
    stand.later(TimeDelta::seconds(10));
    waiting(&stand, stand.account, EndpointId::new(), 1).await;
    waiting(&stand, stand.account, endpoint.id, 1).await;
    stand.notifier.deliverer.tick().await.unwrap();
    assert_eq!(stand.number("SELECT count(*) FROM delivery WHERE cause = 'endpoint_deleted'").await, 701);
    // What is on its way at the end of a turn is written down behind it.
    while stand.number("SELECT count(*) FROM delivery WHERE state = 1").await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    stand.sql("DELETE FROM attempt").await;
    assert_eq!(stand.number("SELECT count(*) FROM attempt").await, 0);
}

/// After a pause everything comes, in order.
#[tokio::test(flavor = "multi_thread")]
async fn t30_a_paused_endpoint_misses_nothing() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    stand.endpoint(&receiver).await;
    stand.sql("UPDATE endpoint SET paused_at = created_at").await;
    for sequence in 1..=5 {
        stand.happens(EventType::RecipientSigned, sequence);
        stand.follow().await;
        stand.deliver().await;
        stand.later(TimeDelta::minutes(5));
    }
    assert_eq!(receiver.kept().len(), 0);
    stand.sql("UPDATE endpoint SET paused_at = NULL").await;
    stand.deliver().await;
    assert_eq!(receiver.sequences(), [1, 2, 3, 4, 5]);
}

/// Deliveries are kept for 30 days, and go in batches; so do addresses of envelopes to which nothing happens.
#[tokio::test(flavor = "multi_thread")]
async fn old_deliveries_are_forgotten_with_their_attempts() {
    let stand = Stand::new().await;
    let receiver = Receiver::start([]).await;
    let endpoint = stand.endpoint(&receiver).await;
    waiting(&stand, stand.account, endpoint.id, 5).await;
    stand.deliver().await;
    let own = EnvelopeId::new().uuid();
    stand
        .sql(&format!(
            "INSERT INTO endpoint SELECT (jsonb_populate_record(e, jsonb_build_object('id', '{own}', 'envelope_id', '{own}'))).* \
             FROM endpoint AS e"
        ))
        .await;
    let (first, store) = (stand.clock.now(), &stand.notifier.store);
    stand.later(TimeDelta::days(1));
    waiting(&stand, stand.account, endpoint.id, 2).await;
    stand.deliver().await;
    assert_eq!(store.forget_deliveries(first, 3).await.unwrap(), 0, "not before their time");
    let before = first + TimeDelta::seconds(1);
    assert_eq!(store.forget_deliveries(before, 3).await.unwrap(), 4);
    assert_eq!(store.forget_deliveries(before, 3).await.unwrap(), 2);
    assert_eq!(store.forget_deliveries(before, 3).await.unwrap(), 0);
    for table in ["delivery", "attempt"] {
        assert_eq!(stand.number(&format!("SELECT count(*) FROM {table}")).await, 2, "{table}");
    }
    assert_eq!(stand.number("SELECT count(*) FROM endpoint").await, 1, "the account's own stays");
    // What is posted again on its last day has its schedule to the end.
    stand.sql("UPDATE delivery SET state = 1, created_at = created_at - interval '1 day'").await;
    assert_eq!(store.forget_deliveries(before + TimeDelta::hours(75), 3).await.unwrap(), 0);
    let told = "webhooks are forgotten that were still pending";
    assert!(!logged().contains(told), "those of before were delivered");
    assert_eq!(store.forget_deliveries(before + TimeDelta::days(4), 3).await.unwrap(), 2);
    assert!(logged().lines().any(|line| line.contains(told) && line.trim_end().ends_with("=\u{1b}[0m2")));
}
