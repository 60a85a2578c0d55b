//! Questions of an operator's check, whose every answer is a finding. Must never name an address, or what was said.

use countersign_chassis::check::Question;

/// What must never have an answer. Subjects are events.
pub const QUESTIONS: &[Question] = &[
    Question {
        invariant: "delivery.once",
        sql: "SELECT account_id AS account, event_id AS subject, format('%s deliveries to one endpoint', count(*)) AS detail
            FROM delivery WHERE $1 IS NULL OR account_id = $1
            GROUP BY account_id, endpoint_id, event_id HAVING count(*) > 1",
    },
    Question {
        invariant: "delivery.body",
        sql: "SELECT account_id AS account, event_id AS subject, 'endpoints are told of it in different bytes' AS detail
            FROM delivery WHERE $1 IS NULL OR account_id = $1
            GROUP BY account_id, event_id HAVING min(md5(body)) <> max(md5(body))",
    },
    Question {
        invariant: "delivery.attempts",
        sql: "SELECT d.account_id AS account, d.event_id AS subject,
                format('%s attempts, and %s written down up to the %sth', d.attempts, count(a.number), max(a.number)) AS detail
            FROM delivery AS d LEFT JOIN attempt AS a USING (account_id, endpoint_id, event_id)
            WHERE $1 IS NULL OR d.account_id = $1
            GROUP BY d.account_id, d.endpoint_id, d.event_id, d.attempts
            HAVING count(a.number) <> d.attempts OR coalesce(max(a.number), 0) <> d.attempts",
    },
    Question {
        invariant: "delivery.settled",
        sql: "SELECT d.account_id AS account, d.event_id AS subject, 'taken, and no attempt says so' AS detail
            FROM delivery AS d LEFT JOIN attempt AS a
                ON (a.account_id, a.endpoint_id, a.event_id, a.number) = (d.account_id, d.endpoint_id, d.event_id, d.attempts)
            WHERE d.state = 2 AND coalesce(a.status_code, 0) NOT BETWEEN 200 AND 299 AND ($1 IS NULL OR d.account_id = $1)",
    },
    Question {
        invariant: "delivery.claim",
        sql: "SELECT account_id AS account, event_id AS subject,
                format('state %s after %s tries of %s attempts under claim %s', state, tries, attempts, lease_epoch) AS detail
            FROM delivery WHERE ($1 IS NULL OR account_id = $1)
                AND ((state <> 1 AND lease_until IS NOT NULL) OR tries > attempts OR attempts > lease_epoch
                    OR (tries = 0) <> (first_tried_at IS NULL) OR (state IN (2, 3) AND tries = 0))",
    },
    Question {
        invariant: "attempt.delivery",
        sql: "SELECT a.account_id AS account, a.event_id AS subject, format('attempt %s is of no delivery', a.number) AS detail
            FROM attempt AS a LEFT JOIN delivery AS d USING (account_id, endpoint_id, event_id)
            WHERE d.state IS NULL AND ($1 IS NULL OR a.account_id = $1)",
    },
    Question {
        invariant: "mail.once",
        sql: "SELECT account_id AS account, event_id AS subject, format('%s mails to one addressee', count(*)) AS detail
            FROM mail WHERE $1 IS NULL OR account_id = $1
            GROUP BY account_id, event_id, addressee_kind, addressee_id, kind HAVING count(*) > 1",
    },
    Question {
        invariant: "mail.claim",
        sql: "SELECT account_id AS account, event_id AS subject,
                format('state %s after %s attempts under claim %s', state, attempts, lease_epoch) AS detail
            FROM mail WHERE ($1 IS NULL OR account_id = $1)
                AND ((state NOT IN (1, 5) AND lease_until IS NOT NULL) OR attempts > lease_epoch
                    OR (state <> 1 AND lease_epoch = 0))",
    },
    Question {
        invariant: "endpoint.notice",
        sql: "SELECT e.account_id AS account, NULL::uuid AS subject, 'an endpoint was switched off, and nobody is told' AS detail
            FROM endpoint AS e LEFT JOIN endpoint_notice AS n
                ON (n.account_id, n.endpoint_id, n.disabled_at) = (e.account_id, e.id, e.disabled_at)
            WHERE e.disabled_at IS NOT NULL AND e.envelope_id IS NULL AND n.reason IS NULL
                AND ($1 IS NULL OR e.account_id = $1)",
    },
    Question {
        invariant: "feed.partitions",
        sql: "SELECT NULL::uuid AS account, NULL::uuid AS subject, format('%s partitions', count(*)) AS detail
            FROM feed_partition HAVING count(*) <> 16 AND $1 IS NULL",
    },
    Question {
        invariant: "feed.epoch",
        sql: "SELECT NULL::uuid AS account, NULL::uuid AS subject,
                format('partition %s is followed under epoch %s', partition, epoch) AS detail
            FROM feed_partition WHERE $1 IS NULL
                AND (epoch < 0 OR (epoch = 0 AND (owner IS NOT NULL OR resume_token <> '')))",
    },
    Question {
        invariant: "idempotency.once",
        sql: "SELECT account_id AS account, NULL::uuid AS subject, format('%s replies for one key', count(*)) AS detail
            FROM idempotency WHERE $1 IS NULL OR account_id = $1 GROUP BY account_id, id HAVING count(*) > 1",
    },
];

/// How much there is.
pub const COUNTS: [(&str, &Question); 3] = [
    ("deliveries", &Question { invariant: "deliveries", sql: COUNT_DELIVERIES }),
    ("attempts", &Question { invariant: "attempts", sql: COUNT_ATTEMPTS }),
    ("mails", &Question { invariant: "mails", sql: COUNT_MAILS }),
];

const COUNT_DELIVERIES: &str = "SELECT NULL::uuid AS account, NULL::uuid AS subject, count(*)::text AS detail
    FROM delivery WHERE $1 IS NULL OR account_id = $1";
const COUNT_ATTEMPTS: &str = "SELECT NULL::uuid AS account, NULL::uuid AS subject, count(*)::text AS detail
    FROM attempt WHERE $1 IS NULL OR account_id = $1";
const COUNT_MAILS: &str = "SELECT NULL::uuid AS account, NULL::uuid AS subject, count(*)::text AS detail
    FROM mail WHERE $1 IS NULL OR account_id = $1";
