//! Scripts for pgbench: the service's own statements, with the values of a real envelope as literals.
//!
//! Literals flatter pgbench a little (it binds three values where the service binds 70), so the limit is a hard one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use countersign_envelope::store::{CREATE, PARTS};

/// How many envelopes are read.
pub const HOT: u64 = 1_000;
/// pgbench counts, Postgres wants UUIDs: twelve digits behind this are one, and the index grows at one end as it does
/// under the service's UUIDv7.
const PREFIX: &str = "00000000000070008000";
/// The first number behind the prefix.
const FIRST: u64 = 100_000_000_000;

/// A column of a parameter, and its type.
type Column = (&'static str, &'static str);

/// The parameters of CREATE, in order: those of the envelope are single values, the others arrays.
pub const PARAMETERS: [(&str, &[Column]); 5] = [
    (
        "envelope",
        &[
            ("account_id", "uuid"),
            ("id", "uuid"),
            ("livemode", "boolean"),
            ("revision", "bigint"),
            ("sequence", "bigint"),
            ("chain", "bytea"),
            ("last_event_at", "timestamptz"),
            ("subject", "text"),
            ("external_reference", "text"),
            ("metadata", "jsonb"),
            ("terms", "jsonb"),
            ("scheduled_send_at", "timestamptz"),
            ("created_at", "timestamptz"),
            ("dispatched_at", "timestamptz"),
            ("sent_at", "timestamptz"),
            ("expires_at", "timestamptz"),
            ("warning_at", "timestamptz"),
            ("replaces", "uuid"),
        ],
    ),
    (
        "recipient",
        &[
            ("id", "uuid"),
            ("position", "smallint"),
            ("name", "text"),
            ("email", "text"),
            ("role", "smallint"),
            ("assists", "uuid"),
            ("copy_on_send", "boolean"),
            ("label", "text"),
            ("group_number", "smallint"),
            ("decline_policy", "jsonb"),
            ("status", "smallint"),
            ("released_at", "timestamptz"),
            ("invited_at", "timestamptz"),
            ("token_generation", "integer"),
            ("token_salt", "bytea"),
            ("token_hash", "bytea"),
        ],
    ),
    (
        "document",
        &[
            ("id", "uuid"),
            ("position", "smallint"),
            ("name", "text"),
            ("sha256", "bytea"),
            ("size_bytes", "bigint"),
            ("page_count", "integer"),
            ("ingest", "smallint"),
        ],
    ),
    (
        "field",
        &[
            ("id", "uuid"),
            ("position", "smallint"),
            ("kind", "smallint"),
            ("recipient_id", "uuid"),
            ("document_id", "uuid"),
            ("page", "integer"),
            ("x_percent", "double precision"),
            ("y_percent", "double precision"),
            ("width_percent", "double precision"),
            ("height_percent", "double precision"),
            ("required", "boolean"),
            ("read_only", "boolean"),
            ("name", "text"),
            ("rules", "jsonb"),
            ("text_value", "text"),
            ("checked_value", "boolean"),
        ],
    ),
    (
        "event",
        &[
            ("sequence", "bigint"),
            ("id", "uuid"),
            ("kind", "smallint"),
            ("recipient_id", "uuid"),
            ("occurred_at", "timestamptz"),
            ("record", "bytea"),
            ("prev_hash", "bytea"),
            ("hash", "bytea"),
        ],
    ),
];

/// What GetEnvelope selects, table by table, and the order of the rows.
const SELECTS: [(&str, &str, &str); 5] = [
    (
        "envelope",
        "account_id, id, livemode, revision, sequence, chain, last_event_at, subject, external_reference, metadata, \
         terms, scheduled_send_at, created_at, dispatched_at, sent_at, first_signed_at, all_acted_at, completed_at, \
         declined_at, voided_at, expired_at, discarded_at, expires_at, warned_at, cause, ended_by, void_reason, \
         requires_replacement, replaces, replaced_by, charge",
        "",
    ),
    (
        "recipient",
        "id, name, email, role, assists, copy_on_send, label, group_number, decline_policy, status, released_at, \
         acted_at, effective, declined_at, decline_channel, decline_reason, decline_note, ended_at, viewed_at, \
         invited_at, locality, notices, delegations, filled_revision, token_generation, token_salt, token_hash",
        " ORDER BY position",
    ),
    ("document", "id, name, sha256, size_bytes, page_count, ingest", " ORDER BY position"),
    ("artifact", "document_id, version, sha256, size_bytes, created_at", " ORDER BY created_at, version"),
    (
        "field",
        "id, kind, recipient_id, document_id, page, x_percent, y_percent, width_percent, height_percent, required, \
         read_only, name, rules, text_value, checked_value",
        " ORDER BY position",
    ),
];

/// Where a table keeps the envelope's id.
pub fn key_of(table: &str) -> &'static str {
    if table == "envelope" { "id" } else { "envelope_id" }
}

/// The values of an envelope as Postgres prints them, in the order of [`PARAMETERS`].
pub struct Row {
    /// Whose it is.
    pub account: String,
    /// The values.
    pub values: Vec<Option<String>>,
}

