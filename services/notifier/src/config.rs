//! The settings of the service: flags and environment variables of the same names.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use countersign_chassis::check::CheckConfig;
use countersign_chassis::config::{DatabaseConfig, KeyConfig, ListenConfig, TelemetryConfig};
use countersign_chassis::guard::PORTS;
use countersign_chassis::health::HealthConfig;
use ipnet::IpNet;
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
    /// Ask a running service whether it is serving; ends with 0 if it says so and with 1 if not.
    Health(HealthConfig),
    /// Look for what must never be, and change nothing: ends with 0 if all is well, with 1 if something was found, with 2 if
    /// nobody can say.
    Check(CheckConfig),
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
    /// Ask each new webhook endpoint to prove that it knows its secret before anything is posted to it.
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_CHALLENGE", default_value_t = true, action = clap::ArgAction::Set)]
    pub webhook_challenge: bool,
    /// Ports to which webhooks may be posted, comma-separated.
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_PORTS", value_delimiter = ',', default_values_t = PORTS)]
    pub webhook_ports: Vec<u16>,
    /// Networks to which no webhook is posted besides those that are not public, comma-separated: your own public addresses.
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_DENY", value_delimiter = ',')]
    pub webhook_deny: Vec<IpNet>,
    /// SMTP server, `smtps://user:password@host` or `smtp://host:port?tls=required`; without one no mail leaves.
    #[arg(long, env = "COUNTERSIGN_SMTP_URL", hide_env_values = true)]
    pub smtp_url: Option<SecretString>,
    /// Folder for mails as `.eml` files: those of test envelopes, and without an SMTP server all.
    #[arg(long, env = "COUNTERSIGN_MAIL_FOLDER")]
    pub mail_folder: Option<PathBuf>,
    /// Sender of the mails.
    #[arg(long, env = "COUNTERSIGN_MAIL_FROM", default_value = "Countersign <no-reply@countersign.invalid>")]
    pub mail_from: String,
    #[command(flatten)]
    pub mail: MailConfig,
    /// Milliseconds between looks for due deliveries and mails; wake-ups come besides.
    #[arg(long, env = "COUNTERSIGN_DELIVERY_POLL_MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub delivery_poll_ms: u64,
}

/// How mails leave.
#[derive(Args, Clone, Debug)]
pub struct MailConfig {
    /// PEM file with CAs by which the SMTP server's certificate is verified, besides the platform's.
    #[arg(long, env = "COUNTERSIGN_SMTP_CA")]
    pub smtp_ca: Option<PathBuf>,
    /// Milliseconds that an SMTP server may take until it lets a mail begin, connection and login included; for the mail and
    /// the answer to its end it may take twice as long.
    #[arg(long, env = "COUNTERSIGN_SMTP_TIMEOUT_MS", default_value_t = MailConfig::default().smtp_timeout_ms, value_parser = clap::value_parser!(u64).range(100..=300_000))]
    pub smtp_timeout_ms: u64,
    /// Mails of an account to one address in an hour at most; the others wait.
    #[arg(long, env = "COUNTERSIGN_MAIL_ADDRESS_HOURLY_MAX", default_value_t = MailConfig::default().mail_address_hourly_max, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub mail_address_hourly_max: u32,
    /// Mails of an account in an hour at most; the others wait.
    #[arg(long, env = "COUNTERSIGN_MAIL_ACCOUNT_HOURLY_MAX", default_value_t = MailConfig::default().mail_account_hourly_max, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub mail_account_hourly_max: u32,
    /// Address that people can write to who want no more reminders: named in the header List-Unsubscribe of reminders, with
    /// the recipient's id as the subject. Without one there is no such header.
    #[arg(long, env = "COUNTERSIGN_UNSUBSCRIBE_MAILTO")]
    pub unsubscribe_mailto: Option<String>,
}

impl Default for MailConfig {
    fn default() -> Self {
        Self {
            smtp_ca: None,
            smtp_timeout_ms: 60_000,
            mail_address_hourly_max: 60,
            mail_account_hourly_max: 5_000,
            unsubscribe_mailto: None,
        }
    }
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
