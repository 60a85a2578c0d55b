//! Starts the server and waits until it answers.
//! Must never report another server that happens to listen on the port as the one it started.

use crate::cluster::Workplace;
use crate::databases;
use crate::folder::Folder;
use crate::guardian::{Guardian, POLL};
use crate::options::{Durability, Options};
use crate::ports;
use anyhow::{Context, Result, anyhow, bail};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::{Duration, Instant};

/// After a crash the server first repeats what was in its journal.
const READY_MAX: Duration = Duration::from_secs(120);
/// How long a port that was taken, or memory that a killed server left, is tried again.
const RETRY_MAX: Duration = Duration::from_secs(15);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What the log says when another attempt may succeed.
const PORT_TAKEN: &str = "could not create any TCP/IP sockets";
const MEMORY_IN_USE: &str = "pre-existing shared memory block";
const DATA_IN_USE: &str = "lock file \"postmaster.pid\" already exists";

/// How the server is set up.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    connections_max: u32,
    shared_buffers_mb: u32,
    further: Vec<String>,
}

impl Settings {
    pub fn of(options: &Options) -> Self {
        Self {
            connections_max: options.connections_max,
            shared_buffers_mb: options.shared_buffers_mb,
            further: options.settings.clone(),
        }
    }

    fn arguments(&self, data: &Path, port: u16, durability: Durability) -> Vec<OsString> {
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "logging_collector=off".to_owned(),
            "log_destination=stderr".to_owned(),
            format!("max_connections={}", self.connections_max),
            format!("shared_buffers={}MB", self.shared_buffers_mb),
        ];
        let durable = if durability == Durability::Durable { "on" } else { "off" };
        settings.extend(["fsync", "synchronous_commit", "full_page_writes"].map(|name| format!("{name}={durable}")));
        settings.extend(self.further.iter().cloned());
        let mut arguments: Vec<OsString> = ["-D".into(), data.into(), "-p".into(), port.to_string().into()].into();
        arguments.extend(settings.into_iter().flat_map(|setting| ["-c".into(), setting.into()]));
        arguments
    }
}

/// A server that answers.
pub(super) struct Server {
    pub guardian: Guardian,
    pub port: u16,
    pub pid: i32,
}

/// Why the server does not run.
enum Failure {
    /// Another attempt may succeed.
    Passing(anyhow::Error),
    Lasting(anyhow::Error),
}

/// Starts the server on the given port, or on a free one.
pub(super) async fn launch(workplace: &Workplace, settings: &Settings, port: Option<u16>) -> Result<Server> {
    let deadline = Instant::now() + RETRY_MAX;
    forget_reused_pid(&workplace.folder)?;
    loop {
        let port = match port {
            Some(port) => port,
            None => ports::steady_port().context("there is no free port on 127.0.0.1")?,
        };
        match attempt(workplace, settings, port).await {
            Ok(server) => return Ok(server),
            Err(Failure::Passing(reason)) if Instant::now() < deadline => {
                tracing::debug!(port, "starting Postgres again: {reason:#}");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(Failure::Passing(error) | Failure::Lasting(error)) => return Err(error),
        }
    }
}

async fn attempt(workplace: &Workplace, settings: &Settings, port: u16) -> Result<Server, Failure> {
    let data = workplace.folder.data();
    let arguments = settings.arguments(&data, port, workplace.durability);
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let logged = workplace.folder.log_bytes();
    let mut guardian = workplace.run("postgres", &arguments).map_err(Failure::Lasting)?;
    let deadline = Instant::now() + READY_MAX;
    loop {
        if let Some(status) = guardian.ended().map_err(Failure::Lasting)? {
            let log = workplace.folder.log_tail(logged);
            return Err(explain(&format!("Postgres ended at once ({status})"), &log, &workplace.folder));
        }
        if answers(port, &data).await
            && let Some(pid) = workplace.folder.postmaster_pid()
        {
            return Ok(Server { guardian, port, pid });
        }
        if Instant::now() >= deadline {
            let log = workplace.folder.log_tail(logged);
            return Err(Failure::Lasting(anyhow!("Postgres does not answer; the end of its log:\n{log}")));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn explain(what: &str, log: &str, folder: &Folder) -> Failure {
    let path = folder.path().display();
    if log.contains(DATA_IN_USE) {
        let pid = folder.postmaster_pid().map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
        return Failure::Lasting(anyhow!("the data in {path} is in use by another Postgres (process {pid})\n{log}"));
    }
    let error = anyhow!("{what}; the end of its log ({}):\n{log}", folder.log().display());
    if log.contains(PORT_TAKEN) || log.contains(MEMORY_IN_USE) {
        Failure::Passing(error)
    } else {
        Failure::Lasting(error)
    }
}

/// Whether the server on this port is the one with this data.
async fn answers(port: u16, data: &Path) -> bool {
    let served = async {
        let client = databases::connect(port).await?;
        let row = client.query_one("SHOW data_directory", &[]).await?;
        anyhow::Ok(row.try_get::<_, String>(0)?)
    };
    match served.await {
        Ok(served) => Path::new(&served) == data,
        Err(error) => {
            tracing::trace!(port, "Postgres does not answer yet: {error:#}");
            false
        }
    }
}

/// After a crash the number in postmaster.pid may belong to some other program by now, in containers it often does;
/// Postgres would refuse to start. The lock of the folder tells that no server of ours is left.
fn forget_reused_pid(folder: &Folder) -> Result<()> {
    let Some(pid) = folder.postmaster_pid() else { return Ok(()) };
    let Ok(name) = std::fs::read_to_string(format!("/proc/{pid}/comm")) else { return Ok(()) };
    if name.trim() == "postgres" {
        return Ok(());
    }
    tracing::info!(pid, "postmaster.pid is left from a crash, its number now belongs to {}", name.trim());
    let file = folder.data().join("postmaster.pid");
    std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
}

/// Sends a signal to the server itself, not to its guardian.
pub(super) fn signal(pid: i32, signal: rustix::process::Signal) -> Result<()> {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { bail!("Postgres has no process") };
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("cannot send a signal to Postgres"),
    }
}
