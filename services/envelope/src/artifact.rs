//! Makes the documents of an ended envelope: with all values when everybody has signed, watermarked when somebody refused,
//! each with the certificate behind its last page; and the certificate alone.
//!
//! A durable job: it is tried for ever, ever less often, and never changes what happened.

mod certificate;
mod marks;
mod words;

use anyhow::Context as _;
use bytes::Bytes;
use chrono::TimeDelta;
use countersign_chassis::keys::sha256;
use countersign_chassis::ticker::Progress;
use countersign_paper as paper;

use self::certificate::Happened;
use self::marks::Drawings;
use crate::blobs::Blobs;
use crate::domain::command::{By, Command, NewArtifact};
use crate::domain::decide::Verdict;
use crate::domain::envelope::{Document, Envelope, SealLevel, Version};
use crate::execute::{Ask, Executor};
use crate::removal::restore;
use crate::seal::Sealer;
use crate::store::{Job, Scope, Store};

/// Jobs of one tick.
const BATCH_MAX: i64 = 4;
/// How long a job may take before another process may take it over.
const LEASE_SECONDS: i64 = 120;
/// Events that are read at a time.
const PAGE_EVENTS: i64 = 200;
/// The longest pause between tries.
const PAUSE_SECONDS_MAX: i64 = 300;

/// Does the due jobs.
pub async fn tick(executor: &Executor, blobs: &Blobs, sealer: Option<&Sealer>) -> anyhow::Result<Progress> {
    let store = executor.store();
    let now = store.clock().now();
    let jobs = store.claim_jobs(now, now + TimeDelta::seconds(LEASE_SECONDS), BATCH_MAX).await?;
    for job in &jobs {
        if let Err(error) = make(executor, blobs, sealer, job).await {
            let (envelope, attempts) = (job.envelope.to_string(), job.attempts);
            tracing::error!(envelope, attempts, error = format!("{error:#}"), "artefacts could not be made");
            let pause = 2_i64.saturating_pow(attempts.min(16)).min(PAUSE_SECONDS_MAX);
            store.postpone_job(job, store.clock().now() + TimeDelta::seconds(pause)).await?;
        }
    }
    Ok(if jobs.is_empty() { Progress::Idle } else { Progress::Busy })
}

async fn make(executor: &Executor, blobs: &Blobs, sealer: Option<&Sealer>, job: &Job) -> anyhow::Result<()> {
    let (store, scope) = (executor.store(), Scope::any_mode(job.account));
    let envelope = store.envelope(scope, job.envelope).await?.context("the envelope is gone")?;
    let drawings = store.drawings(scope, job.envelope).await?;
    let history = history(store, scope, job).await?;
    let account = store.account(job.account).await?.context("the account is gone")?;
    let brand = account.settings.brand.name;
    let issuer = if brand.is_empty() { account.name } else { brand };
    let said = certificate::certificate(&envelope, &history, &drawings, issuer, job.version);
    let press = Press { store, blobs, sealer };
    let mut artifacts = Vec::new();
    for document in &envelope.documents {
        let original = blobs.get(&document.sha256).await?;
        let completion = completion(&envelope, document, &drawings, job.version, said.clone());
        artifacts.push(press.make(document, job.version, original, completion).await?);
    }
    if let Some(first) = envelope.documents.first() {
        let bytes = beside(move || paper::certificate(&said)).await?;
        artifacts.push(press.make(first, Version::Certificate, bytes, paper::Completion::default()).await?);
    }
    let command = Command::Store { artifacts };
    let ask = Ask { scope, id: job.envelope, by: By::system(), command, expected: None, billing: None };
    let stored = executor.execute(ask, |_| true).await?;
    let taken = stored.is_some_and(|outcome| !matches!(outcome.answer, Verdict::Refused(_)));
    anyhow::ensure!(taken, "the envelope does not take its artefacts");
    Ok(())
}

/// What documents are made with.
struct Press<'a> {
    store: &'a Store,
    blobs: &'a Blobs,
    sealer: Option<&'a Sealer>,
}

impl Press<'_> {
    /// Draws, seals and keeps one.
    async fn make(
        &self,
        document: &Document,
        version: Version,
        base: Bytes,
        completion: paper::Completion,
    ) -> anyhow::Result<NewArtifact> {
        let (bytes, seal) = match self.sealer {
            Some(sealer) => sealer.complete(base, completion).await?,
            None => (beside(move || paper::complete(&base, &completion)).await?, SealLevel::None),
        };
        let size_bytes = bytes.len() as u64;
        let sha256 = sha256(&bytes);
        restore(self.store, &[sha256], async { self.blobs.put(bytes).await.map(drop) }).await?;
        Ok(NewArtifact { document: document.id, version, sha256, size_bytes, seal })
    }
}

/// Drawing takes the processor for milliseconds: not on a thread that serves calls.
async fn beside(draw: impl FnOnce() -> Result<Vec<u8>, paper::StampError> + Send + 'static) -> anyhow::Result<Bytes> {
    Ok(Bytes::from(tokio::task::spawn_blocking(draw).await.context("drawing was cut")??))
}

fn completion(
    envelope: &Envelope,
    document: &Document,
    drawings: &Drawings,
    version: Version,
    certificate: paper::Certificate,
) -> paper::Completion {
    let (marks, refusal) = match version {
        Version::Signed | Version::Certificate => (marks::marks(envelope, document, drawings), None),
        Version::Declined => {
            let line = certificate::refused_by(envelope);
            (Vec::new(), Some(paper::Refusal { line, ..paper::Refusal::default() }))
        }
    };
    paper::Completion { marks, refusal, note: certificate.note.clone(), certificate: Some(certificate) }
}

/// The history up to the change that ended the business. What comes later, as a mail that came back, is left out: a job that
/// is done twice has to make the same bytes.
async fn history(store: &Store, scope: Scope, job: &Job) -> anyhow::Result<Vec<Happened>> {
    let mut history: Vec<Happened> = Vec::new();
    let mut end = None;
    loop {
        let after = history.last().map_or(0, |it| it.record.sequence);
        let page = store.history(scope, job.envelope, after, PAGE_EVENTS).await?;
        if page.is_empty() {
            break;
        }
        for entry in &page {
            let event = Happened::read(entry)?;
            if end.is_some_and(|revision| event.record.revision != revision) {
                return Ok(history);
            }
            if event.record.kind == certificate::ending(job.version) {
                end = Some(event.record.revision);
            }
            history.push(event);
        }
    }
    anyhow::ensure!(end.is_some(), "the history does not end yet");
    Ok(history)
}
