//! The way to Postgres: over TLS that is verified, through PgBouncer, and never in the clear where TLS was asked for.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use countersign::v1::Routing;
use countersign_chassis::clock::Clock;
use countersign_chassis::config::DatabaseConfig;
use countersign_chassis::database::{acquire, pool};
use countersign_envelope::serve::migrate;
use countersign_postgres::{Options, Postgres};
use countersign_test_support::certificates::{Authority, Issued, Use, write};
use countersign_test_support::database::Database;
use countersign_test_support::service::SERVICE_TOKEN;
use countersign_test_support::{Service, binary, outside};
use diesel::QueryableByName;
use diesel_async::RunQueryDsl as _;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

#[derive(QueryableByName)]
struct Session {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    tls: bool,
    #[diesel(sql_type = diesel::sql_types::Text)]
    statement_timeout: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    lc_messages: String,
}

async fn superuser(postgres: &Postgres) -> Client {
    let (client, connection) = tokio_postgres::connect(&postgres.superuser_url("postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Has the server bear that certificate from now on. It writes the files itself: they have to be its own.
async fn bear(postgres: &Postgres, issued: &Issued) {
    let client = superuser(postgres).await;
    for (file, pem) in [("server.crt", &issued.cert), ("server.key", &issued.key)] {
        let statement = format!(
            "COPY (SELECT unnest(string_to_array('{}', E'\\n'))) TO PROGRAM 'umask 077; cat > {file}'",
            pem.trim()
        );
        client.batch_execute(&statement).await.unwrap();
    }
    client.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let on = async {
        while client.query_one("SHOW ssl", &[]).await.unwrap().get::<_, String>(0) != "on" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), on).await.expect("TLS");
}

fn config(url: &str, ca: Option<&Path>) -> DatabaseConfig {
    DatabaseConfig {
        database_url: url.into(),
        database_ca: ca.map(Path::to_owned),
        database_pool_max: 2,
        database_wait_ms: 5_000,
    }
}

async fn session(config: &DatabaseConfig) -> Session {
    let mut connection = acquire(&pool(config).await.unwrap()).await.unwrap();
    let asked = diesel::sql_query(
        "SELECT ssl AS tls, current_setting('statement_timeout') AS statement_timeout,
                current_setting('lc_messages') AS lc_messages
         FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    );
    asked.get_result(&mut connection).await.unwrap()
}

/// Why that address is refused, by the one command that tells people: `migrate`.
async fn refusal(config: &DatabaseConfig) -> String {
    format!("{:#}", migrate(config).await.unwrap_err())
}

/// T-71: whoever names a CA, or says `sslmode=require`, speaks over TLS with a server whose certificate was verified, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_over_verified_tls() {
    let folder = TempDir::new().unwrap();
    let (ours, other) = (Authority::new("Ours"), Authority::new("Other"));
    let ca = write(folder.path(), "ca.pem", &ours.pem);
    let wrong = write(folder.path(), "other.pem", &other.pem);
    let postgres = Postgres::start(Options::throwaway()).await.unwrap();
    let clear = postgres.url("postgres");
    let with = |mode: &str| format!("{clear}{}sslmode={mode}", if clear.contains('?') { "&" } else { "?" });

    // A server that has no TLS is not spoken to in the clear.
    let refused = refusal(&config(&clear, Some(&ca))).await;
    assert!(refused.contains("server does not support TLS"), "{refused}");
    let refused = refusal(&config(&with("require"), None)).await;
    assert!(refused.contains("server does not support TLS"), "{refused}");

    bear(&postgres, &ours.issue(Use::Server, &["127.0.0.1"])).await;
    assert!(!session(&config(&clear, None)).await.tls, "nobody asked for it");
    for address in [clear.clone(), with("require"), with("verify-ca"), with("verify-full")] {
        let found = session(&config(&address, Some(&ca))).await;
        assert!(found.tls, "{address}");
        assert_eq!((found.statement_timeout.as_str(), found.lc_messages.as_str()), ("5s", "C"), "{address}");
    }
    // By another CA, by those of the platform, and with another name.
    for (address, ca) in [(with("verify-full"), Some(&wrong)), (with("require"), None)] {
        let refused = refusal(&config(&address, ca.map(|ca| ca.as_path()))).await;
        assert!(refused.contains("UnknownIssuer"), "{refused}");
    }
    // A service that cannot reach its database says why, and not only that it waited in vain.
    let documents = TempDir::new().unwrap();
    let mut serve = tokio::process::Command::new(binary::path("countersign-envelope").await);
    serve.arg("serve").env("COUNTERSIGN_DATABASE_URL", &clear).env("COUNTERSIGN_DATABASE_CA", &wrong);
    serve.env("COUNTERSIGN_LISTEN", "127.0.0.1:0").env("COUNTERSIGN_MASTER_KEY", "5c".repeat(32));
    serve.env("COUNTERSIGN_UNSEALED", "true").env("COUNTERSIGN_DOCUMENTS", documents.path());
    serve.env("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN);
    let served = tokio::time::timeout(Duration::from_secs(30), serve.kill_on_drop(true).output()).await;
    let said = String::from_utf8(served.expect("it ends").unwrap().stderr).unwrap();
    assert!(said.contains("no connection to the database") && said.contains("UnknownIssuer"), "{said}");

    bear(&postgres, &ours.issue(Use::Server, &["dns:elsewhere.example"])).await;
    let refused = refusal(&config(&clear, Some(&ca))).await;
    assert!(refused.contains("not valid for name"), "{refused}");

    // A CA that is renewed needs no new start: it is read for each connection.
    bear(&postgres, &ours.issue(Use::Server, &["127.0.0.1"])).await;
    let pool = pool(&config(&clear, Some(&wrong))).await.unwrap();
    assert!(acquire(&pool).await.is_err());
    std::fs::write(&wrong, &ours.pem).unwrap();
    assert!(acquire(&pool).await.is_ok());
    postgres.stop().await.unwrap();
}

/// What cannot be meant is said before anything is connected, and no address is quoted.
#[tokio::test]
async fn settings_of_the_database_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let ca = write(folder.path(), "ca.pem", &Authority::new("Ours").pem);
    let none = write(folder.path(), "none.pem", "no certificate");
    let secret = "postgres://someone:hunter2@db.example/one?sslmode=disable";
    for (config, says) in [
        (config(secret, Some(&ca)), "--database-ca (COUNTERSIGN_DATABASE_CA): has no use"),
        (config("postgres://someone:hunter2@[", None), "--database-url (COUNTERSIGN_DATABASE_URL): is not an address"),
        (config(secret, Some(&none)), "--database-ca (COUNTERSIGN_DATABASE_CA)"),
        (config("postgres://someone:hunter2@db.example/one", Some(&none)), "holds no certificate in PEM"),
        (config("postgres://someone:hunter2@db.example/one?sslmode=prefer", Some(&ca)), "say require or disable"),
        (config("postgres://someone:hunter2@db.example/one?sslrootcert=ca.pem", None), "sslrootcert is --database-ca"),
        (config("postgres://db.example/one", Some(&folder.path().join("absent"))), "cannot be read"),
    ] {
        let refused = refusal(&config).await;
        assert!(refused.contains(says), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}

/// PgBouncer in front of a database, as its own user: it refuses root.
struct Bouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Bouncer {
    async fn start(postgres: &Postgres) -> Self {
        let folder = TempDir::new().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address: tokio_postgres::Config = postgres.url("postgres").parse().unwrap();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n\
             pool_mode = session\nunix_socket_dir =\nmax_client_conn = 200\ndefault_pool_size = 60\n",
            postgres.port(),
            address.get_user().unwrap(),
        );
        let file = write(folder.path(), "pgbouncer.ini", &settings);
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("pgbouncer");
        command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        if std::fs::metadata(folder.path()).unwrap().uid() == 0 {
            command.args(["-u", "nobody"]);
        }
        let child = command.spawn().unwrap();
        let up = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), up).await.expect("PgBouncer");
        Self { child, port, _folder: folder }
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Behind PgBouncer in session mode an envelope comes to its end, by the service's own loops too: they see all accounts.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_through_pgbouncer_have_their_limits() {
    let Some(_) = outside::program("pgbouncer", "apt-get install pgbouncer") else { return };
    let postgres = Postgres::start(Options::throwaway()).await.unwrap();
    postgres.create_database("envelope").await.unwrap();
    migrate(&config(&postgres.url("envelope"), None)).await.unwrap();
    let bouncer = Bouncer::start(&postgres).await;
    let url = format!("postgres://anybody@127.0.0.1:{}/envelope", bouncer.port);
    assert_eq!(session(&config(&url, None)).await.statement_timeout, "5s");

    let superuser_url = postgres.superuser_url("envelope");
    let database = Database { name: "envelope".to_owned(), url, superuser_url };
    let service = Service::start_on(database, Clock::database(), TempDir::new().unwrap()).await;
    let story = service.account(false).await.story(1, Routing::Parallel).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.until_artifact().await;
    service.stop().await;
    drop(bouncer);
    postgres.stop().await.unwrap();
}
