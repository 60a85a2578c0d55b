//! Looks at all that the service keeps for what must never be: of each envelope whether its history is whole and says what the
//! envelope is, of each account whether its ledger adds up, of the feed whether it tells each event once and in order, and of what
//! else follows from another row whether it does.
//!
//! Reads under one snapshot and changes nothing, so it may look at a database that is served. Must never print anything personal.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use countersign_chassis::check::{Finding, Print, Summary};
use countersign_chassis::clock::Clock;
use diesel::result::Error as DieselError;
use futures_util::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use crate::blobs::{BlobError, Blobs, DocumentKeys};
use crate::config::Check;
use crate::domain::audit::{Audit, Fault};
use crate::domain::envelope::{Digest, Envelope};
use crate::domain::id::{AccountId, EnvelopeId, UploadId};
use crate::store::{Looked, QUESTIONS, Store};

/// Envelopes whose rows travel together: of these alone something is held in memory.
const AT_ONCE: usize = 16;

/// One look at everything.
struct Look {
    rows: Looked,
    bytes: Option<(Blobs, Store)>,
    only: Option<Uuid>,
    events: AtomicU64,
}

/// Looks at everything, and tells what it finds.
pub async fn check(task: &Check, print: Print<'_>) -> anyhow::Result<Summary> {
    let only: Option<AccountId> =
        task.check.account.as_deref().map(str::parse).transpose().context("--account: no id")?;
    let bytes = if task.blobs {
        let keys = task.document_keys.as_ref().map(DocumentKeys::parse).transpose()?;
        let place = task.documents.as_ref().context("--documents: is needed")?;
        Some((Blobs::open(place, keys)?, Store::open(&task.check.database, Clock::database()).await?))
    } else {
        None
    };
    let rows = Looked::open(&task.check.database).await?;
    let look = Look { rows, bytes, only: only.map(|id| id.uuid()), events: AtomicU64::new(0) };
    let mut found = 0;
    let mut count = |finding: Finding| {
        found += 1;
        print(finding);
    };
    look.questions(&mut count).await?;
    let (accounts, entries) = look.ledgers(&mut count).await?;
    anyhow::ensure!(only.is_none() || accounts > 0, "--account: there is none with that id");
    let envelopes = look.envelopes(&mut count).await?;
    let uploads = look.uploads(&mut count).await?;
    let mut looked_at = vec![("accounts", accounts), ("ledger entries", entries), ("envelopes", envelopes)];
    looked_at.push(("events", look.events.load(Ordering::Relaxed)));
    looked_at.extend(uploads.map(|uploads| ("uploads", uploads)));
    Ok(Summary { looked_at, findings: found })
}

impl Look {
    async fn questions(&self, print: Print<'_>) -> anyhow::Result<()> {
        for question in QUESTIONS {
            for answer in self.rows.ask(question, self.only).await? {
                print(Finding {
                    invariant: question.invariant,
                    account: answer.account.map(|id| AccountId::from_uuid(id).to_string()),
                    subject: answer.subject.map(|id| EnvelopeId::from_uuid(id).to_string()),
                    detail: answer.detail,
                });
            }
        }
        Ok(())
    }

    /// Says how many accounts there are, and how many entries.
    async fn ledgers(&self, print: Print<'_>) -> anyhow::Result<(u64, u64)> {
        let (mut after, mut accounts, mut entries) = (Uuid::nil(), 0, 0);
        loop {
            let page = self.rows.accounts(after, self.only).await?;
            let Some(last) = page.last() else { return Ok((accounts, entries)) };
            after = *last;
            for account in page {
                let (count, wrong) = self.rows.ledger(account).await?;
                accounts += 1;
                entries += count;
                let account = AccountId::from_uuid(account).to_string();
                for detail in wrong {
                    let account = Some(account.clone());
                    print(Finding { invariant: "ledger.balance", account, subject: None, detail });
                }
            }
        }
    }

