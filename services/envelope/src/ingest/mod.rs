//! Reads documents that are not read within the call: fetched, sniffed, converted, read, kept, and then told to the envelope.
//!
//! A durable job for each. What is the document's own fault fails it at once; what may pass is tried again, ever less often, and
//! not for ever. Must never tell or log an address or anything of a document.

pub mod pdf;
mod places;
pub mod sniff;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use chrono::TimeDelta;
use countersign_chassis::keys::sha256;
use countersign_chassis::ticker::Progress;
use countersign_chassis::{failpoint, propagation, telemetry};
use countersign_paper::Unreadable;
use futures_util::FutureExt as _;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tracing::{Instrument as _, Span};

use self::pdf::{Found, PdfReader, ReadError, covered};
use self::places::Places;
use crate::blobs::Blobs;
use crate::convert::{ConvertError, Converter, Flaw};
use crate::domain::command::{By, Command};
use crate::domain::decide::Verdict;
use crate::domain::envelope::{Document, Envelope, Ingest};
use crate::domain::id::FieldId;
use crate::domain::ingest::{Awaited, ContentType, FaultReason, IngestFault, Original, Read, Reading};
use crate::domain::limits::Limits;
use crate::domain::marker;
use crate::execute::{Ask, Executor, new_id};
use crate::fetch::{FetchError, Fetcher};
use crate::measure::{self, Work};
use crate::removal::restore;
use crate::rpc::Accounts;
use crate::spool::Spool;
use crate::store::{Got, KeptBytes, ReadingJob, Scope};

/// Documents whose bytes are in memory at the same time. The others still come in, onto the disk.
static HELD: Semaphore = Semaphore::const_new(8);
/// How long one try may take.
const TRY_MAX: Duration = Duration::from_secs(420);
/// How long a document may take before another process may take it over: longer than a try, so that none is tried twice at once.
const LEASE_SECONDS: i64 = 480;
/// The longest pause between tries.
const PAUSE_SECONDS_MAX: i64 = 300;
/// How long an address is tried that does not answer.
const SOURCE_MINUTES_MAX: i64 = 15;
/// How long a document is tried that the service itself cannot read.
const OWN_HOURS_MAX: i64 = 24;
/// How often it is tried at least: time in which nobody tried says nothing about a document.
const TRIES_MIN: u32 = 5;
/// How often a document is converted on which the converter dies.
const CONVERSIONS_MAX: u32 = 3;

/// Why a document was not read.
enum Trouble {
    /// Its own fault.
    Fault(IngestFault),
    /// Its source is away.
    Away(FetchError),
    /// It was not possible now.
    Later(anyhow::Error),
    /// Another process has taken it over.
    Lost,
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Later(error)
    }
}

fn failed(reason: FaultReason, message: impl Into<String>) -> Trouble {
    Trouble::Fault(IngestFault::new(reason, message))
}

/// Takes on documents that are to be read. What is under way ends with it, and is taken on by another when its claim runs out.
pub struct Intake {
    reader: Arc<Reader>,
    places: Places,
    under_way: Mutex<JoinSet<()>>,
}

/// What documents are read with.
pub struct Reader {
    /// What executes commands.
    pub executor: Executor,
    /// The documents.
    pub blobs: Blobs,
    /// Whose limits hold.
    pub accounts: Accounts,
    /// What reads PDFs.
    pub pdfs: PdfReader,
    /// What makes PDFs, if there is something.
    pub converter: Option<Arc<dyn Converter>>,
    /// What fetches.
    pub fetcher: Arc<Fetcher>,
}

impl Intake {
    /// With that reader.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        Self { reader: Arc::new(reader), places: Places::default(), under_way: Mutex::default() }
    }

    /// Takes on a due document if there is a place for it. Each is read in a task of its own: one that is slow keeps nobody else
    /// waiting.
    pub async fn tick(&self) -> anyhow::Result<Progress> {
        let mut under_way = self.under_way.lock().await;
        while under_way.try_join_next().is_some() {}
        let Some(without) = self.places.without() else { return Ok(Progress::Idle) };
        let store = self.reader.executor.store();
        let now = store.clock().now();
        let job = store.claim_reading(now, now + TimeDelta::seconds(LEASE_SECONDS), &without).await?;
        let Some(job) = job else { return Ok(Progress::Idle) };
        let (reader, place) = (Arc::clone(&self.reader), self.places.take(job.account));
        let span = span(&job);
        let read = async move {
            if let Err(error) = reader.one(&job).await {
                // Its claim runs out.
                let document = job.document.to_string();
                tracing::warn!(document, error = format!("{error:#}"), "a document's job could not be settled");
            }
            drop(place);
            reader.executor.store().readings_due().notify_one();
        };
        under_way.spawn(read.instrument(span));
        Ok(Progress::Busy)
    }
}

