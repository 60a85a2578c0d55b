//! Two roles for a database, as the chart has them made: an owner who migrates, and one who serves and can change no table.

use countersign_chassis::clock::Clock;
use countersign_chassis::config::DatabaseConfig;
use countersign_postgres::{Options, Postgres};
use countersign_test_support::database::Database;
use countersign_test_support::{Service, notifier};
use serde_json::Value;
use tokio_postgres::NoTls;

use super::{kind, rendered};

fn statements(resource: &Value) -> Vec<String> {
    resource.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

async fn run(postgres: &Postgres, database: &str, statements: &[String]) {
    let (client, connection) = tokio_postgres::connect(&postgres.superuser_url(database), NoTls).await.unwrap();
    tokio::spawn(connection);
    for statement in statements {
        client.batch_execute(statement).await.unwrap_or_else(|why| panic!("{statement}: {why}"));
    }
}

/// The address of a database as another role. The embedded Postgres trusts who comes from this machine.
fn as_role(postgres: &Postgres, database: &str, role: &str) -> String {
    format!("postgres://{role}@127.0.0.1:{}/{database}", postgres.port())
}

fn config(url: &str) -> DatabaseConfig {
    DatabaseConfig { database_url: url.into(), database_ca: None, database_pool_max: 16, database_wait_ms: 5_000 }
}

/// The SQL of the chart's cluster, run in the order in which the operator runs it, makes databases that the owners migrate and
/// on which the other roles serve: an envelope comes to its end.
#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_serves_needs_no_table_of_its_own() {
    let Some(resources) = rendered("postgres") else { return };
    let cluster = kind(&resources, "Cluster", "cs-postgres");
    let initdb = &cluster["spec"]["bootstrap"]["initdb"];
    let (owner, first) = (initdb["owner"].as_str().unwrap(), initdb["database"].as_str().unwrap());
    let second = &kind(&resources, "Database", "cs-postgres-notifier")["spec"];
    let postgres = Postgres::start(Options::throwaway()).await.unwrap();
    run(&postgres, "postgres", &[format!("CREATE ROLE {owner} LOGIN")]).await;
    run(&postgres, "postgres", &statements(&initdb["postInitSQL"])).await;
    run(&postgres, "template1", &statements(&initdb["postInitTemplateSQL"])).await;
    run(&postgres, "postgres", &[format!("CREATE DATABASE {first} OWNER {owner}")]).await;
    run(&postgres, first, &statements(&initdb["postInitApplicationSQL"])).await;
    let (name, owner_of_second) = (second["name"].as_str().unwrap(), second["owner"].as_str().unwrap());
    run(&postgres, "postgres", &[format!("CREATE DATABASE {name} OWNER {owner_of_second}")]).await;

    let (envelopes, notices) = ("countersign_envelope", "countersign_notifier");
    let owned = |database: &str| config(&as_role(&postgres, database, &format!("{database}_owner")));
    countersign_envelope::serve::migrate(&owned(envelopes)).await.unwrap();
    countersign_notifier::serve::migrate(&owned(notices)).await.unwrap();

    let served = |database: &str| Database {
        name: database.to_owned(),
        url: as_role(&postgres, database, &format!("{database}_serving")),
        superuser_url: postgres.superuser_url(database),
    };
    let service = Service::start_on(served(envelopes), Clock::database(), tempfile::tempdir().unwrap()).await;
    let mails = tempfile::tempdir().unwrap();
    let settings = notifier::config(&served(notices), &service.address, &mails);
    let notifier = notifier::Notifier::start_with(served(notices), mails, settings).await;
    let sender = service.account(true).await;
    let request = countersign_test_support::client::request(1, countersign::v1::Routing::Parallel, true);
    let envelope = sender.create(request).await.unwrap();
    let void = countersign::v1::VoidEnvelopeRequest { envelope_id: envelope.id, ..Default::default() };
    sender.envelopes().void_envelope(void).await.unwrap();
    // The invitation was planned and written by the notifier's own role.
    let written = async {
        while notifier.mails().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), written).await.expect("a mail");

    let (client, connection) = tokio_postgres::connect(&served(envelopes).url, NoTls).await.unwrap();
    tokio::spawn(connection);
    for statement in ["DROP TABLE envelope", "ALTER TABLE envelope NO FORCE ROW LEVEL SECURITY", "CREATE TABLE mine ()"]
    {
        assert!(client.batch_execute(statement).await.is_err(), "the role that serves may not: {statement}");
    }
    assert!(
        tokio_postgres::connect(&as_role(&postgres, envelopes, "countersign_notifier_serving"), NoTls).await.is_err(),
        "the notifier's role has no business in the other database"
    );
    notifier.stop().await;
    service.stop().await;
    postgres.stop().await.unwrap();
}
