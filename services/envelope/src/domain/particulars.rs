//! What is personal about an event. It is kept beside the history, which holds only a salted commitment to it: so it can be
//! erased, and the history still verifies.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::event::Event;
use super::field::Value;
use super::id::FieldId;
use super::personal::{Personal, Salt};
use super::recipient::Person;

/// From where a command came. Known only if a trusted peer says so.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The address of the person's machine.
    pub client_ip: Option<IpAddr>,
    /// The name of the person's program.
    pub user_agent: Option<Personal>,
}

/// What is personal about an event.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names of the contract's HistoryEntry")]
pub struct Particulars {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(FieldId, Option<Entered>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// A person.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the contract's Person")]
pub struct Named {
    pub name: String,
    pub email: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub locale: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub time_zone: String,
}

/// What was put into a field.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of the contract's FieldValue")]
pub enum Entered {
    Text(String),
    Checked(bool),
    /// SHA-256 of what was drawn, in hexadecimal digits.
    Drawn(String),
}

impl fmt::Debug for Particulars {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Particulars(…)")
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Source(…)")
    }
}

impl From<&Person> for Named {
    fn from(person: &Person) -> Self {
        Self {
            name: person.name.reveal().to_owned(),
            email: person.email.reveal().to_owned(),
            locale: person.locality.locale.clone(),
            time_zone: person.locality.zone_name().to_owned(),
        }
    }
}

impl From<&Value> for Entered {
    fn from(value: &Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text.reveal().to_owned()),
            Value::Checked(checked) => Self::Checked(*checked),
            Value::Drawn(drawn) => Self::Drawn(hex::encode(drawn.sha256)),
        }
    }
}

impl Particulars {
    /// Those of an event that came from there; none if nothing about it is personal.
    #[must_use]
    pub fn of(event: &Event, source: &Source) -> Option<Self> {
        let mut particulars = Self::default();
        if event.is_deed() {
            particulars.client_ip = source.client_ip;
            particulars.user_agent = source.user_agent.as_ref().map(|agent| agent.reveal().to_owned());
        }
        let text = |text: &Option<Personal>| text.as_ref().map(|text| text.reveal().to_owned());
        match event {
            Event::Signed(act) | Event::Approved(act) => particulars.values = entered(&act.values),
            Event::Filled { values, .. } => particulars.values = entered(values),
            Event::RecipientDeclined { reason, note, .. } => {
                particulars.reason = text(reason);
                particulars.evidence_note = text(note);
            }
            Event::Voided { reason, .. }
            | Event::Purged { reason }
            | Event::ErasureRefused { reason }
            | Event::Held { reason }
            | Event::Freed { reason } => particulars.reason = text(reason),
            Event::Reassigned { before, after, reason, .. } | Event::Delegated { before, after, reason, .. } => {
                particulars.reason = text(reason);
                particulars.before = Some(before.into());
                particulars.after = Some(after.into());
            }
            _ => {}
        }
        (particulars != Self::default()).then_some(particulars)
    }

    /// The bytes that are kept and committed to.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        // Serialising a struct of strings into memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn entered(values: &[(FieldId, Option<Value>)]) -> Vec<(FieldId, Option<Entered>)> {
    values.iter().map(|(id, value)| (*id, value.as_ref().map(Entered::from))).collect()
}

/// The commitment to particulars: SHA-256 of salt and bytes, in hexadecimal digits.
#[must_use]
pub fn commit(salt: &Salt, bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(bytes);
    hex::encode(hash.finalize())
}
