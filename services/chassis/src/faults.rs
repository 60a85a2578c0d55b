//! What is wrong with the fields of a request: collected, so that the caller hears of everything at once.

use countersign::v1::ErrorReason;
use tonic::Status;

use crate::problem::Problem;

/// Faults that are kept of one request: more than anybody is told of.
const FAULTS_MAX: usize = 200;

/// What is wrong so far.
#[derive(Default)]
pub struct Faults(Vec<(String, String)>);

impl Faults {
    /// Names a field and what is wrong with it.
    pub fn add(&mut self, path: impl Into<String>, why: impl Into<String>) {
        if self.0.len() < FAULTS_MAX {
            self.0.push((path.into(), why.into()));
        }
    }

    /// Refuses the request if anything was wrong.
    pub fn finish(self) -> Result<(), Status> {
        let Some((path, why)) = self.0.first() else { return Ok(()) };
        let problem = Problem::new(ErrorReason::InvalidField, format!("{path}: {why}"));
        Err(self.0.into_iter().fold(problem, |problem, (path, why)| problem.field(path, why)).into())
    }
}
