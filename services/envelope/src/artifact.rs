//! Makes the documents of an ended envelope: with all values when everybody has signed, watermarked when somebody refused.
//!
//! A durable job: it is tried for ever, ever less often, and never changes what happened.

use anyhow::Context as _;
use bytes::Bytes;
use chrono::TimeDelta;
use countersign_chassis::ticker::Progress;
use countersign_paper as paper;

use crate::blobs::Blobs;
use crate::domain::command::{By, Command, NewArtifact};
use crate::domain::decide::Verdict;
use crate::domain::envelope::{Document, Envelope, SealLevel, Version};
use crate::domain::field::{Field, FieldType, Value};
use crate::execute::{Ask, Executor};
use crate::seal::Sealer;
use crate::store::{Job, Scope};

/// Jobs of one tick.
const BATCH_MAX: i64 = 4;
/// How long a job may take before another process may take it over.
const LEASE_SECONDS: i64 = 120;
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
    let scope = Scope::any_mode(job.account);
    let envelope = executor.store().envelope(scope, job.envelope).await?.context("the envelope is gone")?;
    let mut artifacts = Vec::new();
    for document in &envelope.documents {
        let original = blobs.get(&document.sha256).await?;
        let bytes = render(&envelope, document, job.version, original).await?;
        let (bytes, seal) = match sealer {
            Some(sealer) => sealer.seal(bytes, sealer.options()).await?,
            None => (bytes, SealLevel::None),
        };
        let size_bytes = bytes.len() as u64;
        let sha256 = blobs.put(bytes).await?;
        artifacts.push(NewArtifact { document: document.id, version: job.version, sha256, size_bytes, seal });
    }
    let command = Command::Store { artifacts };
    let ask = Ask { scope, id: job.envelope, by: By::system(), command, expected: None, billing: None };
    let stored = executor.execute(ask, |_| true).await?;
    let taken = stored.is_some_and(|outcome| !matches!(outcome.answer, Verdict::Refused(_)));
    anyhow::ensure!(taken, "the envelope does not take its artefacts");
    Ok(())
}

/// Drawing takes the processor for milliseconds: not on a thread that serves calls.
async fn render(envelope: &Envelope, document: &Document, version: Version, original: Bytes) -> anyhow::Result<Bytes> {
    let note = (!envelope.livemode).then(|| "TEST".to_owned());
    let marks = match version {
        Version::Signed => marks(envelope, document),
        Version::Declined => Vec::new(),
    };
    let line = envelope.facts.declined_at.map(|at| format!("{} UTC", at.format("%Y-%m-%d %H:%M:%S")));
    let drawn = tokio::task::spawn_blocking(move || match version {
        Version::Signed => Ok(paper::stamp(&original, &marks, &paper::StampOptions { note })?),
        Version::Declined => {
            let refusal = paper::Refusal { line, ..paper::Refusal::default() };
            anyhow::Ok(paper::refuse(&original, &refusal)?)
        }
    });
    Ok(Bytes::from(drawn.await.context("drawing was cut")??))
}

fn marks(envelope: &Envelope, document: &Document) -> Vec<paper::Mark> {
    let mark = |field: &Field| {
        let content = match (&field.value, field.kind) {
            (Some(Value::Text(text)), FieldType::Signature) => {
                paper::MarkContent::Signature { name: text.reveal().to_owned() }
            }
            (Some(Value::Text(text)), FieldType::Initials) => paper::MarkContent::Initials(text.reveal().to_owned()),
            (Some(Value::Text(text)), _) => paper::MarkContent::Text(text.reveal().to_owned()),
            (Some(Value::Checked(checked)), _) => paper::MarkContent::Check(*checked),
            (None, _) => return None,
        };
        Some(paper::Mark {
            page: field.placement.page,
            x_pct: field.placement.x_percent,
            y_pct: field.placement.y_percent,
            width_pct: field.placement.width_percent,
            height_pct: field.placement.height_percent,
            content,
        })
    };
    envelope.fields.iter().filter(|field| field.document == document.id).filter_map(mark).collect()
}
