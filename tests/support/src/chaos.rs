//! Faults by the dice, under load: services and Postgres killed, backends killed, processes of all of them stopped for longer than
//! leases last and let go on, connections cut, also within a COMMIT, the way to Postgres without a sound for longer than that is
//! borne, clocks set, the disk of the tables filled. Afterwards everything that was acknowledged is there, nothing happened twice,
//! all comes to rest by itself, and nobody has ended but those whom the dice killed.
//!
//! A seed gives the same faults in the same order again; when each strikes what, the machine decides.

mod clocks;
mod dice;
mod faults;
mod full_disk;
mod load;
pub mod proxy;
mod silence;
mod takeover;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use countersign::v1::EnvelopeStatus;
use countersign_chassis::config::DatabaseConfig;
use countersign_postgres::{Durability, Options, Postgres};

pub use self::clocks::Clocks;
pub use self::dice::Dice;
use self::faults::{Fault, Faults};
pub use self::full_disk::{Full, fill_up};
use self::load::{Doors, Load, Promise};
use self::proxy::Proxy;
use self::silence::Cable;
pub use self::takeover::take_over;
use crate::Database;
use crate::partitions;
use crate::small_disk::SmallDisk;
use crate::stack::{Stack, Ways};

/// How many of each.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of the dice.
    pub seed: u64,
    /// kill -9 of a service.
    pub service_kills: u32,
    /// kill -9 of Postgres, or of one of its backends.
    pub postgres_kills: u32,
    /// Services that are stopped for longer than their leases.
    pub pauses: u32,
    /// The same of Postgres, or of one of its backends.
    pub postgres_pauses: u32,
    /// Connections that are slowed down, held up or cut.
    pub cuts: u32,
    /// How often nothing arrives at Postgres any more, and nobody is told; never where nobody may see to it.
    pub silences: u32,
    /// Clocks of services' machines that are set by an hour.
    pub clocks: u32,
    /// How often the disk of the tables is full; never where nobody may mount one.
    pub fills: u32,
}

/// Envelope services and notifiers.
const PROCESSES: (usize, usize) = (2, 2);
/// Those who make calls.
const WORKERS: u64 = 6;
/// How long everything may take after the last fault.
const REST_MAX: Duration = Duration::from_secs(120);
/// How long nobody may get an answer after a fault is over.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Room for the tables of a long run.
const DISK_MEGABYTES: u32 = 512;
/// A deadline that passes while it plays.
const SOON: Duration = Duration::from_secs(100);

