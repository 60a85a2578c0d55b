//! Row-level security alone: the database's own wall between accounts, with the service's conditions taken away.

use std::collections::BTreeMap;

use countersign::v1::{CreateEnvelopeRequest, ListEnvelopesRequest, Routing};
use countersign_chassis::clock::Clock;
use countersign_envelope::domain::account::Account;
use countersign_envelope::domain::id::AccountId;
use countersign_envelope::store::{Scope, Store};
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Database, Service};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::things::upload;
use crate::doors::user;

/// References to events on their way to the streams of all accounts: no row of an account's.
const OF_THE_FEED: [&str; 2] = ["feed", "outbox"];

/// A connection as the service has them.
async fn ordinary(database: &Database) -> Client {
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Each table that holds rows of accounts, with the column that says whose.
async fn walled(superuser: &Client) -> BTreeMap<String, &'static str> {
    let tables = "SELECT table_name::text FROM information_schema.columns JOIN information_schema.tables \
                  USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE' \
                  AND column_name = 'account_id'";
    let rows = superuser.query(tables, &[]).await.unwrap();
    let mut found: BTreeMap<_, _> = rows.iter().map(|row| (row.get::<_, String>(0), "account_id")).collect();
    found.insert("account".to_owned(), "id");
    found.retain(|table, _| !OF_THE_FEED.contains(&table.as_str()));
    found
}

/// Two accounts, with a row of each in every table.
struct Two {
    service: Service,
    superuser: Client,
    ordinary: Client,
    a: Caller,
    b: Caller,
}

async fn fill(service: &Service) -> Caller {
    let sender = service.account(true).await;
    let test = service.key_of(&sender, false).await;
    upload(&sender).await;
    user(&sender, "user@example.com").await;
    let metadata = [("order".to_owned(), "7".to_owned())].into();
    let new = CreateEnvelopeRequest { idempotency_key: "once".into(), metadata, ..request(1, Routing::Parallel, true) };
    sender.create(new).await.expect("charged");
    let story = test.story(2, Routing::Parallel).await;
    story.signer(0).decline("no").await.unwrap();
    story.until_artifact().await;
    sender
}

impl Two {
    async fn new() -> Self {
        let service = Service::start().await;
        let (a, b) = (fill(&service).await, fill(&service).await);
        let superuser = service.database.connect().await;
        // One that nobody takes up today.
        let job = "INSERT INTO artifact_job (account_id, envelope_id, version, due_at) \
                   SELECT DISTINCT ON (account_id) account_id, id, 2, now() + interval '1 day' FROM envelope";
        superuser.execute(job, &[]).await.unwrap();
        let reading = "INSERT INTO ingest_job (account_id, envelope_id, document_id, source_id, begun_at, due_at) \
                       SELECT DISTINCT ON (account_id) account_id, envelope_id, id, gen_random_uuid(), now(), \
                       now() + interval '1 day' FROM document";
        superuser.execute(reading, &[]).await.unwrap();
        // What a signer drew.
        let drawing = "INSERT INTO drawing (account_id, envelope_id, sha256, content) \
                       SELECT DISTINCT ON (account_id) account_id, id, sha256('drawn'), 'drawn' FROM envelope";
        superuser.execute(drawing, &[]).await.unwrap();
        let ordinary = ordinary(&service.database).await;
        Self { service, superuser, ordinary, a, b }
    }

    /// Begins as the service begins for an account.
    async fn begin(&self, account: &str) {
        let begin = format!("BEGIN; SET LOCAL countersign.account = '{account}'");
        self.ordinary.batch_execute(&begin).await.unwrap();
    }

    async fn rollback(&self) {
        self.ordinary.batch_execute("ROLLBACK").await.unwrap();
    }
}

fn uuid(caller: &Caller) -> String {
    caller.account.parse::<AccountId>().unwrap().uuid().to_string()
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.expect(query).get(0)
}

/// The rows that a statement touched, or why it was refused.
async fn touched(client: &Client, statement: &str) -> Result<u64, SqlState> {
    client.batch_execute("SAVEPOINT attempt").await.unwrap();
    let done = client.execute(statement, &[]).await;
    let back = if done.is_ok() { "RELEASE attempt" } else { "ROLLBACK TO attempt" };
    client.batch_execute(back).await.unwrap();
    done.map_err(|error| error.code().expect(statement).clone())
}

/// Puts in a copy of one of an account's rows.
async fn insert(two: &Two, table: &str, owner: &str, account: &str) -> Result<u64, SqlState> {
    let columns = "SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) \
                   FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1 \
                   AND is_generated = 'NEVER'";
    let columns: String = two.superuser.query_one(columns, &[&table]).await.unwrap().get(0);
    let row = format!("SELECT row_to_json(t)::text FROM {table} t WHERE {owner} = '{account}' LIMIT 1");
    let row: String = two.superuser.query_one(&row, &[]).await.expect(table).get(0);
    let row = row.replace('\'', "''");
    let from = format!("SELECT {columns} FROM json_populate_record(NULL::{table}, '{row}')");
    touched(&two.ordinary, &format!("INSERT INTO {table} ({columns}) {from}")).await
}

