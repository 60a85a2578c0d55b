//! Logs to standard error, metrics to be scraped, and, where an endpoint is set, traces, metrics and logs over OTLP.
//!
//! Nothing personal or secret is ever a field of a span, a metric or a log line. What is sent over OTLP is never itself told of
//! over OTLP, and a collector that is away costs what it was to be told, and nothing else.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{KeyValue, global};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use prometheus::Registry;
use tonic::transport::ClientTlsConfig;
use tracing::Metadata;
use tracing::subscriber::Interest;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::TelemetryConfig;
use crate::logs::Json;
use crate::metrics;
use crate::scrape::Scrape;

/// Target of spans with which work begins: each has a trace, of its caller or its own, and there it is decided whether it is told.
pub const ROOT: &str = "countersign::root";
/// Target of spans within it: there are none where nobody is told.
pub const WITHIN: &str = "countersign::within";
/// How long what is still held may take to be sent at the end, of each kind.
const LAST_WORDS_MAX: Duration = Duration::from_secs(3);

/// Sends what is still held when it goes.
pub struct Telemetry {
    traces: SdkTracerProvider,
    metrics: Option<SdkMeterProvider>,
    logs: Option<SdkLoggerProvider>,
    scrape: Option<Scrape>,
}

impl Telemetry {
    /// Starts telling. Once per process; a second call in one process keeps the first's settings.
    pub fn start(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<Self> {
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
            ])
            .build();
        let endpoint = config.otlp_endpoint.as_deref();
        let traces = tracer(endpoint, config.trace_sample_ratio, resource.clone())?;
        let logs = endpoint.map(|endpoint| logger(endpoint, resource.clone())).transpose()?;
        let colours = std::io::stderr().is_terminal();
        let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
        let lines = if config.log_json {
            lines.with_ansi(false).fmt_fields(JsonFields::new()).event_format(Json).boxed()
        } else {
            lines.boxed()
        };
        let spans = tracing_opentelemetry::layer()
            .with_tracer(traces.tracer("countersign"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_level(false)
            .with_target(false)
            .with_filter(Sampled);
        let sent = logs.as_ref().map(OpenTelemetryTracingBridge::new).map(|sent| anyhow::Ok((sent, filter(config)?)));
        let sent = sent.transpose()?.map(|(sent, filter)| {
            // Of its own traffic nothing is sent, or it would never end.
            let own = ["h2", "hyper", "hyper_util", "tonic", "tower", "opentelemetry"].map(|of| format!("{of}=off"));
            let own = own.iter().filter_map(|own| own.parse().ok());
            sent.with_filter(own.fold(filter, EnvFilter::add_directive))
        });
        // The spans first: they say in which trace the others speak. A process that runs several services (standalone) starts
        // this once for all.
        let lines = lines.with_filter(filter(config)?);
        let _ = tracing_subscriber::registry().with(spans).with(lines).with(sent).try_init();
        let (metrics, scrape) = measure(config, resource)?;
        Ok(Self { traces, metrics, logs, scrape })
    }

    /// Where metrics can be scraped.
    #[must_use]
    pub fn scraped_at(&self) -> Option<SocketAddr> {
        self.scrape.as_ref().map(Scrape::address)
    }

    /// Sends what is left, as far as that is possible within seconds. Blocks: not from an async task.
    pub fn finish(self) {
        let Self { traces, metrics, logs, scrape } = self;
        // At once: each of them may be waiting for the same collector.
        std::thread::scope(|all| {
            all.spawn(|| traces.shutdown_with_timeout(LAST_WORDS_MAX));
            all.spawn(|| logs.map(|logs| logs.shutdown_with_timeout(LAST_WORDS_MAX)));
            all.spawn(|| metrics.map(|metrics| metrics.shutdown_with_timeout(LAST_WORDS_MAX)));
        });
        drop(scrape);
    }
}

/// What is logged, as the settings say.
fn filter(config: &TelemetryConfig) -> anyhow::Result<EnvFilter> {
    let filter = EnvFilter::try_new(&config.log).context("log: not a filter")?;
    // Below that it prints the parameters of every statement: names, addresses, reasons.
    let filter = filter.add_directive("tokio_postgres=info".parse().context("log filter")?);
    Ok(filter.add_directive(format!("{WITHIN}=off").parse().context("log filter")?))
}

/// An exporter to that endpoint: at `https://` over TLS, verified by the platform's CAs (or those that `SSL_CERT_FILE` names).
fn to<B: WithExportConfig + WithTonicConfig>(endpoint: &str, exporter: B) -> B {
    let exporter = exporter.with_endpoint(endpoint);
    if !endpoint.starts_with("https://") {
        return exporter;
    }
    crate::grpc::install_tls_provider();
    exporter.with_tls_config(ClientTlsConfig::new().with_native_roots())
}

/// Whoever calls decides whether a trace is told; where nobody did, one in so many is. Without an endpoint traces are only
/// handed on.
fn tracer(endpoint: Option<&str>, ratio: f64, resource: Resource) -> anyhow::Result<SdkTracerProvider> {
    let own = if endpoint.is_some() { Sampler::TraceIdRatioBased(ratio) } else { Sampler::AlwaysOff };
    let provider =
        SdkTracerProvider::builder().with_resource(resource).with_sampler(Sampler::ParentBased(Box::new(own)));
    let Some(endpoint) = endpoint else { return Ok(provider.build()) };
    let exporter = to(endpoint, SpanExporter::builder().with_tonic()).build();
    Ok(provider.with_batch_exporter(exporter.context("otlp endpoint: not usable")?).build())
}

fn logger(endpoint: &str, resource: Resource) -> anyhow::Result<SdkLoggerProvider> {
    let exporter = to(endpoint, LogExporter::builder().with_tonic()).build();
    let exporter = exporter.context("otlp endpoint: not usable")?;
    Ok(SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

/// What is counted, for whoever scrapes and whoever is sent it; nothing is counted for nobody.
fn measure(config: &TelemetryConfig, resource: Resource) -> anyhow::Result<(Option<SdkMeterProvider>, Option<Scrape>)> {
    if config.metrics_listen.is_none() && config.otlp_endpoint.is_none() {
        return Ok((None, None));
    }
    let mut provider = SdkMeterProvider::builder().with_resource(resource);
    let mut scrape = None;
    if let Some(address) = config.metrics_listen {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false);
        provider = provider.with_reader(reader.build().context("metrics")?);
        scrape = Some(Scrape::open(address, registry)?);
    }
    if let Some(endpoint) = &config.otlp_endpoint {
        let exporter = to(endpoint, MetricExporter::builder().with_tonic()).build();
        provider = provider.with_periodic_exporter(exporter.context("otlp endpoint: not usable")?);
    }
    let provider = provider.build();
    global::set_meter_provider(provider.clone());
    metrics::declare();
    Ok((Some(provider), scrape))
}

/// Lets spans through to the tracer: where work begins always, as it is the tracer who decides then, and within only where it
/// has decided to tell. So a call that nobody is told of costs one span, whatever happens in it.
struct Sampled;

impl<S> Filter<S> for Sampled {
    fn enabled(&self, span: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        let is_told = || opentelemetry::Context::map_current(|current| current.span().span_context().is_sampled());
        span.is_span() && (span.target() == ROOT || (span.target() == WITHIN && is_told()))
    }

    fn callsite_enabled(&self, span: &'static Metadata<'static>) -> Interest {
        match span.target() {
            ROOT if span.is_span() => Interest::always(),
            WITHIN if span.is_span() => Interest::sometimes(),
            _ => Interest::never(),
        }
    }

    /// Without it the process takes itself to want everything, and whatever libraries say at their finest is made to be dropped.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }
}
