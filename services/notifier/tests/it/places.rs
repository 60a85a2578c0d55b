//! How many deliveries are taken on at a time: of an endpoint, and of an account while others wait.

use chrono::TimeDelta;
use countersign_notifier::id::AccountId;
use countersign_notifier::store::{ClaimedDelivery, Outcome, Room, Settled};

use crate::engine::{HELD, HOLD, NOWHERE, claim, room, waiting};
use crate::receiver::until;
use crate::stand::Stand;

/// Eight at a time, among all processes, also where these claim at once; four times as many to one that took the last.
#[tokio::test(flavor = "multi_thread")]
async fn t30_an_endpoint_gets_as_many_at_a_time_as_it_has_earned() {
    let stand = Stand::new().await;
    let endpoint = stand.endpoint_of(stand.account, NOWHERE).await;
    waiting(&stand, stand.account, endpoint.id, 50).await;
    let room = room(64);
    let at_once = (0..6).map(|_| claim(&stand, &room));
    let claimed: usize = futures_util::future::join_all(at_once).await.iter().map(Vec::len).sum();
    assert_eq!(claimed, 8);
    assert_eq!(claim(&stand, &room).await.len(), 0);
    stand.later(TimeDelta::seconds(31));
    assert_eq!(claim(&stand, &room).await.len(), 8, "the claims of the dead have run out");
    stand.sql("UPDATE endpoint SET last_success_at = created_at").await;
    assert_eq!(claim(&stand, &room).await.len(), 24, "it took one meanwhile");
    stand.later(TimeDelta::seconds(31));
    stand
        .sql("UPDATE endpoint SET consecutive_failures = 1, first_failed_at = created_at, last_failure_at = created_at")
        .await;
    assert_eq!(claim(&stand, &room).await.len(), 8, "the last one failed");
}

/// Two claims, both held at the lock until it is let go: the second one counts what the first has taken.
#[tokio::test(flavor = "multi_thread")]
async fn t30_claims_are_made_one_after_the_other() {
    let stand = Stand::new().await;
    let endpoint = stand.endpoint_of(stand.account, NOWHERE).await;
    waiting(&stand, stand.account, endpoint.id, 50).await;
    let holder = stand.database.connect().await;
    holder.query(HOLD, &[]).await.unwrap();
    let room = room(64);
    let releasing = async {
        until(async || stand.number(HELD).await == 2).await;
        holder.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    };
    let (one, two, ()) = tokio::join!(claim(&stand, &room), claim(&stand, &room), releasing);
    assert_eq!(one.len() + two.len(), 8);
}

/// A quarter of the places while others wait, three quarters if nobody does, and never what others hold.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_does_not_take_the_places_of_the_others() {
    let stand = Stand::new().await;
    let (greedy, modest) = (AccountId::new(), AccountId::new());
    for _ in 0..10 {
        let endpoint = stand.endpoint_of(greedy, NOWHERE).await;
        waiting(&stand, greedy, endpoint.id, 20).await;
        stand.later(TimeDelta::milliseconds(1));
    }
    let endpoints = [stand.endpoint_of(modest, NOWHERE).await, stand.endpoint_of(modest, NOWHERE).await];
    for endpoint in &endpoints {
        waiting(&stand, modest, endpoint.id, 20).await;
    }
    let of = |claimed: &[ClaimedDelivery], account| claimed.iter().filter(|it| it.account == account).count();
    let first = claim(&stand, &room(32)).await;
    assert_eq!((of(&first, greedy), of(&first, modest)), (16, 16), "who came later has as much");
    let busy = Room { busy: vec![(greedy, 16), (modest, 16)], ..room(32) };
    let second = claim(&stand, &busy).await;
    assert_eq!(of(&second, greedy), 32, "nobody else has anything: the modest one's endpoints are full");
    stand.sql("UPDATE delivery SET lease_until = NULL, next_at = created_at").await;
    assert_eq!(of(&claim(&stand, &Room { busy: vec![(greedy, 46)], ..room(18) }).await, greedy), 2, "never over 48");
}

/// What fails at once opens the breaker, and no more: what goes through it is tried again in seconds.
#[tokio::test(flavor = "multi_thread")]
async fn t32_a_hiccup_while_many_are_on_their_way_is_no_long_rest() {
    let stand = Stand::new().await;
    let endpoint = stand.endpoint_of(stand.account, NOWHERE).await;
    stand.sql("UPDATE endpoint SET last_success_at = created_at").await;
    waiting(&stand, stand.account, endpoint.id, 50).await;
    let failures = async || stand.number("SELECT consecutive_failures::bigint FROM endpoint").await;
    for (at_once, counted) in [(32, 10), (1, 11)] {
        let claimed = claim(&stand, &room(64)).await;
        assert_eq!(claimed.len(), at_once);
        for it in &claimed {
            let at = stand.clock.now();
            let (failure, answer) = (Some("connect"), String::new());
            let outcome = Outcome { at, duration_ms: 1, status_code: None, failure, answer, rest_until: None };
            let again = Settled::Again(at + TimeDelta::minutes(5));
            assert!(stand.notifier.store.settle_delivery(it, &outcome, again).await.unwrap());
        }
        assert_eq!(failures().await, counted);
    }
}
