//! What nobody could do but by hand: each statement, and the invariants of which it leaves no more.

/// The invariants that are broken, and by what.
pub type Break = (&'static [&'static str], &'static str);

/// Of the envelope service. Statuses: 1 draft, 3 sent, 5 completed, 7 voided.
pub const ENVELOPE: &[Break] = &[
    (&["history.chain"], "UPDATE event SET record = set_byte(record, 20, 88) WHERE sequence = 2 AND envelope_id = (SELECT id FROM envelope WHERE status = 5)"),
    (&["history.chain"], "DELETE FROM event_particulars; DELETE FROM event WHERE sequence = 2 AND envelope_id = (SELECT id FROM envelope WHERE status = 5)"),
    (&["history.columns"], "UPDATE event SET recipient_id = gen_random_uuid() WHERE sequence = 1 AND envelope_id = (SELECT id FROM envelope WHERE status = 5)"),
    (
        // Hashed anew, so that nothing but the number is wrong.
        &["history.order"],
        "WITH last AS (SELECT e.* FROM event e JOIN envelope v ON v.id = e.envelope_id AND v.sequence = e.sequence AND v.status = 5),
            new AS (SELECT *, convert_to(regexp_replace(convert_from(record, 'UTF8'), '\"revision\":[0-9]+', '\"revision\":99'), 'UTF8') AS said FROM last),
            done AS (UPDATE event e SET record = said, hash = sha256('\\x00'::bytea || int8send(e.sequence) || e.prev_hash || sha256(said))
                FROM new WHERE e.id = new.id RETURNING e.envelope_id, e.hash)
            UPDATE envelope v SET revision = 99, chain = done.hash FROM done WHERE v.id = done.envelope_id",
    ),
    (
        &["history.end"],
        "WITH last AS (SELECT e.* FROM event e JOIN envelope v ON v.id = e.envelope_id AND v.sequence = e.sequence
                WHERE v.status = 7 AND e.kind = 10 LIMIT 1),
            new AS (SELECT *, convert_to(replace(convert_from(record, 'UTF8'), '\"sequence\":' || sequence || ',', '\"sequence\":' || sequence + 1 || ','), 'UTF8') AS said FROM last),
            done AS (INSERT INTO event SELECT account_id, envelope_id, sequence + 1, id, kind, recipient_id, occurred_at, said, hash,
                sha256('\\x00'::bytea || int8send(sequence + 1) || hash || sha256(said)), NULL FROM new RETURNING *),
            told AS (INSERT INTO feed SELECT p.part, (SELECT max(position) FROM feed WHERE feed.part = p.part) + 1, done.account_id, p.livemode, done.envelope_id, done.sequence
                FROM done JOIN (SELECT DISTINCT part, livemode, envelope_id FROM feed) p USING (envelope_id))
            UPDATE envelope v SET sequence = done.sequence, chain = done.hash FROM done WHERE v.id = done.envelope_id",
    ),
    (&["history.rows"], "ALTER TABLE event DROP CONSTRAINT event_hash_check; UPDATE event SET hash = '\\x00' WHERE sequence = 1 AND envelope_id = (SELECT id FROM envelope WHERE status = 5)"),
    (&["envelope.rows"], "UPDATE envelope SET terms = '[]' WHERE status = 5"),
    (&["envelope.revision"], "UPDATE envelope SET revision = revision + 1 WHERE status = 5"),
    (&["envelope.owner", "feed.envelope"], "UPDATE envelope SET livemode = NOT livemode WHERE status = 1 AND discarded_at IS NULL"),
    (&["envelope.facts"], "UPDATE envelope SET sent_at = sent_at - interval '1 second' WHERE status = 5"),
    (&["envelope.state"], "UPDATE recipient SET group_number = group_number + 1 WHERE envelope_id = (SELECT id FROM envelope WHERE status = 5)"),
    (&["envelope.status"], "ALTER TABLE envelope ALTER COLUMN status DROP EXPRESSION; UPDATE envelope SET status = 4 WHERE status = 5"),
    (&["envelope.state", "envelope.artifacts"], "DELETE FROM artifact WHERE envelope_id = (SELECT id FROM envelope WHERE status = 5)"),
    (&["envelope.metadata"], "UPDATE envelope SET metadata = '{\"order\": \"7\"}' WHERE status = 1 AND discarded_at IS NULL"),
    (&["envelope.replacement"], "UPDATE envelope SET replaces = NULL"),
    (&["timer.warning"], "UPDATE envelope SET warning_at = '2000-01-01' WHERE status = 1"),
    (&["timer.keeping"], "UPDATE envelope SET keeping_at = NULL WHERE status = 1"),
    (&["timer.reminder"], "UPDATE envelope SET reminder_at = NULL"),
    (&["job.artifact"], "INSERT INTO artifact_job SELECT account_id, id, 2, now() FROM envelope WHERE status = 7"),
    (
        &["job.reading"],
        "INSERT INTO ingest_job SELECT d.account_id, d.envelope_id, d.id, gen_random_uuid(), now(), now() FROM document d JOIN envelope v ON v.id = d.envelope_id WHERE v.status = 3",
    ),
    (&["purge.content"], "UPDATE envelope SET subject = 'Agreement' WHERE purged_at IS NOT NULL"),
    (
        // Nobody had promised them.
        &["purge.particulars", "history.chain"],
        "INSERT INTO event_particulars SELECT e.account_id, e.envelope_id, e.sequence, '\\x00000000000000000000000000000000', '' FROM event e
            JOIN envelope v ON v.id = e.envelope_id WHERE v.purged_at IS NOT NULL AND e.sequence = 1",
    ),
    (&["ledger.balance"], "UPDATE ledger_balance SET available = available + 1"),
    (&["ledger.balance"], "UPDATE ledger_head SET entries = entries + 1"),
    (&["ledger.charge"], "UPDATE envelope SET charge = jsonb_set(charge, '{value}', '2') WHERE livemode AND status = 3"),
    (&["ledger.refund"], "UPDATE envelope SET charge = jsonb_set(charge, '{refunded}', '0') WHERE livemode AND status = 7"),
    (&["ledger.envelope"], "UPDATE envelope SET charge = NULL WHERE livemode AND status = 3"),
    (&["ledger.owner", "ledger.charge"], "UPDATE ledger_entry SET envelope_id = gen_random_uuid() WHERE envelope_id = (SELECT id FROM envelope WHERE livemode AND status = 3)"),
    (&["feed.positions"], "UPDATE feed SET position = position + 7 WHERE (part, position) = (SELECT part, max(position) FROM feed GROUP BY part LIMIT 1)"),
    (&["feed.partitions"], "DELETE FROM feed_head WHERE part = 3"),
    (
        &["feed.settled"],
        "WITH last AS (DELETE FROM feed WHERE (part, position) = (SELECT part, max(position) FROM feed GROUP BY part LIMIT 1) RETURNING *)
            INSERT INTO outbox (part, id, account_id, livemode, envelope_id, sequence) OVERRIDING SYSTEM VALUE
            SELECT part, 0, account_id, livemode, envelope_id, sequence FROM last",
    ),
    (
        &["feed.order"],
        "UPDATE feed SET sequence = 3 - sequence WHERE sequence IN (1, 2) AND envelope_id = (SELECT id FROM envelope WHERE status = 5)",
    ),
    (&["feed.end"], "DELETE FROM feed WHERE (part, position) = (SELECT part, max(position) FROM feed GROUP BY part LIMIT 1)"),
    (
        &["feed.envelope"],
        "INSERT INTO feed SELECT part, max(position) + 1, gen_random_uuid(), true, gen_random_uuid(), 1 FROM feed GROUP BY part LIMIT 1",
    ),
    (
        &["idempotency.once"],
        "ALTER TABLE idempotency DROP CONSTRAINT idempotency_pkey; INSERT INTO idempotency SELECT * FROM idempotency LIMIT 1",
    ),
    (&["idempotency.about"], "UPDATE idempotency SET about = gen_random_uuid()"),
    (&["idempotency.purged"], "UPDATE idempotency SET reply = NULL"),
    (
        &["idempotency.purged"],
        "UPDATE idempotency SET about = (SELECT id FROM envelope WHERE purged_at IS NOT NULL), used_at = used_at - interval '1 day'",
    ),
    (
        &["bytes.condemned"],
        "INSERT INTO blob_removal SELECT sha256, now(), now() FROM document WHERE stored LIMIT 1 ON CONFLICT (sha256) DO UPDATE SET condemned_at = now()",
    ),
];

