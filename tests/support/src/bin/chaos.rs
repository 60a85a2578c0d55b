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
    /// How often a process stands still for longer than its leases last.
    #[arg(long, default_value_t = 20)]
    pauses: u32,
    /// How often connections are slowed down, held up or cut.
    #[arg(long, default_value_t = 140)]
    cuts: u32,
}

#[tokio::main]
async fn main() {
    let Cli { seed, service_kills, postgres_kills, pauses, cuts } = Cli::parse();
    let seed = seed.unwrap_or_else(|| u64::from_be_bytes(countersign_chassis::keys::random()));
    eprintln!("chaos: --seed {seed}");
    play(Plan { seed, service_kills, postgres_kills, pauses, cuts }).await;
}