/// C-29, S2.53: every table of accounts has the wall, for the tables' owner too, and the service cannot climb it.
#[tokio::test(flavor = "multi_thread")]
async fn c29_every_table_of_accounts_is_walled_and_the_service_is_held_back() {
    let database = Database::envelope().await;
    let (superuser, ordinary) = (database.connect().await, ordinary(&database).await);
    let role = "SELECT count(*) FROM pg_roles WHERE rolname = current_user AND NOT rolsuper AND NOT rolbypassrls \
                AND NOT rolcreaterole";
    assert_eq!(number(&ordinary, role).await, 1, "neither a superuser nor beyond the wall");
    let member = "SELECT count(*) FROM pg_auth_members WHERE member = current_user::regrole";
    assert_eq!(number(&ordinary, member).await, 0, "and it cannot become one");
    let tables = walled(&superuser).await;
    assert!(tables.len() >= 15, "{tables:?}");
    for table in tables.keys() {
        let forced = format!(
            "SELECT count(*) FROM pg_class WHERE oid = 'public.{table}'::regclass AND relrowsecurity AND relforcerowsecurity"
        );
        assert_eq!(number(&superuser, &forced).await, 1, "{table} has no wall, or none for its owner");
    }
    let views = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')";
    assert_eq!(number(&superuser, views).await, 0, "a view would look over the wall");
    let functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef";
    assert_eq!(number(&superuser, functions).await, 0, "so would a function with its owner's rights");
}

/// C-29: a transaction that was begun for nobody sees nothing and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn c29_without_an_account_no_row_is_there() {
    let two = Two::new().await;
    for (table, owner) in walled(&two.superuser).await {
        let count = format!("SELECT count(*) FROM {table}");
        assert!(number(&two.superuser, &count).await >= 2, "{table} has rows");
        for begin in ["BEGIN", "BEGIN; SET LOCAL countersign.account = ''"] {
            two.ordinary.batch_execute(begin).await.unwrap();
            assert_eq!(number(&two.ordinary, &count).await, 0, "{table}");
            let update = format!("UPDATE {table} SET {owner} = {owner}");
            assert_eq!(touched(&two.ordinary, &update).await, Ok(0), "{table}");
            assert_eq!(touched(&two.ordinary, &format!("DELETE FROM {table}")).await, Ok(0), "{table}");
            let inserted = insert(&two, &table, owner, &uuid(&two.a)).await;
            assert_eq!(inserted, Err(SqlState::INSUFFICIENT_PRIVILEGE), "{table}");
            two.rollback().await;
        }
    }
}

/// C-29: a transaction that was begun for one account sees and changes its rows alone, whatever its statements forget.
#[tokio::test(flavor = "multi_thread")]
async fn c29_with_an_account_its_own_rows_are_all_there_is() {
    let two = Two::new().await;
    let (a, b) = (uuid(&two.a), uuid(&two.b));
    for (table, owner) in walled(&two.superuser).await {
        let count = format!("SELECT count(*) FROM {table}");
        let own = number(&two.superuser, &format!("{count} WHERE {owner} = '{a}'")).await;
        assert!(own > 0 && number(&two.superuser, &count).await > own, "{table} has rows of both");
        two.begin(&a).await;
        assert_eq!(number(&two.ordinary, &count).await, own, "{table}");
        let foreign = format!("{count} WHERE {owner} <> '{a}'");
        assert_eq!(number(&two.ordinary, &foreign).await, 0, "{table}");
        // What is kept for ever refuses the owner too.
        match touched(&two.ordinary, &format!("UPDATE {table} SET {owner} = {owner}")).await {
            Ok(rows) => assert_eq!(i64::try_from(rows).unwrap(), own, "{table}"),
            Err(why) => assert_eq!(why, SqlState::CHECK_VIOLATION, "{table}"),
        }
        let theirs = format!("WHERE {owner} = '{b}'");
        let update = format!("UPDATE {table} SET {owner} = {owner} {theirs}");
        assert_eq!(touched(&two.ordinary, &update).await, Ok(0), "{table}");
        assert_eq!(touched(&two.ordinary, &format!("DELETE FROM {table} {theirs}")).await, Ok(0), "{table}");
        let inserted = insert(&two, &table, owner, &b).await;
        assert_eq!(inserted, Err(SqlState::INSUFFICIENT_PRIVILEGE), "{table}: a row for the other");
        let given_away = touched(&two.ordinary, &format!("UPDATE {table} SET {owner} = '{b}'")).await;
        let refused = [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::CHECK_VIOLATION];
        assert!(given_away.as_ref().is_err_and(|why| refused.contains(why)), "{table}: {given_away:?}");
        two.rollback().await;
    }
}

