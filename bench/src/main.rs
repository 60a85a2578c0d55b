//! Benchmarks: what the service does, beside what its database alone does with the same work, in rounds that take turns.
//!
//! Everything runs on this machine and shares its cores: the load, the service and the database.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

mod abuse;
mod bare;
mod child;
mod echo;
mod flood;
mod limit;
mod literal;
mod load;
mod overload;
mod page;
mod refuser;
mod report;
mod running;
mod sample;
mod scripts;
mod sends;
mod settings;
mod sink;
mod stage;
mod streams;
mod tables;
mod tap;
mod telemetry;
mod usage;
mod webhooks;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use countersign_chassis::config::TelemetryConfig;
use countersign_chassis::telemetry::Telemetry;
use tokio::runtime::{Builder, Runtime};

use crate::echo::Echo;
use crate::limit::Amount;
use crate::report::{Job, Report, Round, Section};
use crate::sample::Kind;
use crate::stage::Stage;
use crate::usage::Usage;

/// What the service logs by default; what the bench itself does is told otherwise.
const LOG: &str = "info,countersign_postgres=warn,countersign_chassis=warn,h2=warn,hyper=warn,tower=warn";
/// How long the server's processes may take to end after their clients.
const ENDING: Duration = Duration::from_millis(200);
/// Envelopes that are there for each second, so that no round uses them all up: the service is the slower of the two.
const STOCK_PER_SECOND: [u64; 2] = [2_500, 5_000];
/// The report that `--write` renews.
const REPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");

/// Measures the service against its database on this machine.
#[derive(Parser, Clone, Debug)]
#[command(name = "countersign-bench", bin_name = "cargo bench-all", version)]
struct Cli {
    /// Length of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// How often each measurement is made; the figures are medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=80))]
    rounds: u32,
    /// Calls at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=400))]
    concurrency: u32,
    /// Connections of the load to the service.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// Connections of the service to its database.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100))]
    pool: u32,
    /// Envelopes that lie in the tables besides, to see what size does.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=20_000_000))]
    envelopes: u64,
    /// Envelopes in the tables between which reads are compared.
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000", value_parser = clap::value_parser!(u64).range(1_000..=20_000_000))]
    sizes: Vec<u64>,
    /// Only those parts.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Folder with `pgbench`; without it that of the server, then PATH.
    #[arg(long)]
    pgbench_dir: Option<PathBuf>,
    /// Writes docs/performance.md, or what it says of those parts.
    #[arg(long)]
    write: bool,
}

/// What is measured, in that order: what follows events comes before there are many, what fills tables comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From an event to whom it is posted to.
    Webhooks,
    /// Each call beside pgbench.
    Calls,
    /// From an event to who watches.
    Stream,
    /// One account's sends beside those of many.
    Sends,
    /// What telemetry takes.
    Telemetry,
    /// More calls than can be answered.
    Overload,
    /// Peers who abuse HTTP/2.
    Abuse,
    /// What the size of the tables does.
    Tables,
}

