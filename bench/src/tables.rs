//! What the size of the tables does to reads: services on databases that differ in that alone, in turns. Warm: the same
//! envelopes are read again and again, from all over the tables.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign::v1::ListEnvelopesRequest;
use countersign_envelope::domain::id::EnvelopeId;

use crate::load::{Call, Caller, Measured, PAGE, drive, median};
use crate::report::{Bar, Section, met, pipes, plot};
use crate::running::Running;
use crate::sample::{Change, Kind};
use crate::stage::{Stage, connect};
use crate::{Cli, scripts};

/// Where those envelopes lie.
const BEGIN: u64 = 600_000_000_000;
/// How many are filled in at a time.
const CHUNK: u64 = 100_000;
/// Envelopes of each person and of each customer, whatever the size.
const OF_EACH: u64 = 100;
/// Envelopes that are read, and people and customers that are asked for.
const READ: (u64, u64) = (1_000, 100);
/// What is read, and how much longer it may take in the largest tables than in the smallest.
const JOBS: [(&str, f64); 4] =
    [("get", 1.1), ("list: page of 50", 1.5), ("list: 50 of a recipient", 1.5), ("list: 50 with metadata", 1.5)];

/// The name of the database of that size.
pub fn database(size: u64) -> String {
    format!("tables_{size}")
}

/// A service on tables of one size.
struct Place {
    size: u64,
    running: Running,
    callers: Vec<Caller>,
    calls: [Call; JOBS.len()],
    measured: [Vec<Measured>; JOBS.len()],
}

impl Place {
    async fn start(cli: &Cli, stage: &Stage, size: u64) -> Result<Self> {
        let name = database(size);
        fill(stage, &name, size).await.with_context(|| format!("{size} envelopes"))?;
        let running = Running::envelope(stage.config_of(&name), stage.runtime()).await?;
        let callers = running.callers(cli.connections, stage.api_key()).await?;
        let spread = |count: u64, over: u64| (0..count).map(move |index| index * over / count);
        let ids = spread(READ.0, size).map(|at| Ok(EnvelopeId::from_uuid(scripts::id(BEGIN + at)?).to_string()));
        let groups = || spread(READ.1, groups(size));
        let of = |recipient_email, metadata| ListEnvelopesRequest { recipient_email, metadata, ..Default::default() };
        let of_people = groups().map(|group| of(format!("person{group}@example.com"), BTreeMap::new()));
        let of_customers = groups().map(|group| of(String::new(), [("customer".into(), format!("c{group}"))].into()));
        let calls = [
            Call::Get(ids.collect::<Result<Arc<[_]>>>()?),
            Call::List,
            Call::Find(of_people.collect()),
            Call::Find(of_customers.collect()),
        ];
        let place = Self { size, running, callers, calls, measured: Default::default() };
        place.check().await?;
        Ok(place)
    }

    /// A list that finds less is no measure.
    async fn check(&self) -> Result<()> {
        let mut sender = self.callers.first().context("no connection")?.sender.clone();
        for call in &self.calls {
            let Call::Find(requests) = call else { continue };
            for request in requests.iter() {
                let found = sender.list_envelopes(request.clone()).await?.into_inner().envelopes.len();
                ensure!(found == PAGE as usize, "{found} envelopes in a list");
            }
        }
        Ok(())
    }

    fn median(&self, job: usize, of: impl Fn(&Measured) -> f64) -> f64 {
        median(self.measured[job].iter().map(of).collect())
    }
}

/// Measures all sizes.
pub async fn measure(cli: &Cli, stage: &Stage) -> Result<Section> {
    let mut places = Vec::new();
    for size in &cli.sizes {
        places.push(Place::start(cli, stage, *size).await?);
    }
    for number in 0..=cli.rounds {
        // Connections, statements and caches: that round does not count.
        let length = Duration::from_secs(if number == 0 { 1 } else { cli.seconds.into() });
        for job in 0..JOBS.len() {
            for index in 0..places.len() {
                // Who goes first changes with each round.
                let turn = if number % 2 == 0 { index } else { places.len() - 1 - index };
                let place = places.get_mut(turn).context("no place")?;
                let measured = drive(&place.callers, &place.calls[job], cli.concurrency, length).await?;
                if number > 0 {
                    place.measured[job].push(measured);
                }
            }
        }
    }
    let section = section(&places)?;
    for place in places {
        place.running.stop().await?;
    }
    Ok(section)
}

