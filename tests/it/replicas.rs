//! A streaming replica of the database: what CACHED reads show of it, and what becomes of everything when it takes over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign::v1::{
    EnvelopeChanges, EnvelopeRevision, Freshness, GetEnvelopeRequest, ListEnvelopesRequest, Routing,
    UpdateEnvelopeRequest,
};
use countersign_chassis::clock::Clock;
use countersign_envelope::config::Config;
use countersign_envelope::serve::migrate;
use countersign_postgres::{Options, Postgres};
use countersign_test_support::chaos::proxy::{Mode, Proxy};
use countersign_test_support::chaos::take_over;
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Database, Errors as _, Service};
use prost_types::FieldMask;
use tonic_types::StatusExt as _;

/// How long after the database the replica does everything, in the tests of reading.
const DELAY: Duration = Duration::from_millis(500);
/// What is too old for a CACHED read there.
const AGE_MAX: Duration = Duration::from_secs(4);
/// What a busy machine may add between an answer and a look at its age.
const SLACK: Duration = Duration::from_millis(500);

/// A database and its replica.
struct Pair {
    first: Postgres,
    second: Postgres,
    database: Database,
}

impl Pair {
    /// Both, with a migrated database; further settings of each.
    async fn start(first: &[&str], second: &[&str]) -> Self {
        let options = |settings: &[&str], follows| Options {
            settings: settings.iter().map(|it| (*it).to_owned()).collect(),
            follows,
            ..Options::throwaway()
        };
        let first = Postgres::start(options(first, None)).await.unwrap();
        first.create_database("envelope").await.unwrap();
        let database = Database::at(&first, "envelope".to_owned());
        migrate(&database.config()).await.unwrap();
        let second = Postgres::start(options(second, Some(first.port()))).await.unwrap();
        Self { first, second, database }
    }

    /// A service that reads from the replica what may be so old; its own answers it forgets as quickly.
    async fn service(&self) -> Service {
        let documents = tempfile::tempdir().unwrap();
        let settings = Config {
            replica_url: Some(self.second.url("envelope").into()),
            cache_ms: AGE_MAX.as_millis().try_into().unwrap(),
            ..countersign_test_support::service::config(&self.database, &documents)
        };
        Service::start_with(self.database.clone(), Clock::database(), documents, settings).await
    }

    async fn stop(self) {
        self.second.stop().await.unwrap();
        self.first.stop().await.unwrap();
    }
}

async fn shown(caller: &Caller, id: &str, min_revision: u64) -> (u64, Duration) {
    let freshness = Freshness::Cached.into();
    let request = GetEnvelopeRequest { envelope_id: id.to_owned(), freshness, min_revision };
    let answer = caller.envelopes().get_envelope(request).await.unwrap().into_inner();
    (answer.envelope.unwrap().revision, answer.age.unwrap().try_into().unwrap())
}

/// The revision of an envelope in the sender's list, and how old that is said to be.
async fn listed(caller: &Caller, id: &str, seen: Option<u64>) -> (Option<u64>, Duration) {
    let seen = seen.map(|revision| EnvelopeRevision { envelope_id: id.to_owned(), revision });
    let request = ListEnvelopesRequest { freshness: Freshness::Cached.into(), seen, ..Default::default() };
    let page = caller.envelopes().list_envelopes(request).await.unwrap().into_inner();
    let found = page.envelopes.iter().find(|it| it.id == id).map(|it| it.revision);
    (found, page.age.unwrap().try_into().unwrap())
}

async fn renamed(caller: &Caller, id: &str, subject: String) -> u64 {
    let changes = Some(EnvelopeChanges { subject, ..Default::default() });
    let update_mask = Some(FieldMask { paths: vec!["subject".into()] });
    let request = UpdateEnvelopeRequest { envelope_id: id.to_owned(), changes, update_mask, ..Default::default() };
    caller.envelopes().update_envelope(request).await.unwrap().into_inner().envelope.unwrap().revision
}

/// S3.67 to S3.73, C-24, T-64: what a replica shows that is half a second behind is said to be as old as it is, is really older
/// than what was done, and is never shown to whoever says what they have seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c24_a_replica_shows_no_less_than_was_seen() {
    let delay = format!("recovery_min_apply_delay={}", DELAY.as_millis());
    let pair = Pair::start(&[], &[&delay]).await;
    let (writer, reader) = (pair.service().await, pair.service().await);
    let here = writer.account(false).await;
    let (old_gets, old_lists, by_replica) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let one = async |name: u64| {
        let there = Caller { channel: reader.channel.clone(), ..here.clone() };
        let draft = here.create(request(1, Routing::Parallel, false)).await.unwrap();
        assert_eq!(shown(&there, &draft.id, 0).await.0, draft.revision, "one that it does not know yet is read");
        // What the other process has seen it forgets again.
        tokio::time::sleep(AGE_MAX + DELAY).await;
        for round in 0..40 {
            let before = listed(&there, &draft.id, None).await;
            let revision = renamed(&here, &draft.id, format!("{name}.{round}")).await;
            // Whoever does not say what they have seen sees what was, and is told so.
            let after = listed(&there, &draft.id, None).await;
            if after.0 < Some(revision) {
                assert!(!after.1.is_zero() && after.1 <= AGE_MAX, "{after:?}");
                old_lists.fetch_add(1, Ordering::Relaxed);
            }
            assert!(before.0 <= after.0 || after.1 > before.1, "{before:?} {after:?}");
            let (seen, age) = shown(&there, &draft.id, 0).await;
            assert!(age <= AGE_MAX + SLACK, "{age:?}");
            old_gets.fetch_add(u64::from(seen < revision), Ordering::Relaxed);
            // Whoever says so does not.
            let (asked, age) = listed(&there, &draft.id, Some(revision)).await;
            assert_eq!(asked, Some(revision), "{age:?}");
            let (asked, age) = shown(&there, &draft.id, revision).await;
            assert_eq!(asked, revision, "{age:?}");
            tokio::time::sleep(Duration::from_millis(name * 17 % 200)).await;
            if round % 8 == 0 {
                tokio::time::sleep(DELAY + Duration::from_millis(300)).await;
                let (asked, age) = listed(&there, &draft.id, Some(revision)).await;
                assert_eq!(asked, Some(revision));
                by_replica.fetch_add(u64::from(!age.is_zero()), Ordering::Relaxed);
            }
        }
    };
    futures_util::future::join_all((1..=10).map(one)).await;
    let counted = [old_gets, old_lists, by_replica].map(AtomicU64::into_inner);
    eprintln!(
        "{counted:?} old answers, old lists, and lists that the replica gave to whoever had said what they had seen"
    );
    assert!(counted.iter().all(|count| *count > 0), "{counted:?}");
    writer.stop().await;
    reader.stop().await;
    pair.stop().await;
}

