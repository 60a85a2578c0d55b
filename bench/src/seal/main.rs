//! How fast papers are sealed, beside pyHanko, libpdf and signpdf, in rounds that take turns.
//!
//! Each program runs in a process of its own, warm, with one paper at a time, bytes in and bytes out. It must never compare
//! programs with different work: all of them read the same paper and sign it once with the same key, and where values and a
//! certificate are drawn, they are the same words in the same fonts.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

mod ours;
mod report;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::report::Report;

/// The report that `--write` renews.
const REPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance-sealing.md");
/// Where the programs that ours is compared with are described.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
/// The papers, smallest first.
pub const PAPERS: [&str; 3] = ["1-page", "10-pages", "10-mb"];
/// The passphrase of the key made for the measurements.
const PASSPHRASE: &str = "secret";

/// Measures how fast papers are sealed.
#[derive(Parser, Clone, Debug)]
#[command(name = "countersign-bench-seal", bin_name = "cargo bench-seal", version)]
struct Cli {
    /// Length of each measurement.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// How often each measurement is made; the figures are medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=80))]
    rounds: u32,
    /// Where the other programs are installed; made if it is not there.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Writes docs/performance-sealing.md.
    #[arg(long)]
    write: bool,
    #[command(subcommand)]
    command: Option<Task>,
}

#[derive(Subcommand, Clone, Debug)]
enum Task {
    /// One measurement of ours, in this process.
    #[command(hide = true)]
    Ours { work: ours::Work, key: Key, folder: PathBuf, paper: PathBuf, seconds: f64, out: PathBuf },
}

/// What one measurement gave.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Papers sealed.
    documents: u64,
    /// Time that took.
    seconds: f64,
    /// Processor time that took.
    cpu_seconds: f64,
    /// Most memory of the process.
    peak_mib: f64,
}

/// What is signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Key {
    /// RSA of 2,048 bits.
    Rsa,
    /// ECDSA on P-256.
    P256,
}

impl Key {
    /// As its files are named, and as the command line says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::P256 => "p256",
        }
    }
}

/// Who seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Countersign.
    Ours(ours::Work, Key),
    /// pyHanko.
    PyHanko(Key),
    /// `@libpdf/core`.
    LibPdf(Asked, Key),
    /// `@signpdf/signpdf`, which takes RSA alone.
    SignPdf,
}

/// What `@libpdf/core` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To sign a paper as it is.
    Seal,
    /// Values and a certificate in the fonts that Countersign embeds, and to sign it all.
    Complete,
    /// The same in fonts that every reader is supposed to have, so that none is embedded.
    CompleteUnembedded,
}

impl Asked {
    /// As the command line of `peers/libpdf.mjs` says it.
    fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Complete => "embedded",
            Self::CompleteUnembedded => "standard",
        }
    }
}

/// All of them, in the order of the report.
pub const TOOLS: [Tool; 11] = [
    Tool::Ours(ours::Work::Seal, Key::Rsa),
    Tool::Ours(ours::Work::Prepared, Key::Rsa),
    Tool::PyHanko(Key::Rsa),
    Tool::SignPdf,
    Tool::LibPdf(Asked::Seal, Key::Rsa),
    Tool::Ours(ours::Work::Seal, Key::P256),
    Tool::PyHanko(Key::P256),
    Tool::LibPdf(Asked::Seal, Key::P256),
    Tool::Ours(ours::Work::Complete, Key::Rsa),
    Tool::LibPdf(Asked::Complete, Key::Rsa),
    Tool::LibPdf(Asked::CompleteUnembedded, Key::Rsa),
];

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Task::Ours { work, key, folder, paper, seconds, out }) => {
            ours::run(*work, *key, folder, paper, *seconds, out)
        }
        None => bench(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("countersign-bench-seal: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(cli: &Cli) -> Result<()> {
    let folder = cli.folder.clone().map_or_else(cache, Ok)?;
    let ready = Command::new(Path::new(PEERS).join("setup.sh")).arg(&folder).status().context("setup.sh")?;
    ensure!(
        ready.success(),
        "the other programs could not be installed: python3 with venv, node with npm and openssl are needed"
    );
    let mut report = Report::default();
    for round in 0..cli.rounds {
        for paper in PAPERS {
            for turn in 0..TOOLS.len() {
                // Whoever goes first changes with each round.
                let tool = TOOLS[(turn + round as usize) % TOOLS.len()];
                let measured = measure(tool, &folder, paper, cli.seconds)?;
                println!("round {} of {}: {paper:<8} {}", round + 1, cli.rounds, measured.line(tool));
                report.add(tool, paper, measured);
            }
        }
    }
    println!("\n{}", report.table());
    if cli.write {
        std::fs::write(REPORT, report.markdown(cli.seconds, cli.rounds)).context(REPORT)?;
        println!("Written: docs/performance-sealing.md");
    }
    Ok(())
}

/// Beside what other programs keep to be found again.
fn cache() -> Result<PathBuf> {
    let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(home
        .context("neither XDG_CACHE_HOME nor HOME is set: --folder says where to install")?
        .join("countersign-bench"))
}

fn measure(tool: Tool, folder: &Path, paper: &str, seconds: u32) -> Result<Measured> {
    let (pdf, out) = (folder.join(format!("{paper}.pdf")), folder.join("out.pdf"));
    let seconds = seconds.to_string();
    let peer = |program: &Path, script: &str, key: String| {
        let mut command = Command::new(program);
        command.arg(folder.join(script)).arg(&pdf).arg(folder.join(key)).args([PASSPHRASE, &seconds]).arg(&out);
        command
    };
    let (python, node) = (folder.join("venv/bin/python"), Path::new("node"));
    let mut command = match tool {
        Tool::Ours(work, key) => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["ours", work.name(), key.name()]).arg(folder).arg(&pdf).arg(&seconds).arg(&out);
            command
        }
        Tool::PyHanko(key) => peer(&python, "pyhanko_seal.py", format!("{}.p12", key.name())),
        // What the JavaScript programs read is encrypted the old way.
        Tool::SignPdf => peer(node, "signpdf.mjs", "rsa-legacy.p12".to_owned()),
        Tool::LibPdf(asked, key) => {
            let mut command = peer(node, "libpdf.mjs", format!("{}-legacy.p12", key.name()));
            command.arg(asked.name());
            command
        }
    };
    let output = command.output().with_context(|| format!("{tool:?}"))?;
    ensure!(output.status.success(), "{tool:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(|| format!("the answer of {tool:?}"))
}
