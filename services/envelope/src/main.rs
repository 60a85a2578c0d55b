//! The envelope service as a process.

use std::process::ExitCode;

use clap::Parser as _;
use countersign_chassis::clock::Clock;
use countersign_chassis::config::{check_service_token, check_token};
use countersign_chassis::{check, health, process};
use countersign_envelope::config::{Check, Cli, Config, Task};
use countersign_envelope::serve;

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        // Confines itself before anything else is started.
        Task::PaperWorker => Ok(countersign_paper::worker::run()),
        Task::Check(task) => Ok(look(task)),
        task => perform(task).map(|()| ExitCode::SUCCESS),
    }
}

#[tokio::main]
async fn look(task: Check) -> ExitCode {
    check::run(task.check.json, async |print: check::Print<'_>| countersign_envelope::check::check(&task, print).await)
        .await
}

#[tokio::main]
async fn perform(task: Task) -> anyhow::Result<()> {
    match task {
        Task::PaperWorker | Task::Check(_) => Ok(()),
        Task::Serve(config) => run(*config).await,
        Task::Migrate(database) => serve::migrate(&database).await,
        Task::Health(config) => health::check(&config).await,
        Task::NewIncarnation(database) => {
            let incarnation = serve::new_incarnation(&database).await?;
            #[expect(clippy::print_stdout, reason = "the answer to the operator")]
            {
                println!("incarnation {incarnation}");
            }
            Ok(())
        }
        Task::ListPurged(database) => {
            let print = |line: String| {
                #[expect(clippy::print_stdout, reason = "the answer to the operator")]
                {
                    println!("{line}");
                }
            };
            serve::list_purged(&database, print).await
        }
        Task::PurgeAgain(task) => {
            task.keys.check();
            let (done, left) = serve::purge_again(&task.database, &task.keys, &task.list).await?;
            #[expect(clippy::print_stdout, reason = "the answer to the operator")]
            {
                println!("{done} are purged");
                left.iter().for_each(|why| println!("not purged: {why}"));
            }
            anyhow::ensure!(left.is_empty(), "some are not purged");
            Ok(())
        }
        Task::CreateAccount(task) => {
            task.keys.check();
            let account = serve::create_account(&task.database, &task.keys, &task.name, task.live).await?;
            #[expect(clippy::print_stdout, reason = "the answer to the operator")]
            {
                println!("account {}\nkey     {}", account.id, account.api_key);
            }
            Ok(())
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    config.keys.check();
    if let Some(token) = &config.service_token {
        check_service_token(token);
    }
    if let Err(error) = config.check_identities() {
        error.exit();
    }
    if let Err(error) = config.check_document_keys() {
        error.exit();
    }
    if let Err(error) = config.seal.check() {
        error.exit();
    }
    if let Err(error) = config.ingest.converter() {
        error.exit();
    }
    if let Some(key) = &config.operator_key {
        check_token("--operator-key (COUNTERSIGN_OPERATOR_KEY)", key);
    }
    let (listen, telemetry) = (config.listen.clone(), config.telemetry.clone());
    process::run("countersign-envelope", &listen, &telemetry, |listener, stop| {
        serve::serve(config, Clock::database(), listener, stop)
    })
    .await
}
