//! Abuse of HTTP/2: what an honest caller waits for while peers do all the time what no client does, and what that takes of the
//! service's memory and connections to the database.
//!
//! It must never measure the machine instead: those who abuse it have a pace that is told with the figures, and the processor
//! time that they take is told too.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign::v1::GetEnvelopeRequest;
use countersign_envelope::domain::id::EnvelopeId;
use countersign_hostile::{Flooded, Kind, PREFACE, Pace};
use tokio::time::Instant;

use crate::child::Service;
use crate::flood::{Flood, Outcome, Phase, Ready, Told};
use crate::load::{median, percentiles_ms};
use crate::overload::Generator;
use crate::report::{Bar, Section, met, pipes, plot};
use crate::scripts::{self, FIRST, HOT};
use crate::stage::Stage;
use crate::usage::Usage;
use crate::{Cli, usage};

/// The database of the service that is abused.
pub const DATABASE: &str = "abuse";
/// How many times as long the slowest of 100 honest calls may take.
const TIMES_MAX: f64 = 3.0;
/// The share of the peak that honest callers ask for, and their connections.
const SHARE: f64 = 0.2;
const CONNECTIONS: usize = 4;
/// Memory that all abuse together may take.
const MEMORY_BYTES_MAX: f64 = 128.0 * 1024.0 * 1024.0;
/// Peers who do the same at the same time, and those who say nothing: nearly as many as one address may have.
const PEERS: usize = 8;
const SILENT_PEERS: usize = 200;
/// How fast each of them is, and how long it waits before it comes again when its connection was ended.
const PACE: Pace = Pace { at_once: 500, pause: Duration::from_millis(5) };
const COMES_AGAIN: Duration = Duration::from_millis(20);
/// So many honest calls of 1,000 may be refused or fail meanwhile.
const LOST_MAX: f64 = 0.001;

/// What peers do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Abuse {
    Nobody,
    Floods(Kind),
    Silence,
}

impl Abuse {
    /// All of it, first and last the service alone.
    fn all() -> Vec<Self> {
        let floods = Kind::ENDED.into_iter().chain(Kind::ALLOWED).map(Self::Floods);
        [Self::Nobody].into_iter().chain(floods).chain([Self::Silence, Self::Nobody]).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Floods(kind) => kind.name(),
            Self::Silence => "silent connections",
        }
    }

    /// Does it for so long.
    async fn go_on(self, address: String, length: Duration) -> Result<Crowd> {
        let (count, until) = (if self == Self::Silence { SILENT_PEERS } else { PEERS }, Instant::now() + length);
        let mut peers = tokio::task::JoinSet::new();
        for number in 0..count {
            peers.spawn(self.peer(number, address.clone(), until));
        }
        let mut crowd = Crowd::default();
        while let Some(peer) = peers.join_next().await {
            let peer = peer?;
            crowd.turns += peer.turns;
            crowd.connections += peer.connections;
        }
        // Whoever does nothing does so for as long.
        tokio::time::sleep_until(until).await;
        Ok(crowd)
    }

    async fn peer(self, number: usize, address: String, until: Instant) -> Crowd {
        let mut done = Crowd::default();
        while Instant::now() < until {
            let rest = until.saturating_duration_since(Instant::now());
            let flooded = match self {
                Self::Nobody => return done,
                Self::Floods(kind) => countersign_hostile::flood(&address, kind, PACE, rest).await,
                Self::Silence => countersign_hostile::silent(&address, number % PREFACE.len(), rest).await,
            };
            // Who is turned away has had a connection all the same.
            let Flooded { turns, .. } = flooded.unwrap_or_default();
            done.turns += turns;
            done.connections += 1;
            tokio::time::sleep(COMES_AGAIN).await;
        }
        done
    }
}

/// What peers have done.
#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    turns: u64,
    connections: u64,
}

/// What a turn showed.
struct Turn {
    seconds: f64,
    crowd: Crowd,
    percentiles_ms: [f64; 3],
    /// The same of the turn in that round in which the service was alone.
    alone_ms: [f64; 3],
    due: usize,
    done: usize,
    /// Shares of the machine: who abuses the service, the service, the database.
    shares: [f64; 3],
}

impl Turn {
    /// The p99 by that of the service alone.
    fn ratio(&self) -> f64 {
        self.percentiles_ms[2] / self.alone_ms[2]
    }
}

/// All turns of a kind.
struct Shown {
    abuse: Abuse,
    turns: Vec<Turn>,
}

