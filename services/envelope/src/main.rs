//! The envelope service as a process.

use clap::Parser as _;
use countersign_chassis::clock::Clock;
use countersign_chassis::config::check_service_token;
use countersign_chassis::grpc;
use countersign_chassis::telemetry::Telemetry;
use countersign_envelope::config::{Cli, Config, Task};
use countersign_envelope::serve;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    grpc::install_tls_provider();
    match Cli::parse().command {
        Task::Serve(config) => run(config).await,
        Task::Migrate(database) => serve::migrate(&database).await,
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
    check_service_token(&config.service_token);
    let telemetry = Telemetry::start("countersign-envelope", &config.telemetry)?;
    let listener = tokio::net::TcpListener::bind(config.listen.listen).await?;
    // Read by whoever started the process on port 0.
    tracing::info!(address = listener.local_addr()?.to_string(), "serving");
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            grpc::termination().await;
            stop.cancel();
        }
    });
    let served = serve::serve(config, Clock::database(), listener, stop).await;
    tokio::task::spawn_blocking(move || telemetry.finish()).await?;
    served
}
