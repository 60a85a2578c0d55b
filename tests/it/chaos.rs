//! Faults by the dice under load, as `cargo chaos` plays them for longer.

use countersign_test_support::chaos::{Plan, play};

/// D3, T-72: 30 kills of services and 10 of Postgres or its backends, pauses of both, connections that are cut, also within a COMMIT,
/// a way on which nothing arrives, clocks that are set and a disk that is full: nothing acknowledged is lost, nothing happens twice,
/// and everything comes to rest by itself.
///
/// `COUNTERSIGN_CHAOS_SEED` plays the faults of a failure again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_nothing_acknowledged_is_lost_whatever_strikes() {
    let seed = std::env::var("COUNTERSIGN_CHAOS_SEED").map_or(20_261_122, |asked| asked.parse().expect("a seed"));
    eprintln!("COUNTERSIGN_CHAOS_SEED={seed}");
    let plan = Plan {
        seed,
        service_kills: 30,
        postgres_kills: 10,
        pauses: 3,
        postgres_pauses: 2,
        cuts: 14,
        silences: 1,
        clocks: 6,
        fills: 2,
    };
    play(plan).await;
}
