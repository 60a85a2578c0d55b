//! Reads PDFs, in a child process: how many pages, which markers, and what is kept in the place of one that cannot stay as it
//! came. The one place where the service looks into a PDF that came.
//!
//! Must never give what people are to see with a marker in it: those that became fields are painted over.

use anyhow::Context as _;
use bytes::Bytes;
use countersign_paper as paper;
use countersign_paper::{Ingested, Mark, MarkContent, Markings};

use crate::domain::field::{FieldType, Placement};
use crate::domain::ingest::MarkerFault;
use crate::domain::limits::Limits;
use crate::domain::marker::{self, Marker};
use crate::domain::personal::Personal;
use crate::worker::{WorkerError, Workers};

/// What was found in a PDF.
#[derive(Debug, Default)]
pub struct Found {
    /// Its pages.
    pub page_count: u32,
    /// What people are to see and sign in its place, where it could not stay as it came.
    pub base: Option<Bytes>,
    /// The markers in its text, where they were asked for.
    pub markers: Vec<Marker>,
    /// What looks like a marker and is none.
    pub faults: Vec<MarkerFault>,
}

/// Why a PDF was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is at fault.
    #[error(transparent)]
    Refused(paper::Unreadable),
    /// Nothing wrong with it, but not now.
    #[error("documents cannot be read now: {0:#}")]
    Unavailable(anyhow::Error),
}

impl From<WorkerError> for ReadError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Refused(why) => Self::Refused(why),
            WorkerError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

/// Reads PDFs.
#[derive(Clone, Debug)]
pub struct PdfReader {
    workers: Workers,
    policy: paper::Policy,
}

impl PdfReader {
    /// By these children, as the operator allows.
    #[must_use]
    pub fn new(workers: Workers, policy: paper::Policy) -> Self {
        Self { workers, policy }
    }

    /// Looks into a PDF, with its markers if those are asked for.
    pub async fn read(&self, bytes: Bytes, limits: &Limits, markers: bool) -> Result<Found, ReadError> {
        let (bytes_max, pages_max) = (limits.document_bytes_max, limits.pages_max);
        let limits = paper::Limits { bytes_max, pages_max, ..paper::Limits::default() };
        let Ingested { base, pages, .. } = self.workers.ingest(bytes.clone(), limits, self.policy).await?;
        let page_count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
        let base = base.map(Bytes::from);
        if !markers {
            return Ok(Found { page_count, base, ..Found::default() });
        }
        // The copy may be larger than what may come.
        let kept = base.clone().unwrap_or(bytes);
        let limits = paper::Limits { bytes_max: bytes_max.max(kept.len()), ..limits };
        let Markings { markers, faults } = self.workers.markers(kept, limits).await?;
        let fault = |it: paper::MarkerFault| marker::fault(it.page, &it.text, it.flaw.to_string());
        Ok(Found {
            page_count,
            base,
            markers: markers.into_iter().map(read).collect(),
            faults: faults.into_iter().map(fault).collect(),
        })
    }
}

/// The PDF with these markers painted over. What is drawn for people and what they sign is the same file.
pub async fn covered(pdf: Bytes, markers: &[Marker]) -> anyhow::Result<Bytes> {
    let marks: Vec<Mark> = markers.iter().filter_map(cover).collect();
    let completion = paper::Completion { marks, ..paper::Completion::default() };
    // Drawing takes the processor: not on a thread that serves calls.
    let drawn = tokio::task::spawn_blocking(move || paper::complete(&pdf, &completion)).await;
    Ok(drawn.context("covering markers was cut")?.context("covering markers")?.into())
}

/// What hides a marker; nothing where there is nothing to see of it.
fn cover(marker: &Marker) -> Option<Mark> {
    let Placement { page, x_percent, y_percent, width_percent, height_percent } = marker.place;
    let percent = |given: f64| given.clamp(0.0, 100.0);
    let is_seen = width_percent > 0.0 && height_percent > 0.0;
    is_seen.then(|| Mark {
        page,
        x_pct: percent(x_percent),
        y_pct: percent(y_percent),
        width_pct: percent(width_percent),
        height_pct: percent(height_percent),
        content: MarkContent::Cover,
    })
}

fn read(marker: paper::Marker) -> Marker {
    let paper::Marker { page, place, text, kind, label, name, options } = marker;
    Marker {
        place: Placement {
            page,
            x_percent: place.x_pct,
            y_percent: place.y_pct,
            width_percent: place.width_pct,
            height_percent: place.height_pct,
        },
        text: Personal::new(text),
        kind: kind_of(kind),
        label,
        name: name.unwrap_or_default(),
        options,
    }
}

fn kind_of(kind: paper::FieldKind) -> FieldType {
    match kind {
        paper::FieldKind::Signature => FieldType::Signature,
        paper::FieldKind::Initials => FieldType::Initials,
        paper::FieldKind::Name => FieldType::Name,
        paper::FieldKind::Email => FieldType::Email,
        paper::FieldKind::Date => FieldType::Date,
        paper::FieldKind::Text => FieldType::Text,
        paper::FieldKind::Number => FieldType::Number,
        paper::FieldKind::Checkbox => FieldType::Checkbox,
        paper::FieldKind::Radio => FieldType::Radio,
        paper::FieldKind::Dropdown => FieldType::Dropdown,
    }
}