fn section(places: &[Place]) -> Result<Section> {
    let (small, large) = places.first().zip(places.last()).context("no sizes")?;
    let (mut rows, mut bars, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
    for (job, (name, most)) in JOBS.iter().enumerate() {
        let pairs = small.measured[job].iter().zip(&large.measured[job]);
        let ratio = median(pairs.map(|(small, large)| small.per_second / large.per_second).collect());
        let verdict = met(ratio <= *most);
        bars.push(Bar { name: (*name).to_owned(), value: ratio, target: *most });
        for place in places {
            let is_last = place.size == large.size;
            rows.push([
                (*name).to_owned(),
                place.size.to_string(),
                format!("{:.0}", place.median(job, |it| it.per_second)),
                format!("{:.1}", place.median(job, |it| it.percentiles_ms[0])),
                format!("{:.1}", place.median(job, |it| it.percentiles_ms[2])),
                if is_last { format!("{ratio:.2}") } else { String::new() },
                if is_last { format!("{most:.1} {verdict}") } else { String::new() },
            ]);
        }
        verdicts.push(format!(
            "`{name}` takes at most {most:.1} times as long among {} envelopes as among {}: {verdict}, {ratio:.2}.",
            large.size, small.size
        ));
    }
    let mut text = format!(
        "Services on databases that differ in the number of envelopes alone, in turns; the ratio is how much longer a call takes \
         in the largest. {} envelopes from all over the tables are read again and again; {} people and customers are asked \
         for, each of whom has {OF_EACH} envelopes, whatever the size, as far apart as can be.\n\n",
        READ.0, READ.1
    );
    let head = ["job", "envelopes", "requests/s", "p50 ms", "p99 ms", "ratio", "target"];
    pipes(&mut text, &head, &rows);
    text.push_str(&plot("How much longer a call takes in the largest tables; the line is the target", "ratio", &bars));
    Ok(Section { title: "Large tables", text, verdicts })
}

/// People, and customers.
fn groups(size: u64) -> u64 {
    (size / OF_EACH).max(1)
}

/// Fills a database with so many envelopes. Copies of what the service made need no trigger that looks after them.
async fn fill(stage: &Stage, name: &str, size: u64) -> Result<()> {
    let database = connect(&stage.postgres().superuser_url(name)).await?;
    database.batch_execute("SET session_replication_role = replica; SET synchronous_commit = off").await?;
    let (group, sample) = (format!("number % {}", groups(size)), stage.sample(Kind::Get)?);
    let address = format!("CASE position WHEN 0 THEN format('person%s@example.com', {group}) ELSE address END");
    let changes = [
        Change { table: Some("recipient"), column: "email", sql: address.replace("ELSE address", "ELSE email") },
        Change { table: Some("recipient"), column: "address", sql: address },
        Change {
            table: Some("envelope"),
            column: "metadata",
            sql: format!("jsonb_build_object('customer', format('c%s', {group}))"),
        },
    ];
    for begin in (BEGIN..BEGIN + size).step_by(CHUNK as usize) {
        let numbers = begin..(begin + CHUNK).min(BEGIN + size);
        sample.stock(&database, numbers.clone(), &changes).await?;
        database.batch_execute(&entries(numbers)).await.context("entries of metadata")?;
    }
    database.batch_execute("VACUUM (ANALYZE)").await?;
    database.batch_execute("CHECKPOINT").await?;
    Ok(())
}

/// Finds envelopes by their metadata, as the service does for its own.
fn entries(numbers: Range<u64>) -> String {
    format!(
        "INSERT INTO envelope_metadata (account_id, entry, envelope_id)
         SELECT account_id, metadata_entry('customer', metadata ->> 'customer'), id FROM envelope
         WHERE id BETWEEN {} AND {}",
        scripts::numbered(&format!("{}::text", numbers.start)),
        scripts::numbered(&format!("{}::text", numbers.end - 1))
    )
}
