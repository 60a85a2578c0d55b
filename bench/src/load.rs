//! The load: callers that each wait for an answer before they ask again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use countersign::v1::envelope_service_client::EnvelopeServiceClient;
use countersign::v1::{CreateEnvelopeRequest, GetEnvelopeRequest};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Puts the API key into each call.
#[derive(Clone)]
pub struct Bearer(pub MetadataValue<Ascii>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A client with an API key.
pub type Client = EnvelopeServiceClient<InterceptedService<Channel, Bearer>>;

/// What is called again and again.
#[derive(Clone)]
pub enum Call {
    /// CreateEnvelope with that request.
    Create(Box<CreateEnvelopeRequest>),
    /// GetEnvelope of one of those, by chance.
    Get(Arc<[String]>),
}

impl Call {
    async fn once(&self, client: &mut Client) -> Result<(), Status> {
        match self {
            Self::Create(request) => client.create_envelope(request.as_ref().clone()).await.map(drop),
            Self::Get(ids) => {
                let envelope_id = ids[rand::random_range(0..ids.len())].clone();
                client.get_envelope(GetEnvelopeRequest { envelope_id, ..GetEnvelopeRequest::default() }).await.map(drop)
            }
        }
    }
}

/// What callers saw.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Answers.
    pub calls: f64,
    /// Answers in a second.
    pub per_second: f64,
    /// Milliseconds in which 50, 95 and 99 percent of the answers came.
    pub percentiles_ms: [f64; 3],
}

/// Calls for that long, `callers` at a time. The first error ends it.
pub async fn drive(clients: &[Client], call: &Call, callers: u32, length: Duration) -> Result<Measured> {
    let start = Instant::now();
    let deadline = start + length;
    let mut tasks = tokio::task::JoinSet::new();
    for mut client in clients.iter().cycle().take(callers as usize).cloned() {
        let call = call.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            let mut asked = Instant::now();
            while asked < deadline {
                call.once(&mut client).await?;
                let answered = Instant::now();
                latencies.push(answered - asked);
                asked = answered;
            }
            Ok::<_, Status>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended?.context("a call failed")?);
    }
    let took = start.elapsed();
    latencies.sort_unstable();
    let at = |percent: usize| {
        let rank = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
        latencies.get(rank).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    };
    let calls = latencies.len() as f64;
    Ok(Measured { calls, per_second: calls / took.as_secs_f64(), percentiles_ms: [at(50), at(95), at(99)] })
}
