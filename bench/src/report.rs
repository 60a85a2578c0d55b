//! What came out: a table for the terminal and a page for the documentation.

use std::fmt::Write as _;

use crate::Cli;
use crate::limit::{CLIENTS, Limit};
use crate::load::{Measured, median};
use crate::page::{LAST, Page};
use crate::sample::Kind;
use crate::usage::Usage;

/// Other programs that take more of the machine than this make the figures doubtful.
const OTHERS_MAX: f64 = 0.05;
/// A machine that is used less than this has waited for something else than the processor.
const SATURATED: f64 = 0.90;

/// Something that is measured.
pub struct Job {
    /// What.
    pub kind: Kind,
    /// The share of pgbench's speed that it should reach; without one it is for comparison.
    pub target: Option<f64>,
    /// What came out.
    pub rounds: Vec<Round>,
}

/// Both sides of a job, once.
pub struct Round {
    /// The service.
    pub service: Measured,
    /// Who worked for it.
    pub service_usage: Usage,
    /// Events that were still waiting for the sequencer at its end.
    pub backlog: i64,
    /// pgbench.
    pub limit: Limit,
    /// Who worked for it.
    pub limit_usage: Usage,
    /// A gRPC server with nothing behind it, for what only reads, and who worked for it.
    pub echo: Option<(Measured, Usage)>,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.service.per_second / self.limit.per_second
    }

    /// What a service would do that costs as much as the gRPC server with nothing behind it and pgbench together.
    fn both(&self) -> Option<f64> {
        let (echo, _) = self.echo.as_ref()?;
        Some(1.0 / (1.0 / echo.per_second + 1.0 / self.limit.per_second))
    }

    /// For the impatient.
    pub fn line(&self) -> String {
        format!(
            "{:>7.0} requests/s, pgbench {:>7.0} tx/s, ratio {:.2}; other programs took {:.0} % and {:.0} %",
            self.service.per_second,
            self.limit.per_second,
            self.ratio(),
            100.0 * self.service_usage.others(),
            100.0 * self.limit_usage.others()
        )
    }
}

