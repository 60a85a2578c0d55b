//! Webhooks: from an event that is committed to its delivery that is recorded.
//!
//! The service, the notifier and who takes the webhooks run in this process, on threads that the kernel accounts for apart.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use countersign::v1::CreateWebhookEndpointRequest;
use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign_notifier::config::Config;
use countersign_notifier::serve::migrate;
use tokio::runtime::Runtime;
use tonic::Request;

use crate::load::percentiles_ms;
use crate::report::{Section, met, pipes};
use crate::running::Running;
use crate::sample::Kind;
use crate::sink::{self, Sink, Taken};
use crate::stage::{Stage, connect};
use crate::usage::Usage;
use crate::{Cli, settings, streams, usage};

/// The notifier's database.
const DATABASE: &str = "notifier";
/// Deliveries that svix-server makes in a second, by measurements of 2 cores with PostgreSQL and one endpoint, and how many
/// times that is wanted.
const SVIX: (f64, f64, f64) = (1_080.0, 1_370.0, 3.0);
/// Microseconds of processor time that a delivery may take, ours and the database's.
const MICROS_MAX: f64 = 250.0;
/// Events in a second while latency is looked at.
const RATE: u64 = 200;
/// Endpoints to which each event goes: one, as it was with svix-server, then several.
const ENDPOINTS: [usize; 2] = [1, 8];
/// Connections of the bare client.
const BARE_CONNECTIONS: usize = 8;
/// How often it is looked how far things are, and how long they may take at most.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const DONE_IN: Duration = Duration::from_secs(300);

/// The notifier, and who takes what it posts.
struct Post<'a> {
    stage: &'a Stage,
    config: Config,
    runtime: Option<Runtime>,
    database: tokio_postgres::Client,
    sink: Sink,
}

impl Drop for Post<'_> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a backlog showed that was worked off.
struct Drained {
    endpoints: usize,
    deliveries: usize,
    per_second: f64,
    connections: usize,
    usage: Usage,
}

impl Drained {
    fn micros(&self, of: impl Fn(&Usage) -> f64) -> f64 {
        1e6 * of(&self.usage) / self.deliveries as f64
    }

    /// Of the service, the notifier and the database.
    fn total(&self) -> f64 {
        self.micros(|it| it.service + it.notifier + it.postgres)
    }
}

/// Measures all of it.
pub async fn measure(cli: &Cli, stage: &Stage) -> Result<Section> {
    let post = Post::new(cli, stage).await?;
    let [one, several] = ENDPOINTS;
    post.register(0..one).await?;
    let lags = post.latencies(cli.seconds).await?;
    let (alone, bodies) = post.drain(cli, one).await?;
    post.register(one..several).await?;
    let (together, _) = post.drain(cli, several).await?;
    let length = Duration::from_secs(cli.seconds.into());
    let address = post.sink.addresses.first().context("no port")?;
    let bare = sink::post(*address, &bodies, BARE_CONNECTIONS, length).await?;
    Ok(section(&[alone, together], lags, bare))
}

impl<'a> Post<'a> {
    async fn new(cli: &Cli, stage: &'a Stage) -> Result<Self> {
        stage.postgres().create_database(DATABASE).await?;
        let database = settings::database(stage.postgres(), DATABASE, cli.pool);
        migrate(&database).await?;
        let config = settings::notifier(database, format!("http://{}", stage.address()));
        let database = connect(&stage.postgres().superuser_url(DATABASE)).await?;
        let runtime = Some(crate::runtime(usage::NOTIFIER)?);
        Ok(Self {
            stage,
            config,
            runtime,
            database,
            sink: Sink::start(ENDPOINTS.into_iter().max().unwrap_or_default()).await?,
        })
    }

    async fn start(&self) -> Result<Running> {
        let runtime = self.runtime.as_ref().context("ended")?;
        Running::notifier(self.config.clone(), runtime.handle()).await
    }

    /// Registers an endpoint at each of those ports of who takes everything.
    async fn register(&self, ports: std::ops::Range<usize>) -> Result<()> {
        let notifier = self.start().await?;
        let mut client = WebhookServiceClient::new(notifier.connect().await?);
        for address in self.sink.addresses.get(ports).context("no port")? {
            let url = format!("http://{address}/hook");
            let mut request = Request::new(CreateWebhookEndpointRequest { url, ..Default::default() });
            request.metadata_mut().insert("authorization", format!("Bearer {}", self.stage.api_key()).parse()?);
            client.create_webhook_endpoint(request).await?;
        }
        // What happened before is followed, and posted to nobody.
        self.stage.settle().await?;
        notifier.stop().await
    }

