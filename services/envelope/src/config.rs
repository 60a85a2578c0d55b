//! The settings of the service: flags and environment variables of the same names.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use countersign_chassis::config::{DatabaseConfig, KeyConfig, ListenConfig, TelemetryConfig};
use ipnet::IpNet;
use secrecy::SecretString;

use crate::oidc::OidcConfig;

/// The envelope service of Countersign.
#[derive(Parser, Debug)]
#[command(name = "countersign-envelope", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Task,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Task {
    /// Serve until SIGTERM.
    Serve(Box<Config>),
    /// Bring the database up to date and end.
    Migrate(DatabaseConfig),
    /// Make an account and print its first API key. The key is shown this once.
    CreateAccount(CreateAccount),
}

/// Settings of `create-account`.
#[derive(Args, Clone, Debug)]
pub struct CreateAccount {
    /// Name of the account, for people.
    #[arg(long)]
    pub name: String,
    /// A live key instead of a test key.
    #[arg(long)]
    pub live: bool,
    #[expect(missing_docs, reason = "documented at the group")]
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[expect(missing_docs, reason = "documented at the group")]
    #[command(flatten)]
    pub keys: KeyConfig,
}

/// Settings of `serve`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "groups are documented where they are defined")]
pub struct Config {
    #[command(flatten)]
    pub listen: ListenConfig,
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub keys: KeyConfig,
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
    /// Bring the database up to date before serving.
    #[arg(long, env = "COUNTERSIGN_MIGRATE", default_value_t = false, action = clap::ArgAction::Set)]
    pub migrate: bool,
    /// Folder for the bytes of documents.
    #[arg(long, env = "COUNTERSIGN_DOCUMENTS")]
    pub documents: PathBuf,
    /// Address of the signing page; the signing token is put behind it as the fragment.
    #[arg(long, env = "COUNTERSIGN_SIGNING_URL", default_value = "https://sign.example.com/s")]
    pub signing_url: String,
    /// Bearer token by which the notifier is known: at least 32 characters.
    #[arg(long, env = "COUNTERSIGN_SERVICE_TOKEN", hide_env_values = true)]
    pub service_token: SecretString,
    /// Bearer token of who runs the service: at least 32 characters. Without it there is no operator.
    #[arg(long, env = "COUNTERSIGN_OPERATOR_KEY", hide_env_values = true)]
    pub operator_key: Option<SecretString>,
    #[command(flatten)]
    pub oidc: OidcConfig,
    /// Networks of peers that are believed about where a person is and with which program they act, as
    /// `10.0.0.0/8,192.0.2.7/32`.
    #[arg(long, env = "COUNTERSIGN_TRUSTED_PEERS", value_delimiter = ',')]
    pub trusted_peers: Vec<IpNet>,
    /// Milliseconds for which a CACHED read may be answered from memory.
    #[arg(long, env = "COUNTERSIGN_CACHE_MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub cache_ms: u64,
    /// Seconds between heartbeats of a watch stream.
    #[arg(long, env = "COUNTERSIGN_HEARTBEAT_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub heartbeat_seconds: u64,
    /// Milliseconds between looks for new events; wake-ups come besides.
    #[arg(long, env = "COUNTERSIGN_FEED_POLL_MS", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub feed_poll_ms: u64,
    /// Milliseconds between looks for what time asks for (scheduled sendings, warnings, deadlines) and unmade artefacts.
    #[arg(long, env = "COUNTERSIGN_SWEEP_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub sweep_ms: u64,
}
