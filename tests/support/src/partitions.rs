//! The services' tables cut into partitions by account, on an ordinary Postgres: it refuses every key that lacks the account, as
//! a database that is spread over machines does (Citus), and the plan of a statement tells on which partitions it works.
//!
//! It must lose nothing of the schema, and leave no table whole that nobody has decided about.

use std::collections::BTreeSet;

use tokio_postgres::{Client, NoTls};

/// How many partitions the databases of a whole run of tests have.
pub const SETTING: &str = "COUNTERSIGN_TEST_PARTITIONS";

/// Where the partitions are, apart from the tables. They are named as their table with their number behind it.
const SCHEMA: &str = "partitions";

/// Tables of both services that stay whole, and why. Every other one must have the account in all its keys.
pub const WHOLE: [(&str, &str); 10] = [
    ("__diesel_schema_migrations", "which migrations have run"),
    ("beat", "one row"),
    ("blob_removal", "bytes are stored once for all accounts, and found by their hash"),
    ("feed", "numbered without a gap within one of the sixteen partitions of the feed, which is its key"),
    ("feed_head", "sixteen rows"),
    ("feed_incarnation", "one row"),
    ("feed_partition", "sixteen rows"),
    ("follower", "a row for each process of the notifier"),
    ("master_key", "a row for each master key that there has ever been"),
    ("outbox", "the feed's waiting room: taken out in the feed's order, which is its key"),
];

/// Tables that have no account in their primary key, though they are not said to stay whole, or the other way round.
const UNDECIDED: &str = "
SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    AND (relname = ANY ($1::text[])) = (relname = 'account' OR EXISTS (
        SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
        WHERE indrelid = pg_class.oid AND indisprimary AND attname = 'account_id'
    ))";

/// The number of partitions that this run of tests asks for.
#[must_use]
pub fn wished() -> Option<u16> {
    let text = std::env::var(SETTING).ok()?;
    Some(text.parse().ok().filter(|parts| *parts > 0).unwrap_or_else(|| panic!("{SETTING} is a number, not {text:?}")))
}

/// Cuts the tables of a migrated database, in which no account has anything yet, if this run of tests asks for it.
pub async fn cut_as_wished(url: &str) {
    if let Some(parts) = wished() {
        cut(url, parts).await;
    }
}

/// Cuts the tables of a migrated database, in which no account has anything yet. To be called as the tables' owner.
pub async fn cut(url: &str, parts: u16) {
    let mut client = connect(url).await;
    let whole = WHOLE.map(|(table, _)| table);
    let undecided = texts(&client, UNDECIDED, &whole).await;
    assert!(undecided.is_empty(), "with the account in its key or in WHOLE, not both and not neither: {undecided:?}");
    let steps = client.query(include_str!("partitions/cut.sql"), &[&whole.as_slice(), &i32::from(parts)]).await;
    let statements: Vec<String> = steps.expect("the cut").iter().map(|step| step.get("statement")).collect();
    assert!(!statements.is_empty(), "tables to be cut");
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute(&format!("SET LOCAL client_min_messages = error; CREATE SCHEMA {SCHEMA}")).await.unwrap();
    for statement in &statements {
        transaction.batch_execute(statement).await.unwrap_or_else(|why| panic!("{why:?}: {statement}"));
    }
    let renames = transaction.query(include_str!("partitions/rename.sql"), &[]).await.expect("names");
    for rename in renames {
        transaction.batch_execute(rename.get(0)).await.expect("another name");
    }
    transaction.commit().await.unwrap();
}

/// The number of the partition with that name; none: it is not the name of one.
#[must_use]
pub fn number(relation: &str) -> Option<u16> {
    relation.rsplit_once('_')?.1.parse().ok()
}

/// All that there is to the schema of a database, in words that are the same for tables that are cut.
pub async fn shape(url: &str) -> BTreeSet<String> {
    let rows = connect(url).await.query(include_str!("partitions/shape.sql"), &[]).await.expect("the shape");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connection");
    tokio::spawn(connection);
    client
}

async fn texts(client: &Client, query: &str, among: &[&str]) -> Vec<String> {
    let rows = client.query(query, &[&among]).await.expect(query);
    rows.iter().map(|row| row.get(0)).collect()
}