impl Shown {
    fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(of).collect())
    }

    fn ratio(&self) -> f64 {
        self.median(Turn::ratio)
    }

    /// Honest calls that were not done, of all.
    fn lost(&self) -> f64 {
        let sum = |of: fn(&Turn) -> usize| self.turns.iter().map(of).sum::<usize>() as f64;
        1.0 - sum(|turn| turn.done) / sum(|turn| turn.due).max(1.0)
    }

    fn row(&self) -> [String; 10] {
        let (lowest, highest) = self
            .turns
            .iter()
            .map(Turn::ratio)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), it| (low.min(it), high.max(it)));
        let share = |index: usize| format!("{:.0} %", 100.0 * self.median(|turn| turn.shares[index]));
        [
            self.abuse.name().to_owned(),
            format!("{:.0}", self.median(|turn| turn.crowd.turns as f64 / turn.seconds)),
            format!("{:.0}", self.median(|turn| turn.crowd.connections as f64 / turn.seconds)),
            format!("{:.1}", self.median(|turn| turn.percentiles_ms[0])),
            format!("{:.1}", self.median(|turn| turn.percentiles_ms[2])),
            format!("{:.2} ({lowest:.2}–{highest:.2})", self.ratio()),
            format!("{:.2} %", 100.0 * self.lost()),
            share(0),
            share(1),
            share(2),
        ]
    }

    fn verdict(&self) -> String {
        let (is_fast, is_served) = (self.ratio() <= TIMES_MAX, self.lost() <= LOST_MAX);
        format!(
            "Under {} the p99 of honest calls is within {TIMES_MAX:.0}× and they are done: {}, {:.2}×, {:.2} % not done.",
            self.abuse.name(),
            met(is_fast && is_served),
            self.ratio(),
            100.0 * self.lost()
        )
    }
}

/// What all of it showed.
struct Measured {
    per_second: f64,
    shown: Vec<Shown>,
    /// Before, and at most.
    memory: [f64; 2],
    /// Before, at most, and afterwards.
    backends: [i64; 3],
}

/// Measures it.
pub async fn measure(cli: &Cli, stage: &Stage) -> Result<Section> {
    stage.settle().await?;
    let service = Service::start(&stage.config_of(DATABASE), stage.documents(), &[]).await?;
    let address = service.address();
    let of = |number| {
        let envelope_id = EnvelopeId::from_uuid(scripts::id(number)?).to_string();
        Ok(GetEnvelopeRequest { envelope_id, ..GetEnvelopeRequest::default() })
    };
    let get = (FIRST..FIRST + HOT).map(of).collect::<Result<Vec<_>>>()?;
    let get = Ready::new(address, "/countersign.v1.EnvelopeService/GetEnvelope", stage.api_key(), &get)?;
    let (load, crowd) = (Generator::new(usage::LOAD)?, Generator::new(usage::ABUSE)?);
    let honest = load.run(async move { Ok(Arc::new(Flood::connect(address, CONNECTIONS).await?)) }).await?;
    let length = Duration::from_secs(cli.seconds.into());
    let (warm, concurrency) = (Duration::from_secs(1), cli.concurrency as usize);
    let (flood, ready) = (Arc::clone(&honest), get.clone());
    let peak = load.run(async move {
        flood.closed(&ready, concurrency, warm).await?;
        flood.closed(&ready, concurrency, length).await
    });
    let calm = Phase { per_second: SHARE * peak.await?, length };
    let memory = service.memory()[0];
    let before = backends(stage).await?;
    let mut most = before;
    let mut shown: Vec<Shown> = Abuse::all().into_iter().map(|abuse| Shown { abuse, turns: Vec::new() }).collect();
    for _ in 0..cli.rounds {
        let mut alone_ms = None;
        for kind in &mut shown {
            let (abuse, flood, ready) = (kind.abuse, Arc::clone(&honest), get.clone());
            let (begin, used) = (Usage::now(stage.postgres_pid())?, service.used());
            let calling = load.run(async move { flood.open(&ready, &[calm]).await });
            let (told, crowd) = tokio::try_join!(calling, crowd.run(abuse.go_on(address.to_string(), length)))?;
            let usage = Usage::now(stage.postgres_pid())?.since(&begin);
            let shares = [usage.abuse, service.used() - used, usage.postgres].map(|it| it / usage.total.max(0.01));
            let (percentiles_ms, done) = served(&told);
            let alone_ms = *alone_ms.get_or_insert(percentiles_ms);
            let (seconds, due) = (length.as_secs_f64(), told.len());
            kind.turns.push(Turn { seconds, crowd, percentiles_ms, alone_ms, due, done, shares });
            most = most.max(backends(stage).await?);
        }
    }
    // Else the service would wait for the honest caller to leave.
    drop(honest);
    let (memory, backends) = ([memory, service.memory()[1]], [before, most, backends(stage).await?]);
    service.stop().await?;
    Ok(section(&Measured { per_second: calm.per_second, shown, memory, backends }))
}