impl Job {
    /// Not measured yet.
    pub fn new(kind: Kind, target: Option<f64>) -> Self {
        Self { kind, target, rounds: Vec::new() }
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    fn ratio(&self) -> f64 {
        self.median(Round::ratio)
    }

    /// The slowest and the fastest round.
    fn range(&self) -> (f64, f64) {
        let ratios = self.rounds.iter().map(Round::ratio);
        (ratios.clone().fold(f64::INFINITY, f64::min), ratios.fold(0.0, f64::max))
    }

    /// Microseconds of processor time for a call.
    fn per_call(&self, of: impl Fn(&Usage) -> f64) -> f64 {
        self.median(|round| 1e6 * of(&round.service_usage) / round.service.calls)
    }

    /// Microseconds of processor time for a transaction of pgbench.
    fn per_transaction(&self, of: impl Fn(&Usage) -> f64) -> f64 {
        self.median(|round| 1e6 * of(&round.limit_usage) / round.limit.transactions)
    }

    fn judged(&self) -> String {
        let Some(target) = self.target else { return "–".to_owned() };
        format!("{target:.2} {}", if self.ratio() >= target { "met" } else { "missed" })
    }

    /// Whether the target is met, and if not, where the time went.
    fn verdict(&self) -> String {
        let (name, ratio) = (self.kind.name(), self.ratio());
        let Some(target) = self.target else { return format!("`{name}`, for comparison: {ratio:.2}.") };
        if ratio >= target {
            return format!("`{name}` meets its target of {target:.2}: {ratio:.2}.");
        }
        let (service, load, database) =
            (self.per_call(|u| u.service), self.per_call(|u| u.load), self.per_call(|u| u.postgres));
        let (pgbench, alone) = (self.per_transaction(|u| u.pgbench), self.per_transaction(|u| u.postgres));
        let bound = (pgbench + alone) / (service + load + database);
        let busy = self.median(|round| round.service_usage.load_factor());
        let waited = if busy < SATURATED {
            format!(" The machine was busy for {:.0} % of the time only: the rest went into waiting.", 100.0 * busy)
        } else {
            String::new()
        };
        format!(
            "`{name}` misses its target of {target:.2}: {ratio:.2}. A call takes {:.0} µs of processor time (service \
             {service:.0}, load {load:.0}, database {database:.0}), a transaction of pgbench {:.0} µs (pgbench \
             {pgbench:.0}, database {alone:.0}). By processor time alone the ratio would be {bound:.2}.\
             {waited}",
            service + load + database,
            pgbench + alone
        )
    }
}

/// What came out of something that pgbench cannot do.
pub struct Section {
    /// What was looked at.
    pub title: &'static str,
    /// What came out, as Markdown.
    pub text: String,
    /// Which targets are met.
    pub verdicts: Vec<String>,
}

impl Section {
    /// Says so if other programs were in the way.
    pub fn doubt(&mut self, usage: &Usage) {
        let others = usage.others();
        if others > OTHERS_MAX {
            self.text.push_str(&format!(
                "\nOther programs took {:.0} % of the machine meanwhile: the absolute figures are too low.\n",
                100.0 * others
            ));
        }
    }
}

/// A bar of a plot.
pub struct Bar {
    /// Of what.
    pub name: String,
    /// How high it is.
    pub value: f64,
    /// How high it should be, or may be.
    pub target: f64,
}

/// Bars, and their targets as a line.
pub fn plot(title: &str, axis: &str, bars: &[Bar]) -> String {
    let list = |of: &dyn Fn(&Bar) -> String| bars.iter().map(of).collect::<Vec<_>>().join(", ");
    let highest = bars.iter().flat_map(|bar| [bar.value, bar.target]).fold(1.0_f64, f64::max).ceil();
    format!(
        "\n```mermaid\nxychart-beta\n    title \"{title}\"\n    x-axis [{}]\n    y-axis \"{axis}\" 0 --> {highest}\n    \
         bar [{}]\n    line [{}]\n```\n",
        list(&|bar| format!("\"{}\"", bar.name)),
        list(&|bar| format!("{:.2}", bar.value)),
        list(&|bar| format!("{:.2}", bar.target))
    )
}

/// Whether a target is met, in a word.
pub fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

/// Everything that came out.
pub struct Report {
    /// By job.
    pub jobs: Vec<Job>,
    /// What else was looked at.
    pub sections: Vec<Section>,
    /// The version and settings of the database.
    pub database: String,
    /// How it was measured.
    pub cli: Cli,
}

impl Report {
    fn speed_rows(&self) -> Vec<[String; 9]> {
        let row = |job: &Job| {
            let ms = |index: usize| {
                let value = job.median(|round| round.service.percentiles_ms.get(index).copied().unwrap_or(f64::NAN));
                format!("{value:.1}")
            };
            let (lowest, highest) = job.range();
            [
                job.kind.name().to_owned(),
                format!("{:.0}", job.median(|round| round.service.per_second)),
                ms(0),
                ms(1),
                ms(2),
                format!("{:.0}", job.median(|round| round.limit.per_second)),
                format!("{:.1}", job.median(|round| round.limit.latency_ms)),
                format!("{:.2} ({lowest:.2}–{highest:.2})", job.ratio()),
                job.judged(),
            ]
        };
        self.jobs.iter().map(row).collect()
    }

    fn cost_rows(&self) -> Vec<[String; 7]> {
        let row = |job: &Job| {
            [
                job.kind.name().to_owned(),
                format!("{:.0}", job.per_call(|usage| usage.service)),
                format!("{:.0}", job.per_call(|usage| usage.load)),
                format!("{:.0}", job.per_call(|usage| usage.postgres)),
                format!("{:.0}", job.per_transaction(|usage| usage.pgbench)),
                format!("{:.0}", job.per_transaction(|usage| usage.postgres)),
                format!("{:.0} %", 100.0 * self.others(job)),
            ]
        };
        self.jobs.iter().map(row).collect()
    }

