//! The outbox when nothing that was moved out of it can be cleared away, as while a backup runs or somebody forgot a
//! transaction: no event is passed over, and none has to be searched for among those that are gone.

use std::time::Duration;

use countersign::v1::Routing;
use countersign_chassis::clock::Clock;
use countersign_envelope::domain::id::EnvelopeId;
use countersign_envelope::store::Store;
use countersign_test_support::client::request;
use countersign_test_support::{Database, Service};

use super::flood;

/// A database with two drafts, and nobody who serves it.
async fn drafts() -> (Database, Store, [String; 2]) {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut made = Vec::new();
    for _ in 0..2 {
        made.push(sender.create(request(1, Routing::Parallel, false)).await.unwrap().id);
    }
    let (database, _) = service.stop().await;
    let store = Store::open(&database.config(), Clock::database()).await.unwrap();
    (database, store, made.try_into().unwrap())
}

async fn move_all(store: &Store) -> i64 {
    let mut all = 0;
    loop {
        match store.sequence().await.unwrap() {
            0 => return all,
            moved => all += moved,
        }
    }
}

/// Entries of the outbox's index that were looked at so far.
async fn looked_at(database: &Database) -> i64 {
    // A server process tells what it did when it has been idle for a while, or ends.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    database.number("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'outbox_pkey'").await
}

/// D3, T-28: an old transaction anywhere in the cluster keeps the database from clearing away what is gone; a look at the
/// outbox does not step over all of that.
#[tokio::test(flavor = "multi_thread")]
async fn d3_what_is_gone_from_the_outbox_is_not_in_the_way() {
    const GONE: i64 = 20_000;
    let elsewhere = Database::empty("elsewhere").await;
    let idle = elsewhere.connect().await;
    idle.batch_execute("CREATE TABLE t (n int); BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let (database, store, drafts) = drafts().await;
    flood(&database, &drafts[0], GONE).await;
    assert!(move_all(&store).await >= GONE);
    drop(store);
    let store = Store::open(&database.config(), Clock::database()).await.unwrap();
    assert_eq!(store.sequence().await.unwrap(), 0, "it settles what another has left unsettled");
    let before = looked_at(&database).await;
    flood(&database, &drafts[0], 10).await;
    flood(&database, &drafts[1], 10).await;
    assert_eq!(move_all(&store).await, 20);
    let looked_at = looked_at(&database).await - before;
    assert!(looked_at < GONE / 10, "{looked_at} entries for 20 events");
    idle.batch_execute("COMMIT").await.unwrap();
}

/// T-27: a number that somebody took who is still writing is not settled, whatever others commit meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn t27_what_is_still_being_written_is_not_settled() {
    let (database, store, drafts) = drafts().await;
    move_all(&store).await;
    let mut late = database.connect().await;
    let writing = late.transaction().await.unwrap();
    let leave = "INSERT INTO outbox (part, account_id, livemode, envelope_id, sequence)
        SELECT get_byte(uuid_send(id), 15) % 16, account_id, livemode, id, $2 FROM envelope WHERE id = $1";
    let id = drafts[0].parse::<EnvelopeId>().unwrap().uuid();
    writing.execute(leave, &[&id, &99_i64]).await.unwrap();
    flood(&database, &drafts[1], 5).await;
    assert_eq!(move_all(&store).await, 5);
    for _ in 0..2 {
        store.settle().await.unwrap();
    }
    writing.commit().await.unwrap();
    assert_eq!(move_all(&store).await, 1);
    for _ in 0..2 {
        store.settle().await.unwrap();
    }
    let settled = "SELECT count(*) FROM feed_head, outbox_id_seq WHERE settled_id = last_value";
    assert_eq!(database.number(settled).await, 16);
}

/// D3: numbers that begin anew, as after a restore that forgot the sequences, hide nothing from whoever starts then.
#[tokio::test(flavor = "multi_thread")]
async fn d3_numbers_that_begin_anew_hide_no_event() {
    let (database, store, drafts) = drafts().await;
    flood(&database, &drafts[0], 50).await;
    move_all(&store).await;
    store.settle().await.unwrap();
    database.connect().await.batch_execute("ALTER SEQUENCE outbox_id_seq RESTART").await.unwrap();
    flood(&database, &drafts[1], 7).await;
    let restarted = Store::open(&database.config(), Clock::database()).await.unwrap();
    assert_eq!(move_all(&restarted).await, 7);
}
