//! The ledger: entries that never change, and what they leave to be spent. That an envelope is charged and refunded once,
//! never by more than was taken, and never out of nothing, are constraints of the tables.

use chrono::{DateTime, Utc};
use countersign_chassis::database::{DatabaseError, prepared};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{BigInt, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::schema::{ledger_balance, ledger_entry, ledger_head};
use super::settings::amount;
use super::{Keep, Store, corrupt, int8};
use crate::domain::credit::{Amount, Movement};
use crate::domain::id::{AccountId, EnvelopeId, LedgerId};

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the contract's LedgerEntry")]
pub struct Entry {
    pub id: LedgerId,
    pub sequence: i64,
    pub kind: Kind,
    pub amount: Amount,
    pub balance_after: i64,
    pub occurred_at: DateTime<Utc>,
    pub envelope: Option<EnvelopeId>,
    pub reference: String,
}

/// What an entry stands for. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The operator gave it.
    Grant = 1,
    /// An envelope cost it.
    Charge = 2,
    /// It came back.
    Refund = 3,
}

impl Kind {
    /// From which account of the ledger to which: 1 issued, 2 available, 3 spent.
    #[must_use]
    pub fn sides(self) -> (i16, i16) {
        match self {
            Self::Grant => (1, 2),
            Self::Charge => (2, 3),
            Self::Refund => (3, 2),
        }
    }
}

/// An entry to be made.
#[derive(Clone, Debug)]
pub(super) struct NewEntry<'a> {
    pub account: AccountId,
    pub id: LedgerId,
    pub kind: Kind,
    pub amount: Amount,
    pub at: DateTime<Utc>,
    pub envelope: Option<EnvelopeId>,
    pub reference: &'a str,
    pub charged: Option<u64>,
}

impl<'a> NewEntry<'a> {
    /// What an envelope moves.
    pub fn of(account: AccountId, envelope: EnvelopeId, id: LedgerId, movement: Movement, at: DateTime<Utc>) -> Self {
        let (kind, amount, charged) = match movement {
            Movement::Charge(amount) => (Kind::Charge, amount, None),
            Movement::Refund { amount, charged } => (Kind::Refund, amount, Some(charged)),
        };
        Self { account, id, kind, amount, at, envelope: Some(envelope), reference: "", charged }
    }
}

/// The balance is moved in the same statement. Without a balance in that unit `balance_after` is NULL, which is refused as
/// too little is.
const MOVE: &str = "
WITH head AS (
    UPDATE ledger_head SET entries = entries + 1 WHERE account_id = $1 RETURNING entries
), moved AS (
    UPDATE ledger_balance SET available = available + CASE $3 WHEN 2 THEN -$7 ELSE $7 END
    WHERE account_id = $1 AND unit = $6
    RETURNING available
)
INSERT INTO ledger_entry (sequence, account_id, id, kind, debit, credit, unit, amount, balance_after, occurred_at, envelope_id,
    reference, charged)
VALUES ((SELECT entries FROM head), $1, $2, $3, $4, $5, $6, $7, (SELECT available FROM moved), $8, $9, $10, $11)
RETURNING sequence, balance_after";

enum MoveEntry {}

#[derive(QueryableByName)]
struct BalanceRow {
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = BigInt)]
    balance_after: i64,
}

/// Makes an entry and moves the balance; says the entry's number and the balance. Last in a transaction: the ledger is locked
/// until it ends.
pub(super) async fn enter(mut conn: &AsyncPgConnection, new: &NewEntry<'_>) -> QueryResult<(i64, i64)> {
    let (debit, credit) = new.kind.sides();
    let query = diesel::sql_query(MOVE)
        .bind::<SqlUuid, _>(new.account.uuid())
        .bind::<SqlUuid, _>(new.id.uuid())
        .bind::<SmallInt, _>(new.kind as i16)
        .bind::<SmallInt, _>(debit)
        .bind::<SmallInt, _>(credit)
        .bind::<Text, _>(new.amount.unit.to_string())
        .bind::<BigInt, _>(int8(new.amount.value))
        .bind::<Timestamptz, _>(new.at)
        .bind::<Nullable<SqlUuid>, _>(new.envelope.map(|id| id.uuid()))
        .bind::<Text, _>(new.reference)
        .bind::<Nullable<BigInt>, _>(new.charged.map(int8));
    let row: BalanceRow = prepared::<MoveEntry, _>(query).get_result(&mut conn).await?;
    Ok((row.sequence, row.balance_after))
}

