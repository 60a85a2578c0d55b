//! The load: callers that each wait for an answer before they ask again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use countersign::v1::account_service_client::AccountServiceClient;
use countersign::v1::envelope_service_client::EnvelopeServiceClient;
use countersign::v1::signer_service_client::SignerServiceClient;
use countersign::v1::{
    CreateEnvelopeRequest, DeclineRequest, GetEnvelopeRequest, ListEnvelopesRequest, SendEnvelopeRequest, SignRequest,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A page of a list.
pub const PAGE: i32 = 50;

/// Puts a credential into each call.
#[derive(Clone)]
pub struct Bearer(pub MetadataValue<Ascii>);

impl Bearer {
    fn of(token: &str) -> Result<Self, Status> {
        let value = format!("Bearer {token}").parse().map_err(|_| Status::internal("a token that is no header"))?;
        Ok(Self(value))
    }
}

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A client with a credential.
pub type Client = EnvelopeServiceClient<InterceptedService<Channel, Bearer>>;

/// A connection, and the sender's credential on it.
#[derive(Clone)]
pub struct Caller {
    channel: Channel,
    bearer: Bearer,
    /// The sender.
    pub sender: Client,
}

impl Caller {
    /// A sender on that connection.
    pub fn new(channel: Channel, api_key: &str) -> Result<Self> {
        let bearer = Bearer::of(api_key)?;
        let sender = EnvelopeServiceClient::with_interceptor(channel.clone(), bearer.clone());
        Ok(Self { channel, bearer, sender })
    }

    /// The same connection with another key.
    pub fn with_key(&self, api_key: &str) -> Result<Self> {
        Self::new(self.channel.clone(), api_key)
    }

    /// The sender's account.
    pub fn accounts(&self) -> AccountServiceClient<InterceptedService<Channel, Bearer>> {
        AccountServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    fn signer(&self, token: &str) -> Result<SignerServiceClient<InterceptedService<Channel, Bearer>>, Status> {
        Ok(SignerServiceClient::with_interceptor(self.channel.clone(), Bearer::of(token)?))
    }
}

/// Ids or tokens of which each is good for one call.
#[derive(Clone)]
pub struct Stock {
    of: Arc<[String]>,
    used: Arc<AtomicUsize>,
}

impl Stock {
    /// A full one.
    pub fn new(of: Vec<String>) -> Self {
        Self { of: of.into(), used: Arc::default() }
    }

    /// All of them, for those who use none up.
    pub fn into_names(self) -> Arc<[String]> {
        self.of
    }

    fn take(&self) -> Option<&str> {
        self.of.get(self.used.fetch_add(1, Ordering::Relaxed)).map(String::as_str)
    }
}

/// What is called again and again.
#[derive(Clone)]
pub enum Call {
    /// CreateEnvelope with that request.
    Create(Box<CreateEnvelopeRequest>),
    /// GetEnvelope of one of those, by chance.
    Get(Arc<[String]>),
    /// ListEnvelopes: the first page.
    List,
    /// ListEnvelopes with one of those filters, by chance.
    Find(Arc<[ListEnvelopesRequest]>),
    /// SendEnvelope of each of those.
    Send(Stock),
    /// Sign with each of those tokens.
    Sign(Stock, SignRequest),
    /// Decline with each of those tokens.
    Decline(Stock),
}

impl Call {
    /// One call; false if there is nothing left to call.
    pub async fn once(&self, caller: &mut Caller) -> Result<bool, Status> {
        let sender = &mut caller.sender;
        match self {
            Self::Create(request) => drop(sender.create_envelope(request.as_ref().clone()).await?),
            Self::Get(ids) => {
                let envelope_id = ids[rand::random_range(0..ids.len())].clone();
                let request = GetEnvelopeRequest { envelope_id, ..GetEnvelopeRequest::default() };
                drop(sender.get_envelope(request).await?);
            }
            Self::List => {
                let request = ListEnvelopesRequest { page_size: PAGE, ..ListEnvelopesRequest::default() };
                drop(sender.list_envelopes(request).await?);
            }
            Self::Find(requests) => {
                let request = requests[rand::random_range(0..requests.len())].clone();
                drop(sender.list_envelopes(ListEnvelopesRequest { page_size: PAGE, ..request }).await?);
            }
            Self::Send(stock) => {
                let Some(id) = stock.take() else { return Ok(false) };
                let request = SendEnvelopeRequest { envelope_id: id.to_owned(), ..SendEnvelopeRequest::default() };
                drop(sender.send_envelope(request).await?);
            }
            Self::Sign(stock, request) => {
                let Some(token) = stock.take() else { return Ok(false) };
                drop(caller.signer(token)?.sign(request.clone()).await?);
            }
            Self::Decline(stock) => {
                let Some(token) = stock.take() else { return Ok(false) };
                let request = DeclineRequest { reason: "No.".to_owned(), ..DeclineRequest::default() };
                drop(caller.signer(token)?.decline(request).await?);
            }
        }
        Ok(true)
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

/// The milliseconds in which 50, 95 and 99 percent of them came.
pub fn percentiles_ms(mut latencies: Vec<Duration>) -> [f64; 3] {
    latencies.sort_unstable();
    [50, 95, 99].map(|percent: usize| {
        let rank = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
        latencies.get(rank).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    })
}

/// Calls for that long or until there is nothing left to call, `count` at a time. The first error ends it.
pub async fn drive(callers: &[Caller], call: &Call, count: u32, length: Duration) -> Result<Measured> {
    let callers = callers.iter().cycle().take(count as usize).cloned();
    drive_each(callers.map(|caller| (caller, call.clone())).collect(), length).await
}

/// The same, with a call for each caller.
pub async fn drive_each(callers: Vec<(Caller, Call)>, length: Duration) -> Result<Measured> {
    let start = Instant::now();
    let deadline = start + length;
    let mut tasks = tokio::task::JoinSet::new();
    for (mut caller, call) in callers {
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            let mut asked = Instant::now();
            while asked < deadline && call.once(&mut caller).await? {
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
    let (took, calls) = (start.elapsed(), latencies.len() as f64);
    Ok(Measured { calls, per_second: calls / took.as_secs_f64(), percentiles_ms: percentiles_ms(latencies) })
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(lower), values.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => f64::NAN,
    }
}
