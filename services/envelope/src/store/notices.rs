//! What matters to notices, as JSON: read and written with its row, never searched.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::corrupt;
use super::terms::json;
use crate::domain::locality::Locality;
use crate::domain::reminder::{Notices, QuietHours, ReminderPolicy};

#[derive(Serialize, Deserialize)]
pub(super) struct RemindersJson {
    enabled: bool,
    first_after_seconds: i64,
    every_seconds: i64,
    at_most: u16,
    quiet: Option<(u16, u16)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LocalityJson {
    locale: String,
    time_zone: String,
}

#[derive(Serialize, Deserialize)]
struct NoticesJson {
    reminders: u16,
    last_reminder_at: Option<DateTime<Utc>>,
    muted_at: Option<DateTime<Utc>>,
    bounced_at: Option<DateTime<Utc>>,
}

pub(super) fn reminders_json(policy: &ReminderPolicy) -> RemindersJson {
    RemindersJson {
        enabled: policy.enabled,
        first_after_seconds: policy.first_after.num_seconds(),
        every_seconds: policy.every.num_seconds(),
        at_most: policy.at_most,
        quiet: policy.quiet.map(|quiet| (quiet.from_minute, quiet.until_minute)),
    }
}

pub(super) fn reminders_of(row: &RemindersJson) -> ReminderPolicy {
    ReminderPolicy {
        enabled: row.enabled,
        first_after: TimeDelta::seconds(row.first_after_seconds),
        every: TimeDelta::seconds(row.every_seconds),
        at_most: row.at_most,
        quiet: row.quiet.map(|(from_minute, until_minute)| QuietHours { from_minute, until_minute }),
    }
}

pub(super) fn locality_json(locality: &Locality) -> LocalityJson {
    LocalityJson { locale: locality.locale.clone(), time_zone: locality.zone_name().to_owned() }
}

pub(super) fn locality_in(row: LocalityJson) -> QueryResult<Locality> {
    let zone = |name: &str| name.parse().map_err(|_| corrupt("time zone"));
    let zone = (!row.time_zone.is_empty()).then(|| zone(&row.time_zone)).transpose()?;
    Ok(Locality { locale: row.locale, zone })
}

/// None where nothing is said.
pub(super) fn locality(locality: &Locality) -> Option<Json> {
    (*locality != Locality::default()).then(|| json(locality_json(locality)))
}

pub(super) fn locality_of(row: Option<Json>) -> QueryResult<Locality> {
    let read = |row| serde_json::from_value(row).map_err(|_| corrupt("locality"));
    Ok(row.map(|row| locality_in(read(row)?)).transpose()?.unwrap_or_default())
}

/// None where nothing has happened.
pub(super) fn notices(notices: &Notices) -> Option<Json> {
    let Notices { reminders, last_reminder_at, muted_at, bounced_at } = *notices;
    let row = || NoticesJson { reminders, last_reminder_at, muted_at, bounced_at };
    (*notices != Notices::default()).then(|| json(row()))
}

pub(super) fn notices_of(row: Option<Json>) -> QueryResult<Notices> {
    let Some(row) = row else { return Ok(Notices::default()) };
    let row = serde_json::from_value(row).map_err(|_| corrupt("notices"))?;
    let NoticesJson { reminders, last_reminder_at, muted_at, bounced_at } = row;
    Ok(Notices { reminders, last_reminder_at, muted_at, bounced_at })
}
