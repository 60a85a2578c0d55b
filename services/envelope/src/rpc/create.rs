//! CreateEnvelope: everything is checked before anything is kept.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1;
use countersign::v1::document_source::Source;
use countersign_chassis::keys::sha256;
use countersign_chassis::problem::Problem;
use countersign_chassis::wire::datetime;
use email_address::{EmailAddress, Options};
use tonic::Status;

use super::auth::Sender;
use super::parse::Faults;
use super::status::{database, refused};
use super::upload::{over_limit, page_count};
use super::{Context, Handler};
use crate::domain::command::Command;
use crate::domain::decide::{Verdict, decide};
use crate::domain::envelope::{Document, Envelope, Recipient, RecipientState, Role, Routing};
use crate::domain::event::Event;
use crate::domain::field::{Field, FieldType, Placement};
use crate::domain::id::{DocumentId, EnvelopeId, FieldId, RecipientId, UploadId};
use crate::domain::limits::{
    DOCUMENTS_MAX, EMAIL_BYTES_MAX, EXPIRY_DAYS_DEFAULT, EXPIRY_DAYS_MAX, EXPIRY_SECONDS_MIN, FIELDS_MAX,
    FILE_NAME_CHARS_MAX, LABEL_CHARS_MAX, NAME_CHARS_MAX, RECIPIENTS_MAX, SUBJECT_CHARS_MAX,
};
use crate::domain::personal::Personal;
use crate::domain::record::seal;
use crate::domain::status::Facts;
use crate::execute::new_id;

/// The smallest side of a field, in percent of the page.
const SIDE_PERCENT_MIN: f64 = 0.5;
/// What rounding may add to a field that ends at the edge of its page.
const EDGE_PERCENT: f64 = 100.000_001;

/// Where a document's bytes come from.
enum Origin {
    Inline(Bytes),
    Upload(UploadId),
}

impl Handler {
    pub(super) async fn create(&self, sender: Sender, request: v1::CreateEnvelopeRequest) -> Result<Envelope, Status> {
        let context = &self.0;
        let now = context.store.clock().now();
        let send = request.send;
        limits(&request)?;
        let mut faults = Faults::default();
        let mut envelope = draft(context, sender, &request, now, &mut faults);
        let origins = origins(&request.documents, &mut faults);
        faults.finish()?;
        let mut contents = Vec::new();
        for (index, (origin, source)) in origins.into_iter().zip(&request.documents).enumerate() {
            let (document, content) = context.document(sender, index, origin, &source.name, now).await?;
            envelope.documents.push(document);
            contents.extend(content);
        }
        let mut faults = Faults::default();
        envelope.fields = fields(&request.fields, &envelope, now, &mut faults);
        faults.finish()?;
        let mut events = vec![Event::Created];
        if send {
            let decision = decide(&envelope, &Command::Send, now);
            if let Verdict::Refused(refusal) = &decision.verdict {
                return Err(refused(refusal));
            }
            events.extend(decision.events);
        }
        let recorded = seal(&mut envelope, &events, sender.actor(), now, || new_id(now));
        for content in contents {
            context.blobs.put(content).await.map_err(|error| super::status::unavailable(&error))?;
        }
        context.store.create(&envelope, &recorded).await.map_err(|error| database(&error))?;
        Ok(envelope)
    }
}

