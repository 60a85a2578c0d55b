//! The end of a paper that was let in: drawn on and sealed in this process, by the service's own sealer and in its order.
//!
//! It must never wait for a paper without bound: one that is never done is a fault, and has a number.

use std::time::Duration;

use bytes::Bytes;
use countersign_chassis::clock::Clock;
use countersign_envelope::seal::{Recognised, Sealer};
use countersign_paper::{Completion, Roots, Trust, Verification, can_keep_signatures};
use tokio::sync::oneshot;

use crate::ending::Ending;
use crate::seals;

/// Less than the service waits for a document.
const PRESSED_MAX: Duration = Duration::from_secs(60);

/// What seals, and by whom its seals count.
#[derive(Clone)]
pub struct Press {
    sealer: Sealer,
    recognised: Recognised,
}

impl Press {
    /// With a key of `openssl`.
    pub async fn open() -> Self {
        let (sealer, recognised) = seals::settings(None).open(&Clock::database()).await.unwrap();
        Self { sealer: sealer.unwrap(), recognised }
    }

    pub fn roots(&self) -> Roots {
        self.recognised.roots().clone()
    }

    /// The paper as it leaves the envelope.
    pub async fn press(&self, base: Bytes, pages: usize, ending: Ending) -> Result<Bytes, String> {
        let (done, pressed) = oneshot::channel();
        let sealer = self.sealer.clone();
        // In a thread and a runtime of its own: what never ends keeps nobody from saying so.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = done.send(runtime.block_on(pressed_by(&sealer, &base, ending.completion(pages), ending)));
        });
        match tokio::time::timeout(PRESSED_MAX, pressed).await {
            Ok(Ok(pressed)) => pressed,
            Ok(Err(_)) => Err("seal: panic".to_owned()),
            Err(_) => Err("seal: it never ends".to_owned()),
        }
    }

    /// Whether what was found in a paper that left is our seal, and all of it holds.
    pub fn judge(&self, found: &Verification) -> Result<(), String> {
        let seal = found.signatures.last().ok_or("seal: none is found")?;
        let is_ours = seal.signer.as_ref().is_some_and(|signer| self.recognised.is_ours(&signer.sha256));
        let holds = seal.is_intact() && seal.covers_whole_file && seal.trust == Trust::Trusted;
        if is_ours && holds { Ok(()) } else { Err(format!("seal: {seal:?}")) }
    }
}

async fn pressed_by(
    sealer: &Sealer,
    base: &Bytes,
    mut completion: Completion,
    ending: Ending,
) -> Result<Bytes, String> {
    let keeps = can_keep_signatures(base).map_err(|why| format!("signatures: {}", why.name()))?;
    if keeps && ending == Ending::Signed {
        completion = Completion::default();
    }
    let sealed = sealer.complete(base, completion).await.map_err(|why| format!("seal: {why:#}"))?;
    Ok(sealed.whole(base).into())
}