impl Cli {
    fn does(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn main() -> ExitCode {
    let first = std::env::args_os().nth(1);
    // The service that is measured has documents read by this program.
    if first.as_ref().is_some_and(|first| first == countersign_paper::worker::ARGUMENT) {
        return countersign_paper::worker::run();
    }
    let done = if first.is_some_and(|first| first == child::ARGUMENT) { child::run() } else { bench(&Cli::parse()) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("countersign-bench: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(cli: &Cli) -> Result<()> {
    let telemetry = TelemetryConfig::only_logs(LOG);
    let _telemetry = Telemetry::start("countersign-bench", &telemetry)?;
    // A runtime each, so that the kernel accounts for their threads apart.
    let (service, load) = (runtime(usage::SERVICE)?, runtime(usage::LOAD)?);
    let report = load.block_on(run(cli, &service))?;
    println!("\n{}", report.table());
    if cli.write {
        let old = if cli.only.is_empty() { String::new() } else { std::fs::read_to_string(REPORT).context(REPORT)? };
        std::fs::write(REPORT, report.markdown(&old)).context(REPORT)?;
        println!("Written: docs/performance.md");
    }
    Ok(())
}

fn runtime(name: &str) -> Result<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().thread_name(name).build()?)
}

async fn run(cli: &Cli, service: &Runtime) -> Result<Report> {
    let mut copies = Vec::new();
    if cli.does(Part::Telemetry) {
        copies.push(telemetry::DATABASE.to_owned());
    }
    if cli.does(Part::Abuse) {
        copies.push(abuse::DATABASE.to_owned());
    }
    if cli.does(Part::Tables) {
        copies.extend(cli.sizes.iter().map(|size| tables::database(*size)));
    }
    let stage = Stage::start(cli, &copies, service.handle()).await?;
    let measured = parts(cli, &stage).await;
    let settings = stage.settings().await;
    stage.stop().await?;
    let (jobs, sections) = measured?;
    Ok(Report { jobs, sections, database: settings?, cli: cli.clone() })
}

async fn parts(cli: &Cli, stage: &Stage) -> Result<(Vec<Job>, Vec<Section>)> {
    let (mut jobs, mut sections) = (Vec::new(), Vec::new());
    for part in Part::value_variants().iter().filter(|part| cli.does(**part)) {
        let before = Usage::now(stage.postgres_pid())?;
        let section = match part {
            Part::Calls => {
                jobs = measure(cli, stage).await?;
                continue;
            }
            Part::Webhooks => webhooks::measure(cli, stage).await,
            Part::Stream => streams::measure(stage, cli.seconds).await,
            Part::Sends => sends::measure(cli, stage).await,
            Part::Telemetry => telemetry::measure(cli, stage).await,
            Part::Overload => overload::measure(cli, stage).await,
            Part::Abuse => abuse::measure(cli, stage).await,
            Part::Tables => tables::measure(cli, stage).await,
        };
        let mut section = section.with_context(|| format!("{part:?}"))?;
        section.doubt(&Usage::now(stage.postgres_pid())?.since(&before));
        section.verdicts.iter().for_each(|verdict| println!("{verdict}"));
        sections.push(section);
    }
    Ok((jobs, sections))
}

/// The share of pgbench's speed that each should reach.
const TARGETS: [(Kind, Option<f64>); 6] = [
    (Kind::Create, Some(0.80)),
    (Kind::Send, Some(0.60)),
    (Kind::Sign, Some(0.60)),
    (Kind::Decline, Some(0.60)),
    (Kind::Get, Some(0.75)),
    (Kind::List, None),
];

async fn measure(cli: &Cli, stage: &Stage) -> Result<Vec<Job>> {
    let pgbench = limit::find(cli.pgbench_dir.as_deref(), stage).await?;
    let mut jobs: Vec<Job> = TARGETS.iter().map(|(kind, target)| Job::new(*kind, *target)).collect();
    let echo = Echo::of(stage).await?;
    let warm = Cli { seconds: 1, ..cli.clone() };
    for number in 0..=cli.rounds {
        for job in &mut jobs {
            // Connections, statements and caches, for both sides: that round does not count.
            let cli = if number == 0 { &warm } else { cli };
            let mut round = round(cli, stage, job.kind, &pgbench, number).await.with_context(|| job.kind.name())?;
            if job.kind.reads() {
                round.echo = Some(echo.measure(cli, stage, job.kind).await.context("echo")?);
            }
            if number > 0 {
                println!("round {number} of {}: {:<8} {}", cli.rounds, job.kind.name(), round.line());
                job.rounds.push(round);
            }
        }
    }
    Ok(jobs)
}

/// Both sides of a job, one after the other; who goes first changes with each round.
async fn round(cli: &Cli, stage: &Stage, kind: Kind, pgbench: &std::path::Path, number: u32) -> Result<Round> {
    let mut service = None;
    let mut limit = None;
    for service_turn in if number % 2 == 1 { [true, false] } else { [false, true] } {
        let stock = u64::from(cli.seconds) * STOCK_PER_SECOND[usize::from(!service_turn)];
        let numbers = stage.stock(kind, !service_turn, stock).await?;
        stage.settle().await?;
        let before = Usage::now(stage.postgres_pid())?;
        if service_turn {
            let call = stage.call(kind, numbers)?;
            let measured = stage.drive(&call, cli.concurrency, Duration::from_secs(cli.seconds.into())).await?;
            service = Some((measured, Usage::now(stage.postgres_pid())?.since(&before), stage.backlog().await?));
        } else {
            let amount = if kind.uses_up() { Amount::Transactions(stock) } else { Amount::Seconds(cli.seconds) };
            let script = &stage.sample(kind)?.script;
            let measured = limit::run(pgbench, script, &stage.limit_url(), numbers.start, amount).await?;
            // Its backends are counted once they have ended.
            tokio::time::sleep(ENDING).await;
            limit = Some((measured, Usage::now(stage.postgres_pid())?.since(&before)));
        }
    }
    let ((service, service_usage, backlog), (limit, limit_usage)) = service.zip(limit).context("half a round")?;
    Ok(Round { service, service_usage, backlog, limit, limit_usage, echo: None })
}
