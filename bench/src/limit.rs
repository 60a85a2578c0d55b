//! The limit: pgbench with the same work, straight at the database.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::stage::Stage;

/// Clients and threads of pgbench.
pub const CLIENTS: (u32, u32) = (16, 2);

/// A script of pgbench and the database that it is for.
pub struct Script {
    file: NamedTempFile,
    url: String,
    runs: std::cell::Cell<u32>,
}

impl Script {
    /// Keeps it in a file.
    pub fn new(text: &str, url: String) -> Result<Self> {
        let mut file = NamedTempFile::with_suffix(".sql")?;
        file.write_all(text.as_bytes())?;
        Ok(Self { file, url, runs: std::cell::Cell::new(0) })
    }
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

/// Runs the script for that long.
pub async fn run(pgbench: &Path, script: &Script, seconds: u32) -> Result<Limit> {
    let run = script.runs.replace(script.runs.get() + 1);
    let output = Command::new(pgbench)
        .args(["--no-vacuum", "--protocol=prepared"])
        .arg(format!("--client={}", CLIENTS.0))
        .arg(format!("--jobs={}", CLIENTS.1))
        .arg(format!("--time={seconds}"))
        .arg(format!("--define=run={run}"))
        .arg("--define=n=0")
        .arg("--file")
        .arg(script.file.path())
        .arg(&script.url)
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
        rest.split_whitespace().next()?.parse::<f64>().ok()
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
