//! The whole of Countersign in this process: an embedded Postgres, the envelope service and the notifier.
//! Must never leave a process behind, and never lose a key that data in the folder depends on.
//!
//! ```no_run
//! # async fn run() -> anyhow::Result<()> {
//! use countersign_standalone::stack::{Options, Stack};
//! let stack = Stack::start(Options::throwaway()).await?;
//! let account = stack.create_account("Aldergate Instruments", false).await?;
//! println!("{} takes {}", stack.envelope_url(), account.api_key);
//! stack.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! In the folder: `keys.json` and `seal.pem` (0600), `seal-ca.pem`, `postgres/`, `documents/` and `mail/`.

mod folder;
mod keys;
mod options;
mod seal;
mod service;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use countersign_envelope::serve::NewAccount;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use countersign_postgres::{self as postgres, Postgres};
use folder::Folder;
pub(crate) use folder::make_private;
use keys::Keys;
pub use options::Options;
use service::Service;

/// The database of the envelope service.
pub const ENVELOPE_DATABASE: &str = "countersign_envelope";
/// The database of the notifier.
pub const NOTIFIER_DATABASE: &str = "countersign_notifier";
/// How long a start that is no longer wanted may still take before it is dropped; long enough for `initdb`.
const UNWANTED_START_MAX: Duration = Duration::from_secs(10);

/// Everything, running. [`stop`](Self::stop) ends it in order; dropping it ends it too, but nobody waits for that.
#[derive(Debug)]
pub struct Stack {
    // In the order in which they end when this is dropped.
    notifier: Service,
    envelope: Service,
    postgres: Postgres,
    keys: Keys,
    options: Options,
    folder: Folder,
}

impl Stack {
    /// Starts everything and returns when both services take calls.
    ///
    /// # Errors
    /// With a text for the person at the keyboard; nothing runs then.
    pub async fn start(options: Options) -> Result<Self> {
        // For the calls that the notifier and the callers of this make.
        countersign_chassis::grpc::install_tls_provider();
        let folder = Folder::open(options.folder.as_deref(), options.mail.as_deref())?;
        let keys = Keys::of(&folder)?;
        seal::ensure(&folder)?;
        let postgres = match &options.folder {
            Some(_) => postgres::Options::kept(folder.postgres()),
            // Its own temporary folder, which the user as which it runs can enter.
            None => postgres::Options::throwaway(),
        };
        let postgres = postgres::Options { progress: options.progress.clone(), ..postgres };
        let postgres = Postgres::start(postgres).await?;
        match services(&postgres, &folder, &keys, &options).await {
            Ok((envelope, notifier)) => Ok(Self { notifier, envelope, postgres, keys, options, folder }),
            Err(why) => {
                postgres.stop().await.context("and Postgres could not be stopped either")?;
                Err(why)
            }
        }
    }

