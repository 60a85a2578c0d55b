//! A Postgres of one's own: found or downloaded, started, and ended with the process that started it.
//! Must never leave a process behind, and never touch a Postgres that it did not start.
//!
//! ```no_run
//! # async fn run() -> anyhow::Result<()> {
//! use countersign_postgres::{Options, Postgres};
//! let postgres = Postgres::start(Options::throwaway()).await?;
//! postgres.create_database("envelopes").await?;
//! println!("{}", postgres.url("envelopes"));
//! postgres.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The server listens on 127.0.0.1 only and trusts everybody who connects: every user of this machine can.

pub mod ports;

mod account;
mod binaries;
mod cluster;
mod databases;
mod download;
mod folder;
mod guardian;
mod options;
mod server;

pub use options::{Durability, Options, Progress, Search};

use account::Account;
use anyhow::{Context, Result, bail};
use cluster::Workplace;
use folder::{Data, Folder};
use guardian::{Guardian, POLL};
use rustix::process::Signal;
use server::{Server, Settings};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the server may take to end after a signal; a fast stop writes everything to disk first.
const END_MAX: Duration = Duration::from_secs(30);

/// A running Postgres.
///
/// [`stop`](Self::stop) ends it in order. Dropping it, or the end of this process in whatever way, ends it as well,
/// within seconds, but nobody waits for that.
pub struct Postgres {
    /// Absent only while this is dropped.
    workplace: Option<Workplace>,
    settings: Settings,
    guardian: Option<Guardian>,
    port: u16,
    pid: i32,
    major: u32,
}

impl Postgres {
    /// Finds the programs, makes the data if there is none, starts the server and waits until it answers.
    ///
    /// # Errors
    /// With a text for the person at the keyboard: no programs, a folder in use or closed, data of another version,
    /// or the end of the log of a server that does not start.
    pub async fn start(options: Options) -> Result<Self> {
        if let Some(port) = options.port.filter(|port| crate::ports::is_taken(*port)) {
            bail!("port {port} of 127.0.0.1 is taken: choose another port for Postgres, or none");
        }
        let account = Account::for_this_process()?;
        let folder = Folder::open(options.folder.as_deref(), &account).await?;
        let made_by = match folder.inspect()? {
            Data::Made { major } => Some(major),
            Data::Absent | Data::HalfMade => None,
        };
        let binaries = binaries::find(&options, &account, made_by).await?;
        let (durability, follows) = (options.durability, options.follows);
        let workplace = Workplace { folder, binaries, account, durability, follows };
        workplace.prepare(&options.progress).await?;
        let settings = Settings::of(&options);
        let Server { guardian, port, pid } = server::launch(&workplace, &settings, options.port).await?;
        if follows.is_none() {
            databases::make_owner(port).await?;
        }
        let major = workplace.binaries.major;
        tracing::info!(port, pid, major, folder = %workplace.folder.path().display(), "Postgres answers");
        Ok(Self { workplace: Some(workplace), settings, guardian: Some(guardian), port, pid, major })
    }

    /// The port of 127.0.0.1 on which the server listens; it stays the same over [`restart`](Self::restart).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The major version of the server.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The folder with the data and the log `postgres.log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.workplace.as_ref().map_or(Path::new(""), |workplace| workplace.folder.path())
    }

    /// Ends the server in order, and returns when it is gone. A temporary folder is removed.
    ///
    /// # Errors
    /// When the server does not end, or the folder cannot be removed.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(guardian) = &mut self.guardian {
            guardian.stop().await?;
        }
        self.wait_until_gone().await?;
        self.workplace.take().map_or(Ok(()), |workplace| workplace.folder.close())
    }

    /// Kills the server without a warning, as a crash would; [`restart`](Self::restart) brings it back. For tests.
    ///
    /// # Errors
    /// When the server cannot be killed.
    pub async fn kill_hard(&mut self) -> Result<()> {
        self.end_with(Signal::KILL).await
    }

    /// Starts the server again, on the same port and with the same data; stops it before if it runs.
    ///
    /// # Errors
    /// When the server does not end or does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.end_with(Signal::INT).await?;
        let workplace = self.workplace.as_ref().context("Postgres is stopped")?;
        let server = server::launch(workplace, &self.settings, Some(self.port)).await?;
        self.guardian = Some(server.guardian);
        self.pid = server.pid;
        if workplace.follows.is_some() {
            return Ok(());
        }
        // A server that does not wait for the disk may have forgotten its users in a crash.
        databases::make_owner(self.port).await
    }

    /// Makes a replica a server of its own, and returns when it takes writes.
    ///
    /// # Errors
    /// When it is none, or does not become one in a minute.
    pub async fn promote(&mut self) -> Result<()> {
        databases::promote(self.port).await?;
        if let Some(workplace) = &mut self.workplace {
            workplace.follows = None;
        }
        Ok(())
    }

    /// Ends the server itself, upon which its guardian ends too, and keeps the folder.
    async fn end_with(&mut self, signal: Signal) -> Result<()> {
        let Some(guardian) = &mut self.guardian else { return Ok(()) };
        if guardian.ended()?.is_none() {
            server::signal(self.pid, signal)?;
            guardian.wait(END_MAX).await.context("Postgres does not end")?;
        }
        self.guardian = None;
        self.wait_until_gone().await
    }

    /// The guardian waits for the server; this is for a guardian that was killed itself.
    async fn wait_until_gone(&self) -> Result<()> {
        let deadline = Instant::now() + END_MAX;
        let written = || self.workplace.as_ref().and_then(|workplace| workplace.folder.postmaster_pid());
        while written() == Some(self.pid) && folder::is_alive(self.pid) {
            if Instant::now() >= deadline {
                bail!("Postgres (process {}) does not end", self.pid);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(Workplace { folder, .. }) = self.workplace.take() else { return };
        folder.release();
        match &mut self.guardian {
            Some(guardian) => guardian.keep(folder),
            None => drop(folder),
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("folder", &self.folder())
            .field("port", &self.port)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}
