//! Scripts for pgbench: what the service said for one call, said again and again of other envelopes.
//!
//! It must never know a statement of the service: it repeats what was heard, so that no change there can make it wrong.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use uuid::Uuid;

use crate::limit::CLIENTS;
use crate::literal::{Named, literal};
use crate::tap::{Flight, Spoken};

/// How many envelopes are read.
pub const HOT: u64 = 1_000;
/// pgbench counts, Postgres wants UUIDs: twelve digits behind this are one, and the index grows at one end as it does
/// under the service's UUIDv7.
const PREFIX: &str = "00000000000070008000";
/// The first number behind the prefix.
pub const FIRST: u64 = 100_000_000_000;

/// Which envelopes a script is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Another one each time, from `:first` on.
    Each,
    /// One of [`HOT`] by chance, from `:first` on.
    Any,
}

/// The id with that number as SQL.
pub fn numbered(number: &str) -> String {
    format!("lpad({number}, 32, '{PREFIX}')::uuid")
}

/// The id with that number.
pub fn id(number: u64) -> Result<Uuid> {
    Ok(Uuid::parse_str(&format!("{PREFIX}{number}"))?)
}

/// What was said of the envelope `id`, as a script.
pub fn script(flights: &[Flight], of: Uuid, about: About) -> Result<String> {
    let mut text = match about {
        // A client's numbers grow, and those of all clients grow together.
        About::Each => format!("\\set n :n + 1\n\\set number :first + (:n - 1) * {} + :client_id\n", CLIENTS.0),
        About::Any => format!("\\set number random(:first, :first + {})\n", HOT - 1),
    };
    let sql = numbered(":number");
    let named = Named { id: of, sql: &sql };
    for flight in flights {
        text.push_str("\\startpipeline\n");
        for spoken in flight {
            let _ = writeln!(text, "{};", said(spoken, &named).with_context(|| spoken.sql.clone())?);
        }
        text.push_str("\\endpipeline\n");
    }
    Ok(text)
}

/// A statement with its values in the place of its parameters.
fn said(spoken: &Spoken, named: &Named<'_>) -> Result<String> {
    ensure!(spoken.types.len() == spoken.values.len(), "a value for each parameter");
    let values = spoken.types.iter().zip(&spoken.values);
    let values: Vec<String> =
        values.map(|(oid, value)| literal(*oid, value.as_deref(), named)).collect::<Result<_>>()?;
    let mut parts = spoken.sql.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        let number: usize = number.parse().context("a dollar that is no parameter")?;
        text.push_str(values.get(number.wrapping_sub(1)).context("a parameter without a value")?);
        text.push_str(rest);
    }
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio_postgres::types::Type;

    use super::*;

    #[test]
    fn statements_are_said_again_of_other_envelopes() {
        let of = id(FIRST).unwrap();
        assert_eq!(of.to_string(), "00000000-0000-7000-8000-100000000000");
        let spoken = |sql: &str, types: Vec<u32>, values| Spoken { sql: sql.to_owned(), types, values };
        let begin = spoken("BEGIN", Vec::new(), Vec::new());
        let select = spoken(
            "SELECT $2, $1",
            vec![Type::UUID.oid(), Type::INT2.oid()],
            vec![Some(of.as_bytes().to_vec()), Some(vec![0, 7])],
        );
        let told = script(&[vec![begin], vec![select.clone()]], of, About::Each).unwrap();
        assert_eq!(told.matches("\\startpipeline").count(), 2);
        assert!(told.contains(&format!("SELECT 7::int2, {};\n", numbered(":number"))), "{told}");
        assert!(script(&[vec![Spoken { values: Vec::new(), ..select }]], of, About::Any).is_err());
    }
}
