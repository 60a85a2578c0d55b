//! The settings of the service: flags and environment variables of the same names.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use countersign_chassis::config::{DatabaseConfig, KeyConfig, ListenConfig, TelemetryConfig};
use secrecy::SecretString;

/// The notifier of Countersign.
#[derive(Parser, Debug)]
#[command(name = "countersign-notifier", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Task,
}

/// What to do.
#[derive(Subcommand, Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each process")]
pub enum Task {
    /// Serve until SIGTERM.
    Serve(Config),
    /// Bring the database up to date and end.
    Migrate(DatabaseConfig),
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
    /// Address of the envelope service, `https://host:port` or `http://host:port`.
    #[arg(long, env = "COUNTERSIGN_ENVELOPE_URL")]
    pub envelope_url: String,
    /// Bearer token by which the envelope service knows the notifier. Not needed with a certificate.
    #[arg(long, env = "COUNTERSIGN_SERVICE_TOKEN", hide_env_values = true)]
    pub service_token: Option<SecretString>,
    #[command(flatten)]
    pub envelope_tls: EnvelopeTlsConfig,
    /// Seconds for which a partition of the feed is leased to a process: after that another one takes over from one that is
    /// gone.
    #[arg(long, env = "COUNTERSIGN_LEASE_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=300))]
    pub lease_seconds: u32,
    /// Post webhooks also over `http://` and to private addresses. For development only.
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_ALLOW_PRIVATE", default_value_t = false, action = clap::ArgAction::Set)]
    pub webhook_allow_private: bool,
    /// SMTP server, `smtps://user:password@host` or `smtp://host:port?tls=required`; without one no mail leaves.
    #[arg(long, env = "COUNTERSIGN_SMTP_URL", hide_env_values = true)]
    pub smtp_url: Option<SecretString>,
    /// Folder for mails as `.eml` files: those of test envelopes, and without an SMTP server all.
    #[arg(long, env = "COUNTERSIGN_MAIL_FOLDER")]
    pub mail_folder: Option<PathBuf>,
    /// Sender of the mails.
    #[arg(long, env = "COUNTERSIGN_MAIL_FROM", default_value = "Countersign <no-reply@countersign.invalid>")]
    pub mail_from: String,
    /// Milliseconds between looks for due deliveries and mails; wake-ups come besides.
    #[arg(long, env = "COUNTERSIGN_DELIVERY_POLL_MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub delivery_poll_ms: u64,
}

/// TLS to the envelope service, for `https://` addresses.
#[derive(Args, Clone, Debug, Default)]
pub struct EnvelopeTlsConfig {
    /// PEM file with the CAs by which the envelope service's certificate is verified; without it, the platform's.
    #[arg(long, env = "COUNTERSIGN_ENVELOPE_CA")]
    pub envelope_ca: Option<PathBuf>,
    /// PEM file with the certificate by which the envelope service knows the notifier.
    #[arg(long, env = "COUNTERSIGN_CLIENT_CERT")]
    pub client_cert: Option<PathBuf>,
    /// PEM file with the key of that certificate, not encrypted.
    #[arg(long, env = "COUNTERSIGN_CLIENT_KEY")]
    pub client_key: Option<PathBuf>,
}
