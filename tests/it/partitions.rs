//! The tables cut into partitions by account, as a database that is spread over machines holds them: nothing of the schema gets
//! lost, a key without the account is refused, and every statement of a call works on one partition.
//!
//! `COUNTERSIGN_TEST_PARTITIONS=8 cargo test --test it` plays all other tests on such tables.

mod across;
mod calls;

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use countersign_chassis::clock::Clock;
use countersign_chassis::database::{Flight, pool, pool_across_accounts};
use countersign_envelope::config::Config;
use countersign_envelope::domain::id::AccountId;
use countersign_envelope::store::schema::api_key;
use countersign_test_support::partitions::{WHOLE, cut, number, shape};
use countersign_test_support::plans::{Plans, Ran};
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Notifier, Service, notifier};
use diesel::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;

use self::across::{forgotten, is_across_by_design};
use self::calls::Played;
use crate::once::scene::Scene;

/// Partitions of a table.
const PARTS: u16 = 4;
/// How long loops pause.
const PAUSE_MS: u64 = 1_000;
/// Accounts that are made until one is where it is wanted.
const ACCOUNTS_MAX: usize = 500;

/// Databases of both services, migrated and no more.
async fn migrated() -> [Database; 2] {
    let (envelopes, notices) = (Database::empty("plain").await, Database::empty("plain").await);
    countersign_envelope::serve::migrate(&envelopes.config()).await.unwrap();
    countersign_notifier::serve::migrate(&notices.config()).await.unwrap();
    [envelopes, notices]
}

async fn texts(database: &Database, query: &str) -> BTreeSet<String> {
    database.connect().await.query(query, &[]).await.expect(query).iter().map(|row| row.get(0)).collect()
}

/// Columns, constraints, indexes, triggers, policies, settings and owners of cut tables are those of the migration, and the
/// tables that are left whole are those about which that was decided.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_loses_nothing_of_the_schema() {
    let mut whole = BTreeSet::new();
    for database in migrated().await {
        let before = shape(&database.url).await;
        cut(&database.url, PARTS).await;
        let after = shape(&database.url).await;
        assert!(before.len() > 150, "{}", before.len());
        let differences: Vec<_> = before.symmetric_difference(&after).collect();
        assert!(differences.is_empty(), "{differences:#?}");
        let tables = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
        whole.extend(texts(&database, tables).await);
    }
    assert_eq!(whole, WHOLE.iter().map(|(table, _)| (*table).to_owned()).collect());
}

/// A primary, unique or foreign key that does not begin with the account.
const KEYS: &str = "
SELECT format('%s.%s', relname, name) FROM (
    SELECT conrelid AS held, conname AS name, conkey[1] AS first FROM pg_constraint WHERE contype IN ('p', 'u', 'f')
    UNION ALL
    SELECT indrelid, indexrelid::regclass::name, indkey[0] FROM pg_index WHERE indisunique
) AS key JOIN pg_class ON pg_class.oid = held AND relnamespace = 'public'::regnamespace AND relkind = 'p'
JOIN pg_attribute ON attrelid = held AND attnum = first
WHERE attname <> CASE relname WHEN 'account' THEN 'id' ELSE 'account_id' END";

/// Rows that are told apart by anything but the account first cannot be spread by the account.
#[tokio::test(flavor = "multi_thread")]
async fn every_key_begins_with_the_account() {
    for database in migrated().await {
        cut(&database.url, PARTS).await;
        assert_eq!(texts(&database, KEYS).await, BTreeSet::new());
    }
}

/// What this is for: tables that could not be spread are found when they are made.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_the_account_is_refused() {
    let [database, _] = migrated().await;
    let columns = "account_id uuid NOT NULL, id uuid NOT NULL, name text NOT NULL";
    for (key, why) in
        [("PRIMARY KEY (id)", "odd"), ("PRIMARY KEY (account_id, id), UNIQUE (name)", "partitioning columns")]
    {
        let odd = format!(
            "DROP TABLE IF EXISTS odd; CREATE TABLE odd ({columns}, {key}); ALTER TABLE odd OWNER TO countersign"
        );
        database.connect().await.batch_execute(&odd).await.unwrap();
        let url = database.url.clone();
        let refused = tokio::spawn(async move { cut(&url, PARTS).await }).await.expect_err("a refusal").into_panic();
        let text = refused.downcast_ref::<String>().unwrap();
        assert!(text.contains(why), "{text}");
    }
}

/// An account of the last partition: whoever looks for its rows in all of them comes by the others first.
async fn of_the_last_partition(service: &Service) -> Caller {
    for _ in 0..ACCOUNTS_MAX {
        let caller = service.account(false).await;
        let (id, last) = (caller.account.parse::<AccountId>().unwrap().uuid(), PARTS - 1);
        let there = format!("SELECT count(*) FROM partitions.account_{last} WHERE id = '{id}'");
        if service.database.number(&there).await == 1 {
            return caller;
        }
    }
    panic!("no account is of the last partition");
}

/// The partitions on which a statement worked.
fn parts(ran: &Ran) -> BTreeSet<u16> {
    ran.looks.iter().filter(|look| look.was_made).filter_map(|look| number(&look.relation)).collect()
}

/// Statements that worked on several partitions and are not of those that do by design: from which sessions, and the calls
/// meanwhile.
fn strays(played: &[Played]) -> BTreeMap<String, BTreeSet<&str>> {
    let mut strays: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for Played { call, of_notifier, ran } in played {
        if parts(ran).len() > 1 && !is_across_by_design(*of_notifier, ran) {
            let session = if ran.is_across_accounts { "a loop" } else { "a call" };
            strays.entry(format!("{session}: {}", ran.statement.trim())).or_default().insert(call.as_str());
        }
    }
    strays
}

