//! `cargo chaos`: faults by the dice under load, for as long as one likes. See `docs/faults.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use clap::Parser as _;
use countersign_test_support::chaos::{Plan, play};

/// Kills, stops and cuts everything that there is, and looks whether all that must hold holds.
#[derive(clap::Parser, Debug)]
#[command(name = "chaos")]
struct Cli {
    /// By which dice; without it others each time.
    #[arg(long)]
    seed: Option<u64>,
    /// How often a service is killed.
    #[arg(long, default_value_t = 200)]
    service_kills: u32,
    /// How often Postgres, or one of its backends, is killed.
    #[arg(long, default_value_t = 100)]
    postgres_kills: u32,
    /// How often a service stands still for longer than its leases last.
    #[arg(long, default_value_t = 20)]
    pauses: u32,
    /// How often Postgres, or one of its backends, stands still for as long.
    #[arg(long, default_value_t = 20)]
    postgres_pauses: u32,
    /// How often connections are slowed down, held up or cut.
    #[arg(long, default_value_t = 140)]
    cuts: u32,
    /// How often nothing arrives at Postgres any more, and nobody is told (root, or sudo that asks nothing).
    #[arg(long, default_value_t = 5)]
    silences: u32,
    /// How often the clock of a service is set by an hour (programs with debug assertions).
    #[arg(long, default_value_t = 20)]
    clocks: u32,
    /// How often the disk of the tables is full (root, or sudo that asks nothing).
    #[arg(long, default_value_t = 10)]
    fills: u32,
}

#[tokio::main]
async fn main() {
    let Cli { seed, service_kills, postgres_kills, pauses, postgres_pauses, cuts, silences, clocks, fills } =
        Cli::parse();
    let seed = seed.unwrap_or_else(|| u64::from_be_bytes(countersign_chassis::keys::random()));
    eprintln!("chaos: --seed {seed}");
    play(Plan { seed, service_kills, postgres_kills, pauses, postgres_pauses, cuts, silences, clocks, fills }).await;
}
