//! One service as a task of this process: its settings, its start, its end.
//! Must never wait for a service without bound.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::{DatabaseConfig, ListenConfig, TelemetryConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::folder::Folder;
use super::keys::Keys;
use super::options::Options;
use super::{ENVELOPE_DATABASE, NOTIFIER_DATABASE};
use countersign_postgres::Postgres;

/// How long open calls may take to end.
const DRAIN_MS: u64 = 3_000;
/// How long a service may take to end: the drain, and what it does besides.
const END_MAX: Duration = Duration::from_secs(10);
const CONNECTIONS_MAX: u32 = 16;
const CONNECTION_WAIT_MS: u64 = 5_000;

/// A running service. Dropping it ends it without waiting.
#[derive(Debug)]
pub(super) struct Service {
    name: &'static str,
    address: SocketAddr,
    stop: CancellationToken,
    /// Absent once the end has been seen.
    task: Option<JoinHandle<Result<()>>>,
}

impl Service {
    fn run<S, F>(name: &'static str, listener: TcpListener, serve: S) -> Result<Self>
    where
        S: FnOnce(TcpListener, CancellationToken) -> F,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let task = tokio::spawn(serve(listener, stop.clone()));
        Ok(Self { name, address, stop, task: Some(task) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the service in order.
    pub async fn stop(&mut self) -> Result<()> {
        self.stop.cancel();
        let Some(mut task) = self.task.take() else { return Ok(()) };
        let Ok(ended) = tokio::time::timeout(END_MAX, &mut task).await else {
            task.abort();
            return Err(anyhow!("the {} did not end within {} s", self.name, END_MAX.as_secs()));
        };
        ended.map_err(anyhow::Error::from).flatten().with_context(|| format!("the {} ended badly", self.name))
    }

    /// Why the service ended by itself. Pending as long as it runs, and once that has been told.
    pub async fn broken(&mut self) -> anyhow::Error {
        let ended = match &mut self.task {
            Some(task) => task.await,
            None => std::future::pending().await,
        };
        self.task = None;
        match ended.map_err(anyhow::Error::from).flatten() {
            Ok(()) => anyhow!("the {} ended by itself", self.name),
            Err(why) => why.context(format!("the {} broke", self.name)),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Listens on a free port of 127.0.0.1; on the wanted one, if it is free.
pub(super) async fn listen_near(wanted: Option<u16>) -> Result<TcpListener> {
    if let Some(port) = wanted
        && let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
    {
        return Ok(listener);
    }
    listen((Ipv4Addr::LOCALHOST, 0).into()).await
}

/// Listens on exactly this address.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

pub(super) fn database(postgres: &Postgres, name: &str) -> DatabaseConfig {
    DatabaseConfig {
        database_url: postgres.url(name).into(),
        database_ca: None,
        database_pool_max: CONNECTIONS_MAX,
        database_wait_ms: CONNECTION_WAIT_MS,
    }
}

fn listen_config(address: SocketAddr) -> ListenConfig {
    ListenConfig { listen: address, drain_ms: DRAIN_MS, ..ListenConfig::default() }
}

/// Not used: the process that holds the stack decides what is logged.
fn no_telemetry() -> TelemetryConfig {
    TelemetryConfig::only_logs("off")
}

/// Brings both databases up to date.
pub(super) async fn migrate(postgres: &Postgres) -> Result<()> {
    let envelope = database(postgres, ENVELOPE_DATABASE);
    countersign_envelope::serve::migrate(&envelope).await.context("cannot migrate the envelope service's database")?;
    let notifier = database(postgres, NOTIFIER_DATABASE);
    countersign_notifier::serve::migrate(&notifier).await.context("cannot migrate the notifier's database")
}

/// Starts the envelope service.
pub(super) fn envelope(
    postgres: &Postgres,
    folder: &Folder,
    keys: &Keys,
    options: &Options,
    listener: TcpListener,
) -> Result<Service> {
    let clock = options.envelope_clock.clone();
    let config = countersign_envelope::config::Config {
        listen: listen_config(listener.local_addr()?),
        database: database(postgres, ENVELOPE_DATABASE),
        keys: keys.for_envelope(),
        telemetry: no_telemetry(),
        migrate: false,
        documents: folder.documents().into(),
        document_keys: None,
        paper_worker: options.paper_worker.clone(),
        paper_workers: None,
        ingest: countersign_envelope::config::IngestConfig { fetch_allow_private: true, ..Default::default() },
        signing_url: "https://sign.example.com/s".to_owned(),
        service_token: Some(keys.service_token.clone()),
        service_identities: countersign_envelope::identity::Identities::default(),
        operator_key: None,
        oidc: countersign_envelope::oidc::OidcConfig::default(),
        seal: countersign_envelope::seal::SealConfig {
            seal_pkcs12: Some(folder.seal()),
            ..countersign_envelope::seal::SealConfig::default()
        },
        trusted_peers: Vec::new(),
        cache_ms: 2_000,
        replica_url: None,
        heartbeat_seconds: 5,
        stream_stall_seconds: 30,
        feed_retention_days: 30,
        feed_poll_ms: 40,
        sweep_ms: 500,
        upload_days: 7,
    };
    Service::run("envelope service", listener, |listener, stop| {
        countersign_envelope::serve::serve(config, clock, listener, stop)
    })
}

/// Starts the notifier. Mails go into the folder, webhooks to anybody, this machine included.
pub(super) fn notifier(
    postgres: &Postgres,
    folder: &Folder,
    keys: &Keys,
    clock: Clock,
    envelope: SocketAddr,
    listener: TcpListener,
    webhook_challenge: bool,
) -> Result<Service> {
    let config = countersign_notifier::config::Config {
        listen: listen_config(listener.local_addr()?),
        database: database(postgres, NOTIFIER_DATABASE),
        keys: keys.for_notifier(),
        telemetry: no_telemetry(),
        migrate: false,
        envelope_url: format!("http://{envelope}"),
        service_token: Some(keys.service_token.clone()),
        envelope_tls: countersign_notifier::config::EnvelopeTlsConfig::default(),
        webhook_allow_private: true,
        webhook_challenge,
        webhook_ports: vec![443, 8443],
        webhook_deny: Vec::new(),
        smtp_url: None,
        mail_folder: Some(folder.mail().to_path_buf()),
        mail_from: "Countersign <no-reply@countersign.invalid>".to_owned(),
        mail: countersign_notifier::config::MailConfig::default(),
        delivery_poll_ms: 100,
        lease_seconds: 15,
    };
    Service::run("notifier", listener, |listener, stop| {
        countersign_notifier::serve::serve(config, clock, listener, stop)
    })
}
