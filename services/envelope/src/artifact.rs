//! Makes the documents of an ended envelope: with all values when everybody has signed, watermarked when somebody refused,
//! each with the certificate behind its last page; and the certificate alone.
//!
//! A durable job: it is tried for ever, ever less often, and never changes what happened. What is made in vain is not left behind.

mod certificate;
mod marks;
mod words;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use chrono::TimeDelta;
use countersign_chassis::failpoint;
use countersign_chassis::ticker::Progress;
use countersign_chassis::{propagation, telemetry};
use countersign_paper as paper;
use futures_util::FutureExt as _;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tracing::{Instrument as _, Span};

use self::certificate::Happened;
use self::marks::Drawings;
use crate::blobs::{Blobs, hashed};
use crate::domain::command::{By, Command, NewArtifact};
use crate::domain::decide::Verdict;
use crate::domain::envelope::{Digest, Document, Envelope, SealLevel, Version};
use crate::execute::{Ask, Executor};
use crate::measure::{self, Work};
use crate::removal::restore;
use crate::seal::{Sealer, level};
use crate::store::{Job, Scope, Store};

/// Envelopes whose documents are made at the same time.
const AT_ONCE_MAX: usize = 4;
/// How long a job may be silent before another process may take it over: it is heard of before each document …
const LEASE_SECONDS: i64 = 120;
/// … which may take so long.
const DOCUMENT_MAX: Duration = Duration::from_secs(100);
/// Events that are read at a time.
const PAGE_EVENTS: i64 = 200;
/// The longest pause between tries.
const PAUSE_SECONDS_MAX: i64 = 300;

/// Takes on envelopes whose documents are to be made. What is under way ends with it, and is taken on by another when its claim
/// runs out.
pub struct Artifacts {
    press: Arc<Press>,
    places: Arc<Semaphore>,
    under_way: Mutex<JoinSet<()>>,
}

/// What documents are made with.
pub struct Press {
    /// What executes commands.
    pub executor: Executor,
    /// The documents.
    pub blobs: Blobs,
    /// What seals them, if something does.
    pub sealer: Option<Sealer>,
}

impl Artifacts {
    /// With that press.
    #[must_use]
    pub fn new(press: Press) -> Self {
        Self { press: Arc::new(press), places: Arc::new(Semaphore::new(AT_ONCE_MAX)), under_way: Mutex::default() }
    }

    /// Takes on as many due jobs as there are places. Each is done in a task of its own: one that is slow keeps nobody else
    /// waiting.
    pub async fn tick(&self) -> anyhow::Result<Progress> {
        let mut under_way = self.under_way.lock().await;
        while under_way.try_join_next().is_some() {}
        let store = self.press.executor.store();
        let now = store.clock().now();
        let free = i64::try_from(self.places.available_permits()).unwrap_or_default();
        if free == 0 {
            return Ok(Progress::Idle);
        }
        let jobs = store.claim_jobs(now, now + TimeDelta::seconds(LEASE_SECONDS), free).await?;
        let progress = if jobs.is_empty() { Progress::Idle } else { Progress::Busy };
        for job in jobs {
            let (press, place) = (Arc::clone(&self.press), Arc::clone(&self.places).acquire_owned().await?);
            let span = span(&job);
            let made = async move {
                if let Err(error) = press.one(&job).await {
                    // Its claim runs out.
                    let envelope = job.envelope.to_string();
                    tracing::warn!(envelope, error = format!("{error:#}"), "a job of artefacts could not be settled");
                }
                drop(place);
                press.executor.store().artifacts_due().notify_one();
            };
            under_way.spawn(made.instrument(span));
        }
        Ok(progress)
    }
}

/// The span of a job: in the trace of whoever ended the business.
fn span(job: &Job) -> Span {
    let span =
        tracing::info_span!(target: telemetry::ROOT, "artifacts", otel.name = "make documents", otel.kind = "internal");
    propagation::go_on(&span, job.traceparent.as_deref());
    span
}

impl Press {
    /// Makes the documents of one envelope and settles the job.
    pub async fn one(&self, job: &Job) -> anyhow::Result<()> {
        let (store, mut stored) = (self.executor.store(), Vec::new());
        let began = Instant::now();
        // A panic is a try that failed like any other: it is told of, and the next does not wait for the claim to run out.
        let made = AssertUnwindSafe(self.make(job, &mut stored)).catch_unwind().await;
        let made = made.unwrap_or_else(|_| Err(anyhow::anyhow!("it ended in a panic")));
        measure::worked(Work::Seal, began.elapsed(), if made.is_ok() { "ok" } else { "error" });
        if let Err(error) = &made {
            let (envelope, attempts) = (job.envelope.to_string(), job.attempts);
            tracing::error!(envelope, attempts, error = format!("{error:#}"), "artefacts could not be made");
            let pause = 2_i64.saturating_pow(attempts.min(16)).min(PAUSE_SECONDS_MAX);
            store.postpone_job(job, store.clock().now() + TimeDelta::seconds(pause)).await?;
        }
        // Seals differ each time: another try makes other bytes, and nobody ever names these.
        if !matches!(made, Ok(Verdict::Done)) {
            store.unnamed(&stored, store.clock().now()).await?;
        }
        Ok(())
    }