/// C-29: the service's own list, with the condition on the account left out by mistake.
#[tokio::test(flavor = "multi_thread")]
async fn c29_a_query_that_forgets_the_account_finds_its_own_rows_alone() {
    let two = Two::new().await;
    let list = "SELECT id, status, subject, external_reference, revision, created_at, expires_at, requires_replacement \
                FROM envelope WHERE livemode = $1 AND discarded_at IS NULL AND id < $2 ORDER BY id DESC LIMIT $3";
    let of_a = two.a.envelopes().list_envelopes(ListEnvelopesRequest::default()).await.unwrap().into_inner();
    assert_eq!(of_a.envelopes.len(), 1);
    let found = async || {
        let rows = two.ordinary.query(list, &[&true, &uuid::Uuid::max(), &50_i64]).await.unwrap();
        rows.iter().map(|row| row.get::<_, uuid::Uuid>(0).to_string()).collect::<Vec<_>>()
    };
    two.begin(&uuid(&two.a)).await;
    let seen = found().await;
    assert_eq!(seen.len(), 1, "not those of the other account");
    let one = format!(
        "SELECT count(*) FROM envelope JOIN recipient ON envelope_id = envelope.id WHERE envelope.id = '{}'",
        seen[0]
    );
    assert_eq!(number(&two.ordinary, &one).await, 1);
    two.rollback().await;
    two.begin(&uuid(&two.b)).await;
    assert_eq!(number(&two.ordinary, &one).await, 0, "A's envelope, by its id, in a transaction of B's");
    assert_ne!(found().await, seen);
    two.rollback().await;
    assert!(found().await.is_empty(), "nor outside of any transaction");
    assert_eq!(two.a.get(&of_a.envelopes[0].id).await.unwrap().recipients.len(), 1);
    drop(two.service);
}

/// C-29: the account ends with the transaction, whichever way that ends.
#[tokio::test(flavor = "multi_thread")]
async fn c29_the_account_of_a_transaction_ends_with_it() {
    let two = Two::new().await;
    let setting = "SELECT coalesce(current_setting('countersign.account', true), '')";
    let now = async || two.ordinary.query_one(setting, &[]).await.unwrap().get::<_, String>(0);
    for end in ["COMMIT", "ROLLBACK"] {
        two.begin(&uuid(&two.a)).await;
        assert_eq!(now().await, uuid(&two.a));
        two.ordinary.batch_execute(end).await.unwrap();
        assert_eq!(now().await, "");
        assert_eq!(number(&two.ordinary, "SELECT count(*) FROM envelope").await, 0);
    }
    two.begin(&uuid(&two.a)).await;
    two.ordinary.query_one("SELECT 1 / 0", &[]).await.unwrap_err();
    two.ordinary.batch_execute("COMMIT").await.unwrap();
    assert_eq!(now().await, "", "after a failure too");
    let across = "SELECT coalesce(current_setting('countersign.across_accounts', true), '')";
    assert_eq!(two.ordinary.query_one(across, &[]).await.unwrap().get::<_, String>(0), "");
}

async fn of(store: &Store, account: AccountId) -> Account {
    store.account(account).await.unwrap().unwrap()
}

/// C-29: two accounts share the one connection of a pool, call by call, and each sees its own.
#[tokio::test(flavor = "multi_thread")]
async fn c29_accounts_share_a_connection_and_nothing_else() {
    let two = Two::new().await;
    let mut config = two.service.config.clone();
    config.database.database_pool_max = 1;
    let store = Store::open(&config.database, Clock::database()).await.unwrap();
    let (a, b): (AccountId, AccountId) = (two.a.account.parse().unwrap(), two.b.account.parse().unwrap());
    let id = two.a.envelopes().list_envelopes(ListEnvelopesRequest::default()).await.unwrap().into_inner();
    let id = id.envelopes[0].id.parse().unwrap();
    for _ in 0..20 {
        assert_eq!((of(&store, a).await.id, of(&store, b).await.id), (a, b));
        assert!(store.envelope(Scope::any_mode(a), id).await.unwrap().is_some());
        assert!(store.envelope(Scope::any_mode(b), id).await.unwrap().is_none());
        assert_eq!(store.account(AccountId::new()).await.unwrap(), None);
    }
    // The same pool, with statements that name no account.
    let pool = countersign_chassis::database::pool(&config.database).await.unwrap();
    let mut seen = Vec::new();
    for account in [a, b] {
        let flight = countersign_chassis::database::Flight::open(&pool).await.unwrap();
        flight.begin_for(account.uuid()).await.unwrap();
        seen.push(ids(flight.connection()).await);
        flight.commit().await.unwrap();
        flight.close();
        let between = countersign_chassis::database::acquire(&pool).await.unwrap();
        assert!(ids(&between).await.is_empty(), "the connection goes back without an account");
    }
    assert_eq!(seen, [[a.uuid()], [b.uuid()]]);
}

/// Ids of all accounts that a connection sees.
async fn ids(mut connection: &diesel_async::AsyncPgConnection) -> Vec<uuid::Uuid> {
    use countersign_envelope::store::schema::account;
    use diesel::QueryDsl as _;
    use diesel_async::RunQueryDsl as _;
    account::table.select(account::id).load(&mut connection).await.unwrap()
}