/// S3.67, S3.68, C-24: a replica that is away, or that repeats nothing any more, is passed over: every answer is right, and none
/// takes long.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c24_a_replica_that_is_away_or_behind_is_passed_over() {
    let mut pair = Pair::start(&[], &[]).await;
    let service = pair.service().await;
    let sender = service.account(false).await;
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let shows = async || listed(&sender, &draft.id, None).await;
    let used = async || {
        for _ in 0..400 {
            if !shows().await.1.is_zero() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it is not used");
    };
    used().await;
    // It stands still, and cannot tell by itself.
    let replica = Database::at(&pair.second, "envelope".to_owned()).connect().await;
    replica.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    let revision = renamed(&sender, &draft.id, "while it stands still".into()).await;
    let (old, age) = shows().await;
    assert!(old <= Some(revision) && age <= AGE_MAX);
    let late = "SELECT count(*) FROM beat WHERE at < clock_timestamp() - interval '4 seconds'";
    let place = Database::at(&pair.second, "envelope".to_owned());
    while place.number(late).await == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(shows().await, (Some(revision), Duration::ZERO));
    replica.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    while shows().await.1.is_zero() || shows().await.0 != Some(revision) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It is away.
    pair.second.kill_hard().await.unwrap();
    let revision = renamed(&sender, &draft.id, "while it is away".into()).await;
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(shows().await, (Some(revision), Duration::ZERO));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    pair.second.restart().await.unwrap();
    used().await;
    // Envelopes of others are no more shown by it than by the database.
    let stranger = service.account(false).await;
    let seen = Some(EnvelopeRevision { envelope_id: draft.id.clone(), revision: 1 });
    let request = ListEnvelopesRequest { freshness: Freshness::Cached.into(), seen, ..Default::default() };
    let refused = stranger.envelopes().list_envelopes(request.clone()).await.unwrap_err();
    assert_eq!(refused.reason(), "NOT_FOUND");
    let late = EnvelopeRevision { envelope_id: draft.id.clone(), revision: revision + 1 };
    let late = ListEnvelopesRequest { seen: Some(late), ..request };
    let refused = sender.envelopes().list_envelopes(late).await.unwrap_err();
    assert_eq!((refused.reason(), refused.fact("revision")), ("REVISION_NOT_REACHED".into(), revision.to_string()));
    service.stop().await;
    pair.stop().await;
}

/// C-24, D2, D3: the database dies under load and its synchronous replica takes over: both services go on by themselves with
/// nothing that was acknowledged lost, nothing done twice, and a stream without a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_a_replica_takes_over() {
    take_over(7).await;
}

/// S3.67, D3: an address that leads to a replica, as after a demotion, is no way to the database: nothing is read there that may be
/// old, changes are told to come again, and all goes on by itself within ten seconds of its leading to the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_a_replica_is_never_taken_for_the_database() {
    let pair = Pair::start(&[], &[]).await;
    let [first, second] = [&pair.first, &pair.second].map(|it| format!("127.0.0.1:{}", it.port()));
    let way = Proxy::start(&first, true).await;
    let database = Database { url: pair.database.url.replace(&first, &way.address), ..pair.database.clone() };
    let service = Service::start_on(database, Clock::database(), tempfile::tempdir().unwrap()).await;
    let sender = service.account(false).await;
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    way.lead_to(&second);
    way.set(Mode::Reset);
    tokio::time::sleep(Duration::from_millis(100)).await;
    way.set(Mode::Through);
    for _ in 0..2 {
        let (read, made) = tokio::join!(sender.get(&draft.id), sender.create(request(1, Routing::Parallel, false)));
        for refused in [read.unwrap_err(), made.unwrap_err()] {
            assert_eq!(refused.reason(), "UNAVAILABLE", "{refused:?}");
            assert!(refused.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
        }
    }
    way.lead_to(&first);
    let began = Instant::now();
    while sender.create(request(1, Routing::Parallel, false)).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "nothing goes on");
    }
    assert_eq!(pair.database.number("SELECT count(*) FROM envelope").await, 2);
    service.stop().await;
    pair.stop().await;
}
