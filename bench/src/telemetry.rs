//! What telemetry takes: the same calls on a service that tells and on one that tells nobody, each a process of its own, in
//! turns.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::child::Service;
use crate::load::{drive, median};
use crate::report::{Section, met, pipes};
use crate::sample::Kind;
use crate::scripts::{FIRST, HOT};
use crate::stage::Stage;
use crate::{Cli, usage};

/// The database of those services.
pub const DATABASE: &str = "telemetry";
/// The share of throughput that it may take.
const SHARE_MAX: f64 = 0.15;
/// The calls that are looked at.
const KINDS: [Kind; 2] = [Kind::Create, Kind::Get];
/// Connections, statements and caches, before it counts.
const WARM: Duration = Duration::from_secs(1);

/// What a turn showed.
struct Turn {
    per_second: f64,
    micros: f64,
}

/// The turns of a kind of call: without telemetry, and with it.
#[derive(Default)]
struct Turns([Vec<Turn>; 2]);

impl Turns {
    fn median(&self, tells: bool, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.0[usize::from(tells)].iter().map(of).collect())
    }

    /// Speed with telemetry by speed without, of each round.
    fn ratios(&self) -> Vec<f64> {
        let [off, on] = &self.0;
        on.iter().zip(off).map(|(on, off)| on.per_second / off.per_second).collect()
    }
}

/// Measures it.
pub async fn measure(cli: &Cli, stage: &Stage) -> Result<Section> {
    let collector = Collector::start().await?;
    let config = stage.config_of(DATABASE);
    let tells = [format!("--otlp-endpoint=http://{}", collector.address), "--metrics-listen=127.0.0.1:0".to_owned()];
    let mut all: [Turns; 2] = Default::default();
    for number in 0..cli.rounds {
        for on in if number % 2 == 0 { [false, true] } else { [true, false] } {
            let more = if on { &tells[..] } else { &[] };
            let service = Service::start(&config, stage.documents(), more).await?;
            let callers = service.callers(cli.connections, stage.api_key()).await?;
            for (kind, turns) in KINDS.into_iter().zip(&mut all) {
                let call = stage.call(kind, FIRST..FIRST + HOT)?;
                drive(&callers, &call, cli.concurrency, WARM).await?;
                let before = service.used();
                let measured = drive(&callers, &call, cli.concurrency, Duration::from_secs(cli.seconds.into())).await?;
                let micros = 1e6 * (service.used() - before) / measured.calls;
                turns.0[usize::from(on)].push(Turn { per_second: measured.per_second, micros });
            }
            drop(callers);
            service.stop().await?;
        }
    }
    let taken = collector.taken();
    ensure!(
        taken.iter().all(|requests| *requests > 0),
        "the collector was not told of traces, metrics and logs: {taken:?}"
    );
    Ok(section(&all, taken, config.telemetry.trace_sample_ratio))
}

fn section(all: &[Turns; 2], [traces, metrics, logs]: [usize; 3], sampled: f64) -> Section {
    let (mut rows, mut verdicts) = (Vec::new(), Vec::new());
    for (kind, turns) in KINDS.into_iter().zip(all) {
        let ratios = turns.ratios();
        let (lowest, highest) =
            ratios.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), it| (low.min(*it), high.max(*it)));
        let ratio = median(ratios);
        let (name, verdict) = (kind.name(), met(ratio >= 1.0 - SHARE_MAX));
        rows.push([
            name.to_owned(),
            format!("{:.0}", turns.median(false, |turn| turn.per_second)),
            format!("{:.0}", turns.median(true, |turn| turn.per_second)),
            format!("{ratio:.2} ({lowest:.2}–{highest:.2})"),
            format!("{:.0}", turns.median(false, |turn| turn.micros)),
            format!("{:.0}", turns.median(true, |turn| turn.micros)),
            format!("{:.2} {verdict}", 1.0 - SHARE_MAX),
        ]);
        verdicts.push(format!("Telemetry takes at most 15 % of `{name}`: {verdict}, {:.0} %.", 100.0 * (1.0 - ratio)));
    }
    let mut text = format!(
        "The same calls on a service that tells of itself (traces, metrics and logs over OTLP to a collector on this machine, \
         {:.0} % of traces, metrics to be scraped as well) and on one that tells nobody. Each is a process of its own on the \
         same database, and they take turns. The collector takes everything and looks at nothing; it got {traces} requests \
         with traces, {metrics} with metrics and {logs} with logs.\n\n",
        100.0 * sampled
    );
    let head =
        ["job", "off, requests/s", "on, requests/s", "ratio (range)", "service µs, off", "service µs, on", "target"];
    pipes(&mut text, &head, &rows);
    Section { title: "Telemetry", text, verdicts }
}

/// Takes whatever is sent to it over OTLP.
struct Collector {
    address: SocketAddr,
    taken: Arc<[AtomicUsize; 3]>,
    _accepting: AbortOnDropHandle<()>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may not block here, and there is nothing to wait for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Collector {
    async fn start() -> Result<Self> {
        let runtime = crate::runtime(usage::SINK)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, listener) = (listener.local_addr()?, listener.into_std()?);
        let taken: Arc<[AtomicUsize; 3]> = Arc::default();
        let counted = Arc::clone(&taken);
        let accepting = runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                let service = service_fn(move |request| take(request, Arc::clone(&counted)));
                let http = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, taken, _accepting: AbortOnDropHandle::new(accepting), runtime: Some(runtime) })
    }

    /// Requests with traces, metrics and logs.
    fn taken(&self) -> [usize; 3] {
        [0, 1, 2].map(|kind: usize| self.taken[kind].load(Ordering::Relaxed))
    }
}

/// The empty message that says that all was taken, as gRPC frames it.
async fn take(
    request: Request<Incoming>,
    taken: Arc<[AtomicUsize; 3]>,
) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    let path = request.uri().path();
    let kind = ["Trace", "Metrics", "Logs"].iter().position(|kind| path.contains(&format!(".{kind}Service/")));
    if let Some(counter) = kind.and_then(|kind| taken.get(kind)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    // A request that breaks off is its sender's matter.
    let _ = request.into_body().collect().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
    let body = StreamBody::new(tokio_stream::iter(frames.map(Ok::<_, Infallible>)));
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
