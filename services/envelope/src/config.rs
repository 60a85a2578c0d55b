//! The settings of the service: flags and environment variables of the same names.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use countersign_chassis::check::CheckConfig;
use countersign_chassis::config::{DatabaseConfig, KeyConfig, ListenConfig, SettingError, TelemetryConfig};
use countersign_chassis::guard::{Guard, PORTS};
use countersign_chassis::health::HealthConfig;
use countersign_paper::Policy;
use ipnet::IpNet;
use secrecy::SecretString;

use crate::blobs::{DocumentKeys, Place};
use crate::convert::{Converter, LibreOffice, Limits};
use crate::fetch::{Bounds, Fetcher};
use crate::identity::{Identities, Role};
use crate::oidc::OidcConfig;
use crate::seal::SealConfig;

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
    /// Ask a running service whether it is serving; ends with 0 if it says so and with 1 if not.
    Health(HealthConfig),
    /// Make another feed of it, after the database was restored from a backup and before it is served: resume tokens that
    /// were given before are refused from then on.
    NewIncarnation(DatabaseConfig),
    /// Print the envelopes whose content was purged, one on each line, the latest first: what to keep outside the database.
    ListPurged(DatabaseConfig),
    /// Purge again, after the database was restored from a backup and before it is served, what had been purged since.
    PurgeAgain(PurgeAgain),
    /// Make an account and print its first API key. The key is shown this once.
    CreateAccount(CreateAccount),
    /// Look for what must never be, and change nothing: ends with 0 if all is well, with 1 if something was found, with 2 if
    /// nobody can say.
    Check(Check),
    /// Read one document on standard input. The service starts itself so.
    #[command(hide = true)]
    PaperWorker,
}

/// Settings of `purge-again`.
#[derive(Args, Clone, Debug)]
pub struct PurgeAgain {
    /// What `list-purged` printed: ids of account and envelope at the beginning of each line.
    #[arg(long)]
    pub list: PathBuf,
    #[expect(missing_docs, reason = "documented at the group")]
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[expect(missing_docs, reason = "documented at the group")]
    #[command(flatten)]
    pub keys: KeyConfig,
}

