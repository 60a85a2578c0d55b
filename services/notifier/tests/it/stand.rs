//! The notifier on a database of its own with everything around it, on a clock that stands still until it is moved.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1;
use countersign::v1::{EventType, RecipientStatus};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::{KeyConfig, ListenConfig, TelemetryConfig};
use countersign_chassis::guard::Guard;
use countersign_chassis::keys::Fingerprint;
use countersign_chassis::ticker::Progress;
use countersign_chassis::wire::timestamp;
use countersign_notifier::config::{Config, EnvelopeTlsConfig, MailConfig};
use countersign_notifier::id::{AccountId, EndpointId, EnvelopeId, EventId, RecipientId};
use countersign_notifier::serve::{Notifier, migrate};
use countersign_notifier::store::{Endpoint, Lease};
use countersign_notifier::webhook::Webhooks;
use countersign_notifier::webhook::signature::{Generation, Secrets};
use countersign_test_support::Database;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::double::Double;
use crate::receiver::Receiver;

pub const SERVICE_TOKEN: &str = "test-service-token-0123456789abcdef0123456789";
const MASTER_KEY: &str = "5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c";

/// A notifier that only moves when a test ticks it.
pub struct Stand {
    pub database: Database,
    pub double: Double,
    pub clock: Clock,
    pub config: Config,
    pub notifier: Notifier,
    pub stop: CancellationToken,
    pub account: AccountId,
    pub envelope: EnvelopeId,
    mail: TempDir,
}

