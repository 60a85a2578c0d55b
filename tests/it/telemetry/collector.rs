//! A collector: takes down whatever is sent to it over OTLP, as the services' own would.

use std::sync::{Arc, Mutex};

use countersign_test_support::certificates::Issued;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

#[derive(Clone, Default)]
pub struct Collector {
    taken: Arc<Mutex<Taken>>,
    pub endpoint: String,
}

#[derive(Default)]
struct Taken {
    spans: Vec<(String, Span)>,
    logs: Vec<LogRecord>,
    metrics: Vec<String>,
    bytes: Vec<u8>,
}

pub fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|it| it.key == name)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

impl Collector {
    pub async fn start() -> Self {
        Self::start_by(Server::builder(), "http").await
    }

    /// One that bears that certificate, of `localhost`.
    pub async fn start_over_tls(issued: &Issued) -> Self {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(&issued.cert, &issued.key));
        Self::start_by(Server::builder().tls_config(tls).unwrap(), "https").await
    }

    async fn start_by(mut server: Server, scheme: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let collector = Self { taken: Arc::default(), endpoint };
        let server = server
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        collector
    }

    /// Spans, with the service that they are of.
    pub fn spans(&self) -> Vec<(String, Span)> {
        self.taken.lock().unwrap().spans.clone()
    }

    pub fn logs(&self) -> Vec<LogRecord> {
        self.taken.lock().unwrap().logs.clone()
    }

    /// Names of metrics.
    pub fn metrics(&self) -> Vec<String> {
        self.taken.lock().unwrap().metrics.clone()
    }

    /// All that came, as it travelled.
    pub fn bytes(&self) -> Vec<u8> {
        self.taken.lock().unwrap().bytes.clone()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        let mut taken = self.taken.lock().unwrap();
        taken.bytes.extend(request.encode_to_vec());
        for of in request.resource_spans {
            let attributes = of.resource.unwrap_or_default().attributes;
            let service = text(&attributes, "service.name").unwrap_or_default();
            for attribute in ["service.version", "service.instance.id"] {
                assert!(text(&attributes, attribute).is_some(), "{service} has no {attribute}");
            }
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            taken.spans.extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let request = request.into_inner();
        let mut taken = self.taken.lock().unwrap();
        taken.bytes.extend(request.encode_to_vec());
        let scopes = request.resource_logs.into_iter().flat_map(|of| of.scope_logs);
        taken.logs.extend(scopes.flat_map(|scope| scope.log_records));
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let request = request.into_inner();
        let mut taken = self.taken.lock().unwrap();
        taken.bytes.extend(request.encode_to_vec());
        let scopes = request.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
        taken.metrics.extend(scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name));
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
