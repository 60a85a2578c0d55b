//! The envelope service in a process of its own, for settings of which a process has but one set: telemetry.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use countersign_chassis::clock::Clock;
use countersign_chassis::process;
use countersign_envelope::config::{Cli, Config, Task};
use countersign_envelope::serve::serve;
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;
use tokio::process::{Child, Command};

use crate::load::Caller;
use crate::settings::{MASTER_KEY, SERVICE_TOKEN};
use crate::{running, usage};

/// By which this program knows that it is to be the service: what follows is the service's own command line.
pub const ARGUMENT: &str = "envelope-service";
/// How long the service may take until it listens, and to end.
const STARTS_IN: Duration = Duration::from_secs(30);
const ENDS_IN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Is the service until it is told to end.
pub fn run() -> Result<()> {
    let Task::Serve(config) = Cli::try_parse_from(std::env::args_os().skip(1))?.command else {
        bail!("only `serve`");
    };
    let (listen, telemetry) = (config.listen.clone(), config.telemetry.clone());
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(process::run(
        "countersign-envelope",
        &listen,
        &telemetry,
        |listener, stop| serve(*config, Clock::database(), listener, stop),
    ))
}

/// A service in a process of its own.
pub struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    /// With those settings as far as they are given here, the defaults of a deployment for the rest.
    pub async fn start(config: &Config, documents: &Path, more: &[String]) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .arg("serve")
            .arg(format!("--listen={address}"))
            .arg(format!("--database-url={}", config.database.database_url.expose_secret()))
            .arg(format!("--database-pool-max={}", config.database.database_pool_max))
            .arg(format!("--master-key={MASTER_KEY}"))
            .arg(format!("--service-token={SERVICE_TOKEN}"))
            .arg(format!("--log={}", crate::LOG))
            .arg("--documents")
            .arg(documents)
            .arg("--unsealed=true")
            .args(more)
            .kill_on_drop(true)
            .spawn()?;
        let service = Self { child, address };
        let listens = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(STARTS_IN, listens).await.context("the service does not listen")?;
        Ok(service)
    }

    /// So many connections to it, with that key on each.
    pub async fn callers(&self, count: u32, api_key: &str) -> Result<Vec<Caller>> {
        running::callers(self.address, count, api_key).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of memory that it has now, and has had at most.
    pub fn memory(&self) -> [f64; 2] {
        ["VmRSS", "VmHWM"].map(|what| self.child.id().map_or(f64::NAN, |id| usage::memory_bytes(id, what)))
    }

    /// Seconds of processor time that it has used so far.
    pub fn used(&self) -> f64 {
        self.child.id().map_or(0.0, usage::of_process)
    }

    /// Ends it in good order.
    pub async fn stop(mut self) -> Result<()> {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it has ended by itself")?;
        kill_process(id, Signal::TERM)?;
        let ended = tokio::time::timeout(ENDS_IN, self.child.wait()).await.context("the service does not end")??;
        anyhow::ensure!(ended.success(), "the service ended badly: {ended}");
        Ok(())
    }
}
