//! Makes the data that Postgres starts with, once.
//! Must never leave half-made data under the final name, and never overwrite data that is complete.

use crate::account::Account;
use crate::binaries::Binaries;
use crate::folder::{Data, Folder};
use crate::guardian::{Guardian, Job};
use crate::options::{Durability, Progress};
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

/// Some seconds on an idle machine.
const MAKE_MAX: Duration = Duration::from_secs(180);
/// Who made the server and may do everything.
pub(super) const SUPERUSER: &str = "postgres";
/// Who owns the databases and may do nothing else: row-level security holds back whoever is no superuser.
pub(super) const OWNER: &str = "countersign";

/// Everything that is needed to run a program of Postgres.
pub(super) struct Workplace {
    pub folder: Folder,
    pub binaries: Binaries,
    pub account: Account,
    pub durability: Durability,
    pub follows: Option<u16>,
}

impl Workplace {
    /// Starts one of the programs under a guardian.
    pub fn run(&self, program: &str, arguments: &[&OsStr]) -> Result<Guardian> {
        Guardian::start(Job {
            program: &self.binaries.dir.join(program),
            arguments,
            account: &self.account,
            log: self.folder.open_log(&self.account)?,
            lock: self.folder.lock()?,
            remove: self.folder.temporary(),
        })
    }

    /// Makes the data if there is none yet.
    pub async fn prepare(&self, progress: &Progress) -> Result<()> {
        let data = self.folder.data();
        match self.folder.inspect()? {
            Data::Made { .. } => return self.account.give_all(&data),
            Data::HalfMade => {
                tracing::warn!(folder = %data.display(), "removing the data that an interrupted initdb left");
                remove(&data)?;
            }
            Data::Absent => {}
        }
        progress.say(&format!("Making the data folder of Postgres {} in {}.", self.binaries.major, data.display()));
        let unfinished = self.folder.data_in_the_making();
        remove(&unfinished)?;
        // Nobody else may look into it: the server insists.
        DirBuilder::new()
            .mode(0o700)
            .create(&unfinished)
            .with_context(|| format!("cannot make {}", unfinished.display()))?;
        self.account.give(&unfinished)?;
        match self.follows {
            Some(port) => self.copy(port, &unfinished).await?,
            None => self.initdb(&unfinished).await?,
        }
        std::fs::rename(&unfinished, &data).with_context(|| format!("cannot make {}", data.display()))?;
        if self.durability == Durability::Durable {
            File::open(self.folder.path())?.sync_all().context("cannot write the data folder to disk")?;
        }
        Ok(())
    }

    /// Copies the data of a running server, with what makes the copy follow it.
    async fn copy(&self, port: u16, into: &Path) -> Result<()> {
        let from = format!("host=127.0.0.1 port={port} user={SUPERUSER}");
        let mut arguments: Vec<&OsStr> =
            ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-password"]
                .map(OsStr::new)
                .to_vec();
        if self.durability == Durability::Throwaway {
            arguments.push(OsStr::new("--no-sync"));
        }
        arguments.extend([OsStr::new("-d"), OsStr::new(&from), OsStr::new("-D"), into.as_os_str()]);
        self.make("pg_basebackup", &arguments).await
    }

    async fn initdb(&self, into: &Path) -> Result<()> {
        let mut arguments: Vec<&OsStr> =
            ["-A", "trust", "-E", "UTF8", "--locale=C", "-U", SUPERUSER].map(OsStr::new).to_vec();
        if self.durability == Durability::Throwaway {
            arguments.push(OsStr::new("--no-sync"));
        }
        arguments.extend([OsStr::new("-D"), into.as_os_str()]);
        self.make("initdb", &arguments).await
    }

    async fn make(&self, program: &str, arguments: &[&OsStr]) -> Result<()> {
        let logged = self.folder.log_bytes();
        let ended = self.run(program, arguments)?.wait(MAKE_MAX).await;
        let status = ended.with_context(|| format!("{program} does not end"))?;
        if !status.success() {
            bail!("{program} failed ({status}); its last words:\n{}", self.folder.log_tail(logged));
        }
        Ok(())
    }
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
