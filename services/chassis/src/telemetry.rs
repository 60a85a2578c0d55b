//! Logs to standard error and, where an endpoint is set, traces over OTLP.
//!
//! Nothing personal or secret is ever a field of a span or a log line.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::TelemetryConfig;

/// Sends what is still held when it goes.
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Starts telling. Once per process; a second call in one process keeps the first's settings.
    pub fn start(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<Self> {
        let filter = EnvFilter::try_new(&config.log).context("log: not a filter")?;
        // Below that it prints the parameters of every statement: names, addresses, reasons.
        let filter = filter.add_directive("tokio_postgres=info".parse().context("log filter")?);
        let colours = std::io::stderr().is_terminal();
        let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
        let lines = if config.log_json { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
        let provider = config.otlp_endpoint.as_deref().map(|endpoint| exporter(service, endpoint)).transpose()?;
        let spans = provider.as_ref().map(|provider| {
            let own_traffic = EnvFilter::new("info,h2=off,hyper=off,tonic=off,tower=off,opentelemetry=off");
            tracing_opentelemetry::layer().with_tracer(provider.tracer("countersign")).with_filter(own_traffic)
        });
        // A process that runs several services (standalone) starts this once for all.
        let _ = tracing_subscriber::registry().with(spans).with(lines.with_filter(filter)).try_init();
        Ok(Self(provider))
    }

    /// Sends what is left. Blocks: not from an async task.
    pub fn finish(self) {
        if let Some(provider) = self.0 {
            let _ = provider.shutdown();
        }
    }
}

fn exporter(service: &'static str, endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .context("otlp endpoint: not usable")?;
    let resource = opentelemetry_sdk::Resource::builder().with_service_name(service).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
