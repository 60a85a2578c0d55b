//! How refusals and failures look on the wire. The one place where they are mapped.

use countersign::v1::ErrorReason;
use countersign_chassis::database::DatabaseError;
use countersign_chassis::problem::Problem;
use tonic::Status;

use crate::domain::refusal::{Place, Refusal, Transition, Why};
use crate::domain::status::Status as EnvelopeStatus;

/// A refused command.
pub(super) fn refused(refusal: &Refusal) -> Status {
    let (current, attempted) = (refusal.current.name(), refusal.attempted.name());
    let problem = match &refusal.why {
        Why::State => Problem::new(
            ErrorReason::InvalidStateTransition,
            format!("The envelope is {current}: {attempted} is not possible."),
        ),
        Why::NotYourTurn => Problem::new(ErrorReason::NotYourTurn, "The recipient's turn has not come."),
        Why::AlreadyActed => Problem::new(ErrorReason::AlreadyActed, "The recipient has acted already."),
        Why::Incomplete(lack) => Problem::new(ErrorReason::EnvelopeIncomplete, *lack),
        Why::DocumentChanged(id) => Problem::new(
            ErrorReason::DocumentChanged,
            format!("The envelope holds another document than was seen: {id}."),
        ),
        Why::Invalid(places) => {
            let problem = Problem::new(ErrorReason::InvalidField, "What was put in does not fit.");
            return places.iter().fold(problem, |problem, (place, why)| wrong(problem, place, why)).into();
        }
        Why::NoSuchRecipient => return Problem::not_found().into(),
    };
    let allowed: Vec<_> = refusal.allowed.iter().copied().map(Transition::name).collect();
    problem
        .with("current_state", current)
        .with("attempted_transition", attempted)
        .with("allowed_transitions", allowed.join(","))
        .into()
}

fn wrong(problem: Problem, place: &Place, why: &str) -> Problem {
    match place {
        Place::Consent => problem.field("consent", why),
        Place::SeenDocuments => problem.field("seen_documents", why),
        Place::Value(index) => problem.field(format!("values[{index}]"), why),
        Place::Missing(id) => problem.field("values", format!("the field {id} {why}")),
    }
}

/// The database did not answer with a result.
pub(super) fn database(error: &DatabaseError) -> Status {
    if error.is_transient() {
        tracing::warn!(error = error.to_string(), "the database is away or too busy");
        return Problem::unavailable().into();
    }
    tracing::error!(error = error.to_string(), "the database refused a statement of ours");
    Problem::internal().into()
}

/// Something else of ours failed that may work later, such as the document store.
pub(super) fn unavailable(error: &anyhow::Error) -> Status {
    tracing::error!(error = format!("{error:#}"), "a call could not be served");
    Problem::unavailable().into()
}

/// That version of a document does not exist, or not yet.
pub(super) fn no_version(current: EnvelopeStatus) -> Status {
    Problem::new(ErrorReason::VersionNotAvailable, "That version of the document does not exist, or not yet.")
        .with("current_state", current.name())
        .into()
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
