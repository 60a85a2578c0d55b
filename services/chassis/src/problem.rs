//! A refused call as the contract words it: a gRPC status with standard details.
//!
//! Never puts anything into a status that the caller did not send or may not see.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use countersign::v1::ErrorReason;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::ticker::jittered;

/// The domain of all reasons.
pub const ERROR_DOMAIN: &str = "countersign";

/// When, more or less, another try makes sense for whom there was no turn.
const RETRY_OVERLOADED: Duration = Duration::from_millis(750);
/// Fields that are named in one answer.
const FIELDS_TOLD_MAX: usize = 25;

tokio::task_local! {
    /// The call at hand.
    pub static CALL: CallFacts;
}

/// What every error of a call tells about it.
#[derive(Clone, Debug)]
pub struct CallFacts {
    /// The id under which it is found in the logs.
    pub request_id: String,
    /// Where reasons are explained; the reason is added as the fragment.
    pub help_url: Arc<str>,
}

/// Why a call is refused.
#[derive(Debug)]
pub struct Problem {
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    fields: Vec<(String, String)>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// Says why.
    #[must_use]
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), metadata: HashMap::new(), fields: Vec::new(), retry_after: None }
    }

    /// A defect of ours: logged where it is made into this, never told outside.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(ErrorReason::Internal, "The service failed. The request id finds the cause in its logs.")
    }

    /// Nothing wrong with the call, but not now.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(ErrorReason::Unavailable, "The service cannot answer now. Try again.")
            .retry_after(Duration::from_millis(500))
    }

    /// More calls are being answered than the service can answer at a time. Nothing of this one was looked at.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::new(ErrorReason::Unavailable, "The service has too much to do. Nothing was done of this call.")
            .retry_after(jittered(RETRY_OVERLOADED))
    }

    /// Its time is over before there is an answer.
    #[must_use]
    pub fn deadline_exceeded() -> Self {
        Self::new(ErrorReason::DeadlineExceeded, "The call's time was over before there was an answer.")
    }

    /// No such object is visible to the caller.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(ErrorReason::NotFound, "No such object is visible to this credential.")
    }

    /// Adds a fact for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Names a field of the request and what is wrong with it.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.fields.push((path.into(), description.into()));
        self
    }

    /// Says when another try makes sense.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }
}

/// The gRPC code and the HTTP status of a reason, as `error_reason.proto` documents them.
#[must_use]
pub fn codes(reason: ErrorReason) -> (Code, u16) {
    match reason {
        ErrorReason::InvalidField
        | ErrorReason::OutOfScopeV1
        | ErrorReason::UnreadableDocument
        | ErrorReason::ActorSubjectMismatch
        | ErrorReason::UnsupportedDocumentType
        | ErrorReason::MarkersUnmatched
        | ErrorReason::AmbiguousRecipient => (Code::InvalidArgument, 400),
        ErrorReason::AuthenticationRequired => (Code::Unauthenticated, 401),
        ErrorReason::InsufficientCredits => (Code::FailedPrecondition, 402),
        ErrorReason::PermissionDenied
        | ErrorReason::AccountSuspended
        | ErrorReason::DeclineNotAllowed
        | ErrorReason::RoleNotAllowed
        | ErrorReason::DelegationNotAllowed => (Code::PermissionDenied, 403),
        ErrorReason::NotFound => (Code::NotFound, 404),
        ErrorReason::InvalidStateTransition
        | ErrorReason::NotYourTurn
        | ErrorReason::AlreadyActed
        | ErrorReason::EnvelopeIncomplete
        | ErrorReason::VersionNotAvailable
        | ErrorReason::SigningClosed
        | ErrorReason::NotNeeded
        | ErrorReason::RemindersMuted
        | ErrorReason::RevisionNotReached
        | ErrorReason::LegalHold
        | ErrorReason::ChallengeFailed
        | ErrorReason::PageNotDrawable
        | ErrorReason::EndpointNotActive
        | ErrorReason::DataNotAvailable
        | ErrorReason::FeedIncarnation => (Code::FailedPrecondition, 409),
        ErrorReason::ContentPurged => (Code::FailedPrecondition, 410),
        ErrorReason::DocumentChanged
        | ErrorReason::FieldsChanged
        | ErrorReason::RevisionMismatch
        | ErrorReason::IdempotencyInProgress => (Code::Aborted, 409),
        ErrorReason::IdempotencyMismatch | ErrorReason::SecretShownOnce => (Code::AlreadyExists, 409),
        ErrorReason::ResendTooSoon | ErrorReason::RateLimitExceeded => (Code::ResourceExhausted, 429),
        ErrorReason::ResumeTokenTooOld => (Code::OutOfRange, 400),
        ErrorReason::ConverterNotInstalled => (Code::Unimplemented, 501),
        ErrorReason::OffsetOutOfRange => (Code::OutOfRange, 416),
        ErrorReason::DocumentDamaged => (Code::DataLoss, 500),
        ErrorReason::Unavailable => (Code::Unavailable, 503),
        ErrorReason::DeadlineExceeded => (Code::DeadlineExceeded, 504),
        ErrorReason::Internal | ErrorReason::Unspecified => (Code::Internal, 500),
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let (code, http_status) = codes(problem.reason);
        let mut metadata = problem.metadata;
        metadata.insert("http_status".to_owned(), http_status.to_string());
        let reason = problem.reason.as_str_name().trim_start_matches("ERROR_REASON_");
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, ERROR_DOMAIN, metadata);
        if let Ok(call) = CALL.try_with(Clone::clone) {
            details.set_request_info(call.request_id, "");
            details.add_help_link("What it means and what to do", format!("{}#{reason}", call.help_url));
        }
        // Details travel in a header, and clients bound those: the first ones, and how many more.
        let more = problem.fields.len().saturating_sub(FIELDS_TOLD_MAX);
        for (path, description) in problem.fields.into_iter().take(FIELDS_TOLD_MAX) {
            details.add_bad_request_violation(path, description);
        }
        if more > 0 {
            details.add_bad_request_violation("", format!("and {more} more"));
        }
        if let Some(delay) = problem.retry_after {
            details.set_retry_info(Some(delay));
        }
        let mut headers = MetadataMap::new();
        if let Some(delay) = problem.retry_after {
            // Whole seconds, as HTTP has them, and never too few.
            headers.insert("retry-after", (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).into());
        }
        Status::with_error_details_and_metadata(code, problem.message, details, headers)
    }
}