    /// What only reads, beside a gRPC server with nothing behind it.
    fn echo_rows(&self) -> Vec<[String; 6]> {
        let row = |job: &Job| {
            let middle = |of: &dyn Fn(&Round) -> Option<f64>| {
                let values: Option<Vec<f64>> = job.rounds.iter().map(of).collect();
                values.map(median)
            };
            let micros = |of: &dyn Fn(&Usage) -> f64| {
                middle(&|round| round.echo.as_ref().map(|(echo, usage)| 1e6 * of(usage) / echo.calls))
            };
            Some([
                job.kind.name().to_owned(),
                format!("{:.0}", middle(&|round| round.echo.as_ref().map(|(echo, _)| echo.per_second))?),
                format!("{:.0}", micros(&|usage| usage.service)?),
                format!("{:.0}", micros(&|usage| usage.load)?),
                format!("{:.0}", middle(&Round::both)?),
                format!("{:.2}", middle(&|round| Some(round.service.per_second / round.both()?))?),
            ])
        };
        self.jobs.iter().filter_map(row).collect()
    }

    fn others(&self, job: &Job) -> f64 {
        job.median(|round| round.service_usage.others().max(round.limit_usage.others()))
    }

    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        for job in &self.jobs {
            let others = self.others(job);
            if others > OTHERS_MAX {
                doubts.push(format!(
                    "During `{}` other programs took {:.0} % of the machine: the absolute figures are too low, and the \
                     ratio is less certain.",
                    job.kind.name(),
                    100.0 * others
                ));
            }
            let backlog = job.median(|round| round.backlog as f64);
            if backlog > job.median(|round| round.service.per_second) / 10.0 {
                doubts.push(format!(
                    "At the end of a round of `{}` {backlog:.0} events still waited for the sequencer: their cost is \
                     not in the figures.",
                    job.kind.name()
                ));
            }
        }
        doubts
    }

    fn machine(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
        format!("{cores} cores{}, {}", model.map(|name| format!(" ({name})")).unwrap_or_default(), self.database)
    }

    fn method(&self) -> String {
        let Cli { seconds, rounds, concurrency, connections, pool, envelopes, .. } = &self.cli;
        format!(
            "Medians of {rounds} rounds of {seconds} s in which both sides take turns; {concurrency} calls at a time \
             over {connections} connections, {pool} connections of the service to the database; pgbench with {} clients \
             and {} threads. {envelopes} envelopes lie in the tables besides.",
            CLIENTS.0, CLIENTS.1
        )
    }

    /// For the terminal.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n{}\n\n", self.machine(), self.method());
        if !self.jobs.is_empty() {
            let tables =
                [grid(&SPEED, &self.speed_rows()), grid(&COST, &self.cost_rows()), grid(&ECHO, &self.echo_rows())];
            for line in tables.join(&String::new()) {
                let _ = writeln!(text, "{line}");
            }
        }
        for job in &self.jobs {
            let _ = write!(text, "\n{}", job.verdict());
        }
        for doubt in self.doubts() {
            let _ = write!(text, "\n{doubt}");
        }
        for section in &self.sections {
            let _ = write!(text, "\n\n{}\n\n{}", section.title, section.text.trim_end());
        }
        text
    }

    /// The ratios as bars, and the targets as a line.
    fn plot(&self) -> String {
        let bars: Vec<Bar> = self
            .jobs
            .iter()
            .map(|job| Bar {
                name: job.kind.name().to_owned(),
                value: job.ratio(),
                target: job.target.unwrap_or_default(),
            })
            .collect();
        plot("Share of pgbench's speed; the line is the target", "ratio", &bars)
    }

    /// For the documentation: what was measured takes the place of what stands there of it, if anything does.
    pub fn markdown(&self, old: &str) -> String {
        let mut page = Page::read(old);
        if !self.jobs.is_empty() {
            page.put("Figures", &self.figures());
        }
        for section in &self.sections {
            page.put(section.title, &format!("{}\n\n{}", section.text.trim_end(), listed(&section.verdicts)));
        }
        page.put(LAST, COMPARED);
        page.write(INTRODUCTION)
    }

    fn figures(&self) -> String {
        let mut text = format!("{}. {}\n\n", self.machine(), self.method());
        pipes(&mut text, &SPEED, &self.speed_rows());
        text.push_str("\nMicroseconds of processor time, for one call and for one transaction of pgbench:\n\n");
        pipes(&mut text, &COST, &self.cost_rows());
        text.push_str(BESIDE_ECHO);
        pipes(&mut text, &ECHO, &self.echo_rows());
        text.push_str(&self.plot());
        let verdicts: Vec<_> = self.jobs.iter().map(Job::verdict).chain(self.doubts()).collect();
        let _ = write!(text, "\n{}", listed(&verdicts));
        text
    }
}