/// Settings of `check`.
#[derive(Args, Clone, Debug)]
pub struct Check {
    #[expect(missing_docs, reason = "documented at the group")]
    #[command(flatten)]
    pub check: CheckConfig,
    /// Also look whether the bytes of all documents are in the store.
    #[arg(long, requires = "documents")]
    pub blobs: bool,
    /// Where they lie, as `serve` has it.
    #[arg(long, env = "COUNTERSIGN_DOCUMENTS")]
    pub documents: Option<Place>,
    /// The keys under which they are stored, as `serve` has them.
    #[arg(long, env = "COUNTERSIGN_DOCUMENT_KEYS", hide_env_values = true)]
    pub document_keys: Option<SecretString>,
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
    /// The program that reads documents, as `PROGRAM paper-worker`; without it this one.
    #[arg(long, env = "COUNTERSIGN_PAPER_WORKER")]
    pub paper_worker: Option<PathBuf>,
    /// How many documents are read at the same time, each with up to 1 GiB; without it as many as there are processors.
    #[arg(long, env = "COUNTERSIGN_PAPER_WORKERS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub paper_workers: Option<u16>,
    /// Where the bytes of documents lie: a folder (or `file://`), or a bucket as `s3://bucket/prefix`, `gs://bucket/prefix` or
    /// `az://container/prefix`, whose credentials come from the provider's own variables.
    #[arg(long, env = "COUNTERSIGN_DOCUMENTS")]
    pub documents: Place,
    /// Keys under which documents are stored, as `id=64 hexadecimal digits`, several with commas between: new documents are
    /// sealed with the first, all are read. Without it documents lie in the clear.
    #[arg(long, env = "COUNTERSIGN_DOCUMENT_KEYS", hide_env_values = true)]
    pub document_keys: Option<SecretString>,
    #[command(flatten)]
    pub ingest: IngestConfig,
    /// Address of the signing page; the signing token is put behind it as the fragment.
    #[arg(long, env = "COUNTERSIGN_SIGNING_URL", default_value = "https://sign.example.com/s")]
    pub signing_url: String,
    /// Bearer token by which the notifier is known: at least 32 characters. Not needed where a certificate says it.
    #[arg(long, env = "COUNTERSIGN_SERVICE_TOKEN", hide_env_values = true)]
    pub service_token: Option<SecretString>,
    /// Which services are known by the names in their certificates and as what (notifier, operator, portal), as
    /// `spiffe://corp/notifier=notifier,dns:ops.corp=operator`.
    #[arg(long, env = "COUNTERSIGN_SERVICE_IDENTITIES", default_value = "", hide_default_value = true)]
    pub service_identities: Identities,
    /// Bearer token of who runs the service: at least 32 characters. Without it there is no operator.
    #[arg(long, env = "COUNTERSIGN_OPERATOR_KEY", hide_env_values = true)]
    pub operator_key: Option<SecretString>,
    #[command(flatten)]
    pub oidc: OidcConfig,
    #[command(flatten)]
    pub seal: SealConfig,
    /// Networks of peers that are believed about where a person is and with which program they act, as
    /// `10.0.0.0/8,192.0.2.7/32`.
    #[arg(long, env = "COUNTERSIGN_TRUSTED_PEERS", value_delimiter = ',')]
    pub trusted_peers: Vec<IpNet>,
    /// Address of a streaming replica of the database, from which CACHED reads are answered where it is not too old; without it
    /// they read the database. `COUNTERSIGN_DATABASE_CA` goes for both.
    #[arg(long, env = "COUNTERSIGN_REPLICA_URL", hide_env_values = true)]
    pub replica_url: Option<SecretString>,
    /// How old the answer to a CACHED read may be, in milliseconds. Replicas repeat the time every half second and are taken to be a
    /// quarter older: with less than a second they are seldom used.
    #[arg(long, env = "COUNTERSIGN_CACHE_MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub cache_ms: u64,
    /// Seconds between heartbeats of a watch stream.
    #[arg(long, env = "COUNTERSIGN_HEARTBEAT_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub heartbeat_seconds: u64,
    /// Seconds after which a watch stream is ended whose consumer takes nothing, and an upload whose sender sends nothing.
    #[arg(long, env = "COUNTERSIGN_STREAM_STALL_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub stream_stall_seconds: u64,
    /// Days for which the feed can be resumed. Histories stay.
    #[arg(long, env = "COUNTERSIGN_FEED_RETENTION_DAYS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(7..=3_650))]
    pub feed_retention_days: i64,
    /// Milliseconds between looks for new events; wake-ups come besides.
    #[arg(long, env = "COUNTERSIGN_FEED_POLL_MS", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub feed_poll_ms: u64,
    /// Milliseconds between looks for what time asks for (scheduled sendings, warnings, deadlines) and unmade artefacts.
    #[arg(long, env = "COUNTERSIGN_SWEEP_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub sweep_ms: u64,
    /// Days for which an upload can be put into envelopes.
    #[arg(long, env = "COUNTERSIGN_UPLOAD_DAYS", default_value_t = 7, value_parser = clap::value_parser!(i64).range(1..=365))]
    pub upload_days: i64,
}

/// How documents come in.
#[derive(Args, Clone, Debug)]
pub struct IngestConfig {
    /// LibreOffice's program `soffice`, which makes PDFs of DOCX; without it, where it usually is; `none`: DOCX are refused.
    #[arg(long, env = "COUNTERSIGN_CONVERTER")]
    pub converter: Option<PathBuf>,
    /// DOCX that are converted at the same time, each with up to 4 GiB of address space.
    #[arg(long, env = "COUNTERSIGN_CONVERTER_SLOTS", default_value_t = IngestConfig::default().converter_slots, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub converter_slots: u16,
    /// Fetch documents also over `http://` and from private addresses. For development only.
    #[arg(long, env = "COUNTERSIGN_FETCH_ALLOW_PRIVATE", default_value_t = false, action = clap::ArgAction::Set)]
    pub fetch_allow_private: bool,
    /// Ports from which documents may be fetched, comma-separated.
    #[arg(long, env = "COUNTERSIGN_FETCH_PORTS", value_delimiter = ',', default_values_t = PORTS)]
    pub fetch_ports: Vec<u16>,
    /// Networks from which no document is fetched besides those that are not public, comma-separated: your own public addresses.
    #[arg(long, env = "COUNTERSIGN_FETCH_DENY", value_delimiter = ',')]
    pub fetch_deny: Vec<IpNet>,
    /// Take documents whose author forbids changes, if they open without a password.
    #[arg(long, env = "COUNTERSIGN_OVERRULE_RESTRICTIONS", default_value_t = false, action = clap::ArgAction::Set)]
    pub overrule_restrictions: bool,
    /// Leave the files that a document carries inside; nobody who signs sees them.
    #[arg(long, env = "COUNTERSIGN_KEEP_ATTACHMENTS", default_value_t = false, action = clap::ArgAction::Set)]
    pub keep_attachments: bool,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            converter: None,
            converter_slots: 2,
            fetch_allow_private: false,
            fetch_ports: PORTS.to_vec(),
            fetch_deny: Vec::new(),
            overrule_restrictions: false,
            keep_attachments: false,
        }
    }
}

