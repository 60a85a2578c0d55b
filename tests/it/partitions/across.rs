//! Statements that work across accounts by design, and why: each is a loop's, and none is a call's. A new one has to be decided on.

use countersign_test_support::plans::Ran;

/// Words of the envelope service's, which run in sessions of the loops' own.
const OF_ENVELOPES: [(&str, &str); 9] = [
    ("wanted (part, after, upto)", "a page of the feed for a service"),
    ("WHERE coalesce(e.occurred_at < $1, true)", "the oldest events of the feed"),
    ("ORDER BY random() LIMIT $2)", "what is due of envelopes: read without a lock, done one by one"),
    ("FROM envelope WHERE keeping_at <= $1", "what is to be announced or purged: the same"),
    ("FROM envelope WHERE discarded_at <= $1", "drafts to be purged: the same, account by account"),
    ("FROM artifact_job WHERE due_at <= $1", "documents to be made: claimed"),
    ("WHERE due_at <= $1 AND account_id <> ALL ($3)", "documents to be read: claimed"),
    ("FROM upload WHERE created_at < $1", "uploads that are too old"),
    ("FROM idempotency WHERE kept_until <= $1", "replies that are too old"),
];

/// Words of the notifier's, all of whose sessions are alike.
const OF_NOTICES: [(&str, &str); 10] = [
    ("step AS (", "webhooks that are due: claimed from endpoint to endpoint"),
    ("WHERE state IN (1, 5) AND next_at <= $1", "mails that are due: claimed"),
    ("FROM endpoint_notice WHERE mailed_at IS NULL", "mails to be planned about endpoints: claimed"),
    ("WHERE account_id = ANY($1) AND envelope_id IS NULL", "endpoints for a page of the feed"),
    ("WHERE state <> 1 AND created_at < $1", "deliveries that are too old"),
    ("WHERE state NOT IN (1, 5) AND next_at < $1", "mails that are too old"),
    ("e.envelope_id IS NOT NULL AND e.created_at < $1", "own addresses of envelopes that are too old"),
    ("FROM idempotency WHERE kept_until <= $1", "replies that are too old"),
    ("substring(headers_sealed FOR 8) = ANY ($1)", "headers that are to be sealed under another master key"),
    ("GROUP BY fingerprint", "master keys that are needed and missing"),
];

/// Whether a statement is one of them.
pub fn is_across_by_design(of_notifier: bool, ran: &Ran) -> bool {
    let is_of = |words: &[(&str, &str)]| words.iter().any(|(words, _)| ran.statement.contains(words));
    if of_notifier { is_of(&OF_NOTICES) } else { ran.is_across_accounts && is_of(&OF_ENVELOPES) }
}

/// Words that are in no statement any more.
pub fn forgotten<'a>(heard: impl Iterator<Item = &'a Ran> + Clone) -> Vec<&'static str> {
    let words = OF_ENVELOPES.iter().chain(&OF_NOTICES).map(|(words, _)| *words);
    words.filter(|words| !heard.clone().any(|ran| ran.statement.contains(words))).collect()
}