/// How long honest calls took that were done, and how many were.
fn served(told: &[Told]) -> ([f64; 3], usize) {
    let done = told.iter().filter(|it| matches!(it.outcome, Outcome::Done)).map(|it| it.took);
    let done: Vec<Duration> = done.collect();
    let count = done.len();
    (percentiles_ms(done), count)
}

/// Connections to the service's database.
async fn backends(stage: &Stage) -> Result<i64> {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'";
    stage.database().query_one(sql, &[&DATABASE]).await?.try_get(0).context("backends")
}

/// How it is measured.
fn told(per_second: f64) -> String {
    let each = f64::from(PACE.at_once) / PACE.pause.as_secs_f64();
    format!(
        "An honest caller asks for envelopes at fixed times, {per_second:.0} a second ({:.0} % of what it can have), over {CONNECTIONS} \
         connections, first alone, then while peers abuse HTTP/2 all the time, then alone again. The times are from when a call was \
         due. {PEERS} peers do the same at the same time, or {SILENT_PEERS} who say nothing or half a greeting. They have this \
         machine's processors too, so they have a pace, far above any client's: each says its thing {} times at once and then rests \
         for {} ms, which makes {:.0} a second of all together at most; whose connection the service ends comes again after {} ms. A \
         rapid reset is two frames, all else is one; what is said waits in the kernel until the service hears it. The service is a \
         process of its own with the settings of a deployment.\n\n",
        100.0 * SHARE,
        PACE.at_once,
        PACE.pause.as_millis(),
        each * PEERS as f64,
        COMES_AGAIN.as_millis()
    )
}

fn section(measured: &Measured) -> Section {
    let Measured { per_second, shown, memory: [memory, memory_max], backends: [before, most, after] } = measured;
    let mut text = told(*per_second);
    let rows: Vec<_> = shown.iter().map(Shown::row).collect();
    let head = [
        "who",
        "said/s",
        "connections/s",
        "honest p50 ms",
        "honest p99 ms",
        "p99 by that alone (range)",
        "not done",
        "they take",
        "service",
        "database",
    ];
    pipes(&mut text, &head, &rows);
    let abused = || shown.iter().filter(|it| it.abuse != Abuse::Nobody);
    let bar = |it: &Shown| Bar { name: it.abuse.name().to_owned(), value: it.ratio(), target: TIMES_MAX };
    let bars: Vec<Bar> = abused().map(bar).collect();
    text.push_str(&plot("Honest p99 by that alone; the line is the most that it may be", "times", &bars));
    let (mib, grown) = (1024.0 * 1024.0, memory_max - memory);
    text.push_str(&format!(
        "\nShares are of the machine. The service had {:.0} MiB of memory before and {:.0} MiB at most; {before} connections to the \
         database before, {most} at most, {after} afterwards.\n",
        memory / mib,
        memory_max / mib
    ));
    let mut verdicts: Vec<String> = abused().map(Shown::verdict).collect();
    verdicts.push(format!(
        "All abuse together takes at most {:.0} MiB of memory: {}, {:.0} MiB.",
        MEMORY_BYTES_MAX / mib,
        met(grown <= MEMORY_BYTES_MAX),
        grown / mib
    ));
    verdicts.push(format!(
        "Abuse opens no connection to the database: {}, {most} at most, {before} before.",
        met(most <= before)
    ));
    Section { title: "Abuse of HTTP/2", text, verdicts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_judged_by_the_middle_of_its_rounds_and_by_what_was_not_done() {
        let turn = |p99: f64, done| Turn {
            seconds: 1.0,
            crowd: Crowd::default(),
            percentiles_ms: [1.0, 1.0, p99],
            alone_ms: [1.0, 1.0, 2.0],
            due: 1_000,
            done,
            shares: [0.0; 3],
        };
        let of = |turns| Shown { abuse: Abuse::Silence, turns };
        let fast = of(vec![turn(4.0, 1_000), turn(5.0, 999), turn(50.0, 1_000)]);
        assert!(fast.verdict().contains(": met, 2.50×, 0.03 %"), "{}", fast.verdict());
        let slow = of(vec![turn(4.0, 1_000), turn(7.0, 1_000), turn(50.0, 1_000)]);
        assert!(slow.verdict().contains(": missed, 3.50×"), "{}", slow.verdict());
        let refused = of(vec![turn(2.0, 900)]);
        assert!(refused.verdict().contains(": missed, 1.00×, 10.00 %"), "{}", refused.verdict());
    }
}