fn listed(verdicts: &[String]) -> String {
    verdicts.iter().map(|verdict| format!("- {verdict}\n")).collect()
}

const SPEED: [&str; 9] =
    ["job", "requests/s", "p50 ms", "p95 ms", "p99 ms", "pgbench tx/s", "pgbench mean ms", "ratio (range)", "target"];
const COST: [&str; 7] =
    ["job", "service µs", "load µs", "database µs", "pgbench µs", "database µs (pgbench)", "other programs"];
const ECHO: [&str; 6] = ["job", "echo requests/s", "server µs", "load µs", "both limits/s", "share of that"];

const BESIDE_ECHO: &str = "
What only reads is also measured beside a gRPC server (tonic) with nothing behind it, which gives the same answers to the same load.
*Both limits* is what a service would do that costs no more than that server and pgbench together:

";

const INTRODUCTION: &str = "# Performance

Written by `cargo bench-all --write`.

How fast the service is depends on the machine. So each job is measured beside its limit, in the same run on the same
machine: pgbench doing the same work straight at the same database server. The figure that counts is the ratio. The load,
the service and the database share the machine's cores; the limit has no service and a lighter load to share them with.
What pgbench cannot do (streams, webhooks, overload, abuse and the like) comes after that, each with its own measure beside it.

```
cargo bench-all                                   # 3 rounds of 5 s
cargo bench-all --seconds 10 --rounds 5 --concurrency 16
cargo bench-all --only overload,webhooks          # some parts of it
cargo bench-all --sizes 10000,1000000,10000000    # and larger tables
cargo bench-all --write                           # and this page
cargo bench-all --only overload --write           # and what this page says of that part
```

It needs pgbench, which comes with PostgreSQL's server package; Postgres itself is started by the command, on a temporary
folder, with every commit flushed to disk.
";

const COMPARED: &str = "The service runs with the settings of a deployment, behind gRPC on a loopback port, with its \
loops: a change also wakes the sequencer, whose work is in the figures; documents are made afterwards and are not. The document \
comes from one upload, so that no PDF is read. An envelope has 2 recipients, 4 fields and 1 document, and is a test: nothing is charged. `sign` is by the first of \
the two, `decline` ends the envelope.

pgbench says what the service says. Before the measurement one call of each kind is made through a tap that listens in on the \
way to the database; what was sent there, statement by statement and flight by flight, becomes the script, with the values as \
literals and another envelope's id each time. It runs on a copy of the service's database, so that the service's loops do not \
work on its rows. Flights are pipelines with a single Sync, which is the hardest limit that there is. It makes no salts, hashes \
or records, decides nothing, and gets text where the service gets the binary format. Envelopes that are used up (`send`, \
`sign`, `decline`) are copies of one that was not yet, on both sides.

Where the service's own time goes when it has more to do than it can, by `perf` while `get` is asked for five times as often as it can be \
answered: 27 % in the kernel (sockets, waking threads), 14 % for allocations, 13 % for spans, 12 % for HTTP/2 (h2, hyper), 9 % in tokio, 6 % in \
the database driver, 7 % in tonic, prost and our own code, the rest in small pieces of the standard library. No function has more than 5 %.
It was taken before the finest log records of libraries were kept from being made.
";

fn width(text: &str) -> usize {
    text.chars().count()
}

fn grid<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> Vec<String> {
    let head = head.map(str::to_owned);
    let all: Vec<&[String; N]> = std::iter::once(&head).chain(rows).collect();
    let widths: Vec<usize> =
        (0..N).map(|column| all.iter().map(|row| width(&row[column])).max().unwrap_or_default()).collect();
    let line = |row: &&[String; N]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, wide))| {
            let gap = " ".repeat(wide - width(cell));
            if column == 0 { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    all.iter().map(line).collect()
}

/// A table in Markdown.
pub fn pipes<const N: usize>(text: &mut String, head: &[&str; N], rows: &[[String; N]]) {
    let _ = writeln!(text, "| {} |\n|{}", head.join(" | "), "---|".repeat(N));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}
