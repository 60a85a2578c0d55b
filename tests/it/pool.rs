//! Connections to the database go to who asked first, and a line that stays long takes no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::v1::{Envelope, Routing};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::DatabaseConfig;
use countersign_chassis::database::{acquire, pool};
use countersign_test_support::client::{Errors as _, request};
use countersign_test_support::database::Database;
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Service};
use diesel_async::SimpleAsyncConnection as _;
use tokio_postgres::Client;
use tonic::Code;
use tonic_types::StatusExt as _;

/// More callers than connections, each of whom asks again as soon as theirs is back: nobody is passed over, however long it goes on.
#[tokio::test]
async fn who_waits_for_a_connection_has_it_before_who_comes_later() {
    const CALLERS: usize = 24;
    const TIMES: usize = 40;
    let database = Database::empty("pool").await;
    let pool = pool(&DatabaseConfig { database_pool_max: 2, ..database.config() }).await.unwrap();
    // Both are there before anybody waits: as long as one is being made, the other goes to who is quickest.
    drop((acquire(&pool).await.unwrap(), acquire(&pool).await.unwrap()));
    let given = Arc::new(AtomicUsize::new(0));
    let callers = (0..CALLERS).map(|_| {
        let (pool, given) = (pool.clone(), Arc::clone(&given));
        tokio::spawn(async move {
            let mut passed = 0;
            for _ in 0..TIMES {
                let asked = given.load(Ordering::SeqCst);
                let mut connection = acquire(&pool).await.expect("in time");
                passed = passed.max(given.fetch_add(1, Ordering::SeqCst) - asked);
                connection.batch_execute("SELECT pg_sleep(0.001)").await.unwrap();
            }
            passed
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        let passed = caller.await.unwrap();
        // Those before it in the line, and who has asked but not got into it yet.
        assert!(passed <= 2 * CALLERS, "{passed} were given one between asking and having");
    }
}

/// Who waits in vain is told so in the time of the settings, and what they waited for goes to the next.
#[tokio::test(flavor = "multi_thread")]
async fn who_gets_no_connection_is_told_in_time() {
    let database = Database::empty("pool").await;
    let config = DatabaseConfig { database_pool_max: 1, database_wait_ms: 1_500, ..database.config() };
    let pool = pool(&config).await.unwrap();
    let held = acquire(&pool).await.unwrap();
    let began = Instant::now();
    let busy = acquire(&pool).await.err().expect("there is but one");
    assert_eq!(busy.to_string(), "no database connection in time");
    assert!(
        (Duration::from_millis(1_490)..Duration::from_secs(10)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    drop(held);
    acquire(&pool).await.expect("it is back");
}

/// A service with three connections, and a caller with a draft, which nobody reads until that connection's transaction ends.
async fn held_up() -> (Service, Caller, Envelope, Client) {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut config = config(&database, &documents);
    config.database.database_pool_max = 3;
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let sender = service.account(false).await;
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    sender.get(&draft.id).await.unwrap();

    let sql = service.database.connect().await;
    sql.batch_execute("BEGIN; LOCK TABLE envelope IN ACCESS EXCLUSIVE MODE").await.unwrap();
    (service, sender, draft, sql)
}

/// Calls that come at once wait for their turn; once so many have waited for long, who comes then is sent away before anything is
/// done, until the line is short.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_stays_long_takes_no_more() {
    let (service, sender, draft, sql) = held_up().await;
    let get = || {
        let (sender, id) = (sender.clone(), draft.id.clone());
        tokio::spawn(async move { sender.get(&id).await })
    };
    let early: Vec<_> = (0..20).map(|_| get()).collect();
    let mut probes = Vec::new();
    let refused = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Those who are not refused wait for the lock, too.
        let mut probe = get();
        match tokio::time::timeout(Duration::from_millis(40), &mut probe).await {
            Ok(answer) => break answer.unwrap().expect_err("the table is locked"),
            Err(_) => probes.push(probe),
        }
    };
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    assert!(early.iter().all(|call| !call.is_finished()), "who came before goes on waiting");
    sql.batch_execute("COMMIT").await.unwrap();
    for call in early.into_iter().chain(probes) {
        call.await.unwrap().expect("and is answered");
    }
    sender.get(&draft.id).await.expect("the line is short");
    service.stop().await;
}

/// Who hangs up while they wait stands in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_keeps_no_place() {
    let (service, sender, draft, sql) = held_up().await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1_000) {
        let calls = (0..20).map(|_| sender.get(&draft.id));
        let _ = tokio::time::timeout(Duration::from_millis(50), futures_util::future::join_all(calls)).await;
    }
    let late = tokio::time::timeout(Duration::from_millis(300), sender.get(&draft.id)).await;
    assert!(late.is_err(), "it waits for the lock, and is not sent away: {late:?}");
    sql.batch_execute("COMMIT").await.unwrap();
    sender.get(&draft.id).await.expect("all is well");
    service.stop().await;
}
