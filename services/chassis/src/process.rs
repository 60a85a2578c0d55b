//! A service as a process: telemetry, the listener, and a stop at SIGTERM or Ctrl-C.

use std::future::Future;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{ListenConfig, TelemetryConfig};
use crate::grpc;
use crate::telemetry::Telemetry;
use crate::tls::ServerTls;

/// Runs `serve` on the address of the settings until the process is told to end.
pub async fn run<F: Future<Output = anyhow::Result<()>>>(
    service: &'static str,
    listen: &ListenConfig,
    telemetry: &TelemetryConfig,
    serve: impl FnOnce(TcpListener, CancellationToken) -> F,
) -> anyhow::Result<()> {
    grpc::install_tls_provider();
    if let Err(error) = ServerTls::open(&listen.tls) {
        error.exit();
    }
    let telemetry = Telemetry::start(service, telemetry)?;
    let listener = TcpListener::bind(listen.listen).await.with_context(|| format!("listen: {}", listen.listen))?;
    // Read by whoever started the process on port 0.
    tracing::info!(address = listener.local_addr()?.to_string(), "serving");
    if let Some(address) = telemetry.scraped_at() {
        tracing::info!(at = address.to_string(), "metrics can be scraped");
    }
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            grpc::termination().await;
            stop.cancel();
        }
    });
    let served = serve(listener, stop).await;
    tokio::task::spawn_blocking(move || telemetry.finish()).await?;
    served
}
