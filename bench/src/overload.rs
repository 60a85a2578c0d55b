//! Overload: five times as many calls as can be answered, then half as many.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign::v1::GetEnvelopeRequest;
use countersign_envelope::domain::id::EnvelopeId;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::flood::{Flood, Outcome, Phase, Ready, Told};
use crate::load::{median, percentiles_ms};
use crate::refuser::refuser;
use crate::report::{Bar, Section, met, pipes, plot};
use crate::scripts::{self, FIRST, HOT};
use crate::stage::Stage;
use crate::usage::Usage;
use crate::{Cli, usage};

/// How many times the peak is asked for, and the share of the peak that is to be done even then.
const TIMES: f64 = 5.0;
const GOODPUT_MIN: f64 = 0.80;
/// How soon half of those who are refused are to know.
const REFUSED_IN: Duration = Duration::from_millis(10);
/// The share of the peak that is no trouble.
const QUIET: f64 = 0.5;
/// How long that is asked for afterwards, and by when all is to be well again.
const AFTER: Duration = Duration::from_secs(12);
const WELL_IN: Duration = Duration::from_secs(5);
/// All is well in a second whose slowest of 100 are no slower than so many times what they were before, and where this share is done.
const WELL: (f64, f64) = (2.0, 0.999);
/// Connections that flood: each takes 100 calls at a time.
const CONNECTIONS: usize = 16;
/// Calls at a time by which the peak is looked for, as multiples of what is set.
const LOADS: [u32; 2] = [1, 2];

/// What a kind of call showed in one round.
struct Shown {
    peak: f64,
    /// The peak while somebody else refuses what is more than that.
    limit: f64,
    quiet: Tally,
    flood: Tally,
    usage: Usage,
    well_after: Option<Duration>,
}

/// What it showed in all of them. Each figure is the median of the rounds: one round alone shows a machine whose pace changes more
/// than the service. What must never be counts in every round.
struct Rounds {
    name: &'static str,
    rounds: Vec<Shown>,
}

/// Calls that were due in some time.
struct Tally {
    seconds: f64,
    /// That were answered within it, whenever they were due.
    done_within: usize,
    due: usize,
    done: Vec<Duration>,
    refused: Vec<Duration>,
    /// Codes of refusals, and how often it was said when to come again.
    codes: BTreeMap<String, usize>,
    say_when: usize,
    given_up: usize,
    broken: usize,
}

impl Tally {
    fn of(told: &[Told], from: Duration, length: Duration) -> Self {
        let within = |at: Duration| at >= from && at < from + length;
        let done_within =
            told.iter().filter(|it| matches!(it.outcome, Outcome::Done) && within(it.due + it.took)).count();
        let mut tally = Self {
            seconds: length.as_secs_f64(),
            done_within,
            due: 0,
            done: Vec::new(),
            refused: Vec::new(),
            codes: BTreeMap::new(),
            say_when: 0,
            given_up: 0,
            broken: 0,
        };
        for it in told.iter().filter(|it| within(it.due)) {
            tally.due += 1;
            match &it.outcome {
                Outcome::Done => tally.done.push(it.took),
                Outcome::Refused(code, says_when) => {
                    tally.refused.push(it.took);
                    *tally.codes.entry(format!("{code:?}")).or_default() += 1;
                    tally.say_when += usize::from(*says_when);
                }
                Outcome::Broken => tally.broken += 1,
                Outcome::GivenUp => tally.given_up += 1,
            }
        }
        tally
    }

    fn per_second(&self) -> f64 {
        self.done_within as f64 / self.seconds
    }

    fn is_well(&self, p99_ms: f64) -> bool {
        let [.., p99] = percentiles_ms(self.done.clone());
        self.done.len() as f64 >= WELL.1 * self.due as f64 && p99 <= WELL.0 * p99_ms
    }
}

