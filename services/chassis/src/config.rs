//! Settings that several services share, as clap groups: each is a flag and an environment variable of the same name.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::error::ErrorKind;
use secrecy::{ExposeSecret as _, SecretString};

use crate::keys::{Key, Ring};

/// Where errors are explained, if nothing else is set.
pub const HELP_URL: &str = "https://docs.example.com/countersign/errors";

/// Where the database is and how it is used.
#[derive(Args, Clone, Debug)]
pub struct DatabaseConfig {
    /// Address of the service's own Postgres database. With `sslmode=require` it is reached over TLS, and its certificate is
    /// verified, with the host's name, by the platform's CAs.
    #[arg(long, env = "COUNTERSIGN_DATABASE_URL", hide_env_values = true)]
    pub database_url: SecretString,
    /// PEM file with the CAs of the database's certificate, instead of the platform's. Asks for TLS, whatever the address says.
    #[arg(long, env = "COUNTERSIGN_DATABASE_CA")]
    pub database_ca: Option<PathBuf>,
    /// Connections at most; two to four per core of the database serve best.
    #[arg(long, env = "COUNTERSIGN_DATABASE_POOL_MAX", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub database_pool_max: u32,
    /// How long a request waits for a connection before it is told UNAVAILABLE, in milliseconds.
    #[arg(long, env = "COUNTERSIGN_DATABASE_WAIT_MS", default_value_t = 2_000)]
    pub database_wait_ms: u64,
}

/// Where the service listens and how it stops.
#[derive(Args, Clone, Debug)]
pub struct ListenConfig {
    /// Address for gRPC; port 0 takes a free one.
    #[arg(long, env = "COUNTERSIGN_LISTEN", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// Connections at a time; further ones are closed at once.
    #[arg(long, env = "COUNTERSIGN_CONNECTIONS_MAX", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections_max: u32,
    /// Connections at a time of one address. Behind a proxy all callers have one: then as many as there may be at all.
    #[arg(long, env = "COUNTERSIGN_CONNECTIONS_PER_PEER_MAX", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections_per_peer_max: u32,
    /// How long a connection lives, more or less, in seconds. Then it takes no more calls, its streams end where they can
    /// be resumed, and clients connect anew: so they find new replicas.
    #[arg(long, env = "COUNTERSIGN_CONNECTION_AGE_SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub connection_age_seconds: u64,
    /// Calls that are answered at a time, without uploads and what streams say; further ones are told UNAVAILABLE at once.
    #[arg(long, env = "COUNTERSIGN_CALLS_MAX", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub calls_max: u32,
    /// How long calls are still taken after SIGTERM, in milliseconds, while health says NOT_SERVING: as long as those who
    /// send calls need to hear of it.
    #[arg(long, env = "COUNTERSIGN_DRAIN_DELAY_MS", default_value_t = 0)]
    pub drain_delay_ms: u64,
    /// How long open calls may take to end after that, in milliseconds.
    #[arg(long, env = "COUNTERSIGN_DRAIN_MS", default_value_t = 20_000)]
    pub drain_ms: u64,
    /// Answer gRPC server reflection, for grpcurl and its like.
    #[arg(long, env = "COUNTERSIGN_REFLECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub reflection: bool,
    /// Where callers read what an error means (`docs/errors.md` as a page); the reason is added as the fragment.
    #[arg(long, env = "COUNTERSIGN_HELP_URL", default_value = HELP_URL)]
    pub help_url: String,
    /// By which certificates it is known and knows others.
    #[command(flatten)]
    pub tls: TlsConfig,
    /// What no setting changes.
    #[arg(skip)]
    pub bounds: ConnectionBounds,
}

/// How long connections go on, besides their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionBounds {
    /// Without a call.
    pub idle: Duration,
    /// Under calls, after a connection was told to end for its age: longer than any call that goes on by right.
    pub grace: Duration,
}

