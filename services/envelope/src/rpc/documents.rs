//! Documents of a request: what is a PDF is read at once, what is a DOCX or comes from an address is left to be read.

use anyhow::Context as _;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use countersign::v1;
use countersign::v1::ErrorReason;
use countersign::v1::document_source::Source;
use countersign_chassis::keys::sha256;
use countersign_chassis::problem::Problem;
use tonic::{Request, Response, Status};

use super::envelope::rendered;
use super::parse::Faults;
use super::status::{database, unavailable};
use super::upload::{checked, turn};
use super::{Context, Handler};
use crate::domain::command::{Command, Edit};
use crate::domain::decide::Verdict;
use crate::domain::envelope::{Digest, Document, Envelope, Ingest};
use crate::domain::field::Field;
use crate::domain::id::{DocumentId, FieldId, SourceId, UploadId};
use crate::domain::ingest::{Awaited, ContentType, MarkerFault, Original};
use crate::domain::limits::{FILE_NAME_CHARS_MAX, Limits};
use crate::domain::marker;
use crate::domain::personal::Personal;
use crate::domain::recipient::Recipient;
use crate::execute::new_id;
use crate::ingest::pdf::{Found, covered};
use crate::spool::Spool;
use crate::store::{Scope, Upload};

/// Markers that are told of in one answer.
const MARKERS_TOLD_MAX: usize = 25;

/// Where a document's bytes come from.
pub(super) enum Origin {
    Inline(Bytes),
    Upload(UploadId),
    Url(String),
}

/// A document that a request names.
pub(super) struct Named<'a> {
    pub path: String,
    pub id: DocumentId,
    pub origin: Origin,
    pub given: &'a v1::DocumentSource,
}

/// A document with what comes with it.
pub(super) struct Taken {
    pub document: Document,
    /// What is still to be kept.
    pub contents: Vec<Content>,
    /// The fields that were made of its markers; none: it has no say about fields.
    pub fields: Option<Vec<Field>>,
}

/// Bytes that are still to be kept.
pub(super) enum Content {
    /// They came with the request.
    Held(Bytes),
    /// They were made here: a small request must not take much memory until it is answered.
    Spooled(Digest, Spool),
}

impl Content {
    pub(super) fn sha256(&self) -> Digest {
        match self {
            Self::Held(bytes) => sha256(bytes),
            Self::Spooled(digest, _) => *digest,
        }
    }

    pub(super) async fn bytes(&self) -> anyhow::Result<Bytes> {
        match self {
            Self::Held(bytes) => Ok(bytes.clone()),
            Self::Spooled(_, spool) => spool.read().await.context("reading a spooled document"),
        }
    }

    async fn spooled(bytes: &Bytes) -> anyhow::Result<Self> {
        let mut spool = Spool::new().context("spooling a document")?;
        spool.write(bytes).await.context("spooling a document")?;
        Ok(Self::Spooled(sha256(bytes), spool))
    }
}

impl Context {
    /// Where one document's bytes come from.
    pub(super) fn origin(&self, given: &v1::DocumentSource, path: &str, faults: &mut Faults) -> Origin {
        let named = !matches!(given.source, Some(Source::UploadId(_)) | None);
        faults.line(format!("{path}.name"), &given.name, named, FILE_NAME_CHARS_MAX);
        match &given.source {
            Some(Source::Content(content)) => Origin::Inline(content.clone()),
            Some(Source::UploadId(id)) => Origin::Upload(faults.id(format!("{path}.upload_id"), id)),
            Some(Source::Url(url)) => {
                if let Err(why) = self.fetcher.check(url) {
                    faults.add(format!("{path}.url"), why);
                }
                Origin::Url(url.clone())
            }
            None => {
                faults.add(format!("{path}.content"), "must be there, or `upload_id`, or `url`");
                Origin::Inline(Bytes::new())
            }
        }
    }

    /// A document of a request, as far as it is read within the call.
    pub(super) async fn document(
        &self,
        (scope, limits): (Scope, &Limits),
        named: Named<'_>,
        recipients: &[Recipient],
    ) -> Result<Taken, Status> {
        let Named { path, id, origin, given } = named;
        let now = self.store.clock().now();
        let (name, markers) = (given.name.trim().to_owned(), given.markers);
        let bare = Document {
            id,
            name,
            sha256: Digest::default(),
            size_bytes: 0,
            page_count: 0,
            ingest: Ingest::Processing,
            original: None,
            awaits: None,
            fault: None,
            artifacts: Vec::new(),
        };
        let mut taken = match origin {
            Origin::Inline(content) => {
                let path = format!("{path}.content");
                let original = checked(&path, &content, self.can_convert, limits).await?;
                match original.content_type {
                    ContentType::Docx => {
                        Taken { contents: vec![Content::Held(content)], ..left(bare, Some(original), markers, now) }
                    }
                    ContentType::Pdf => {
                        let found = self.read(&path, content.clone(), limits, markers).await?;
                        whole(bare, original, content, found, recipients, (&path, markers, now)).await?
                    }
                }
            }
            Origin::Upload(upload) => {
                let found = self.store.upload(scope, upload).await.map_err(|error| database(&error))?;
                let found = found.ok_or_else(|| Status::from(Problem::not_found()))?;
                let name = if bare.name.is_empty() { found.name.clone() } else { bare.name.clone() };
                let bare = Document { name, ..bare };
                self.uploaded(limits, bare, &found, (&format!("{path}.upload_id"), markers, now), recipients).await?
            }
            Origin::Url(url) => {
                let mut taken = left(bare, None, markers, now);
                if let Some(awaited) = &mut taken.document.awaits {
                    awaited.url = Some(Personal::new(url));
                }
                taken
            }
        };
        // They come later, or were made: in either case those that stood there before go.
        if markers && taken.fields.is_none() {
            taken.fields = Some(Vec::new());
        }
        Ok(taken)
    }