    /// How long after its event each webhook comes, at a moderate rate.
    async fn latencies(&self, seconds: u32) -> Result<Vec<Duration>> {
        let notifier = self.start().await?;
        // Connections, statements, and an endpoint that has taken something.
        let warm = streams::open_loop(self.stage, RATE, Duration::from_secs(1)).await?.len();
        self.recorded(warm).await?;
        self.sink.take();
        let length = Duration::from_secs(u64::from(seconds) * 2);
        let made = streams::open_loop(self.stage, RATE, length).await?.len();
        self.recorded(made).await?;
        notifier.stop().await?;
        let taken = self.sink.take();
        ensure!(taken.lags.len() == made, "{} webhooks for {made} events", taken.lags.len());
        Ok(taken.lags)
    }

    /// Makes events while there is no notifier, then has one work them off.
    async fn drain(&self, cli: &Cli, endpoints: usize) -> Result<(Drained, Vec<Bytes>)> {
        let call = self.stage.call(Kind::Create, 0..0)?;
        // Fewer events for many endpoints: not much more is posted then.
        let length = Duration::from_secs(cli.seconds.into()) * 2 / u32::try_from(endpoints + 1)?;
        let made = self.stage.drive(&call, cli.concurrency, length).await?;
        self.stage.settle().await?;
        let deliveries = made.calls as usize * endpoints;
        let pid = self.stage.postgres_pid();
        let (notifier, before, begun) = (self.start().await?, Usage::now(pid)?, Instant::now());
        self.recorded(deliveries).await?;
        let (took, usage) = (begun.elapsed(), Usage::now(pid)?.since(&before));
        notifier.stop().await?;
        let Taken { count, connections, bodies, .. } = self.sink.take();
        ensure!(count >= deliveries, "{count} webhooks came, {deliveries} were recorded");
        let per_second = deliveries as f64 / took.as_secs_f64();
        Ok((Drained { endpoints, deliveries, per_second, connections, usage }, bodies))
    }

    /// Waits until so many more have come and nothing is left to be recorded.
    async fn recorded(&self, deliveries: usize) -> Result<()> {
        let come = async {
            while self.sink.count() < deliveries {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let pending = "SELECT count(*) FROM delivery WHERE state = 1";
            while self.database.query_one(pending, &[]).await?.try_get::<_, i64>(0)? > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(())
        };
        let come = tokio::time::timeout(DONE_IN, come).await;
        come.with_context(|| format!("{} of {deliveries} webhooks came", self.sink.count()))?
    }
}

fn section(drained: &[Drained], lags: Vec<Duration>, bare: f64) -> Section {
    let (svix_low, svix_high, times) = SVIX;
    let target = times * svix_high;
    let rows: Vec<_> = drained
        .iter()
        .map(|it| {
            [
                it.endpoints.to_string(),
                it.deliveries.to_string(),
                format!("{:.0}", it.per_second),
                format!("{:.2}", it.per_second / bare),
                it.connections.to_string(),
                format!("{:.0}", it.micros(|usage| usage.service)),
                format!("{:.0}", it.micros(|usage| usage.notifier)),
                format!("{:.0}", it.micros(|usage| usage.postgres)),
                format!("{:.0}", it.total()),
            ]
        })
        .collect();
    let mut text = format!(
        "Events of new drafts are committed while there is no notifier; then one is started and works them off, from the stream \
         to the recorded attempt, each webhook in a request of its own to a sink on this machine that answers at once. Beside \
         it, a bare HTTP client that signs and posts the same bodies to the same sink over {BARE_CONNECTIONS} connections: \
         {bare:.0} a second.\n\n"
    );
    let head = [
        "endpoints",
        "deliveries",
        "deliveries/s",
        "ratio to the bare client",
        "connections",
        "service µs",
        "notifier µs",
        "database µs",
        "together",
    ];
    pipes(&mut text, &head, &rows);
    let [p50, p95, p99] = percentiles_ms(lags);
    text.push_str(&format!(
        "\nAt {RATE} events a second, from the database's time of an event to the webhook that has come: p50 {p50:.1} ms, \
         p95 {p95:.1} ms, p99 {p99:.1} ms.\n\nsvix-server is not run here. Measured on 2 cores with PostgreSQL and one endpoint, it \
         made {svix_low:.0} to {svix_high:.0} deliveries a second.\n"
    ));
    let verdicts = drained.iter().flat_map(|it| {
        let name = if it.endpoints == 1 { "one endpoint".to_owned() } else { format!("{} endpoints", it.endpoints) };
        let (speed, cost) = (met(it.per_second >= target), met(it.total() <= MICROS_MAX));
        [
            format!(
                "Webhooks to {name} reach {target:.0} a second, {times:.0} × svix-server's: {speed}, {:.0}.",
                it.per_second
            ),
            format!(
                "A webhook to {name} takes at most {MICROS_MAX:.0} µs of processor time: {cost}, {:.0} µs.",
                it.total()
            ),
        ]
    });
    Section { title: "Webhooks", text, verdicts: verdicts.collect() }
}