impl Context {
    async fn document(
        &self,
        sender: Sender,
        index: usize,
        origin: Origin,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<(Document, Option<Bytes>), Status> {
        let id = DocumentId::from_uuid(new_id(now));
        let artifacts = Vec::new();
        match origin {
            Origin::Inline(content) => {
                let page_count = page_count(&format!("documents[{index}].content"), content.clone()).await?;
                let (sha256, size_bytes) = (sha256(&content), content.len() as u64);
                let name = name.trim().to_owned();
                Ok((Document { id, name, sha256, size_bytes, page_count, artifacts }, Some(content)))
            }
            Origin::Upload(upload) => {
                let found = self.store.upload(sender.scope, upload).await.map_err(|error| database(&error))?;
                let found = found.ok_or_else(|| Status::from(Problem::not_found()))?;
                let name = if name.trim().is_empty() { found.name } else { name.trim().to_owned() };
                let (sha256, size_bytes, page_count) = (found.sha256, found.size_bytes, found.page_count);
                Ok((Document { id, name, sha256, size_bytes, page_count, artifacts }, None))
            }
        }
    }
}

fn limits(request: &v1::CreateEnvelopeRequest) -> Result<(), Status> {
    for (path, limit, actual, allowed) in [
        ("recipients", "recipients_max", request.recipients.len(), RECIPIENTS_MAX),
        ("documents", "documents_max", request.documents.len(), DOCUMENTS_MAX),
        ("fields", "fields_max", request.fields.len(), FIELDS_MAX),
    ] {
        if actual > allowed {
            let message = format!("{path}: {actual} are more than the {allowed} that an envelope may have");
            return Err(over_limit(path, limit, actual, allowed, &message));
        }
    }
    Ok(())
}

/// The envelope without documents and fields.
fn draft(
    context: &Context,
    sender: Sender,
    request: &v1::CreateEnvelopeRequest,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Envelope {
    let routing = match v1::Routing::try_from(request.routing) {
        Ok(v1::Routing::Unspecified | v1::Routing::Parallel) => Routing::Parallel,
        Ok(v1::Routing::Sequential) => Routing::Sequential,
        Err(_) => {
            faults.add("routing", "is not a value that the service knows");
            Routing::Parallel
        }
    };
    Envelope {
        account: sender.scope.account,
        id: EnvelopeId::from_uuid(new_id(now)),
        livemode: sender.livemode,
        revision: 0,
        sequence: 0,
        chain: [0; 32],
        last_event_at: now,
        subject: faults.line("subject", &request.subject, true, SUBJECT_CHARS_MAX),
        message: faults.note("message", &request.message),
        routing,
        facts: Facts::created(now),
        expires_at: deadline(request.expires_at.as_ref(), now, faults),
        void_reason: None,
        requires_replacement: false,
        recipients: recipients(context, &request.recipients, routing, now, faults),
        documents: Vec::new(),
        fields: Vec::new(),
    }
}

fn deadline(asked: Option<&prost_types::Timestamp>, now: DateTime<Utc>, faults: &mut Faults) -> DateTime<Utc> {
    let Some(asked) = asked else { return now + TimeDelta::days(EXPIRY_DAYS_DEFAULT) };
    let (first, last) = (now + TimeDelta::seconds(EXPIRY_SECONDS_MIN), now + TimeDelta::days(EXPIRY_DAYS_MAX));
    match datetime(asked) {
        // To the microsecond: Postgres keeps no more, and the history must say the same.
        Some(at) if first <= at && at <= last => DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at),
        Some(_) => {
            faults.add("expires_at", format!("must be {EXPIRY_SECONDS_MIN} seconds to {EXPIRY_DAYS_MAX} days ahead"));
            now
        }
        None => {
            faults.add("expires_at", "is not a time");
            now
        }
    }
}

fn recipients(
    context: &Context,
    given: &[v1::NewRecipient],
    routing: Routing,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Vec<Recipient> {
    if given.is_empty() {
        faults.add("recipients", "must name at least one");
    }
    let groups = 1_u16..;
    let recipient = |((index, given), place): ((usize, &v1::NewRecipient), u16)| {
        let path = |field: &str| format!("recipients[{index}].{field}");
        let id = RecipientId::from_uuid(new_id(now));
        let email = given.email.trim();
        if email.len() > EMAIL_BYTES_MAX || !is_address(email) {
            faults.add(path("email"), "must be an e-mail address");
        }
        let known = v1::RecipientRole::try_from(given.role);
        if !matches!(known, Ok(v1::RecipientRole::Unspecified | v1::RecipientRole::Signer)) {
            faults.add(path("role"), "is not a value that the service knows");
        }
        Recipient {
            id,
            name: Personal::new(faults.line(path("name"), &given.name, true, NAME_CHARS_MAX)),
            email: Personal::new(email),
            role: Role::Signer,
            label: faults.line(path("label"), &given.label, false, LABEL_CHARS_MAX),
            group: match routing {
                Routing::Parallel => 1,
                Routing::Sequential => place,
            },
            state: RecipientState::Waiting,
            credential: context.keyring.new_credential(id),
        }
    };
    given.iter().enumerate().zip(groups).map(recipient).collect()
}

/// An address alone, as the mail that goes there needs it: no display text, no quotes, no address literal.
fn is_address(email: &str) -> bool {
    let options = Options::default().without_display_text().without_domain_literal();
    EmailAddress::parse_with_options(email, options).is_ok()
        && !email.contains(['"', '\0'])
        && !email.contains(char::is_control)
}

fn origins(given: &[v1::DocumentSource], faults: &mut Faults) -> Vec<Origin> {
    if given.is_empty() {
        faults.add("documents", "must name at least one");
    }
    let mut origins = Vec::new();
    for (index, document) in given.iter().enumerate() {
        let path = |field: &str| format!("documents[{index}].{field}");
        let inline = matches!(document.source, Some(Source::Content(_)));
        faults.line(path("name"), &document.name, inline, FILE_NAME_CHARS_MAX);
        match &document.source {
            Some(Source::Content(content)) => origins.push(Origin::Inline(content.clone())),
            Some(Source::UploadId(id)) => origins.push(Origin::Upload(faults.id(path("upload_id"), id))),
            None => faults.add(path("content"), "must be there, or `upload_id`"),
        }
    }
    origins
}

fn fields(given: &[v1::NewField], envelope: &Envelope, now: DateTime<Utc>, faults: &mut Faults) -> Vec<Field> {
    let mut fields = Vec::new();
    for (index, given) in given.iter().enumerate() {
        let path = |field: &str| format!("fields[{index}].{field}");
        let kind = match v1::FieldType::try_from(given.r#type) {
            Ok(v1::FieldType::Signature) => Some(FieldType::Signature),
            Ok(v1::FieldType::Initials) => Some(FieldType::Initials),
            Ok(v1::FieldType::Name) => Some(FieldType::Name),
            Ok(v1::FieldType::Email) => Some(FieldType::Email),
            Ok(v1::FieldType::Date) => Some(FieldType::Date),
            Ok(v1::FieldType::Text) => Some(FieldType::Text),
            Ok(v1::FieldType::Checkbox) => Some(FieldType::Checkbox),
            Ok(v1::FieldType::Unspecified) | Err(_) => None,
        };
        if kind.is_none() {
            faults.add(path("type"), "is not a type that the service knows");
        }
        let recipient = usize::try_from(given.recipient_index).ok().and_then(|at| envelope.recipients.get(at));
        if recipient.is_none() {
            faults.add(path("recipient_index"), "there is no such recipient");
        }
        let document = usize::try_from(given.document_index).ok().and_then(|at| envelope.documents.get(at));
        if document.is_none() {
            faults.add(path("document_index"), "there is no such document");
        }
        let pages = document.map_or(u32::MAX, |document| document.page_count);
        let placement = placement(given.placement.as_ref(), pages, &path("placement"), faults);
        let name = faults.line(path("name"), &given.name, false, LABEL_CHARS_MAX);
        let (Some(kind), Some(recipient), Some(document)) = (kind, recipient, document) else { continue };
        fields.push(Field {
            id: FieldId::from_uuid(new_id(now)),
            kind,
            recipient: recipient.id,
            document: document.id,
            placement,
            required: given.required || !matches!(kind, FieldType::Text | FieldType::Checkbox),
            name,
            value: None,
        });
    }
    fields
}

fn placement(given: Option<&v1::Placement>, pages: u32, path: &str, faults: &mut Faults) -> Placement {
    let Some(given) = given else {
        faults.add(path, "must be there");
        return Placement { page: 1, x_percent: 0.0, y_percent: 0.0, width_percent: 1.0, height_percent: 1.0 };
    };
    if given.page == 0 || given.page > pages {
        faults.add(format!("{path}.page"), "there is no such page");
    }
    for (name, start, size) in
        [("x", given.x_percent, given.width_percent), ("y", given.y_percent, given.height_percent)]
    {
        let side = if name == "x" { "width" } else { "height" };
        // Written so that a NaN fails each of them.
        if !(0.0..=100.0).contains(&start) {
            faults.add(format!("{path}.{name}_percent"), "must be 0 to 100");
        } else if !(SIDE_PERCENT_MIN..=100.0).contains(&size) {
            faults.add(format!("{path}.{side}_percent"), "must be 0.5 to 100");
        } else if start + size > EDGE_PERCENT {
            faults.add(format!("{path}.{side}_percent"), "the field must end on the page");
        }
    }
    Placement {
        page: given.page,
        x_percent: given.x_percent,
        y_percent: given.y_percent,
        width_percent: given.width_percent,
        height_percent: given.height_percent,
    }
}