impl IngestConfig {
    /// What makes PDFs, if there is something.
    pub fn converter(&self) -> Result<Option<Arc<dyn Converter>>, SettingError> {
        let program = match &self.converter {
            Some(given) if given.as_os_str() == "none" => return Ok(None),
            Some(given) if given.is_file() => Some(given.clone()),
            Some(_) => return Err(SettingError::new("--converter (COUNTERSIGN_CONVERTER)", "is no file")),
            None => LibreOffice::find(),
        };
        let at_once = usize::from(self.converter_slots);
        let converter = |program| Arc::new(LibreOffice::new(program, at_once, Limits::default())) as Arc<dyn Converter>;
        Ok(program.map(converter))
    }

    /// What is taken, and how it is kept.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { overrule_restrictions: self.overrule_restrictions, keep_attachments: self.keep_attachments }
    }

    /// What fetches.
    pub fn fetcher(&self) -> anyhow::Result<Fetcher> {
        let guard = Guard::new(self.fetch_allow_private, self.fetch_ports.clone(), self.fetch_deny.clone());
        Fetcher::new(guard, Bounds::default())
    }
}

impl Config {
    /// How the replica is reached, if there is one: with as many connections as the database.
    #[must_use]
    pub fn replica(&self) -> Option<DatabaseConfig> {
        let database_url = self.replica_url.clone()?;
        Some(DatabaseConfig { database_url, ..self.database.clone() })
    }

    /// Why documents could not be kept as the settings say.
    pub fn check_document_keys(&self) -> Result<(), SettingError> {
        self.document_keys.as_ref().map_or(Ok(()), |keys| DocumentKeys::parse(keys).map(drop))
    }

    /// Why nobody could be the notifier, or the services named could never show who they are.
    pub fn check_identities(&self) -> Result<(), SettingError> {
        const IDENTITIES: &str = "--service-identities (COUNTERSIGN_SERVICE_IDENTITIES)";
        if self.service_token.is_none() && !self.service_identities.knows(Role::Notifier) {
            let why = format!("is needed where {IDENTITIES} names no notifier");
            return Err(SettingError::new("--service-token (COUNTERSIGN_SERVICE_TOKEN)", why));
        }
        if !self.service_identities.is_empty() && self.listen.tls.tls_client_ca.is_none() {
            let why = "needs --tls-client-ca (COUNTERSIGN_TLS_CLIENT_CA): without it no certificate is looked at";
            return Err(SettingError::new(IDENTITIES, why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &[&str] = &["--service-token", "0123456789abcdef0123456789abcdef"];

    fn checked(more: &[&[&str]]) -> Result<(), String> {
        let needed = ["countersign-envelope", "serve", "--database-url", "x", "--master-key", "x", "--documents", "x"];
        match Cli::try_parse_from([&needed[..], &more.concat()].concat()).map(|cli| cli.command) {
            Ok(Task::Serve(config)) => config.check_identities().map_err(|error| error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_notifier_is_known_by_a_token_or_by_a_name() {
        const CA: &[&str] = &["--tls-client-ca", "ca.pem"];
        const NOTIFIER: &[&str] = &["--service-identities", "dns:a=notifier"];
        const PORTAL: &[&str] = &["--service-identities", "dns:a=portal"];
        for known in [&[TOKEN][..], &[NOTIFIER, CA], &[TOKEN, PORTAL, CA], &[TOKEN, CA]] {
            assert_eq!(checked(known), Ok(()));
        }
        for unknown in [&[][..], &[CA], &[PORTAL, CA]] {
            let refused = checked(unknown).unwrap_err();
            assert!(refused.starts_with("--service-token (COUNTERSIGN_SERVICE_TOKEN): is needed"), "{refused}");
        }
        for unseen in [&[NOTIFIER][..], &[TOKEN, PORTAL]] {
            let refused = checked(unseen).unwrap_err();
            assert!(refused.contains("needs --tls-client-ca (COUNTERSIGN_TLS_CLIENT_CA)"), "{refused}");
        }
    }
}
