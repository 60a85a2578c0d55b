//! Black-box tests of all services together, over the wire and against real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

mod abuse;
#[path = "../../services/envelope/tests/seal/authority.rs"]
mod authority;
mod callers;
mod certificates;
mod changes;
mod chaos;
mod chart;
mod checks;
mod clients;
mod combining;
mod contract;
mod corpus;
mod crashes;
mod deadlines;
mod declines;
mod dial;
mod disks;
mod documents;
mod doors;
mod downloads;
mod drafts;
mod drain;
#[path = "../../services/paper/tests/odd/ending.rs"]
mod ending;
mod entries;
mod facts;
mod flights;
mod freshness;
mod groups;
mod histories;
mod intake;
mod isolation;
#[path = "../../services/paper/tests/odd/judges.rs"]
mod judges;
mod keeping;
mod keys;
mod ledger;
mod lists;
mod model;
mod mutants;
mod once;
mod operating;
mod outages;
mod pages;
mod partitions;
mod pictures;
#[path = "../../services/paper/tests/odd/pki.rs"]
mod pki;
mod pool;
mod presets;
mod races;
mod readiness;
mod reasons;
mod refusals;
mod reminders;
mod replace;
mod replicas;
#[path = "../../services/envelope/tests/seal/responder.rs"]
mod responder;
mod restarts;
#[path = "../../services/paper/tests/odd/revocable.rs"]
mod revocable;
mod roles;
mod rotation;
mod sabotage;
mod schedule;
mod seals;
mod secrets;
mod sessions;
mod settings;
mod several;
mod soak;
mod steps;
mod stories;
mod stream;
mod tampering;
mod telemetry;
mod tidy;
mod webhooks;
mod worker;