impl Default for ConnectionBounds {
    fn default() -> Self {
        Self { idle: Duration::from_secs(10 * 60), grace: Duration::from_secs(15 * 60) }
    }
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            connections_max: 1_024,
            connections_per_peer_max: 1_024,
            connection_age_seconds: 900,
            calls_max: 256,
            drain_delay_ms: 0,
            drain_ms: 20_000,
            reflection: true,
            help_url: HELP_URL.to_owned(),
            tls: TlsConfig::default(),
            bounds: ConnectionBounds::default(),
        }
    }
}

impl ListenConfig {
    /// How long calls are still taken after the process was told to end.
    #[must_use]
    pub fn drain_delay(&self) -> Duration {
        Duration::from_millis(self.drain_delay_ms)
    }

    /// How long open calls may take to end.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

/// TLS on the service's own address. Without a certificate it speaks plain text.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsConfig {
    /// PEM file with the service's certificate, followed by those between it and its CA.
    #[arg(long, env = "COUNTERSIGN_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the key of that certificate, not encrypted.
    #[arg(long, env = "COUNTERSIGN_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// PEM file with the CAs of services that call with a certificate instead of a bearer token. A certificate of another
    /// CA ends the connection; who shows none can still have a token.
    #[arg(long, env = "COUNTERSIGN_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,
}

/// The secret from which all keys are derived, and those that were it before.
#[derive(Args, Clone, Debug)]
pub struct KeyConfig {
    /// 64 hexadecimal digits (32 random bytes) kept outside the database. Signing tokens, webhook secrets and page tokens
    /// are derived from it.
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY", hide_env_values = true)]
    pub master_key: SecretString,
    /// Former master keys: nothing is made under them any more, and what was is still understood. How the master key is
    /// changed, and when a former one may go, is told in `docs/operating.md`.
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_FORMER", hide_env_values = true, value_delimiter = ',')]
    pub master_key_former: Vec<SecretString>,
}

/// The settings as people know them.
const MASTER_KEY: &str = "--master-key (COUNTERSIGN_MASTER_KEY)";
const MASTER_KEY_FORMER: &str = "--master-key-former (COUNTERSIGN_MASTER_KEY_FORMER)";

impl KeyConfig {
    /// One master key, and none before it.
    pub fn new(master_key: impl Into<SecretString>) -> Self {
        Self { master_key: master_key.into(), master_key_former: Vec::new() }
    }

    /// The keys. One that is none, or is there twice, is refused by the name of its setting: who means to keep a former key and
    /// gives the new one again would lose the former.
    pub fn ring(&self) -> Result<Ring, SettingError> {
        let first = master(MASTER_KEY, &self.master_key)?;
        // A variable that is there and empty names no key.
        let given = self.master_key_former.iter().filter(|text| !text.expose_secret().trim().is_empty());
        let former = given.map(|text| master(MASTER_KEY_FORMER, text)).collect::<Result<Vec<_>, _>>()?;
        let mut named: Vec<_> = former.iter().chain([&first]).map(Key::fingerprint).collect();
        named.sort_unstable();
        let all = named.len();
        named.dedup();
        if named.len() < all {
            return Err(SettingError::new(MASTER_KEY_FORMER, format!("names a key twice, or that of {MASTER_KEY}")));
        }
        Ok(Ring::new(first, former))
    }

    /// Ends the process with status 2 if a key is none. The value itself is never quoted, as clap's own checks would.
    pub fn check(&self) {
        if let Err(error) = self.ring() {
            error.exit();
        }
    }
}

fn master(setting: &str, text: &SecretString) -> Result<Key, SettingError> {
    Key::master(text).map_err(|error| SettingError::new(setting, error.to_string()))
}

/// Shortest service token.
const TOKEN_CHARS_MIN: usize = 32;

/// Ends the process with status 2 if the token by which one service of ours knows another is too weak.
pub fn check_service_token(token: &SecretString) {
    check_token("--service-token (COUNTERSIGN_SERVICE_TOKEN)", token);
}

/// Ends the process with status 2 if a token that opens what no account's key does is too weak.
pub fn check_token(setting: &str, token: &SecretString) {
    let token = token.expose_secret();
    if token.len() < TOKEN_CHARS_MIN || !token.chars().all(|c| c.is_ascii_graphic()) {
        refuse(setting, &format!("must be at least {TOKEN_CHARS_MIN} printable characters"));
    }
}

