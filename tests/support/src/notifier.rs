//! The notifier in this process, and its clients.

use countersign::v1::CreateWebhookEndpointRequest;
use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign_chassis::clock::Clock;
use countersign_chassis::config::{HELP_URL, ListenConfig, TelemetryConfig};
use countersign_notifier::config::{Config, EnvelopeTlsConfig, MailConfig};
use countersign_notifier::serve::{migrate, serve};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::client::Caller;
use crate::database::Database;
use crate::partitions;
use crate::service::{SERVICE_TOKEN, Service, keys};

/// A running notifier.
pub struct Notifier {
    pub database: Database,
    pub address: String,
    pub channel: Channel,
    pub mails: TempDir,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

/// A migrated database for a notifier.
pub async fn database() -> Database {
    migrated(partitions::wished()).await
}

/// The same, whose tables are cut into so many partitions by account.
pub async fn database_in(parts: u16) -> Database {
    migrated(Some(parts)).await
}

async fn migrated(parts: Option<u16>) -> Database {
    let database = Database::empty("notifier").await;
    migrate(&database.config()).await.expect("migrations");
    if let Some(parts) = parts {
        partitions::cut(&database.url, parts).await;
    }
    database
}

/// Settings of a notifier of that service.
#[must_use]
pub fn config(database: &Database, service: &str, mails: &TempDir) -> Config {
    Config {
        listen: ListenConfig { drain_ms: 3_000, help_url: HELP_URL.into(), ..ListenConfig::default() },
        database: database.config(),
        keys: keys(),
        telemetry: TelemetryConfig::only_logs("warn"),
        migrate: false,
        envelope_url: format!("http://{service}"),
        service_token: Some(SERVICE_TOKEN.into()),
        envelope_tls: EnvelopeTlsConfig::default(),
        webhook_allow_private: true,
        webhook_challenge: false,
        webhook_ports: vec![443, 8443],
        webhook_deny: Vec::new(),
        smtp_url: None,
        mail_folder: Some(mails.path().to_owned()),
        mail_from: "Countersign <no-reply@example.com>".into(),
        mail: MailConfig::default(),
        delivery_poll_ms: 100,
        lease_seconds: 15,
    }
}

impl Notifier {
    /// On a database of its own, for that service.
    pub async fn start(service: &Service) -> Self {
        let (database, mails) = (database().await, tempfile::tempdir().unwrap());
        let config = config(&database, &service.address, &mails);
        Self::start_with(database, mails, config).await
    }

    /// With those settings.
    pub async fn start_with(database: Database, mails: TempDir, config: Config) -> Self {
        let listener = TcpListener::bind(config.listen.listen).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let running = tokio::spawn(serve(config, Clock::database(), listener, stop.clone()));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { database, address, channel, mails, stop, running }
    }

    /// Stops it in good order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("a clean end");
    }

    /// The mails written so far: file name and text.
    #[must_use]
    pub fn mails(&self) -> Vec<(String, String)> {
        mails(&self.mails)
    }
}

/// The mails in a folder, by name.
#[must_use]
pub fn mails(folder: &TempDir) -> Vec<(String, String)> {
    let mut mails: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(name, _)| name.ends_with(".eml"))
        .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap_or_default()))
        .collect();
    mails.sort();
    mails
}

/// A request with a caller's credential.
pub fn authorised<T>(caller: &Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {}", caller.token).parse().unwrap());
    request
}

/// Registers an endpoint; returns its id and its secret.
pub async fn register(channel: &Channel, caller: &Caller, url: &str) -> Result<(String, String), Status> {
    let request = authorised(caller, CreateWebhookEndpointRequest { url: url.to_owned(), ..Default::default() });
    let answer = WebhookServiceClient::new(channel.clone()).create_webhook_endpoint(request).await?.into_inner();
    Ok((answer.endpoint.unwrap().id, answer.secret))
}
