//! Makes the data that Postgres starts with, once.
//! Must never leave half-made data under the final name, and never overwrite data that is complete.

use crate::account::Account;
use crate::binaries::Binaries;
use crate::folder::{Data, Folder};
use crate::guardian::{Guardian, Job};
use crate::options::{Durability, Progress};
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// Some seconds on an idle machine.
const INITDB_MAX: Duration = Duration::from_secs(180);
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
        std::fs::create_dir(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
        self.account.give(&unfinished)?;
        self.initdb(&unfinished).await?;
        std::fs::rename(&unfinished, &data).with_context(|| format!("cannot make {}", data.display()))?;
        if self.durability == Durability::Durable {
            File::open(self.folder.path())?.sync_all().context("cannot write the data folder to disk")?;
        }
        Ok(())
    }

    async fn initdb(&self, into: &Path) -> Result<()> {
        let mut arguments: Vec<&OsStr> =
            ["-A", "trust", "-E", "UTF8", "--locale=C", "-U", SUPERUSER].map(OsStr::new).to_vec();
        if self.durability == Durability::Throwaway {
            arguments.push(OsStr::new("--no-sync"));
        }
        arguments.extend([OsStr::new("-D"), into.as_os_str()]);
        let logged = self.folder.log_bytes();
        let status = self.run("initdb", &arguments)?.wait(INITDB_MAX).await.context("initdb does not end")?;
        if !status.success() {
            bail!("initdb failed ({status}); its last words:\n{}", self.folder.log_tail(logged));
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
