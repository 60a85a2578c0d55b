//! Follows the end of the feed, once for all streams of this process: they wait on it and read at their own pace.

use countersign_chassis::ticker::Progress;
use tokio::sync::watch;

use crate::store::{Heads, Store};

/// The end of the feed as last seen; `None` before the first look.
pub type Tail = watch::Receiver<Option<Heads>>;

/// Looks at the end of the feed and tells the streams if it has moved.
pub async fn tick(store: &Store, sender: &watch::Sender<Option<Heads>>) -> anyhow::Result<Progress> {
    let heads = store.heads().await?;
    sender.send_if_modified(|known| {
        let moved = known.as_ref() != Some(&heads);
        *known = Some(heads);
        moved
    });
    Ok(Progress::Idle)
}
