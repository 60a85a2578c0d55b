//! How Postgres is reached: its address, TLS, and the limits that every session begins with.
//!
//! It must never speak in the clear where TLS was asked for, take a certificate that it did not verify, or quote the address,
//! which holds a password.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use secrecy::ExposeSecret as _;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{DatabaseConfig, SettingError};
use crate::tls::PemFile;

/// How long a database may say nothing to what was sent before it counts as gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Errors are known by their English words: diesel does not hand on their SQLSTATE. Roles that may not set the language stay
/// with the database's own.
const IN_ENGLISH: &str = "DO $$ BEGIN SET lc_messages = 'C'; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$";

/// The settings as people know them.
pub(crate) const URL: &str = "--database-url (COUNTERSIGN_DATABASE_URL)";
pub(crate) const REPLICA_URL: &str = "--replica-url (COUNTERSIGN_REPLICA_URL)";
const CA: &str = "--database-ca (COUNTERSIGN_DATABASE_CA)";

/// Makes connections to one database.
pub(crate) struct Dial {
    address: tokio_postgres::Config,
    trust: Trust,
    /// What every session begins with.
    session: String,
    told_of_language: AtomicBool,
}

/// By whom the server's certificate has to be signed.
enum Trust {
    /// Nobody: there is no TLS.
    Clear,
    /// A CA in this file, which is read for each connection: whoever renews it has nothing to start anew.
    File(PathBuf),
    /// A CA of the platform.
    Platform(MakeRustlsConnect),
}

#[derive(QueryableByName)]
struct Language {
    #[diesel(sql_type = diesel::sql_types::Text)]
    lc_messages: String,
}

impl Dial {
    /// As the settings say, the address by the setting `named`. `session` is the SQL that every session begins with.
    pub(crate) fn new(config: &DatabaseConfig, named: &'static str, session: &str) -> Result<Self, SettingError> {
        // Whoever asks for TLS at all gets what libpq calls verify-full.
        let url = config.database_url.expose_secret();
        let asks = |mode: &str| url.contains(&format!("sslmode={mode}"));
        if asks("prefer") || asks("allow") {
            let why = "says an sslmode that encrypts without knowing to whom: say require or disable";
            return Err(SettingError::new(named, why));
        }
        let url = url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
        let mut address: tokio_postgres::Config = url.parse().map_err(|_| {
            let why = "is not an address of a Postgres database, or has a parameter that is not known (sslrootcert is --database-ca)";
            SettingError::new(named, why)
        })?;
        let trust = match (address.get_ssl_mode(), &config.database_ca) {
            (SslMode::Disable, Some(_)) => {
                return Err(SettingError::new(CA, format!("has no use where {named} says sslmode=disable")));
            }
            (_, Some(file)) => {
                verified_by(file)?;
                Trust::File(file.clone())
            }
            (SslMode::Require, None) => Trust::Platform(platform(named)?),
            (_, None) => Trust::Clear,
        };
        address.ssl_mode(if matches!(trust, Trust::Clear) { SslMode::Disable } else { SslMode::Require });
        address.connect_timeout(SILENCE_MAX / 2).tcp_user_timeout(SILENCE_MAX);
        address.keepalives_idle(SILENCE_MAX).keepalives_interval(SILENCE_MAX / 4).keepalives_retries(3);
        let session = format!("{session}; {IN_ENGLISH}");
        Ok(Self { address, trust, session, told_of_language: AtomicBool::new(false) })
    }

    /// A connection, in a session that has its limits.
    ///
    /// They are SET and not start-up options: PgBouncer refuses those.
    /// In bounded time: what accepts and then says nothing, as a pooler that is paused, must not hold a place for ever.
    pub(crate) async fn connect(&self) -> ConnectionResult<AsyncPgConnection> {
        let connected = tokio::time::timeout(SILENCE_MAX, self.begin()).await;
        connected.unwrap_or_else(|_| Err(ConnectionError::BadConnection("the database says nothing".to_owned())))
    }

    async fn begin(&self) -> ConnectionResult<AsyncPgConnection> {
        let mut session = match &self.trust {
            Trust::Clear => self.reach(NoTls).await?,
            Trust::File(file) => {
                let tls = verified_by(file).map_err(|why| ConnectionError::BadConnection(why.to_string()))?;
                self.reach(tls).await?
            }
            Trust::Platform(tls) => self.reach(tls.clone()).await?,
        };
        let begun = session.batch_execute(&self.session).await;
        begun.map_err(|why| ConnectionError::BadConnection(format!("the session: {why}")))?;
        if !self.told_of_language.swap(true, Ordering::Relaxed) {
            tell_of_language(&mut session).await;
        }
        Ok(session)
    }

    async fn reach<T>(&self, tls: T) -> ConnectionResult<AsyncPgConnection>
    where
        T: MakeTlsConnect<Socket, Stream: Send, TlsConnect: TlsConnect<Socket, Future: Send> + Send>,
        T::Stream: 'static,
    {
        let connected = self.address.connect(tls).await;
        let (client, connection) = connected.map_err(|why| ConnectionError::BadConnection(in_full(&why)))?;
        AsyncPgConnection::try_from_client_and_connection(client, connection).await
    }
}

/// With its causes: "error performing TLS handshake" alone tells nobody which certificate was refused, or why.
fn in_full(why: &tokio_postgres::Error) -> String {
    let mut text = why.to_string();
    let mut cause = std::error::Error::source(why);
    while let Some(why) = cause {
        text = format!("{text}: {why}");
        cause = why.source();
    }
    text
}

fn verified_by(file: &std::path::Path) -> Result<MakeRustlsConnect, SettingError> {
    let file = PemFile::new(CA, Some(file));
    // There is a file, so there are roots or an error.
    Ok(connector(file.roots()?.map(|roots| roots.store).unwrap_or_else(rustls::RootCertStore::empty)))
}

fn platform(named: &str) -> Result<MakeRustlsConnect, SettingError> {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        return Err(SettingError::new(CA, format!("is needed: {named} asks for TLS, and the platform has no CAs")));
    }
    Ok(connector(store))
}

fn connector(roots: rustls::RootCertStore) -> MakeRustlsConnect {
    crate::grpc::install_tls_provider();
    MakeRustlsConnect::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

async fn tell_of_language(session: &mut AsyncPgConnection) {
    let asked = diesel::sql_query("SELECT current_setting('lc_messages') AS lc_messages");
    let Ok(Language { lc_messages }) = asked.get_result(session).await else { return };
    if !["C", "POSIX", "en"].iter().any(|language| lc_messages.starts_with(language)) {
        tracing::warn!(
            lc_messages,
            "the database does not word its errors in English, by which it is known which calls may be tried again: \
             ALTER ROLE … SET lc_messages = 'C'"
        );
    }
}
