//! What must hold of the whole ledger, read with raw SQL by rules of this file's own.

use countersign_test_support::Database;
use serde_json::Value;
use tokio_postgres::Row;

/// Each counts what must not be.
const NEVER: [(&str, &str); 7] = [
    (
        "what is available is not what was granted, less what was charged, and what came back",
        "SELECT count(*) FROM ledger_balance b WHERE available <> (SELECT coalesce(sum(CASE kind WHEN 1 THEN amount \
         WHEN 2 THEN -amount WHEN 3 THEN amount END), 0) FROM ledger_entry e \
         WHERE (e.account_id, e.unit) = (b.account_id, b.unit))",
    ),
    (
        "the three accounts of a ledger do not balance",
        "SELECT count(*) FROM (SELECT FROM ledger_entry e CROSS JOIN LATERAL (VALUES (debit, -amount), (credit, amount)) \
         AS side (account, value) GROUP BY account_id, unit HAVING sum(value) <> 0 \
         OR sum(value) FILTER (WHERE account = 1) > 0 OR sum(value) FILTER (WHERE account = 3) < 0) broken",
    ),
    (
        "what is available by the sides of the entries is another balance",
        "SELECT count(*) FROM ledger_balance b WHERE available <> (SELECT coalesce(sum(CASE 2 WHEN credit THEN amount \
         WHEN debit THEN -amount ELSE 0 END), 0) FROM ledger_entry e \
         WHERE (e.account_id, e.unit) = (b.account_id, b.unit))",
    ),
    (
        "something is below zero",
        "SELECT (SELECT count(*) FROM ledger_balance WHERE available < 0) \
         + (SELECT count(*) FROM ledger_entry WHERE balance_after < 0 OR amount <= 0)",
    ),
    (
        // Each entry leads from one balance to the next: laid end to end they reach from nothing to what is there now.
        "the balances between the entries do not join",
        "WITH ends AS (SELECT account_id, unit, balance_after AS value, 1 AS n FROM ledger_entry UNION ALL \
         SELECT account_id, unit, balance_after - CASE kind WHEN 2 THEN -amount ELSE amount END, -1 FROM ledger_entry \
         UNION ALL SELECT account_id, unit, available, -1 FROM ledger_balance \
         UNION ALL SELECT account_id, unit, 0, 1 FROM ledger_balance) \
         SELECT count(*) FROM (SELECT FROM ends GROUP BY account_id, unit, value HAVING sum(n) <> 0) broken",
    ),
    (
        "an envelope was charged or refunded twice",
        "SELECT count(*) FROM (SELECT FROM ledger_entry WHERE envelope_id IS NOT NULL \
         GROUP BY account_id, envelope_id, kind HAVING count(*) > 1) broken",
    ),
    (
        "an entry of no envelope, of somebody else's, or of a test envelope",
        "SELECT count(*) FROM ledger_entry l WHERE kind <> 1 AND NOT EXISTS (SELECT FROM envelope e \
         WHERE (e.account_id, e.id) = (l.account_id, l.envelope_id) AND e.livemode)",
    ),
];

/// Envelopes with what the ledger has of them. Statuses: 5 completed, 6 declined, 7 voided, 8 expired. Role 1 is a signer,
/// cause 5 a document that cannot be read.
const ENVELOPES: &str = "SELECT e.id::text, e.livemode, e.status, e.dispatched_at IS NOT NULL, e.discarded_at IS NOT NULL, \
    e.cause, e.charge::text, (SELECT count(*) FROM recipient r WHERE (r.account_id, r.envelope_id) = (e.account_id, e.id) \
    AND r.role = 1 AND r.acted_at IS NOT NULL), \
    (SELECT sum(amount)::bigint FROM ledger_entry l WHERE (l.account_id, l.envelope_id, l.kind) = (e.account_id, e.id, 2)), \
    (SELECT sum(amount)::bigint FROM ledger_entry l WHERE (l.account_id, l.envelope_id, l.kind) = (e.account_id, e.id, 3)), \
    (SELECT count(DISTINCT unit) FROM ledger_entry l WHERE (l.account_id, l.envelope_id) = (e.account_id, e.id)), \
    (SELECT bool_and(unit = e.charge->>'unit') FROM ledger_entry l \
    WHERE (l.account_id, l.envelope_id) = (e.account_id, e.id)) FROM envelope e";

/// Panics unless everything holds. To be called when nothing is under way.
pub async fn audit(database: &Database) {
    for (what, query) in NEVER {
        assert_eq!(database.number(query).await, 0, "{what}");
    }
    for row in database.connect().await.query(ENVELOPES, &[]).await.unwrap() {
        envelope(&row);
    }
}

fn envelope(row: &Row) {
    let id: String = row.get(0);
    let (livemode, status, dispatched, discarded): (bool, i16, bool, bool) =
        (row.get(1), row.get(2), row.get(3), row.get(4));
    let (charged, refunded): (Option<i64>, Option<i64>) = (row.get(8), row.get(9));
    let Some(charge) = row.get::<_, Option<&str>>(6) else {
        assert_eq!((charged, refunded), (None, None), "{id}: entries without a charge");
        assert!(!livemode || !dispatched, "{id}: dispatched for nothing");
        return;
    };
    let charge: Value = serde_json::from_str(charge).unwrap();
    assert!(livemode, "{id}: a test envelope was charged");
    let value = charge["value"].as_i64().unwrap();
    assert_eq!(charged.unwrap_or(0), value, "{id}: charged something else than it says");
    assert!(row.get::<_, i64>(10) <= 1 && row.get::<_, Option<bool>>(11) != Some(false), "{id}: units are mixed");
    let ended = status >= 5 || discarded;
    assert_eq!(charge["refunded"].is_null(), !ended, "{id}: it is known what comes back when it has ended");
    let told = charge["refunded"].as_i64().unwrap_or(0);
    assert_eq!(refunded.unwrap_or(0), told, "{id}: refunded something else than it says");
    assert!(told <= value, "{id}: more came back than was taken");
    if ended {
        let owed = owed(&charge["refund"], value, (status, row.get(5)), row.get(7));
        assert_eq!(told, owed, "{id}: status {status} after {} signatures: {charge}", row.get::<_, i64>(7));
    } else {
        assert_eq!(refunded, None, "{id}: refunded while it is open");
    }
}

/// What comes back by the policy in the charge.
fn owed(policy: &Value, value: i64, (status, cause): (i16, Option<i16>), signed: i64) -> i64 {
    let end = match (status, cause) {
        (_, Some(5)) => return value,
        (5, _) => return 0,
        (6, _) => "Declined",
        (8, _) => "Expired",
        // Voided, or a draft that was thrown away.
        _ => "Voided",
    };
    for rule in policy["rules"].as_array().unwrap() {
        if rule["cause"] == end && rule["signed_max"].as_i64().is_none_or(|most| signed <= most) {
            let share = i128::from(rule["share_basis_points"].as_i64().unwrap());
            let part = i64::try_from(i128::from(value) * share / 10_000).unwrap();
            return part.min(policy["cap"].as_i64().unwrap_or(i64::MAX));
        }
    }
    0
}
