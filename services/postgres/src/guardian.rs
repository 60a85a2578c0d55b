//! Runs a program under a small shell that ends it when this process goes away, however it goes.
//! Must never start a program in any other way, and never leave a pipe open that somebody else could inherit.

use crate::account::Account;
use crate::folder::Folder;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = include_str!("guardian.sh");
/// The name under which the shell shows up in `ps`.
const NAME: &str = "countersign-postgres-guardian";
/// How often a running program is looked at.
pub(super) const POLL: Duration = Duration::from_millis(20);
/// Longer than the three times ten seconds that the script gives a program to end.
const STOP_MAX: Duration = Duration::from_secs(35);
/// Not every system has `C.UTF-8`, and macOS refuses to start Postgres with a locale it does not know.
const LOCALE: &str = if cfg!(target_os = "macos") { "C" } else { "C.UTF-8" };
/// Settings of the person at the keyboard that would change what Postgres does.
const FOREIGN_VARIABLES: [&str; 6] = ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE", "PGOPTIONS"];

/// What to run, and with what.
pub(super) struct Job<'a> {
    pub program: &'a Path,
    pub arguments: &'a [&'a OsStr],
    pub account: &'a Account,
    /// Takes the output.
    pub log: File,
    /// Stays locked as long as the guardian lives.
    pub lock: File,
    /// Removed by the guardian when this process goes away, or stops the program.
    pub remove: Option<&'a Path>,
}

/// A running program. Dropping this closes the pipe, upon which the guardian ends the program.
pub(super) struct Guardian {
    /// Absent only while this is dropped.
    child: Option<Child>,
    /// Dropped after the program has ended.
    folder: Option<Folder>,
}

impl Guardian {
    pub fn start(job: Job<'_>) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(SCRIPT).arg(NAME);
        command.arg(job.remove.map_or(OsStr::new(""), Path::as_os_str));
        command.arg(job.program).args(job.arguments);
        command.stdin(Stdio::piped()).stdout(job.lock).stderr(job.log);
        for name in FOREIGN_VARIABLES {
            command.env_remove(name);
        }
        command.env("LC_ALL", LOCALE);
        // After a crash another process may have got the number in postmaster.pid; Postgres ignores its own ancestors.
        command.env("PG_GRANDPARENT_PID", std::process::id().to_string());
        // Its own group: Ctrl-C in the terminal is for this process, which then stops Postgres in order.
        command.current_dir("/").process_group(0);
        job.account.apply(&mut command);
        let child = command.spawn().context("cannot start /bin/sh, which guards Postgres")?;
        Ok(Self { child: Some(child), folder: None })
    }

    /// How the program ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("the guardian of Postgres is gone")?;
        child.try_wait().context("cannot ask for the state of Postgres")
    }

    /// Waits for the program to end.
    pub async fn wait(&mut self, longest: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + longest;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("still running after {} s", longest.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks the program to end, and waits until it has.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.let_go();
        self.wait(STOP_MAX).await.context("Postgres does not stop")
    }

    /// Keeps the folder for as long as the program runs, also when this is dropped.
    pub fn keep(&mut self, folder: Folder) {
        self.folder = Some(folder);
    }

    fn let_go(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.stdin.take());
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.let_go();
        if !matches!(self.ended(), Ok(None)) {
            return;
        }
        let (child, folder) = (self.child.take(), self.folder.take());
        // So that no zombie stays. When this process ends first, the guardian does all that matters.
        let reap = move || {
            let ended = child.map(|mut child| child.wait());
            tracing::debug!(?ended, "Postgres has ended");
            drop(folder);
        };
        if let Err(error) = std::thread::Builder::new().name("postgres-reaper".into()).spawn(reap) {
            tracing::debug!(%error, "nobody waits for Postgres to end");
        }
    }
}
