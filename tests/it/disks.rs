//! Disks without room under Postgres.

use countersign_test_support::chaos::{Full, fill_up};

/// D3: where the tables have no room, changes are answered with UNAVAILABLE and when to come again, reads go on, nothing is half
/// done, and within ten seconds of there being room everything goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_a_full_disk_refuses_changes_and_loses_none() {
    fill_up(Full::Tables, 11).await;
}

/// D3: where its journal has no room either, Postgres ends: everybody is told to come again, and once it has room and was started,
/// everything goes on within ten seconds, with all that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_a_journal_without_room_loses_nothing() {
    fill_up(Full::Journal, 12).await;
}