/// A name without the number behind it.
fn stem(name: &str) -> String {
    name.rsplit_once('_').filter(|_| number(name).is_some()).map_or(name, |(stem, _)| stem).to_owned()
}

/// Tables of which a statement of a call might have looked at several partitions, and never looked at any: what it is for was not
/// there.
fn untold(played: &[Played]) -> BTreeSet<String> {
    let (mut several, mut told) = (BTreeSet::new(), BTreeSet::new());
    for Played { of_notifier, ran, .. } in played.iter().filter(|it| !it.ran.is_across_accounts) {
        let mut planned: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for look in ran.looks.iter().filter(|look| number(&look.relation).is_some()) {
            let place = (ran.statement.trim(), stem(&look.relation), stem(&look.alias));
            planned.entry(place.clone()).or_default().insert(&look.relation);
            if look.was_made {
                told.insert(place);
            }
        }
        planned.retain(|_, parts| parts.len() > 1 && !is_across_by_design(*of_notifier, ran));
        several.extend(planned.into_keys());
    }
    several.difference(&told).map(|(statement, table, _)| format!("{table}: {statement}")).collect()
}

/// Tables of which calls looked at partitions.
fn tables(played: &[Played]) -> BTreeSet<String> {
    let of_calls = played.iter().filter(|it| !it.ran.is_across_accounts).flat_map(|it| &it.ran.looks);
    of_calls.filter(|look| number(&look.relation).is_some()).map(|look| stem(&look.relation)).collect()
}

/// What this is for: a statement that forgets the account is told, though the wall between accounts hides all rows but its own; and
/// so is one of a loop that is not said to work across accounts.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_forgets_the_account_is_told() {
    let (plans, database) = Plans::of(&Database::envelope_in(PARTS).await).await;
    let (account, config) = (uuid::Uuid::from_u128(7), database.config());
    let (calls, loops) = (pool(&config).await.unwrap(), pool_across_accounts(&config).await.unwrap());
    let all = api_key::table.select(api_key::id);
    for pool in [&calls, &loops] {
        let flight = Flight::open(pool).await.unwrap();
        flight.begin_for(account).await.unwrap();
        let named = all.filter(api_key::account_id.eq(account)).filter(api_key::name.eq("its own"));
        let _: Vec<uuid::Uuid> = named.load(&mut flight.connection()).await.unwrap();
        let forgotten = all.filter(api_key::name.eq("anybody's"));
        let _: Vec<uuid::Uuid> = forgotten.load(&mut flight.connection()).await.unwrap();
        flight.commit().await.unwrap();
        flight.close();
    }
    let heard = plans.take().into_iter().map(|ran| Played { call: String::new(), of_notifier: false, ran });
    let heard: Vec<_> = heard.collect();
    assert!(heard.len() >= 4);
    let told: Vec<String> = strays(&heard).into_keys().collect();
    let forgetful = r#"SELECT "api_key"."id" FROM "api_key" WHERE ("api_key"."name" = $1)"#;
    assert_eq!(told, [format!("a call: {forgetful}"), format!("a loop: {forgetful}")]);
}

/// C-29: every call of the contract, and a repeat of those with a key: what they say to the database, and what triggers, functions
/// and foreign keys do about it, works on the partition of the account and on no other, by plans that know no account.
#[tokio::test(flavor = "multi_thread")]
async fn c29_every_statement_of_a_call_works_on_one_partition() {
    let (envelopes, notices) = (Database::envelope_in(PARTS).await, notifier::database_in(PARTS).await);
    let (ours, database) = Plans::of(&envelopes).await;
    let (theirs, told) = Plans::of(&notices).await;
    let clock = Clock::manual(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
    let (documents, mails) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Loops that have nothing to do say the same again and again.
    let config = Config { sweep_ms: PAUSE_MS, ..config(&database, &documents) };
    let service = Service::start_with(database, clock, documents, config).await;
    let config = notifier::config(&told, &service.address, &mails);
    let config = countersign_notifier::config::Config { delivery_poll_ms: PAUSE_MS, ..config };
    let notifier = Notifier::start_with(told, mails, config).await;
    let accounts = (of_the_last_partition(&service).await, of_the_last_partition(&service).await);
    let played = calls::play(Scene::by(service, notifier, accounts).await, [&ours, &theirs]).await;
    let strays = strays(&played);
    assert!(strays.is_empty(), "{strays:#?}");
    let untold = untold(&played);
    assert!(untold.is_empty(), "to be given something to find: {untold:#?}");
    assert_eq!(forgotten(played.iter().map(|it| &it.ran)), Vec::<&str>::new());
    // Whoever hears nothing finds nothing.
    let statements: BTreeSet<_> = played.iter().map(|it| it.ran.statement.as_str()).collect();
    let lines: Vec<_> = statements.iter().map(|it| it.trim().lines().next().unwrap_or_default()).collect();
    assert!(statements.len() >= 100, "{}: {lines:#?}", statements.len());
    let query = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'p'";
    let mut unread = texts(&envelopes, query).await;
    unread.extend(texts(&notices, query).await);
    unread.retain(|table| !tables(&played).contains(table));
    assert_eq!(unread, BTreeSet::new(), "tables that no call read");
}
