//! The stream: how long an event takes from its commit to those who watch, and what a watcher costs who hears nothing.
//!
//! Both ends run in this process, so what a stream takes here is what it takes at the service and at its client together.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{WatchStart, WatchStatusChangesRequest};
use countersign_envelope::domain::id::EnvelopeId;
use tokio::task::JoinSet;
use tonic::{Code, Streaming};

use crate::load::{Caller, percentiles_ms};
use crate::report::{Section, met};
use crate::sample::Kind;
use crate::scripts::{self, FIRST};
use crate::stage::Stage;

/// Events in a second.
const RATE: u64 = 1_000;
/// Keys with streams that hear nothing, and how many streams each may have.
const KEYS: usize = 9;
const STREAMS_OF_KEY: usize = 20;
/// How long after the last event streams are still read.
const REST: Duration = Duration::from_secs(2);

/// Milliseconds in which an event may be with who watches, for 99 of 100, and KiB that an idle stream may take.
const TARGETS: (f64, f64) = (100.0, 20_000.0 / 1_024.0);

/// What came out.
struct Streams {
    percentiles_ms: [f64; 3],
    call_percentiles_ms: [f64; 3],
    events: usize,
    rate: f64,
    refused: usize,
    idle_kib: f64,
}

impl Streams {
    fn section(&self) -> Section {
        let Self {
            percentiles_ms: [p50, p95, p99],
            call_percentiles_ms: [c50, c95, c99],
            events,
            rate,
            refused,
            idle_kib,
        } = self;
        let (lag_max, idle_max) = TARGETS;
        let text = format!(
            "From the database's time of an event to whom watches: p50 {p50:.1} ms, p95 {p95:.1} ms, p99 {p99:.1} ms over {events} \
             events at {rate:.0} a second (target: p99 at most 100 ms at 1,000 a second, {}). The calls that made them, sent \
             at fixed times whatever came of those before: p50 {c50:.1} ms, p95 {c95:.1} ms, p99 {c99:.1} ms from when they were \
             due; {refused} were told that there is too much to do. The time of an event is that of its transaction, so what it waits \
             for until it is committed is in both. A stream that hears nothing takes {idle_kib:.1} KiB at both \
             ends together, over {} streams (target: at most 20 kB, {}).",
            met(*p99 <= lag_max),
            KEYS * STREAMS_OF_KEY,
            met(*idle_kib <= idle_max)
        );
        let verdicts = vec![
            format!("An event is with who watches within 100 ms (p99): {}, {p99:.1} ms.", met(*p99 <= lag_max)),
            format!("An idle stream takes at most 20 kB: {}, {idle_kib:.1} KiB.", met(*idle_kib <= idle_max)),
        ];
        Section { title: "The stream", text, verdicts }
    }
}

/// Measures both.
pub async fn measure(stage: &Stage, seconds: u32) -> Result<Section> {
    stage.settle().await?;
    let mut callers = Vec::new();
    for _ in 0..KEYS {
        callers.push(stage.caller_with_a_new_key().await?);
    }
    let before = resident_kib()?;
    let mut idle = Vec::new();
    for caller in callers.iter().cycle().take(KEYS * STREAMS_OF_KEY) {
        idle.push(watch(caller, true).await?);
    }
    tokio::time::sleep(REST).await;
    let idle_kib = (resident_kib()? - before) / idle.len() as f64;
    drop(idle);

    let stream = watch(stage.sender()?, false).await?;
    let reading = tokio::spawn(lags(stream));
    let begun = Instant::now();
    let latencies = open_loop(stage, RATE, Duration::from_secs(seconds.into())).await?;
    let rate = latencies.len() as f64 / begun.elapsed().as_secs_f64();
    let refused = seconds as usize * RATE as usize - latencies.len();
    let lags = reading.await??;
    let streams = Streams {
        events: lags.len(),
        percentiles_ms: percentiles_ms(lags),
        call_percentiles_ms: percentiles_ms(latencies),
        rate,
        refused,
        idle_kib,
    };
    Ok(streams.section())
}

/// A stream of what happens from now on; of an envelope to which nothing happens, or of all.
async fn watch(caller: &Caller, is_idle: bool) -> Result<Streaming<countersign::v1::WatchStatusChangesResponse>> {
    let request = WatchStatusChangesRequest {
        start: WatchStart::Now.into(),
        // One of those that are only read.
        envelope_id: if is_idle { EnvelopeId::from_uuid(scripts::id(FIRST)?).to_string() } else { String::new() },
        ..WatchStatusChangesRequest::default()
    };
    Ok(caller.sender.clone().watch_status_changes(request).await?.into_inner())
}

/// How late each event came, until none comes any more.
async fn lags(mut stream: Streaming<countersign::v1::WatchStatusChangesResponse>) -> Result<Vec<Duration>> {
    let mut lags = Vec::new();
    let mut last = Instant::now();
    while last.elapsed() < REST {
        let Ok(next) = tokio::time::timeout(REST, stream.message()).await else { break };
        let Some(Item::Event(event)) = next?.context("the stream ended")?.item else { continue };
        let at = event.occurred_at.context("no time")?;
        let at = Duration::new(u64::try_from(at.seconds)?, u32::try_from(at.nanos)?);
        let now = countersign_chassis::clock::Clock::database().now();
        let now = Duration::from_micros(u64::try_from(now.timestamp_micros())?);
        lags.push(now.saturating_sub(at));
        last = Instant::now();
    }
    Ok(lags)
}

/// Creates at fixed times, whatever comes of those before; how long each took from when it was due, if it was not refused.
pub async fn open_loop(stage: &Stage, rate: u64, length: Duration) -> Result<Vec<Duration>> {
    let call = stage.call(Kind::Create, 0..0)?;
    let callers = stage.callers();
    let begun = tokio::time::Instant::now();
    let (mut tasks, mut latencies) = (JoinSet::new(), Vec::new());
    for number in 0..length.as_secs() * rate {
        let due = begun + Duration::from_secs_f64(number as f64 / rate as f64);
        tokio::time::sleep_until(due).await;
        let mut caller = callers.get(number as usize % callers.len()).context("no caller")?.clone();
        let call = call.clone();
        tasks.spawn(async move {
            match call.once(&mut caller).await {
                Ok(_) => Ok(Some(due.elapsed())),
                // Told so at once, which is what a service should do that has too much to do.
                Err(status) if status.code() == Code::Unavailable => Ok(None),
                Err(status) => Err(status),
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    Ok(latencies)
}

/// What the process holds in memory.
fn resident_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
