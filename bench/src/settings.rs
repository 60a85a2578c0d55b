//! The settings of the services that are measured: the defaults of a deployment, but for where things are and how long
//! connections live.

use std::path::Path;

use countersign_chassis::config::{DatabaseConfig, KeyConfig, ListenConfig, TelemetryConfig};
use countersign_envelope::config::{Config, IngestConfig};
use countersign_envelope::identity::Identities;
use countersign_envelope::oidc::OidcConfig;
use countersign_envelope::seal::SealConfig;
use countersign_notifier::config::{Config as NotifierConfig, EnvelopeTlsConfig, MailConfig};
use countersign_postgres::Postgres;

/// By which the notifier is known.
pub const SERVICE_TOKEN: &str = "bench-service-token-0123456789abcdef";
/// By which the operator is known.
pub const OPERATOR_KEY: &str = "bench-operator-key-0123456789abcdef0";
/// From which all keys are derived.
pub const MASTER_KEY: &str = "5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c";

/// How a service reaches a database.
pub fn database(postgres: &Postgres, name: &str, pool: u32) -> DatabaseConfig {
    DatabaseConfig {
        database_url: postgres.url(name).into(),
        database_ca: None,
        database_pool_max: pool,
        database_wait_ms: 2_000,
    }
}

/// No connection grows old during a run: what is measured is calls.
fn listen() -> ListenConfig {
    ListenConfig { drain_ms: 5_000, help_url: String::new(), connection_age_seconds: 86_400, ..ListenConfig::default() }
}

/// The envelope service's.
pub fn envelope(database: DatabaseConfig, documents: &Path) -> Config {
    Config {
        listen: listen(),
        database,
        keys: KeyConfig::new(MASTER_KEY),
        telemetry: TelemetryConfig::only_logs(crate::LOG),
        migrate: false,
        documents: documents.to_owned().into(),
        document_keys: None,
        ingest: IngestConfig::default(),
        paper_worker: None,
        paper_workers: None,
        signing_url: "https://sign.example.com/s".into(),
        service_token: Some(SERVICE_TOKEN.into()),
        service_identities: Identities::default(),
        operator_key: Some(OPERATOR_KEY.into()),
        oidc: OidcConfig::default(),
        // What is measured comes before the end.
        seal: SealConfig { unsealed: true, ..SealConfig::default() },
        trusted_peers: Vec::new(),
        cache_ms: 2_000,
        replica_url: None,
        heartbeat_seconds: 5,
        stream_stall_seconds: 30,
        feed_retention_days: 30,
        feed_poll_ms: 40,
        sweep_ms: 500,
        upload_days: 7,
    }
}

/// The notifier's. What it posts to is here, in plain text and without a challenge, and no mail leaves.
pub fn notifier(database: DatabaseConfig, envelope_url: String) -> NotifierConfig {
    NotifierConfig {
        listen: listen(),
        database,
        keys: KeyConfig::new(MASTER_KEY),
        telemetry: TelemetryConfig::only_logs(crate::LOG),
        migrate: false,
        envelope_url,
        service_token: Some(SERVICE_TOKEN.into()),
        envelope_tls: EnvelopeTlsConfig::default(),
        lease_seconds: 15,
        webhook_allow_private: true,
        webhook_challenge: false,
        webhook_ports: vec![443, 8443],
        webhook_deny: Vec::new(),
        smtp_url: None,
        mail_folder: None,
        mail_from: "Countersign <no-reply@countersign.invalid>".into(),
        mail: MailConfig::default(),
        delivery_poll_ms: 200,
    }
}
