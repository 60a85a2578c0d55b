//! The folder of one Postgres: data, log, and a lock so that only one process uses it.
//! Must never remove or give away anything in a kept folder that is not its own.

use crate::account::Account;
use crate::guardian::POLL;
use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TEMPORARY_PREFIX: &str = "countersign-postgres-";
/// Tried after the system's choice, which for root may be a folder that is closed to others.
const OTHER_TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
/// How long the Postgres of a process that died may take to end; longer than its guardian lets it.
const LEAVING_MAX: Duration = Duration::from_secs(35);
/// A longer log is put aside at the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How much of the log goes into an error.
const TAIL_BYTES_MAX: u64 = 4 << 10;
const TAIL_LINES_MAX: usize = 15;

/// What lies where the data should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Data {
    Absent,
    /// What is left of an interrupted `initdb`.
    HalfMade,
    Made {
        major: u32,
    },
}

/// An open, locked folder.
pub(super) struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
    lock: File,
}

impl Folder {
    /// Opens the given folder, or makes a temporary one.
    pub async fn open(given: Option<&Path>, account: &Account) -> Result<Self> {
        let temporary = if given.is_none() { Some(make_temporary(account)?) } else { None };
        let path = match (given, &temporary) {
            (Some(given), _) => make_kept(given, account)?,
            (None, Some(made)) => made.path().canonicalize()?,
            (None, None) => bail!("no folder for Postgres"),
        };
        account.check_can_enter(&path)?;
        let lock = take_lock(&path, account).await?;
        Ok(Self { path, temporary, lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, if it has to be removed at the end.
    pub fn temporary(&self) -> Option<&Path> {
        self.temporary.as_ref().map(|_| self.path.as_path())
    }

    pub fn data(&self) -> PathBuf {
        self.path.join("pgdata")
    }

    /// Where `initdb` works; what it leaves there when interrupted is never mistaken for data.
    pub fn data_in_the_making(&self) -> PathBuf {
        self.path.join("pgdata.new")
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// One more handle of the lock; the folder is locked until the last is closed.
    pub fn lock(&self) -> Result<File> {
        self.lock.try_clone().context("cannot pass on the lock")
    }

    /// Looks at the data without touching it.
    pub fn inspect(&self) -> Result<Data> {
        let data = self.data();
        let exists = |name: &str| data.join(name).exists();
        let mut entries = match std::fs::read_dir(&data) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Data::Absent),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", data.display())),
        };
        if entries.next().is_none() {
            return Ok(Data::HalfMade);
        }
        if exists("PG_VERSION") && exists("global/pg_control") {
            let text = std::fs::read_to_string(data.join("PG_VERSION"))?;
            let major = text.trim().parse().with_context(|| format!("{}/PG_VERSION is damaged", data.display()))?;
            return Ok(Data::Made { major });
        }
        if exists("PG_VERSION") || (exists("base") && exists("global") && exists("pg_wal")) {
            return Ok(Data::HalfMade);
        }
        bail!("{} holds something that is no data of Postgres: choose another folder", data.display())
    }

    /// The process id that Postgres wrote down, if it did.
    pub fn postmaster_pid(&self) -> Option<i32> {
        std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
    }

    /// Opens the log for writing at its end.
    pub fn open_log(&self, account: &Account) -> Result<File> {
        let path = self.log();
        if path.metadata().is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            std::fs::rename(&path, self.path.join("postgres.log.1"))?;
        }
        open_own(&path, account, OpenOptions::new().append(true))
    }

    pub fn log_bytes(&self) -> u64 {
        self.log().metadata().map_or(0, |metadata| metadata.len())
    }

    /// The end of what was logged after the first `skip` bytes.
    pub fn log_tail(&self, skip: u64) -> String {
        read_tail(&self.log(), skip)
            .unwrap_or_else(|error| format!("({} cannot be read: {error})", self.log().display()))
    }

    /// Tells the next user of the folder that this process is done with it, although Postgres may still be ending.
    pub fn release(&self) {
        if let Err(error) = self.lock.set_len(0) {
            tracing::debug!(%error, "cannot clear the lock file");
        }
    }

    /// Removes the folder if it is temporary.
    pub fn close(self) -> Result<()> {
        self.release();
        let Some(temporary) = self.temporary else { return Ok(()) };
        match temporary.close() {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

fn make_temporary(account: &Account) -> Result<TempDir> {
    let first = std::env::temp_dir();
    let others = OTHER_TEMPORARY.map(PathBuf::from);
    let base = others.iter().fold(first, |chosen, other| {
        let better = account.check_can_enter(&chosen).is_err() && account.check_can_enter(other).is_ok();
        if better { other.clone() } else { chosen }
    });
    account.check_can_enter(&base)?;
    let made = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempdir_in(&base)
        .with_context(|| format!("cannot make a folder in {}", base.display()))?;
    account.give(made.path())?;
    Ok(made)
}

fn make_kept(given: &Path, account: &Account) -> Result<PathBuf> {
    let existed = given.is_dir();
    std::fs::create_dir_all(given).with_context(|| format!("cannot make the folder {}", given.display()))?;
    let path = given.canonicalize().with_context(|| format!("cannot find {}", given.display()))?;
    if !existed {
        account.give(&path)?;
    }
    Ok(path)
}

/// Opens a file that belongs to the account; never through a link, since this process may be root.
fn open_own(path: &Path, account: &Account, options: &mut OpenOptions) -> Result<File> {
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = options
        .create(true)
        .mode(0o600)
        .custom_flags(no_links)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    account.give(path)?;
    Ok(file)
}

async fn take_lock(folder: &Path, account: &Account) -> Result<File> {
    let mut file = open_own(&folder.join("lock"), account, OpenOptions::new().read(true).write(true))?;
    let deadline = Instant::now() + LEAVING_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", folder.display()));
            }
            Err(TryLockError::WouldBlock) => {
                let owner = read_pid(&mut file)?;
                if owner.is_some_and(is_alive) || Instant::now() >= deadline {
                    let by = owner.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                    bail!("the data folder {} is in use by {by}: stop it, or choose another folder", folder.display());
                }
            }
        }
        tokio::time::sleep(POLL).await;
    }
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn read_pid(file: &mut File) -> Result<Option<i32>> {
    const PID_BYTES_MAX: u64 = 16;
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    Read::by_ref(file).take(PID_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().parse().ok())
}

/// Whether a process with this number exists.
pub(super) fn is_alive(pid: i32) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return false };
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

fn read_tail(path: &Path, skip: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(skip.max(length.saturating_sub(TAIL_BYTES_MAX))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES_MAX)..].join("\n"))
}
