//! The notifier as a process.

use std::process::ExitCode;

use clap::Parser as _;
use countersign_chassis::check::Print;
use countersign_chassis::clock::Clock;
use countersign_chassis::config::check_service_token;
use countersign_chassis::{check, health, process};
use countersign_notifier::config::{Cli, Config, Task};
use countersign_notifier::envelopes::Envelopes;
use countersign_notifier::serve;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Task::Serve(config) => run(config).await?,
        Task::Migrate(database) => serve::migrate(&database).await?,
        Task::Health(config) => health::check(&config).await?,
        Task::Check(task) => {
            let look = async |print: Print<'_>| countersign_notifier::check::check(&task, print).await;
            return Ok(check::run(task.json, look).await);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(config: Config) -> anyhow::Result<()> {
    config.keys.check();
    if let Some(token) = &config.service_token {
        check_service_token(token);
    }
    if let Err(error) = Envelopes::new(&config) {
        error.exit();
    }
    let (listen, telemetry) = (config.listen.clone(), config.telemetry.clone());
    process::run("countersign-notifier", &listen, &telemetry, |listener, stop| {
        serve::serve(config, Clock::database(), listener, stop)
    })
    .await
}