/// Measures both kinds.
pub async fn measure(cli: &Cli, stage: &Stage) -> Result<Section> {
    let generator = Generator::new(usage::LOAD)?;
    let address = stage.address();
    let create = [stage.opening().request(false)];
    let create = Ready::new(address, "/countersign.v1.EnvelopeService/CreateEnvelope", stage.api_key(), &create)?;
    let of = |number| {
        let envelope_id = EnvelopeId::from_uuid(scripts::id(number)?).to_string();
        Ok(GetEnvelopeRequest { envelope_id, ..GetEnvelopeRequest::default() })
    };
    let get = (FIRST..FIRST + HOT).map(of).collect::<Result<Vec<_>>>()?;
    let get = Ready::new(address, "/countersign.v1.EnvelopeService/GetEnvelope", stage.api_key(), &get)?;
    let mut shown = Vec::new();
    for (name, ready) in [("create", create), ("get", get)] {
        let mut rounds = Vec::new();
        for _ in 0..cli.rounds {
            stage.settle().await?;
            rounds.push(generator.look(cli, stage, ready.clone()).await.context(name)?);
        }
        shown.push(Rounds { name, rounds });
    }
    Ok(section(&shown))
}

/// The load, on one thread: what it takes is not there for the service.
pub struct Generator(Option<Runtime>);

impl Drop for Generator {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Generator {
    /// On a thread of that name.
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self(Some(Builder::new_multi_thread().worker_threads(1).enable_all().thread_name(name).build()?)))
    }

    /// Does something there.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.0.as_ref().context("ended")?.spawn(work).await?
    }

    async fn look(&self, cli: &Cli, stage: &Stage, ready: Ready) -> Result<Shown> {
        let (cli, address, pid) = (cli.clone(), stage.address(), stage.postgres_pid());
        let (runtime, service) = (self.0.as_ref().context("ended")?, stage.runtime().clone());
        runtime.spawn(async move { look(&cli, address, (pid, &service), &ready).await }).await?
    }
}

async fn look(cli: &Cli, address: SocketAddr, (postgres, service): (i32, &Handle), ready: &Ready) -> Result<Shown> {
    let flood = Flood::connect(address, CONNECTIONS).await?;
    let length = Duration::from_secs(cli.seconds.into());
    let mut peak = 0.0_f64;
    flood.closed(ready, cli.concurrency as usize, Duration::from_secs(1)).await?;
    for times in LOADS {
        peak = peak.max(flood.closed(ready, (cli.concurrency * times) as usize, length).await?);
    }
    let limit = limit(&flood, ready, (cli.concurrency, peak), length, service).await?;
    let quiet = Phase { per_second: QUIET * peak, length };
    let before = flood.open(ready, &[quiet]).await?;
    let loud = Phase { per_second: TIMES * peak, length };
    let begin = Usage::now(postgres)?;
    let used = async {
        tokio::time::sleep(length).await;
        anyhow::Ok(Usage::now(postgres)?.since(&begin))
    };
    let phases = [loud, Phase { length: AFTER, ..quiet }];
    let (told, usage) = tokio::try_join!(flood.open(ready, &phases), used)?;
    let quiet = Tally::of(&before, Duration::ZERO, length);
    let [.., p99_ms] = percentiles_ms(quiet.done.clone());
    let well_after = well_after(&told, length, p99_ms);
    Ok(Shown { peak, limit, quiet, flood: Tally::of(&told, Duration::ZERO, length), usage, well_after })
}

/// The peak while a server with nothing behind it is asked for the rest on the same threads, and refuses it: what would be done
/// if refusals took no more than gRPC takes for them, and this load for asking.
async fn limit(
    flood: &Flood,
    ready: &Ready,
    (concurrency, peak): (u32, f64),
    length: Duration,
    service: &Handle,
) -> Result<f64> {
    let refuser = refuser(service).await?;
    let rest = Flood::connect(refuser.address, CONNECTIONS).await?;
    let mut most = 0.0_f64;
    for times in LOADS {
        let refused = [Phase { per_second: (TIMES - 1.0) * peak, length }];
        let done = flood.closed(ready, (concurrency * times) as usize, length);
        let (done, _) = tokio::try_join!(done, rest.open(ready, &refused))?;
        most = most.max(done);
    }
    Ok(most)
}

/// After how long all was well, and stayed so for another second.
fn well_after(told: &[Told], from: Duration, p99_ms: f64) -> Option<Duration> {
    let second = Duration::from_secs(1);
    let well = |number: u64| Tally::of(told, from + second * number as u32, second).is_well(p99_ms);
    let first = (0..AFTER.as_secs() - 1).find(|number| well(*number) && well(number + 1))?;
    Some(Duration::from_secs(first))
}

impl Shown {
    fn goodput(&self) -> f64 {
        self.flood.per_second() / self.peak
    }