/// Of the notifier.
pub const NOTIFIER: &[Break] = &[
    (
        &["delivery.once", "delivery.attempts"],
        "ALTER TABLE delivery DROP CONSTRAINT delivery_pkey; INSERT INTO delivery SELECT * FROM delivery LIMIT 1",
    ),
    (&["delivery.body"], "UPDATE delivery SET body = body || ' ' WHERE endpoint_id = (SELECT id FROM endpoint LIMIT 1)"),
    (
        &["delivery.attempts"],
        "INSERT INTO attempt SELECT account_id, endpoint_id, event_id, 0, at, duration_ms, status_code, failure, answer FROM attempt LIMIT 1",
    ),
    (&["delivery.settled"], "UPDATE attempt SET status_code = 500"),
    (&["delivery.claim"], "UPDATE delivery SET lease_until = now()"),
    (&["delivery.claim"], "UPDATE delivery SET lease_epoch = 0"),
    (
        &["attempt.delivery"],
        "INSERT INTO attempt SELECT account_id, endpoint_id, gen_random_uuid(), 1, at, duration_ms, status_code, failure, answer FROM attempt LIMIT 1",
    ),
    (&["mail.once"], "ALTER TABLE mail DROP CONSTRAINT mail_pkey; INSERT INTO mail SELECT * FROM mail LIMIT 1"),
    (&["mail.claim"], "UPDATE mail SET attempts = 99"),
    (&["endpoint.notice"], "UPDATE endpoint SET disabled_at = now(), disabled_reason = 1"),
    (&["feed.partitions"], "DELETE FROM feed_partition WHERE partition = 3"),
    (&["feed.epoch"], "UPDATE feed_partition SET epoch = -1 WHERE partition = 3"),
    (
        &["idempotency.once"],
        "ALTER TABLE idempotency DROP CONSTRAINT idempotency_pkey;
        INSERT INTO idempotency SELECT a, sha256('k'), sha256('r'), '', NULL, now(), now() FROM (SELECT gen_random_uuid() AS a) AS one, generate_series(1, 2)",
    ),
];
