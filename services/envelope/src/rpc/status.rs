//! How refusals and failures look on the wire. The one place where they are mapped.

use chrono::{DateTime, Utc};
use countersign::v1::ErrorReason;
use countersign_chassis::database::DatabaseError;
use countersign_chassis::once::in_progress;
use countersign_chassis::problem::Problem;
use tonic::Status;

use super::upload::over_limit;
use crate::blobs::BlobError;
use crate::domain::credit::Amount;
use crate::domain::refusal::{Place, Refusal, Transition, Why};
use crate::domain::status::Status as EnvelopeStatus;
use crate::store::is_condemned;

/// A refused command.
pub(super) fn refused(refusal: &Refusal, now: DateTime<Utc>) -> Status {
    let (current, attempted) = (refusal.current.name(), refusal.attempted.name());
    let problem = |reason, message: &str| Problem::new(reason, message);
    let problem = match &refusal.why {
        Why::State => Problem::new(
            ErrorReason::InvalidStateTransition,
            format!("The envelope is {current}: {attempted} is not possible."),
        ),
        Why::Revision => {
            problem(ErrorReason::RevisionMismatch, "The envelope has changed: its revision is not `if_revision`.")
        }
        Why::Purged => purged_content(),
        Why::Held => problem(ErrorReason::LegalHold, "A legal hold keeps the envelope's content."),
        Why::NotYourTurn => problem(ErrorReason::NotYourTurn, "The recipient's turn has not come."),
        Why::AlreadyActed => problem(ErrorReason::AlreadyActed, "The recipient has acted already."),
        Why::NotNeeded => problem(ErrorReason::NotNeeded, "Enough others have acted: the recipient is not needed."),
        Why::Role => problem(ErrorReason::RoleNotAllowed, "The recipient's role does not allow it."),
        Why::DeclineNotAllowed => problem(ErrorReason::DeclineNotAllowed, "Refusing this document is not allowed."),
        Why::DelegationNotAllowed => {
            problem(ErrorReason::DelegationNotAllowed, "The place may not be passed on, or not any more.")
        }
        Why::Muted => problem(ErrorReason::RemindersMuted, "The recipient wants no reminders."),
        Why::TooSoon(at) => {
            problem(ErrorReason::ResendTooSoon, "The last invitation or reminder is less than an hour old.")
                .retry_after((*at - now).to_std().unwrap_or_default())
        }
        Why::Incomplete(lacks) => Problem::new(ErrorReason::EnvelopeIncomplete, lacks.join(" ")),
        Why::DocumentChanged(id) => Problem::new(
            ErrorReason::DocumentChanged,
            format!("The envelope holds another document than was seen: {id}."),
        ),
        Why::FieldsChanged => {
            problem(ErrorReason::FieldsChanged, "A field has been filled since the session was shown.")
        }
        Why::Invalid(places) => {
            let problem = problem(ErrorReason::InvalidField, "What was put in does not fit.");
            return places.iter().fold(problem, |problem, (place, why)| wrong(problem, place, why)).into();
        }
        Why::TooManyFields { actual, allowed } => return too_many_fields(*actual, *allowed),
        Why::NoSuchRecipient | Why::NoSuchField | Why::NoSuchDocument => return Problem::not_found().into(),
    };
    let allowed: Vec<_> = refusal.allowed.iter().copied().map(Transition::name).collect();
    let problem = problem
        .with("current_state", current)
        .with("attempted_transition", attempted)
        .with("allowed_transitions", allowed.join(","))
        .with("revision", refusal.revision.to_string());
    match refusal.cause {
        Some(cause) => problem.with("cause", cause.name()).into(),
        None => problem.into(),
    }
}

/// More fields than an envelope may have.
pub(super) fn too_many_fields(actual: usize, allowed: usize) -> Status {
    let message = format!("fields: {actual} are more than the {allowed} that an envelope may have");
    over_limit("fields", "fields_max", actual, allowed, &message)
}

