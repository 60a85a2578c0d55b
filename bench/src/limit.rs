//! The limit: pgbench with the same work, straight at the database.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::stage::Stage;

/// Clients and threads of pgbench.
pub const CLIENTS: (u32, u32) = (16, 2);

/// How much of it is run.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// For so many seconds.
    Seconds(u32),
    /// As many transactions as there are envelopes to use up.
    Transactions(u64),
}

/// What pgbench saw.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Transactions.
    pub transactions: f64,
    /// Transactions in a second.
    pub per_second: f64,
    /// Their mean latency in milliseconds.
    pub latency_ms: f64,
}

/// The path of pgbench, of the server's own version if it is there.
pub async fn find(folder: Option<&Path>, stage: &Stage) -> Result<PathBuf> {
    if let Some(folder) = folder {
        return Ok(folder.join("pgbench"));
    }
    let beside = Path::new(&stage.text("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await?).join("pgbench");
    Ok(if beside.is_file() { beside } else { "pgbench".into() })
}

/// Runs a script on the envelopes from that number on.
pub async fn run(pgbench: &Path, script: &str, url: &str, first: u64, amount: Amount) -> Result<Limit> {
    let mut file = NamedTempFile::with_suffix(".sql")?;
    file.write_all(script.as_bytes())?;
    let output = Command::new(pgbench)
        .args(["--no-vacuum", "--protocol=prepared"])
        .arg(format!("--client={}", CLIENTS.0))
        .arg(format!("--jobs={}", CLIENTS.1))
        .arg(match amount {
            Amount::Seconds(seconds) => format!("--time={seconds}"),
            Amount::Transactions(count) => format!("--transactions={}", count / u64::from(CLIENTS.0)),
        })
        .arg(format!("--define=first={first}"))
        .arg("--define=n=0")
        .arg("--file")
        .arg(file.path())
        .arg(url)
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}; it comes with PostgreSQL's server package", pgbench.display()))?;
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("pgbench failed: {}", wrong.trim());
    }
    let number = |before: &str| {
        let (_, rest) = told.split_once(before)?;
        // `17` or, of so many, `17/20`.
        rest.split([' ', '\n', '/']).next()?.parse::<f64>().ok()
    };
    if number("number of failed transactions: ").is_some_and(|failed| failed > 0.0) {
        bail!("pgbench had failed transactions: {told}");
    }
    let limit = || {
        Some(Limit {
            transactions: number("number of transactions actually processed: ")?,
            per_second: number("tps = ")?,
            latency_ms: number("latency average = ")?,
        })
    };
    limit().with_context(|| format!("pgbench said something else: {told}"))
}