/// The span of a job: in the trace of whoever asked for it last.
fn span(job: &ReadingJob) -> Span {
    let span =
        tracing::info_span!(target: telemetry::ROOT, "reading", otel.name = "read document", otel.kind = "internal");
    propagation::go_on(&span, job.traceparent.as_deref());
    span
}

impl Reader {
    /// Tries one document, and judges what stood in the way, whatever that was.
    async fn one(&self, job: &ReadingJob) -> anyhow::Result<()> {
        let began = Instant::now();
        let tried = tokio::time::timeout(TRY_MAX, AssertUnwindSafe(self.try_once(job)).catch_unwind()).await;
        let outcome = match &tried {
            Ok(Ok(Ok(()))) => "ok",
            Ok(Ok(Err(Trouble::Fault(_)))) => "fault",
            Ok(Ok(Err(Trouble::Away(_)))) => "source_away",
            _ => "error",
        };
        measure::worked(Work::Ingest, began.elapsed(), outcome);
        let trouble = match tried {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(trouble))) => trouble,
            Ok(Err(_)) => Trouble::Later(anyhow::anyhow!("reading it panicked")),
            Err(_) => Trouble::Later(anyhow::anyhow!("reading it took too long")),
        };
        match self.judge(job, trouble) {
            Ok(fault) => self.tell(job, Reading::Failed(fault)).await,
            Err(trouble) => self.postpone(job, &trouble).await,
        }
    }

    /// Reads it, and settles its job.
    async fn try_once(&self, job: &ReadingJob) -> Result<(), Trouble> {
        let store = self.executor.store();
        let envelope = store.envelope(Scope::any_mode(job.account), job.envelope).await.context("its envelope")?;
        let Some((envelope, document, awaited)) = envelope.as_ref().and_then(|envelope| awaited(envelope, job)) else {
            return Ok(store.forget_reading(job).await.context("forgetting it")?);
        };
        failpoint!("ingest.claimed");
        let read = self.read(job, envelope, document, awaited).await?;
        failpoint!("ingest.stored");
        Ok(self.tell(job, Reading::Ready(Box::new(read))).await?)
    }

    /// Tells the envelope what came of it.
    async fn tell(&self, job: &ReadingJob, reading: Reading) -> anyhow::Result<()> {
        let command = Command::Ingest { document: job.document, source: Some(job.source), reading };
        let scope = Scope::any_mode(job.account);
        let ask = Ask { scope, id: job.envelope, by: By::system(), command, expected: None, billing: None };
        let outcome = self.executor.execute(ask, |_| true).await?;
        if outcome.is_none_or(|outcome| outcome.answer == Verdict::AlreadyDone) {
            self.executor.store().forget_reading(job).await?;
        }
        Ok(())
    }

    /// The fault that it comes to; what may pass, unless it has been tried for too long.
    fn judge(&self, job: &ReadingJob, trouble: Trouble) -> Result<IngestFault, Trouble> {
        let age = self.executor.store().clock().now() - job.begun_at;
        let tried_for = |most: TimeDelta| age >= most && job.attempts >= TRIES_MIN;
        match trouble {
            Trouble::Fault(fault) => Ok(fault),
            Trouble::Away(why) if tried_for(TimeDelta::minutes(SOURCE_MINUTES_MAX)) => {
                Ok(IngestFault::new(FaultReason::SourceFailed, why.to_string()))
            }
            Trouble::Later(_) if tried_for(TimeDelta::hours(OWN_HOURS_MAX)) => {
                Ok(IngestFault::new(FaultReason::Unavailable, "the service could not read it for a day"))
            }
            other => Err(other),
        }
    }

    async fn postpone(&self, job: &ReadingJob, trouble: &Trouble) -> anyhow::Result<()> {
        let (document, attempts) = (job.document.to_string(), job.attempts);
        match trouble {
            Trouble::Later(error) => {
                tracing::warn!(document, attempts, error = format!("{error:#}"), "a document could not be read");
            }
            Trouble::Away(why) => tracing::info!(document, attempts, error = why.to_string(), "a source is away"),
            Trouble::Fault(_) | Trouble::Lost => {}
        }
        let pause = 2_i64.saturating_pow(job.attempts.min(16)).min(PAUSE_SECONDS_MAX);
        let store = self.executor.store();
        Ok(store.postpone_reading(job, store.clock().now() + TimeDelta::seconds(pause)).await?)
    }

    async fn read(
        &self,
        job: &ReadingJob,
        envelope: &Envelope,
        document: &Document,
        awaited: &Awaited,
    ) -> Result<Read, Trouble> {
        let account = self.accounts.get(job.account).await.context("the account")?.context("the account is gone")?;
        let limits = &account.settings.limits;
        let came = self.came(job, document, awaited, limits).await?;
        let _held = HELD.acquire().await.context("a turn")?;
        let (original, bytes) = self.original(job, came).await?;
        let (made, pdf) = match original.content_type {
            ContentType::Pdf => (original, bytes),
            ContentType::Docx => self.converted(job, original, bytes).await?,
        };
        let Found { page_count, base, markers, mut faults } =
            self.pdfs.read(pdf.clone(), limits, awaited.markers).await.map_err(unread)?;
        let now = self.executor.store().clock().now();
        let id = || FieldId::from_uuid(new_id(now));
        let fields = marker::fields(&markers, document.id, &envelope.recipients, id);
        let fields = fields.unwrap_or_else(|unmatched| {
            faults.extend(unmatched);
            Vec::new()
        });
        if !faults.is_empty() {
            return Err(Trouble::Fault(IngestFault::of(faults)));
        }
        let base = match (base, markers.is_empty()) {
            (base, true) => base,
            (base, false) => Some(covered(base.unwrap_or(pdf), &markers).await?),
        };
        let stored = match base {
            Some(base) => self.keep(base, ContentType::Pdf).await?,
            None => made,
        };
        let KeptBytes { sha256, size_bytes, .. } = stored;
        let original = (original.sha256 != sha256).then_some(Original {
            sha256: original.sha256,
            size_bytes: original.size_bytes,
            content_type: original.content_type,
        });
        Ok(Read { sha256, size_bytes, page_count, original, fields, fields_max: limits.fields_max })
    }

    /// What came, wherever it is.
    async fn came(
        &self,
        job: &ReadingJob,
        document: &Document,
        awaited: &Awaited,
        limits: &Limits,
    ) -> Result<Came, Trouble> {
        let here = document.original.map(|it| KeptBytes {
            sha256: it.sha256,
            size_bytes: it.size_bytes,
            content_type: it.content_type,
        });
        if let Some(here) = job.got.original.or(here) {
            return Ok(Came::Before(here));
        }
        let Some(url) = &awaited.url else { return Err(Trouble::Later(anyhow::anyhow!("nothing to read"))) };
        let fetched = self.fetcher.fetch(url.reveal(), limits.document_bytes_max).await;
        Ok(Came::Now(fetched.map_err(not_fetched)?))
    }

    /// Its bytes: fetched once, and kept from then on.
    async fn original(&self, job: &ReadingJob, came: Came) -> Result<(KeptBytes, Bytes), Trouble> {
        let fetched = match came {
            Came::Before(kept) => return Ok((kept, self.blobs.get(&kept.sha256).await?)),
            Came::Now(fetched) => fetched,
        };
        let bytes = fetched.read().await.context("what was fetched")?;
        let content_type = sniff::sniff(&bytes);
        let content_type = content_type.map_err(|why| failed(FaultReason::UnsupportedType, why.message()))?;
        let kept = self.keep(bytes.clone(), content_type).await?;
        self.note(job, Got { original: Some(kept), ..Got::default() }).await?;
        Ok((kept, bytes))
    }

    /// The PDF that is made of a DOCX: made once, and kept from then on, because another time it would be another.
    async fn converted(
        &self,
        job: &ReadingJob,
        original: KeptBytes,
        docx: Bytes,
    ) -> Result<(KeptBytes, Bytes), Trouble> {
        if let Some(made) = job.got.pdf {
            return Ok((made, self.blobs.get(&made.sha256).await?));
        }
        let Some(converter) = &self.converter else {
            return Err(failed(FaultReason::ConversionFailed, "there is no program here that makes PDFs of DOCX"));
        };
        let got = Got { original: Some(original), ..job.got };
        let pdf = match converter.convert(docx).await {
            Ok(pdf) => pdf,
            Err(error @ ConvertError::Unavailable(_)) => return Err(Trouble::Later(error.into())),
            Err(error @ ConvertError::Flawed(flaw)) => {
                let reason = match flaw {
                    Flaw::NotDocx => FaultReason::UnsupportedType,
                    Flaw::Entries | Flaw::Inflated => FaultReason::OverLimit,
                    Flaw::Damaged | Flaw::Encrypted | Flaw::Doctype | Flaw::Nested => FaultReason::Unreadable,
                };
                return Err(failed(reason, error.to_string()));
            }
            Err(error @ (ConvertError::Failed | ConvertError::Slow)) => {
                let deaths = got.deaths + 1;
                self.note(job, Got { deaths, ..got }).await?;
                let is_last = deaths >= CONVERSIONS_MAX;
                let reason = FaultReason::ConversionFailed;
                return Err(if is_last { failed(reason, error.to_string()) } else { Trouble::Later(error.into()) });
            }
        };
        let made = self.keep(pdf.clone(), ContentType::Pdf).await?;
        self.note(job, Got { pdf: Some(made), ..got }).await?;
        Ok((made, pdf))
    }

    async fn keep(&self, bytes: Bytes, content_type: ContentType) -> anyhow::Result<KeptBytes> {
        let kept = KeptBytes { sha256: sha256(&bytes), size_bytes: bytes.len() as u64, content_type };
        let put = async { self.blobs.put(bytes).await.map(drop) };
        restore(self.executor.store(), &[kept.sha256], put).await?;
        Ok(kept)
    }

    async fn note(&self, job: &ReadingJob, got: Got) -> Result<(), Trouble> {
        let is_ours = self.executor.store().note_reading(job, got).await.context("noting what was got")?;
        if is_ours { Ok(()) } else { Err(Trouble::Lost) }
    }
}