/// The id with that number as SQL.
pub fn numbered(number: &str) -> String {
    format!("lpad({number}, 32, '{PREFIX}')::uuid")
}

/// The numbers of the envelopes that are read.
pub fn hot() -> std::ops::Range<u64> {
    FIRST..FIRST + HOT
}

/// The id with that number.
pub fn hot_id(number: u64) -> Result<uuid::Uuid> {
    Ok(uuid::Uuid::parse_str(&format!("{PREFIX}{number}"))?)
}

/// CREATE with the values of that envelope and a new id each time.
pub fn create(row: &Row) -> Result<String> {
    let types = PARAMETERS.iter().flat_map(|(table, columns)| {
        let array = if *table == "envelope" { "" } else { "[]" };
        columns.iter().map(move |(name, kind)| (*table, *name, format!("{kind}{array}")))
    });
    let mut values = BTreeMap::new();
    for (number, ((table, name, kind), value)) in (1_usize..).zip(types.zip(&row.values)) {
        let sql = match value {
            _ if (table, name) == ("envelope", "id") => numbered(":id"),
            Some(value) => literal(value, &kind)?,
            None => format!("NULL::{kind}"),
        };
        values.insert(number, sql);
    }
    let next = values.len() + 1;
    values.insert(next, "NULL::text".to_owned());
    // Nothing is personal about these events.
    for (number, kind) in (next + 1..).zip(["bigint", "bytea", "bytea"]) {
        values.insert(number, format!("'{{}}'::{kind}[]"));
    }
    values.insert(next + 4, ":part::smallint".to_owned());
    // A draft has cost nothing.
    values.insert(next + 5, "NULL::jsonb".to_owned());
    // Nobody is reminded, and nobody says where they are.
    values.insert(next + 6, "NULL::timestamptz".to_owned());
    values.insert(next + 7, "ARRAY[NULL]::jsonb[]".to_owned());
    // A client's numbers grow, and those of all clients grow together; no run repeats another's.
    Ok(format!(
        "\\set n :n + 1\n\\set id {FIRST} + :run * 10000000000 + :n * 1000 + :client_id\n\
         \\set part random(0, {})\n\\startpipeline\nBEGIN;\n{};\n{};\nCOMMIT;\n\\endpipeline\n",
        PARTS - 1,
        wall(&row.account),
        substitute(CREATE, &values)?.trim()
    ))
}

/// Without it row-level security hides everything, from pgbench as from the service.
fn wall(account: &str) -> String {
    format!("SET LOCAL countersign.account = '{account}'")
}

/// The statements of GetEnvelope: all in one flight, or each after the answer to the one before.
pub fn get(row: &Row, pipelined: bool) -> String {
    let numbers = hot();
    let (begin, end) = if pipelined { ("\\startpipeline\n", "\\endpipeline\n") } else { ("", "") };
    let mut script = format!("\\set n random({}, {})\n{begin}", numbers.start, numbers.end - 1);
    let _ = writeln!(script, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n{};", wall(&row.account));
    for (table, columns, order) in SELECTS {
        let (account, key, id) = (&row.account, key_of(table), numbered(":n"));
        let _ = writeln!(
            script,
            "SELECT {columns} FROM {table} WHERE account_id = '{account}'::uuid AND {key} = {id}{order};"
        );
    }
    script.push_str("COMMIT;\n");
    script.push_str(end);
    script
}

/// pgbench takes every colon before a letter or a digit for a variable, even inside quotes. Times can do without.
fn literal(value: &str, kind: &str) -> Result<String> {
    let value = if kind.starts_with("timestamptz") { value.replace(':', "") } else { value.to_owned() };
    let variable = |(colon, after): (char, char)| colon == ':' && after.is_ascii_alphanumeric();
    ensure!(!value.chars().zip(value.chars().skip(1)).any(variable), "pgbench cannot take this value: {value}");
    Ok(format!("'{}'::{kind}", value.replace('\'', "''")))
}

/// A statement with values in the place of its parameters.
fn substitute(statement: &str, values: &BTreeMap<usize, String>) -> Result<String> {
    let mut parts = statement.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut used = 0;
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        let number: usize = number.parse()?;
        text.push_str(values.get(&number).context("CREATE has other parameters than scripts.rs knows")?);
        text.push_str(rest);
        used = used.max(number);
    }
    ensure!(used == values.len(), "CREATE has other parameters than scripts.rs knows");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_has_a_value_for_every_parameter_of_the_statement() {
        let count = PARAMETERS.iter().map(|(_, columns)| columns.len()).sum();
        let row = Row { account: String::new(), values: vec![None; count] };
        let script = create(&row).unwrap();
        assert!(!script.contains('$'), "{script}");
        assert!(create(&Row { values: vec![None; count - 1], ..row }).is_err());
    }

    #[test]
    fn ids_are_twelve_digits_behind_the_prefix() {
        assert_eq!(hot_id(FIRST).unwrap().to_string(), "00000000-0000-7000-8000-100000000000");
    }
}
