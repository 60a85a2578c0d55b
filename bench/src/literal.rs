//! Values of the wire as SQL that pgbench can take.
//!
//! It must never guess: a type that it does not know is an error.

use anyhow::{Context as _, Result, bail};
use chrono::DateTime;
use tokio_postgres::types::{Kind, Type};
use uuid::Uuid;

/// Where Postgres begins to count: the year 2000.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// An envelope's id, and the SQL that stands for it.
pub struct Named<'a> {
    /// The id that was said.
    pub id: Uuid,
    /// What is written instead.
    pub sql: &'a str,
}

/// A value of that type, with the envelope's id under another name.
pub fn literal(oid: u32, value: Option<&[u8]>, named: &Named<'_>) -> Result<String> {
    let kind = Type::from_oid(oid).with_context(|| format!("a parameter has the type {oid}"))?;
    let (name, value) = (kind.name().to_owned(), value);
    match (kind.kind(), value) {
        (Kind::Array(of), None) => Ok(format!("NULL::{}[]", of.name())),
        (Kind::Array(of), Some(bytes)) => {
            let items = items(bytes).with_context(|| format!("an array of {name}"))?;
            if items.is_empty() {
                return Ok(format!("'{{}}'::{}[]", of.name()));
            }
            let items: Result<Vec<_>> = items
                .into_iter()
                .map(|item| item.map_or(Ok("NULL".to_owned()), |item| scalar(of, item, named)))
                .collect();
            Ok(format!("ARRAY[{}]::{}[]", items?.join(","), of.name()))
        }
        (_, None) => Ok(format!("NULL::{name}")),
        (_, Some(bytes)) => scalar(&kind, bytes, named),
    }
}

/// The elements of an array of one dimension.
fn items(bytes: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (head, mut rest) = bytes.split_at_checked(12)?;
    if head.get(..4)? == [0; 4] {
        return Some(Vec::new());
    }
    let (size, after) = rest.split_at_checked(8)?;
    let count = u32::from_be_bytes(size.get(..4)?.try_into().ok()?);
    rest = after;
    let mut items = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (item, after) = after.split_at_checked(length.unwrap_or(0))?;
        items.push(length.map(|_| item));
        rest = after;
    }
    Some(items)
}

fn scalar(kind: &Type, bytes: &[u8], named: &Named<'_>) -> Result<String> {
    let short = || format!("a value of {kind} has {} bytes", bytes.len());
    Ok(match *kind {
        Type::BOOL => (bytes == [1]).to_string(),
        Type::INT2 => format!("{}::int2", i16::from_be_bytes(bytes.try_into().with_context(short)?)),
        Type::INT4 => format!("{}::int4", i32::from_be_bytes(bytes.try_into().with_context(short)?)),
        Type::INT8 => format!("{}::int8", i64::from_be_bytes(bytes.try_into().with_context(short)?)),
        Type::FLOAT8 => format!("{}::float8", f64::from_be_bytes(bytes.try_into().with_context(short)?)),
        Type::UUID => {
            let id = Uuid::from_slice(bytes).with_context(short)?;
            if id == named.id { named.sql.to_owned() } else { format!("'{id}'::uuid") }
        }
        Type::BYTEA => format!("'\\x{}'::bytea", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Type::TEXT | Type::VARCHAR => format!("{}::text", quoted(std::str::from_utf8(bytes)?)),
        Type::JSONB => {
            let value: serde_json::Value = serde_json::from_slice(bytes.get(1..).with_context(short)?)?;
            format!("{}::jsonb", quoted(&value.to_string()))
        }
        Type::TIMESTAMPTZ => {
            let micros = i64::from_be_bytes(bytes.try_into().with_context(short)?);
            let at = DateTime::from_timestamp_micros(EPOCH_MICROS.saturating_add(micros)).context("a time")?;
            // Times can do without colons.
            format!("'{}'::timestamptz", at.format("%Y-%m-%d %H%M%S%.6f+00"))
        }
        _ => bail!("a parameter has the type {kind}"),
    })
}

/// pgbench takes every colon before a letter or a digit for a variable, even inside quotes.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''").replace(':', "\\x3a");
    format!("E'{escaped}'")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_written_for_pgbench() {
        let named = Named { id: Uuid::nil(), sql: ":id" };
        let of = |kind: Type, bytes: &[u8]| literal(kind.oid(), Some(bytes), &named).unwrap();
        assert_eq!(of(Type::UUID, &[0; 16]), ":id");
        assert_eq!(of(Type::UUID, &[1; 16]), "'01010101-0101-0101-0101-010101010101'::uuid");
        assert_eq!(of(Type::TEXT, b"it's 12:30"), r"E'it''s 12\x3a30'::text");
        assert_eq!(of(Type::JSONB, b"\x01{\"a\":1}"), r#"E'{"a"\x3a1}'::jsonb"#);
        assert_eq!(of(Type::TIMESTAMPTZ, &0_i64.to_be_bytes()), "'2000-01-01 000000.000000+00'::timestamptz");
        assert_eq!(of(Type::BYTEA, &[7, 255]), r"'\x07ff'::bytea");
        assert_eq!(literal(Type::INT8.oid(), None, &named).unwrap(), "NULL::int8");
        let array =
            [&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 21, 0, 0, 0, 2, 0, 0, 0, 1][..], &[0, 0, 0, 2, 0, 7], &[255; 4]];
        assert_eq!(of(Type::INT2_ARRAY, &array.concat()), "ARRAY[7::int2,NULL]::int2[]");
        assert_eq!(of(Type::INT2_ARRAY, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 21]), "'{}'::int2[]");
        assert!(literal(Type::POINT.oid(), Some(&[]), &named).is_err());
    }
}