/// What came, and where it is.
enum Came {
    /// In the store of documents.
    Before(KeptBytes),
    /// From its address, just now.
    Now(Spool),
}

/// What of an envelope is still to be read, if it still is.
fn awaited<'a>(envelope: &'a Envelope, job: &ReadingJob) -> Option<(&'a Envelope, &'a Document, &'a Awaited)> {
    let document = envelope.document(job.document)?;
    let awaited = document.awaits.as_ref().filter(|awaited| awaited.id == job.source)?;
    let open = document.ingest == Ingest::Processing && !envelope.status().is_terminal();
    open.then_some((envelope, document, awaited))
}

fn not_fetched(why: FetchError) -> Trouble {
    let reason = match why {
        FetchError::Away(_) => return Trouble::Away(why),
        FetchError::Disk(_) => return Trouble::Later(why.into()),
        FetchError::NotAllowed => FaultReason::SourceNotAllowed,
        FetchError::Status(_) | FetchError::Redirects => FaultReason::SourceFailed,
        FetchError::TooLarge => FaultReason::OverLimit,
    };
    failed(reason, why.to_string())
}

fn unread(error: ReadError) -> Trouble {
    match error {
        ReadError::Refused(why) => {
            let reason = match why {
                Unreadable::TooLarge { .. } | Unreadable::TooManyPages { .. } | Unreadable::TooManyObjects { .. } => {
                    FaultReason::OverLimit
                }
                Unreadable::TooMuchContent { .. }
                | Unreadable::TooMuchText { .. }
                | Unreadable::TooManyMarkers { .. } => FaultReason::OverLimit,
                _ => FaultReason::Unreadable,
            };
            failed(reason, why.to_string())
        }
        ReadError::Unavailable(_) => Trouble::Later(error.into()),
    }
}