/// A setting that the service cannot start with. Says which one, and never quotes a secret.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {why}")]
pub struct SettingError {
    setting: String,
    why: String,
}

impl SettingError {
    /// Of the setting as people know it, `--flag (VARIABLE)`.
    pub fn new(setting: impl Into<String>, why: impl Into<String>) -> Self {
        Self { setting: setting.into(), why: why.into() }
    }

    /// Ends the process with status 2, as clap does for what it checks itself.
    pub fn exit(&self) -> ! {
        clap::Error::raw(ErrorKind::ValueValidation, format!("{self}\n")).exit()
    }
}

fn refuse(setting: &str, why: &str) {
    SettingError::new(setting, why).exit()
}

/// What is told of the service's doings.
#[derive(Args, Clone, Debug)]
pub struct TelemetryConfig {
    /// What is logged, as a `tracing` filter.
    #[arg(long, env = "COUNTERSIGN_LOG", default_value = "info,h2=warn,hyper=warn,tower=warn,opentelemetry=warn")]
    pub log: String,
    /// Logs as JSON lines instead of text.
    #[arg(long, env = "COUNTERSIGN_LOG_JSON", default_value_t = false, action = clap::ArgAction::Set)]
    pub log_json: bool,
    /// OTLP over gRPC endpoint for traces, metrics and logs, `http://…` or, over TLS, `https://…`; without one none are sent.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// How many traces are told of those for which no caller has decided, from 0 to 1. Who sends a `traceparent` has decided.
    #[arg(long, env = "COUNTERSIGN_TRACE_SAMPLE_RATIO", default_value_t = TRACE_SAMPLE_RATIO, value_parser = ratio)]
    pub trace_sample_ratio: f64,
    /// Address on which Prometheus scrapes metrics, at `/metrics`; without one it cannot. Port 0 takes a free one.
    #[arg(long, env = "COUNTERSIGN_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
}

/// One in a hundred: what is measured at that costs little, and there is still something of every method within minutes.
const TRACE_SAMPLE_RATIO: f64 = 0.01;

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

impl TelemetryConfig {
    /// Whether there is anybody who is told what is counted.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.metrics_listen.is_some() || self.otlp_endpoint.is_some()
    }

    /// Nothing but logs, by that filter, as text.
    #[must_use]
    pub fn only_logs(log: impl Into<String>) -> Self {
        Self {
            log: log.into(),
            log_json: false,
            otlp_endpoint: None,
            trace_sample_ratio: TRACE_SAMPLE_RATIO,
            metrics_listen: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        keys: KeyConfig,
    }

    fn ring(first: &str, former: &str) -> Result<usize, String> {
        let cli = Cli::try_parse_from(["x", "--master-key", first, "--master-key-former", former]).unwrap();
        cli.keys.ring().map(|ring| ring.iter().count()).map_err(|error| error.to_string())
    }

    #[test]
    fn former_master_keys_are_a_list_and_a_wrong_one_is_named() {
        let [a, b, c] = ["0a", "0b", "0c"].map(|byte| byte.repeat(32));
        assert_eq!(ring(&a, ""), Ok(1));
        assert_eq!(ring(&a, &b), Ok(2));
        assert_eq!(ring(&a, &format!("{b}, {c},")), Ok(3));
        for wrong in [format!("{b},{}", &c[1..]), "0b".into(), a.to_uppercase(), format!("{b},{b}")] {
            let refused = ring(&a, &wrong).unwrap_err();
            assert!(refused.starts_with("--master-key-former (COUNTERSIGN_MASTER_KEY_FORMER): "), "{refused}");
            assert!(!refused.contains("0b") && !refused.contains(&c[1..]), "no secret is quoted: {refused}");
        }
        let refused = ring("0a", &b).unwrap_err();
        assert!(refused.starts_with("--master-key (COUNTERSIGN_MASTER_KEY): "), "{refused}");
    }
}