impl Stand {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings than the usual.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        logged();
        let database = Database::empty("notifier").await;
        let (double, mail) = (Double::start().await, tempfile::tempdir().unwrap());
        let mut config = config(&database, &double, Some(mail.path()));
        change(&mut config);
        migrate(&config.database).await.unwrap();
        let (clock, stop) = (Clock::manual(Utc::now()), CancellationToken::new());
        let notifier = Notifier::new(&config, clock.clone(), stop.clone()).await.unwrap();
        let (account, envelope) = (AccountId::new(), EnvelopeId::new());
        Self { database, double, clock, config, notifier, stop, account, envelope, mail }
    }

    /// Another process on the same database.
    pub async fn another(&self) -> Notifier {
        Notifier::new(&self.config, self.clock.clone(), CancellationToken::new()).await.unwrap()
    }

    /// An endpoint of the account for live events.
    pub async fn endpoint(&self, receiver: &Receiver) -> Endpoint {
        self.endpoint_of(self.account, &receiver.url).await
    }

    /// An active endpoint of any account for live events.
    pub async fn endpoint_of(&self, account: AccountId, url: &str) -> Endpoint {
        let now = self.clock.now();
        let mut endpoint = Endpoint::new(account, EndpointId::new(), true, url.to_owned(), self.newest_key(), now);
        endpoint.verified_at = Some(now);
        self.notifier.store.create_endpoint(&endpoint, 20, None).await.unwrap();
        endpoint
    }

    pub fn secret(&self, endpoint: &Endpoint) -> String {
        let secrets = Secrets::new(&self.config.keys.ring().unwrap());
        let Generation { number, key, .. } = endpoint.generation;
        secrets.of(endpoint.account, endpoint.id, number, key).unwrap().text()
    }

    /// The master key under which new secrets are made.
    pub fn newest_key(&self) -> Fingerprint {
        self.config.keys.ring().unwrap().current().fingerprint()
    }

    /// Puts an event of the envelope into the feed.
    pub fn happens(&self, kind: EventType, sequence: u64) -> v1::Event {
        self.happens_to(kind, sequence, &[], None)
    }

    /// The same with recipients as they then stand, and the one whom it concerns.
    pub fn happens_to(
        &self,
        kind: EventType,
        sequence: u64,
        recipients: &[(RecipientId, RecipientStatus)],
        concerned: Option<RecipientId>,
    ) -> v1::Event {
        let state = |(id, status): &(RecipientId, RecipientStatus)| v1::RecipientState {
            id: id.to_string(),
            role: v1::RecipientRole::Signer.into(),
            group: 1,
            status: (*status).into(),
            not_effective: false,
        };
        let state = v1::EnvelopeState { recipients: recipients.iter().map(state).collect(), ..Default::default() };
        self.happens_with(kind, sequence, state, concerned)
    }

    /// The same with the whole envelope as it then stands.
    pub fn happens_with(
        &self,
        kind: EventType,
        sequence: u64,
        state: v1::EnvelopeState,
        concerned: Option<RecipientId>,
    ) -> v1::Event {
        let event = v1::Event {
            id: EventId::new().to_string(),
            r#type: kind.into(),
            account_id: self.account.to_string(),
            livemode: true,
            envelope_id: self.envelope.to_string(),
            sequence,
            revision: sequence,
            occurred_at: Some(timestamp(self.clock.now())),
            recipient_id: concerned.map(|id| id.to_string()).unwrap_or_default(),
            state: Some(state),
            ..Default::default()
        };
        self.double.script().feed.push(event.clone());
        event
    }

    /// Reads the stream of every partition to its end.
    pub async fn follow(&self) {
        self.follow_as(&self.notifier).await;
    }

    /// The same by another process: what it can get a lease of.
    pub async fn follow_as(&self, notifier: &Notifier) {
        for lease in self.leases_of(notifier).await {
            while notifier.feed.tick(lease, &self.stop).await.unwrap() == Progress::Busy {}
        }
    }

    /// The sink of endpoints, apart from the feed.
    pub fn webhooks(&self) -> Webhooks {
        Webhooks {
            store: self.notifier.store.clone(),
            envelopes: self.notifier.feed.envelopes.clone(),
            guard: Guard::new(true, Vec::new(), Vec::new()),
            challenge: false,
            newest_key: self.newest_key(),
            wake: Arc::default(),
        }
    }

    /// What the process may follow.
    pub async fn leases_of(&self, notifier: &Notifier) -> Vec<Lease> {
        notifier.store.share_partitions(notifier.leases.me, TimeDelta::seconds(15)).await.unwrap()
    }

    /// The partition of the envelope, in the hands of that process.
    pub async fn lease(&self, notifier: &Notifier) -> Lease {
        let partition = self.envelope.uuid().as_bytes()[15] % 16;
        let held = self.leases_of(notifier).await;
        held.into_iter().find(|lease| lease.partition == partition).expect("the lease of the envelope's partition")
    }

    /// Where the partition of the envelope was left.
    pub async fn token(&self) -> String {
        let query = "SELECT resume_token FROM feed_partition WHERE partition = $1";
        let partition = i16::from(self.envelope.uuid().as_bytes()[15] % 16);
        self.database.connect().await.query_one(query, &[&partition]).await.unwrap().get(0)
    }

    /// Token and start of the streams of the envelope's partition.
    pub fn watched(&self) -> Vec<(String, i32)> {
        let own = u32::from(self.envelope.uuid().as_bytes()[15] % 16);
        let watched = self.double.script().watched.clone();
        watched.into_iter().filter(|it| it.0 == [own]).map(|(_, token, start)| (token, start)).collect()
    }

    /// Another process on the same database, as it is started with those master keys.
    pub async fn with_keys(&self, keys: KeyConfig) -> Notifier {
        let config = Config { keys, ..self.config.clone() };
        Notifier::new(&config, self.clock.clone(), CancellationToken::new()).await.unwrap()
    }

    /// Posts until nothing is due any more.
    pub async fn deliver(&self) {
        self.deliver_as(&self.notifier).await;
    }

    /// The same by another process.
    pub async fn deliver_as(&self, notifier: &Notifier) {
        for _ in 0..100 {
            let progress = notifier.deliverer.tick().await.unwrap();
            notifier.deliverer.finished().await;
            if progress == Progress::Idle {
                return;
            }
        }
        panic!("deliveries have no end");
    }

    /// Sends until nothing is due any more.
    pub async fn post_mails(&self) {
        for _ in 0..100 {
            if self.notifier.mailer.tick().await.unwrap() == Progress::Idle {
                return;
            }
        }
        panic!("mails have no end");
    }

    pub fn later(&self, by: TimeDelta) {
        self.clock.advance(by);
    }

    pub fn mail_folder(&self) -> &Path {
        self.mail.path()
    }

    /// All files of the mail folder, by name.
    pub fn mail_files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(self.mail.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// A number from the database.
    pub async fn number(&self, query: &str) -> i64 {
        self.database.number(query).await
    }

    /// Changes the database behind the notifier's back.
    pub async fn sql(&self, statement: &str) {
        self.database.connect().await.batch_execute(statement).await.unwrap();
    }

    /// When the pending delivery with that sequence is due.
    pub async fn due_at(&self, sequence: i64) -> DateTime<Utc> {
        let query = "SELECT next_at FROM delivery WHERE state = 1 AND sequence = $1";
        self.database.connect().await.query_one(query, &[&sequence]).await.unwrap().get(0)
    }
}

pub fn config(database: &Database, double: &Double, mail: Option<&Path>) -> Config {
    Config {
        listen: ListenConfig { drain_ms: 5_000, help_url: String::new(), ..ListenConfig::default() },
        database: database.config(),
        keys: KeyConfig::new(MASTER_KEY),
        telemetry: TelemetryConfig::only_logs("off"),
        migrate: false,
        envelope_url: double.url.clone(),
        service_token: Some(SERVICE_TOKEN.into()),
        envelope_tls: EnvelopeTlsConfig::default(),
        webhook_allow_private: true,
        webhook_challenge: false,
        webhook_ports: vec![443, 8443],
        webhook_deny: Vec::new(),
        smtp_url: None,
        mail_folder: mail.map(Path::to_path_buf),
        mail_from: "Countersign <no-reply@countersign.example>".into(),
        mail: MailConfig::default(),
        delivery_poll_ms: 20,
        lease_seconds: 15,
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that this process has logged, at every level and of every crate.
pub fn logged() -> String {
    static LINES: OnceLock<Lines> = OnceLock::new();
    let lines = LINES.get_or_init(|| {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::NEW)
            .with_writer(move || writer.clone())
            .init();
        lines
    });
    String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned()
}