    fn of_limit(&self) -> f64 {
        self.flood.per_second() / self.limit
    }

    fn seconds_until_well(&self) -> f64 {
        self.well_after.map_or(f64::INFINITY, |it| it.as_secs_f64())
    }
}

impl Rounds {
    fn median(&self, of: impl Fn(&Shown) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    fn sum(&self, of: impl Fn(&Shown) -> usize) -> usize {
        self.rounds.iter().map(of).sum()
    }

    /// The median, and from where to where it goes.
    fn ranged(&self, of: impl Fn(&Shown) -> f64) -> String {
        let all = || self.rounds.iter().map(&of);
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
        format!("{:.2} ({least:.2}–{most:.2})", self.median(&of))
    }

    /// The 50th and the 99th of 100.
    fn times_ms(&self, of: impl Fn(&Shown) -> &[Duration]) -> [f64; 2] {
        [0, 2].map(|place| self.median(|it| percentiles_ms(of(it).to_vec())[place]))
    }

    /// How long it took until all was well, in the worst round.
    fn well_after(&self) -> (bool, String) {
        let worst = self.rounds.iter().map(Shown::seconds_until_well).fold(0.0, f64::max);
        let text = if worst.is_finite() { format!("{worst:.0} s") } else { "not in time".to_owned() };
        (worst <= WELL_IN.as_secs_f64(), text)
    }

    fn row(&self) -> [String; 12] {
        let ms = |[p50, p99]: [f64; 2]| if p50.is_nan() { "–".to_owned() } else { format!("{p50:.0} / {p99:.0}") };
        let due = self.sum(|it| it.flood.due).max(1);
        let share = |count: usize| format!("{:.0} %", 100.0 * count as f64 / due as f64);
        [
            self.name.to_owned(),
            format!("{:.0}", self.median(|it| it.peak)),
            format!("{:.0}", self.median(|it| it.flood.due as f64 / it.flood.seconds)),
            format!("{:.0}", self.median(|it| it.flood.per_second())),
            self.ranged(Shown::goodput),
            format!("{:.0}", self.median(|it| it.limit)),
            self.ranged(Shown::of_limit),
            ms(self.times_ms(|it| &it.flood.done)),
            share(self.sum(|it| it.flood.refused.len())),
            ms(self.times_ms(|it| &it.flood.refused)),
            share(self.sum(|it| it.flood.given_up + it.flood.broken)),
            self.well_after().1,
        ]
    }

    /// Codes of refusals, and how often.
    fn codes(&self) -> BTreeMap<&str, usize> {
        let mut codes = BTreeMap::new();
        for (code, count) in self.rounds.iter().flat_map(|it| &it.flood.codes) {
            *codes.entry(code.as_str()).or_default() += count;
        }
        codes
    }

    /// How refusals were worded, who used the machine, and how it was before.
    fn told(&self) -> String {
        let codes: Vec<String> = self.codes().iter().map(|(code, count)| format!("{code} {count} times")).collect();
        let share =
            |of: fn(&Usage) -> f64| self.median(|it| 100.0 * of(&it.usage) / it.usage.total.max(f64::MIN_POSITIVE));
        let [p50, p99] = self.times_ms(|it| &it.quiet.done);
        format!(
            "`{}`: of {} refusals {} said when to come again ({}); {} calls broke. The load took {:.0} % of the machine \
             meanwhile, the service {:.0} %, the database {:.0} %. Before, at half the peak: p50 {p50:.1} ms, p99 {p99:.1} ms, \
             {} of {} done.\n\n",
            self.name,
            self.sum(|it| it.flood.refused.len()),
            self.sum(|it| it.flood.say_when),
            if codes.is_empty() { "none".to_owned() } else { codes.join(", ") },
            self.sum(|it| it.flood.broken),
            share(|it| it.load),
            share(|it| it.service),
            share(|it| it.postgres),
            self.sum(|it| it.quiet.done.len()),
            self.sum(|it| it.quiet.due)
        )
    }

    fn verdicts(&self) -> [String; 5] {
        let name = self.name;
        let [refused_ms, _] = self.times_ms(|it| &it.flood.refused);
        let (is_well, after) = self.well_after();
        let others =
            self.codes().into_keys().filter(|code| !matches!(*code, "Unavailable" | "ResourceExhausted")).count();
        let (refused, say_when) = (self.sum(|it| it.flood.refused.len()), self.sum(|it| it.flood.say_when));
        let broken = self.sum(|it| it.flood.broken);
        let (goodput, of_limit) = (self.median(Shown::goodput), self.median(Shown::of_limit));
        [
            format!(
                "`{name}` does {GOODPUT_MIN:.2} of its peak while {TIMES:.0} times the peak is asked for: {}, {goodput:.2}; {:.2} \
                 would be done if refusing took nothing but gRPC.",
                met(goodput >= GOODPUT_MIN),
                self.median(|it| it.limit / it.peak)
            ),
            format!(
                "`{name}` does {GOODPUT_MIN:.2} of its limit then: {}, {of_limit:.2}.",
                met(of_limit >= GOODPUT_MIN)
            ),
            format!(
                "Half of the refused `{name}` hear of it within {} ms of asking: {}, {refused_ms:.1} ms.",
                REFUSED_IN.as_millis(),
                met(refused_ms <= REFUSED_IN.as_secs_f64() * 1e3)
            ),
            format!(
                "Every refused `{name}` is told UNAVAILABLE or RESOURCE_EXHAUSTED and when to come again: {}, {say_when} of {}.",
                met(others == 0 && broken == 0 && say_when == refused),
                refused + broken
            ),
            format!(
                "`{name}` is as before within {} s after that, each time: {}, {after}.",
                WELL_IN.as_secs(),
                met(is_well)
            ),
        ]
    }
}

fn section(shown: &[Rounds]) -> Section {
    let mut text = format!(
        "Medians of the rounds, and from where to where they go; *well after* is of the worst. First the peak: the most that is \
         answered when each caller waits for an answer before it asks again. Then {TIMES:.0} times as many calls at fixed times, \
         over {CONNECTIONS} connections, whatever comes of those before, and without a pause half the peak. The limit is the peak \
         while a tonic server with nothing behind it, on the service's threads, is asked for the rest at the same times and \
         refuses it: what would be done if refusing took nothing but gRPC. Times are from when a call was due. The load is on this \
         machine too, made as cheap as can be: requests made beforehand, on one thread, straight onto HTTP/2; a call that cannot \
         be sent within a second is given up. All is well again in the first second in which as good as all calls are done and \
         the slowest of 100 takes at most twice as long as before.\n\n"
    );
    let rows: Vec<_> = shown.iter().map(Rounds::row).collect();
    let head = [
        "job",
        "peak/s",
        "asked/s",
        "done/s",
        "share of peak (range)",
        "limit/s",
        "share of limit (range)",
        "done, p50 / p99 ms",
        "refused",
        "refused, p50 / p99 ms",
        "given up or broken",
        "well after",
    ];
    pipes(&mut text, &head, &rows);
    let bar = |it: &Rounds| Bar { name: it.name.to_owned(), value: it.median(Shown::goodput), target: GOODPUT_MIN };
    let bars: Vec<Bar> = shown.iter().map(bar).collect();
    text.push_str(&plot("Share of the peak that is done under overload; the line is the target", "share", &bars));
    text.push('\n');
    shown.iter().for_each(|it| text.push_str(&it.told()));
    Section { title: "Overload", text, verdicts: shown.iter().flat_map(Rounds::verdicts).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_well_once_calls_are_done_as_fast_as_before() {
        let (ms, from) = (Duration::from_millis, Duration::from_secs(5));
        // Ten calls a second: refused for a second, slow for another, then as before.
        let told = |number: u64| {
            let due = from + ms(100) * number as u32;
            match number {
                0..10 => Told { due, took: ms(1), outcome: Outcome::Refused(tonic::Code::Unavailable, true) },
                10..20 => Told { due, took: ms(900), outcome: Outcome::Done },
                _ => Told { due, took: ms(15), outcome: Outcome::Done },
            }
        };
        let all: Vec<Told> = (0..120).map(told).collect();
        assert_eq!(well_after(&all, from, 10.0), Some(Duration::from_secs(2)));
        assert_eq!(well_after(&all, from, 1.0), None);
        let second = Tally::of(&all, from, Duration::from_secs(1));
        assert_eq!((second.due, second.refused.len(), second.say_when, second.done_within), (10, 10, 10, 0));
    }
}
