//! Ours, in a process of its own: one paper again and again, warm.
//!
//! It must never skip what the service does: every seal is read back and checked before it counts.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use clap::ValueEnum;
use countersign_paper::{
    Certificate, Completion, Fact, Identity, Limits, Listed, Mark, MarkContent, Mood, Party, Prepared, SealOptions,
    Step, Tone, Unsealed, inspect, seal, seal_complete,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::{Key, Measured};

/// What is done to a paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// It is read and sealed.
    Seal,
    /// It is sealed; it was read before.
    Prepared,
    /// Values, a certificate and a seal are put behind it.
    Complete,
}

impl Work {
    /// As the command line says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Prepared => "prepared",
            Self::Complete => "complete",
        }
    }
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

struct Signer {
    pair: Pair,
    random: SystemRandom,
    identity: Identity,
}

impl Signer {
    fn read(key: Key, folder: &Path) -> Result<Self> {
        let name = key.name();
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_file(folder.join(format!("{name}.key")))?;
        let pkcs8 = pkcs8.secret_pkcs8_der();
        let pair = match key {
            Key::Rsa => RsaKeyPair::from_pkcs8(pkcs8).map(Pair::Rsa),
            Key::P256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).map(Pair::P256),
        };
        let chain = [&*format!("{name}.pem"), "root.pem"].map(|file| CertificateDer::from_pem_file(folder.join(file)));
        let chain = chain.into_iter().map(|found| Ok(found?.to_vec())).collect::<Result<Vec<_>>>()?;
        let pair = pair.map_err(|why| anyhow!("the key: {why}"))?;
        Ok(Self { pair, random: SystemRandom::new(), identity: Identity::new(&chain)? })
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature)?;
                Ok(signature)
            }
            Pair::P256(pair) => Ok(pair.sign(&self.random, message)?.as_ref().to_vec()),
        }
    }

    /// What stands behind the paper, or the whole where it was written anew.
    fn finish(&self, unsealed: Unsealed) -> Result<countersign_paper::Sealed> {
        let signature = self.sign(unsealed.to_be_signed()).map_err(|_| anyhow!("signing failed"))?;
        Ok(unsealed.finish(&signature, None)?)
    }
}

/// Does that work for so long, says how often on standard output, and writes the last result.
pub fn run(work: Work, key: Key, folder: &Path, paper: &Path, seconds: f64, out: &Path) -> Result<()> {
    let signer = Signer::read(key, folder)?;
    let paper = std::fs::read(paper)?;
    let prepared = if work == Work::Prepared { Prepared::new(&paper)? } else { None };
    let pages = inspect(&paper, &Limits::default())?.pages.len();
    let (options, completion) = (SealOptions::default(), completion(u32::try_from(pages)?));
    let once = || -> Result<Vec<u8>> {
        let unsealed = match work {
            Work::Seal => seal(&paper, &signer.identity, &options)?,
            Work::Complete => seal_complete(&paper, &completion, &signer.identity, &options)?,
            Work::Prepared => {
                let prepared = prepared.as_ref().context("the paper cannot be prepared")?;
                // A store keeps the paper; what comes behind it is all that is made.
                return Ok(signer.finish(prepared.seal(&signer.identity, &options)?)?.delta);
            }
        };
        Ok(signer.finish(unsealed)?.whole(&paper))
    };
    let mut last = Vec::new();
    for _ in 0..3 {
        drop(std::mem::take(&mut last));
        last = once()?;
    }
    let (began, cpu, mut documents) = (Instant::now(), cpu_seconds()?, 0);
    while began.elapsed() < Duration::from_secs_f64(seconds) {
        // What was made before is not kept beside what is made now.
        drop(std::mem::take(&mut last));
        last = once()?;
        documents += 1;
    }
    let (seconds, cpu_seconds) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let measured = Measured { documents, seconds, cpu_seconds, peak_mib: peak_mib()? };
    if work == Work::Prepared {
        last.splice(0..0, paper.iter().copied());
    }
    std::fs::write(out, last)?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// What `peers/libpdf.mjs` draws word for word: a signature on every page, and a certificate of a page behind the last.
fn completion(pages: u32) -> Completion {
    let mark = |page| Mark {
        page,
        x_pct: 12.0,
        y_pct: 88.0,
        width_pct: 40.0,
        height_pct: 5.0,
        content: MarkContent::Signature { name: "Ann Example".to_owned() },
    };
    let fact = |label: &str, value: &str| Fact { label: label.to_owned(), value: value.to_owned() };
    let party = Party {
        name: "Ann Example".to_owned(),
        role: "Signer".to_owned(),
        state: Mood { word: "Signed".to_owned(), tone: Tone::Good },
        facts: vec![fact("E-mail", "ann@example.com"), fact("Signed", "2026-01-01 00:00:00 UTC")],
        signature: None,
    };
    let step = |number: u64| Step {
        number,
        at: "2026-01-01 00:00:00".to_owned(),
        what: "Somebody did something".to_owned(),
        who: "Ann Example".to_owned(),
        hash: "0123456789ab".to_owned(),
    };
    let certificate = Certificate {
        issuer: "Bench Ltd".to_owned(),
        title: "Certificate of completion".to_owned(),
        subject: "Bench".to_owned(),
        outcome: Mood { word: "Completed".to_owned(), tone: Tone::Good },
        reference: "env_bench".to_owned(),
        facts: vec![fact("Envelope", "env_bench")],
        reason: None,
        documents: vec![Listed {
            name: "Paper".to_owned(),
            summary: "1 page".to_owned(),
            facts: vec![fact("SHA-256", &"0".repeat(64))],
        }],
        people: vec![party],
        history: (1..=20).map(step).collect(),
        chain: vec![fact("Hash of the last", &"0".repeat(64))],
        checks: Vec::new(),
        note: None,
    };
    Completion { marks: (1..=pages).map(mark).collect(), certificate: Some(certificate), ..Completion::default() }
}

/// Processor time of this process, of user and system.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').context("/proc/self/stat")?.1;
    let ticks: Result<Vec<f64>, _> = after_name.split_whitespace().skip(11).take(2).map(str::parse).collect();
    Ok(ticks?.iter().sum::<f64>() / rustix::param::clock_ticks_per_second() as f64)
}

fn peak_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}
