//! Asks a running service how it is, by `grpc.health.v1`: for probes and people who have nothing else in the image.
//!
//! Must never show a credential: health is told to everybody.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::tls::{self, PemFile};

/// Whom to ask, and about what.
#[derive(Args, Clone, Debug)]
pub struct HealthConfig {
    /// Address of the service, `http://host:port` or `https://host:port`.
    #[arg(long, default_value = "http://127.0.0.1:50051")]
    pub url: String,
    /// Name of the gRPC service, such as `countersign.v1.EnvelopeService`; without one the process as a whole.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub service: String,
    /// How long the answer may take, connection included, in milliseconds.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub timeout_ms: u64,
    /// PEM file with the CAs by which the service's certificate is verified; without it, the platform's.
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// Name that the certificate has to bear, where it is not the host of the address.
    #[arg(long)]
    pub server_name: Option<String>,
}

/// Ends well if the service says that it is serving.
pub async fn check(config: &HealthConfig) -> anyhow::Result<()> {
    let bound = Duration::from_millis(config.timeout_ms);
    let asked = tokio::time::timeout(bound, ask(config)).await;
    let status = asked.with_context(|| format!("no answer within {} ms", config.timeout_ms))??;
    ensure!(status == ServingStatus::Serving, "{}", status.as_str_name());
    Ok(())
}

async fn ask(config: &HealthConfig) -> anyhow::Result<ServingStatus> {
    let channel = connect(config).await?;
    let request = HealthCheckRequest { service: config.service.clone() };
    let answer = HealthClient::new(channel).check(request).await;
    Ok(answer.map_err(|refused| anyhow!("{:?}: {}", refused.code(), refused.message()))?.into_inner().status())
}

async fn connect(config: &HealthConfig) -> anyhow::Result<Channel> {
    let address: Uri = config.url.parse().context("--url: is not an address")?;
    let connected = match address.scheme_str() {
        Some("http") => Endpoint::from(address).connect().await,
        Some("https") => {
            let none = |setting| PemFile::new(setting, None);
            let ca = PemFile::new("--ca", config.ca.as_deref());
            let tls = tls::client(ca, none("--cert"), none("--key"))?.anonymous;
            let secured = tls.endpoint(&address, config.server_name.as_deref());
            let (endpoint, connector) = secured.context("no certificate can bear that host or name")?;
            endpoint.connect_with_connector(connector).await
        }
        _ => bail!("--url: must begin with https:// or http://"),
    };
    connected.context("no connection")
}
