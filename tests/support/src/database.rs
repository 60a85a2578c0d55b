//! One Postgres for the test process; for each test a database of its own, cloned from a migrated template.

use std::sync::atomic::{AtomicU32, Ordering};

use countersign_chassis::config::DatabaseConfig;
use countersign_postgres::{Options, Postgres};
use tokio::sync::OnceCell;

use crate::partitions;

static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();
static TEMPLATE: OnceCell<()> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Tests run beside each other, and each service of each of them has its pools.
const CONNECTIONS_MAX: u32 = 600;

/// The Postgres of this test process. It ends with the process.
pub async fn postgres() -> &'static Postgres {
    let options = || Options { connections_max: CONNECTIONS_MAX, ..Options::throwaway() };
    POSTGRES.get_or_init(|| async { Postgres::start(options()).await.expect("Postgres") }).await
}

/// A database of one test.
#[derive(Clone, Debug)]
pub struct Database {
    pub name: String,
    pub url: String,
    /// For looking at, and meddling with, everything.
    pub superuser_url: String,
}

impl Database {
    /// One on that server.
    #[must_use]
    pub fn at(postgres: &Postgres, name: String) -> Self {
        Self { url: postgres.url(&name), superuser_url: postgres.superuser_url(&name), name }
    }

    /// An empty one.
    pub async fn empty(prefix: &str) -> Self {
        let postgres = postgres().await;
        let name = format!("{prefix}_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        postgres.create_database(&name).await.expect("database");
        Self::at(postgres, name)
    }

    /// One with the envelope service's schema, whose tables are cut into so many partitions by account.
    pub async fn envelope_in(parts: u16) -> Self {
        let database = Self::empty("envelope_in").await;
        countersign_envelope::serve::migrate(&database.config()).await.expect("migrations");
        partitions::cut(&database.url, parts).await;
        database
    }

    /// One with the envelope service's schema.
    pub async fn envelope() -> Self {
        let postgres = postgres().await;
        TEMPLATE
            .get_or_init(|| async {
                postgres.create_database("envelope_template").await.expect("template");
                let url = postgres.url("envelope_template");
                countersign_envelope::serve::migrate(&config(&url)).await.expect("migrations");
                partitions::cut_as_wished(&url).await;
            })
            .await;
        let name = format!("envelope_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        postgres.create_database_from_template(&name, "envelope_template").await.expect("database");
        Self::at(postgres, name)
    }

    /// Another with all that is in this one, from which everybody is thrown out.
    pub async fn copy(&self) -> Self {
        let postgres = postgres().await;
        let name = format!("copy_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let elsewhere = Self::at(postgres, "postgres".to_owned()).connect().await;
        let alone = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1";
        for _ in 0..50 {
            elsewhere.query(alone, &[&self.name]).await.expect("connections are ended");
            match postgres.create_database_from_template(&name, &self.name).await {
                Ok(()) => return Self::at(postgres, name),
                // Somebody was on the way out.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
        panic!("somebody stays in {}", self.name);
    }

    /// Settings for it.
    #[must_use]
    pub fn config(&self) -> DatabaseConfig {
        config(&self.url)
    }

    /// A connection for raw SQL, before which no row is hidden.
    pub async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.superuser_url, tokio_postgres::NoTls).await.expect("connection");
        tokio::spawn(connection);
        client
    }

    /// One number from a query.
    pub async fn number(&self, query: &str) -> i64 {
        self.connect().await.query_one(query, &[]).await.expect(query).get(0)
    }
}

fn config(url: &str) -> DatabaseConfig {
    DatabaseConfig { database_url: url.into(), database_ca: None, database_pool_max: 16, database_wait_ms: 5_000 }
}