    /// As [`start`](Self::start), but gives up when `unwanted` is cancelled: then nothing runs, and there is no stack.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_unless(options: Options, unwanted: &CancellationToken) -> Result<Option<Self>> {
        let mut starting = std::pin::pin!(Self::start(options));
        tokio::select! {
            started = &mut starting => return started.map(Some),
            () = unwanted.cancelled() => {}
        }
        // Stopped in order if it gets ready soon. What is dropped half-way (a download) takes its processes along.
        if let Ok(Ok(started)) = tokio::time::timeout(UNWANTED_START_MAX, starting).await {
            started.stop().await?;
        }
        Ok(None)
    }

    /// Makes an account with one API key, as `countersign-envelope create-account` does.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_account(&self, name: &str, livemode: bool) -> Result<NewAccount> {
        let database = service::database(&self.postgres, ENVELOPE_DATABASE);
        countersign_envelope::serve::create_account(&database, &self.keys.for_envelope(), name, livemode).await
    }

    /// Where the envelope service takes calls.
    #[must_use]
    pub fn envelope_address(&self) -> SocketAddr {
        self.envelope.address()
    }

    /// Where the notifier takes calls.
    #[must_use]
    pub fn notifier_address(&self) -> SocketAddr {
        self.notifier.address()
    }

    /// [`envelope_address`](Self::envelope_address) as clients want it.
    #[must_use]
    pub fn envelope_url(&self) -> String {
        format!("http://{}", self.envelope.address())
    }

    /// [`notifier_address`](Self::notifier_address) as clients want it.
    #[must_use]
    pub fn notifier_url(&self) -> String {
        format!("http://{}", self.notifier.address())
    }

    /// The bearer token by which the envelope service knows the notifier.
    #[must_use]
    pub fn service_token(&self) -> &SecretString {
        &self.keys.service_token
    }

    /// The folder of everything but the mails, if the options put those elsewhere.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where mails lie: `<event id>.<recipient id>.<kind>.eml`.
    #[must_use]
    pub fn mail_folder(&self) -> &Path {
        self.folder.mail()
    }

    /// The Postgres under everything, with [`ENVELOPE_DATABASE`] and [`NOTIFIER_DATABASE`].
    #[must_use]
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The same for tests that kill and restart it.
    pub fn postgres_mut(&mut self) -> &mut Postgres {
        &mut self.postgres
    }

    /// Ends the envelope service in order and serves again on the same address.
    ///
    /// # Errors
    /// When it does not end in order, or its port was taken meanwhile.
    pub async fn restart_envelope(&mut self) -> Result<()> {
        let address = self.envelope.address();
        self.envelope.stop().await?;
        let listener = service::listen(address).await?;
        self.envelope = service::envelope(&self.postgres, &self.folder, &self.keys, &self.options, listener)?;
        Ok(())
    }

    /// Ends the notifier in order and serves again on the same address.
    ///
    /// # Errors
    /// When it does not end in order, or its port was taken meanwhile.
    pub async fn restart_notifier(&mut self) -> Result<()> {
        let address = self.notifier.address();
        self.notifier.stop().await?;
        let listener = service::listen(address).await?;
        let (clock, envelope) = (self.options.notifier_clock.clone(), self.envelope.address());
        let challenge = self.options.webhook_challenge;
        self.notifier =
            service::notifier(&self.postgres, &self.folder, &self.keys, clock, envelope, listener, challenge)?;
        Ok(())
    }

    /// Waits until a service ends although nobody asked it to, and says why it did. Never returns otherwise.
    pub async fn broken(&mut self) -> anyhow::Error {
        tokio::select! {
            why = self.envelope.broken() => why,
            why = self.notifier.broken() => why,
        }
    }

    /// Ends everything in order: the notifier, the envelope service, Postgres. A temporary folder is removed.
    ///
    /// # Errors
    /// With the first thing that went wrong; the others are ended all the same.
    pub async fn stop(mut self) -> Result<()> {
        let notifier = self.notifier.stop().await;
        let envelope = self.envelope.stop().await;
        let postgres = self.postgres.stop().await;
        let folder = self.folder.close();
        notifier.and(envelope).and(postgres).and(folder)
    }
}

/// Makes and migrates the databases, then starts both services.
async fn services(postgres: &Postgres, folder: &Folder, keys: &Keys, options: &Options) -> Result<(Service, Service)> {
    let envelope_listener = service::listen_near(options.envelope_port).await?;
    let notifier_listener = service::listen_near(options.notifier_port).await?;
    for name in [ENVELOPE_DATABASE, NOTIFIER_DATABASE] {
        postgres.create_database(name).await?;
    }
    service::migrate(postgres).await?;
    let mut envelope = service::envelope(postgres, folder, keys, options, envelope_listener)?;
    let clock = options.notifier_clock.clone();
    let (address, challenge) = (envelope.address(), options.webhook_challenge);
    match service::notifier(postgres, folder, keys, clock, address, notifier_listener, challenge) {
        Ok(notifier) => Ok((envelope, notifier)),
        Err(why) => {
            envelope.stop().await?;
            Err(why)
        }
    }
}