/// True if the account had not enough to spend.
#[must_use]
pub fn is_insufficient(error: &DatabaseError) -> bool {
    let DatabaseError::Refused(DieselError::DatabaseError(kind, info)) = error else { return false };
    match kind {
        DatabaseErrorKind::CheckViolation => info.constraint_name() == Some("enough_to_spend"),
        DatabaseErrorKind::NotNullViolation => info.column_name() == Some("balance_after"),
        _ => false,
    }
}

/// Begins an account's ledger.
pub(super) async fn open_ledger(mut conn: &AsyncPgConnection, account: AccountId) -> QueryResult<usize> {
    let row = (ledger_head::account_id.eq(account.uuid()), ledger_head::entries.eq(0));
    diesel::insert_into(ledger_head::table).values(row).execute(&mut conn).await
}

pub(super) async fn open_balance(mut conn: &AsyncPgConnection, account: AccountId, unit: String) -> QueryResult<usize> {
    let row =
        (ledger_balance::account_id.eq(account.uuid()), ledger_balance::unit.eq(unit), ledger_balance::available.eq(0));
    diesel::insert_into(ledger_balance::table).values(row).on_conflict_do_nothing().execute(&mut conn).await
}

impl Store {
    /// Gives an account something to spend.
    pub async fn grant(
        &self,
        account: AccountId,
        id: LedgerId,
        (given, reference): (Amount, String),
        at: DateTime<Utc>,
        keep: Option<Keep<Entry>>,
    ) -> Result<Entry, DatabaseError> {
        self.write(account, keep, move |conn| {
            async move {
                open_balance(conn, account, given.unit.to_string()).await?;
                let kind = Kind::Grant;
                let reference_text = reference.as_str();
                let new = NewEntry {
                    account,
                    id,
                    kind,
                    amount: given,
                    at,
                    envelope: None,
                    reference: reference_text,
                    charged: None,
                };
                let (sequence, balance_after) = enter(conn, &new).await?;
                Ok(Entry {
                    id,
                    sequence,
                    kind,
                    amount: given,
                    balance_after,
                    occurred_at: at,
                    envelope: None,
                    reference,
                })
            }
            .boxed()
        })
        .await
    }

    /// What there is to be spent, by unit.
    pub async fn balances(&self, account: AccountId) -> Result<Vec<(String, i64)>, DatabaseError> {
        self.read_one(account, move |mut conn| {
            ledger_balance::table
                .filter(ledger_balance::account_id.eq(account.uuid()))
                .order(ledger_balance::unit)
                .select((ledger_balance::unit, ledger_balance::available))
                .load(&mut conn)
                .boxed()
        })
        .await
    }

    /// A page of the ledger, newest first.
    pub async fn ledger(
        &self,
        account: AccountId,
        envelope: Option<EnvelopeId>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Entry>, DatabaseError> {
        type Row = (Uuid, i64, i16, String, i64, i64, DateTime<Utc>, Option<Uuid>, String);
        let rows: Vec<Row> = self
            .read_one(account, move |mut conn| {
                let page = ledger_entry::table
                    .filter(ledger_entry::account_id.eq(account.uuid()))
                    .filter(ledger_entry::sequence.lt(before.unwrap_or(i64::MAX)))
                    .order(ledger_entry::sequence.desc())
                    .limit(limit)
                    .select((
                        ledger_entry::id,
                        ledger_entry::sequence,
                        ledger_entry::kind,
                        ledger_entry::unit,
                        ledger_entry::amount,
                        ledger_entry::balance_after,
                        ledger_entry::occurred_at,
                        ledger_entry::envelope_id,
                        ledger_entry::reference,
                    ));
                async move {
                    match envelope {
                        None => page.load(&mut conn).await,
                        Some(id) => page.filter(ledger_entry::envelope_id.eq(id.uuid())).load(&mut conn).await,
                    }
                }
                .boxed()
            })
            .await?;
        let kinds = [Kind::Grant, Kind::Charge, Kind::Refund];
        let entry = |(id, sequence, kind, unit, value, balance_after, occurred_at, envelope, reference): Row| {
            Ok(Entry {
                id: LedgerId::from_uuid(id),
                sequence,
                kind: kinds.into_iter().find(|it| *it as i16 == kind).ok_or_else(|| corrupt("kind of entry"))?,
                amount: amount(&unit, value.unsigned_abs())?,
                balance_after,
                occurred_at,
                envelope: envelope.map(EnvelopeId::from_uuid),
                reference,
            })
        };
        Ok(rows.into_iter().map(entry).collect::<QueryResult<_>>()?)
    }
}