/// Plays it, and panics unless everything holds.
pub async fn play(plan: Plan) {
    let began = Instant::now();
    let postgres = Postgres::start(Options { durability: Durability::Durable, ..Options::throwaway() });
    let postgres = postgres.await.expect("Postgres");
    let disk = if plan.fills > 0 { SmallDisk::mount(DISK_MEGABYTES) } else { None };
    if let Some(disk) = &disk {
        disk.take_tables_of(&postgres).await;
    }
    let databases = (database(&postgres, "envelopes").await, database(&postgres, "notices").await);
    let far = format!("127.0.0.1:{}", postgres.port());
    let cable = if plan.silences > 0 { Cable::lay() } else { None };
    let near = Proxy::start_at(cable.map_or(Ipv4Addr::LOCALHOST, |cable| cable.0), &far, true).await;
    let through = |url: &str| url.replace(&far, &near.address);
    let (ours, theirs) = (through(&databases.0.url), through(&databases.1.url));
    // Where the envelope service is, is known when it is there.
    let stream = Proxy::start("", false).await;
    let envelope = |address: &str| {
        stream.lead_to(address);
        stream.address.clone()
    };
    let ways = Ways { database: &ours, notices: &theirs, envelope: &envelope };
    let clocks = Clocks::new();
    let mut stack = Stack::new(databases, &ways, PROCESSES, &[clocks.setting()]).await;
    let doors = Doors::new(&stack).await;
    let load = Load::start(&doors, WORKERS, plan.seed, Some(SOON));
    let dice = Dice::new(plan.seed);
    let mut faults = Faults { postgres, disk, clocks, cable, database: near, stream: stream.clone(), dice };
    let schedule = faults.schedule(&plan);
    let mut worst: BTreeMap<&'static str, Duration> = BTreeMap::new();
    for (number, fault) in schedule.iter().enumerate() {
        if number.is_multiple_of(50) {
            eprintln!("chaos: {number} of {} faults after {:.0?}", schedule.len(), began.elapsed());
        }
        tokio::time::sleep(faults.dice.milliseconds(100, 400)).await;
        // Nobody may have ended by itself.
        stack.start().await;
        faults.strike(*fault, &mut stack).await;
        let silent = load.next_answer(SILENCE_MAX).await.unwrap_or_else(|| {
            panic!("seed {}: nobody is answered after fault {number}, {fault:?}", plan.seed);
        });
        let longest = worst.entry(fault.name()).or_default();
        *longest = silent.max(*longest);
    }
    faults.heal(&stack).await;
    stack.start().await;
    let struck = began.elapsed();
    let promises = load.stop().await;
    eprintln!("chaos: {} faults struck in {struck:.0?}, {} envelopes", schedule.len(), promises.len());
    // What the dead had claimed is let go.
    let rest = stack.settle(REST_MAX).await;
    kept(&stack, &doors, &promises, plan.seed).await;
    // The last deadlines have passed meanwhile.
    stack.settle(REST_MAX).await;
    let again = stack.assert_sound(&format!("seed {}", plan.seed)).await;
    let early = "SELECT count(*) FROM event WHERE occurred_at > clock_timestamp()";
    assert_eq!(stack.database.number(early).await, 0, "seed {}: by whose clock?", plan.seed);
    eprintln!(
        "chaos: seed {}, {} faults, {} envelopes in {:.0?}; longest until an answer {worst:.1?}; at rest after {rest:.1?}; {again} \
         webhooks told again",
        plan.seed,
        schedule.len(),
        promises.len(),
        began.elapsed()
    );
}

async fn database(postgres: &Postgres, name: &str) -> Database {
    postgres.create_database(name).await.expect("database");
    let (url, superuser_url) = (postgres.url(name), postgres.superuser_url(name));
    let config = DatabaseConfig {
        database_url: url.clone().into(),
        database_ca: None,
        database_pool_max: 2,
        database_wait_ms: 5_000,
    };
    let migrated = if name == "envelopes" {
        countersign_envelope::serve::migrate(&config).await
    } else {
        countersign_notifier::serve::migrate(&config).await
    };
    migrated.expect("migrations");
    partitions::cut_as_wished(&url).await;
    Database { name: name.to_owned(), url, superuser_url }
}

/// What was acknowledged is so, and nothing else is there.
async fn kept(stack: &Stack, doors: &Doors, promises: &[Promise], seed: u64) {
    for promise in promises {
        let deadline = Instant::now() + REST_MAX;
        let last = loop {
            let now = doors.envelope(promise).await;
            let is_over = promise.ends.contains(&now.status());
            if is_over || Instant::now() > deadline {
                break now.status();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert!(promise.ends.contains(&last), "seed {seed}: {} is {last:?}: {promise:?}", promise.id);
    }
    let promised: BTreeSet<_> = promises.iter().map(|promise| promise.id.as_str()).collect();
    assert_eq!(promised.len(), promises.len(), "seed {seed}: one envelope for two requests");
    let there = stack.database.number("SELECT count(*) FROM envelope").await;
    assert_eq!(
        usize::try_from(there).ok(),
        Some(promises.len()),
        "seed {seed}: envelopes that nobody asked for, or twice"
    );
    let ends: Vec<_> = promises.iter().filter(|promise| promise.ends == [EnvelopeStatus::Completed]).collect();
    assert!(!ends.is_empty(), "seed {seed}: nothing came to its end");
}

impl Fault {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillService => "service",
            Self::KillPostgres => "postgres",
            Self::KillBackend => "backend",
            Self::Pause => "pause",
            Self::PausePostgres => "postgres pause",
            Self::PauseBackend => "backend pause",
            Self::Cut(_) => "cut",
            Self::Silence => "silence",
            Self::SetClock => "clock",
            Self::FillDisk => "full disk",
        }
    }
}