fn wrong(problem: Problem, place: &Place, why: &str) -> Problem {
    match place {
        Place::Consent => problem.field("consent", why),
        Place::SeenDocuments => problem.field("seen_documents", why),
        Place::SeenRevision => problem.field("seen_revision", why),
        Place::Values => problem.field("values", why),
        Place::Value(index) => problem.field(format!("values[{index}]"), why),
        Place::Missing(id) => problem.field("values", format!("the field {id} {why}")),
        Place::Reason => problem.field("reason", why),
        Place::Email => problem.field("person.email", why),
        Place::Page(id) => problem.field("document", format!("lacks the page of the field {id}: {why}")),
        Place::ExpiresAt => problem.field("expires_at", why),
        Place::RetentionDays => problem.field("retention_days", why),
    }
}

/// The database did not answer with a result.
pub(super) fn database(error: &DatabaseError) -> Status {
    if matches!(error, DatabaseError::KeyUsed | DatabaseError::KeyInUse) {
        return in_progress();
    }
    if error.is_transient() || is_condemned(error) {
        tracing::warn!(error = error.to_string(), "the database is away or too busy");
        return Problem::unavailable().into();
    }
    tracing::error!(error = error.to_string(), "the database refused a statement of ours");
    Problem::internal().into()
}

/// The account has not enough to spend.
pub(super) fn insufficient(needed: Amount) -> Status {
    Problem::new(ErrorReason::InsufficientCredits, "The account has not enough to spend on an envelope.")
        .with("unit", needed.unit.to_string())
        .with("needed", needed.value.to_string())
        .into()
}

/// Something else of ours failed that may work later, such as the document store.
pub(super) fn unavailable(error: &anyhow::Error) -> Status {
    tracing::error!(error = format!("{error:#}"), "a call could not be served");
    Problem::unavailable().into()
}

/// A document could not be read. What is damaged stays so; all else may work later.
pub(super) fn not_read(error: &BlobError) -> Status {
    let BlobError::Changed(_) = error else { return unavailable(&anyhow::anyhow!("{}", chain(error))) };
    tracing::error!(error = error.to_string(), "a stored document is damaged");
    Problem::new(ErrorReason::DocumentDamaged, "What lies in the document store is not what was stored.").into()
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(behind) = source {
        told = format!("{told}: {behind}");
        source = behind.source();
    }
    told
}

/// A download that was to go on, of something else by now.
pub(super) fn changed_since() -> Status {
    Problem::new(ErrorReason::DocumentChanged, "The file is another than `if_etag` names: begin again.").into()
}

/// More than fits into one file.
pub(super) fn too_large_to_bundle() -> Status {
    let message = "The documents are too large for one file: download them one by one.";
    Problem::new(ErrorReason::OutOfScopeV1, message).with("limit", "bundle_bytes").into()
}

/// Nothing that was put in is binding, or not yet.
pub(super) fn no_data(current: EnvelopeStatus) -> Status {
    Problem::new(ErrorReason::DataNotAvailable, "The envelope is not completed: nothing that was put in is binding.")
        .with("current_state", current.name())
        .into()
}

/// That version of a document does not exist, or not yet.
pub(super) fn no_version(current: EnvelopeStatus) -> Status {
    Problem::new(ErrorReason::VersionNotAvailable, "That version of the document does not exist, or not yet.")
        .with("current_state", current.name())
        .into()
}

fn purged_content() -> Problem {
    Problem::new(ErrorReason::ContentPurged, "The envelope's content has been purged.")
}

/// The content is gone.
pub(super) fn purged(current: EnvelopeStatus) -> Status {
    purged_content().with("current_state", current.name()).into()
}

/// The signing link has ended with its envelope.
pub(super) fn closed(current: EnvelopeStatus) -> Status {
    Problem::new(ErrorReason::SigningClosed, format!("The envelope is {}: the signing link has ended.", current.name()))
        .with("current_state", current.name())
        .into()
}

/// Their turn has not come.
pub(super) fn not_your_turn(current: EnvelopeStatus) -> Status {
    Problem::new(ErrorReason::NotYourTurn, "The recipient's turn has not come.")
        .with("current_state", current.name())
        .into()
}

/// Their part is over, though the envelope goes on without them.
pub(super) fn part_over(current: EnvelopeStatus) -> Status {
    Problem::new(ErrorReason::SigningClosed, "The recipient's part is over: the signing link has ended.")
        .with("current_state", current.name())
        .into()
}

/// Who only gets a copy has no session.
pub(super) fn no_session(current: EnvelopeStatus) -> Status {
    Problem::new(ErrorReason::RoleNotAllowed, "The recipient's role has no session.")
        .with("current_state", current.name())
        .into()
}
