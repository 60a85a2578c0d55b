//! The envelope service in this process, on a port of its own.

use chrono::{DateTime, Utc};
use countersign::v1::{
    AccountSettings, Amount, CreateApiKeyRequest, GrantCreditsRequest, Limits, UpdateAccountSettingsRequest,
};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::{HELP_URL, KeyConfig, ListenConfig, TelemetryConfig};
use countersign_chassis::telemetry::Telemetry;
use countersign_envelope::config::{Config, IngestConfig};
use countersign_envelope::domain::id::AccountId;
use countersign_envelope::identity::Identities;
use countersign_envelope::oidc::OidcConfig;
use countersign_envelope::seal::SealConfig;
use countersign_envelope::serve::{NewAccount, create_account, serve};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::client::Caller;
use crate::database::Database;

/// The token by which the notifier is known in tests.
pub const SERVICE_TOKEN: &str = "test-service-token-0123456789abcdef0123456789";

/// The token by which the operator is known in tests.
pub const OPERATOR_KEY: &str = "test-operator-key-0123456789abcdef0123456789";

/// A running envelope service.
pub struct Service {
    pub database: Database,
    pub config: Config,
    pub clock: Clock,
    pub address: String,
    pub channel: Channel,
    pub documents: TempDir,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

/// The keys of tests.
#[must_use]
pub fn keys() -> KeyConfig {
    KeyConfig::new("5c".repeat(32))
}

/// Settings of a service on that database.
#[must_use]
pub fn config(database: &Database, documents: &TempDir) -> Config {
    Config {
        listen: ListenConfig { drain_ms: 5_000, help_url: HELP_URL.into(), ..ListenConfig::default() },
        database: database.config(),
        keys: keys(),
        telemetry: TelemetryConfig::only_logs("warn"),
        migrate: false,
        documents: documents.path().to_owned().into(),
        document_keys: None,
        paper_worker: None,
        paper_workers: None,
        ingest: IngestConfig::default(),
        signing_url: "https://sign.example.com/s".into(),
        service_token: Some(SERVICE_TOKEN.into()),
        service_identities: Identities::default(),
        operator_key: Some(OPERATOR_KEY.into()),
        oidc: OidcConfig::default(),
        seal: SealConfig { unsealed: true, ..SealConfig::default() },
        trusted_peers: vec!["127.0.0.0/8".parse().unwrap()],
        cache_ms: 2_000,
        replica_url: None,
        heartbeat_seconds: 1,
        stream_stall_seconds: 30,
        feed_retention_days: 30,
        feed_poll_ms: 40,
        sweep_ms: 100,
        upload_days: 7,
    }
}

/// More connections of a pool than its loops have.
const LOOPS: u32 = 10;

/// The same for so many calls at once, of which none is sent away, however slow the machine is: no line is longer than this pool.
#[must_use]
pub fn config_for_bursts(calls: usize, database: &Database, documents: &TempDir) -> Config {
    let mut config = config(database, documents);
    config.database.database_pool_max = u32::try_from(calls).unwrap() + LOOPS;
    config
}

impl Service {
    /// On a fresh database, by the database's clock.
    pub async fn start() -> Self {
        Self::start_by(Clock::database()).await
    }

    /// On a fresh database, by a clock that stands at `at`.
    pub async fn start_at(at: DateTime<Utc>) -> Self {
        Self::start_by(Clock::manual(at)).await
    }

    async fn start_by(clock: Clock) -> Self {
        let database = Database::envelope().await;
        Self::start_on(database, clock, tempfile::tempdir().unwrap()).await
    }

    /// On that database, with the documents in that folder.
    pub async fn start_on(database: Database, clock: Clock, documents: TempDir) -> Self {
        let config = config(&database, &documents);
        Self::start_with(database, clock, documents, config).await
    }

    /// With those settings.
    pub async fn start_with(database: Database, clock: Clock, documents: TempDir, mut config: Config) -> Self {
        if config.paper_worker.is_none() {
            // This program is a test, not the service.
            config.paper_worker = Some(crate::binary::path("countersign-envelope").await);
        }
        // What services warn of stands beside a failing test.
        let _ = Telemetry::start("tests", &config.telemetry);
        let listener = TcpListener::bind(config.listen.listen).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let running = tokio::spawn(serve(config.clone(), clock.clone(), listener, stop.clone()));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { database, config, clock, address, channel, documents, stop, running }
    }

    /// A new account with a key.
    pub async fn account(&self, livemode: bool) -> Caller {
        let NewAccount { id, api_key } =
            create_account(&self.database.config(), &keys(), "Tests Ltd", livemode).await.expect("account");
        self.open_up(&id.to_string()).await;
        Caller { account: id.to_string(), token: api_key, channel: self.channel.clone() }
    }

    /// Lets an account do as much and as fast as a test likes: tests of limits set their own.
    async fn open_up(&self, account: &str) {
        let limits = Limits {
            key_calls_per_second: 10_000,
            key_calls_burst: 20_000,
            signer_calls_per_minute: 6_000,
            signer_calls_burst: 6_000,
            ..Limits::default()
        };
        let settings = AccountSettings { limits: Some(limits), ..AccountSettings::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["limits".into()] });
        let request = UpdateAccountSettingsRequest { settings: Some(settings), update_mask, ..Default::default() };
        let mut operator = self.operator(account).accounts();
        operator.update_account_settings(request).await.expect("limits");
        let amount = Some(Amount { unit: "CREDIT".into(), value: 1_000_000 });
        let idempotency_key = "open-up".to_owned();
        operator
            .grant_credits(GrantCreditsRequest { amount, idempotency_key, ..Default::default() })
            .await
            .expect("credits");
        // Tests count the keys of their own requests.
        let id = account.parse::<AccountId>().expect("account").uuid();
        let forget = format!("DELETE FROM idempotency WHERE account_id = '{id}'");
        self.database.connect().await.batch_execute(&forget).await.expect("forgotten");
    }

    /// Another key of the same account.
    pub async fn key_of(&self, caller: &Caller, livemode: bool) -> Caller {
        let request = CreateApiKeyRequest { livemode, ..CreateApiKeyRequest::default() };
        let made = self.operator(&caller.account).accounts().create_api_key(request).await.expect("key");
        caller.with_token(&made.into_inner().secret)
    }

    /// The notifier, acting for an account.
    #[must_use]
    pub fn notifier(&self, account: &str) -> Caller {
        Caller { account: account.to_owned(), token: SERVICE_TOKEN.to_owned(), channel: self.channel.clone() }
    }

    /// The operator, acting for an account.
    #[must_use]
    pub fn operator(&self, account: &str) -> Caller {
        Caller { account: account.to_owned(), token: OPERATOR_KEY.to_owned(), channel: self.channel.clone() }
    }

    /// Stops it in good order and gives back what it stood on.
    pub async fn stop(self) -> (Database, TempDir) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("a clean end");
        (self.database, self.documents)
    }

    /// Cuts it wherever it stands, as a kill would, and gives back its documents.
    pub async fn cut(self) -> TempDir {
        self.running.abort();
        let _ = self.running.await;
        self.documents
    }
}