    /// Says how many envelopes there are.
    async fn envelopes(&self, print: Print<'_>) -> anyhow::Result<u64> {
        let (mut after, mut envelopes) = ((Uuid::nil(), Uuid::nil()), 0);
        loop {
            let page = self.rows.envelopes(after, self.only).await?;
            let Some((account, id)) = page.last() else { return Ok(envelopes) };
            after = (account.uuid(), id.uuid());
            envelopes += page.len() as u64;
            let looks = page
                .into_iter()
                .map(|(account, id)| async move { anyhow::Ok((account, id, self.envelope(account, id).await?)) });
            let mut looks = futures_util::stream::iter(looks).buffered(AT_ONCE);
            while let Some((account, id, faults)) = looks.try_next().await? {
                let (account, subject) = (account.to_string(), id.to_string());
                for (invariant, detail) in faults {
                    let (account, subject) = (Some(account.clone()), Some(subject.clone()));
                    print(Finding { invariant, account, subject, detail });
                }
            }
        }
    }

    async fn envelope(&self, account: AccountId, id: EnvelopeId) -> anyhow::Result<Vec<Fault>> {
        let (envelope, beside) = match self.rows.envelope(account, id).await {
            Ok(read) => read,
            Err(DieselError::DeserializationError(why)) => return Ok(vec![("envelope.rows", why.to_string())]),
            Err(error) => return Err(error).context("an envelope"),
        };
        let (mut audit, mut after) = (Audit::new(id), 0);
        loop {
            let page = match self.rows.events(account, id, after).await {
                Ok(page) => page,
                Err(DieselError::DeserializationError(why)) => return Ok(vec![("history.rows", why.to_string())]),
                Err(error) => return Err(error).context("a history"),
            };
            let Some((last, _)) = page.last() else { break };
            after = last.sequence;
            self.events.fetch_add(page.len() as u64, Ordering::Relaxed);
            page.iter().for_each(|(entry, columns)| audit.follow(entry, columns));
        }
        let mut faults = audit.finish(&envelope, &beside);
        for bytes in named(&envelope) {
            faults.extend(self.bytes(bytes).await?);
        }
        Ok(faults)
    }

    /// Says how many uploads there are, if bytes are looked for at all.
    async fn uploads(&self, print: Print<'_>) -> anyhow::Result<Option<u64>> {
        let (mut after, mut uploads) = ((Uuid::nil(), Uuid::nil()), 0);
        if self.bytes.is_none() {
            return Ok(None);
        }
        loop {
            let page = self.rows.uploads(after, self.only).await?;
            let Some((last, _)) = page.last() else { return Ok(Some(uploads)) };
            after = *last;
            for ((account, id), named) in page {
                uploads += 1;
                for bytes in named {
                    if let Some((invariant, detail)) = self.bytes(bytes).await? {
                        let account = Some(AccountId::from_uuid(account).to_string());
                        let subject = Some(UploadId::from_uuid(id).to_string());
                        print(Finding { invariant, account, subject, detail });
                    }
                }
            }
        }
    }

    /// Looks for bytes that a row names.
    async fn bytes(&self, (digest, size): (Digest, u64)) -> anyhow::Result<Option<Fault>> {
        let Some((blobs, store)) = &self.bytes else { return Ok(None) };
        let what = match blobs.find(&digest).await {
            Ok(blob) if blob.size() == size => return Ok(None),
            Ok(_) => "have another size",
            Err(BlobError::Missing(_)) => "are not in the store",
            Err(BlobError::Changed(_)) => "are not what was stored",
            Err(BlobError::NoKey { .. }) => "need a key that was not given",
            Err(error @ (BlobError::Away(_) | BlobError::Folder(_))) => return Err(error.into()),
        };
        // The snapshot grows old: what has been purged since is not missing.
        let is_needed = store.is_needed(&digest).await?;
        Ok(is_needed.then(|| ("bytes.stored", format!("the bytes {} {what}", hex::encode(digest)))))
    }
}

/// The bytes that an envelope names, each once.
fn named(envelope: &Envelope) -> BTreeSet<(Digest, u64)> {
    let mut named = BTreeSet::new();
    if envelope.keeping.is_purged() {
        return named;
    }
    for document in &envelope.documents {
        named.extend(document.is_read().then_some((document.sha256, document.size_bytes)));
        named.extend(document.original.map(|original| (original.sha256, original.size_bytes)));
        named.extend(document.artifacts.iter().map(|artifact| (artifact.sha256, artifact.size_bytes)));
    }
    named
}
