//! What callers send, read strictly: everything that is wrong is named at once.

use std::time::Duration;

use chrono::{DateTime, Utc};
use countersign::v1::{DeliveryState, ErrorReason, EventType, WebhookHeader};
use countersign_chassis::faults;
use countersign_chassis::problem::Problem;
use countersign_chassis::wire::datetime;
use tonic::Status;

use crate::id::{EndpointId, EnvelopeId, EventId};
use crate::webhook::headers::{HEADERS_MAX, wrong_name, wrong_value};

/// Longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 200;
/// Types that one list may name: no more exist.
const TYPES_MAX: usize = 100;

/// What is wrong with a request.
#[derive(Default)]
pub(super) struct Faults(faults::Faults);

impl Faults {
    /// Names a field and what is wrong with it.
    pub fn add(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.0.add(path, why);
    }

    /// Refuses the request if anything was wrong.
    pub fn finish(self) -> Result<(), Status> {
        self.0.finish()
    }

    /// What its owner says of an endpoint.
    pub fn description(&mut self, path: &str, text: &str) -> String {
        let text = text.trim();
        if text.chars().any(char::is_control) {
            self.add(path, "must not hold control characters");
        } else if text.chars().count() > DESCRIPTION_CHARS_MAX {
            self.add(path, format!("must not be longer than {DESCRIPTION_CHARS_MAX} characters"));
        }
        text.to_owned()
    }

    /// Types of events, each once.
    pub fn types(&mut self, path: &str, given: &[i32]) -> Vec<i16> {
        if given.len() > TYPES_MAX {
            self.add(path, format!("must not name more than {TYPES_MAX} types"));
            return Vec::new();
        }
        let mut types = Vec::new();
        for (place, number) in given.iter().enumerate() {
            match EventType::try_from(*number) {
                Ok(EventType::Unspecified) | Err(_) => self.add(format!("{path}[{place}]"), "is not a type of events"),
                Ok(kind) => types.push(kind as i16),
            }
        }
        types.sort_unstable();
        types.dedup();
        types
    }

    /// Headers to be sent along. What is wrong with a value is told without the value.
    pub fn headers(&mut self, path: &str, given: &[WebhookHeader]) -> Vec<(String, String)> {
        if given.len() > HEADERS_MAX {
            self.add(path, format!("must not be more than {HEADERS_MAX}"));
            return Vec::new();
        }
        for (place, header) in given.iter().enumerate() {
            if let Some(why) = wrong_name(&header.name) {
                self.add(format!("{path}[{place}].name"), why);
            } else if given[..place].iter().any(|before| before.name == header.name) {
                self.add(format!("{path}[{place}].name"), "is named twice");
            }
            if let Some(why) = wrong_value(&header.value) {
                self.add(format!("{path}[{place}].value"), why);
            }
        }
        given.iter().map(|header| (header.name.clone(), header.value.clone())).collect()
    }

    /// A time, if there is one.
    pub fn time(&mut self, path: &str, given: Option<&prost_types::Timestamp>) -> Option<DateTime<Utc>> {
        let read = datetime(given?);
        if read.is_none() {
            self.add(path, "is not a time");
        }
        read
    }

    /// A duration, if there is one.
    pub fn duration(
        &mut self,
        path: &str,
        given: Option<&prost_types::Duration>,
        usual: Duration,
        most: Duration,
    ) -> Duration {
        let Some(given) = given else { return usual };
        match Duration::try_from(*given) {
            Ok(duration) if duration <= most => duration,
            _ => {
                self.add(path, format!("must be 0 to {} seconds", most.as_secs()));
                usual
            }
        }
    }

    /// How many to list.
    pub fn page_size(&mut self, given: u32, usual: u32, most: u32) -> i64 {
        if given > most {
            self.add("page_size", format!("must be 1 to {most}, or 0 for {usual}"));
        }
        i64::from(if given == 0 { usual } else { given.min(most) })
    }

    /// A state of deliveries.
    pub fn state(&mut self, path: impl Into<String>, given: i32) -> Option<i16> {
        match DeliveryState::try_from(given) {
            Ok(DeliveryState::Unspecified) => None,
            Ok(state) => Some(state as i16),
            Err(_) => {
                self.add(path, "is not a state of deliveries");
                None
            }
        }
    }

    /// An endpoint's id, if there is one.
    pub fn endpoint(&mut self, path: &str, given: &str) -> Option<EndpointId> {
        self.id(path, given, "whe_…")
    }

    /// An envelope's id, if there is one.
    pub fn envelope(&mut self, path: &str, given: &str) -> Option<EnvelopeId> {
        self.id(path, given, "env_…")
    }

    fn id<T: std::str::FromStr>(&mut self, path: &str, given: &str, form: &str) -> Option<T> {
        if given.is_empty() {
            return None;
        }
        let id = given.parse().ok();
        if id.is_none() {
            self.add(path, format!("must be an id of the form {form}"));
        }
        id
    }
}

/// An endpoint's id.
pub(super) fn endpoint_id(given: &str) -> Result<EndpointId, Status> {
    given.parse().map_err(|_| malformed("endpoint_id", "must be an id of the form whe_…"))
}

/// An envelope's id.
pub(super) fn envelope_id(given: &str) -> Result<EnvelopeId, Status> {
    given.parse().map_err(|_| malformed("envelope_id", "must be an id of the form env_…"))
}

/// A request with one fault.
pub(super) fn malformed(path: &str, why: &str) -> Status {
    Problem::new(ErrorReason::InvalidField, format!("{path}: {why}")).field(path, why).into()
}

/// A delivery's id, as callers see it.
pub(super) fn delivery_id(event: EventId, endpoint: EndpointId) -> String {
    format!("{event}:{endpoint}")
}

/// Reads a delivery's id.
pub(super) fn read_delivery_id(given: &str) -> Option<(EventId, EndpointId)> {
    let (event, endpoint) = given.split_once(':')?;
    Some((event.parse().ok()?, endpoint.parse().ok()?))
}