    async fn uploaded(
        &self,
        limits: &Limits,
        bare: Document,
        found: &Upload,
        (path, markers, now): (&str, bool, DateTime<Utc>),
        recipients: &[Recipient],
    ) -> Result<Taken, Status> {
        let Upload { sha256, size_bytes, content_type, page_count, base, .. } = *found;
        let original = Original { sha256, size_bytes, content_type };
        if content_type == ContentType::Docx {
            return Ok(left(bare, Some(original), markers, now));
        }
        let (sha256, size_bytes) = base.unwrap_or((sha256, size_bytes));
        let document = Document {
            sha256,
            size_bytes,
            page_count,
            ingest: Ingest::Ready,
            original: base.map(|_| original),
            ..bare
        };
        if !markers {
            return Ok(Taken { document, contents: Vec::new(), fields: None });
        }
        let _turn = turn().await?;
        let content = self.blobs.get(&original.sha256).await.map_err(|error| unavailable(&error))?;
        let found = self.read(path, content.clone(), limits, true).await?;
        let taken = whole(document, original, content, found, recipients, (path, true, now)).await?;
        // What came is kept already.
        let mut contents = Vec::new();
        for made in taken.contents.iter().skip(1) {
            let spooled = async { Content::spooled(&made.bytes().await?).await };
            contents.push(spooled.await.map_err(|error| unavailable(&error))?);
        }
        Ok(Taken { contents, ..taken })
    }
}

impl Handler {
    pub(super) async fn put_document(
        &self,
        request: Request<v1::ReplaceDocumentRequest>,
    ) -> Result<Response<v1::ReplaceDocumentResponse>, Status> {
        let (_, call) = self.call(request)?;
        self.once(call.claimed.as_ref(), async {
            let message = &call.message;
            let mut faults = Faults::default();
            let id = faults.id("envelope_id", &message.envelope_id);
            let document = faults.id("document_id", &message.document_id);
            let given = message.document.clone().unwrap_or_default();
            let origin = self.0.origin(&given, "document", &mut faults);
            faults.finish()?;
            // Recipients are not lost while it is a draft, nor do they change their labels; that it is one shows at the lock.
            let recipients = if given.markers { self.find(call.scope, id).await?.recipients } else { Vec::new() };
            let named = Named { path: "document".to_owned(), id: document, origin, given: &given };
            let taken = self.0.document((call.scope, &call.limits), named, &recipients).await?;
            self.0.keep(&taken.contents).await?;
            let (document, fields) = (Box::new(taken.document), taken.fields);
            let fields_max = call.limits.fields_max;
            let command = Command::Update(Edit::ReplaceDocument { document, fields, fields_max });
            let told = |after: &Envelope, _: &Verdict| v1::ReplaceDocumentResponse { envelope: rendered(after) };
            self.command(&call, id, message.if_revision, command, told).await
        })
        .await
    }
}

/// One that is left to be read.
fn left(bare: Document, original: Option<Original>, markers: bool, now: DateTime<Utc>) -> Taken {
    let awaits = Some(Awaited { id: SourceId::from_uuid(new_id(now)), markers, url: None });
    Taken { document: Document { original, awaits, ..bare }, contents: Vec::new(), fields: None }
}

/// One that was read. Markers that became fields are seen by nobody.
async fn whole(
    bare: Document,
    original: Original,
    content: Bytes,
    found: Found,
    recipients: &[Recipient],
    (path, markers, now): (&str, bool, DateTime<Utc>),
) -> Result<Taken, Status> {
    let Found { page_count, base, markers: read, mut faults } = found;
    let fields = marker::fields(&read, bare.id, recipients, || FieldId::from_uuid(new_id(now)));
    let fields = fields.unwrap_or_else(|unmatched| {
        faults.extend(unmatched);
        Vec::new()
    });
    if !faults.is_empty() {
        return Err(unmatched(path, &faults));
    }
    let mut base = base;
    if !read.is_empty() {
        let pdf = base.unwrap_or_else(|| content.clone());
        base = Some(covered(pdf, &read).await.map_err(|error| unavailable(&error))?);
    }
    let (mut stored, mut contents) = ((original.sha256, original.size_bytes), vec![Content::Held(content)]);
    let rewritten = base.is_some();
    if let Some(base) = base {
        stored = (sha256(&base), base.len() as u64);
        contents.push(Content::Held(base));
    }
    let document = Document {
        sha256: stored.0,
        size_bytes: stored.1,
        page_count,
        ingest: Ingest::Ready,
        original: rewritten.then_some(original),
        ..bare
    };
    Ok(Taken { document, contents, fields: markers.then_some(fields) })
}

/// Markers that cannot be made into fields.
fn unmatched(path: &str, faults: &[MarkerFault]) -> Status {
    let message = format!("{path}: {} of its markers cannot be made into fields", faults.len());
    let problem = Problem::new(ErrorReason::MarkersUnmatched, message);
    let told = faults.iter().take(MARKERS_TOLD_MAX);
    let told = told.fold(problem, |problem, fault| {
        problem.field(path, format!("page {}: `{}`: {}", fault.page, fault.text.reveal(), fault.message))
    });
    told.into()
}
