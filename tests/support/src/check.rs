//! The checks that operators run, in this process.

use countersign_chassis::check::{CheckConfig, Finding};
use countersign_envelope::config::Check;

use crate::database::Database;

fn config(database: &Database) -> CheckConfig {
    CheckConfig { database: database.config(), account: None, json: false }
}

/// What is found in a database of the envelope service.
pub async fn envelope(database: &Database) -> Vec<Finding> {
    let task = Check { check: config(database), blobs: false, documents: None, document_keys: None };
    look(&task).await
}

/// The same as that task says.
pub async fn look(task: &Check) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut keep = |finding| found.push(finding);
    let summary = countersign_envelope::check::check(task, &mut keep).await.expect("a check");
    assert_eq!(summary.findings, found.len() as u64);
    found
}

/// What is found in a database of the notifier.
pub async fn notifier(database: &Database) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut keep = |finding| found.push(finding);
    let summary = countersign_notifier::check::check(&config(database), &mut keep).await.expect("a check");
    assert_eq!(summary.findings, found.len() as u64);
    found
}
