//! Searching bytes for pieces of secrets, and a database for bytes.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_test_support::Database;

/// Length of a piece of text.
const TEXT: usize = 16;
/// Length of a piece of bytes: as much as a piece of text in hexadecimal digits.
const RAW: usize = 8;
/// Length of the ids before the random part, by the prefix of a secret.
const IDS: [(&str, usize); 4] = [("cs_live_", 16), ("cs_test_", 16), ("csu_", 32), ("cst_", 48)];
/// Length of the random part.
const RANDOM: usize = 32;

/// All pieces of secrets, and whose they are.
#[derive(Default)]
pub struct Pieces {
    text: HashMap<[u8; TEXT], String>,
    raw: HashMap<[u8; RAW], String>,
}

fn lower(bytes: &[u8]) -> Vec<u8> {
    bytes.to_ascii_lowercase()
}

impl Pieces {
    /// Takes in a secret as it was shown: its random part as it is written there, as bytes, in hexadecimal digits and in base64.
    pub fn add(&mut self, name: &str, secret: &str) {
        let base58 = IDS.iter().find_map(|(prefix, ids)| Some((secret.strip_prefix(prefix)?, *ids)));
        if let Some((text, ids)) = base58 {
            let payload = bs58::decode(text).with_check(None).into_vec().expect(name);
            self.add_bytes(name, &payload[ids..ids + RANDOM]);
            // The ids, which are no secret, decide the first characters: 138 of them for 101 bytes.
            self.add_text(name, &text[ids * 138 / 101 + 1..]);
        } else if let Some(text) = secret.strip_prefix("whsec_") {
            self.add_bytes(name, &STANDARD.decode(text).expect(name));
        } else {
            self.add_text(name, secret);
        }
    }

    fn add_text(&mut self, name: &str, text: &str) {
        for piece in text.as_bytes().windows(TEXT) {
            self.text.insert(piece.try_into().unwrap(), name.to_owned());
        }
    }

    pub fn add_bytes(&mut self, name: &str, bytes: &[u8]) {
        for piece in bytes.windows(RAW) {
            self.raw.insert(piece.try_into().unwrap(), name.to_owned());
        }
        for text in
            [hex::encode(bytes), hex::encode_upper(bytes), STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes)]
        {
            self.add_text(name, text.trim_end_matches('='));
        }
    }

    /// Whose piece is in there first.
    pub fn first_in(&self, bytes: &[u8]) -> Option<String> {
        let text = bytes.windows(TEXT).find_map(|window| self.text.get(window));
        let raw = || bytes.windows(RAW).find_map(|window| self.raw.get(window));
        text.or_else(raw).cloned()
    }
}

/// Whether a text is in there, whatever its case.
pub fn holds(bytes: &[u8], text: &str) -> bool {
    let (bytes, text) = (lower(bytes), lower(text.as_bytes()));
    bytes.windows(text.len()).any(|window| window == text)
}

/// Every column of every table: as text and, of bytes, as they are.
pub async fn dump(name: &str, database: &Database) -> Vec<(String, Vec<u8>)> {
    let client = database.connect().await;
    let columns = "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns \
                   JOIN information_schema.tables USING (table_schema, table_name) \
                   WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE' \
                   AND NOT (SELECT relispartition FROM pg_class WHERE oid = format('%I.%I', table_schema, table_name)::regclass)";
    let mut found = Vec::new();
    for column in client.query(columns, &[]).await.unwrap() {
        let (table, column, kind): (String, String, String) = (column.get(0), column.get(1), column.get(2));
        let mut bytes = Vec::new();
        let text = format!("SELECT \"{column}\"::text FROM \"{table}\"");
        for row in client.query(&text, &[]).await.expect(&text) {
            bytes.extend(row.get::<_, Option<String>>(0).unwrap_or_default().into_bytes());
            bytes.push(b'\n');
        }
        if kind == "bytea" {
            let raw = format!("SELECT \"{column}\" FROM \"{table}\"");
            for row in client.query(&raw, &[]).await.expect(&raw) {
                bytes.extend(row.get::<_, Option<Vec<u8>>>(0).unwrap_or_default());
            }
        }
        found.push((format!("{name}.{table}.{column}"), bytes));
    }
    found
}
