//! Looks at all that the notifier keeps for what must never be: that anything is told twice, that a claim is held by nobody, that
//! what was tried is not what is written down.
//!
//! Reads under one snapshot and changes nothing. Must never print anything personal.

use anyhow::Context as _;
use countersign_chassis::check::{CheckConfig, Finding, Print, Snapshot, Summary};

use crate::id::{AccountId, EventId};
use crate::store::{COUNTS, QUESTIONS};

/// Looks at everything, and tells what it finds.
pub async fn check(task: &CheckConfig, print: Print<'_>) -> anyhow::Result<Summary> {
    let only: Option<AccountId> = task.account.as_deref().map(str::parse).transpose().context("--account: no id")?;
    let only = only.map(|id| id.uuid());
    let snapshot = Snapshot::open(&task.database).await?;
    let mut summary = Summary::default();
    for question in QUESTIONS {
        for answer in snapshot.ask(question, only).await? {
            summary.findings += 1;
            print(Finding {
                invariant: question.invariant,
                account: answer.account.map(|id| AccountId::from_uuid(id).to_string()),
                subject: answer.subject.map(|id| EventId::from_uuid(id).to_string()),
                detail: answer.detail,
            });
        }
    }
    for (kind, question) in COUNTS {
        let count = snapshot.ask(question, only).await?.into_iter().next();
        let count = count.and_then(|answer| answer.detail.parse().ok()).unwrap_or_default();
        summary.looked_at.push((kind, count));
    }
    Ok(summary)
}