    /// Makes the documents and tells the envelope; what was stored for it, whatever comes of it, is in `stored`.
    async fn make(&self, job: &Job, stored: &mut Vec<Digest>) -> anyhow::Result<Verdict> {
        failpoint!("artifact.claimed");
        let (store, scope) = (self.executor.store(), Scope::any_mode(job.account));
        let envelope = store.envelope(scope, job.envelope).await?.context("the envelope is gone")?;
        let drawings = store.drawings(scope, job.envelope).await?;
        let history = history(store, scope, job).await?;
        let account = store.account(job.account).await?.context("the account is gone")?;
        let brand = account.settings.brand.name;
        let issuer = if brand.is_empty() { account.name } else { brand };
        let mut said = certificate::certificate(&envelope, &history, &drawings, issuer, job.version);
        let mut artifacts: Vec<NewArtifact> = Vec::new();
        // Who refuses does not wait for what is still on its way: of that there is nothing to watermark.
        for document in envelope.documents.iter().filter(|document| document.is_read()) {
            let base = async { self.blobs.get(&document.sha256).await };
            let completion = completion(&envelope, document, &drawings, job.version, said.clone());
            artifacts.push(self.press(job, (document, job.version), base, completion, stored).await?);
        }
        let bare = artifacts.iter().filter(|made| made.is_bare).map(|made| made.document).collect::<Vec<_>>();
        certificate::add_values(&mut said, &envelope, &bare);
        // It is of the envelope, so it is there whatever was read.
        if let Some(first) = envelope.documents.first() {
            let alone = beside(move || paper::certificate(&said));
            let of = (first, Version::Certificate);
            artifacts.push(self.press(job, of, alone, paper::Completion::default(), stored).await?);
        }
        failpoint!("artifact.stored");
        let command = Command::Store { artifacts };
        let ask = Ask { scope, id: job.envelope, by: By::system(), command, expected: None, billing: None };
        match self.executor.execute(ask, |_| true).await?.map(|outcome| outcome.answer) {
            None | Some(Verdict::Refused(_)) => anyhow::bail!("the envelope does not take its artefacts"),
            Some(taken) => Ok(taken),
        }
    }

    /// Draws, seals and keeps one document. Nothing is drawn where earlier signatures are to stay.
    async fn press(
        &self,
        job: &Job,
        (document, version): (&Document, Version),
        base: impl Future<Output = anyhow::Result<Bytes>>,
        mut completion: paper::Completion,
        stored: &mut Vec<Digest>,
    ) -> anyhow::Result<NewArtifact> {
        let store = self.executor.store();
        store.postpone_job(job, store.clock().now() + TimeDelta::seconds(LEASE_SECONDS)).await?;
        let make = async {
            let base = base.await?;
            // A test has to say so on each page, whoever signed it before.
            let may_be_bare = version == Version::Signed && completion.note.is_none();
            let is_bare = may_be_bare && keeps_signatures(base.clone()).await?;
            if is_bare {
                completion = paper::Completion::default();
            }
            let (bytes, sha256, seal) = match &self.sealer {
                Some(sealer) => {
                    let sealed = sealer.complete(&base, completion).await?;
                    (Bytes::from(sealed.whole(&base)), sealed.sha256, level(sealed.level))
                }
                None => {
                    let bytes = beside(move || paper::complete(&base, &completion)).await?;
                    let sha256 = hashed(&bytes).await?;
                    (bytes, sha256, SealLevel::None)
                }
            };
            let size_bytes = bytes.len() as u64;
            stored.push(sha256);
            failpoint!("artifact.storing");
            restore(store, &[sha256], async { self.blobs.put_known(sha256, bytes).await.map(drop) }).await?;
            measure::made(seal);
            Ok(NewArtifact { document: document.id, version, sha256, size_bytes, seal, is_bare })
        };
        tokio::time::timeout(DOCUMENT_MAX, make).await.context("it takes too long")?
    }
}

/// Drawing takes the processor for milliseconds: not on a thread that serves calls.
async fn beside(draw: impl FnOnce() -> Result<Vec<u8>, paper::StampError> + Send + 'static) -> anyhow::Result<Bytes> {
    Ok(Bytes::from(tokio::task::spawn_blocking(draw).await.context("drawing was cut")??))
}

/// Whether somebody signed a document before it came, and what holds of that can stay. What was refused has to say so on each
/// page instead; as it came it can still be had.
async fn keeps_signatures(base: Bytes) -> anyhow::Result<bool> {
    let look = move || paper::can_keep_signatures(&base);
    Ok(tokio::task::spawn_blocking(look).await.context("reading was cut")??)
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
