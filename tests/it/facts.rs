//! What the database itself holds to.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use countersign::v1::{EnvelopeStatus, Routing};
use countersign_envelope::domain::status::{Facts, Status};
use countersign_test_support::{Database, Service, notifier};

/// S1.15, T-8: for every combination of facts that the table takes, its status is the rules' status.
#[tokio::test(flavor = "multi_thread")]
async fn s1_15_the_status_column_equals_the_rule() {
    let database = Database::envelope().await;
    let client = database.connect().await;
    let account = "00000000-0000-0000-0000-000000000001";
    let at: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let mut met: BTreeMap<Status, u32> = BTreeMap::new();
    let columns = [
        "dispatched_at",
        "sent_at",
        "first_signed_at",
        "all_acted_at",
        "completed_at",
        "declined_at",
        "voided_at",
        "expired_at",
    ];
    for facts in 0..256_u32 {
        let is = |index: usize| (facts >> index & 1 == 1).then_some(at);
        let values: Vec<_> = (0..8).map(|index| if is(index).is_some() { "now()" } else { "NULL" }).collect();
        let cause = if (5..8).any(|index| is(index).is_some()) { "1" } else { "NULL" };
        let insert = format!(
            "INSERT INTO envelope (account_id, id, livemode, revision, sequence, chain, last_event_at, subject, \
             external_reference, metadata, terms, created_at, expires_at, requires_replacement, retention_days, \
             purge_warning_days, draft_days, cause, {}) VALUES ('{account}', gen_random_uuid(), true, 1, 1, sha256(''), \
             now(), '', '', '{{}}', '{{}}', now(), now(), false, 1, 1, 1, {cause}, {}) RETURNING status",
            columns.join(", "),
            values.join(", ")
        );
        let Ok(row) = client.query_one(&insert, &[]).await else { continue };
        let status: i16 = row.get(0);
        let rule = Facts {
            created_at: at,
            dispatched_at: is(0),
            sent_at: is(1),
            first_signed_at: is(2),
            all_acted_at: is(3),
            completed_at: is(4),
            declined_at: is(5),
            voided_at: is(6),
            expired_at: is(7),
            discarded_at: None,
        };
        assert_eq!(status, rule.status() as i16, "{rule:?}");
        *met.entry(rule.status()).or_default() += 1;
    }
    assert_eq!(met.len(), Status::ALL.len(), "every status is met: {met:?}");
}

/// T-8, D1: raw SQL cannot change how an envelope ended, nor its history.
#[tokio::test(flavor = "multi_thread")]
async fn t8_raw_sql_cannot_change_what_has_ended() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    story.signer(0).decline("no").await.unwrap();
    story.until(EnvelopeStatus::Declined).await;
    story.until_artifact().await;
    let client = service.database.connect().await;
    for sql in [
        "UPDATE envelope SET declined_at = NULL",
        "UPDATE envelope SET declined_at = now()",
        "UPDATE envelope SET declined_at = NULL, voided_at = now()",
        "UPDATE envelope SET completed_at = now()",
        "UPDATE envelope SET expires_at = now()",
        "UPDATE envelope SET status = 5",
        "UPDATE envelope SET cause = 3",
        "UPDATE recipient SET status = 3",
        "UPDATE recipient SET decline_reason = 'another'",
        "UPDATE recipient SET notices = '{}'",
        "UPDATE recipient SET status = 5, ended_at = now(), declined_at = NULL, decline_channel = NULL WHERE status = 4",
        "DELETE FROM recipient",
        "UPDATE field SET text_value = 'forged'",
        "DELETE FROM field",
        "UPDATE document SET sha256 = sha256('')",
        "UPDATE document SET name = 'another'",
        "UPDATE document SET stored = false",
        "UPDATE artifact SET sha256 = sha256('')",
        "UPDATE artifact SET stored = false",
        "DELETE FROM artifact",
        "UPDATE recipient SET decline_note = 'said so'",
        "UPDATE envelope SET subject = 'another'",
        "UPDATE envelope SET purged_at = now(), legal_hold_at = now()",
        "UPDATE envelope SET livemode = NOT livemode",
        "UPDATE envelope SET terms = '{}'",
        "UPDATE event SET record = ''",
        "DELETE FROM event",
        "TRUNCATE event CASCADE",
    ] {
        client.execute(sql, &[]).await.expect_err(sql);
    }
    client.execute("UPDATE envelope SET requires_replacement = false", &[]).await.expect("not a fact");
    // What is personal can be erased for ever, under the hood of the same facts.
    client.execute("UPDATE recipient SET name = '', email = ''", &[]).await.expect("not a fact");
}

/// S1.22: one terminal fact only.
#[tokio::test(flavor = "multi_thread")]
async fn d1_two_terminal_facts_are_refused() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    sender.story(1, Routing::Parallel).await;
    let client = service.database.connect().await;
    let both =
        client.execute("UPDATE envelope SET declined_at = now(), voided_at = now(), cause = 1", &[]).await.unwrap_err();
    assert_eq!(both.as_db_error().unwrap().constraint(), Some("one_terminal_fact"));
}

/// Takes a schema back, of which nothing is left.
async fn taken_back(database: &Database, down: &str) {
    let client = database.connect().await;
    client.batch_execute(down).await.unwrap();
    let left = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public' \
                AND table_name <> '__diesel_schema_migrations'";
    assert_eq!(database.number(left).await, 0);
    client.execute("DELETE FROM __diesel_schema_migrations", &[]).await.unwrap();
}

/// T-74: the migrations go both ways.
#[tokio::test(flavor = "multi_thread")]
async fn t74_migrations_are_reversible() {
    let notices = notifier::database().await;
    taken_back(&notices, include_str!("../../services/notifier/migrations/00000000000001_notifier/down.sql")).await;
    countersign_notifier::serve::migrate(&notices.config()).await.unwrap();
    let database = Database::envelope().await;
    taken_back(&database, include_str!("../../services/envelope/migrations/00000000000001_envelopes/down.sql")).await;
    countersign_envelope::serve::migrate(&database.config()).await.unwrap();
    // Again, at once, and as two: nothing more to do.
    let config = database.config();
    let (one, two) =
        tokio::join!(countersign_envelope::serve::migrate(&config), countersign_envelope::serve::migrate(&config));
    one.and(two).unwrap();
}
