//! Countersign in one process, for trying it out: `demo` plays its main job, `up` keeps it running.
//! Must never be needed by a deployment that has its own Postgres.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use countersign_chassis::config::TelemetryConfig;
use countersign_chassis::telemetry::Telemetry;
use countersign_postgres::Progress;
use countersign_standalone::{demo, signals, up};
use tokio_util::sync::CancellationToken;

/// Countersign in one process, on a Postgres of its own.
#[derive(Parser, Debug)]
#[command(name = "countersign-standalone", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
    /// What is logged to standard error, as a `tracing` filter.
    #[arg(long, global = true, env = "COUNTERSIGN_LOG", default_value = "warn")]
    log: String,
    /// OTLP over gRPC endpoint for traces; without one none are sent.
    #[arg(long, global = true, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Play the main job on sample contracts: sign, decline, void. Ends by itself.
    Demo(DemoArgs),
    /// Run until Ctrl-C, and keep the data.
    Up(UpArgs),
    /// Read one document on standard input. The service starts itself so.
    #[command(hide = true)]
    PaperWorker,
}

#[derive(Args, Debug)]
struct DemoArgs {
    /// Folder for the signed documents and the mails; without it a new one in the system's temporary folder.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Print one JSON document and nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct UpArgs {
    /// Folder for the data; for root /var/lib/countersign, else countersign in the user's data folder.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Port of the envelope service; another one if it is taken, a free one if it is 0.
    #[arg(long, default_value_t = 50051)]
    envelope_port: u16,
    /// Port of the notifier; another one if it is taken, a free one if it is 0.
    #[arg(long, default_value_t = 50052)]
    notifier_port: u16,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.task, Task::PaperWorker) {
        // Confines itself before anything else is started.
        return countersign_paper::worker::run();
    }
    perform(cli)
}

#[tokio::main]
async fn perform(cli: Cli) -> ExitCode {
    match run(cli).await {
        Ok(code) => code,
        Err(why) => {
            complain(&format!("countersign-standalone: {why:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let stop = signals::stop_on_signal()?;
    let telemetry = TelemetryConfig {
        otlp_endpoint: cli.otlp_endpoint,
        trace_sample_ratio: 1.0,
        ..TelemetryConfig::only_logs(cli.log)
    };
    let telemetry = Telemetry::start("countersign-standalone", &telemetry)?;
    let ended = match cli.task {
        Task::Demo(args) => run_demo(args, &stop).await,
        Task::Up(args) => run_up(args, &stop).await,
        Task::PaperWorker => Ok(ExitCode::SUCCESS),
    };
    tokio::task::spawn_blocking(move || telemetry.finish()).await?;
    ended
}

async fn run_demo(args: DemoArgs, stop: &CancellationToken) -> Result<ExitCode> {
    let json = args.json;
    let progress = Progress::new(move |line| if json { complain(line) } else { say(&format!("    {line}")) });
    let tell = |line: &str| {
        if !json {
            say(line);
        }
    };
    let played = demo::run(args.folder.as_deref(), &tell, progress, stop).await;
    match (&played, json) {
        (Ok(Some(report)), false) => say(&report.text()),
        (Ok(Some(report)), true) => say(&serde_json::to_string_pretty(report)?),
        (Ok(None), false) => complain("Interrupted: everything is stopped."),
        (Ok(None), true) => say(&serde_json::json!({ "ok": false, "error": "interrupted" }).to_string()),
        (Err(_), false) => {}
        (Err(why), true) => say(&serde_json::json!({ "ok": false, "error": format!("{why:#}") }).to_string()),
    }
    Ok(if played?.is_some() { ExitCode::SUCCESS } else { ExitCode::from(signals::INTERRUPTED) })
}

async fn run_up(args: UpArgs, stop: &CancellationToken) -> Result<ExitCode> {
    let options = up::Options {
        data: args.data.map_or_else(up::default_data, Ok)?,
        envelope_port: args.envelope_port,
        notifier_port: args.notifier_port,
        progress: Progress::new(complain),
    };
    up::run(options, &say, stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// What the person at the keyboard asked for. Whoever closed the pipe does not want to hear more.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{}", line.trim_end());
}

/// What the person at the keyboard has to know besides.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
