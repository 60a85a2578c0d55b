//! Removes bytes that nobody needs any more, and gives them back to whoever needs them again.
//!
//! Bytes are condemned in a transaction and removed after it. Whoever is cut in between leaves a claim that runs out; removing
//! what is gone already changes nothing. A process that stands still between its last look at the clock and the removal for
//! longer than its claim could remove bytes that were stored again since: the claim is made much longer than the removal may
//! take.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::TimeDelta;
use countersign_chassis::failpoint;
use countersign_chassis::ticker::Progress;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::blobs::Blobs;
use crate::domain::envelope::Digest;
use crate::store::Store;

/// Bytes of one tick.
const BATCH_MAX: i64 = 50;
/// How long a claim lasts …
const LEASE_SECONDS: i64 = 120;
/// … how long after it a removal may begin …
const BEGIN_MAX: Duration = Duration::from_secs(30);
/// … and how long one may take.
const REMOVE_MAX: Duration = Duration::from_secs(30);
/// For how long removed bytes cannot be named by whoever found them stored just before: longer than anything lasts that stores
/// bytes and then names them.
const REMEMBERED_HOURS: i64 = 24;
/// Removals that are forgotten at a time.
const FORGOTTEN_MAX: i64 = 1_000;
/// How old bytes must be that no row names before they are taken for left over: older than anything that is about to name them.
const ORPHAN_HOURS: i64 = 24;
/// Stored bytes that are looked up at a time.
const LOOKED_UP_MAX: usize = 500;
/// How often, and with what pause, somebody who needs bytes looks whether they are still being removed.
const LOOKS_MAX: u32 = 50;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Removes what is due.
pub async fn tick(store: &Store, blobs: &Blobs) -> anyhow::Result<Progress> {
    let now = store.clock().now();
    let until = now + TimeDelta::seconds(LEASE_SECONDS);
    let claimed = store.claim_removals(now, until, BATCH_MAX).await?;
    let began = Instant::now();
    for digest in &claimed {
        if began.elapsed() > BEGIN_MAX || !store.condemn(digest, until, now).await? {
            continue;
        }
        failpoint!("removal.condemned");
        let removed = tokio::time::timeout(REMOVE_MAX, blobs.delete(digest)).await;
        failpoint!("removal.removed");
        match removed.context("it takes too long").and_then(|removed| Ok(removed?)) {
            Ok(()) => store.removed(digest, until, store.clock().now()).await?,
            Err(error) => tracing::error!(error = format!("{error:#}"), "bytes could not be removed"),
        }
    }
    let forgotten = store.forget_removals(now - TimeDelta::hours(REMEMBERED_HOURS), FORGOTTEN_MAX).await?;
    Ok(if claimed.is_empty() && forgotten == 0 { Progress::Idle } else { Progress::Busy })
}

/// Finds bytes that no row names: of calls that failed after they had stored them, and of documents that were replaced. They
/// then go as all others. What was never written to its end goes at once.
pub async fn look_for_orphans(store: &Store, blobs: &Blobs) -> anyhow::Result<Progress> {
    let now = store.clock().now();
    let before = now - TimeDelta::hours(ORPHAN_HOURS);
    let old = blobs.list().try_filter_map(|it| async move { Ok((it.last_modified < before).then_some(it.digest)) });
    let mut pages = old.chunks(LOOKED_UP_MAX).boxed();
    let mut found = 0;
    while let Some(page) = pages.next().await {
        let digests = page.into_iter().collect::<Result<Vec<Digest>, _>>()?;
        found += store.unnamed(&digests, now).await?;
    }
    if found > 0 {
        tracing::info!(found, "bytes that nobody needs");
    }
    let forgotten = blobs.forget_unfinished(before).await?;
    if forgotten > 0 {
        tracing::info!(forgotten, "files that never became documents");
    }
    Ok(Progress::Idle)
}

/// Stores bytes by `put`, also if they are just being removed, or were a short while ago.
pub async fn restore(
    store: &Store,
    digests: &[Digest],
    put: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut graves = Vec::new();
    for digest in digests {
        let mut looks = 0;
        while let Some(grave) = store.grave(digest).await? {
            if !grave.is_open(store.clock().now()) {
                graves.push((digest, grave));
                break;
            }
            looks += 1;
            anyhow::ensure!(looks < LOOKS_MAX, "the bytes are still being removed");
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
    // Only what was looked at before is let go: if anybody has been at the bytes since, they may be gone again.
    put.await?;
    for (digest, grave) in graves {
        store.exhume(digest, grave).await?;
    }
    Ok(())
}
