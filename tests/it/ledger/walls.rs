//! What the database itself refuses, whoever asks: here a superuser with raw SQL.

use chrono::TimeDelta;
use countersign::v1::ChargeAt;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::audit::audit;
use super::till::{Till, billing, euro, preset, service};

/// How a statement is refused: by which rule of the tables, or with which code where that has no name.
async fn refused(sql: &Client, statement: &str) -> String {
    let error = match sql.batch_execute(statement).await {
        Ok(()) => panic!("accepted: {statement}"),
        Err(error) => error.as_db_error().expect("the database's own word").clone(),
    };
    let integrity = [
        SqlState::CHECK_VIOLATION,
        SqlState::UNIQUE_VIOLATION,
        SqlState::FOREIGN_KEY_VIOLATION,
        SqlState::NOT_NULL_VIOLATION,
    ];
    assert!(integrity.contains(error.code()), "{statement}: {error}");
    error.constraint().or(error.column()).unwrap_or(error.message()).to_owned()
}

/// An entry by hand: what it is, of which envelope, how much, of how large a charge.
fn entry(kind: i16, envelope: &str, amount: i64, charged: Option<i64>) -> String {
    let (debit, credit) = [(1, 2), (2, 3), (3, 2)][usize::from(kind.unsigned_abs()) - 1];
    let charged = charged.map_or("NULL".to_owned(), |charged| charged.to_string());
    format!(
        "INSERT INTO ledger_entry (sequence, account_id, id, kind, debit, credit, unit, amount, balance_after, occurred_at, \
         envelope_id, reference, charged) SELECT 1000, account_id, gen_random_uuid(), {kind}, {debit}, {credit}, 'EUR', \
         {amount}, 0, now(), {envelope}, '', {charged} FROM ledger_balance WHERE unit = 'EUR'"
    )
}

/// D5, T-48: the ledger is written once. Not even a superuser's statement changes it.
#[tokio::test(flavor = "multi_thread")]
async fn d5_the_ledger_cannot_be_changed() {
    let service = service().await;
    let till = Till::open(&service).await;
    till.sent(1).await;
    let sql = service.database.connect().await;
    for statement in [
        "UPDATE ledger_entry SET amount = amount + 1",
        "UPDATE ledger_entry SET reference = 'other'",
        "DELETE FROM ledger_entry",
        "TRUNCATE ledger_entry",
        "TRUNCATE ledger_balance CASCADE",
        "TRUNCATE account CASCADE",
    ] {
        let why = refused(&sql, statement).await;
        assert!(why.contains("append-only"), "{statement}: {why}");
    }
    assert_eq!(service.database.number("SELECT count(*) FROM ledger_entry").await, 2);
    audit(&service.database).await;
}

/// D5, T-48, T-52: a second charge or refund, a refund of nothing, of more than was taken or in another unit, and a balance
/// below zero, are refused by the tables.
#[tokio::test(flavor = "multi_thread")]
async fn t48_the_tables_refuse_what_no_envelope_may_cost() {
    let service = service().await;
    let till = Till::open(&service).await;
    till.grant(euro(20)).await;
    till.bill(billing(ChargeAt::Dispatch, euro(10), preset("terminal_capped", Some(4)))).await;
    let (open, ended) = (till.sent(1).await, till.sent(1).await);
    till.live.void(&ended.id, "").await.unwrap();
    assert_eq!(till.balance("EUR").await, 4);
    let sql = service.database.connect().await;
    let id = async |status: i16| {
        let query = "SELECT quote_literal(id::text) || '::uuid' FROM envelope WHERE status = $1";
        sql.query_one(query, &[&status]).await.unwrap().get::<_, String>(0)
    };
    let (open_id, ended_id, nobodys) = (id(3).await, id(7).await, "gen_random_uuid()");
    let charge_of = "ledger_entry_account_id_envelope_id_charge_kind_unit_charg_fkey";
    for (statement, why) in [
        (entry(3, &ended_id, 4, Some(10)), "once_for_each_envelope"),
        (entry(3, &ended_id, 1, Some(10)), "once_for_each_envelope"),
        (entry(2, &open_id, 10, None), "once_for_each_envelope"),
        (entry(2, &open_id, 1, None), "once_for_each_envelope"),
        (entry(3, nobodys, 10, Some(10)), charge_of),
        // Of a charge that was not like that.
        (entry(3, &open_id, 11, Some(11)), charge_of),
        (entry(3, &open_id, 11, Some(10)), "what_each_kind_is"),
        (entry(3, &open_id, 5, None), "what_each_kind_is"),
        (entry(3, &open_id, 5, Some(10)).replace("'EUR', 5", "'CREDIT', 5"), charge_of),
        (entry(1, &open_id, 5, None), "what_each_kind_is"),
        (entry(2, "NULL", 5, None), "what_each_kind_is"),
        (entry(1, "NULL", 5, None).replace("1, 2, 'EUR'", "3, 2, 'EUR'"), "what_each_kind_is"),
        (entry(1, "NULL", 0, None), "ledger_entry_amount_check"),
        (entry(1, "NULL", 5, None).replace("5, 0, now()", "5, -1, now()"), "ledger_entry_balance_after_check"),
        (entry(1, "NULL", 5, None).replace("'EUR', 5", "'USD', 5"), "ledger_entry_account_id_unit_fkey"),
        ("UPDATE ledger_balance SET available = -1".to_owned(), "enough_to_spend"),
        ("UPDATE ledger_balance SET available = available - 5 WHERE unit = 'EUR'".to_owned(), "enough_to_spend"),
    ] {
        // Of a partition a key has the number of that behind its name.
        let rule = refused(&sql, &statement).await;
        assert!(rule.starts_with(why), "{statement}: {rule}");
    }
    // What an ended envelope has cost is what it has cost.
    let change = "UPDATE envelope SET charge = jsonb_set(charge, '{refunded}', '0') WHERE status = 7";
    assert!(refused(&sql, change).await.contains("terminal"));
    audit(&service.database).await;
    service.clock.advance(TimeDelta::hours(1));
    till.until(&open.id, countersign::v1::EnvelopeStatus::Expired).await;
    assert_eq!(till.balance("EUR").await, 8);
    audit(&service.database).await;
}
