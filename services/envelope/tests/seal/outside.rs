//! A key that never is in this process: a program of its own signs with it, as a module (PKCS#11) or a key service does.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use countersign_chassis::clock::Clock;
use countersign_envelope::seal::{SealKey, Sealer, Tsa, TsaPolicy};
use countersign_paper::{Algorithm, Completion, Level, Mark, MarkContent, Roots, samples};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::authority::{Answer, Authority};
use crate::judges;
use crate::now;
use crate::pki::Pki;

/// A key in a file that `openssl` alone reads.
struct OutsideKey {
    file: String,
    chain: Vec<Vec<u8>>,
    algorithm: Algorithm,
}

impl OutsideKey {
    /// The key of one name behind the certificate of another.
    fn new(file: &str, name: &str, algorithm: Algorithm) -> Arc<Self> {
        let chain = [name, "issuer"].map(|name| Pki::get().der(name)).to_vec();
        Arc::new(Self { file: format!("{file}.key"), chain, algorithm })
    }
}

#[tonic::async_trait]
impl SealKey for OutsideKey {
    fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    async fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut signer = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign", &self.file])
            .current_dir(Pki::get().path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        // Dropped at the end of the line: the program signs once it has read all of it.
        signer.stdin.take().context("its input")?.write_all(message).await?;
        let output = signer.wait_with_output().await?;
        anyhow::ensure!(output.status.success(), "the program gave no signature");
        Ok(output.stdout)
    }
}

fn drawn() -> Completion {
    let content = MarkContent::Signature { name: "Ada Lovelace".into() };
    let mark = Mark { page: 1, x_pct: 10.0, y_pct: 10.0, width_pct: 30.0, height_pct: 10.0, content };
    Completion { marks: vec![mark], ..Completion::default() }
}

async fn sealed(key: Arc<OutsideKey>, tsa: Option<Tsa>) -> anyhow::Result<(Vec<u8>, Level)> {
    let sealer = Sealer::new(key, tsa, TsaPolicy::Fail, Clock::manual(now()))?;
    let base: Bytes = samples::nda().unwrap().bytes.into();
    let sealed = sealer.complete(&base, drawn()).await?;
    Ok((sealed.whole(&base), sealed.level))
}

#[tokio::test]
async fn a_key_outside_of_this_process_makes_seals_that_others_take() {
    let authority = Authority::start(Answer::Right).await;
    let mut files = Vec::new();
    for (name, algorithm) in [("rsa", Algorithm::RsaSha256), ("p256", Algorithm::P256Sha256)] {
        let roots = Roots::new(&[Pki::get().der("root")]);
        let tsa = Tsa::new(vec![authority.url.parse().unwrap()], Clock::manual(now()), Some(roots)).unwrap();
        for (tsa, expected) in [(None, Level::Basic), (Some(tsa), Level::Timestamped)] {
            let (file, level) = sealed(OutsideKey::new(name, name, algorithm), tsa).await.unwrap();
            assert_eq!(level, expected, "{name}");
            files.push(file);
        }
    }
    let stamped = ["unstamped", "stamped"].into_iter().cycle();
    for (said, stamped) in judges::pyhanko(&files).into_iter().flatten().zip(stamped) {
        assert_eq!(said, [format!("valid trusted ENTIRE_FILE NONE {stamped}")]);
    }
    for file in &files {
        assert!(judges::pdfsig_holds(file).unwrap_or(true), "{:?}", judges::pdfsig(file));
    }
}

/// Whoever keeps the key may be away, or sign with another than its certificate is of: then there is no document.
#[tokio::test]
async fn a_key_outside_of_this_process_that_does_not_sign_rightly_seals_nothing() {
    for (file, why) in [("nowhere", "the key does not sign"), ("stranger", "the finished seal does not hold")] {
        let refused = sealed(OutsideKey::new(file, "p256", Algorithm::P256Sha256), None).await.unwrap_err();
        assert!(format!("{refused:#}").contains(why), "{refused:#}");
    }
    let unlike = sealed(OutsideKey::new("rsa", "rsa", Algorithm::P256Sha256), None).await.unwrap_err();
    assert!(unlike.to_string().contains("not of the kind that its certificate says"), "{unlike}");
}
